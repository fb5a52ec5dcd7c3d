"""Spikes and logits packed into words of the spike memory."""

import random

import pytest

from hw.writer import Writer
from tests.hw.support import (
    FLOWS,
    FOURS,
    LONG,
    PAIRS,
    SMALL,
    WIDE,
    arrivals,
    difference,
    in_groups,
    play,
    shape,
    with_and_without_gaps,
    with_gaps,
)

OUTPUTS = ["write_enable", "write_address", "write_data"]
PASSED = ["passed", "passed_spikes", "last_group", "last_column"]


def layer_of(engine, channels, height, width, base=17):
    return dict(
        channels=channels, tiles_last=-(-channels // engine.pe) - 1, out_base=base,
        out_height_last=height - 1, out_width_last=width - 1,
    )


def run(dut, layer, values, willing, logits=False, before=0):
    """Rows of all outputs after the clear, and the cycles of the groups of channels among them.

    Channels beyond the real ones get values too: they must not come through.
    """
    valid, value = ("logit_valid", "logit") if logits else ("valid", "spikes")
    items = [{valid: 1, value: group, "clear": 0} for group in in_groups(values, dut.engine.units)]
    lead = [{**items[0], "layer": layer}] * before
    lead += [{valid: 0, "clear": 1, "layer": layer}]
    stimulus = with_gaps(items, willing, after=4, **{valid: 0})
    sent = [cycle for cycle, given in enumerate(stimulus) if given[valid]]
    rows = play(dut, [*lead, *stimulus], [*OUTPUTS, "written", *PASSED])
    return sent, rows[len(lead) :]


def writes_of(rows):
    return arrivals([row[: len(OUTPUTS)] for row in rows])


def tile_channels(engine, layer):
    return (layer["tiles_last"] + 1) * engine.pe


def random_spikes(engine, layer):
    rng = random.Random(11)
    pixels = (layer["out_height_last"] + 1) * (layer["out_width_last"] + 1)
    return [
        rng.getrandbits(engine.lanes) for _ in range(pixels * tile_channels(engine, layer))
    ]


def expected_writes(dut, layer, values, sent):
    """(cycle, address, word): a word leaves after its last channel or the last of the pixel."""
    engine, per_pixel = dut.engine, tile_channels(dut.engine, layer)
    writes = []
    for start in range(0, len(values), per_pixel):
        words = dut.model(values[start : start + per_pixel], layer["channels"])
        for number, word in enumerate(words):
            last = start + min((number + 1) * engine.simd, per_pixel) - 1
            cycle = sent[last // engine.units] + dut.latency
            writes.append((cycle, layer["out_base"] + len(writes), word))
    return writes


SHAPES = [(5, 2, 3), (8, 1, 1), (3, 3, 2), (19, 2, 2), (16, 1, 4), (1, 1, 5)]


@with_and_without_gaps
@pytest.mark.parametrize("channels, height, width", SHAPES)
@pytest.mark.parametrize("engine", [SMALL, WIDE, LONG, PAIRS, FOURS], ids=shape)
def test_words_equal_the_model_at_its_latency(engine, channels, height, width, willing):
    dut, layer = Writer(engine), layer_of(engine, channels, height, width)
    values = random_spikes(engine, layer)
    sent, rows = run(dut, layer, values, willing)
    assert difference(expected_writes(dut, layer, values, sent), writes_of(rows)) is None
    # The end of the layer is announced once, as its last word is written.
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + dut.latency]


@with_and_without_gaps
def test_channels_pass_in_the_same_cycle_with_their_place(willing):
    dut, layer = Writer(SMALL), layer_of(SMALL, 6, 2, 3)
    values = random_spikes(SMALL, layer)
    sent, rows = run(dut, layer, values, willing)
    got = arrivals([row[4:] for row in rows])
    expected = [
        (cycle, [spikes if i % 8 < 6 else 0], i % 8 == 7, i // 8 % 3 == 2)
        for i, (cycle, spikes) in enumerate(zip(sent, values, strict=True))
    ]
    assert difference(expected, got) is None


@with_and_without_gaps
@pytest.mark.parametrize("classes", [3, 4, 10])
@pytest.mark.parametrize("engine", [SMALL, PAIRS, FOURS], ids=shape)
def test_logits_of_a_cycle_take_a_word(engine, classes, willing):
    dut, layer = Writer(engine), layer_of(engine, classes, 1, 1)
    rng = random.Random(12)
    values = [-1, -(1 << 31), (1 << 31) - 1, *(rng.randint(-9999, 9999) for _ in range(13))]
    values = [value & 0xFFFFFFFF for value in values][: tile_channels(engine, layer)]
    sent, rows = run(dut, layer, values, willing, logits=True)
    words = dut.model(values, classes, logits=True)
    expected = [(sent[i] + dut.latency, 17 + i, word) for i, word in enumerate(words)]
    assert difference(expected, writes_of(rows)) is None
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + dut.latency]
    assert not any(row[4] for row in rows), "logits are no spikes"


@pytest.mark.parametrize("before", [1, 6, 11])
def test_clear_starts_a_layer_anew(before):
    dut, layer = Writer(SMALL), layer_of(SMALL, 5, 2, 2)
    values = random_spikes(SMALL, layer)
    sent, rows = run(dut, layer, values, FLOWS, before=before)
    # A word that was complete before the clear still leaves.
    writes = [write for write in writes_of(rows) if write[0] > 0]
    assert difference(expected_writes(dut, layer, values, sent), writes) is None


def test_a_changed_spike_is_noticed():
    dut, layer = Writer(SMALL), layer_of(SMALL, 8, 2, 2)
    values = random_spikes(SMALL, layer)
    sent, rows = run(dut, layer, values, FLOWS)
    values[21] ^= 0b0100
    assert difference(expected_writes(dut, layer, values, sent), writes_of(rows)).startswith(
        "entry 2"
    )


def test_an_unsilenced_channel_is_noticed():
    dut, layer = Writer(SMALL), layer_of(SMALL, 5, 1, 1)
    values = [0b1111] * 8
    sent, rows = run(dut, layer, values, FLOWS)
    wrong = expected_writes(dut, {**layer, "channels": 6}, values, sent)
    assert difference(wrong, writes_of(rows))
