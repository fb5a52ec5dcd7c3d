"""Networks laid out for two cores: two programs, two sides of the spike memory, a frame ahead."""

from dataclasses import replace

import numpy as np
import pytest

from sw.engine import Engine, EngineError
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region, compile_program, stamp_address
from sw.record import Kind, record_stride
from tests.support import random_image

NETWORK = Network(
    "tiny", Shape(3, 7, 5), [Stem(5), Conv(10, pool=2), Conv(9, kernel=1), Readout(6)], T=3
)
ALONE = Engine(
    pe=8, simd=16, lanes=4, units=2, weight_depth=512, spike_depth=128, frame_depth=64,
    channel_depth=128, mean_depth=256,
)
SIZES = dict(pe=4, units=1, weight_depth=64, channel_depth=16, mean_depth=128)
#: Words of the spike memory, in the 16 bits of the host.
BANK = 16 * 4 // 16


def with_stem(engine, **changes):
    return replace(engine, stem=engine.stem_core(**SIZES | changes))


CORES = with_stem(ALONE)


def compiled(engine=CORES, network=NETWORK):
    return compile_program(random_image(network), engine)


def records(program, region):
    return program.regions[region].reshape(-1, record_stride(program.engine))


def test_a_stem_core_has_a_program_of_its_own():
    """Its one layer is number 0 there; the others count from the first after it."""
    kinds = {
        region: [Kind(word & 3) for word in records(compiled(), region)[:, 0].tolist()]
        for region in (Region.STEM_PROGRAM, Region.PROGRAM)
    }
    others = [Kind.CONV, Kind.CONV, Kind.READOUT]
    assert kinds == {Region.STEM_PROGRAM: [Kind.STEM], Region.PROGRAM: others}
    alone = records(compiled(ALONE), Region.PROGRAM)[:, 0].tolist()
    assert [Kind(word & 3) for word in alone] == [Kind.STEM, *others]
    assert all(region < 8 for region in compiled(ALONE).regions)


@pytest.mark.parametrize("field, exact, message", [
    ("weight_depth", 2 * 27, "54 words of weights, the stem core has 53"),
    ("channel_depth", 2 * 4, "8 words of biases and thresholds, the stem core has 7"),
    ("mean_depth", 8 * 9, "72 words of AGMM position tables, the stem core has 71"),
])
def test_what_a_stem_core_holds_and_what_it_does_not(field, exact, message):
    """The stem's 5 channels are two tiles of 27 taps; conv1's table has 9 classes."""
    compiled(with_stem(ALONE, **{field: exact}))
    with pytest.raises(EngineError, match=rf"^tiny does not fit: {message}$"):
        compiled(with_stem(ALONE, **{field: exact - 1}))


@pytest.mark.parametrize("field, exact, less, message", [
    ("layer_depth", 3, 2, "3 layers, the engine's program holds 2"),
    ("channel_depth", 2 * 16 + 48, 78, "80 words of biases and thresholds, the engine has 78"),
    ("mean_depth", 16 * 1, 14, "16 words of AGMM position tables, the engine has 14"),
])
def test_the_stem_takes_nothing_of_the_other_core(field, exact, less, message):
    """conv1 and conv2 take two tiles of channels, the readout 48, conv2's table 16 of one class."""
    compiled(with_stem(replace(ALONE, **{field: exact})))
    with pytest.raises(EngineError, match=rf"^tiny does not fit: {message}$"):
        compiled(with_stem(replace(ALONE, **{field: less})))
    with pytest.raises(EngineError, match=r"^tiny does not fit: "):
        compiled(replace(ALONE, **{field: exact}))


@pytest.mark.parametrize("stem", [False, True], ids=["one core", "two cores"])
def test_a_record_too_narrow_is_that_of_its_layer(stem):
    """From one row to the next of 120 pixels: 119 times the words of a pixel, and one."""
    engine = Engine(
        pe=4, simd=8, lanes=4, weight_depth=65536, spike_depth=65536, channel_depth=65536,
        mean_depth=2, current_width=18,
    )
    if stem:
        engine = replace(engine, stem=engine.stem_core())
    for words in (275, 276):
        layers = [Stem(8 * words, kernel=1), Conv(1, kernel=1), Readout(1)]
        network = Network("tiny", Shape(1, 1, 120), layers, neuron="vanilla")
        if words == 275:
            compiled(engine, network)
            continue
        message = "tiny: conv1 does not fit: its record would need row_jump = 32845, and holds 16"
        with pytest.raises(EngineError, match=rf"^{message} bits$"):
            compiled(engine, network)


