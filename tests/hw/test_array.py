"""The XNOR-popcount array against its model and against plain sums of weights over spikes."""

import itertools
import random
from dataclasses import replace

import pytest

from hw.array import Array
from sw.engine import Engine
from sw.formats import FRACTION
from tests.hw.support import (
    DEPTHS,
    FLOWS,
    FOUR_STRIPS,
    FOURS,
    LONG,
    PAIRS,
    PAIRS_IN_PASSES,
    SINGLE_STEPS,
    SMALL,
    STRIPS,
    STRIPS_IN_PASSES,
    WIDE,
    WIDE_IN_PASSES,
    a_cycle_late,
    arrivals,
    difference,
    one_by_one,
    play,
    shape,
    tiles_with_gaps,
    with_and_without_gaps,
)

DEEP, DEEP_FOURS, DEEP_STRIPS = (replace(engine, deep=True) for engine in (SMALL, FOURS, STRIPS))
ENGINES = [
    SMALL, WIDE, LONG, PAIRS, FOURS, DEEP, DEEP_FOURS, Engine(pe=16, simd=32, lanes=1, **DEPTHS),
]
STREAMS = [
    replace(engine, stream_depth=64) for engine in (SMALL, DEEP, PAIRS, DEEP_FOURS, PAIRS_IN_PASSES)
]
#: Sums of four bits: they wrap many times.
NARROW = Engine(pe=4, simd=8, lanes=4, current_width=8, **DEPTHS)
#: Seven bits, of which two are those of the passes.
NARROW_IN_PASSES = replace(NARROW, current_width=9, passes=4)


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


def handed_out(dut, stimulus):
    """(cycle, counts) of every channel. A deep array gets its weights late."""
    if dut.deep:
        stimulus = a_cycle_late(stimulus, "weights")
    return one_by_one(arrivals(play(dut, stimulus, ["out_valid", "out"])))


def run(dut, tiles, willing, apart=None, **constant):
    """(cycle of the last word of each tile, arrivals). apart: see ``tiles_with_gaps``."""
    words = [[dict(spikes=s, weights=w, **constant) for s, w in tile] for tile in tiles]
    apart = apart or dut.groups
    stimulus, lasts = tiles_with_gaps(words, apart, willing, dut.latency + apart + 3)
    return lasts, handed_out(dut, stimulus)


