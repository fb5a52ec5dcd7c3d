"""The 8-bit multiply-accumulate unit against its model."""

import itertools
import random

import pytest

from hw.mac import Mac
from sw.formats import ACCUMULATOR_BITS, PROJECTION_BITS, STEM_SHIFT, STREAM_BITS
from tests.hw.support import (
    FLOWS,
    a_cycle_late,
    arrivals,
    difference,
    in_groups,
    one_by_one,
    play,
    tiles_with_gaps,
    with_and_without_gaps,
)

#: The widest currents: their accumulators have all the bits of the format. And narrow ones.
WIDE, NARROW = ACCUMULATOR_BITS - STEM_SHIFT, 8


def random_tiles(pe, lengths, seed=0):
    """Tiles as lists of (operand, weights); the first two reach for the ends of the accumulator."""
    rng = random.Random(seed)
    tiles = [
        [(rng.randrange(256), [rng.randrange(-128, 128) for _ in range(pe)]) for _ in range(length)]
        for length in lengths
    ]
    tiles[0] = [(255, [127] * pe)] * lengths[0]
    tiles[1] = [(255, [-128] * pe)] * lengths[1]
    return tiles


def run(dut, tiles, willing, passes=1):
    """(cycle of the last word of each tile, arrivals); each tile is handed out in all passes."""
    words = [[dict(operand=o, weights=w) for o, w in tile] for tile in tiles]
    groups = dut.groups * passes
    stimulus, lasts = tiles_with_gaps(words, groups, willing, dut.latency + groups + 3)
    if dut.deep:
        stimulus = a_cycle_late(stimulus, "weights")
    if dut.passes > 1:
        stimulus[0] = {**stimulus[0], "first_pass": dut.passes - passes}
    return lasts, one_by_one(arrivals(play(dut, stimulus, ["out_valid", "out"])))


