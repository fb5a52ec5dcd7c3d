"""Networks with shortcuts in engines: records, places of streams, cycles."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from sw import formats, protocol
from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import Engine, EngineError
from sw.export import export
from sw.layers import Conv, Network, Pixels, Readout, ResidualConv, Shape, Stem
from sw.networks import resnet19
from sw.program import Region, compile_program, region_words
from sw.record import EVERY_FIELD, Kind, field_bits, fields, record_words
from tests.support import random_image, random_model
from tests.sw.residual import CODED, ENGINE, ENGINES, NETWORK, PASSES, PROJECTED, PROJECTIONS, SEED
from tests.sw.test_golden import changed
from tests.sw.test_passes import record_of


#: Of 6 x 8 pixels of 4 channels, which take 4 words each, or of PASSES 2 * 4.
@pytest.mark.parametrize("engine, words", [(ENGINE, 6 * 8 * 4), (PASSES, 6 * 8 * 8)], ids=ENGINES)
def test_engines_need_room_for_the_stream(engine, words):
    image = random_image(NETWORK, SEED)
    compile_program(image, replace(engine, stream_depth=words))
    message = f"stem0 needs {words} words of the stream, the engine has {words - 1}"
    with pytest.raises(EngineError, match=f"^double does not fit: {message}$"):
        compile_program(image, replace(engine, stream_depth=words - 1))
    with pytest.raises(EngineError, match=r"^double does not fit: the engine is built without"):
        compile_program(image, replace(engine, stream_depth=0))


def test_the_largest_stream_may_come_late():
    """3 tiles of 2 x 3 pixels behind 2 of 6 x 4, of which the first is not streamed."""
    network = CODED.replace(layers=[
        Stem(4), Conv(4, stride=2), ResidualConv(4), Conv(12), ResidualConv(12), Readout(3)
    ])
    image = random_image(network, SEED)
    compile_program(image, replace(ENGINE, stream_depth=3 * 2 * 12))
    with pytest.raises(EngineError, match="conv3 needs 72 words of the stream, the engine has 71"):
        compile_program(image, replace(ENGINE, stream_depth=3 * 2 * 12 - 1))


def test_counts_beside_a_shortcut_must_not_wrap():
    def image_of(kernel):
        network = Network(
            "many", Shape(1, 2, 2), [Stem(84), ResidualConv(84, kernel=kernel), Readout(2)],
            neuron="vanilla",
        )
        model = random_model(network)
        for module in model.layers[:2]:
            torch.nn.init.constant_(module.norm.weight, 1e-3)
            torch.nn.init.zeros_(module.norm.bias)
        return export(model, network)

    engine = replace(ENGINE, weight_depth=1 << 16, channel_depth=1024, spike_depth=512,
                     stream_depth=512)
    message = (
        "^many does not fit: residualconv1 beside a shortcut sums 4116 inputs, the engine counts to"
        " 4095$"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(image_of(7), engine)
    compile_program(image_of(7), replace(engine, current_width=18))
    compile_program(image_of(5), engine)


#: A pixel of 4 channels, and one of 7: 4 words and 8; with both passes, 8 words each.
STREAM_RECORDS = {
    "one": [
        dict(streamed=1, shortcut=0, average=0, stream_last=3),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=3, stream_last=3),
        dict(streamed=1, shortcut=1, average=1, shortcut_last=3, stream_last=7, stream_row=8 * 4),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=7, stream_last=7),
        *[dict(streamed=0, shortcut=0, average=0)] * 2,
    ],
    "passes": [
        dict(streamed=1, shortcut=0, average=0, stream_last=7),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=7, stream_last=7),
        dict(streamed=1, shortcut=1, average=1, shortcut_last=7, stream_last=7, stream_row=8 * 8),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=7, stream_last=7),
        *[dict(streamed=0, shortcut=0, average=0)] * 2,
    ],
}


@pytest.mark.parametrize("name", ENGINES)
def test_records_by_hand(name):
    program = compile_program(random_image(NETWORK, SEED), ENGINES[name])
    kinds = [Kind.STEM, *[Kind.CONV] * 4, Kind.READOUT]
    for index, (kind, expected) in enumerate(zip(kinds, STREAM_RECORDS[name], strict=True)):
        record, gains = record_of(program, index)
        assert record | expected | dict(kind=kind) == record
        assert len(gains) >= 4
    # A layer that only starts a stream has strides of its own.
    network = NETWORK.replace(layers=[Stem(4), Conv(4, stride=2), ResidualConv(4), Readout(3)])
    record = record_of(compile_program(random_image(network, SEED), ENGINES[name]), 1)[0]
    assert (record["streamed"], record["shortcut"], record["average"]) == (1, 0, 0)


STREAM_FIELDS = (
    "streamed", "shortcut", "average", "shortcut_last", "stream_last", "stream_row", "stream_in",
    "stream_out",
)


def test_fields_of_streams_are_between_means_and_passes():
    single = replace(ENGINE, stream_depth=0)
    new = fields(ENGINE)[len(fields(single)) :]
    assert fields(ENGINE)[: len(fields(single))] == fields(single)
    assert [(field.name, field.bits, field.word, field.shift) for field in new] == [
        ("streamed", 1, 22, 0), ("shortcut", 1, 22, 1), ("average", 1, 22, 2),
        ("shortcut_last", 16, 23, 0), ("stream_last", 16, 24, 0), ("stream_row", 16, 25, 0),
        ("stream_in", 16, 26, 0), ("stream_out", 16, 27, 0),
    ]
    assert fields(PASSES)[: -3] == fields(ENGINE)
    assert (record_words(ENGINE), record_words(PASSES, 2)) == (28 + 4, 31 + 4)
    assert not set(STREAM_FIELDS) & {field.name for field in fields(single)}
    names = [field.name for field in EVERY_FIELD]
    assert [names.count(name) for name in STREAM_FIELDS] == [1] * 8
    for depth, bits in ((192, 8), (256, 8), (257, 9), (1 << 16, 16)):
        kept = field_bits(replace(ENGINE, stream_depth=depth))
        assert [kept[name] for name in STREAM_FIELDS] == [1] * 3 + [bits] * 5


def extreme():
    """The widest slopes, and biases close to the widest currents."""
    image = random_image(NETWORK, SEED)
    for index in range(1, 4):
        count = NETWORK.layers[index].channels
        image = changed(
            image, index, slope=np.full(count, (1 << 17) - 1),
            bias=np.where(np.arange(count) % 2, -100_000, 100_000),
        )
    return image


@pytest.mark.parametrize("width, made", [(16, lambda: random_image(NETWORK, SEED)), (18, extreme)],
                         ids=["random", "extreme"])
@pytest.mark.parametrize("name", ENGINES)
def test_words_of_channels_make_currents_of_counts(name, width, made):
    """All that is added comes before the fraction is dropped, and fits 32 bits."""
    engine, image = replace(ENGINES[name], current_width=width), made()
    rng = np.random.default_rng(1)
    program = compile_program(image, engine)
    rows = program.regions[Region.CHANNELS].view("<i4").reshape(-1, 2)
    assert region_words(engine)[Region.CHANNELS] == 128 * 4
    for index, (layer, data) in enumerate(zip(NETWORK.layers[:-1], image.layers, strict=False)):
        base = record_of(program, index)[0]["channel_base"]
        words = rows[base : base + layer.channels].astype(np.int64)
        unused = rows[base + layer.channels : base + -(-layer.channels // engine.pe) * engine.pe]
        assert not unused.any()
        negative = 0 if index == 0 else (~data.weights).sum((1, 2, 3))
        if not NETWORK.is_streamed(index):
            assert words[:, 0].tolist() == (data.bias - 16 * negative).tolist()
            assert words[:, 1].tolist() == data.threshold.tolist()
            continue
        assert words[:, 1].tolist() == data.slope.tolist()
        for _ in range(50):
            if index == 0:
                current = operand = rng.integers(-4000, 4000, layer.channels)
            else:
                # Inputs that agree with their weights, those that are 0 with -1.
                count = rng.integers(0, layer.fan_in(NETWORK.shapes[index]) + 1, layer.channels)
                current, operand = 16 * (count - negative), 16 * count
            got = (operand * words[:, 1] + words[:, 0]) >> 11
            expected = formats.stream_current(current, data.slope, data.bias)
            assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("changes, message", [
    (dict(pixels=2), "stream_depth needs pixels=1 and no stem core"),
    (dict(current_width=15), "stream_depth needs current_width=16 at least, got 15"),
    (dict(stream_depth=-1), "stream_depth must be 0 to 65536, got -1"),
    (dict(stream_depth=65537), "stream_depth must be 0 to 65536, got 65537"),
    (dict(pe=16, simd=32, stem=True), "stream_depth needs pixels=1 and no stem core"),
])
def test_engines_that_carry_no_stream(changes, message):
    changes = dict(changes)
    if changes.pop("stem", False):
        plain = replace(ENGINE, **changes, stream_depth=0, spike_depth=256)
        changes |= dict(stem=plain.stem_core(pe=4), spike_depth=256)
        replace(ENGINE, **changes, stream_depth=0)
    with pytest.raises(EngineError, match=f"^{message}$"):
        replace(ENGINE, **changes)
    if "stream_depth" not in changes:
        replace(ENGINE, **changes, stream_depth=0)


@pytest.mark.parametrize("engine", [
    ENGINE, PASSES, replace(ENGINE, stream_depth=0), replace(ENGINE, stream_depth=0x12345 >> 1),
    replace(ENGINE, stream_depth=1 << 16, current_width=18, deep=True),
])
def test_engines_survive_json_and_info(engine):
    data = json.loads(json.dumps(engine.to_dict()))
    assert Engine.from_dict(data) == engine
    assert Engine.from_dict(data | dict(stream_depth=77)) != engine
    # As written before there were streams.
    data.pop("stream_depth")
    assert not Engine.from_dict(data).has_stream
    info = protocol.encode_info(engine)
    assert protocol.decode_info(b"\0" + info) == engine
    assert info[-14:] == bytes(10) + engine.stream_depth.to_bytes(4, "little")


def test_info_of_a_stem_core_is_no_stream():
    engine = replace(ENGINE, pe=8, simd=16, stream_depth=0)
    cores = replace(engine, stem=engine.stem_core(pe=4))
    assert protocol.decode_info(b"\0" + protocol.encode_info(cores)) == cores


@pytest.mark.parametrize("name, kernel, tile, operands", [
    # A tile's 4 groups leave one in four cycles.
    ("one", 1, 16, 1), ("one", 3, 16, 9), ("one", 5, 25, 25),
    ("passes", 1, 16, 1), ("passes", 3, 16, 9), ("passes", 5, 25, 25),
])
@pytest.mark.parametrize("exact", [False, True])
def test_cycles_of_averages_by_hand(name, kernel, tile, operands, exact):
    """12 pixels of 7 channels: two tiles each, or one in each of two passes."""
    layers = [Stem(4), ResidualConv(7, kernel=kernel, stride=2), Readout(3)]
    network = NETWORK.replace(layers=layers)
    # Record and setup; gains of 17 cycles, of each lane and pass.
    start = {"one": 28 + 4 + 3, "passes": 31 + 2 * 2 + 3}[name] + exact * 17 * 4
    # Memory 1, sums 3, bias 1; the last group comes 3 groups of 4 cycles after the first, whose 1
    # counts as well; then the slope and the shortcut 3, LIF and writer 3 and a cycle a step.
    drain = 5 + 13 + 3 + 3 + ENGINES[name].steps
    expected = start + 23 * tile + operands + drain
    assert layer_cycles(network, 1, ENGINES[name], exact) == expected
    deep = replace(ENGINES[name], deep=True)
    assert layer_cycles(network, 1, deep, exact) == expected + 3


def test_other_shortcuts_take_no_longer_than_their_convolution():
    for index in (1, 3):
        layers = list(NETWORK.layers)
        layers[index] = Conv(layers[index].channels, layers[index].kernel)
        plain = NETWORK.replace(layers=[*layers[: index + 1], Readout(3)])
        with_it = NETWORK.replace(layers=[*NETWORK.layers[: index + 1], Readout(3)])
        assert layer_cycles(plain, index, ENGINE) == layer_cycles(with_it, index, ENGINE)


@pytest.mark.parametrize("name", ENGINES)
def test_a_stream_delays_every_layer_with_neurons(name):
    """By 3 cycles, and by the 6 words of its record's fields."""
    network = NETWORK.replace(layers=[Stem(4), Conv(7, stride=2), Conv(6, pool=2), Readout(3)])
    engine = ENGINES[name]
    more = [
        layer_cycles(network, index, engine) - layer_cycles(
            network, index, replace(engine, stream_depth=0)
        ) for index in range(4)
    ]
    assert more == [9, 9, 9, 6]
    assert cycles_per_frame(network, engine) == sum(
        layer_cycles(network, index, engine) for index in range(4)
    )


