"""The XNOR-popcount array against its model and against plain sums of weights over spikes."""

import itertools
import random

import pytest

from hw.array import Array
from sw.engine import Engine
from tests.hw.support import (
    DEPTHS,
    FLOWS,
    FOURS,
    LONG,
    PAIRS,
    SMALL,
    WIDE,
    arrivals,
    difference,
    one_by_one,
    play,
    shape,
    tiles_with_gaps,
    with_and_without_gaps,
)

ENGINES = [SMALL, WIDE, LONG, PAIRS, FOURS, Engine(pe=8, simd=32, lanes=1, **DEPTHS)]
#: Sums of four bits: they wrap many times.
NARROW = Engine(pe=4, simd=8, lanes=4, current_width=8, **DEPTHS)


def random_tiles(engine, lengths, seed=0):
    """Tiles as lists of operand words; the first agrees in every bit, the second in none."""
    rng = random.Random(seed)
    spike_bits, weight_bits = engine.simd * engine.lanes, engine.pe * engine.simd
    tiles = [
        [(rng.getrandbits(spike_bits), rng.getrandbits(weight_bits)) for _ in range(length)]
        for length in lengths
    ]
    tiles[0] = [((1 << spike_bits) - 1, (1 << weight_bits) - 1)] * lengths[0]
    tiles[1] = [(0, (1 << weight_bits) - 1)] * lengths[1]
    return tiles


def run(dut, tiles, willing):
    """(cycle of the last word of each tile, arrivals)."""
    words = [[dict(spikes=s, weights=w) for s, w in tile] for tile in tiles]
    stimulus, lasts = tiles_with_gaps(words, dut.groups, willing, dut.latency + dut.groups + 3)
    return lasts, one_by_one(arrivals(play(dut, stimulus, ["out_valid", "out"])))


def expected(dut, tiles, lasts):
    return [
        (last + dut.latency + p // dut.units, counts)
        for tile, last in zip(tiles, lasts, strict=True)
        for p, counts in enumerate(dut.model(tile))
    ]


@with_and_without_gaps
@pytest.mark.parametrize("engine", [*ENGINES, NARROW], ids=shape)
def test_equals_its_model_at_its_latency(engine, willing):
    dut = Array(engine)
    tiles = random_tiles(engine, [12, 9, 1, 2, 3, engine.pe, 5, 1, 1])
    lasts, got = run(dut, tiles, willing)
    assert difference(expected(dut, tiles, lasts), got) is None
    agreements = 12 * engine.simd
    assert got[0][1] == [agreements % (1 << dut.width)] * engine.lanes
    assert (agreements >= 1 << dut.width) == (engine is NARROW)


@pytest.mark.parametrize("engine", [SMALL, PAIRS], ids=shape)
@pytest.mark.parametrize("words", [1, 2, 4, 5, 11])
def test_cycles_from_tile_to_tile(words, engine):
    dut = Array(engine)
    tiles = random_tiles(engine, [words] * 4)
    lasts, got = run(dut, tiles, FLOWS)
    starts = [cycle for cycle, _ in got[:: dut.pe]]
    assert {b - a for a, b in itertools.pairwise(starts)} == {dut.cycles(words)}
    assert difference(expected(dut, tiles, lasts), got) is None


def test_counts_less_the_negative_weights_are_the_sum_of_weights_over_spikes():
    engine, tiles = WIDE, random_tiles(WIDE, [3, 1, 6])
    dut, tile = Array(engine), tiles[2]
    counts = [row for _, row in run(dut, tiles, FLOWS)[1][-engine.pe :]]
    for p in range(engine.pe):
        for t in range(engine.lanes):
            total = negative = 0
            for spikes, weights in tile:
                for c in range(engine.simd):
                    weight = 1 if weights >> (p * engine.simd + c) & 1 else -1
                    total += weight * (spikes >> (c * engine.lanes + t) & 1)
                    negative += weight < 0
            assert counts[p][t] - negative == total


@pytest.mark.parametrize("operand", ["spikes", "weights"])
def test_a_flipped_bit_is_noticed(operand):
    dut = Array(SMALL)
    tiles = random_tiles(SMALL, [5, 5, 6, 7])
    lasts, got = run(dut, tiles, FLOWS)
    spikes, weights = tiles[2][3]
    tiles[2][3] = (spikes ^ 1 << 9, weights) if operand == "spikes" else (spikes, weights ^ 1 << 9)
    assert difference(expected(dut, tiles, lasts), got).startswith(
        "entry 8" if operand == "spikes" else "entry 9"
    )


def test_tiles_closer_than_pe_cycles_are_noticed():
    """The rule that a tile takes at least pe cycles is needed, and breaking it shows."""
    dut = Array(SMALL)
    tiles = random_tiles(SMALL, [1, 1, 1, 1])
    stimulus = [
        dict(valid=1, first=1, last=1, spikes=spikes, weights=weights)
        for ((spikes, weights),) in tiles
    ]
    rows = play(dut, stimulus + [dict(valid=0)] * 12, ["out_valid", "out"])
    got = one_by_one(arrivals(rows))
    assert difference(expected(dut, tiles, range(4)), got)
