"""Maps cut into strips: by hand, and by plain loops over the taps of random networks."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sw.engine import Engine, EngineError
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.strips import Strips, strips

ENGINE = Engine(
    pe=4, simd=16, lanes=16, weight_depth=512, spike_depth=128, channel_depth=64, mean_depth=256
)


def cut_into(pixels, height, *layers):
    """Strips of a network whose frames are ``height`` rows of 40 columns."""
    network = Network("tall", Shape(1, height, 40), [*layers, Readout(2)])
    return strips(network, replace(ENGINE, pixels=pixels))


def test_one_pixel_at_a_time_has_whole_maps_without_halos():
    layers = Stem(4, stride=2), Conv(4, kernel=5), Conv(4, padding=0, pool=2)
    assert cut_into(1, 19, *layers) == [Strips(10), Strips(10), Strips(4)]


@pytest.mark.parametrize("pixels, height, layers, expected", [
    # A stem alone: nothing reads its map but the readout.
    (2, 7, [Stem(4)], [Strips(4)]),
    (4, 7, [Stem(4)], [Strips(2)]),
    (16, 7, [Stem(4)], [Strips(1)]),
    (2, 8, [Stem(4)], [Strips(4)]),
    # A 3x3 kernel reaches one row up and one down, a 5x5 one two, a 1x1 one none.
    (2, 9, [Stem(4), Conv(4)], [Strips(5, 1, 1), Strips(5)]),
    (4, 9, [Stem(4), Conv(4, kernel=5)], [Strips(3, 2, 2), Strips(3)]),
    (4, 9, [Stem(4), Conv(4, kernel=1)], [Strips(3), Strips(3)]),
    # With a stride of 2 it starts at each other row: one less below.
    (2, 9, [Stem(4), Conv(4, stride=2)], [Strips(6, 1, 0), Strips(3)]),
    (2, 9, [Stem(4), Conv(4, kernel=5, stride=2)], [Strips(6, 2, 1), Strips(3)]),
    (2, 9, [Stem(4), Conv(4, kernel=1, stride=2)], [Strips(6), Strips(3)]),
    # Without padding, all of it is below.
    (2, 12, [Stem(4), Conv(4, kernel=5, padding=0)], [Strips(6, 0, 4), Strips(6)]),
    (2, 12, [Stem(4), Conv(4, kernel=5, padding=1)], [Strips(6, 1, 3), Strips(6)]),
    # What pooling leaves out is left out at the end of the map: rows 0 to 13, of 15.
    (4, 15, [Stem(4, pool=2), Conv(4)], [Strips(2, 1, 1), Strips(2)]),
    (4, 15, [Stem(4), Conv(4, pool=2)], [Strips(4, 1, 1), Strips(2)]),
    (2, 15, [Stem(4), Conv(4, stride=2, pool=2)], [Strips(8, 1, 0), Strips(2)]),
    # Maps of 19, 10, 5 and 3 rows, from the last: two strips of 2, so 4, 8 and 16 for 19.
    (2, 19, [Stem(4), Conv(4, stride=2), Conv(4, pool=2), Conv(4, kernel=1, stride=2)],
     [Strips(16, 1, 0), Strips(8, 1, 1), Strips(4), Strips(2)]),
    # And four strips of 1 make 8 rows for 19.
    (4, 19, [Stem(4), Conv(4, stride=2), Conv(4, pool=2), Conv(4, kernel=1, stride=2)],
     [Strips(8, 1, 0), Strips(4, 1, 1), Strips(2), Strips(1)]),
    # Of 9 rows the last map has 5, but the one before needs 9: two strips of 5.
    (2, 9, [Stem(4), Conv(4, kernel=5, padding=0)], [Strips(5, 0, 4), Strips(5)]),
], ids=str)
def test_strips_by_hand(pixels, height, layers, expected):
    assert cut_into(pixels, height, *layers) == expected


@pytest.mark.parametrize("cut, stored", [
    (Strips(3), 3), (Strips(3, 2, 1), 6), (Strips(4, 0, 4), 8),
])
def test_halos_are_stored_besides_the_rows(cut, stored):
    assert cut.stored_rows == stored


@pytest.mark.parametrize("pixels, height, layer, rows, needs", [
    (4, 4, Conv(4, kernel=5), 1, 2),
    (8, 8, Conv(4, kernel=5), 1, 2),
    (4, 12, Conv(4, kernel=5, padding=0), 3, 4),
    (8, 16, Conv(4, kernel=5, padding=1), 2, 3),
    (8, 6, Conv(4, kernel=3, padding=0), 1, 2),
])
def test_a_halo_comes_from_one_neighbour_alone(pixels, height, layer, rows, needs):
    message = (
        f"^tall does not fit: strips of {rows} rows before conv1, whose kernel needs {needs} rows"
        " of its neighbours$"
    )
    with pytest.raises(EngineError, match=message):
        cut_into(pixels, height, Stem(4), layer)
    # The same with strips that are as high as the halo.
    assert cut_into(pixels, pixels * needs, Stem(4), layer)[0].rows == needs


def test_the_message_names_the_layer_that_needs_more():
    with pytest.raises(EngineError, match="strips of 1 rows before conv2, whose kernel needs 2"):
        cut_into(4, 8, Stem(4), Conv(4, pool=2), Conv(4, kernel=5))


@st.composite
def windows(draw, kind):
    kernel = draw(st.sampled_from((1, 3, 5)))
    return kind(
        2, kernel, draw(st.sampled_from((1, 2))), draw(st.integers(0, kernel // 2)),
        draw(st.sampled_from((1, 2))),
    )


@st.composite
def cut_networks(draw):
    """(network, pixels, its strips): any that has some, whatever the height of its frames."""
    layers = [draw(windows(Stem)), *draw(st.lists(windows(Conv), max_size=3))]
    out = Shape(1, draw(st.integers(1, 120)), 120)
    height = out.height
    for layer in layers:
        assume(out.height + 2 * layer.padding >= layer.kernel and min(out.height, out.width) > 0)
        out = layer.output_shape(out)
    assume(min(out.height, out.width) > 0)
    network = Network("random", Shape(1, height, 120), [*layers, Readout(2)])
    pixels = draw(st.sampled_from((2, 4, 8, 16)))
    try:
        return network, pixels, strips(network, replace(ENGINE, pixels=pixels))
    except EngineError as error:
        assert "rows of its neighbours" in str(error)
        assume(False)


def rows_of(cut, strip):
    """Rows of the map that are a strip's own, and all that it stores."""
    first = strip * cut.rows
    own = range(first, first + cut.rows)
    return own, range(first - cut.above, first + cut.rows + cut.below)