#: Words of PROJECTED's streams on ENGINE: 504, 252, 240, 240, 48. The first two must fit together.
ROOMY = replace(ENGINE, stream_depth=756, layer_depth=9)


def test_records_of_projections_by_hand():
    program = compile_program(random_image(PROJECTED, SEED), ROOMY)
    kinds = [record_of(program, index)[0]["kind"] for index in range(9)]
    project, conv = Kind.PROJECTION, Kind.CONV
    assert kinds == [Kind.STEM, project, conv, project, conv, conv, project, conv, Kind.READOUT]
    nothing = dict.fromkeys(fields_of(program.engine), 0)
    common = nothing | dict(kind=project, streamed=1)
    # 5 channels are 8 in the stream, 3 are 4, 9 are 12: of 7 x 9, 7 x 9, and 4 x 5 pixels.
    for index, expected in {
        1: dict(channels=3, stream_last=3, stream_out=504, depth_last=4, stride=1, in_height=7,
                in_width=9, start=0, x_step=8, y_step=9 * 8, out_height_last=6, out_width_last=8),
        3: dict(channels=9, stream_last=11, stream_out=0, depth_last=2, stride=2, in_height=7,
                in_width=9, start=504, x_step=2 * 4, y_step=2 * 9 * 4, out_height_last=3,
                out_width_last=4, tiles_last=2),
        6: dict(channels=6, stream_last=7, stream_out=708, depth_last=8, stride=2, in_height=4,
                in_width=5, start=0, x_step=2 * 12, y_step=2 * 5 * 12, out_height_last=1,
                out_width_last=2, tiles_last=1),
    }.items():
        record, gains = record_of(program, index)
        bases = {name: record[name] for name in ("weight_base", "channel_base")}
        assert record == common | expected | bases
        assert gains[:4] == [256] * 4
    streams = ("streamed", "shortcut", "average", "shortcut_last", "stream_last", "stream_row",
               "stream_in", "stream_out")
    found = [[record_of(program, index)[0][name] for name in streams] for index in range(9)]
    assert [found[index] for index in (0, 2, 4, 5, 7, 8)] == [
        [1, 0, 0, 0, 7, 0, 0, 0], [1, 1, 0, 3, 3, 0, 504, 504], [1, 1, 0, 11, 11, 0, 0, 0],
        [1, 1, 0, 11, 11, 0, 0, 0], [1, 1, 0, 7, 7, 0, 708, 708], [0] * 8,
    ]


