"""Networks of more time steps than an engine has at once: a plane of spikes for each pass."""

from dataclasses import replace

import numpy as np
import pytest

from sw.engine import Engine, EngineError
from sw.program import Region, compile_program, region_words
from sw.record import (
    EVERY_FIELD,
    Field,
    field_bits,
    field_words,
    fields,
    record_stride,
    record_words,
)
from tests.support import random_image, record_fields
from tests.sw.test_program import NETWORK as TINY

NETWORK = TINY.replace(T=5)
#: Two steps in each of four passes; words of 32 bits.
PASSES = Engine(
    pe=8, simd=16, lanes=2, passes=4, weight_depth=512, spike_depth=256, frame_depth=64,
    channel_depth=128, mean_depth=256, current_width=18,
)
#: The same of two strips; words of 64 bits.
STRIPS = replace(PASSES, lanes=4, pixels=2)
#: A core for the stem besides; words of 64 bits.
ALONE = replace(PASSES, simd=32, units=2)
CORES = replace(ALONE, stem=ALONE.stem_core(
    pe=8, units=1, weight_depth=64, channel_depth=16, mean_depth=128
))
ENGINES = {"passes": PASSES, "strips": STRIPS, "cores": CORES}


def image_of(T, gain="frozen"):
    return random_image(NETWORK.replace(T=T), gain=gain)


def compiled(engine, T=5, gain="frozen"):
    return compile_program(image_of(T, gain), engine)


def record_of(program, index):
    """The record of a layer: its fields, and the words behind them."""
    region, engine = Region.PROGRAM, program.engine
    if engine.stem:
        region, index = (Region.PROGRAM, index - 1) if index else (Region.STEM_PROGRAM, 0)
    row = program.regions[region].reshape(-1, record_stride(engine))[index]
    return record_fields(engine, row), row[field_words(engine) :].tolist()


@pytest.mark.parametrize("engine, places, words", [
    (PASSES, [(22, 0), (23, 0), (24, 0)], 25),
    # Halos leave six bits of their last word.
    (STRIPS, [(19, 10), (20, 0), (21, 0)], 22),
    (CORES.stem, [(22, 0), (23, 0), (24, 0)], 25),
], ids=ENGINES)
def test_fields_of_passes_are_behind_all_others(engine, places, words):
    widths = dict(first_pass=4, in_plane=16, out_plane=16)
    last = [
        Field(name, bits, *place)
        for (name, bits), place in zip(widths.items(), places, strict=True)
    ]
    single = replace(engine, passes=1)
    assert fields(engine) == (*fields(single), *last)
    assert field_words(engine) == words
    assert not set(widths) & {field.name for field in fields(single)}
    assert fields(replace(engine, passes=2)) == fields(engine)


def test_every_field_is_listed_once():
    names = [field.name for field in EVERY_FIELD]
    assert len(names) == len(set(names))
    engines = (*ENGINES.values(), replace(PASSES, stream_depth=2))
    assert set(names) == {field.name for engine in engines for field in fields(engine)}
    assert names[-3:] == ["first_pass", "in_plane", "out_plane"]


@pytest.mark.parametrize("engine, used, stride", [
    (PASSES, {1: 25 + 2, 3: 25 + 6, 4: 25 + 8}, 64),
    (replace(PASSES, passes=2), {1: 27, 2: 29}, 32),
    (replace(PASSES, passes=1), {1: 22 + 2}, 32),
    (STRIPS, {1: 22 + 4, 4: 22 + 16}, 64),
    (replace(STRIPS, passes=2), {2: 22 + 8}, 32),
    (replace(STRIPS, lanes=4, pixels=4, passes=16), {16: 22 + 64}, 128),
])
def test_records_have_gains_of_every_pass(engine, used, stride):
    for passes, words in used.items():
        assert record_words(engine, passes) == words
    assert record_words(engine) == record_words(engine, 1)
    # There is room for all passes, whatever a network uses.
    assert record_stride(engine) == stride
    assert region_words(engine)[Region.PROGRAM] == 8 * stride


def test_both_cores_have_room_for_gains_of_every_pass():
    assert region_words(CORES)[Region.STEM_PROGRAM] == 2 * 64
    assert region_words(CORES)[Region.PROGRAM] == 8 * 64