def taps(layer, row):
    """Rows of its input that a layer reads for a row of its output, padding and all."""
    for pooled in range(layer.pool):
        for tap in range(layer.kernel):
            yield (row * layer.pool + pooled) * layer.stride + tap - layer.padding


def missing(network, pixels, cuts):
    """(layer, strip, row) of every tap in the map that is not among the stored rows."""
    return [
        (index, strip, tap)
        for index, layer in enumerate(network.layers[1:-1], 1)
        for strip in range(pixels)
        for row in rows_of(cuts[index], strip)[0] if row < network.shapes[index + 1].height
        for tap in taps(layer, row)
        if 0 <= tap < network.shapes[index].height
        and tap not in rows_of(cuts[index - 1], strip)[1]
    ]


every_cut = given(cut_networks())
many = settings(
    max_examples=100, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@many
@every_cut
def test_every_row_is_in_one_strip(case):
    network, pixels, cuts = case
    assert len(cuts) == len(network.layers) - 1
    for cut, shape in zip(cuts, network.shapes[1:], strict=False):
        owned = [row for strip in range(pixels) for row in rows_of(cut, strip)[0]]
        assert owned == list(range(pixels * cut.rows)) and len(owned) >= shape.height


@many
@every_cut
def test_every_tap_in_the_map_is_stored(case):
    network, pixels, cuts = case
    assert missing(network, pixels, cuts) == []


@many
@every_cut
def test_the_first_window_starts_at_the_first_stored_row_and_the_last_ends_at_the_last(case):
    """So one walk does for all strips. Only a stride may leave rows out."""
    network, _, cuts = case
    for layer, before, after in zip(network.layers[1:-1], cuts, cuts[1:], strict=False):
        for strip in range(3):
            read = [tap for row in rows_of(after, strip)[0] for tap in taps(layer, row)]
            stored = rows_of(before, strip)[1]
            assert min(read) == stored[0]
            assert max(read) == stored[-1] or (layer.stride > layer.kernel - layer.padding)
            assert max(read) <= stored[-1]


@many
@every_cut
def test_strips_are_as_low_as_can_be(case):
    """One row less of the last map's strips, and some map would not be covered."""
    network, pixels, cuts = case
    for scale, cut in zip(scales(network), cuts, strict=True):
        assert cut.rows == cuts[-1].rows * scale
    assert any(
        pixels * (cut.rows - scale) < shape.height
        for scale, cut, shape in zip(scales(network), cuts, network.shapes[1:], strict=False)
    )


def scales(network):
    """Rows of each map that make one of the last."""
    result = [1]
    for layer in network.layers[-2:0:-1]:
        result.append(result[-1] * layer.stride * layer.pool)
    return result[::-1]


@pytest.mark.parametrize("layer", [
    Conv(4), Conv(4, kernel=5), Conv(4, kernel=5, stride=2), Conv(4, padding=0),
])
def test_a_halo_that_is_too_small_is_noticed(layer):
    network = Network("halo", Shape(1, 23, 23), [Stem(4), layer, Readout(2)])
    cuts = strips(network, replace(ENGINE, pixels=4))
    assert missing(network, 4, cuts) == []
    for side in ("above", "below"):
        size = getattr(cuts[0], side)
        if size:
            less = [replace(cuts[0], **{side: size - 1}), *cuts[1:]]
            assert missing(network, 4, less)
    # Strips of another height than the next layer's do not fit it.
    assert missing(network, 4, [replace(cuts[0], rows=cuts[0].rows + 3), *cuts[1:]])