def fields_of(engine):
    return [field.name for field in fields(engine)]


def test_runs_of_a_layer_are_of_both_its_records():
    program = compile_program(random_image(PROJECTED, SEED), ROOMY)
    runs = [program.run_layer(index) for index in range(6)]
    assert runs == [protocol.encode_run(*rest) for rest in (
        (0, 1), (1, 2), (3, 2), (5, 1), (6, 2), (8, 1)
    )]
    assert program.run_network() == protocol.encode_run(0, 9, 0, *program.boundary_words(5))
    # Pixels have no record.
    network = CODED.replace(layers=[
        Pixels(3), Conv(5), ResidualConv(9, projection=True), ResidualConv(9), Readout(3)
    ])
    program = compile_program(random_image(network, SEED), replace(ROOMY, stream_depth=480))
    assert [program.run_layer(index) for index in range(1, 5)] == [
        protocol.encode_run(*rest) for rest in ((0, 1), (1, 2), (3, 1), (4, 1))
    ]
    assert program.run_network() == protocol.encode_run(0, 5, 0, *program.boundary_words(4))
    with pytest.raises(EngineError, match="pixels0 is written by the host"):
        program.run_layer(0)


#: Projections from the far end back, behind averages that have left room there, and of a new
#: stream. Maps of 6 x 8, then 3 x 4.
MIXED = Network(
    "mixed", Shape(1, 6, 8),
    [Stem(4), ResidualConv(8, projection=True), ResidualConv(8, stride=2),
     ResidualConv(4, projection=True), Conv(4), ResidualConv(4, projection=True), Readout(2)],
    T=2,
)
#: And one that needs more room than that: 480 words of 576, of which 192 to 287 are read.
GROWING = MIXED.replace(
    name="growing", layers=[*MIXED.layers[:3], ResidualConv(40, projection=True), Readout(2)]
)
LARGE = replace(
    ROOMY, stream_depth=576, weight_depth=4096, spike_depth=1024, channel_depth=1024,
    mean_depth=2048, layer_depth=10, current_width=18,
)


