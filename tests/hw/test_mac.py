"""The 8-bit multiply-accumulate unit against its model."""

import itertools
import random

import pytest

from hw.mac import Mac
from sw.formats import ACCUMULATOR_BITS
from tests.hw.support import (
    FLOWS,
    arrivals,
    difference,
    one_by_one,
    play,
    tiles_with_gaps,
    with_and_without_gaps,
)


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


def run(dut, tiles, willing):
    words = [[dict(operand=o, weights=w) for o, w in tile] for tile in tiles]
    stimulus, lasts = tiles_with_gaps(words, dut.groups, willing, dut.latency + dut.groups + 3)
    return lasts, one_by_one(arrivals(play(dut, stimulus, ["out_valid", "out"])))


def expected(dut, tiles, lasts):
    return [
        (last + dut.latency + p // dut.units, total)
        for tile, last in zip(tiles, lasts, strict=True)
        for p, total in enumerate(dut.model(tile))
    ]


@with_and_without_gaps
@pytest.mark.parametrize("pe, units", [(4, 1), (8, 1), (8, 2), (16, 4)])
def test_equals_its_model_at_its_latency(pe, units, willing):
    dut = Mac(pe, units)
    tiles = random_tiles(pe, [9, 10, 1, 2, 3, pe, 30, 1, 1])
    lasts, got = run(dut, tiles, willing)
    assert difference(expected(dut, tiles, lasts), got) is None


def test_the_largest_sums_fit():
    """As many extreme products as the accumulator holds, 259 of 255 * 127 and 257 of 255 * -128."""
    dut = Mac(4)
    tiles = random_tiles(4, [259, 257])
    lasts, got = run(dut, tiles, FLOWS)
    assert difference(expected(dut, tiles, lasts), got) is None
    limit = 1 << ACCUMULATOR_BITS - 1
    assert got[0][1] + 255 * 127 >= limit and got[4][1] - 255 * 128 < -limit


@pytest.mark.parametrize("pe, units", [(4, 1), (16, 2)])
@pytest.mark.parametrize("words", [1, 3, 4, 9])
def test_cycles_from_tile_to_tile(words, pe, units):
    dut = Mac(pe, units)
    _lasts, got = run(dut, random_tiles(pe, [words] * 4), FLOWS)
    starts = [cycle for cycle, _ in got[:: dut.pe]]
    assert {b - a for a, b in itertools.pairwise(starts)} == {dut.cycles(words)}


@pytest.mark.parametrize("change", ["operand", "weight"])
def test_a_change_by_one_is_noticed(change):
    dut = Mac(4)
    tiles = random_tiles(4, [4, 4, 6])
    lasts, got = run(dut, tiles, FLOWS)
    operand, weights = tiles[2][5]
    if change == "operand":
        tiles[2][5] = operand ^ 1, weights
    else:
        tiles[2][5] = operand, [*weights[:3], weights[3] ^ 1]
    assert difference(expected(dut, tiles, lasts), got).startswith(
        "entry 8" if change == "operand" else "entry 11"
    )
