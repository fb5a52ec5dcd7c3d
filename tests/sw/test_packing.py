"""Words of an engine's memories, against loops that read them back bit by bit."""

from dataclasses import replace

import numpy as np
import pytest

from sw import packing
from sw.engine import Engine
from sw.layers import Shape

ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=512, spike_depth=128, channel_depth=64, mean_depth=256
)
PAIRS = replace(ENGINE, pe=8, simd=16, units=2)
ENGINES = {
    "narrow": ENGINE, "pairs": PAIRS,
    "fours": replace(ENGINE, pe=16, simd=32, lanes=8, units=4, current_width=18),
}
#: Strips of SHAPE's three rows, by pixels: the second of two has a row beyond the map, and the
#: last of four is empty.
ROWS = {1: 3, 2: 2, 4: 1}
CUT = {
    "two strips": replace(ENGINE, pixels=2),
    "four strips": replace(ENGINE, pe=8, simd=16, lanes=16, units=2, pixels=4),
}
SHAPE = Shape(9, 3, 2)
CLASSES = 5


@pytest.fixture(params=ENGINES | CUT)
def engine(request):
    return (ENGINES | CUT)[request.param]


def readout(seed=0):
    """Weights [classes, C * H * W] of every 8-bit value, the extreme ones first, and biases."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 128, (CLASSES, SHAPE.size)).astype(np.int8)
    weights[0, :5] = -128, -127, -1, 0, 127
    return weights, rng.integers(-3000, 3000, CLASSES)


def row_of(engine, klass, plane):
    """The channel that holds a plane of a class: sets of ``units``, in them the heaviest first."""
    return (klass // engine.units * 8 + 7 - plane) * engine.units + klass % engine.units


def column_of(engine, c, y, x):
    """The input of a readout's only pixel: the bits of the map's words, one after another.

    Strips follow each other, as do their rows: a row of the map comes where it would without them.
    """
    words = -(-SHAPE.channels // engine.simd)
    return (y * SHAPE.width + x) * words * engine.simd + c


def weight_of(engine, planes, klass, c, y, x):
    """What the binary planes of a weight add up to."""
    column = column_of(engine, c, y, x)
    return sum(
        2**plane * (1 if planes[row_of(engine, klass, plane), column, 0, 0] else -1)
        for plane in range(8)
    )


def planes_of(engine, weights):
    return packing.readout_planes(weights, SHAPE, ROWS[engine.pixels], engine)


def test_readout_planes_add_up_to_the_weights(engine):
    weights, _ = readout()
    planes = planes_of(engine, weights)
    assert planes.dtype == bool
    for klass, c, y, x in np.ndindex(CLASSES, SHAPE.channels, SHAPE.height, SHAPE.width):
        stored = int(weights[klass, (c * SHAPE.height + y) * SHAPE.width + x])
        assert weight_of(engine, planes, klass, c, y, x) == 2 * stored + 1
    planes[row_of(engine, 3, 6), column_of(engine, 8, 2, 1)] ^= True
    stored = int(weights[3, -1])
    assert abs(weight_of(engine, planes, 3, 8, 2, 1) - (2 * stored + 1)) == 2 * 2**6


def test_planes_of_single_weights_by_hand():
    """Of one class and one input: sums of +-128, +-64, ... +-1."""
    for weight, signs in (
        (-128, "--------"), (-127, "-------+"), (-1, "-+++++++"), (0, "+-------"), (1, "+------+"),
        (127, "++++++++"),
    ):
        planes = packing.readout_planes(np.int8([[weight]]), Shape(1, 1, 1), 1, ENGINE)
        assert "".join("-+"[int(bit)] for bit in planes[:, 0, 0, 0]) == signs


def test_planes_are_padded_with_weights_that_agree_with_no_silence(engine):
    weights, _ = readout()
    planes = planes_of(engine, weights)
    sets = -(-CLASSES // engine.units)
    per_pixel = -(-SHAPE.channels // engine.simd) * engine.simd
    pixels = engine.pixels * ROWS[engine.pixels] * SHAPE.width
    assert pixels == {1: 6, 2: 8, 4: 8}[engine.pixels]
    assert planes.shape == (sets * 8 * engine.units, pixels * per_pixel, 1, 1)
    used = [column_of(engine, *place) for place in np.ndindex(9, 3, 2)]
    assert planes.shape[1] > len(used)
    assert np.delete(planes, used, axis=1).all()


def counted_logits(engine, planes, entries, spikes):
    """Logits of spikes [steps, C, H, W] as the array counts them, one plane after another.

    The steps are those of all passes, silent ones as well.

    Every lane agrees with a weight wherever both are 0 or both are 1; all planes but the last are
    doubled by those that follow, and each adds its entry. The lanes of a strip count its words
    alone: those of a step, each its own part of them, together count all of them once.
    """
    inputs = np.zeros((len(spikes), planes.shape[1]), bool)
    for step, c, y, x in np.ndindex(spikes.shape):
        inputs[step, column_of(engine, c, y, x)] = spikes[step, c, y, x]
    logits = []
    for klass in range(CLASSES):
        logit = 0
        for plane in range(7, -1, -1):
            row = row_of(engine, klass, plane)
            count = int((inputs == planes[row, :, 0, 0]).sum())
            logit = 2 * logit + count + int(entries[row])
        logits.append(logit)
    return logits


def entries_of(words, engine):
    slot = 32 if engine.current_width > 16 else 16
    return words.ravel().view(f"<i{slot // 4}")


@pytest.mark.parametrize("steps, passes", [(4, 1), (3, 1), (1, 1), (4, 2), (3, 4)])
def test_logits_of_counted_planes(engine, steps, passes):
    """Lanes beyond the steps are silent and count as well: the biases take that off."""
    steps, counted = min(steps, engine.steps), passes * engine.steps
    if passes > 1:
        steps = counted - engine.steps + steps
    weights, bias = readout()
    planes = planes_of(engine, weights)
    entries = entries_of(packing.logit_words(bias, planes, engine, passes), engine)
    rng = np.random.default_rng(steps)
    spikes = np.zeros((counted, SHAPE.channels, SHAPE.height, SHAPE.width), int)
    spikes[:steps] = rng.random(spikes[:steps].shape) < 0.3
    total = spikes.sum(0).ravel()
    expected = [
        sum((2 * int(w) + 1) * int(n) for w, n in zip(row, total, strict=True)) + 2 * int(b)
        for row, b in zip(weights, bias, strict=True)
    ]
    assert counted_logits(engine, planes, entries, spikes) == expected
    silent = counted_logits(engine, planes, entries, 0 * spikes)
    assert silent == (2 * bias).tolist()
    # One pass more, a neighbour's entry, and a plane taken for another one, are noticed.
    other = entries_of(packing.logit_words(bias, planes, engine, passes + 1), engine)
    assert counted_logits(engine, planes, other, spikes) != expected
    wrong = entries.copy()
    wrong[row_of(engine, 1, 0)] += 1
    assert counted_logits(engine, planes, wrong, spikes) != expected
    swapped = planes.copy()
    swapped[[row_of(engine, 2, 7), row_of(engine, 2, 3)]] = planes[
        [row_of(engine, 2, 3), row_of(engine, 2, 7)]
    ]
    assert counted_logits(engine, swapped, entries, spikes) != expected


@pytest.mark.parametrize("name", CUT)
def test_strips_of_planes_by_hand(name):
    """Word by word, with the lanes that count it: strip p has rows from p * rows on, of two."""
    engine = CUT[name]
    weights, _ = readout(4)
    planes, rows = planes_of(engine, weights), ROWS[engine.pixels]
    per_pixel = -(-SHAPE.channels // engine.simd)
    words = planes.reshape(len(planes), engine.pixels, rows, 2, per_pixel, engine.simd)
    real = np.zeros(words.shape[1:], bool)
    for strip, row, x, c in np.ndindex(engine.pixels, rows, 2, SHAPE.channels):
        y = strip * rows + row
        if y >= SHAPE.height:
            continue
        place = (strip, row, x, c // engine.simd, c % engine.simd)
        real[place] = True
        for klass in range(CLASSES):
            stored = int(weights[klass, (c * 3 + y) * 2 + x]) + 128
            bits = [int(words[(row_of(engine, klass, plane), *place)]) for plane in range(8)]
            assert bits == [stored >> plane & 1 for plane in range(8)]
    # What lies in no row of the map, or in none of its channels, agrees with no silence.
    assert words[:, ~real].all() and real.sum() == SHAPE.size


@pytest.mark.parametrize("passes", [1, 3, 4])
def test_entries_take_off_what_the_steps_count_not_the_lanes(passes):
    """One class and one input: planes that are -1 agree with silence, once for each step.

    The steps are those of the passes in use, however many the engine has.
    """
    for engine, steps in (
        (ENGINE, 4), (replace(ENGINE, passes=4), 4), (CUT["two strips"], 2),
        (replace(CUT["two strips"], passes=8), 2), (CUT["four strips"], 4),
    ):
        planes = packing.readout_planes(np.int8([[-3]]), Shape(1, 1, 1), 1, engine)
        entries = entries_of(packing.logit_words(np.array([11]), planes, engine, passes), engine)
        # -3 + 128 is 125: 130 are not in it.
        assert entries[row_of(engine, 0, 0)] == 22 - 130 * steps * passes
        assert not np.delete(entries, row_of(engine, 0, 0)).any()


def test_only_the_last_plane_of_a_class_has_an_entry(engine):
    weights, bias = readout()
    planes = planes_of(engine, weights)
    words = packing.logit_words(bias, planes, engine, 1)
    assert words.dtype == np.uint16 and len(words) % engine.pe == 0
    last = [row_of(engine, klass, 0) for klass in range(CLASSES)]
    entries = entries_of(words, engine)
    assert len(entries) == len(words)
    assert entries[last].all() and not np.delete(entries, last).any()


def test_integers_become_words_low_part_first():
    assert packing.to_words([0x1234, -1, -2], 16).tolist() == [0x1234, 0xFFFF, 0xFFFE]
    assert packing.to_words([0x123456789], 48).tolist() == [0x6789, 0x2345, 1]
    assert packing.to_words([-2], 32).tolist() == [0xFFFE, 0xFFFF]


def test_padding_is_up_to_a_multiple():
    array = np.ones((3, 5), int)
    assert packing.pad_to(array, 1, 4, 7).tolist() == [[1, 1, 1, 1, 1, 7, 7, 7]] * 3
    assert packing.pad_to(array, 0, 3, 7).tolist() == array.tolist()


def test_binary_words_bit_by_bit(engine):
    rng = np.random.default_rng(1)
    weights = rng.random((18, 33, 3, 3)) < 0.5
    words = packing.binary_words(weights, engine).view(np.uint8)
    depth = -(-33 // engine.simd)
    rows = np.unpackbits(words, bitorder="little").reshape(-1, engine.pe, engine.simd)
    assert len(rows) == -(-18 // engine.pe) * 9 * depth
    seen = np.zeros(rows.shape, bool)
    for o, i, ky, kx in np.ndindex(weights.shape):
        row = (o // engine.pe * 9 + ky * 3 + kx) * depth + i // engine.simd
        assert rows[row, o % engine.pe, i % engine.simd] == weights[o, i, ky, kx]
        seen[row, o % engine.pe, i % engine.simd] = True
    assert rows[~seen].all(), "padding that would agree with silence"


@pytest.mark.parametrize("width", [128, 32])
def test_byte_words_byte_by_byte(width):
    rng = np.random.default_rng(2)
    weights = rng.integers(-127, 128, (6, 3, 3, 2)).astype(np.int8)
    words = packing.byte_words(weights, ENGINE, width)
    rows = words.view(np.int8).reshape(-1, width // 8)
    assert len(rows) == 2 * 18
    for o, ky, kx, i in np.ndindex(weights.shape):
        row = o // 4 * 18 + (ky * 3 + kx) * 2 + i
        assert rows[row, o % 4] == weights[o, ky, kx, i]
    assert not rows[18:, 2:].any() and not rows[:, 4:].any()


@pytest.mark.parametrize("width, slot", [(8, 16), (16, 16), (17, 32), (18, 32)])
def test_channel_words_hold_bias_and_threshold(width, slot):
    engine = replace(ENGINE, current_width=width)
    assert packing.channel_slot_bits(engine) == slot
    words = packing.channel_words(np.array([-5, 3, 9]), np.array([7, 0xFFFF, 2]), engine)
    low_high = {
        16: [[0xFFFB, 7], [3, 0xFFFF], [9, 2], [0, 0]],
        32: [[0xFFFB, 0xFFFF, 7, 0], [3, 0, 0xFFFF, 0], [9, 0, 2, 0], [0] * 4],
    }
    assert words.tolist() == low_high[slot]


def test_tables_lie_as_they_are_written(engine):
    rng = np.random.default_rng(3)
    table = rng.integers(-(1 << 15), 1 << 15, (11, 3, 5))
    words = packing.table_words(table, engine).view(np.int16)
    assert len(words) == -(-11 // engine.pe) * engine.pe * 15
    seen = np.zeros(len(words), bool)
    for c, row, column in np.ndindex(table.shape):
        group, unit = divmod(c, engine.units)
        place = (group * 15 + row * 5 + column) * engine.units + unit
        assert words[place] == table[c, row, column]
        seen[place] = True
    assert not words[~seen].any()