def places(program):
    """Ranges of words that every record with a stream reads, or None, and writes."""
    network, index, before, found = program.network, 0, None, []
    for number, layer in enumerate(network.layers):
        pixels = [shape.height * shape.width for shape in network.shapes[number : number + 2]]
        for _ in range(1 + getattr(layer, "projection", False)):
            record, index = record_of(program, index)[0], index + 1
            if record["streamed"]:
                start = record["stream_out"]
                written = range(start, start + pixels[1] * (record["stream_last"] + 1))
                reads = record["kind"] == Kind.PROJECTION or record["shortcut"]
                start = record["start"] if record["kind"] == Kind.PROJECTION else (
                    record["stream_in"]
                )
                assert not reads or start == before.start
                found.append((before if reads else None, written))
                before = written
    return found


def test_places_of_streams_by_hand():
    found = places(compile_program(random_image(MIXED, SEED), LARGE))
    assert [(read and [read.start, read.stop], [written.start, written.stop])
            for read, written in found] == [
        (None, [0, 192]), ([0, 192], [192, 576]), ([192, 576], [192, 576]),
        ([192, 576], [192, 288]), ([192, 288], [0, 48]), ([0, 48], [0, 48]),
        (None, [0, 48]), ([0, 48], [528, 576]), ([528, 576], [528, 576]),
    ]