@pytest.mark.parametrize("changes, first_pass, plane", [
    (dict(), 2, 8), (dict(passes=2), 1, 8), (dict(spike_depth=257), 2, 9),
    (dict(pe=16, lanes=1, simd=32, passes=16), 4, 8), (dict(spike_depth=65536), 2, 16),
])
def test_bits_that_an_engine_keeps(changes, first_pass, plane):
    bits = field_bits(replace(PASSES, **changes))
    assert [bits[name] for name in ("first_pass", "in_plane", "out_plane")] == [
        first_pass, plane, plane
    ]


#: Of T = 5: three of the four passes, with one step in the last. The stem's map has 35 words a
#: pass, the convolutions' 6, from word 1 on and up to word 256.
STEM_RECORD = dict(
    kind=0, leak_shift=1, pool=0, exact_gain=0, mean_next=0, stride=1, padding=1, kernel_last=2,
    step_mask=0b01, start=(1 << 32) - 15 - 3, row_jump=15 - 9 + 1, x_step=3, y_step=15,
    in_height=7, in_width=5, depth_last=2, tiles_last=0, channels=5,
    out_height_last=6, out_width_last=4, out_base=1, weight_base=0, channel_base=0,
    first_pass=1, in_plane=0, out_plane=35,
)
CONV_RECORD = dict(
    kind=1, leak_shift=1, pool=1, exact_gain=0, mean_next=0, stride=1, padding=1, kernel_last=2,
    step_mask=0b01, start=(1 << 32) + 1 - 5 - 1, row_jump=5 - 3 + 1, x_step=1, y_step=5,
    in_height=7, in_width=5, depth_last=0, tiles_last=1, channels=10,
    out_height_last=2, out_width_last=1, out_base=255 - 3 * 6, weight_base=27, channel_base=8,
    first_pass=1, in_plane=35, out_plane=6,
)
#: The next one lies where the stem's map was.
NEXT_RECORD = CONV_RECORD | dict(
    pool=0, padding=0, kernel_last=0, start=255 - 3 * 6, row_jump=2, y_step=2, in_height=3,
    in_width=2, channels=9, out_base=1, weight_base=27 + 18, channel_base=8 + 16, in_plane=6,
)
#: Its input is the map in each pass, of one pixel.
READOUT_RECORD = dict.fromkeys(CONV_RECORD, 0) | dict(
    kind=2, leak_shift=1, stride=1, step_mask=0b01, start=1, in_height=3, in_width=1, depth_last=5,
    tiles_last=5, channels=6, out_base=255 - 6, weight_base=27 + 18 + 2,
    channel_base=8 + 16 + 16, first_pass=1, in_plane=6, out_plane=0,
)
#: Strips of 4 rows and two of a halo, then of 2. The frame's are 4 rows of 15 bytes apart.
STRIPS_RECORDS = [
    STEM_RECORD | dict(
        step_mask=0b01_01, out_height_last=3, out_base=1 + 5, out_plane=30,
        strip_jump=60, strip_words=20, strip_rows=4, full_strips=1, full_rows=3,
        halo_above=1, halo_below=1,
    ),
    CONV_RECORD | dict(
        step_mask=0b01_01, start=1 - 1, in_height=6, out_height_last=1, out_base=255 - 3 * 4,
        in_plane=30, out_plane=4,
        strip_jump=0, strip_words=4, strip_rows=4, full_strips=1, full_rows=1,
        halo_above=0, halo_below=0,
    ),
    NEXT_RECORD | dict(
        step_mask=0b01_01, start=255 - 3 * 4, in_height=2, out_height_last=1, in_plane=4,
        out_plane=4,
        strip_jump=0, strip_words=4, strip_rows=2, full_strips=1, full_rows=1,
        halo_above=0, halo_below=0,
    ),
    # Each pass is both strips, each of them one pixel.
    READOUT_RECORD | dict(step_mask=0b01_01, in_height=3 * 2, depth_last=3, in_plane=4)
    | dict.fromkeys(
        ("strip_jump", "strip_words", "strip_rows", "full_strips", "full_rows", "halo_above",
         "halo_below"), 0
    ),
]
NO_MEANS = dict.fromkeys(
    ("mean_base", "mean_classes", "mean_classes_x", "mean_shift", "mean_low_y", "mean_middle_y",
     "mean_high_y", "mean_low_x", "mean_middle_x", "mean_high_x", "mean_offset"), 0
)
PASSES_RECORDS = [
    record | NO_MEANS for record in (STEM_RECORD, CONV_RECORD, NEXT_RECORD, READOUT_RECORD)
]


