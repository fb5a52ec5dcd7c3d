"""Networks laid out for an engine: what every word holds, and what does not fit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sw import formats
from sw.bounds import bounds
from sw.engine import ENGINES, Engine, EngineError
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region, channel_slot_bits, compile_program, region_words
from sw.record import FIELDS, MAP_LIMIT, Kind, field_bits, field_words, record_stride, record_words
from tests.support import random_frames, random_image

NETWORK = Network(
    "tiny", Shape(3, 7, 5), [Stem(5), Conv(10, pool=2), Conv(9, kernel=1), Readout(6)], T=3
)
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=512, spike_depth=128, channel_depth=64, mean_depth=256
)
WIDE = replace(ENGINE, pe=8, simd=16, current_width=18)
PAIRS = replace(WIDE, units=2)
ENGINES_TESTED = {"narrow": ENGINE, "wide": WIDE, "pairs": PAIRS, **ENGINES}


@pytest.fixture(params=ENGINES_TESTED)
def program(request):
    return compile_program(random_image(NETWORK), ENGINES_TESTED[request.param])


def fields_of(program, index):
    """The record of a layer, bit by bit: fields and gains."""
    engine = program.engine
    row = program.regions[Region.PROGRAM].reshape(-1, record_stride(engine))[index]
    bits = sum(int(word) << (16 * place) for place, word in enumerate(row))
    fields = {
        field.name: bits >> (16 * field.word + field.shift) & ((1 << field.bits) - 1)
        for field in FIELDS
    }
    return fields, row[field_words() : record_words(engine)].view(np.int16).tolist()


def test_regions_fit_their_memories(program):
    for region, words in program.regions.items():
        assert words.dtype == np.uint16 and 0 < len(words) <= region_words(program.engine, region)


def test_binary_weights_bit_by_bit(program):
    engine, image = program.engine, random_image(NETWORK)
    weights, base = image.layers[1].weights, fields_of(program, 1)[0]["weight_base"]
    bits = np.unpackbits(program.regions[Region.WEIGHTS].view(np.uint8), bitorder="little")
    words = bits.reshape(-1, engine.pe, engine.simd)
    for o, i, ky, kx in np.ndindex(weights.shape):
        row = base + (o // engine.pe * 3 + ky) * 3 + kx  # one input word: 5 channels
        assert words[row, o % engine.pe, i] == weights[o, i, ky, kx]


def test_byte_weights_byte_by_byte(program):
    engine, image = program.engine, random_image(NETWORK)
    memory = program.regions[Region.WEIGHTS].view(np.int8)
    rows = memory.reshape(-1, engine.pe * engine.simd // 8)[:, : engine.pe]
    stem = image.layers[0].weights
    for o, i, ky, kx in np.ndindex(stem.shape):
        row = o // engine.pe * 27 + (ky * 3 + kx) * 3 + i
        assert rows[row, o % engine.pe] == stem[o, i, ky, kx]
    readout, base = image.layers[3].weights, fields_of(program, 3)[0]["weight_base"]
    padded = -(-9 // engine.simd) * engine.simd
    height, width = NETWORK.shapes[3].height, NETWORK.shapes[3].width
    for o, i, y, x in np.ndindex(6, 9, height, width):
        row = base + (o // engine.pe * height * width + y * width + x) * padded + i
        assert rows[row, o % engine.pe] == readout[o, (i * height + y) * width + x]


def test_channels_hold_bias_and_threshold(program):
    engine, image = program.engine, random_image(NETWORK)
    slot = channel_slot_bits(engine)
    words = program.regions[Region.CHANNELS].view(f"<i{slot // 8}").reshape(-1, 2)
    for index, (layer, data) in enumerate(zip(NETWORK.layers, image.layers, strict=True)):
        base = fields_of(program, index)[0]["channel_base"]
        bias = data.bias
        if isinstance(layer, Conv):
            bias = bias - 16 * (~data.weights).sum((1, 2, 3))
        if isinstance(layer, Readout):
            stored = words.view(f"<i{slot // 4}")[base : base + layer.channels, 0]
            assert stored.tolist() == bias.tolist()
            continue
        rows = words[base : base + layer.channels]
        assert rows[:, 0].tolist() == bias.tolist()
        assert (rows[:, 1].astype(int) & (1 << slot) - 1).tolist() == data.threshold.tolist()


def test_means_hold_the_position_tables(program):
    engine, image = program.engine, random_image(NETWORK)
    words = program.regions[Region.MEANS].view(np.int16)
    for index in (0, 1):
        fields, table = fields_of(program, index)[0], image.layers[index + 1].agmm.table
        classes = fields["mean_classes"]
        assert fields["mean_next"] == 1 and classes == table[0].size
        tiled = -(-len(table) // engine.pe) * engine.pe
        stored = words[fields["mean_base"] * engine.units :][: tiled * classes]
        # Channels that are written together lie together.
        stored = stored.reshape(-1, classes, engine.units).transpose(0, 2, 1).reshape(tiled, -1)
        assert np.array_equal(stored[: len(table)], table.reshape(len(table), -1))
        assert not stored[len(table) :].any()


def test_records_of_layers(program):
    image = random_image(NETWORK)
    for index, (layer, data) in enumerate(zip(NETWORK.layers, image.layers, strict=True)):
        fields, gains = fields_of(program, index)
        assert fields["kind"] == Kind[type(layer).__name__.upper()]
        assert fields["step_mask"] == 0b111 and fields["leak_shift"] == 1
        assert fields["pool"] == (index == 1) and fields["exact_gain"] == (index in (1, 2))
        if data.agmm is not None:
            assert gains[:3] == data.agmm.factor.tolist()
            assert fields["mean_shift"] == data.agmm.shift
            assert fields["mean_offset"] == data.agmm.offset & 0xFFFFFFFF
        else:
            assert gains == [256] * program.engine.lanes
    assert program.regions[Region.SIGMOID].tolist() == formats.sigmoid_table()


def test_frozen_gains_are_in_the_record():
    image = random_image(NETWORK, gain="frozen")
    program = compile_program(image, ENGINE)
    for index in (1, 2):
        fields, gains = fields_of(program, index)
        assert gains[:3] == image.layers[index].gain.tolist() and not fields["exact_gain"]
    assert len(program.regions[Region.MEANS]) == 0


def test_fields_do_not_overlap():
    places = [16 * f.word + f.shift + bit for f in FIELDS for bit in range(f.bits)]
    assert len(places) == len(set(places)) and max(places) < 16 * field_words()
    for engine in ENGINES_TESTED.values():
        assert all(0 < bits <= 32 for bits in field_bits(engine).values())


def test_inputs_and_outputs_never_share_a_word(program):
    bank = program.engine.simd * program.engine.lanes // 16
    used = [range(-(-program.frame_words // bank))]
    for index in range(len(NETWORK.layers)):
        address, count = program.boundary_words(index)
        used.append(range(address // bank, (address + count) // bank))
    for before, after in itertools.pairwise(used):
        assert not set(before) & set(after)
        assert max(after) < program.engine.spike_depth


@pytest.mark.parametrize("index", [0, 1, 2])
def test_unpack_boundary_inverts_the_packing(program, index):
    """Pack spikes channel by channel, as the writer does, and nothing where nothing is."""
    engine, shape = program.engine, NETWORK.shapes[index + 1]
    rng = np.random.default_rng(index)
    spikes = rng.integers(0, 2, (NETWORK.T, shape.channels, shape.height, shape.width), np.uint8)
    _, count = program.boundary_words(index)
    words = np.zeros(count, np.uint16)
    per_pixel = -(-shape.channels // engine.simd) * engine.simd
    for t, c, y, x in np.ndindex(spikes.shape):
        place = ((y * shape.width + x) * per_pixel + c) * engine.lanes + t
        word = int(words[place // 16]) & ~(1 << place % 16)
        words[place // 16] = word | int(spikes[t, c, y, x]) << place % 16
    assert np.array_equal(program.unpack_boundary(index, words), spikes)
    spikes[1, 2, 0, 0] ^= 1
    assert not np.array_equal(program.unpack_boundary(index, words), spikes)
    padding = per_pixel > shape.channels or engine.lanes > NETWORK.T
    if padding:
        words[:] = 0xFFFF
        with pytest.raises(EngineError, match=f"spikes in channels or steps that layer {index}"):
            program.unpack_boundary(index, words)


def test_unpack_boundary_reads_logits(program):
    logits = np.array([-1, 0, 5, -(1 << 31), (1 << 31) - 1, 77], np.int32)
    bank, units = program.engine.simd * program.engine.lanes // 16, program.engine.units
    words = np.full((-(-6 // units), bank), 0xABCD, np.uint16)
    for index, logit in enumerate(logits):
        place = 2 * (index % units)
        words[index // units, place : place + 2] = logit & 0xFFFF, logit >> 16 & 0xFFFF
    assert program.boundary_words(3)[1] == words.size
    assert program.unpack_boundary(3, words.ravel()).tolist() == logits.tolist()


def test_frames_are_packed_pixel_by_pixel(program):
    frame = random_frames(NETWORK, 1)[0].numpy()
    words = program.pack_frame(frame)
    assert len(words) == program.frame_words == 53
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
        lanes=4, layer_depth=4,
        weight_depth=len(program.regions[Region.WEIGHTS]) // 2,
        channel_depth=len(program.regions[Region.CHANNELS]) // 2,
        mean_depth=len(program.regions[Region.MEANS]),
        spike_depth=-(-105 // 4) + 7 * 5,
        current_width=max(bound.current_bits for bound in bounds(random_image(NETWORK))),
    )


@pytest.mark.parametrize("field, message", [
    ("layer_depth", "4 layers, the engine's program holds 3"),
    ("weight_depth", "words of weights, the engine has"),
    ("channel_depth", "40 words of biases and thresholds, the engine has 39"),
    ("mean_depth", "84 words of AGMM position tables, the engine has 83"),
    ("spike_depth", "stem0 needs 62 spike words for its input and output, the engine has 61"),
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
    (NETWORK.replace(T=5), ENGINE, "T=5 needs as many lanes, the engine has 4"),
    (NETWORK.replace(tau=0.75), ENGINES["icebreaker"],
     "tau=0.75 is not built in, the engine has 0"),
    (Network("tiny", Shape(1, 1, MAP_LIMIT + 1), [Stem(1, stride=2), Readout(2)]),
     replace(ENGINE, weight_depth=4096), f"a map of {MAP_LIMIT + 1} rows or columns"),
])
def test_other_limits(network, engine, message):
    with pytest.raises(EngineError, match=f"^tiny does not fit: {message}") as raised:
        compile_program(random_image(network.replace(neuron="vanilla")), engine)
    assert "\n" not in str(raised.value)


def test_the_largest_map_fits():
    network = Network("tiny", Shape(1, 1, MAP_LIMIT), [Stem(1, stride=2), Readout(2)])
    compile_program(random_image(network), replace(ENGINE, weight_depth=4096))
