"""Networks laid out for an engine: what every word holds, and what does not fit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sw import formats
from sw.bounds import bounds
from sw.engine import ENGINES, Engine, EngineError
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.packing import channel_slot_bits
from sw.program import Region, compile_program, region_words, stamp_address
from sw.protocol import COMMAND_BYTES, Opcode
from sw.record import (
    MAP_LIMIT,
    Kind,
    field_bits,
    field_words,
    fields,
    record_stride,
    record_words,
)
from tests.support import BOARD_ENGINES, random_frames, random_image, record_fields

NETWORK = Network(
    "tiny", Shape(3, 7, 5), [Stem(5), Conv(10, pool=2), Conv(9, kernel=1), Readout(6)], T=3
)
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=512, spike_depth=128, frame_depth=64, channel_depth=128,
    mean_depth=256,
)
WIDE = replace(ENGINE, pe=8, simd=16, current_width=18)
PAIRS = replace(WIDE, units=2)
#: A second core, for the stem, folded otherwise.
CORES = replace(PAIRS, stem=PAIRS.stem_core(
    pe=4, units=1, weight_depth=64, channel_depth=16, mean_depth=128
))
ENGINES_TESTED = {
    "narrow": ENGINE, "wide": WIDE, "pairs": PAIRS,
    "fours": replace(WIDE, pe=16, simd=32, units=4), "cores": CORES,
    **{name: engine for name, engine in BOARD_ENGINES.items() if engine.exact_gain},
}
#: Maps cut into strips, of four steps each.
STRIPS = replace(WIDE, lanes=8, pixels=2)
FOUR_STRIPS = replace(WIDE, lanes=16, pixels=4)
ENGINES_WITH_STRIPS = {
    "two strips": STRIPS, "four strips": FOUR_STRIPS,
    "strips and pairs": replace(STRIPS, units=2, lanes=16),
}
#: Several passes, by engine: how many the three steps of NETWORK take.
PASSES_USED = {
    replace(WIDE, lanes=2, passes=4): 2,
    replace(WIDE, simd=32, lanes=1, pe=16, passes=16): 3,
    replace(STRIPS, lanes=4, passes=2): 2,
    replace(FOUR_STRIPS, lanes=4, units=2, simd=32, passes=4): 3,
    replace(CORES, simd=32, lanes=2, passes=2, stem=replace(
        PAIRS, simd=32, lanes=2, passes=2
    ).stem_core(pe=8, units=1, weight_depth=64, channel_depth=16, mean_depth=128)): 2,
}
ENGINES_WITH_PASSES = dict(zip((
    "passes of two steps", "passes of one step", "passes and two strips", "passes and four strips",
    "passes and cores",
), PASSES_USED, strict=True))
#: By pixels: rows of the strips of what each layer but the readout writes. A 3x3 kernel reads the
#: stem's map, which thus has a row more above and below; a 1x1 kernel and the readout the others.
ROWS = {1: (7, 3, 3), 2: (4, 2, 2), 4: (2, 1, 1)}


def halo_of(engine, index):
    """Rows above each strip of what a layer writes, and as many below."""
    return int(engine.pixels > 1 and index == 0)


def image_of(engine):
    return random_image(NETWORK, gain="exact" if engine.exact_gain else "frozen")


ALL_ENGINES = ENGINES_TESTED | ENGINES_WITH_STRIPS | ENGINES_WITH_PASSES


@pytest.fixture(params=ALL_ENGINES)
def program(request):
    engine = ALL_ENGINES[request.param]
    return compile_program(image_of(engine), engine)


@pytest.fixture(params=ENGINES_TESTED)
def whole(request):
    """Of an engine without strips."""
    return compile_program(random_image(NETWORK), ENGINES_TESTED[request.param])


def place_of(program, index):
    """Core of a layer, its number in that core's program, and the core's regions by main name."""
    engine, regions = program.engine, program.regions
    if engine.stem is None:
        return engine, index, regions
    if index:
        return engine, index - 1, regions
    return engine.stem, 0, {
        Region.WEIGHTS: regions[Region.STEM_WEIGHTS], Region.MEANS: regions[Region.STEM_MEANS],
        Region.CHANNELS: regions[Region.STEM_CHANNELS],
        Region.PROGRAM: regions[Region.STEM_PROGRAM],
    }


def fields_of(program, index):
    """The record of a layer, bit by bit: fields and gains."""
    core, number, regions = place_of(program, index)
    row = regions[Region.PROGRAM].reshape(-1, record_stride(core))[number]
    values = record_fields(core, row)
    return values, row[field_words(core) : record_words(core)].view(np.int16).tolist()


def test_regions_fit_their_memories(program):
    sizes = region_words(program.engine)
    assert set(program.regions) == set(sizes) - {Region.FRAME}
    for region, words in program.regions.items():
        assert words.dtype == np.uint16 and len(words) <= sizes[region]
        assert len(words)
    assert not program.regions[Region.SPIKES].any()
    assert len(program.regions[Region.SPIKES]) == program.engine.simd * program.engine.lanes // 16
    assert (program.frame_region, program.frame_address) == (Region.FRAME, 0)
    frame = program.pack_frame(random_frames(program.network, 1)[0].numpy())
    assert 0 < len(frame) <= sizes[Region.FRAME]


def test_regions_by_hand():
    narrow = {
        "SPIKES": 128 * 2, "WEIGHTS": 512 * 2, "CHANNELS": 128 * 2, "MEANS": 256, "SIGMOID": 512,
        "PROGRAM": 8 * 32, "FRAME": 64,
    }
    assert {region.name: words for region, words in region_words(ENGINE).items()} == narrow
    assert {region.name: words for region, words in region_words(CORES).items()} == {
        **narrow, "SPIKES": 128 * 4, "WEIGHTS": 512 * 8, "CHANNELS": 128 * 4,
        "STEM_WEIGHTS": 64 * 2, "STEM_CHANNELS": 16 * 4, "STEM_MEANS": 128, "STEM_PROGRAM": 2 * 32,
    }
    # Without exact gains there is nothing to compute them from.
    assert {region.name: words for region, words in region_words(STRIPS).items()} == {
        "SPIKES": 128 * 8, "WEIGHTS": 512 * 8, "CHANNELS": 128 * 4, "PROGRAM": 8 * 32, "FRAME": 64,
    }
    assert all(region.of_stem.name == f"STEM_{region.name}" for region in (
        Region.WEIGHTS, Region.CHANNELS, Region.MEANS, Region.PROGRAM
    ))


def test_binary_weights_bit_by_bit(program):
    engine, image = program.engine, image_of(program.engine)
    weights, base = image.layers[1].weights, fields_of(program, 1)[0]["weight_base"]
    bits = np.unpackbits(program.regions[Region.WEIGHTS].view(np.uint8), bitorder="little")
    words = bits.reshape(-1, engine.pe, engine.simd)
    for o, i, ky, kx in np.ndindex(weights.shape):
        row = base + (o // engine.pe * 3 + ky) * 3 + kx  # one input word: 5 channels
        assert words[row, o % engine.pe, i] == weights[o, i, ky, kx]


def test_stem_weights_byte_by_byte(program):
    core, _, regions = place_of(program, 0)
    # Words of the main core are those of its array, of which the stem uses the low part.
    width = 8 * core.pe if program.engine.stem else core.pe * core.simd
    rows = regions[Region.WEIGHTS].view(np.int8).reshape(-1, width // 8)[:, : core.pe]
    assert fields_of(program, 0)[0]["weight_base"] == 0
    stem = random_image(NETWORK).layers[0].weights
    for o, i, ky, kx in np.ndindex(stem.shape):
        row = o // core.pe * 27 + (ky * 3 + kx) * 3 + i
        assert rows[row, o % core.pe] == stem[o, i, ky, kx]


def test_readout_weights_plane_by_plane(program):
    engine, image = program.engine, image_of(program.engine)
    fields, _ = fields_of(program, 3)
    bits = np.unpackbits(program.regions[Region.WEIGHTS].view(np.uint8), bitorder="little")
    words = bits.reshape(-1, engine.pe, engine.simd)[fields["weight_base"] :].astype(int)
    height, width = NETWORK.shapes[3].height, NETWORK.shapes[3].width
    per_pixel = -(-9 // engine.simd)
    # Strip after strip of as many rows: those of the map in their order, then some beyond it.
    strip_words = ROWS[engine.pixels][2] * width * per_pixel
    tile_words = engine.pixels * strip_words
    sets = -(-6 // engine.units)
    assert fields["tiles_last"] + 1 == -(-sets * 8 * engine.units // engine.pe)
    assert fields["depth_last"] + 1 == strip_words
    assert len(words) == (fields["tiles_last"] + 1) * tile_words
    for o, i, y, x in np.ndindex(6, 9, height, width):
        value = 0
        for plane in range(8):
            group = o // engine.units * 8 + 7 - plane
            tile, channel = divmod(group * engine.units + o % engine.units, engine.pe)
            word = (y * width + x) * per_pixel + i // engine.simd
            bit = words[tile * tile_words + word, channel, i % engine.simd]
            value += 2**plane * (2 * bit - 1)
        stored = int(image.layers[3].weights[o, (i * height + y) * width + x])
        assert value == 2 * stored + 1


def test_channels_hold_bias_and_threshold(program):
    image, slot = image_of(program.engine), channel_slot_bits(program.engine)
    for index, (layer, data) in enumerate(zip(NETWORK.layers, image.layers, strict=True)):
        if isinstance(layer, Readout):
            continue
        core, _, regions = place_of(program, index)
        words = regions[Region.CHANNELS].view(f"<i{slot // 8}").reshape(-1, 2)
        base = fields_of(program, index)[0]["channel_base"]
        bias = data.bias
        if isinstance(layer, Conv):
            bias = bias - 16 * (~data.weights).sum((1, 2, 3))
        rows = words[base : base + layer.channels]
        assert rows[:, 0].tolist() == bias.tolist()
        assert (rows[:, 1].astype(int) & (1 << slot) - 1).tolist() == data.threshold.tolist()
        silent = words[base + layer.channels : base + -(-layer.channels // core.pe) * core.pe]
        assert not silent.any()


def test_channels_hold_the_biases_of_logits(program):
    """Doubled, less what steps that all count would add for nothing, beside the last plane."""
    engine, data = program.engine, image_of(program.engine).layers[3]
    slot = channel_slot_bits(engine)
    base = fields_of(program, 3)[0]["channel_base"]
    entries = program.regions[Region.CHANNELS].view(f"<i{slot // 4}")[base:]
    expected = np.zeros(len(entries), int)
    for o, weights in enumerate(data.weights.astype(int).tolist()):
        # An input that is 0 agrees with every plane of -1: those of the zeros in w + 128.
        counted = sum(255 - (w + 128) for w in weights)
        row = (o // engine.units * 8 + 7) * engine.units + o % engine.units
        expected[row] = 2 * data.bias[o] - PASSES_USED.get(engine, 1) * engine.steps * counted
    assert entries.tolist() == expected.tolist()


def test_means_hold_the_position_tables(whole):
    image = random_image(NETWORK)
    for index in (0, 1):
        core, _, regions = place_of(whole, index)
        words = regions[Region.MEANS].view(np.int16)
        fields, table = fields_of(whole, index)[0], image.layers[index + 1].agmm.table
        classes = fields["mean_classes"]
        assert fields["mean_next"] == 1 and classes == table[0].size
        tiled = -(-len(table) // core.pe) * core.pe
        stored = words[fields["mean_base"] * core.units :][: tiled * classes]
        # Channels that are written together lie together.
        stored = stored.reshape(-1, classes, core.units).transpose(0, 2, 1).reshape(tiled, -1)
        assert np.array_equal(stored[: len(table)], table.reshape(len(table), -1))
        assert not stored[len(table) :].any()


def test_records_of_layers(whole):
    image, simd = random_image(NETWORK), whole.engine.simd
    # Elements of an input pixel: bytes of the frame, then words.
    depths = [3, -(-5 // simd), -(-10 // simd)]
    for index, (layer, data) in enumerate(zip(NETWORK.layers, image.layers, strict=True)):
        fields, gains = fields_of(whole, index)
        shape = NETWORK.shapes[index]
        assert fields["kind"] == Kind[type(layer).__name__.upper()]
        assert fields["step_mask"] == 0b111 and fields["leak_shift"] == 1
        assert fields["pool"] == (index == 1) and fields["exact_gain"] == (index in (1, 2))
        assert fields["out_base"] == whole.boundaries[index]
        start = whole.boundaries[index - 1] if index else 0
        if isinstance(layer, Readout):
            assert fields["in_height"] == fields["in_width"] == 1
        else:
            depth = depths[index]
            assert (fields["in_height"], fields["in_width"]) == (shape.height, shape.width)
            assert fields["depth_last"] == depth - 1
            start -= layer.padding * (shape.width + 1) * depth
        assert fields["start"] == start & 0xFFFFFFFF
        if data.agmm is not None:
            assert gains[:3] == data.agmm.factor.tolist()
            assert fields["mean_shift"] == data.agmm.shift
            assert fields["mean_offset"] == data.agmm.offset & 0xFFFFFFFF
        else:
            assert gains == [256] * whole.engine.lanes
    assert whole.regions[Region.SIGMOID].tolist() == formats.sigmoid_table()


def test_frozen_gains_are_in_the_record():
    image = random_image(NETWORK, gain="frozen")
    program = compile_program(image, ENGINE)
    cores = compile_program(image, CORES)
    for index in (1, 2):
        for compiled in (program, cores):
            fields, gains = fields_of(compiled, index)
            assert gains[:3] == image.layers[index].gain.tolist() and not fields["exact_gain"]
    assert len(program.regions[Region.MEANS]) == 0
    assert len(cores.regions[Region.MEANS]) == len(cores.regions[Region.STEM_MEANS]) == 0


#: A stem and a convolution of two strips, of 4 rows and of 2. The frame has rows of 15 bytes; the
#: stem's map rows of 5 words, of which strips store 6. Lanes 3 and 7 are beyond the steps.
STEM_RECORD = dict(
    kind=0, leak_shift=1, pool=0, exact_gain=0, mean_next=0, stride=1, padding=1, kernel_last=2,
    step_mask=0b0111_0111, start=(1 << 32) - 15 - 3, row_jump=15 - 9 + 1, x_step=3, y_step=15,
    in_height=7, in_width=5, depth_last=2, tiles_last=0, channels=5,
    # The first word is nobody's, and a row of the halo is above.
    out_height_last=3, out_width_last=4, out_base=1 + 5, weight_base=0, channel_base=0,
    strip_jump=4 * 15, strip_words=4 * 5, strip_rows=4,
    full_strips=1, full_rows=3, halo_above=1, halo_below=1,
)
CONV_RECORD = dict(
    kind=1, leak_shift=1, pool=1, exact_gain=0, mean_next=0, stride=1, padding=1, kernel_last=2,
    # From the first word of the halo, and a column to the left of that.
    step_mask=0b0111_0111, start=1 - 1, row_jump=5 - 3 + 1, x_step=1, y_step=5,
    in_height=6, in_width=5, depth_last=0, tiles_last=1, channels=10,
    out_height_last=1, out_width_last=1, out_base=127 - 4, weight_base=27, channel_base=8,
    strip_jump=0, strip_words=2 * 2, strip_rows=4,
    full_strips=1, full_rows=1, halo_above=0, halo_below=0,
)
#: Its input is both strips, one pixel high and wide each. Nothing is left to cut.
READOUT_RECORD = dict.fromkeys(CONV_RECORD, 0) | dict(
    kind=2, leak_shift=1, stride=1, step_mask=0b0111_0111, start=1, in_height=2, in_width=1,
    depth_last=2 * 2 - 1, tiles_last=5, channels=6, out_base=127 - 6, weight_base=27 + 18 + 2,
    channel_base=8 + 16 + 16,
)
#: Four strips, of 2 rows and of 1: three of the stem's are full, three of the convolution's.
FOUR_RECORDS = {
    0: STEM_RECORD | dict(
        step_mask=0x7777, out_height_last=1, strip_jump=30, strip_words=10, strip_rows=2,
        full_strips=3, full_rows=1,
    ),
    1: CONV_RECORD | dict(
        step_mask=0x7777, in_height=4, out_height_last=0, out_base=127 - 2, strip_words=2,
        strip_rows=2, full_strips=3, full_rows=0,
    ),
    3: READOUT_RECORD | dict(step_mask=0x7777, in_height=4, depth_last=1),
}


@pytest.mark.parametrize("engine, records", [
    (STRIPS, {0: STEM_RECORD, 1: CONV_RECORD, 3: READOUT_RECORD}), (FOUR_STRIPS, FOUR_RECORDS),
], ids=["two", "four"])
def test_records_of_strips_by_hand(engine, records):
    program = compile_program(image_of(engine), engine)
    for index, record in records.items():
        assert fields_of(program, index)[0] == record


def test_every_strip_has_the_gains_of_its_steps():
    for engine in ENGINES_WITH_STRIPS.values():
        program, image = compile_program(image_of(engine), engine), image_of(engine)
        silent = [256] * (engine.steps - 3)
        for index in (1, 2):
            gains = image.layers[index].gain.tolist()
            assert len(set(gains)) == 3
            assert fields_of(program, index)[1] == [*gains, *silent] * engine.pixels
        for index in (0, 3):
            assert fields_of(program, index)[1] == [256] * engine.lanes


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("engine", [ENGINE, STRIPS], ids=["whole", "strips"])
def test_fields_do_not_overlap(engine, passes):
    engine = replace(engine, passes=passes)
    places = [16 * f.word + f.shift + bit for f in fields(engine) for bit in range(f.bits)]
    assert len(places) == len(set(places)) and max(places) < 16 * field_words(engine)


def test_engines_keep_some_bits_of_every_field():
    for engine in ALL_ENGINES.values():
        assert all(0 < bits <= 32 for bits in field_bits(engine).values())


def test_layers_may_have_all_channels_of_a_core():
    """A number of them is one more than the largest address."""
    for engine in ALL_ENGINES.values():
        for core in filter(None, (engine, engine.stem)):
            assert field_bits(core)["channels"] == core.channel_depth.bit_length()


@pytest.mark.parametrize("spikes, frame, bits", [
    (128, 64, 7), (129, 64, 8), (128, 65, 8), (2, 65536, 17), (65536, 2, 16),
])
def test_elements_reach_every_word_of_spikes_and_every_byte_of_a_frame(spikes, frame, bits):
    widths = field_bits(replace(ENGINE, spike_depth=spikes, frame_depth=frame))
    assert widths["start"] == bits
    assert all(widths[name] == min(bits, 16) for name in ("row_jump", "x_step", "y_step"))


def used_words(program, index):
    """Words of the spike memory that a layer's output takes."""
    bank = program.engine.simd * program.engine.lanes // 16
    address, count = program.boundary_words(index)
    assert address % bank == count % bank == 0 and count
    return set(range(address // bank, (address + count) // bank))


def test_inputs_and_outputs_never_share_a_word(program):
    used = [used_words(program, index) for index in range(len(NETWORK.layers))]
    for before, after in itertools.pairwise(used):
        assert not before & after
    # Word 0 stays zero: taps outside a map read it.
    assert min(min(words) for words in used) > 0
    assert max(max(words) for words in used) < program.engine.spike_depth


def packed(program, index, spikes):
    """Words of a layer's output as the writer leaves them, halos and all, spike by spike.

    One pass follows the other.
    """
    engine, shape = program.engine, NETWORK.shapes[index + 1]
    rows, halo = ROWS[engine.pixels][index], halo_of(engine, index)
    if engine.pixels == 1:
        rows = shape.height
    per_pixel = -(-shape.channels // engine.simd) * engine.simd
    stored = 2 * halo + rows
    plane = stored * shape.width * per_pixel * engine.lanes
    words = np.zeros(PASSES_USED.get(engine, 1) * plane // 16, np.uint16)
    for strip, row in np.ndindex(engine.pixels, stored):
        y = strip * rows + row - halo
        if not 0 <= y < shape.height:
            continue
        for t, c, x in np.ndindex(spikes[:, :, 0].shape):
            place = ((row * shape.width + x) * per_pixel + c) * engine.lanes
            place += t // engine.steps * plane + strip * engine.steps + t % engine.steps
            words[place // 16] |= np.uint16(int(spikes[t, c, y, x]) << place % 16)
    return words


def random_spikes(index):
    shape = NETWORK.shapes[index + 1]
    rng = np.random.default_rng(index)
    return rng.integers(0, 2, (NETWORK.T, shape.channels, shape.height, shape.width), np.uint8)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_unpack_boundary_inverts_the_packing(program, index):
    """Pack spikes channel by channel, as the writer does, and nothing where nothing is."""
    engine, spikes = program.engine, random_spikes(index)
    words = packed(program, index, spikes)
    assert len(words) == program.boundary_words(index)[1]
    assert np.array_equal(program.unpack_boundary(index, words), spikes)
    other = words
    if engine.stem:
        other = words.reshape(-1, engine.simd * engine.lanes // 16)[::-1].ravel()
    assert np.array_equal(program.unpack_boundary(index, other, 1), spikes)
    for t, c, y, x in ((1, 2, 0, 0), (0, 4, -1, -1)):
        spikes[t, c, y, x] ^= 1
        assert not np.array_equal(program.unpack_boundary(index, other, 1), spikes)
        assert not np.array_equal(program.unpack_boundary(index, words), spikes)
        spikes[t, c, y, x] ^= 1
    # Every engine has channels, steps or rows that the layer has not.
    real = len(spikes.ravel())
    own = len(words) * 16 * ROWS[engine.pixels][index]
    own //= ROWS[engine.pixels][index] + 2 * halo_of(engine, index)
    words[:] = 0xFFFF
    with pytest.raises(EngineError, match=f"^{own - real} spikes where layer {index} has none$"):
        program.unpack_boundary(index, words)


@pytest.mark.parametrize("strip, row, lane, channel, real", [
    (0, 1, 0, 0, True), (1, 3, 0, 0, True),  # the map's first row and its last
    (1, 4, 0, 0, False),  # the last row of the second strip, beyond it
    (1, 2, 3, 0, False), (0, 2, 0, 5, False),  # no such step, no such channel
    (0, 0, 0, 0, None), (0, 5, 0, 0, None), (1, 0, 0, 0, None), (1, 5, 3, 5, None),  # in a halo
])
def test_one_spike_of_a_strip(strip, row, lane, channel, real):
    """Of the stem's map, which stores 6 rows of 5 words of 16 channels of 8 lanes."""
    program = compile_program(image_of(STRIPS), STRIPS)
    words = np.zeros(program.boundary_words(0)[1], np.uint16)
    place = ((row * 5 + 2) * 16 + channel) * 8 + strip * 4 + lane
    words[place // 16] = 1 << place % 16
    if real is False:
        with pytest.raises(EngineError, match=r"^1 spikes where layer 0 has none$"):
            program.unpack_boundary(0, words)
        return
    spikes = program.unpack_boundary(0, words)
    expected = [[lane, channel, 4 * strip + row - 1, 2]] if real else []
    assert np.argwhere(spikes).tolist() == expected


def test_unpack_boundary_reads_logits(program):
    logits = np.array([-1, 0, 5, -(1 << 31), (1 << 31) - 1, 77], np.int32)
    bank, units = program.engine.simd * program.engine.lanes // 16, program.engine.units
    words = np.full((-(-6 // units), bank), 0xABCD, np.uint16)
    for index, logit in enumerate(logits):
        place = 2 * (index % units)
        words[index // units, place : place + 2] = logit & 0xFFFF, logit >> 16 & 0xFFFF
    assert program.boundary_words(3)[1] == words.size
    assert program.unpack_boundary(3, words.ravel()).tolist() == logits.tolist()
    other = words[::-1] if program.engine.stem else words
    assert program.unpack_boundary(3, other.ravel(), 1).tolist() == logits.tolist()


def test_frames_are_packed_pixel_by_pixel(program):
    frame = random_frames(NETWORK, 1)[0].numpy()
    words = program.pack_frame(frame)
    assert len(words) == 53
    octets = words.astype("<u2").tobytes()
    assert octets[:-1] == bytes(np.transpose(frame, (1, 2, 0)).ravel().tolist())
    assert octets[-1] == 0


@pytest.mark.parametrize("frame", [
    np.zeros((3, 5, 7), np.uint8), np.zeros((7, 5), np.uint8), np.zeros((3, 7, 5), np.float32),
    np.zeros((1, 3, 7, 5), np.uint8),
], ids=str)
def test_other_frames_are_refused(frame):
    program = compile_program(random_image(NETWORK), ENGINE)
    with pytest.raises(EngineError, match=r"a frame of tiny is \(3, 7, 5\) bytes, got") as raised:
        program.pack_frame(frame)
    assert "\n" not in str(raised.value)


def needed():
    """What NETWORK takes of ENGINE, by engine field."""
    program = compile_program(random_image(NETWORK), ENGINE)
    return dict(
        lanes=4, layer_depth=4, frame_depth=53,
        weight_depth=len(program.regions[Region.WEIGHTS]) // 2,
        channel_depth=len(program.regions[Region.CHANNELS]) // 2,
        mean_depth=len(program.regions[Region.MEANS]),
        # conv1 reads a word a pixel and writes two; first and last word are nobody's.
        spike_depth=2 + 7 * 5 + 3 * 2 * 2,
        current_width=max(bound.current_bits for bound in bounds(random_image(NETWORK))),
    )


@pytest.mark.parametrize("field, message", [
    ("layer_depth", "4 layers, the engine's program holds 3"),
    ("weight_depth", "words of weights, the engine has"),
    ("channel_depth", "80 words of biases and thresholds, the engine has 79"),
    ("mean_depth", "84 words of AGMM position tables, the engine has 83"),
    ("spike_depth", "conv1 needs 47 spike words for its input and output, the engine has 46"),
    ("frame_depth", "a frame of 105 bytes, the engine holds 104"),
    ("current_width", "needs currents of"),
])
def test_the_last_that_fits_and_the_first_that_does_not(field, message):
    exact, image = needed()[field], random_image(NETWORK)
    engine = replace(ENGINE, **{field: exact})
    compile_program(image, engine)
    with pytest.raises(EngineError, match=f"^tiny does not fit: .*{message}") as raised:
        compile_program(image, replace(ENGINE, **{field: exact - 1}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("network, engine, message", [
    (NETWORK.replace(T=5), ENGINE, "T=5, the engine has 4 lanes in 1 pass"),
    (NETWORK.replace(tau=0.75), ENGINES["icebreaker"],
     "tau=0.75 is not built in, the engine has 0"),
    (Network("tiny", Shape(1, 1, MAP_LIMIT + 1), [Stem(1, stride=2), Readout(2)]),
     replace(ENGINE, weight_depth=4096), f"a map of {MAP_LIMIT + 1} rows or columns"),
])
def test_other_limits(network, engine, message):
    with pytest.raises(EngineError, match=f"^tiny does not fit: {message}") as raised:
        compile_program(random_image(network.replace(neuron="vanilla")), engine)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("engine", ENGINES_WITH_STRIPS.values(), ids=ENGINES_WITH_STRIPS)
def test_strips_have_no_exact_gains(engine):
    with pytest.raises(EngineError, match=r"no exact gains, export with --gain frozen$"):
        compile_program(random_image(NETWORK), engine)
    program = compile_program(image_of(engine), engine)
    without = compile_program(random_image(NETWORK.replace(neuron="vanilla")), engine)
    for compiled in (program, without):
        assert {region.name for region in compiled.regions} == {
            "SPIKES", "WEIGHTS", "CHANNELS", "PROGRAM",
        }


@pytest.mark.parametrize("engine, steps", [(STRIPS, 4), (replace(STRIPS, pixels=4), 2)])
def test_steps_need_lanes_of_one_pixel(engine, steps):
    compile_program(random_image(NETWORK.replace(T=steps), gain="frozen"), engine)
    message = (
        f"^tiny does not fit: T={steps + 1}, the engine has {steps} lanes for each pixel in 1 pass$"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(random_image(NETWORK.replace(T=steps + 1), gain="frozen"), engine)


@pytest.mark.parametrize("engine, words", [
    (STRIPS, 6 * 5 + 2 * 2), (FOUR_STRIPS, 4 * 5 + 1 * 2),
], ids=["two", "four"])
def test_halos_take_room(engine, words):
    """What the stem writes and conv1 reads, and what that writes."""
    compile_program(image_of(engine), replace(engine, spike_depth=words + 2))
    message = (
        f"conv1 needs {words} spike words for its input and output, the engine has {words - 1}"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(image_of(engine), replace(engine, spike_depth=words + 1))


def test_strips_lower_than_a_halo_are_refused():
    network = NETWORK.replace(layers=[Stem(5), Conv(4, kernel=5), Readout(6)])
    image = random_image(network, gain="frozen")
    compile_program(image, STRIPS)
    # 7 rows: four strips of 2, eight of 1.
    compile_program(image, replace(FOUR_STRIPS, spike_depth=256))
    with pytest.raises(EngineError, match="strips of 1 rows before conv1, whose kernel needs 2"):
        compile_program(random_image(network.replace(T=2), gain="frozen"), replace(
            FOUR_STRIPS, pixels=8
        ))


def test_the_largest_map_fits():
    network = Network("tiny", Shape(1, 1, MAP_LIMIT), [Stem(1, stride=2), Readout(2)])
    compile_program(random_image(network), replace(ENGINE, weight_depth=4096))


@pytest.mark.parametrize("inputs, fits", [(4095, True), (4096, False)])
def test_a_readout_of_more_inputs_than_the_array_counts_is_refused(inputs, fits):
    """Counts have current_width - 4 = 12 bits; those of a readout must not wrap around."""
    layers = [Stem(inputs, kernel=1), Readout(2)]
    network = Network("tiny", Shape(1, 1, 1), layers, neuron="vanilla")
    engine = replace(ENGINE, weight_depth=1 << 16, spike_depth=2048, channel_depth=8192)
    image = random_image(network)
    if fits:
        compile_program(image, engine)
        return
    with pytest.raises(EngineError, match="readout1 has 4096 inputs, the engine counts to 4095"):
        compile_program(image, engine)


@pytest.mark.parametrize("name", ["narrow", "cores"])
def test_contents_are_those_after_a_load(name):
    """Every command writes what it says; before the last one the stamp is missing."""
    program = compile_program(random_image(NETWORK), ENGINES_TESTED[name])
    held = {region: [0] * words for region, words in region_words(program.engine).items()}
    *commands, last = program.load_commands()
    address, stamp = stamp_address(program.engine), program.stamp.tolist()
    held[Region.SPIKES][address : address + 2] = stamp
    for command in commands:
        write(held, command)
    assert held[Region.SPIKES][address : address + 2] == [0, 0] != stamp
    write(held, last)
    assert not any(held.pop(Region.FRAME))
    contents = {region: words.tolist() for region, words in program.contents.items()}
    assert contents == held
    other = compile_program(random_image(NETWORK, seed=5), program.engine)
    assert contents != {region: words.tolist() for region, words in other.contents.items()}


def write(held, command):
    """Carries out a WRITE on lists of words."""
    assert command[0] == Opcode.WRITE
    start = int.from_bytes(command[2:5], "little")
    words = np.frombuffer(command[COMMAND_BYTES:], "<u2").tolist()
    assert len(words) == int.from_bytes(command[5:7], "little")
    held[Region(command[1])][start : start + len(words)] = words