@pytest.mark.parametrize("engine, records", [(PASSES, PASSES_RECORDS), (STRIPS, STRIPS_RECORDS)],
                         ids=["passes", "strips"])
def test_records_by_hand(engine, records):
    program = compiled(engine)
    for index, record in enumerate(records):
        assert record_of(program, index)[0] == record


def test_both_cores_know_the_pass_and_the_planes():
    program = compiled(CORES)
    names = "first_pass", "in_plane", "out_plane", "step_mask"
    records = [record_of(program, index)[0] for index in range(4)]
    assert [[record[name] for name in names] for record in records] == [
        [1, 0, 35, 1], [1, 35, 6, 1], [1, 6, 6, 1], [1, 6, 0, 1],
    ]


@pytest.mark.parametrize("T, passes, mask, mask_of_two", [
    (1, 1, 0b01, 0b01_01), (2, 1, 0b11, 0b11_11), (3, 2, 0b01, 0b01_01), (4, 2, 0b11, 0b11_11),
    (5, 3, 0b01, 0b01_01), (7, 4, 0b01, 0b01_01), (8, 4, 0b11, 0b11_11),
])
def test_the_last_pass_is_number_three(T, passes, mask, mask_of_two):
    """The mask is that of its steps alone: all others are in use."""
    for engine, steps, height in ((PASSES, mask, passes), (STRIPS, mask_of_two, 2 * passes)):
        program = compiled(engine, T)
        for index in range(4):
            record = record_of(program, index)[0]
            assert record["first_pass"] == 4 - passes and record["step_mask"] == steps
        assert record_of(program, 3)[0]["in_height"] == height


def test_a_pass_of_one_step_is_in_use_in_every_strip():
    engine = replace(STRIPS, pixels=4, passes=16, spike_depth=512)
    for T in (1, 5, 16):
        record = record_of(compiled(engine, T), 3)[0]
        assert (record["step_mask"], record["first_pass"]) == (0b1111, 16 - T)
        assert record["in_height"] == 4 * T


def in_order(engine, gains):
    """Two gains a pass, of each strip; 256 is one, for the step that is too many."""
    pairs = list(zip([*gains, 256][::2], [*gains, 256][1::2], strict=True))
    return [gain for pair in pairs for _ in range(engine.pixels) for gain in pair]


@pytest.mark.parametrize("name", ENGINES)
def test_gains_are_in_order_of_the_passes(name):
    """First those of the first pass in use, strip by strip; then nothing."""
    engine, image = ENGINES[name], image_of(5)
    program = compiled(engine)
    used = 12 if engine is STRIPS else 6
    for index in range(4):
        words = record_of(program, index)[1]
        gains = [256] * 5
        if index in (1, 2):
            gains = image.layers[index].gain.tolist()
            assert len(set(gains)) == 5
        words, rest = np.array(words[:used], np.uint16).view(np.int16), words[used:]
        assert words.tolist() == in_order(engine, gains) and len(words) == used
        assert not any(rest)