def expected(dut, tiles, lasts, passes=1):
    return [
        (last + dut.latency + p // dut.units, current)
        for tile, last in zip(tiles, lasts, strict=True)
        for p, current in enumerate(dut.model(tile) * passes)
    ]


@with_and_without_gaps
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("pe, units, deep", [
    (4, 1, False), (8, 1, False), (8, 2, False), (16, 4, False), (8, 2, True),
])
def test_equals_its_model_at_its_latency(pe, units, deep, width, willing):
    dut = Mac(pe, units, width, deep=deep)
    assert dut.latency == 4
    tiles = random_tiles(pe, [9, 10, 1, 2, 3, pe, 30, 1, 1])
    lasts, got = run(dut, tiles, willing)
    assert difference(expected(dut, tiles, lasts), got) is None
    # 4554 and -5100: they wrap where they do not fit.
    ends = {WIDE: (4554, -5100), NARROW: (4554 - 18 * 256, -5100 + 20 * 256)}
    assert (got[0][1], got[pe][1]) == ends[width]


def test_currents_are_floored_sums_of_products():
    """With whatever is beyond the width on top of them."""
    dut, tiles = Mac(4, 1, NARROW), random_tiles(4, [1, 2, 40, 3])
    currents = [current for _, current in run(dut, tiles, FLOWS)[1]]
    for tile, number in itertools.product(range(4), range(4)):
        total = 0
        for operand, weights in tiles[tile]:
            total += operand * weights[number]
        got = currents[4 * tile + number]
        assert (total // 64 - got) % 256 == 0 and -128 <= got <= 127


def test_the_largest_sums_fit():
    """As many extreme products as the accumulator holds, 259 of 255 * 127 and 257 of 255 * -128."""
    dut = Mac(4, 1, WIDE)
    tiles = random_tiles(4, [259, 257])
    lasts, got = run(dut, tiles, FLOWS)
    assert difference(expected(dut, tiles, lasts), got) is None
    sums = [259 * 255 * 127, -257 * 255 * 128]
    assert [got[0][1], got[4][1]] == [total >> STEM_SHIFT for total in sums]
    limit = 1 << ACCUMULATOR_BITS - 1
    assert sums[0] + 255 * 127 >= limit and sums[1] - 255 * 128 < -limit


@pytest.mark.parametrize("pe, units", [(4, 1), (16, 2)])
@pytest.mark.parametrize("words", [1, 3, 4, 9])
def test_cycles_from_tile_to_tile(words, pe, units):
    dut = Mac(pe, units, WIDE)
    _lasts, got = run(dut, random_tiles(pe, [words] * 4), FLOWS)
    starts = [cycle for cycle, _ in got[:: dut.pe]]
    assert {b - a for a, b in itertools.pairwise(starts)} == {dut.cycles(words)}


@with_and_without_gaps
@pytest.mark.parametrize(
    "pe, units, most, passes",
    [(4, 1, 2, 1), (4, 1, 2, 2), (8, 2, 4, 3), (8, 2, 4, 4), (16, 4, 8, 1), (16, 4, 8, 5),
     (4, 1, 16, 16)],
)
def test_a_tile_is_handed_out_in_every_pass(pe, units, most, passes, willing):
    """The next is done as soon as it may be, or any later."""
    dut = Mac(pe, units, WIDE, most)
    tiles = random_tiles(pe, [9, 10, 1, 2, dut.groups * passes, dut.groups * passes + 1, 1, 1])
    lasts, got = run(dut, tiles, willing, passes)
    assert difference(expected(dut, tiles, lasts, passes), got) is None
    assert len(got) == 8 * pe * passes
    ends = [[4554] * pe * passes, [-5100] * pe * passes]
    assert [[value for _, value in tile] for tile in in_groups(got, pe * passes)[:2]] == ends


@pytest.mark.parametrize("pe, units, most", [(4, 1, 4), (16, 2, 2)])
@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("words", [1, 3, 8, 9, 20])
def test_cycles_from_tile_to_tile_in_passes(words, passes, pe, units, most):
    dut, passes = Mac(pe, units, WIDE, most), min(passes, most)
    _lasts, got = run(dut, random_tiles(pe, [words] * 4), FLOWS, passes)
    starts = [cycle for cycle, _ in got[:: pe * passes]]
    apart = {b - a for a, b in itertools.pairwise(starts)}
    assert apart == {dut.cycles(words, passes)} == {max(words, pe // units * passes)}


def test_a_tile_closer_than_its_passes_is_noticed():
    dut, tiles = Mac(4, 1, WIDE, 2), random_tiles(4, [1, 1, 1])
    words = [[dict(operand=o, weights=w, first_pass=0) for o, w in tile] for tile in tiles]
    stimulus, lasts = tiles_with_gaps(words, 7, FLOWS, 20)
    got = one_by_one(arrivals(play(dut, stimulus, ["out_valid", "out"])))
    assert difference(expected(dut, tiles, lasts, 2), got).startswith("entry 7")


@pytest.mark.parametrize("change", ["operand", "weight"])
def test_a_change_that_reaches_the_current_is_noticed(change):
    dut = Mac(4, 1, WIDE)
    tiles = random_tiles(4, [4, 4, 6])
    tiles[2][5] = 128, [64, 64, 64, 64]
    lasts, got = run(dut, tiles, FLOWS)
    tiles[2][5] = (129, [64] * 4) if change == "operand" else (128, [64, 64, 64, 65])
    assert difference(expected(dut, tiles, lasts), got).startswith(
        "entry 8" if change == "operand" else "entry 11"
    )


#: Ends of a stream and of 8-bit weights, in pairs.
TOP = 1 << STREAM_BITS - 1
ENDS = [(TOP - 1, 127), (-TOP, 127), (TOP - 1, -128), (-TOP, -128)]


def stream_tiles(pe, lengths, seed=0):
    """As ``random_tiles``, of a stream; the first four are of its ends."""
    rng = random.Random(seed)
    tiles = [[(operand, [weight] * pe)] * length
             for (operand, weight), length in zip(ENDS, lengths, strict=False)]
    return tiles + [
        [(rng.randrange(-TOP, TOP), [rng.randrange(-128, 128) for _ in range(pe)])
         for _ in range(length)]
        for length in lengths[4:]
    ]


@with_and_without_gaps
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("pe, units", [(4, 1), (8, 2), (16, 4)])
def test_streams_are_summed_up_whole(pe, units, width, willing):
    """Whatever the width of currents; far beyond the 24 bits of a stem."""
    dut = Mac(pe, units, width, of_stream=True)
    assert dut.latency == 4 and dut.width == PROJECTION_BITS - STEM_SHIFT
    tiles = stream_tiles(pe, [9, 10, 11, 12, 1, 2, 3, pe, 30, 1, 1])
    lasts, got = run(dut, tiles, willing)
    assert difference(expected(dut, tiles, lasts), got) is None
    sums = [sum(o * w[0] for o, w in tile) for tile in tiles]
    assert min(map(abs, sums[:4])) > 1 << ACCUMULATOR_BITS
    assert [values[0][1] for values in in_groups(got, pe)] == [total // 64 for total in sums]


@pytest.mark.parametrize("end, most", [*zip(ENDS, (516, 516, 512, 511), strict=True)])
def test_the_largest_sums_of_streams_fit(end, most):
    """As many extreme products as 32 bits hold."""
    dut, (operand, weight) = Mac(4, 1, WIDE, of_stream=True), end
    tiles = [[(operand, [weight, -weight - 1, 0, 1])] * most, [(-1, [1, -1, 127, -128])]]
    lasts, got = run(dut, tiles, FLOWS)
    assert difference(expected(dut, tiles, lasts), got) is None
    product = operand * weight
    assert got[0][1] == product * most >> STEM_SHIFT
    limit = 1 << PROJECTION_BITS - 1
    assert -limit <= product * most < limit
    assert not -limit <= product * (most + 1) < limit
    # Floored: -1, 1, -127, and 128.
    assert [value for _, value in got[4:]] == [-1, 0, -2, 2]


def test_pixels_are_no_streams():
    """A byte on the 16 bits is what it is on 8."""
    tiles = random_tiles(8, [9, 10, 1, 2, 3, 8, 30])
    results = [run(Mac(8, 2, WIDE, of_stream=of), tiles, FLOWS) for of in (False, True)]
    assert results[0] == results[1]


@with_and_without_gaps
@pytest.mark.parametrize("pe, units, most, passes", [(4, 1, 2, 1), (8, 2, 4, 3), (16, 4, 8, 8)])
def test_sums_of_streams_are_handed_out_in_every_pass(pe, units, most, passes, willing):
    dut = Mac(pe, units, WIDE, most, of_stream=True)
    groups = dut.groups * passes
    tiles = stream_tiles(pe, [9, 10, 11, 12, 1, 2, groups, groups + 1, 1])
    lasts, got = run(dut, tiles, willing, passes)
    assert difference(expected(dut, tiles, lasts, passes), got) is None
    assert len(got) == 9 * pe * passes
    ends = [[(o * w * n) >> STEM_SHIFT] * pe * passes
            for (o, w), n in zip(ENDS, (9, 10, 11, 12), strict=True)]
    assert [[value for _, value in tile] for tile in in_groups(got, pe * passes)[:4]] == ends
