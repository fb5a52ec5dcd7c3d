"""The LIF unit against its model and against equations 1 to 4 in fractions."""

import math
import random
from fractions import Fraction

import pytest

from hw.lif import LIF
from sw.formats import apply_gain
from sw.layers import LEAKS
from tests.hw.support import (
    FLOWS,
    arrivals,
    difference,
    play,
    with_and_without_gaps,
    with_gaps,
)

WIDTH = 16
SHIFTS = tuple(LEAKS.values())
LOW, HIGH = -(1 << WIDTH - 1), (1 << WIDTH - 1) - 1
MAX_THRESHOLD = (1 << 16) - 1


def potentials(currents, bias, threshold, gains, tau):
    """U of all steps before the reset: tau U + g X, what leaks floored, halves of g X up."""
    rest = 0
    for current, gain in zip(currents, gains, strict=True):
        leaked = math.floor((1 - Fraction(tau)) * rest)
        drive = math.floor(Fraction(gain * (current + bias), 256) + Fraction(1, 2))
        potential = rest - leaked + drive
        yield potential
        rest = 0 if potential >= threshold else potential


def equations(currents, bias, threshold, gains, tau, step_mask):
    """Spikes of all steps of one channel, one bit a step."""
    steps = potentials(currents, bias, threshold, gains, tau)
    return step_mask & sum((u >= threshold) << t for t, u in enumerate(steps))


def equations_of_strips(steps, currents, bias, threshold, gains, tau, step_mask):
    """Spikes of all lanes of one channel: each ``steps`` of them in a row are by themselves."""
    return sum(
        equations(currents[first : first + steps], bias, threshold, gains[first : first + steps],
                  tau, step_mask >> first) << first
        for first in range(0, len(currents), steps)
    )


def random_channels(gains, tau, count=80, seed=0, steps=None):
    """(currents, bias, threshold); currents plus bias fit the width and reach both its ends.

    Half of the thresholds are met exactly, or missed by one, at one of the steps, of each strip in
    turn.
    """
    rng, lanes = random.Random(seed), len(gains)
    steps = steps or lanes
    channels = [
        ([HIGH] * lanes, 0, MAX_THRESHOLD), ([LOW] * lanes, 0, 0), ([LOW] * lanes, 0, 1),
        ([HIGH - 5] * lanes, 5, HIGH), ([HIGH] * lanes, 0, HIGH), ([0] * lanes, 0, 0),
        ([-1] * lanes, 0, 0), ([LOW + 3] * lanes, -3, 1), ([0] * lanes, LOW, 7),
        ([HIGH if t % 2 else LOW for t in range(lanes)], 0, 100),
    ]
    for number in range(count):
        scale = rng.choice([20, 300, 5000, HIGH])
        sums = [rng.randint(-scale - 1, scale) for _ in range(lanes)]
        bias = rng.randint(-scale, scale)
        threshold = rng.randint(0, 2 * scale)
        if number % 2:
            first = number // 2 * steps % lanes
            strip = slice(first, first + steps)
            reached = rng.choice(list(potentials(sums[strip], 0, math.inf, gains[strip], tau)))
            threshold = max(0, reached + rng.randint(0, 1))
        # A current may leave the width as long as its sum with the bias does not.
        channels.append(([x - bias for x in sums], bias, min(threshold, MAX_THRESHOLD)))
    return channels


def wrapped(value, width):
    return (value + (1 << width - 1)) % (1 << width) - (1 << width - 1)


def played(dut, stimulus, sent, shortcuts):
    """Arrivals; with ``shortcuts`` of the channels ``sent``, also the stream that each leaves.

    A shortcut is there two cycles after its channel, and noise at any other time.
    """
    if shortcuts is None:
        return arrivals(play(dut, stimulus, ["out_valid", "spikes"]))
    rng = random.Random(9)
    due = {cycle + 2: shortcut for cycle, shortcut in zip(sent, shortcuts, strict=True)}
    stimulus = [
        {**values, "shortcut": due.get(cycle) or rng.choices([LOW, HIGH], k=dut.lanes)}
        for cycle, values in enumerate(stimulus)
    ]
    rows = play(dut, stimulus, ["out_valid", "spikes", "stream"])
    streams = [rows[cycle + dut.drive_latency][2] for cycle in sent]
    return arrivals([row[:2] for row in rows]), streams