def expected(dut, tiles, lasts, turn=1):
    """turn: cycles from group to group."""
    return [
        (last + dut.latency + turn * (p // dut.units), counts)
        for tile, last in zip(tiles, lasts, strict=True)
        for p, counts in enumerate(dut.model(tile))
    ]


@with_and_without_gaps
@pytest.mark.parametrize(
    "engine", [*ENGINES, NARROW, NARROW_IN_PASSES, WIDE_IN_PASSES], ids=shape
)
def test_equals_its_model_at_its_latency(engine, willing):
    dut = Array(engine)
    assert dut.latency == (6 if engine.deep else 3)
    tiles = random_tiles(engine, [12, 9, 1, 2, 3, engine.pe, 5, 1, 1])
    lasts, got = run(dut, tiles, willing)
    assert difference(expected(dut, tiles, lasts), got) is None
    agreements = 12 * engine.simd
    assert got[0][1] == [agreements % (1 << dut.width)] * engine.lanes
    assert (agreements >= 1 << dut.width) == (engine is NARROW)


@pytest.mark.parametrize("words, fit", [(3, True), (15, True), (16, False)])
def test_passes_have_bits_of_their_own(words, fit):
    """Counts of all passes, of which 2**5 is the current's share."""
    engine, single = NARROW_IN_PASSES, replace(NARROW_IN_PASSES, passes=1)
    tiles = random_tiles(engine, [words, words, 4])
    (_, got), (_, wrapped) = (run(Array(e), tiles, FLOWS) for e in (engine, single))
    count = words * engine.simd
    assert count >= 1 << single.current_width - FRACTION or words == 3
    assert [row for _, row in got[:4]] == [[count if fit else 0] * 4] * 4
    assert [row for _, row in wrapped[:4]] == [[count % 32] * 4] * 4


@pytest.mark.parametrize("passes, bits", [(1, 5), (2, 6), (4, 7)])
def test_width_of_a_count(passes, bits):
    assert Array(replace(NARROW_IN_PASSES, passes=passes)).width == bits


@pytest.mark.parametrize("engine", [SMALL, PAIRS, DEEP, PAIRS_IN_PASSES], ids=shape)
@pytest.mark.parametrize("words", [1, 2, 4, 5, 11])
def test_cycles_from_tile_to_tile(words, engine):
    dut = Array(engine)
    tiles = random_tiles(engine, [words] * 4)
    lasts, got = run(dut, tiles, FLOWS)
    starts = [cycle for cycle, _ in got[:: dut.pe]]
    assert {b - a for a, b in itertools.pairwise(starts)} == {dut.cycles(words)}
    assert difference(expected(dut, tiles, lasts), got) is None


@pytest.mark.parametrize("engine", [WIDE, DEEP_FOURS], ids=shape)
def test_counts_less_the_negative_weights_are_the_sum_of_weights_over_spikes(engine):
    tiles = random_tiles(engine, [3, 1, 6])
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


@with_and_without_gaps
@pytest.mark.parametrize("engine", STREAMS, ids=shape)
def test_slow_groups_leave_every_fourth_cycle(engine, willing):
    """Tiles as close as they may be, and some with any number of cycles between them."""
    dut = Array(engine)
    tiles = random_tiles(engine, [12, 9, 1, 2, 3, engine.pe, 5, 1, 30, 1, 1])
    lasts, got = run(dut, tiles, willing, 4 * dut.groups, slow=1)
    assert difference(expected(dut, tiles, lasts, 4), got) is None
    if willing == FLOWS:
        apart = [b - a for a, b in itertools.pairwise(lasts)]
        assert set(apart) == {4 * dut.groups, *(30,) * (4 * dut.groups < 30)}


@with_and_without_gaps
@pytest.mark.parametrize("engine", STREAMS, ids=shape)
def test_other_groups_leave_as_without_a_stream(engine, willing):
    tiles = random_tiles(engine, [12, 9, 1, 2, 3, engine.pe, 5, 1, 1])
    dut = Array(engine)
    lasts, got = run(dut, tiles, willing, slow=0)
    assert difference(expected(dut, tiles, lasts), got) is None
    assert (lasts, got) == run(Array(replace(engine, stream_depth=0)), tiles, willing)


@pytest.mark.parametrize("engine", STREAMS, ids=shape)
def test_slow_tiles_that_are_too_close_are_noticed(engine):
    dut = Array(engine)
    tiles = random_tiles(engine, [1] * 4)
    lasts, got = run(dut, tiles, FLOWS, 4 * dut.groups - 4, slow=1)
    assert difference(expected(dut, tiles, lasts, 4), got)


def run_of_strips(dut, tiles, turns, willing, passes=1):
    """As ``run``; the strips of turn n of ``turns``, a bit each, sum the words of part n.

    In later ``passes`` the turns come again, and the sums go on.
    """
    turns = turns * passes
    words = [
        [dict(first=index == 0 and turn * passes < len(turns), active=active, spikes=spikes,
              weights=weights)
         for turn, (active, part) in enumerate(zip(turns, tile, strict=True))
         for index, (spikes, weights) in enumerate(part)]
        for tile in tiles
    ]
    stimulus, lasts = tiles_with_gaps(words, dut.groups, willing, dut.latency + dut.groups + 3)
    return lasts, handed_out(dut, stimulus)


def expected_of_strips(dut, tiles, turns, lasts):
    """Each strip's lanes have the counts of its own turn."""
    turn_of = [
        next(n for n, active in enumerate(turns) if active >> t // dut.steps & 1)
        for t in range(dut.lanes)
    ]
    result = []
    for tile, last in zip(tiles, lasts, strict=True):
        counts = [dut.model(part) for part in tile]
        for p in range(dut.pe):
            lanes = [counts[turn][p][t] for t, turn in enumerate(turn_of)]
            result.append((last + dut.latency + p // dut.units, lanes))
    return result


def random_parts(engine, turns):
    """Tiles of random words, of another number in each turn."""
    parts = iter(random_tiles(engine, [1, 2, 3, 1, 5, 4, 1, 1, 2, 7, 6, 3, 1, 4, 9, 2] * 2))
    return [[next(parts) for _ in turns] for _ in range(4)]


@with_and_without_gaps
@pytest.mark.parametrize(
    "engine, turns",
    [(STRIPS, [0b11]), (STRIPS, [0b01, 0b10]), (DEEP_STRIPS, [0b10, 0b01]),
     (SINGLE_STEPS, [1, 2, 4, 8]), (FOUR_STRIPS, [0b0110, 0b1001])],
    ids=lambda value: shape(value) if isinstance(value, Engine) else str(value),
)
def test_strips_take_turns_at_the_words_of_a_tile(engine, turns, willing):
    dut, tiles = Array(engine), random_parts(engine, turns)
    lasts, got = run_of_strips(dut, tiles, turns, willing)
    assert difference(expected_of_strips(dut, tiles, turns, lasts), got) is None
    if len(turns) > 1:
        # Strips in another order show.
        assert difference(expected_of_strips(dut, tiles, turns[::-1], lasts), got)


@with_and_without_gaps
@pytest.mark.parametrize(
    "engine, turns",
    [(STRIPS_IN_PASSES, [0b01, 0b10]), (replace(SINGLE_STEPS, passes=2), [1, 2, 4, 8])],
    ids=lambda value: shape(value) if isinstance(value, Engine) else str(value),
)
def test_sums_of_a_strip_go_on_in_its_turn_of_the_next_pass(engine, turns, willing):
    dut, tiles = Array(engine), random_parts(engine, 2 * turns)
    lasts, got = run_of_strips(dut, tiles, turns, willing, 2)
    together = [
        [before + after for before, after in zip(tile[: len(turns)], tile[len(turns) :],
                                                 strict=True)]
        for tile in tiles
    ]
    assert difference(expected_of_strips(dut, together, turns, lasts), got) is None
    # One pass alone shows.
    alone = [tile[len(turns) :] for tile in tiles]
    assert difference(expected_of_strips(dut, alone, turns, lasts), got)


@pytest.mark.parametrize("lane, noticed", [(1, False), (2, True)])
def test_a_flipped_spike_is_noticed_in_the_lanes_of_its_strip(lane, noticed):
    """In the second strip's turn, whose lanes are the upper two."""
    dut, turns = Array(STRIPS), [0b01, 0b10]
    tiles = random_parts(STRIPS, turns)
    lasts, got = run_of_strips(dut, tiles, turns, FLOWS)
    spikes, weights = tiles[2][1][0]
    tiles[2][1][0] = spikes ^ 1 << lane, weights
    assert bool(difference(expected_of_strips(dut, tiles, turns, lasts), got)) == noticed


@pytest.mark.parametrize("engine", [SMALL, DEEP], ids=shape)
@pytest.mark.parametrize("operand", ["spikes", "weights"])
def test_a_flipped_bit_is_noticed(operand, engine):
    dut = Array(engine)
    tiles = random_tiles(engine, [5, 5, 6, 7])
    lasts, got = run(dut, tiles, FLOWS)
    spikes, weights = tiles[2][3]
    tiles[2][3] = (spikes ^ 1 << 9, weights) if operand == "spikes" else (spikes, weights ^ 1 << 9)
    assert difference(expected(dut, tiles, lasts), got).startswith(
        "entry 8" if operand == "spikes" else "entry 9"
    )


@pytest.mark.parametrize("engine", [SMALL, DEEP], ids=shape)
def test_tiles_closer_than_pe_cycles_are_noticed(engine):
    """The rule that a tile takes at least pe cycles is needed, and breaking it shows."""
    dut = Array(engine)
    tiles = random_tiles(engine, [1, 1, 1, 1])
    stimulus = [
        dict(valid=1, first=1, last=1, spikes=spikes, weights=weights)
        for ((spikes, weights),) in tiles
    ]
    got = handed_out(dut, stimulus + [dict(valid=0, weights=0)] * 12)
    assert difference(expected(dut, tiles, range(4)), got)
