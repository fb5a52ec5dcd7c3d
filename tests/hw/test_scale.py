"""The unit of the stream against its model, and against the rule in fractions."""

import math
import random
from fractions import Fraction

import pytest

from hw.scale import BIAS_BITS, Scale
from sw.formats import FRACTION, SLOPE_BITS, SLOPE_FRACTION, STREAM_THRESHOLD
from tests.hw.support import difference, play, with_and_without_gaps, with_gaps

LANES, WIDTH = 4, 16
HALF = 1 << (SLOPE_FRACTION - 1)
TOP = 1 << (WIDTH - 1)
OUTPUTS = ["out_current", "out_bias", "out_threshold"]


def channels(counts, seed, count=60):
    """(sums, bias, slope) whose currents fit the width and reach both its ends."""
    rng = random.Random(seed)
    low, high = (0, (1 << (WIDTH - FRACTION)) - 1) if counts else (-TOP, TOP - 1)
    steep = (1 << SLOPE_BITS) - 1
    found = [([high] * LANES, 0, 0), ([0] * LANES, -TOP, steep), ([0] * LANES, TOP - 1, steep)]
    while len(found) < count:
        slope = rng.choice([1, 77, 1 << SLOPE_FRACTION, rng.randrange(steep + 1)])
        sums = [rng.randint(low, high) for _ in range(LANES)]
        if counts:
            sums = [value << FRACTION for value in sums]
        ends = [math.floor(Fraction(value * slope + HALF, 2 * HALF)) for value in sums]
        if max(ends) - min(ends) >= 2 * TOP:
            continue
        # Of these biases, the first and the last just fit.
        bias = rng.choice([-TOP - min(ends), TOP - 1 - max(ends)])
        found.append((sums, bias, slope))
    return found


def stimulus_of(items, counts, streamed, willing):
    """As the memory has it: a bias as fine as the product, currents in their width."""
    def item(sums, bias, limit):
        fine = (bias << SLOPE_FRACTION) + HALF if streamed else bias
        return dict(
            current=[(value + TOP) % (2 * TOP) - TOP for value in sums],
            bias=fine % (1 << BIAS_BITS), limit=limit,
        )

    channels_in = [{**item(*channel), "sent": 1} for channel in items]
    rows = with_gaps(channels_in, willing, Scale.latency + 2, sent=0)
    sent = [cycle for cycle, row in enumerate(rows) if row.pop("sent")]
    rows[0] |= dict(counts=counts, streamed=streamed)
    return rows, sent


@with_and_without_gaps
@pytest.mark.parametrize("counts", [True, False], ids=["counts", "sums"])
def test_equals_its_model_and_the_rule_at_its_latency(counts, willing):
    dut, items = Scale(LANES, WIDTH), channels(counts, seed=3)
    rows, sent = stimulus_of(items, counts, True, willing)
    got = play(dut, rows, OUTPUTS)
    expected = [
        ([math.floor(Fraction(value * slope + HALF, 2 * HALF)) + bias for value in sums], 0,
         STREAM_THRESHOLD)
        for sums, bias, slope in items
    ]
    assert difference(expected, [got[cycle + dut.latency] for cycle in sent]) is None
    assert [dut.model(*item, True) for item in items] == expected
    assert {-TOP, TOP - 1} <= {value for currents, *_ in expected for value in currents}


@with_and_without_gaps
def test_without_a_stream_all_is_as_it_was(willing):
    rng, dut = random.Random(4), Scale(LANES, WIDTH)
    items = [
        ([rng.randrange(-TOP, TOP) for _ in range(LANES)], rng.randrange(-TOP, TOP),
         rng.randrange(1 << 16))
        for _ in range(30)
    ]
    rows, sent = stimulus_of(items, True, False, willing)
    got = play(dut, rows, OUTPUTS)
    assert difference(items, [got[cycle + dut.latency] for cycle in sent]) is None
    assert [dut.model(*item, False) for item in items] == items


def test_counts_beyond_half_the_width_are_not_negative():
    count = 1 << (WIDTH - FRACTION - 1)
    item = ([count << FRACTION] * LANES, -100, 1 << (SLOPE_FRACTION - 2))
    found = []
    for counts in (True, False):
        rows, sent = stimulus_of([item], counts, True, 1.0)
        found.append(play(Scale(LANES, WIDTH), rows, OUTPUTS)[sent[0] + Scale.latency][0][0])
    assert found == [(count << FRACTION - 2) - 100, -(count << FRACTION - 2) - 100]


@pytest.mark.parametrize("slope", [1 << (SLOPE_BITS - 1), (1 << SLOPE_BITS) - 1])
def test_the_steepest_slopes(slope):
    """Of sums small enough for them."""
    sums = [1, -1, 500, -500]
    rows, sent = stimulus_of([(sums, 7, slope)], False, True, 1.0)
    (got, *_) = play(Scale(LANES, WIDTH), rows, OUTPUTS)[sent[0] + Scale.latency]
    assert got == [math.floor(Fraction(value * slope + HALF, 2 * HALF)) + 7 for value in sums]
