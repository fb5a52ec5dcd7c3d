"""OR pooling against its model."""

import random

import pytest

from hw.pool import Pool
from tests.hw.support import (
    FLOWS,
    arrivals,
    difference,
    in_groups,
    interleaved,
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


def run(dut, channels, enable, willing, before=(), **constant):
    """Arrivals, and the cycles of the channels; ``before`` go in ahead of a clear."""
    constant = dict(enable=enable, **constant)

    def items(spikes):
        return [dict(valid=1, spikes=value, clear=0, **constant) for value in spikes]

    stimulus = [*items(before), dict(valid=0, clear=1, **constant)]
    start = len(stimulus)
    stimulus += with_gaps(items(channels), willing, after=5)
    rows = play(dut, stimulus, ["out_valid", "out"])
    sent = [cycle for cycle, values in enumerate(stimulus) if values["valid"] and cycle >= start]
    return sent, [(cycle, value) for cycle, value in arrivals(rows) if cycle >= start]


def expected(dut, channels, enable, sent, one_strip=0, passes=1):
    """Pooled channels come out in the cycle in which the window's last tile comes in."""
    values = dut.model(channels, enable, one_strip, passes)
    together = (4 if enable else 1) * (dut.strips if one_strip else 1)
    tile = dut.groups * passes
    sent = [c for i, c in enumerate(sent) if i // tile % together == together - 1]
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


@with_and_without_gaps
@pytest.mark.parametrize("one_strip", [0, 1])
@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("groups, width, strips, steps", [(4, 4, 2, 2), (4, 8, 4, 1), (8, 8, 4, 2)])
def test_strips_equal_its_model(groups, width, strips, steps, enable, one_strip, willing):
    dut, channels = Pool(groups, width, strips, steps), random_channels(groups, width, 3 * strips)
    sent, got = run(dut, channels, enable, willing, one_strip=one_strip)
    assert difference(expected(dut, channels, enable, sent, one_strip), got) is None
    assert len(got) == len(channels) // (4 if enable else 1) // (strips if one_strip else 1)


@pytest.mark.parametrize("enable", [0, 1])
def test_of_a_strip_its_own_lanes_count_alone(enable):
    """A tile that fires everywhere, for one of four strips of two lanes; two channels a group."""
    dut, windows = Pool(4, 16, 4, 2), 4 if enable else 1
    strips = [0x0303, 0x0C0C, 0x3030, 0xC0C0]
    for place in range(4 * windows):
        tiles = [0xFFFF * (i == place) for i in range(4 * windows) for _ in range(4)]
        _, got = run(dut, tiles, enable, FLOWS, one_strip=1)
        assert [value for _, value in got] == [strips[place // windows]] * 4


@with_and_without_gaps
@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("first_pass", [0, 1, 3])
@pytest.mark.parametrize("groups, width", [(4, 4), (8, 2)])
def test_passes_equal_its_model(groups, width, first_pass, enable, willing):
    dut, used = Pool(groups, width, passes=4), 4 - first_pass
    channels = random_channels(groups, width, 3 * used)
    sent, got = run(dut, channels, enable, willing, first_pass=first_pass)
    assert difference(expected(dut, channels, enable, sent, passes=used), got) is None
    assert len(got) == len(channels) // (4 if enable else 1)
    # Each pass is pooled as if it were alone.
    alone = [
        Pool(groups, width).model(
            [value for tile in in_groups(channels, groups)[number::used] for value in tile], enable
        )
        for number in range(used)
    ]
    assert [value for _, value in got] == interleaved(alone, groups)


@with_and_without_gaps
@pytest.mark.parametrize("one_strip", [0, 1])
@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("first_pass", [0, 1])
@pytest.mark.parametrize("groups, width, strips, steps", [(4, 4, 2, 2), (4, 8, 4, 1), (8, 8, 4, 2)])
def test_passes_of_strips_equal_its_model(
    groups, width, strips, steps, first_pass, enable, one_strip, willing
):
    dut, used = Pool(groups, width, strips, steps, 2), 2 - first_pass
    channels = random_channels(groups, width, 3 * strips * used)
    sent, got = run(dut, channels, enable, willing, one_strip=one_strip, first_pass=first_pass)
    assert difference(expected(dut, channels, enable, sent, one_strip, used), got) is None
    assert len(got) == len(channels) // (4 if enable else 1) // (strips if one_strip else 1)


def test_every_pixel_of_the_window_counts_in_its_pass():
    """One spike in a window of three passes, at each of its places in turn."""
    dut = Pool(4, 4, passes=4)
    for place in range(48):
        channels = [0b0100 * (i == place) for i in range(48)]
        _, got = run(dut, channels, 1, FLOWS, first_pass=1)
        assert [value for _, value in got] == [0b0100 * (p == place % 12) for p in range(12)]


def test_passes_of_strips_written_out():
    """Two strips of two steps: a tile comes in both passes for the first, then for the second."""
    dut, tiles = Pool(4, 4, 2, 2, 2), [0b1101, 0b1110, 0b0111, 0b1011]
    channels = [tile for tile in tiles for _ in range(4)]
    _, got = run(dut, channels, 0, FLOWS, one_strip=1, first_pass=0)
    assert [value for _, value in got] == [0b0101] * 4 + [0b1010] * 4


@pytest.mark.parametrize("first_pass", [0, 1, 3])
@pytest.mark.parametrize("before", [1, 4, 7, 29, 60])
def test_clear_starts_with_the_first_pass_of_a_window(before, first_pass):
    dut, used = Pool(4, 4, passes=4), 4 - first_pass
    channels = random_channels(4, 4, 2 * used)
    sent, got = run(dut, channels, 1, FLOWS, [0b1111] * before, first_pass=first_pass)
    assert difference(expected(dut, channels, 1, sent, passes=used), got) is None


@pytest.mark.parametrize("place, noticed", [(21, 9), (25, 1), (11, 11)])
def test_a_changed_spike_is_noticed_in_its_pass(place, noticed):
    dut, channels = Pool(4, 4, passes=4), [0] * 48
    sent, got = run(dut, channels, 1, FLOWS, first_pass=1)
    channels[place] = 0b0001
    wanted = expected(dut, channels, 1, sent, passes=3)
    assert difference(wanted, got).startswith(f"entry {noticed}:")


@pytest.mark.parametrize("before", [1, 4, 7, 13])
def test_clear_starts_a_new_window(before):
    dut, channels = Pool(4, 4), random_channels(4, 4, 2)
    sent, got = run(dut, channels, 1, FLOWS, before=[0b1111] * before)
    assert difference(expected(dut, channels, 1, sent), got) is None


@pytest.mark.parametrize("enable", [0, 1])
@pytest.mark.parametrize("before", [3, 5, 17])
def test_clear_starts_with_the_first_strip(before, enable):
    dut, channels = Pool(4, 4, 2, 2), random_channels(4, 4, 4)
    sent, got = run(dut, channels, enable, FLOWS, before=[0b1111] * before, one_strip=1)
    assert difference(expected(dut, channels, enable, sent, 1), got) is None


def test_a_changed_spike_is_noticed():
    dut, channels = Pool(4, 4), random_channels(4, 4, 3)
    channels[17:32:4] = [0] * 4
    sent, got = run(dut, channels, 1, FLOWS)
    channels[21] = 0b0001
    assert difference(expected(dut, channels, 1, sent), got).startswith("entry 5")


@pytest.mark.parametrize("spike, noticed", [(0b1000, True), (0b0001, False)])
def test_a_changed_spike_is_noticed_in_the_lanes_of_its_strip(spike, noticed):
    """In a tile of the second strip, whose lanes are the upper two."""
    dut, channels = Pool(4, 4, 2, 2), random_channels(4, 4, 1)
    channels[13] = 0
    sent, got = run(dut, channels, 0, FLOWS, one_strip=1)
    channels[13] = spike
    assert bool(difference(expected(dut, channels, 0, sent, 1), got)) == noticed