def test_gains_in_order_by_hand():
    assert in_order(PASSES, [1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5, 256]
    assert in_order(STRIPS, [1, 2, 3, 4, 5]) == [1, 2, 1, 2, 3, 4, 3, 4, 5, 256, 5, 256]


#: By engine and T: first spike words, and words, of every layer's output. Logits have no passes.
BOUNDARIES = {
    ("passes", 2): [(1, 35), (249, 6), (1, 6), (249, 6)],
    ("passes", 5): [(1, 105), (237, 18), (1, 18), (249, 6)],
    ("passes", 8): [(1, 140), (231, 24), (1, 24), (249, 6)],
    # 6 rows of 5 are stored of a strip, then 2 of 2.
    ("strips", 2): [(1, 30), (251, 4), (1, 4), (249, 6)],
    ("strips", 5): [(1, 90), (243, 12), (1, 12), (249, 6)],
    ("strips", 8): [(1, 120), (239, 16), (1, 16), (249, 6)],
    # The last 105 words are the stem's, but for words 254 and 255; a word holds two logits.
    ("cores", 5): [(2, 105), (131, 18), (2, 18), (146, 3)],
    # 140 words twice are too many: there it does not work ahead.
    ("cores", 7): [(2, 140), (230, 24), (2, 24), (251, 3)],
}


@pytest.mark.parametrize("name, T", BOUNDARIES)
def test_boundaries_have_a_plane_for_each_pass(name, T):
    program, bank = compiled(ENGINES[name], T), 2 if name == "passes" else 4
    assert program.boundaries == tuple(first for first, _ in BOUNDARIES[name, T])
    for index, (first, words) in enumerate(BOUNDARIES[name, T]):
        assert program.boundary_words(index) == (first * bank, words * bank)
        other = 256 - first - words if name == "cores" else first
        assert program.boundary_words(index, 1) == (other * bank, words * bank)


def test_planes_leave_less_room_to_work_ahead():
    """Both of the stem's maps and conv1's: 105 + 105 + 18 words, then 140 + 140 + 24, of 252."""
    assert compiled(CORES, 5).run_network()[0] == 0x64
    assert compiled(CORES, 6).ahead
    assert not compiled(CORES, 7).ahead
    assert compiled(CORES, 7).run_network()[0] == 0x04


@pytest.mark.parametrize("number, row, strip, step, real", [
    (0, 1, 0, 0, True), (0, 1, 0, 1, True), (1, 1, 0, 0, True), (1, 4, 0, 1, True),
    (2, 1, 0, 0, True), (2, 3, 1, 0, True), (1, 3, 1, 1, True),
    (2, 1, 0, 1, False), (2, 3, 1, 1, False),  # the sixth step, of five
    (1, 4, 1, 0, False),  # the last row of the second strip, beyond the map
    (2, 0, 0, 0, None), (2, 5, 0, 1, None), (1, 0, 1, 0, None), (0, 5, 1, 1, None),  # in a halo
])
def test_one_spike_of_a_pass_of_strips(number, row, strip, step, real):
    """Of the stem's map: planes of 6 rows of 5 words of 16 channels of 2 strips of 2 steps."""
    program = compiled(STRIPS)
    words = np.zeros(program.boundary_words(0)[1], np.uint16)
    assert len(words) == 3 * 6 * 5 * 4
    place = (((number * 6 + row) * 5 + 3) * 16 + 4) * 4 + 2 * strip + step
    words[place // 16] = 1 << place % 16
    if real is False:
        with pytest.raises(EngineError, match=r"^1 spikes where layer 0 has none$"):
            program.unpack_boundary(0, words)
        return
    spikes = program.unpack_boundary(0, words)
    assert spikes.shape == (5, 5, 7, 5)
    expected = [[2 * number + step, 4, 4 * strip + row - 1, 3]] if real else []
    assert np.argwhere(spikes).tolist() == expected


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("number, step, channel, real", [
    (0, 0, 0, True), (0, 1, 9, True), (1, 0, 3, True), (2, 0, 9, True), (2, 1, 9, False),
    (1, 1, 10, False),
])
def test_one_spike_of_a_pass_on_either_side(number, step, channel, real, side):
    """Of conv1's map: planes of 6 words of 32 channels of 2 steps; on side 1 last word first."""
    program = compiled(CORES)
    words = np.zeros((3 * 6, 4), np.uint16)
    assert program.boundary_words(1, side)[1] == words.size
    word, bit = number * 6 + 2 * 2 + 1, channel * 2 + step
    words[17 - word if side else word, bit // 16] = 1 << bit % 16
    if not real:
        with pytest.raises(EngineError, match=r"^1 spikes where layer 1 has none$"):
            program.unpack_boundary(1, words.ravel(), side)
        return
    spikes = program.unpack_boundary(1, words.ravel(), side)
    assert np.argwhere(spikes).tolist() == [[2 * number + step, channel, 2, 1]]


@pytest.mark.parametrize("side", [0, 1])
def test_logits_have_no_passes(side):
    program = compiled(CORES, 8)
    logits = np.array([-1, 0, 5, -(1 << 31), (1 << 31) - 1, 77], np.int32)
    words = np.zeros((3, 4), np.uint16)
    words[:] = logits.view(np.uint16).reshape(3, 4)[:: -1 if side else 1]
    assert program.unpack_boundary(3, words.ravel(), side).tolist() == logits.tolist()


def refused(message, engine, T, gain="frozen"):
    with pytest.raises(EngineError, match=f"^tiny does not fit: {message}$") as raised:
        compiled(engine, T, gain)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name, engine, T", [
    ("2 lanes in 4 passes", PASSES, 8), ("2 lanes in 2 passes", replace(PASSES, passes=2), 4),
    ("2 lanes in 1 pass", replace(PASSES, passes=1), 2), ("2 lanes in 4 passes", CORES, 8),
    ("2 lanes for each pixel in 4 passes", STRIPS, 8),
    ("1 lanes for each pixel in 4 passes", replace(STRIPS, pixels=4), 4),
    ("2 lanes for each pixel in 1 pass", replace(STRIPS, passes=1), 2),
])
def test_steps_need_lanes_or_passes(name, engine, T):
    compiled(engine, T)
    refused(f"T={T + 1}, the engine has {name}", engine, T + 1)


@pytest.mark.parametrize("name", ["passes", "cores"])
@pytest.mark.parametrize("T, passes", [(1, 1), (3, 2), (5, 3), (8, 4)])
def test_exact_gains_have_a_factor_for_every_step(name, T, passes):
    image = image_of(T, "exact")
    program = compile_program(image, ENGINES[name])
    for index in (1, 2):
        record, words = record_of(program, index)
        assert record["exact_gain"] == 1 and record["first_pass"] == 4 - passes
        factors = np.array(words[:T], np.uint16).view(np.int16).tolist()
        assert factors == image.layers[index].agmm.factor.tolist()
        # Steps of the last pass that are masked.
        assert words[T : 2 * passes] == [256] * (2 * passes - T) and not any(words[2 * passes :])


def test_strips_have_no_exact_gains_in_any_pass():
    for T in (2, 5):
        message = "the engine has no exact gains, export with --gain frozen"
        refused(message, STRIPS, T, "exact")
        compiled(STRIPS, T)


@pytest.mark.parametrize("T", [2, 5])
def test_a_network_without_gains_runs_in_any_pass(T):
    network = NETWORK.replace(T=T, neuron="vanilla")
    for engine in ENGINES.values():
        program = compile_program(random_image(network), engine)
        assert record_of(program, 2)[0]["first_pass"] == {2: 3, 5: 1}[T]


@pytest.mark.parametrize("engine, words", [(PASSES, 35 + 6), (STRIPS, 30 + 4)],
                         ids=["passes", "strips"])
def test_planes_take_room(engine, words):
    """The stem's map and conv1's, in each pass; the first and the last word are nobody's."""
    for T, passes in ((2, 1), (3, 2), (8, 4)):
        compiled(replace(engine, spike_depth=passes * words + 2), T)
        message = (
            f"conv1 needs {passes * words} spike words for its input and output, the engine has"
            f" {passes * words - 1}"
        )
        refused(message, replace(engine, spike_depth=passes * words + 1), T)


@pytest.mark.parametrize("gain", ["exact", "frozen"])
@pytest.mark.parametrize("name", ["passes", "cores"])
def test_a_single_pass_is_as_without_passes(name, gain):
    """The same words but for the program, where it is number three; exact gains as well."""
    engine = ENGINES[name]
    without = replace(engine, passes=1, stem=engine.stem and replace(engine.stem, passes=1))
    image = image_of(2, gain)
    program, expected = (compile_program(image, each) for each in (engine, without))
    assert (program.boundaries, program.ahead) == (expected.boundaries, expected.ahead)
    assert set(program.regions) == set(expected.regions)
    for region in set(program.regions) - {Region.PROGRAM, Region.STEM_PROGRAM}:
        assert program.regions[region].tolist() == expected.regions[region].tolist()
    for index in range(4):
        record, words = record_of(program, index)
        single, words_without = record_of(expected, index)
        assert {key: record.pop(key) for key in ("first_pass", "in_plane", "out_plane")} == dict(
            first_pass=3, in_plane=[0, 35, 6, 6][index], out_plane=[35, 6, 6, 0][index]
        )
        assert record == single and record["exact_gain"] == (gain == "exact" and index in (1, 2))
        assert words[:2] == words_without[:2] and not any(words[2:])
        if gain == "exact" and index in (1, 2):
            factors = np.array(words[:2], np.uint16).view(np.int16).tolist()
            assert factors == image.layers[index].agmm.factor.tolist()
