"""OR pooling against its model."""

import random

import pytest

from hw.pool import Pool
from tests.hw.support import (
    FLOWS,
    arrivals,
    difference,
    play,
    with_and_without_gaps,
    with_gaps,
)


def random_channels(pe, lanes, windows):
    """Sparse spikes, so that the OR of four is not all ones."""
    rng = random.Random(7)
    return [
        rng.getrandbits(lanes) & rng.getrandbits(lanes) for _ in range(windows * 4 * pe)
    ]


def run(dut, channels, enable, willing, before=()):
    """Arrivals, and the cycles of the channels; ``before`` go in ahead of a clear."""
    def items(spikes):
        return [dict(valid=1, spikes=value, enable=enable, clear=0) for value in spikes]

    stimulus = [*items(before), dict(valid=0, enable=enable, clear=1)]
    start = len(stimulus)
    stimulus += with_gaps(items(channels), willing, after=5)
    rows = play(dut, stimulus, ["out_valid", "out"])
    sent = [cycle for cycle, values in enumerate(stimulus) if values["valid"] and cycle >= start]
    return sent, [(cycle, value) for cycle, value in arrivals(rows) if cycle >= start]


def expected(dut, channels, enable, sent):
    """Pooled channels come out in the cycle in which the window's last tile comes in."""
    values = dut.model(channels, enable)
    if enable:
        sent = [cycle for i, cycle in enumerate(sent) if i // dut.groups % 4 == 3]
    return [(cycle + dut.latency, value) for cycle, value in zip(sent, values, strict=True)]


@with_and_without_gaps
@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("pe, lanes", [(4, 4), (8, 2), (4, 16)])
def test_equals_its_model(pe, lanes, enable, willing):
    dut, channels = Pool(pe, lanes), random_channels(pe, lanes, 6)
    sent, got = run(dut, channels, enable, willing)
    assert difference(expected(dut, channels, enable, sent), got) is None
    assert len(got) == len(channels) // (4 if enable else 1)


def test_every_pixel_of_the_window_counts():
    """One spike in a window, at each of its places in turn."""
    dut = Pool(4, 4)
    for place in range(16):
        channels = [0b0100 * (i == place) for i in range(16)]
        _, got = run(dut, channels, 1, FLOWS)
        assert [value for _, value in got] == [0b0100 * (p == place % 4) for p in range(4)]


@pytest.mark.parametrize("before", [1, 4, 7, 13])
def test_clear_starts_a_new_window(before):
    dut, channels = Pool(4, 4), random_channels(4, 4, 2)
    sent, got = run(dut, channels, 1, FLOWS, before=[0b1111] * before)
    assert difference(expected(dut, channels, 1, sent), got) is None


def test_a_changed_spike_is_noticed():
    dut, channels = Pool(4, 4), random_channels(4, 4, 3)
    channels[17:32:4] = [0] * 4
    sent, got = run(dut, channels, 1, FLOWS)
    channels[21] = 0b0001
    assert difference(expected(dut, channels, 1, sent), got).startswith("entry 5")
