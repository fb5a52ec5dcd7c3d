"""The walk over a layer program, against plain nested loops over the network's own layers."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from hw.array import Array
from hw.channels import Channels
from hw.lif import LIF
from hw.mac import Mac
from hw.memory import HostMemory
from hw.readout import Readout as ReadoutUnit
from hw.sequencer import Sequencer
from hw.stream import Stream
from hw.writer import Writer
from sw import record as layer_record
from sw.cycles import GAIN_STEP_CYCLES, layer_cycles
from sw.engine import Engine
from sw.layers import Conv, Network, Readout, ResidualConv, Shape, Stem, averages, projects
from sw.program import Region, compile_program
from sw.record import Kind, field_bits, field_words, record_stride
from sw.stream import stream_bases
from sw.strips import strips
from tests.hw.support import (
    DEPTHS,
    FOUR_STRIPS,
    FOUR_STRIPS_IN_PASSES,
    PAIRS,
    PAIRS_IN_PASSES,
    PAIRS_OF_STRIPS,
    PASSES,
    SINGLE_STEPS,
    SMALL,
    STRIPS,
    STRIPS_IN_PASSES,
    TWO,
    TWO_IN_PASSES,
    WIDE,
    WIDE_IN_PASSES,
    difference,
    host_write,
    records,
    shape,
    shared_fields,
    simulate,
)
from tests.support import random_image

#: As many channels as inputs at once: most tiles are shorter than pe cycles.
SQUARE = Engine(pe=8, simd=8, lanes=4, **DEPTHS)

NETWORKS = [
    Network("mixed", Shape(2, 9, 8), [
        Stem(4, pool=2), Conv(5), Conv(6, kernel=5, stride=2), Conv(3, kernel=1), Readout(3)], T=2),
    Network("pooled", Shape(1, 7, 9), [
        Stem(3, kernel=5, stride=2), Conv(10, pool=2), Readout(2)], T=2),
    Network("channels", Shape(3, 4, 5), [
        Stem(18, kernel=1), Conv(20, kernel=1), Conv(9, stride=2, padding=0), Readout(11)], T=1),
    Network("windows", Shape(1, 11, 9), [
        Stem(9, padding=0), Conv(4, kernel=5, stride=2, pool=2), Conv(7, pool=2), Readout(4)],
            T=2),
    Network("pixel", Shape(3, 1, 1), [Stem(5), Conv(6, kernel=5), Conv(17, kernel=3), Readout(1)],
            T=2, neuron="vanilla"),
    Network("strided", Shape(2, 12, 16), [
        Stem(2, stride=2, pool=2), Conv(3, kernel=5, padding=1), Readout(5)],
            T=1, neuron="vanilla"),
]

#: A stem that strides and pools under strips, and strips that a readout reads row by row.
STRIP_NETWORKS = [
    *NETWORKS[:4],
    Network("strided", Shape(2, 20, 13), [
        Stem(5, stride=2, pool=2), Conv(3, padding=0), Readout(5)], T=1),
    Network("rows", Shape(3, 9, 5), [Stem(9, padding=0), Readout(3)], T=1, neuron="vanilla"),
]


#: Pooled layers and others, tiles that are shorter than handing them out, and several tiles.
PASS_NETWORKS = {
    network.name: network for network in (
        Network("mixed", Shape(2, 6, 5), [
            Stem(4), Conv(5, pool=2), Conv(6, kernel=5, stride=2), Readout(3)], T=1),
        Network("channels", Shape(3, 3, 4), [
            Stem(18, kernel=1), Conv(20, kernel=1), Conv(9, stride=2, padding=0), Readout(11)],
                T=1),
        Network("pooled", Shape(1, 7, 9), [
            Stem(3, kernel=5, stride=2, pool=2), Conv(10, pool=2), Readout(2)], T=1),
    )
}

#: Averages of tiles that are longer than handing them out slowly, and shorter.
RESIDUAL_NETWORKS = [
    Network("residual", Shape(1, 4, 8), [
        Stem(12, kernel=1), ResidualConv(12), ResidualConv(21, kernel=5, stride=2),
        ResidualConv(21, kernel=1), ResidualConv(24, stride=2), Readout(3)], T=2),
    Network("mixed", Shape(2, 8, 4), [
        Stem(8, pool=2), Conv(9, kernel=1), ResidualConv(18, kernel=1, stride=2), Readout(5)],
            T=1, neuron="vanilla"),
]
#: Projections from one tile and from two, with stride 1 and 2.
PROJECTED = Network("projected", Shape(1, 5, 6), [
    Stem(3, kernel=1), ResidualConv(11, kernel=1, projection=True),
    ResidualConv(18, kernel=1, stride=2, projection=True), Readout(3)])
STREAM, STREAM_IN_PASSES = (
    replace(engine, spike_depth=2048, mean_depth=1024, stream_depth=4096)
    for engine in (PAIRS, PASSES)
)

#: One step a pass, the most passes there are.
ONE_STEP_PASSES = Engine(pe=16, simd=32, lanes=1, passes=16, **DEPTHS)


def in_passes(name, engine, T):
    """A network of T steps compiled for an engine with passes."""
    network = PASS_NETWORKS[name].replace(T=T)
    gain = "exact" if engine.exact_gain else "frozen"
    return compile_program(random_image(network, gain=gain), engine)


def readout_groups(layer, engine):
    """Groups of ``units`` channels of a readout: the eight planes of one set of classes each."""
    return 8 * -(-layer.channels // engine.units)


def operands(program, index, weight_base):
    """(element or None outside the map, weight, inside, first, last, strip) in order of the walk.

    An element of the stem is a byte of the frame, any other a word of the spike memory. There a map
    has the rows of one strip, below those of its upper halo, and such a map for each pass.
    """
    network, core = program.network, program.engine.core(index)
    maps = [None, *strips(network, core), None]
    cut, rows = maps[index], maps[index + 1] and maps[index + 1].rows
    layer, before = network.layers[index], network.shapes[index]
    base = program.boundaries[index - 1] if index else 0
    spike_words = -(-before.channels // core.simd)
    passes = -(-network.T // core.steps)
    plane = cut.stored_rows * before.width * spike_words if index else 0
    if isinstance(layer, Readout):
        tiles = -(-readout_groups(layer, core) * core.units // core.pe)
        count = cut.rows * before.width * spike_words
        # A strip's sums go on over the passes.
        return [
            (base + number * plane + i, weight_base + (tile * core.pixels + strip) * count + i, 1,
             number == i == 0,
             number == passes - 1 and strip == core.pixels - 1 and i == count - 1, strip)
            for tile in range(tiles) for number in range(passes) for strip in range(core.pixels)
            for i in range(count)
        ]
    tiles = -(-layer.channels // core.pe)
    depth = before.channels if isinstance(layer, Stem) else spike_words
    height, above = (cut.stored_rows, cut.above) if index else (before.height, 0)
    # A stem takes the strips one by one; any other layer has them all in a word.
    in_turn = core.pixels if index == 0 else 1
    out, kernel, result = layer.output_shape(before), layer.kernel, []
    for y, x, tile, strip, window, number in itertools.product(
        range(rows), range(out.width), range(tiles), range(in_turn), range(layer.pool**2),
        range(passes if index else 1),
    ):
        y_pixel = (strip * rows + y) * layer.pool + window // layer.pool
        top = y_pixel * layer.stride - layer.padding + above
        left = (x * layer.pool + window % layer.pool) * layer.stride - layer.padding
        for step in range(kernel * kernel * depth):
            ky, kx, word = step // depth // kernel, step // depth % kernel, step % depth
            row, column = top + ky, left + kx
            inside = 0 <= row < height and 0 <= column < before.width
            element = base + number * plane + (row * before.width + column) * depth + word
            size = kernel * kernel * depth
            result.append((
                element if inside else None, weight_base + tile * size + step,
                int(inside), step == 0, step == size - 1, strip,
            ))
    return result


def projection_operands(program, index, weight_base):
    """The same of the projection beside layer ``index``: channels of the stream, one at a time."""
    network, engine = program.network, program.engine
    layer, before, out = network.layers[index], *network.shapes[index : index + 2]
    passes, tiles = engine.passes_of(network.T), -(-before.channels // engine.pe)
    start, result = stream_bases(network, engine)[index - 1] * engine.units, []
    for y, x, out_tile, number, channel in itertools.product(
        range(out.height), range(out.width), range(-(-layer.channels // engine.pe)),
        range(passes), range(before.channels),
    ):
        pixel = layer.stride * (y * before.width + x)
        tile, place = divmod(channel, engine.pe)
        word = ((pixel * tiles + tile) * passes + number) * engine.groups + place // engine.units
        result.append((
            start + word * engine.units + place % engine.units,
            weight_base + out_tile * before.channels + channel, 1, channel == 0,
            channel == before.channels - 1, 0,
        ))
    return result


def order(network):
    """(number of its layer, whether it is the projection beside it) of each record."""
    return [
        (index, projection) for index, layer in enumerate(network.layers)
        for projection in ((True, False) if projects(layer) else (False,))
    ]


def walk(program):
    """The operands of every record. A projection's weights lie behind those of its layer."""
    walks, weights = [], 0
    for index, layer in enumerate(program.network.layers):
        if index == 1 and program.engine.stem:
            weights = 0
        layer_walk = operands(program, index, weights)
        weights = layer_walk[-1][1] + 1
        if projects(layer):
            walks.append(projection_operands(program, index, weights))
            weights = walks[-1][-1][1] + 1
        walks.append(layer_walk)
    return walks


