"""Logits from the counts of binary planes, against sums of weights over spikes."""

import itertools
import random

import pytest

from hw.readout import Readout
from sw.formats import ACCUMULATOR_BITS, PLANES
from tests.hw.support import (
    FLOWS,
    arrivals,
    difference,
    play,
    with_and_without_gaps,
    with_gaps,
)

HALF = 1 << ACCUMULATOR_BITS - 1

#: (units, lanes, bits of a count)
SHAPES = [(1, 4, 12), (2, 2, 14), (4, 16, 12), (1, 1, 5)]


def wrapped(value):
    """As the accumulator holds it. Exports are refused if a logit needs more bits than that."""
    return (value + HALF) % (2 * HALF) - HALF


def make_set(dut, draw, logit):
    """(counts [PLANES][units][lanes] by ``draw``, biases and logits [units])."""
    planes = [[[draw() for _ in range(dut.lanes)] for _ in range(dut.units)] for _ in range(PLANES)]
    logits, biases = [logit() for _ in range(dut.units)], []
    for u, value in enumerate(logits):
        for place, plane in enumerate(planes):
            for count in plane[u]:
                value -= count * 2 ** (7 - place)
        biases.append(wrapped(value))
    return planes, biases, logits


def random_sets(dut, count=5):
    """Sets that reach both ends of counts and logits, then random ones."""
    rng, top = random.Random(dut.lanes), (1 << dut.width) - 1
    extremes = [(top, HALF - 1), (0, -HALF), (top, -HALF), (0, HALF - 1)]
    return [make_set(dut, lambda c=c: c, lambda v=v: v) for c, v in extremes] + [
        make_set(dut, lambda: rng.randint(0, top), lambda: rng.randrange(-HALF, HALF))
        for _ in range(count)
    ]


def run(dut, sets, willing, before=(), clear=1):
    """(cycle of the last plane of each set, arrivals); ``before`` go in ahead of a clear."""
    rng = random.Random(3)
    items = [dict(valid=1, counts=plane, clear=0) for planes, *_ in sets for plane in planes]
    stimulus = [*before, {**items[0], "valid": 0, "clear": clear}]
    start = len(stimulus)
    stimulus += with_gaps(items, willing, after=dut.latency + 2)
    sent = [cycle for cycle, given in enumerate(stimulus) if given["valid"] and cycle >= start]
    lasts = sent[PLANES - 1 :: PLANES]
    # The bias that counts comes a cycle after the last plane; all others are noise.
    due = {last + 1: biases for last, (_, biases, _) in zip(lasts, sets, strict=True)}
    stimulus = [
        {**given, "bias": due.get(cycle, [rng.randrange(-HALF, HALF) for _ in range(dut.units)])}
        for cycle, given in enumerate(stimulus)
    ]
    got = arrivals(play(dut, stimulus, ["out_valid", "out"]))
    # What was complete before the clear still leaves.
    return lasts, [(cycle, logits) for cycle, logits in got if cycle >= start + dut.latency]


def expected(dut, sets, lasts):
    return [
        (last + dut.latency, logits) for last, (*_, logits) in zip(lasts, sets, strict=True)
    ]


@with_and_without_gaps
@pytest.mark.parametrize("units, lanes, width", SHAPES)
def test_equals_its_model_at_its_latency(units, lanes, width, willing):
    """Sets follow each other without a pause where nothing stalls."""
    dut = Readout(units, lanes, width)
    assert dut.latency == 2
    sets = random_sets(dut)
    lasts, got = run(dut, sets, willing)
    assert difference(expected(dut, sets, lasts), got) is None
    for planes, biases, logits in sets:
        assert [wrapped(value) for value in dut.model(planes, biases)] == logits
    if willing == FLOWS:
        assert {b - a for a, b in itertools.pairwise(lasts)} == {PLANES}


def test_planes_of_8_bit_weights_sum_them_over_spikes():
    """Planes are the bits of w + 128, agreeing with a spike or not; the logit has 2w + 1."""
    rng, dut = random.Random(4), Readout(2, 4, 12)
    sets = []
    for inputs in (1, 20, 300):
        weights = [[rng.randrange(-128, 128) for _ in range(inputs)] for _ in range(2)]
        weights[0][0], weights[1][0] = -128, 127
        spikes = [[rng.getrandbits(1) for _ in range(4)] for _ in range(inputs)]
        planes, biases, logits = [], [], []
        for bit in range(7, -1, -1):
            planes.append([
                [sum((w + 128 >> bit & 1) == spikes[i][t] for i, w in enumerate(row))
                 for t in range(4)]
                for row in weights
            ])
        for row in weights:
            bias = rng.randrange(-5000, 5000)
            logits.append(2 * bias + sum(
                spike * (2 * w + 1) for w, steps in zip(row, spikes, strict=True) for spike in steps
            ))
            # A silent input agrees with every -1.
            zeros = sum(2**bit for w in row for bit in range(8) if not w + 128 >> bit & 1)
            biases.append(2 * bias - 4 * zeros)
        sets.append((planes, biases, logits))
    lasts, got = run(dut, sets, FLOWS)
    assert difference(expected(dut, sets, lasts), got) is None


@with_and_without_gaps
@pytest.mark.parametrize("before", [1, 4, 7, 8, 11])
def test_clear_starts_a_new_set(before, willing):
    dut = Readout(2, 4, 12)
    sets = random_sets(dut)
    early = [dict(valid=1, counts=[[9] * 4] * 2, clear=0)] * before
    lasts, got = run(dut, sets, willing, early)
    assert difference(expected(dut, sets, lasts), got) is None


def test_a_missing_clear_is_noticed():
    dut = Readout(2, 4, 12)
    sets = random_sets(dut)
    early = [dict(valid=1, counts=[[0] * 4] * 2, clear=0)] * 3
    lasts, got = run(dut, sets, FLOWS, early, clear=0)
    assert difference(expected(dut, sets, lasts), got).startswith("entry 0")


@pytest.mark.parametrize("change", ["count of the first plane", "count of the last", "bias"])
def test_a_change_by_one_is_noticed(change):
    dut = Readout(2, 4, 12)
    sets = random_sets(dut)
    lasts, wanted = run(dut, sets, FLOWS)
    planes, biases, _ = sets[6]
    if change == "bias":
        biases[1] ^= 1
    else:
        planes[0 if "first" in change else -1][1][2] ^= 1
    _, got = run(dut, sets, FLOWS)
    assert difference(expected(dut, sets, lasts), wanted) is None
    assert difference(wanted, got).startswith("entry 6")