@pytest.mark.parametrize("network, depth", [
    (PROJECTED, 756), (PROJECTED, 1000), (MIXED, 576), (MIXED, 577),
    (GROWING, 384 + 480),
], ids=lambda value: getattr(value, "name", value))
def test_a_projection_leaves_what_it_reads(network, depth):
    program = compile_program(random_image(network, SEED), replace(LARGE, stream_depth=depth))
    index = 0
    for layer in network.layers:
        if getattr(layer, "projection", False):
            read, written = places(program)[index]
            assert not set(read) & set(written) and max(*read, *written) < depth
            index += 1
        index += 1


@pytest.mark.parametrize("network, name, words", [
    (PROJECTED, "residualconv1", 504 + 252), (MIXED, "residualconv1", 192 + 384),
    (MIXED.replace(layers=[Stem(1), ResidualConv(8, stride=2, projection=True), Readout(2)]),
     "residualconv1", 192 + 96),
])
def test_engines_need_room_for_both_streams(network, name, words):
    image = random_image(network, SEED)
    compile_program(image, replace(LARGE, stream_depth=words))
    message = f"{name} needs {words} words of the stream, the engine has {words - 1}"
    with pytest.raises(EngineError, match=f"^{network.name} does not fit: {message}$"):
        compile_program(image, replace(LARGE, stream_depth=words - 1))


@pytest.mark.parametrize("depth", [576, 384 + 479])
def test_a_stream_must_fit_beside_one_that_has_shrunk(depth):
    """Averages leave the start of the memory and the end free, each too small."""
    message = f"residualconv3 needs 480 words in one piece, beside 96 from {depth - 384} on, the"
    with pytest.raises(EngineError, match=message):
        compile_program(random_image(GROWING, SEED), replace(LARGE, stream_depth=depth))