def run(dut, channels, gains, shift, mask, willing, shortcuts=None, **constant):
    """(stimulus cycles of the channels, arrivals, and with shortcuts the streams)."""
    items = [
        dict(valid=1, current=[wrapped(x, dut.width) for x in currents], bias=bias,
             threshold=threshold)
        for currents, bias, threshold in channels
    ]
    stimulus = with_gaps(items, willing, after=dut.latency + 3)
    stimulus[0] = {
        **stimulus[0], "gain": gains, "leak_shift": shift, "step_mask": mask, **constant
    }
    sent = [cycle for cycle, values in enumerate(stimulus) if values["valid"]]
    return sent, played(dut, stimulus, sent, shortcuts)


def expected(dut, sent, spikes):
    return [(cycle + dut.latency, value) for cycle, value in zip(sent, spikes, strict=True)]


def random_gains(lanes, seed):
    rng = random.Random(seed)
    return [rng.choice([0, 1, 127, 128, 255, 256, rng.randrange(257)]) for _ in range(lanes)]


@with_and_without_gaps
@pytest.mark.parametrize(
    "tau, shifts", [*((tau, SHIFTS) for tau in LEAKS), (0.5, (1,)), (0.875, (0, 3)), (0.0, (0,))]
)
@pytest.mark.parametrize("lanes", [1, 4])
def test_equals_the_equations_and_its_model_at_its_latency(lanes, tau, shifts, willing):
    for seed, gains in enumerate([[256] * lanes, random_gains(lanes, 5), random_gains(lanes, 6)]):
        dut, channels = LIF(lanes, WIDTH, shifts), random_channels(gains, tau, seed=seed)
        mask = random.Random(seed).getrandbits(lanes) | 1 if seed else (1 << lanes) - 1
        sent, got = run(dut, channels, gains, LEAKS[tau], mask, willing)
        spikes = [equations(*channel, gains, tau, mask) for channel in channels]
        assert difference(expected(dut, sent, spikes), got) is None
        assert spikes == [dut.model(*channel, gains, LEAKS[tau], mask) for channel in channels]
        assert set(spikes) != {0}, "a comparison of nothing"


def test_sixteen_steps_and_wide_currents():
    """The most steps, with a leak at which the extremes of the currents still fit the membrane."""
    gains = [256 - t for t in range(16)]
    dut, channels = LIF(16, WIDTH, SHIFTS), random_channels(gains, 0.75, count=40)
    sent, got = run(dut, channels, gains, 2, 0xFFFF, FLOWS)
    spikes = [equations(*channel, gains, 0.75, 0xFFFF) for channel in channels]
    assert difference(expected(dut, sent, spikes), got) is None


@with_and_without_gaps
@pytest.mark.parametrize("tau, shifts", [(0.5, (1,)), (0.75, SHIFTS), (0.0, SHIFTS)])
@pytest.mark.parametrize("lanes, steps", [(4, 1), (4, 2), (16, 4)])
def test_each_strip_is_a_neuron_of_its_own(lanes, steps, tau, shifts, willing):
    dut, gains = LIF(lanes, WIDTH, shifts, steps), random_gains(lanes, 5)
    assert dut.latency == 2 + steps
    channels = random_channels(gains, tau, steps=steps)
    mask = random.Random(3).getrandbits(lanes) | 1 << lanes - 1
    sent, got = run(dut, channels, gains, LEAKS[tau], mask, willing)
    spikes = [equations_of_strips(steps, *channel, gains, tau, mask) for channel in channels]
    assert difference(expected(dut, sent, spikes), got) is None
    assert spikes == [dut.model(*channel, gains, LEAKS[tau], mask) for channel in channels]
    if tau:
        # A membrane that goes on from strip to strip shows.
        spikes = [equations(*channel, gains, tau, mask) for channel in channels]
        assert difference(expected(dut, sent, spikes), got)


