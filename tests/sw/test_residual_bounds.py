"""Networks with shortcuts: every integer fits its format."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from sw import formats
from sw.bounds import (
    ExportError,
    bounds,
    check,
    current_range,
    gain_range,
    projection_range,
    stream_range,
    sum_range,
)
from sw.export import export
from sw.golden import IntegerNetwork
from sw.image import Projection
from sw.layers import Conv, Network, Readout, ResidualConv, Shape, Stem
from sw.model import SpikingNetwork
from tests.support import random_frames, random_image, random_model
from tests.sw.residual import NETWORK, NETWORKS, PROJECTED, PROJECTIONS, SEED, remade
from tests.sw.test_golden import changed, saturated


def ranges(image):
    """Smallest and largest stream of every layer that has one, by number."""
    found, before = {}, None
    for index, (layer, data) in enumerate(zip(image.network.layers, image.layers, strict=True)):
        if image.network.is_streamed(index):
            sums = sum_range(layer, data.weights, image.network.T)
            low, high = current_range(layer, *sums, data.bias, data.slope)
            gains = gain_range(data.gain, data.agmm)
            if data.projection is not None:
                before = projection_range(data.projection, before)[2]
            shortcut = before if isinstance(layer, ResidualConv) else None
            found[index] = before = stream_range(layer, low, high, gains, shortcut)
    return found


def stays_inside(boundary, ends, bound, leak_shift):
    stream = boundary.stream.long()
    low, high = (torch.from_numpy(end)[:, None, None] for end in ends)
    membrane, bits = torch.zeros_like(stream[0]), torch.from_numpy(bound.membrane)[:, None, None]
    inside = bool(((stream >= low) & (stream <= high)).all())
    for drive in stream:
        membrane = formats.leak(membrane, leak_shift) + drive
        inside &= bool(((membrane >= -(1 << bits - 1)) & (membrane < 1 << bits - 1)).all())
        membrane = torch.where(membrane >= formats.STREAM_THRESHOLD, 0, membrane)
    return inside


@pytest.mark.parametrize("saturated", [False, True])
@pytest.mark.parametrize("gain", ["exact", "frozen"])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_leaves_its_bounds(name, gain, saturated):
    """Of real frames, and of spikes that match the weights beside the extremes of the stream."""
    network = NETWORKS[name]
    image = random_image(network, SEED, gain)
    if saturated:
        for index in filter(network.is_streamed, range(len(network.layers))):
            large = np.where(np.arange(network.layers[index].channels) % 2, -20_000, 20_000)
            image = changed(image, index, bias=large)
    golden, limits, ends = IntegerNetwork(image), bounds(image), ranges(image)
    extremes = torch.tensor([[0], [255]], dtype=torch.uint8).repeat(1, network.input.size)
    extremes = extremes.view(2, *network.frame_shape)
    _, boundaries = golden(torch.cat([random_frames(network, 12), extremes]), record=True)
    for index, shape in enumerate(network.shapes[:-2]):
        if not network.is_streamed(index):
            assert boundaries[index].stream is None
            continue
        layer, bound = network.layers[index], limits[index]
        assert stays_inside(boundaries[index], ends[index], bound, network.leak_shift)
        if isinstance(layer, Stem):
            continue
        # Each channel once: all of its +1 weights hit, or all of its -1 weights, in some window.
        most = torch.zeros(2, layer.channels, dtype=torch.long)
        for channel, sign in np.ndindex(layer.channels, 2):
            taps = torch.from_numpy(image.layers[index].weights[channel] == bool(sign))
            spikes = taps.tile(1, shape.height, shape.width)[:, : shape.height, : shape.width]
            size = (network.T, 1, shape.channels, shape.height, shape.width)
            around = ()
            if isinstance(layer, ResidualConv):
                level = ends[index - 1][sign]
                if layer.projection:
                    rises = image.layers[index].projection.weights[channel] >= 0
                    level = np.where(rises, level, ends[index - 1][1 - sign])
                level = torch.from_numpy(level).int()
                around = (level[:, None, None].expand(size),)
            got = golden.layers[index](spikes.byte().expand(size), *around)
            assert stays_inside(got, ends[index], bound, network.leak_shift)
            values = got.stream[:, :, channel]
            most[sign, channel] = values.amax() if sign else values.amin()
        if gain == "frozen" and network in (NETWORK, PROJECTED):
            assert np.array_equal(most.numpy(), ends[index])


def test_too_narrow_bounds_would_be_left():
    image, frames = random_image(NETWORK, SEED), random_frames(NETWORK, 4)
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    bound, (low, high) = bounds(image)[1], ranges(image)[1]
    # The range without a shortcut.
    layer, data = NETWORK.layers[1], image.layers[1]
    sums = sum_range(layer, data.weights, NETWORK.T)
    currents = current_range(layer, *sums, data.bias, data.slope)
    plain = stream_range(Conv(4), *currents, gain_range(None, data.agmm), None)
    assert (plain[0] > low).all() and (plain[1] < high).all()
    assert not stays_inside(boundaries[1], (low // 8, high // 8), bound, 1)
    narrow = replace(bound, membrane=bound.membrane - 6)
    assert not stays_inside(boundaries[1], (low, high), narrow, 1)


def test_ranges_of_a_projection_are_those_of_its_corners():
    """Ends of a stream that need not include 0, all of them met, and nothing beyond."""
    rng = np.random.default_rng(2)
    for scale in (30, 2_000, 32_767):
        low = rng.integers(-scale, scale, 5)
        ends = low, rng.integers(low, scale + 1)
        shape = (6, 5)
        part = Projection(
            rng.integers(-127, 128, shape), rng.integers(-5000, 5000, 6),
            rng.integers(0, 3000, 6), None, None,
        )
        corners = np.array([
            [ends[side][c] for c, side in enumerate(sides)] for sides in product((0, 1), repeat=5)
        ])
        sums = corners @ part.weights.T
        currents = (saturated(sums // 64) * part.slope + 1024) // 2048 + part.bias
        for got, values in zip(
            projection_range(part, ends), (sums, currents, saturated(currents)), strict=True
        ):
            assert np.array_equal(got, (values.min(0), values.max(0)))
    assert abs(currents).max() > 32_768 > abs(saturated(currents)).min()


def test_bounds_of_projections_are_as_wide_as_needed():
    image = random_image(PROJECTED, SEED)
    found, ends = bounds(image), ranges(image)
    for index, bound in enumerate(found):
        if index not in PROJECTIONS:
            assert not bound.projection.any()
            continue
        part = image.layers[index].projection
        sums, currents, _ = projection_range(part, ends[index - 1])
        for c, bits in enumerate(bound.projection):
            assert all(formats.fits_signed(int(end[c]), int(bits)) for end in sums)
            assert not all(formats.fits_signed(int(end[c]), int(bits) - 1) for end in sums)
            assert all(formats.fits_signed(int(end[c]), int(bound.current[c])) for end in currents)
            slopes = part.slope[c], image.layers[index].slope[c]
            assert bound.slope[c] == max(int(slope).bit_length() for slope in slopes)


def test_projections_that_no_format_holds_are_refused():
    image = random_image(PROJECTED, SEED)
    data, top = image.layers[2].projection, 1 << formats.SLOPE_BITS
    calm = remade(image, 2, weights=np.zeros((9, 3), int))
    check(remade(calm, 2, slope=np.where(np.arange(9) == 7, top - 1, data.slope)))
    message = (
        "^residualconv2 channel 7: the slope may need 18 bits, the format has 17; it takes a"
        " smaller batch norm gain$"
    )
    with pytest.raises(ExportError, match=message):
        check(remade(calm, 2, slope=np.where(np.arange(9) == 7, top, data.slope)))
    check(remade(calm, 2, bias=np.full(9, (1 << 17) - 1)))
    message = (
        "^residualconv2 channel 8: currents may need 19 bits, the format has 18; it takes fewer"
        " inputs or a smaller batch norm gain$"
    )
    with pytest.raises(ExportError, match=message):
        check(remade(calm, 2, bias=np.where(np.arange(9) == 8, 1 << 17, 0)))
    model = random_model(PROJECTED, SEED)
    with torch.no_grad():
        model.layers[1].shortcut.norm.weight[1] = 1e4
    with pytest.raises(ExportError, match=r"^residualconv1 channel 1: currents may need"):
        export(model, PROJECTED)
    with torch.no_grad():
        model.layers[1].shortcut.conv.weight[2, 4] = float("nan")
    with pytest.raises(ExportError, match=r"^residualconv1 channel 2: a weight of the shortcut is"):
        export(model, PROJECTED)


@pytest.mark.parametrize("sign, most", [(1, 516), (-1, 516)])
def test_sums_of_projections_have_32_bits(sign, most):
    """So many times 127 * 32767, or 127 * -32768."""
    for inputs in (most, most + 1):
        network = Network(
            "wide", Shape(1, 1, 1),
            [Stem(inputs, kernel=1), ResidualConv(2, kernel=1, projection=True), Readout(2)],
            T=1, neuron="vanilla",
        )
        image = export(SpikingNetwork(network).eval(), network)
        image = changed(image, 0, bias=np.full(inputs, sign * 60_000))
        weights = np.stack([np.zeros(inputs, int), np.full(inputs, 127)])
        image = remade(image, 1, weights=weights, slope=np.zeros(2, int))
        if inputs == most:
            assert bounds(image)[1].projection.tolist() == [1, 32]
            IntegerNetwork(image)
            continue
        message = (
            "^residualconv1 channel 1: the projection may need 33 bits, the format has 32; it"
            " takes fewer inputs$"
        )
        with pytest.raises(ExportError, match=message):
            check(image)


def test_images_that_no_format_holds_are_refused():
    image = random_image(NETWORK, SEED)
    data, top = image.layers[1], 1 << formats.SLOPE_BITS
    for value in (top - 1, top):
        slope = np.where(np.arange(4) == 2, value, data.slope)
        other = changed(image, 1, slope=slope)
        if value < top:
            check(other)
            continue
        message = (
            "^residualconv1 channel 2: the slope may need 18 bits, the format has 17; it takes a"
            " smaller batch norm gain$"
        )
        with pytest.raises(ExportError, match=message):
            check(other)
    bias = np.where(np.arange(4) == 3, 1 << 17, data.bias)
    message = (
        "^residualconv1 channel 3: currents may need 19 bits, the format has 18; it takes fewer"
        " inputs or a smaller batch norm gain$"
    )
    with pytest.raises(ExportError, match=message):
        check(changed(image, 1, bias=bias))
    model = random_model(NETWORK, SEED)
    with torch.no_grad():
        model.layers[2].norm.weight[5] = 1e4
    with pytest.raises(ExportError, match=r"^residualconv2 channel 5: currents may need"):
        export(model, NETWORK)


def test_sums_need_room_before_their_slope():
    """However little of them is left behind it."""
    image = random_image(NETWORK, SEED)
    for index, (low, high) in {
        0: [end >> 6 for end in sum_range(NETWORK.layers[0], image.layers[0].weights, 4)],
        1: [16 * end for end in sum_range(NETWORK.layers[1], image.layers[1].weights, 4)],
    }.items():
        none = np.zeros(4, int)
        bound = bounds(changed(image, index, slope=none, bias=none))[index]
        for bits, ends in zip(bound.current, zip(low, high, strict=True), strict=True):
            assert all(formats.fits_signed(end, bits) for end in ends)
            assert bound.membrane_bits - 2 >= bits or not all(
                formats.fits_signed(end, bits - 1) for end in ends
            )
        assert bound.slope.tolist() == [0] * 4