#: Room for PROJECTED.
IN_PASSES = replace(PASSES, stream_depth=2048, layer_depth=9, spike_depth=1024, mean_depth=512)


@pytest.mark.parametrize("T, passes", [(2, 1), (4, 2), (7, 4)])
def test_records_of_projections_in_passes(T, passes):
    program = compile_program(random_image(PROJECTED.replace(T=T), SEED), IN_PASSES)
    for index in (1, 3, 6):
        record, gains = record_of(program, index)
        assert (record["kind"], record["first_pass"]) == (Kind.PROJECTION, 4 - passes)
        assert gains[: 2 * passes] == [256] * 2 * passes
        # An element is a channel: those of another pass are a tile further.
        assert record["in_plane"] == 8
    # Two units: a word is two elements. 9 channels are 16 in each pass, 6 are 8.
    assert [record_of(program, 6)[0][name] for name in ("x_step", "y_step", "stream_last")] == [
        2 * 16 * passes, 2 * 5 * 16 * passes, 4 * passes - 1
    ]
    assert record_of(program, 3)[0]["start"] == 2 * record_of(program, 1)[0]["stream_out"] > 0


def test_projections_in_passes_need_steps_as_wide_as_a_tile():
    small = Network("small", Shape(1, 1, 2), [
        Stem(4, kernel=1), ResidualConv(5, stride=2, projection=True), Readout(1)], T=4)
    engine = replace(IN_PASSES, spike_depth=8, current_width=18)
    message = "residualconv1 projects in several passes, which takes more than 8 spike words, the"
    with pytest.raises(EngineError, match=message):
        compile_program(random_image(small, SEED), engine)
    compile_program(random_image(small.replace(T=2), SEED), engine)
    compile_program(random_image(small, SEED), replace(engine, spike_depth=9))