def used_passes(shape, passes):
    """The places that the lanes of each of so many ``passes`` have in a channel.

    ``shape`` is (lanes, steps, ...); a channel has all time steps of a strip in a row, strip after
    strip.
    """
    lanes, steps, *_ = shape
    return [
        [lane // steps * passes * steps + number * steps + lane % steps for lane in range(lanes)]
        for number in range(passes)
    ]


def pass_by_pass(spikes, places):
    """The spikes of all steps, one bit each, as those of every pass."""
    return [
        sum((spikes >> place & 1) << lane for lane, place in enumerate(row)) for row in places
    ]


def run_passes(
    dut, channels, gains, places, shift, mask, willing, resume=1, shortcuts=None, **constant
):
    """As ``run``, of tiles of channels, each in all of its passes.

    The gain of a pass is there a cycle after its channel, and noise at any other time.
    """
    rng, items, numbers = random.Random(8), [], []
    if shortcuts is not None:
        shortcuts = in_tiles(dut, [
            [[around[place] for place in row] for row in places] for around in shortcuts
        ])
    for start in range(0, len(channels), dut.groups):
        for number, row in enumerate(places):
            for currents, bias, threshold in channels[start : start + dut.groups]:
                numbers.append(number)
                items.append(dict(
                    valid=1, current=[wrapped(currents[place], dut.width) for place in row],
                    bias=bias, threshold=threshold, resume=resume * (number > 0),
                    last=number == len(places) - 1,
                ))
    stimulus = with_gaps(items, willing, after=dut.latency + 3)
    sent = [cycle for cycle, values in enumerate(stimulus) if values["valid"]]
    due = {cycle + 1: number for cycle, number in zip(sent, numbers, strict=True)}
    stimulus = [
        {**values, **constant, "leak_shift": shift, "step_mask": mask, "gain": [
            gains[place] for place in places[due[cycle]]
        ] if cycle in due else [rng.randrange(257) for _ in range(dut.lanes)]}
        for cycle, values in enumerate(stimulus)
    ]
    return sent, played(dut, stimulus, sent, shortcuts)


def in_tiles(dut, spikes):
    """Spikes of each channel's passes in the order in which they leave."""
    return [
        channel[number]
        for start in range(0, len(spikes), dut.groups) for number in range(len(spikes[0]))
        for channel in spikes[start : start + dut.groups]
    ]


#: Lanes, steps, groups, passes. As many groups as steps leave no time between the passes.
PASS_SHAPES = [(4, 4, 4, 4), (4, 4, 8, 2), (2, 2, 8, 8), (4, 2, 4, 4), (8, 2, 2, 2), (1, 1, 4, 16)]


def long_channels(shape, passes, gains, tau):
    """Channels of whole tiles, with the steps of all passes."""
    _, steps, groups, _ = shape
    channels = random_channels(gains, tau, count=38, steps=passes * steps)
    assert len(channels) % groups == 0
    return channels


@with_and_without_gaps
@pytest.mark.parametrize("tau, shifts", [(0.5, (1,)), (0.75, SHIFTS)])
@pytest.mark.parametrize(
    "form, passes",
    [*((form, form[3]) for form in PASS_SHAPES), ((4, 4, 4, 4), 1), ((4, 4, 4, 4), 3),
     ((2, 2, 8, 8), 5), ((8, 2, 2, 2), 1), ((4, 2, 4, 4), 2)],
    ids=str,
)
def test_membranes_go_on_from_pass_to_pass(form, passes, tau, shifts, willing):
    lanes, steps, groups, most = form
    dut, places = LIF(lanes, WIDTH, shifts, steps, most, groups), used_passes(form, passes)
    assert dut.latency == 2 + steps
    gains = random_gains(lanes * passes, 5)
    channels = long_channels(form, passes, gains, tau)
    last, every = random.Random(3).getrandbits(lanes) | 1, (1 << lanes) - 1
    sent, got = run_passes(dut, channels, gains, places, LEAKS[tau], last, willing)
    masks = [every] * (passes - 1) + [last]
    whole = [
        equations_of_strips(passes * steps, *channel, gains, tau, (1 << lanes * passes) - 1)
        for channel in channels
    ]
    spikes = [
        [bits & mask for bits, mask in zip(pass_by_pass(bits, places), masks, strict=True)]
        for bits in whole
    ]
    assert difference(expected(dut, sent, in_tiles(dut, spikes)), got) is None
    for (currents, bias, threshold), wanted in zip(channels, spikes, strict=True):
        membranes = [0] * (lanes // steps)
        for row, mask, bits in zip(places, masks, wanted, strict=True):
            now, factors = [currents[place] for place in row], [gains[place] for place in row]
            assert bits == dut.model(
                now, bias, threshold, factors, LEAKS[tau], mask, membranes
            )
        for number, membrane in enumerate(membranes):
            strip = slice(number * passes * steps, (number + 1) * passes * steps)
            *_, ends = potentials(currents[strip], bias, threshold, gains[strip], tau)
            assert membrane == (0 if ends >= threshold else ends)
    assert len({bits for channel in spikes for bits in channel}) > 1, "a comparison of nothing"


@with_and_without_gaps
@pytest.mark.parametrize("form", PASS_SHAPES, ids=str)
def test_without_resume_every_pass_starts_from_zero(form, willing):
    lanes, steps, groups, passes = form
    dut, places = LIF(lanes, WIDTH, SHIFTS, steps, passes, groups), used_passes(form, passes)
    gains, every = random_gains(lanes * passes, 6), (1 << lanes) - 1
    channels = long_channels(form, passes, gains, 0.5)
    sent, got = run_passes(dut, channels, gains, places, 1, every, willing, resume=0)
    # Each pass of a strip is a neuron of its own.
    whole = [equations_of_strips(steps, *channel, gains, 0.5, -1) for channel in channels]
    spikes = [pass_by_pass(bits, places) for bits in whole]
    assert difference(expected(dut, sent, in_tiles(dut, spikes)), got) is None
    # Membranes that go on show.
    whole = [equations_of_strips(passes * steps, *channel, gains, 0.5, -1) for channel in channels]
    spikes = [pass_by_pass(bits, places) for bits in whole]
    assert difference(expected(dut, sent, in_tiles(dut, spikes)), got)


@pytest.mark.parametrize("mask", [0b0000, 0b0001, 0b0111, 0b1010])
def test_steps_outside_the_mask_are_silent_in_the_last_pass_alone(mask):
    form = (4, 4, 4, 4)
    dut, places = LIF(4, WIDTH, SHIFTS, 4, 4, 4), used_passes(form, 3)
    channels = [([100] * 12, 0, 1)] * 8
    _, got = run_passes(dut, channels, [256] * 12, places, 1, mask, FLOWS)
    tile = [0b1111] * 8 + [mask] * 4
    assert [spikes for _, spikes in got] == tile * 2


def test_a_membrane_that_a_pass_leaves_written_out():
    """Leak 1/2, two steps a pass: 7 and 11, 13 and 14, 14 and 14; 7 anew after a spike."""
    dut, places = LIF(2, WIDTH, SHIFTS, 2, 4, 2), used_passes((2, 2), 3)
    channels = [([7] * 6, 0, threshold) for threshold in (13, 14, 7, 15)]
    _, got = run_passes(dut, channels, [256] * 6, places, 1, 0b11, FLOWS)
    assert [spikes for _, spikes in got] == [
        0b00, 0b00, 0b01, 0b10, 0b10, 0b00,
        0b11, 0b00, 0b11, 0b00, 0b11, 0b00,
    ]


@pytest.mark.parametrize("mask", [0b0000, 0b0001, 0b0111, 0b1010])
def test_steps_outside_the_mask_are_silent(mask):
    dut, channels = LIF(4, WIDTH, SHIFTS), [([100] * 4, 0, 1)]
    _, got = run(dut, channels, [256] * 4, 1, mask, FLOWS)
    assert got == [(dut.latency, mask)]


def test_a_membrane_at_the_threshold_fires_and_one_below_does_not():
    dut = LIF(4, WIDTH, SHIFTS)
    # Leak 1/2: membranes 7, 11 (3 leaks away), 13 (5 leaks away), 14 (6 leaks away).
    channels = [([7] * 4, 0, threshold) for threshold in (7, 8, 11, 12, 13, 14, 15)]
    _, got = run(dut, channels, [256] * 4, 1, 0b1111, FLOWS)
    assert [spikes for _, spikes in got] == [0b1111, 0b1010, 0b1010, 0b0100, 0b0100, 0b1000, 0]


@pytest.mark.parametrize("change", ["threshold", "bias", "gain", "leak"])
def test_an_error_of_one_is_noticed(change):
    gains, tau = [256, 200, 128, 256], 0.5
    dut, channels = LIF(4, WIDTH, SHIFTS), random_channels(gains, tau)
    sent, got = run(dut, channels, gains, LEAKS[tau], 0b1111, FLOWS)
    if change == "threshold":
        channels = [(currents, bias, theta + 1) for currents, bias, theta in channels]
    elif change == "bias":
        channels = [(currents, bias + 1, theta) for currents, bias, theta in channels]
    elif change == "gain":
        gains = [256, 201, 128, 256]
    else:
        tau = 0.75
    spikes = [equations(*channel, gains, tau, 0b1111) for channel in channels]
    assert difference(expected(dut, sent, spikes), got)


def random_shortcuts(channels, gains, seed=0):
    """Channels with what a shortcut adds, for such channels as sums: those meet their thresholds.

    Of those at an end of the width every other one would go beyond it.
    """
    rng, split = random.Random(seed), []
    for currents, bias, threshold in channels:
        branch, around = [], []
        scale = rng.choice([20, 300, HIGH])
        for current, gain in zip(currents, gains, strict=True):
            total, value = current + bias, rng.randint(-scale - 1, scale)
            beyond = rng.randrange(500) * (total in (LOW, HIGH)) * (1 if total > 0 else -1)
            branch.append(value - bias)
            around.append(max(LOW, min(HIGH, total + beyond - apply_gain(value, gain))))
        split.append((branch, bias, threshold, around))
    return [channel[:3] for channel in split], [around for *_, around in split]


def joined(channels, gains, shortcuts):
    """Channels whose currents are those behind the gain, with the shortcuts, saturated."""
    return [
        ([
            max(-32768, min(32767, math.floor(Fraction(g * (x + bias), 256) + Fraction(1, 2)) + y))
            for x, g, y in zip(currents, gains, around, strict=True)
        ], 0, threshold)
        for (currents, bias, threshold), around in zip(channels, shortcuts, strict=True)
    ]


@with_and_without_gaps
@pytest.mark.parametrize("tau, shifts", [(0.5, (1,)), (0.75, SHIFTS), (0.875, SHIFTS)])
@pytest.mark.parametrize("lanes, width", [(1, WIDTH), (4, WIDTH), (4, 18)])
def test_a_shortcut_adds_to_the_current_behind_the_gain(lanes, width, tau, shifts, willing):
    dut, ones = LIF(lanes, width, shifts, shortcuts=True), [256] * lanes
    assert dut.latency == 3 + lanes
    for seed, gains in enumerate([ones, random_gains(lanes, 5)]):
        channels, shortcuts = random_shortcuts(random_channels(ones, tau, seed=seed), gains)
        mask = random.Random(seed).getrandbits(lanes) | 1
        sent, (got, streams) = run(
            dut, channels, gains, LEAKS[tau], mask, willing, shortcuts, streamed=1
        )
        sums = joined(channels, gains, shortcuts)
        assert difference([currents for currents, *_ in sums], streams) is None
        spikes = [equations(*channel, ones, tau, mask) for channel in sums]
        assert difference(expected(dut, sent, spikes), got) is None
        for channel, bits, around, (stream, *_) in zip(
            channels, spikes, shortcuts, sums, strict=True
        ):
            kept = list(around)
            assert bits == dut.model(*channel, gains, LEAKS[tau], mask, stream=kept)
            assert kept == stream
        # The sums reach both ends, and would go on; spikes are those of the sums.
        assert {LOW, HIGH} <= {value for stream in streams for value in stream}
        plain = [dut.model(*channel, gains, LEAKS[tau], mask) for channel in channels]
        assert plain != spikes


@pytest.mark.parametrize("current, around, stream", [
    (30000, 2767, 32767), (30000, 2768, 32767), (30000, 32767, 32767), (-30000, -2768, -32768),
    (-30000, -2769, -32768), (-32768, -32768, -32768), (32767, -32768, -1), (-5, 5, 0),
])
def test_a_stream_saturates_at_both_ends(current, around, stream):
    """And what it drives then fires at that value, and not above."""
    dut, fires = LIF(1, WIDTH, SHIFTS, shortcuts=True), max(stream, 0)
    channels = [([current], 0, threshold) for threshold in (fires, fires + 1)]
    _, (got, streams) = run(dut, channels, [256], 1, 1, FLOWS, [[around]] * 2, streamed=1)
    assert streams == [[stream]] * 2
    assert [spikes for _, spikes in got] == [int(stream >= 0), 0]


@with_and_without_gaps
@pytest.mark.parametrize("width", [WIDTH, 18])
def test_without_a_stream_nothing_is_added_and_nothing_saturates(width, willing):
    """Wide currents go beyond the ends of a stream."""
    dut, gains = LIF(4, width, SHIFTS, shortcuts=True), random_gains(4, 6)
    channels = random_channels(gains, 0.5)
    rng, wide = random.Random(4), 1 << width - 1
    channels += [([rng.randint(-wide, wide - 1) for _ in gains], 0, HIGH) for _ in range(20)]
    shortcuts = [[rng.randint(LOW, HIGH) for _ in gains] for _ in channels]
    sent, (got, _) = run(dut, channels, gains, 1, 0b1111, willing, shortcuts, streamed=0)
    spikes = [equations(*channel, gains, 0.5, 0b1111) for channel in channels]
    assert difference(expected(dut, sent, spikes), got) is None


@with_and_without_gaps
@pytest.mark.parametrize(
    "form, passes", [*((form, form[3]) for form in PASS_SHAPES), ((4, 4, 4, 4), 3)], ids=str
)
def test_membranes_of_streams_go_on_from_pass_to_pass(form, passes, willing):
    lanes, steps, groups, most = form
    dut = LIF(lanes, WIDTH, SHIFTS, steps, most, groups, shortcuts=True)
    places, gains = used_passes(form, passes), random_gains(lanes * passes, 5)
    every, ones = (1 << lanes) - 1, [256] * lanes * passes
    channels, shortcuts = random_shortcuts(long_channels(form, passes, ones, 0.75), gains)
    sent, (got, streams) = run_passes(
        dut, channels, gains, places, 2, every, willing, shortcuts=shortcuts, streamed=1
    )
    sums = joined(channels, gains, shortcuts)
    assert difference(in_tiles(dut, [
        [[currents[place] for place in row] for row in places] for currents, *_ in sums
    ]), streams) is None
    spikes = [
        pass_by_pass(equations_of_strips(passes * steps, *channel, ones, 0.75, -1), places)
        for channel in sums
    ]
    assert difference(expected(dut, sent, in_tiles(dut, spikes)), got) is None
    # Membranes that start from zero in every pass show.
    spikes = [
        pass_by_pass(equations_of_strips(steps, *channel, ones, 0.75, -1), places)
        for channel in sums
    ]
    assert difference(expected(dut, sent, in_tiles(dut, spikes)), got)


def test_a_shortcut_that_is_off_by_one_is_noticed():
    dut, gains = LIF(4, WIDTH, SHIFTS, shortcuts=True), [256, 200, 128, 256]
    channels, shortcuts = random_shortcuts(random_channels([256] * 4, 0.5), gains)
    sent, (got, streams) = run(dut, channels, gains, 1, 0b1111, FLOWS, shortcuts, streamed=1)
    shortcuts = [[value - 1 for value in around] for around in shortcuts]
    sums = joined(channels, gains, shortcuts)
    assert difference([currents for currents, *_ in sums], streams)
    spikes = [equations(*channel, [256] * 4, 0.5, 0b1111) for channel in sums]
    assert difference(expected(dut, sent, spikes), got)