def drain(engine, index, layer, T, projection=False):
    """Cycles from the last operand to the announcement of the last word, by the components.

    The sums of a stem leave in all passes, those of a projection as they come.
    """
    core, passes = engine.core(index), 1
    on_bytes = projection or isinstance(layer, Stem)
    if isinstance(layer, Stem):
        passes = -(-T // core.steps)
    if isinstance(layer, Readout):
        groups = readout_groups(layer, core) % core.groups or core.groups
        behind = Array(core).latency + groups - 1 + ReadoutUnit.latency + 2
    else:
        sums = Mac.latency if on_bytes else Array(core).latency
        lif = LIF(
            core.lanes, core.current_width, core.leak_shifts, core.steps, shortcuts=core.has_stream
        )
        last = core.groups * passes - 1
        if averages(layer):
            last *= 4
        # A group's shortcut meets its current in the LIF, two cycles after it has come there.
        until_lif = Stream.latency - 2 if core.has_stream else Channels.latency
        behind = sums + last + until_lif + lif.latency + Writer(core).latency
    return HostMemory.latency + behind


def core_of(program, stem=False):
    """(engine, region, number of its first record) of the core that has the stem, or the others."""
    engine = program.engine
    if engine.stem is None:
        return engine, Region.PROGRAM, 0
    return (engine.stem, Region.STEM_PROGRAM, 0) if stem else (engine, Region.PROGRAM, 1)


def run(program, first=0, count=None, words=None, extra=0, limit=60_000, stem=False):
    """Operands of each record, records at the clears, gains loaded, and the cycles it was busy.

    ``words`` replaces the program memory; each gain and the last word take ``extra`` cycles more.
    """
    expected, numbers = walk(program), order(program.network)
    core, region, start = core_of(program, stem)
    count = len(numbers) - start - first if count is None else count
    dut = Sequencer(core, region)
    seen, fields, loads, result = [], [], [], {}

    async def testbench(ctx):
        for other in (Region.PROGRAM, Region.STEM_PROGRAM):
            if other in program.regions:
                await host_write(ctx, dut.host, other,
                                 program.regions[other] if words is None else words)
        ctx.set(dut.first, first)
        ctx.set(dut.count, count)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        # Only heard at the start.
        ctx.set(dut.first, 77)
        ctx.set(dut.count, 99)
        gain_left = written_in = cycles = 0
        while cycles < limit and ctx.get(dut.busy):
            ctx.set(dut.written, written_in == 1)
            written_in = max(written_in - 1, 0)
            if ctx.get(dut.gain_load):
                assert not gain_left
                loads.append(ctx.get(dut.gain_data))
                gain_left = ctx.get(dut.layer.exact_gain) * (GAIN_STEP_CYCLES + extra)
            ctx.set(dut.gain_busy, gain_left > 0)
            if gain_left or ctx.get(dut.clear):
                assert ctx.get(dut.opening) == (first + len(seen) == 0)
            if ctx.get(dut.clear):
                seen.append([])
                fields.append(ctx.get(dut.layer))
            if ctx.get(dut.valid):
                inside = ctx.get(dut.inside)
                seen[-1].append((
                    ctx.get(dut.element) if inside else None, ctx.get(dut.weight), inside,
                    bool(ctx.get(dut.first_element)), bool(ctx.get(dut.last_element)),
                    ctx.get(dut.strip) if core.pixels > 1 else 0,
                ))
                number = start + first + len(seen) - 1
                assert ctx.get(dut.layer) == fields[-1]
                if len(seen[-1]) == len(expected[number]):
                    index, projection = numbers[number]
                    written_in = extra + drain(
                        program.engine, index, program.network.layers[index], program.network.T,
                        projection,
                    )
            gain_left = max(gain_left - 1, 0)
            await ctx.tick()
            cycles += 1
        result["cycles"] = cycles

    simulate(dut, testbench)
    fields = [shared_fields(core, record) for record in fields]
    return seen, fields, loads, result["cycles"]


def check(program, **options):
    """All layers of a core, against the loops above, the records and the cycle model.

    The numbers of the layers, twice for those with a projection.
    """
    network, engine = program.network, program.engine
    _, _, start = core_of(program, options.get("stem", False))
    seen, fields, loads, cycles = run(program, **options)
    done = slice(start, start + len(seen))
    indices = [index for index, _ in order(network)[done]]
    for index, wanted, got in zip(indices, walk(program)[done], seen, strict=True):
        assert difference(wanted, got) is None, network.layer_name(index)
    kept = records(program)[done]
    assert [shared_fields(engine.core(start), record) for record, _ in kept] == fields
    # The start only tells where the walk begins.
    assert {field.name for field in layer_record.fields(engine)} - set(fields[0]) == {"start"}
    assert [gain for _, gains in kept for gain in gains] == loads
    exact = network.neuron == "agmm" and engine.exact_gain
    assert cycles == sum(layer_cycles(network, index, engine, exact) for index in set(indices))
    return indices


@pytest.mark.parametrize(
    "network, engine",
    [*((network, SMALL) for network in NETWORKS), *((network, WIDE) for network in NETWORKS[:3]),
     *((network, PAIRS) for network in NETWORKS[1:4]),
     *((network, SQUARE) for network in NETWORKS[2:])],
    ids=lambda value: value.name if isinstance(value, Network) else shape(value),
)
def test_operands_records_and_cycles(network, engine):
    program = compile_program(random_image(network), engine)
    assert check(program) == list(range(len(network.layers)))


@pytest.mark.parametrize(
    "network, engine",
    [*((network, STRIPS) for network in STRIP_NETWORKS),
     *((network, PAIRS_OF_STRIPS) for network in STRIP_NETWORKS[:2]),
     *((network, FOUR_STRIPS) for network in STRIP_NETWORKS),
     *((network, SINGLE_STEPS) for network in STRIP_NETWORKS if network.T == 1)],
    ids=lambda value: value.name if isinstance(value, Network) else shape(value),
)
def test_strips(network, engine):
    program = compile_program(random_image(network, gain="frozen"), engine)
    assert check(program) == list(range(len(network.layers)))
    turns = [{operand[-1] for operand in layer} for layer in walk(program)]
    every = set(range(engine.pixels))
    assert turns == [every, *[{0}] * (len(turns) - 2), every]


@pytest.mark.parametrize("engine", [STREAM, STREAM_IN_PASSES], ids=shape)
@pytest.mark.parametrize("network", RESIDUAL_NETWORKS, ids=lambda network: network.name)
def test_shortcuts(network, engine):
    network = network.replace(T=engine.steps * engine.passes)
    program = compile_program(random_image(network), engine)
    assert check(program, limit=200_000) == list(range(len(network.layers)))


@pytest.mark.parametrize("engine, T", [
    (STREAM, 4), (STREAM_IN_PASSES, 16), (STREAM_IN_PASSES, 9), (STREAM_IN_PASSES, 3),
    (replace(STREAM, passes=2), 5),
], ids=lambda value: value if isinstance(value, int) else shape(value))
def test_projections_before_their_layers(engine, T):
    program = compile_program(random_image(PROJECTED.replace(T=T)), engine)
    assert check(program) == [0, 1, 1, 2, 2, 3]
    assert all(record["start"] and record["weight_base"] for record, _ in records(program)[2:4])
    assert {record["kind"] for record, _ in records(program)[1:4:2]} == {Kind.PROJECTION}


@pytest.mark.parametrize("name", [
    "first_pass", "in_plane", "start", "kind", "x_step", "y_step", "depth_last", "weight_base",
])
def test_a_wrong_field_of_a_projection_is_noticed(name):
    program = compile_program(random_image(PROJECTED.replace(T=9)), STREAM_IN_PASSES)
    assert difference(walk(program)[3], wrong_walk(program, 3, name))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_two_cores_share_the_layers(network):
    program = compile_program(random_image(network), TWO)
    assert check(program, stem=True, count=1) == [0]
    assert check(program) == list(range(1, len(network.layers)))


@pytest.mark.parametrize(
    "name, engine, T",
    [("mixed", PASSES, 16), ("mixed", PASSES, 9), ("mixed", PASSES, 4),
     ("mixed", PAIRS_IN_PASSES, 7), ("mixed", WIDE_IN_PASSES, 11), ("mixed", STRIPS_IN_PASSES, 8),
     ("mixed", STRIPS_IN_PASSES, 3), ("mixed", STRIPS_IN_PASSES, 2),
     ("mixed", FOUR_STRIPS_IN_PASSES, 3), ("channels", PASSES, 16), ("channels", PASSES, 6),
     ("channels", PASSES, 1), ("channels", STRIPS_IN_PASSES, 7), ("channels", PAIRS_IN_PASSES, 8),
     ("channels", ONE_STEP_PASSES, 3), ("pooled", PASSES, 10), ("pooled", STRIPS_IN_PASSES, 5),
     ("pooled", FOUR_STRIPS_IN_PASSES, 4)],
    ids=lambda value: shape(value) if isinstance(value, Engine) else str(value),
)
def test_passes(name, engine, T):
    program = in_passes(name, engine, T)
    assert check(program) == list(range(len(program.network.layers)))
    kept, passes = records(program), -(-T // engine.steps)
    assert {len(gains) for _, gains in kept} == {passes * engine.lanes}
    assert {fields["first_pass"] for fields, _ in kept} == {engine.passes - passes}


@pytest.mark.parametrize("name, T", [("mixed", 13), ("channels", 16), ("channels", 3)])
def test_passes_of_two_cores(name, T):
    program = in_passes(name, TWO_IN_PASSES, T)
    assert check(program, stem=True, count=1) == [0]
    assert check(program) == list(range(1, len(program.network.layers)))


def test_order_of_passes_written_out():
    """A pooled convolution of one word a tap: four windows, each in three passes."""
    network = Network("order", Shape(1, 4, 4), [
        Stem(4, kernel=1, pool=2), Conv(4, kernel=1, pool=2), Readout(1)], T=11)
    program = compile_program(random_image(network, gain="frozen"), PASSES)
    seen, fields, _, _ = run(program)
    base, plane = program.boundaries[0], 4
    assert [layer["in_plane"] for layer in fields] == [0, plane, 1]
    assert [layer["out_plane"] for layer in fields] == [plane, 1, 0]
    assert [element - base for element, *_ in seen[1]] == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert len({weight for _, weight, *_ in seen[1]}) == 1
    # Both tiles of planes of the readout: the sums go on over the passes.
    readout = [
        (element - program.boundaries[1], first, last) for element, _, _, first, last, _ in seen[2]
    ]
    assert readout == [(0, True, False), (1, False, False), (2, False, True)] * 2


@pytest.mark.parametrize("T, wait", [(4, 4), (5, 8), (16, 16)])
def test_a_short_tile_of_a_stem_waits_for_all_passes(T, wait):
    """Of one word; the second layer's have one too and wait for one pass."""
    network = Network("short", Shape(1, 2, 2), [
        Stem(8, kernel=1), Conv(4, kernel=1), Readout(1)], T=T)
    program = compile_program(random_image(network, gain="frozen"), PASSES)
    passes = -(-T // 4)
    for index, tiles, apart in ((0, 8, wait), (1, 4 * passes, 4)):
        # The record's words, what starts a layer, the tiles, the last alone without its wait.
        opening = field_words(PASSES) + 4 * passes + 3
        cycles = opening + (tiles - 1) * apart + 1 + drain(PASSES, index, network.layers[index], T)
        assert run(program, first=index, count=1)[3] == cycles
        assert layer_cycles(network, index, PASSES, exact_gain=False) == cycles


@pytest.mark.parametrize("kernel, wait", [(1, 16), (3, 16), (5, 25)])
@pytest.mark.parametrize("engine, T", [(STREAM, 4), (STREAM_IN_PASSES, 4), (STREAM_IN_PASSES, 11)],
                         ids=lambda value: str(value) if isinstance(value, int) else shape(value))
def test_a_short_tile_beside_an_average_waits_for_four_cycles_a_group(engine, T, kernel, wait):
    """In every pass, and not those of the layers before and after it."""
    network = Network("short", Shape(1, 4, 4), [
        Stem(4, kernel=1), ResidualConv(8, kernel=kernel, stride=2),
        ResidualConv(8, kernel=1), Readout(1)], T=T)
    program = compile_program(random_image(network), engine)
    passes, tiles = -(-T // 4), -(-8 // engine.pe)
    for index, count, apart in (
        (0, 16, 4 * passes), (1, 4 * tiles * passes, wait), (2, 4 * tiles * passes, 4),
    ):
        layer = network.layers[index]
        # The record's words, the gains, what starts a layer, all tiles, the last without its wait.
        opening = field_words(engine) + 4 * passes + 3
        opening += 4 * passes * GAIN_STEP_CYCLES * network.has_agmm(index)
        cycles = opening + (count - 1) * apart + layer.kernel**2 + drain(engine, index, layer, T)
        assert run(program, first=index, count=1)[3] == cycles
        assert layer_cycles(network, index, engine) == cycles


@pytest.mark.parametrize("engine", [PASSES, ONE_STEP_PASSES], ids=shape)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_fetches_the_gains_of_the_passes_in_use(engine, order):
    """Of layers that differ in them; each begins while the first pass is that of the one before."""
    programs = [in_passes("channels", engine, T) for T in (engine.steps, 16)]
    one, two = (programs[number] for number in order)
    words, at = one.regions[Region.PROGRAM].copy(), record_stride(engine)
    words[at : 2 * at] = two.regions[Region.PROGRAM][at : 2 * at]
    _, fields, loads, _ = run(one, count=2, words=words, limit=8000)
    wanted = [records(one)[0], records(two)[1]]
    assert fields[0]["first_pass"] != fields[1]["first_pass"]
    assert loads == [gain for _, gains in wanted for gain in gains]


@pytest.mark.parametrize("first, count", [(0, 1), (1, 2), (3, 1), (4, 1)])
def test_runs_some_layers_only(first, count):
    network = NETWORKS[0]
    program = compile_program(random_image(network), SMALL)
    seen, _, _, cycles = run(program, first, count)
    assert seen == walk(program)[first : first + count]
    assert cycles == sum(layer_cycles(network, first + i, SMALL) for i in range(count))


def test_waits_for_the_gain_and_for_the_last_word():
    network = NETWORKS[1]
    program = compile_program(random_image(network), SMALL)
    cycles, late = (run(program, extra=extra)[3] for extra in (0, 7))
    # One layer has an exact gain, of four steps; all three write a last word.
    assert late - cycles == 7 * 7


def test_weight_addresses_are_those_of_the_packed_weights():
    """The word at an operand's weight address holds the weights of its taps and channels."""
    network = NETWORKS[2]
    image = random_image(network)
    program = compile_program(image, SMALL)
    simd, pe = SMALL.simd, SMALL.pe
    bits = np.unpackbits(program.regions[Region.WEIGHTS].view(np.uint8), bitorder="little")
    words = bits.reshape(-1, pe, simd)
    weights, base = image.layers[2].weights, walk(program)[2][0][1]
    for tile in range(3):
        for step in range(3 * 3 * 3):
            ky, kx, word = step // 9, step // 3 % 3, step % 3
            for p in range(pe):
                for c in range(simd):
                    channel, source = tile * pe + p, word * simd + c
                    if channel < 9 and source < 20:
                        bit = words[base + tile * 27 + step, p, c]
                        assert bit == weights[channel, source, ky, kx]


@pytest.mark.parametrize("engine", [SMALL, PAIRS], ids=shape)
def test_weight_addresses_are_those_of_the_planes_of_a_readout(engine):
    """Sets of ``units`` classes, of each the planes, the heaviest first."""
    network = NETWORKS[2]
    image = random_image(network)
    program = compile_program(image, engine)
    simd, pe, units = engine.simd, engine.pe, engine.units
    bits = np.unpackbits(program.regions[Region.WEIGHTS].view(np.uint8), bitorder="little")
    words = bits.reshape(-1, pe, simd)
    # 11 classes of 9 channels of 1 x 2 pixels.
    weights = image.layers[3].weights.reshape(11, 9, 2)
    base, depth = walk(program)[3][0][1], -(-9 // simd)
    seen = set()
    for number in range(8 * -(-11 // units) * units):
        sets, plane, unit = number // units // 8, number // units % 8, number % units
        label = sets * units + unit
        if label >= 11:
            continue
        for pixel in range(2):
            for channel in range(9):
                address = (number // pe * 2 + pixel) * depth + channel // simd
                bit = words[base + address, number % pe, channel % simd]
                weight = int(weights[label, channel, pixel])
                assert bit == weight + 128 >> 7 - plane & 1
                seen.add(base + address)
    assert seen <= {weight for _, weight, *_ in walk(program)[3]}


def wrong_walk(program, index, name):
    """Operands of one layer with the lowest bit of a field of its record flipped."""
    words, engine = program.regions[Region.PROGRAM].copy(), program.engine
    field = next(field for field in layer_record.fields(engine) if field.name == name)
    assert field_bits(engine)[name] > 0
    words[index * record_stride(engine) + field.word] ^= 1 << field.shift
    # A wrong layer may never come to its end.
    seen, *_ = run(program, first=index, count=1, words=words, limit=3000)
    return seen[0]


@pytest.mark.parametrize("name", [
    "start", "row_jump", "x_step", "y_step", "stride", "padding", "in_width", "kernel_last",
    "depth_last", "tiles_last", "out_width_last", "weight_base", "pool",
])
def test_a_wrong_field_is_noticed(name):
    program = compile_program(random_image(NETWORKS[0]), SMALL)
    assert difference(walk(program)[0], wrong_walk(program, 0, name))


@pytest.mark.parametrize("name", ["start", "in_width", "depth_last", "tiles_last", "weight_base"])
def test_a_wrong_field_of_a_readout_is_noticed(name):
    program = compile_program(random_image(NETWORKS[0]), SMALL)
    assert difference(walk(program)[4], wrong_walk(program, 4, name))


@pytest.mark.parametrize("index, name", [
    (1, "first_pass"), (1, "in_plane"), (1, "start"), (1, "kind"), (2, "in_plane"),
    (3, "first_pass"), (3, "in_plane"), (3, "kind"),
])
@pytest.mark.parametrize("engine", [PASSES, STRIPS_IN_PASSES], ids=shape)
def test_a_wrong_field_of_passes_is_noticed(engine, index, name):
    program = in_passes("mixed", engine, 6)
    assert difference(walk(program)[index], wrong_walk(program, index, name))


@pytest.mark.parametrize("index, name", [
    (0, "start"), (0, "strip_jump"), (0, "strip_rows"), (0, "in_height"), (0, "out_height_last"),
    (0, "kind"), (1, "start"), (1, "padding"), (2, "out_height_last"), (4, "in_width"),
    (4, "depth_last"), (4, "kind"),
])
def test_a_wrong_field_of_strips_is_noticed(index, name):
    program = compile_program(random_image(STRIP_NETWORKS[0], gain="frozen"), STRIPS)
    assert difference(walk(program)[index], wrong_walk(program, index, name))