def test_programs_hold_projections_too():
    image = random_image(PROJECTED, SEED)
    message = (
        "^projected does not fit: 9 layers and projections, the engine's program holds 8$"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(image, replace(ROOMY, layer_depth=8))
    program = compile_program(image, ROOMY)
    for region, size, field in (
        (Region.WEIGHTS, 2, "weight_depth"), (Region.CHANNELS, 4, "channel_depth")
    ):
        used = len(program.regions[region]) // size
        compile_program(image, replace(ROOMY, **{field: used}))
        with pytest.raises(EngineError, match=f"{used} words of"):
            compile_program(image, replace(ROOMY, **{field: used - 4}))


@pytest.mark.parametrize("engine", [ROOMY, replace(ROOMY, current_width=18)], ids=[16, 18])
def test_words_of_projections(engine):
    image, rng = random_image(PROJECTED, SEED), np.random.default_rng(1)
    program = compile_program(image, engine)
    rows = program.regions[Region.CHANNELS].view("<i4").reshape(-1, 2).astype(np.int64)
    taps = program.regions[Region.WEIGHTS].view("i1").reshape(-1, 4)
    for number, index in zip((1, 3, 6), PROJECTIONS, strict=True):
        record, part = record_of(program, number)[0], image.layers[index].projection
        channels, inputs = part.weights.shape
        # A tile after the other, in each a word of four channels for every input.
        for channel, i in np.ndindex(-(-channels // 4) * 4, inputs):
            word = taps[record["weight_base"] + channel // 4 * inputs + i]
            expected = part.weights[channel, i] if channel < channels else 0
            assert word[channel % 4] == expected
        words = rows[record["channel_base"] :][: -(-channels // 4) * 4]
        assert not words[channels:].any()
        words = words[:channels]
        assert words[:, 1].tolist() == part.slope.tolist()
        for _ in range(20):
            value = rng.integers(-32768, 32768, channels)
            got = (value * words[:, 1] + words[:, 0]) >> 11
            assert got.tolist() == formats.stream_current(value, part.slope, part.bias).tolist()
        # They lie behind those of the convolution beside it; what follows begins where they end.
        tiles, others = -(-channels // 4), [record_of(program, other)[0] for other in range(9)]
        assert others[number + 1]["channel_base"] + tiles * 4 == record["channel_base"]
        for base, words in (("weight_base", tiles * inputs), ("channel_base", tiles * 4)):
            end = record[base] + words
            assert end == min(other[base] for other in others if other[base] > record[base])


def test_macs_of_projections_by_hand():
    """Of each step: outputs times 3 x 3 inputs, and once more times the channels."""
    assert PROJECTED.layer_macs() == [
        63 * 5 * 18, 4 * 63 * 3 * (45 + 5), 4 * 20 * 9 * (27 + 3), 4 * 20 * 9 * 81,
        4 * 6 * 6 * (9 + 9), 4 * 36 * 3,
    ]
    assert ResidualConv(9, stride=2).macs(Shape(6, 4, 4)) == 4 * 9 * 54


@pytest.mark.parametrize("index, walk", [
    # 63 tiles of 5 inputs; 20 pixels of 3 tiles, which leave in 4 groups; 6 of 2, of 9 inputs.
    (1, 63 * 5), (2, 59 * 4 + 3), (4, 12 * 9),
])
@pytest.mark.parametrize("exact", [False, True])
def test_cycles_of_projections_by_hand(index, walk, exact):
    # Record and setup; memory 1, sums 4, bias 1, 4 groups; slope and shortcut 3, LIF and the
    # rest 3 and a cycle a step. No gains are computed.
    expected = 28 + 4 + 3 + walk + 6 + 4 + 3 + 3 + 4
    layers = list(PROJECTED.layers)
    layer = layers[index]
    layers[index] = Conv(layer.channels, layer.kernel, layer.stride)
    plain = layer_cycles(PROJECTED.replace(layers=layers), index, ROOMY, exact)
    assert layer_cycles(PROJECTED, index, ROOMY, exact) == plain + expected
    # Registers in front of the array are not on the way.
    deep = replace(ROOMY, deep=True)
    assert layer_cycles(PROJECTED, index, deep, exact) == plain + 3 + expected
    assert cycles_per_frame(PROJECTED, ROOMY, exact) == sum(
        layer_cycles(PROJECTED, number, ROOMY, exact) for number in range(6)
    )


@pytest.mark.parametrize("index, walk", [
    # In each pass 63 tiles of 5 inputs; 20 pixels of 2 tiles, which leave in 4 groups; 6 of 9.
    (1, 126 * 5), (2, 79 * 4 + 3), (4, 12 * 9),
])
def test_cycles_of_projections_in_passes_by_hand(index, walk):
    expected = 31 + 2 * 2 + 3 + walk + 6 + 4 + 3 + 3 + 2
    layers = list(PROJECTED.layers)
    layer = layers[index]
    layers[index] = Conv(layer.channels, layer.kernel, layer.stride)
    plain = layer_cycles(PROJECTED.replace(layers=layers), index, IN_PASSES)
    assert layer_cycles(PROJECTED, index, IN_PASSES) == plain + expected


def test_a_small_resnet19_compiles():
    network = resnet19(5, (16, 24, 32), size=8)
    projections = [index for index, layer in enumerate(network.layers)
                   if getattr(layer, "projection", False)]
    assert projections == [7, 13] and len(network.layers) == 18
    assert network.shapes[-2] == Shape(32, 2, 2)
    assert all(map(network.is_streamed, range(17))) and not network.is_streamed(17)
    # 64 pixels of 16 words, and 16 of 24.
    engine = Engine(
        pe=8, simd=16, lanes=2, units=1, weight_depth=4096, spike_depth=512, channel_depth=1024,
        mean_depth=4096, stream_depth=64 * 16 + 16 * 24, layer_depth=20,
    )
    program = compile_program(random_image(network, SEED), engine)
    kinds = [record_of(program, index)[0]["kind"] for index in range(20)]
    assert [index for index, kind in enumerate(kinds) if kind == Kind.PROJECTION] == [7, 14]
    assert program.run_layer(13) == protocol.encode_run(14, 2)
    assert [record_of(program, index)[0]["tiles_last"] for index in (7, 14)] == [2, 3]
    assert [written.start for _, written in places(program)][6:9] == [0, 1024, 1024]
    assert [written.start for _, written in places(program)][13:16] == [1024, 0, 0]
