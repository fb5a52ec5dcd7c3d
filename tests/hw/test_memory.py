"""Memories that the host fills: contents, latency, regions; no row is read as it is written."""

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.lib import memory

from hw.accelerator import Accelerator
from hw.memory import HostMemory, WeightMemory
from hw.spikes import SpikeMemory
from sw import protocol
from sw.cycles import cycles_per_frame
from sw.engine import Engine
from sw.formats import INDEX_LIMIT
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region, compile_program
from sw.record import record_stride
from tests.hw.support import (
    FLOWS,
    difference,
    host_write,
    play,
    simulate,
    sink,
    source,
    with_and_without_gaps,
    with_gaps,
)
from tests.support import random_frames, random_image

#: The narrow one is the sigmoid's.
SHAPES = [(Region.SIGMOID, 8, 20), (Region.MEANS, 16, 37), (Region.CHANNELS, 64, 12),
          (Region.WEIGHTS, 128, 9)]


def random_words(dut, seed=0):
    rng = random.Random(seed)
    return [rng.getrandbits(16) for _ in range(dut.depth * dut.banks)]


def read_all(dut, words, willing, other=()):
    """Every row, in random order, after the host wrote ``words`` (and ``other`` elsewhere)."""
    rows = random.Random(1).sample(range(dut.depth), dut.depth)
    items = [dict(enable=1, address=row) for row in rows]
    stimulus = with_gaps(items, willing, after=2, enable=0)

    async def prepare(ctx):
        await host_write(ctx, dut.host, dut.region, words)
        for region in other:
            await host_write(ctx, dut.host, region, [0xDEAD] * len(words))

    return stimulus, [value for (value,) in play(dut, stimulus, ["data"], prepare)]


def expected(dut, words, stimulus):
    """A row appears ``latency`` cycles after its request and stays."""
    contents, held = dut.model(words), [None] * dut.latency
    for values in stimulus[: -dut.latency]:
        held.append(contents[values["address"]] if values["enable"] else held[-1])
    return held


def known(expected, got):
    """``got`` where a value is expected: before the first read there is none."""
    return [None if value is None else other for value, other in zip(expected, got, strict=True)]


@with_and_without_gaps
@pytest.mark.parametrize("kind", [HostMemory, WeightMemory])
@pytest.mark.parametrize("region, width, depth", SHAPES)
def test_holds_what_the_host_wrote(kind, region, width, depth, willing):
    dut = kind(region, width, depth)
    words = random_words(dut)
    words[: dut.banks] = [0xFFFF] * dut.banks
    stimulus, got = read_all(dut, words, willing)
    wanted = expected(dut, words, stimulus)
    assert difference(wanted, known(wanted, got)) is None


def test_writes_for_other_regions_are_ignored():
    dut = HostMemory(Region.MEANS, 16, 8)
    words = random_words(dut)
    others = [region for region in range(8) if region != Region.MEANS]
    stimulus, got = read_all(dut, words, FLOWS, others)
    wanted = expected(dut, words, stimulus)
    assert difference(wanted, known(wanted, got)) is None


def test_one_bank_changes_alone():
    dut = HostMemory(Region.CHANNELS, 64, 4)
    words = random_words(dut)

    async def prepare(ctx):
        await host_write(ctx, dut.host, dut.region, words)
        await host_write(ctx, dut.host, dut.region, [0x1234], address=6)

    rows = play(dut, [dict(enable=1, address=1), {}], ["data"], prepare)
    words[6] = 0x1234
    assert rows[1] == (dut.model(words)[1],)


def test_a_wrong_word_is_noticed():
    dut = HostMemory(Region.WEIGHTS, 64, 6)
    words = random_words(dut)
    stimulus, got = read_all(dut, words, FLOWS)
    words[13] ^= 0x0100
    wanted = expected(dut, words, stimulus)
    place = next(i for i, values in enumerate(stimulus) if values["address"] == 3) + dut.latency
    assert difference(wanted, known(wanted, got)).startswith(f"entry {place}")


def test_an_up5k_keeps_its_weights_in_one_spram_a_bank():
    dut = WeightMemory(Region.WEIGHTS, 64, 16384)
    text = rtlil.convert(dut, platform=SimpleNamespace(device="iCE40UP5K"))
    assert text.count("cell \\SB_SPRAM256KA") == 4 and "memory width" not in text


