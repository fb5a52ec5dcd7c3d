"""The walk over a layer program, against plain nested loops over the network's own layers."""

import numpy as np
import pytest

from hw.array import Array
from hw.channels import Channels
from hw.mac import Mac
from hw.memory import HostMemory
from hw.sequencer import Sequencer
from hw.writer import Writer
from sw.cycles import GAIN_STEP_CYCLES, layer_cycles
from sw.engine import Engine
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region, compile_program
from sw.record import FIELDS, field_bits
from tests.hw.support import (
    DEPTHS,
    PAIRS,
    SMALL,
    WIDE,
    difference,
    host_write,
    records,
    shape,
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

def operands(program, index, weight_base):
    """(element or None outside the map, weight, inside, first, last) in the order of the walk."""
    network, engine = program.network, program.engine
    layer, before = network.layers[index], network.shapes[index]
    base = program.boundaries[index - 1] if index else 0
    pe, simd = engine.pe, engine.simd
    tiles = -(-layer.channels // pe)
    spike_words = -(-before.channels // simd)
    if isinstance(layer, Readout):
        count = before.height * before.width * spike_words * simd
        return [
            (base * simd + i, weight_base + tile * count + i, 1, i == 0, i == count - 1)
            for tile in range(tiles) for i in range(count)
        ]
    depth = before.channels if isinstance(layer, Stem) else spike_words
    out, kernel, result = layer.output_shape(before), layer.kernel, []
    for y in range(out.height):
        for x in range(out.width):
            for tile in range(tiles):
                for window in range(layer.pool**2):
                    top = (y * layer.pool + window // layer.pool) * layer.stride - layer.padding
                    left = (x * layer.pool + window % layer.pool) * layer.stride - layer.padding
                    for step in range(kernel * kernel * depth):
                        ky, kx, word = step // depth // kernel, step // depth % kernel, step % depth
                        row, column = top + ky, left + kx
                        inside = 0 <= row < before.height and 0 <= column < before.width
                        element = base + (row * before.width + column) * depth + word
                        size = kernel * kernel * depth
                        result.append((
                            element if inside else None, weight_base + tile * size + step,
                            int(inside), step == 0, step == size - 1,
                        ))
    return result


def walk(program):
    """The operands of every layer."""
    layers, weights = [], 0
    for index in range(len(program.network.layers)):
        layers.append(operands(program, index, weights))
        weights = layers[-1][-1][1] + 1
    return layers


def drain(engine, layer):
    """Cycles from the last operand to the announcement of the last word, by the components."""
    conv, neurons = isinstance(layer, Conv), 0 if isinstance(layer, Readout) else 2 + engine.lanes
    sums = (Array if conv else Mac).latency + engine.groups - 1
    return HostMemory.latency + sums + Channels.latency + neurons + Writer.latency


def run(program, first=0, count=None, words=None, extra=0, limit=60_000):
    """Operands of each layer, records at the clears, gains loaded, and the cycle counter.

    ``words`` replaces the program memory; the gain and the last word take ``extra`` cycles more.
    """
    engine, layers = program.engine, program.network.layers
    expected = walk(program)
    count = len(layers) - first if count is None else count
    dut = Sequencer(engine)
    seen, fields, loads, result = [], [], [], {}
    gain_cycles = GAIN_STEP_CYCLES * engine.lanes + extra

    async def testbench(ctx):
        await host_write(ctx, dut.host, Region.PROGRAM,
                         program.regions[Region.PROGRAM] if words is None else words)
        ctx.set(dut.first, first)
        ctx.set(dut.count, count)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        gain_left = written_in = 0
        for _ in range(limit):
            if not ctx.get(dut.busy):
                break
            ctx.set(dut.gain_busy, gain_left > 0)
            gain_left = max(gain_left - 1, 0)
            ctx.set(dut.written, written_in == 1)
            written_in = max(written_in - 1, 0)
            if ctx.get(dut.gain_load):
                loads.append(ctx.get(dut.gain_data))
            if ctx.get(dut.gain_start):
                gain_left = gain_cycles
            if ctx.get(dut.clear):
                seen.append([])
                fields.append(ctx.get(dut.layer))
            if ctx.get(dut.valid):
                inside = ctx.get(dut.inside)
                seen[-1].append((
                    ctx.get(dut.element) if inside else None, ctx.get(dut.weight), inside,
                    bool(ctx.get(dut.first_element)), bool(ctx.get(dut.last_element)),
                ))
                index = first + len(seen) - 1
                assert ctx.get(dut.layer) == fields[-1]
                if len(seen[-1]) == len(expected[index]):
                    written_in = drain(engine, layers[index]) + extra
            await ctx.tick()
        result["cycles"] = ctx.get(dut.cycles)

    simulate(dut, testbench)
    fields = [{field.name: record[field.name] for field in FIELDS} for record in fields]
    return seen, fields, loads, result["cycles"]


@pytest.mark.parametrize(
    "network, engine",
    [*((network, SMALL) for network in NETWORKS), *((network, WIDE) for network in NETWORKS[:3]),
     *((network, PAIRS) for network in NETWORKS[1:4]),
     *((network, SQUARE) for network in NETWORKS[2:])],
    ids=lambda value: value.name if isinstance(value, Network) else shape(value),
)
def test_operands_records_and_cycles(network, engine):
    program = compile_program(random_image(network), engine)
    seen, fields, loads, cycles = run(program)
    for index, expected in enumerate(walk(program)):
        assert difference(expected, seen[index]) is None, network.layer_name(index)
    assert [record for record, _ in records(program)] == fields
    assert [gain for _, gains in records(program) for gain in gains] == loads
    exact = network.neuron == "agmm"
    assert cycles == sum(
        layer_cycles(network, index, engine, exact) for index in range(len(network.layers))
    )
    assert len(seen) == len(network.layers)


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
    # One layer has an exact gain, all three write a last word.
    assert late - cycles == 4 * 7


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


@pytest.mark.parametrize("name", [
    "start", "row_jump", "x_step", "y_step", "stride", "padding", "in_width", "kernel_last",
    "depth_last", "tiles_last", "out_width_last", "weight_base", "pool",
])
def test_a_wrong_field_is_noticed(name):
    network = NETWORKS[0]
    program = compile_program(random_image(network), SMALL)
    words = program.regions[Region.PROGRAM].copy()
    field = next(field for field in FIELDS if field.name == name)
    assert field_bits(SMALL)[name] > 0
    words[field.word] ^= 1 << field.shift
    # A wrong stem may never come to its end.
    seen, *_ = run(program, count=1, words=words, limit=3000)
    assert difference(walk(program)[0], seen[0])