def words_of(program, index, side):
    """Words of the spike memory that a layer's output takes."""
    address, count = program.boundary_words(index, side)
    assert address % BANK == count % BANK == 0 and count
    return set(range(address // BANK, (address + count) // BANK))


@pytest.mark.parametrize("index", range(4))
def test_sides_are_mirror_images(index):
    """Word a of one is word 127 - a of the other: what a layer wrote is found on both."""
    program = compiled()
    rng = np.random.default_rng(index)
    memory = rng.integers(0, 1 << 16, (128, BANK)).astype(np.uint16)
    shape = NETWORK.shapes[index + 1]
    if index < 3:
        # Nothing in channels and steps that the layer has not.
        bits = np.zeros((128, 16, 4), np.uint8)
        bits[:, : shape.channels, :3] = rng.integers(0, 2, (128, shape.channels, 3))
        memory = np.packbits(bits.reshape(128, -1), axis=1, bitorder="little").view("<u2")

    def read(memory, side):
        address, count = program.boundary_words(index, side)
        return program.unpack_boundary(index, memory.ravel()[address : address + count], side)

    expected = read(memory, 0)
    assert expected.any()
    assert np.array_equal(read(memory[::-1], 1), expected)
    assert {127 - word for word in words_of(program, index, 0)} == words_of(program, index, 1)
    assert not np.array_equal(read(memory, 1), expected)
    assert not np.array_equal(read(memory[::-1], 0), expected)


@pytest.mark.parametrize("side", [0, 1])
def test_a_stem_works_ahead_beside_all_layers(side):
    program = compiled()
    assert program.ahead
    ahead = words_of(program, 0, 1 - side)
    for index in range(4):
        used = words_of(program, index, side)
        assert not used & ahead
        # Taps outside a map read word 0, on either side.
        assert 0 not in used and max(used) < 128
    assert 0 not in ahead and max(ahead) < 128
    # Without room for it, the stem's next map would fall on something.
    tight = compiled(with_stem(replace(ALONE, spike_depth=64)))
    assert not tight.ahead
    ahead = words_of(tight, 0, 1 - side)
    assert any(words_of(tight, index, side) & ahead for index in range(4))


LARGE = with_stem(replace(ALONE, weight_depth=8192, channel_depth=2048))
#: Frame, layers before the readout, and the most classes that leave room for a stem's next map in
#: the 124 words that are not reserved; a word holds two logits.
ROOM = {
    # The stem's 60 words twice, and 4 of logits.
    "stem and readout": (Shape(1, 5, 12), [Stem(5)], 8, 9),
    # The stem's 15, 75 of conv1 and 34 of logits.
    "layers after it": (Shape(1, 3, 5), [Stem(5), Conv(80)], 68, 69),
}


@pytest.mark.parametrize("name", ROOM)
def test_the_last_that_leaves_room_and_the_first_that_does_not(name):
    shape, layers, most, too_many = ROOM[name]
    for classes, ahead in ((most, True), (too_many, False)):
        network = Network("tiny", shape, [*layers, Readout(classes)], neuron="vanilla")
        program = compiled(LARGE, network)
        assert program.ahead == ahead
        stem, others = words_of(program, 0, 1), range(len(network.layers))
        free = all(not words_of(program, index, 0) & stem for index in others)
        assert free == ahead
        # One core has nobody to work ahead.
        assert not compiled(replace(LARGE, stem=None), network).ahead


@pytest.mark.parametrize("classes, fits", [(128, True), (129, False)])
def test_maps_that_fit_only_without_working_ahead(classes, fits):
    """60 words of the stem and 64 of logits are all there are."""
    network = Network("tiny", Shape(1, 5, 12), [Stem(5), Readout(classes)], neuron="vanilla")
    if fits:
        assert not compiled(LARGE, network).ahead
        return
    message = "readout1 needs 125 spike words for its input and output, the engine has 124"
    with pytest.raises(EngineError, match=rf"^tiny does not fit: {message}$"):
        compiled(LARGE, network)


def run(flags, first, count, program=None, side=0):
    """The command by hand; of a whole ``program``, with the words of its logits."""
    address, words = program.boundary_words(3, side) if program else (0, 0)
    return bytes([4 | flags << 4, first]) + address.to_bytes(3, "little") + (
        words.to_bytes(2, "little") + bytes([count])
    )


def test_commands_of_a_stem_that_works_ahead():
    """Flags: side 1, stem 2, side of the stem 4."""
    program = compiled()
    assert program.run_network() == program.run_network(0) == run(6, 0, 3, program)
    assert program.run_network(1) == run(3, 0, 3, program, 1) != run(3, 0, 3, program, 0)
    assert program.run_layer(0) == run(2, 0, 0)
    assert program.run_layer(0, 1) == run(6, 0, 0)
    assert program.run_layer(1) == run(0, 0, 1)
    assert program.run_layer(3, 1) == run(1, 2, 1)


def test_commands_of_a_stem_that_waits_and_of_one_core():
    tight = compiled(with_stem(replace(ALONE, spike_depth=64)))
    assert tight.run_network() == run(0, 0, 3, tight)
    assert tight.run_layer(0) == run(2, 0, 0)
    alone = compiled(ALONE)
    assert alone.run_network() == run(0, 0, 4, alone)
    assert alone.run_layer(0) == run(0, 0, 1)
    assert alone.run_layer(3) == run(0, 3, 1)


def test_the_stamp_is_in_no_map_of_either_side_and_in_no_word_of_zeros():
    program, depth = compiled(), CORES.spike_depth
    word, rest = divmod(stamp_address(CORES), BANK)
    assert rest == 0 and word not in (0, depth - 1)
    for side in (0, 1):
        for index in range(len(NETWORK.layers)):
            first, count = program.boundary_words(index, side)
            assert not first <= stamp_address(CORES) < first + count