@pytest.fixture
def ports(monkeypatch):
    """The (read ports, write ports) of every memory made from here on."""
    found = {}

    def record(name, place):
        make = getattr(memory.Memory, name)

        def wrapper(self, **options):
            port = make(self, **options)
            found.setdefault(id(self), (self, [], []))[place].append(port)
            return port

        monkeypatch.setattr(memory.Memory, name, wrapper)

    record("read_port", 1)
    record("write_port", 2)
    return found


def collisions(ports, counts, cycles):
    """A testbench that counts reads, writes, and both of one row at once, by a memory's depth."""
    async def testbench(ctx):
        pairs = [
            (mem.depth, read, write)
            for mem, reads, writes in ports.values() for read in reads for write in writes
        ]
        signals = [
            signal for _, read, write in pairs
            for signal in (read.en, read.addr, write.en, write.addr)
        ]
        for _ in range(cycles):
            _, _, *row = await ctx.tick().sample(*signals)
            for number, (depth, *_) in enumerate(pairs):
                reads, read_row, writes, write_row = row[4 * number : 4 * number + 4]
                counts[depth, "read"] += bool(reads)
                counts[depth, "write"] += bool(writes)
                counts[depth, "both"] += bool(reads and writes and read_row == write_row)

    return testbench


NETWORK = Network(
    "small", Shape(1, 6, 5), [Stem(5), Conv(9, pool=2), Conv(6, kernel=5, stride=2), Readout(3)],
    T=2,
)
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=500, spike_depth=100, channel_depth=32, mean_depth=200,
    layer_depth=4,
)


def run_frame(ports, network=NETWORK, engine=ENGINE):
    """(logits, cycles, counts) of a frame in a whole accelerator, loaded over its port."""
    program = compile_program(random_image(network), engine)
    frame = program.pack_frame(random_frames(network, 1)[0].numpy())
    regions = {**program.regions, Region.SPIKES: frame}
    commands = [protocol.encode_write(region, 0, data) for region, data in regions.items()]
    last = len(network.layers) - 1
    address, count = program.boundary_words(last)
    commands += [protocol.encode_run(0, last + 1), protocol.encode_read(address, count)]
    octets, cycles = b"".join(commands), cycles_per_frame(network, engine)
    watched = len(octets) + 3 * len(regions) + cycles + 200
    dut, counts, reply = Accelerator(engine), Counter(), []

    simulate(
        dut, source(dut.rx, octets, FLOWS), sink(dut.tx, reply, watched, FLOWS),
        collisions(ports, counts, watched),
    )
    answers = bytes(reply[len(regions) :])
    logits = program.unpack_boundary(last, protocol.decode_words(answers[5:]))
    return logits.tolist(), protocol.decode_cycles(answers[:5]), counts


def test_no_row_is_read_in_the_cycle_in_which_it_is_written(ports):
    logits, cycles, counts = run_frame(ports)
    golden = IntegerNetwork(random_image(NETWORK))(random_frames(NETWORK, 1))[0].tolist()
    assert (logits, cycles) == (golden, cycles_per_frame(NETWORK, ENGINE))
    depths = [100, 500, 32, 200, 2 * INDEX_LIMIT, ENGINE.layer_depth * record_stride(ENGINE)]
    for depth in depths:
        assert counts[depth, "read"] and counts[depth, "write"]
        assert not counts[depth, "both"], depth


#: One row, and timing at which a tap below the map would lie in the row now being written.
FLAT = Network("flat", Shape(1, 1, 4), [Stem(17, kernel=1), Conv(4), Readout(3)], T=2)
TIGHT = replace(ENGINE, pe=4, simd=16, lanes=2, spike_depth=16)


def test_taps_outside_the_map_read_nothing(ports):
    logits, _, counts = run_frame(ports, FLAT, TIGHT)
    golden = IntegerNetwork(random_image(FLAT))(random_frames(FLAT, 1))[0].tolist()
    assert logits == golden
    assert not counts[16, "both"]


@pytest.mark.parametrize("row, both", [(5, 1), (4, 0)])
def test_a_collision_is_noticed(ports, row, both):
    dut, counts = SpikeMemory(32, 8), Counter()

    async def testbench(ctx):
        for values in [
            dict(enable=1, address=5, write_enable=0, write_address=5),
            dict(enable=0, address=5, write_enable=1, write_address=5),
            dict(enable=1, address=5, write_enable=1, write_address=row),
        ]:
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick()

    simulate(dut, testbench, collisions(ports, counts, 3))
    assert counts == {(8, "read"): 2, (8, "write"): 2, (8, "both"): both}
