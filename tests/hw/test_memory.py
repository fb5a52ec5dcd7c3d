"""Memories that the host fills: contents, latency, regions; no row is read as it is written."""

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import memory

import hw.memory
from hw.accelerator import Accelerator
from hw.memory import SPRAM_DEPTH, HostMemory, WeightMemory
from hw.spikes import SpikeMemory
from sw import protocol
from sw.cycles import cycles_per_frame, layer_cycles
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
    in_groups,
    play,
    simulate,
    sink,
    source,
    with_and_without_gaps,
    with_gaps,
)
from tests.support import random_frames, random_image

#: The narrow one is the sigmoid's; the widest are written 32 bits at a time.
SHAPES = [(Region.SIGMOID, 8, 20), (Region.MEANS, 16, 37), (Region.CHANNELS, 64, 12),
          (Region.WEIGHTS, 128, 9), (Region.STEM_WEIGHTS, 512, 5)]


def parts(dut):
    """Words of the host in a row."""
    return max(dut.width // 16, 1)


def random_words(dut, seed=0):
    rng = random.Random(seed)
    return [rng.getrandbits(16) for _ in range(dut.depth * parts(dut))]


def rows_of(dut, words):
    """Contents after the host has written ``words``."""
    rows = []
    for group in in_groups(words, parts(dut)):
        row = sum(word << 16 * part for part, word in enumerate(group))
        rows.append(row % 2**dut.width)
    return rows


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
    contents, held = rows_of(dut, words), [None] * dut.latency
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
    assert dut.latency == 1
    words = random_words(dut)
    words[: parts(dut)] = [0xFFFF] * parts(dut)
    stimulus, got = read_all(dut, words, willing)
    wanted = expected(dut, words, stimulus)
    assert difference(wanted, known(wanted, got)) is None
    assert dut.model(words) == rows_of(dut, words)


@pytest.mark.parametrize("region, width", [(Region.MEANS, 16), (Region.STEM_WEIGHTS, 128)])
def test_writes_for_other_regions_are_ignored(region, width):
    dut = HostMemory(region, width, 8)
    words = random_words(dut)
    others = [other for other in range(16) if other != region]
    stimulus, got = read_all(dut, words, FLOWS, others)
    wanted = expected(dut, words, stimulus)
    assert difference(wanted, known(wanted, got)) is None


def rows_after(dut, words, writes):
    """All rows after ``words`` and then ``writes``: (region, address, words)."""
    async def prepare(ctx):
        await host_write(ctx, dut.host, dut.region, words)
        for region, address, more in writes:
            await host_write(ctx, dut.host, region, more, address)

    stimulus = [dict(enable=1, address=row) for row in range(dut.depth)] + [dict(enable=0)]
    return [row for (row,) in play(dut, stimulus, ["data"], prepare)][dut.latency :]


# Of a row of 64 bits one part in four, of a row of 128 two in eight.
@pytest.mark.parametrize("width, address, more", [
    (64, 6, [0x1234]), (128, 10, [0x1234, 0x5678]), (128, 14, [0x1234, 0x5678]),
])
def test_one_bank_changes_alone(width, address, more):
    dut = HostMemory(Region.CHANNELS, width, 4)
    words = random_words(dut)
    got = rows_after(dut, words, [(dut.region, address, more)])
    words[address : address + len(more)] = more
    assert difference(rows_of(dut, words), got) is None


def test_a_low_half_waits_for_its_high_half():
    """Alone it changes nothing, and writes elsewhere do not come between the two."""
    dut = HostMemory(Region.WEIGHTS, 128, 3)
    words = random_words(dut)
    low, lower = (dut.region, 12, [0x1234]), (dut.region, 12, [0x4321])
    high, elsewhere = (dut.region, 13, [0x5678]), (Region.MEANS, 12, [0xDEAD, 0xDEAD])
    for writes in ([low], [low, elsewhere], [low, lower]):
        assert difference(rows_of(dut, words), rows_after(dut, words, writes)) is None
    for first, writes in (
        (0x1234, [low, high]), (0x1234, [low, elsewhere, high]), (0x4321, [low, lower, high]),
    ):
        words[12:14] = first, 0x5678
        assert difference(rows_of(dut, words), rows_after(dut, words, writes)) is None


def test_a_high_half_with_another_low_half_is_noticed():
    dut = HostMemory(Region.WEIGHTS, 128, 3)
    words = random_words(dut)
    writes = [(dut.region, 12, [0x1235]), (dut.region, 13, [0x5678])]
    words[12:14] = 0x1234, 0x5678
    assert difference(rows_of(dut, words), rows_after(dut, words, writes)).startswith("entry 1")


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


class Sprams(WeightMemory):
    """The weights of a UP5K, with what SB_SPRAM256KA does (FPGA-TN-02022) in place of the cells.

    One port, which writes or reads while it is selected.
    """

    def elaborate(self, platform):
        outer = Module()

        def cell(name, **ports):
            assert name == "SB_SPRAM256KA"
            assert {key: ports[key] for key in ("i_MASKWREN", "i_STANDBY", "i_SLEEP")} == {
                "i_MASKWREN": 0b1111, "i_STANDBY": 0, "i_SLEEP": 0,
            }
            # Low is off.
            assert ports["i_POWEROFF"] == 1
            m = Module()
            m.submodules.rows = rows = memory.Memory(shape=16, depth=SPRAM_DEPTH, init=[])
            read, write = rows.read_port(), rows.write_port()
            m.d.comb += [
                read.addr.eq(ports["i_ADDRESS"]), write.addr.eq(ports["i_ADDRESS"]),
                write.data.eq(ports["i_DATAIN"]),
                read.en.eq(ports["i_CHIPSELECT"] & ~ports["i_WREN"]),
                write.en.eq(ports["i_CHIPSELECT"] & ports["i_WREN"]),
            ]
            # A signal has one driver, of which a cell would drive a part.
            outer.d.comb += ports["o_DATAOUT"].eq(read.data)
            return m

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hw.memory, "Instance", cell)
            outer.submodules.sprams = super().elaborate(SimpleNamespace(device="iCE40UP5K"))
        return outer


@with_and_without_gaps
@pytest.mark.parametrize("width", [16, 64])
def test_sprams_hold_what_the_host_wrote(width, willing):
    dut = Sprams(Region.WEIGHTS, width, 40)
    words = random_words(dut)
    stimulus, got = read_all(dut, words, willing, [Region.MEANS])
    wanted = expected(dut, words, stimulus)
    assert difference(wanted, known(wanted, got)) is None
    words[7] ^= 1
    wanted = expected(dut, words, stimulus)
    assert difference(wanted, known(wanted, got))


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
    pe=4, simd=8, lanes=4, weight_depth=500, spike_depth=100, channel_depth=60, mean_depth=200,
    frame_depth=50, layer_depth=4,
)
#: Memories of as many depths.
_DEEP = replace(ENGINE, spike_depth=128, deep=True)
TWO = replace(
    _DEEP, layer_depth=3, stem=_DEEP.stem_core(
        pe=4, units=1, weight_depth=40, channel_depth=20, mean_depth=300
    ),
)


def run_commands(ports, engine, commands, cycles):
    """(reply to each command, counts) of a whole accelerator. cycles: of all runs."""
    octets = b"".join(commands)
    replies = [protocol.reply_bytes(command) for command in commands]
    watched = len(octets) + 2 * sum(replies) + 8 * len(commands) + cycles + 200
    dut, counts, reply = Accelerator(engine), Counter(), []
    simulate(
        dut, source(dut.rx, octets, FLOWS), sink(dut.tx, reply, watched, FLOWS),
        collisions(ports, counts, watched),
    )
    answers, rest = [], bytes(reply)
    for size in replies:
        answers.append(rest[:size])
        rest = rest[size:]
    assert not rest
    return answers, counts


def run_frames(ports, network=NETWORK, engine=ENGINE, count=1, more=()):
    """(logits of each frame, cycles of each, counts), loaded and run over the port.

    more: commands behind those that load.
    """
    program = compile_program(random_image(network), engine)
    frames = [program.pack_frame(frame) for frame in random_frames(network, count).numpy()]
    last = len(network.layers) - 1
    commands = [protocol.encode_write(r, 0, words) for r, words in program.regions.items()]
    commands += more
    add, cycles = commands.append, 0
    if program.ahead:
        add(protocol.encode_write(Region.FRAME, 0, frames[0]))
        add(program.run_layer(0))
        cycles += layer_cycles(network, 0, engine)
    places = []
    for number in range(count):
        side = number % 2 if program.ahead else 0
        # A stem core is a frame ahead of the other.
        frame = frames[(number + program.ahead) % count]
        places.append((len(commands) + 1, side))
        add(protocol.encode_write(Region.FRAME, 0, frame))
        add(program.run_network(side))
        cycles += cycles_per_frame(network, engine, ahead=program.ahead)
    answers, counts = run_commands(ports, engine, commands, cycles)
    runs = [(protocol.decode_run(answers[place]), side) for place, side in places]
    return (
        [program.unpack_boundary(last, words, side).tolist() for (_, words), side in runs],
        [cycles for (cycles, _), _ in runs],
        counts,
    )


def golden(network, count=1):
    return IntegerNetwork(random_image(network))(random_frames(network, count)).tolist()


def depths(core):
    """Rows of the memories that every core has."""
    return [
        core.weight_depth, core.channel_depth, core.mean_depth,
        core.layer_depth * record_stride(core),
    ]


def test_no_row_is_read_in_the_cycle_in_which_it_is_written(ports):
    logits, cycles, counts = run_frames(ports)
    assert logits == golden(NETWORK)
    assert cycles == [cycles_per_frame(NETWORK, ENGINE)]
    for depth in [ENGINE.spike_depth, ENGINE.frame_depth, 2 * INDEX_LIMIT, *depths(ENGINE)]:
        assert counts[depth, "read"] and counts[depth, "write"], depth
        assert not counts[depth, "both"], depth


def test_two_cores_at_once_never_meet_in_a_row(ports):
    """Three frames: the stem's map goes to one side while the other core is on the other."""
    logits, cycles, counts = run_frames(ports, NETWORK, TWO, count=3)
    assert logits == golden(NETWORK, 3)
    stem, *others = (layer_cycles(NETWORK, index, TWO) for index in range(4))
    assert cycles == [max(stem, sum(others))] * 3
    found = [TWO.spike_depth, TWO.frame_depth, 2 * INDEX_LIMIT, *depths(TWO), *depths(TWO.stem)]
    assert len(set(found)) == len(found)
    for depth in found:
        assert counts[depth, "read"] and counts[depth, "write"], depth
        assert not counts[depth, "both"], depth


def test_a_stem_reads_no_spikes(ports):
    """Its elements are bytes of the frame: words of the same address may be written meanwhile."""
    program = compile_program(random_image(NETWORK), ENGINE)
    commands = [protocol.encode_write(r, 0, words) for r, words in program.regions.items()]
    commands.append(program.run_layer(0))
    cycles = layer_cycles(NETWORK, 0, ENGINE)
    answers, counts = run_commands(ports, ENGINE, commands, cycles)
    assert protocol.decode_run(answers[-1])[0] == cycles
    # A pixel is two tiles; the host writes word 0.
    assert (counts[100, "write"], counts[100, "read"]) == (2 * 6 * 5 + 2, 0)


#: One row, and timing at which a tap below the map would lie in the row now being written.
FLAT = Network("flat", Shape(1, 1, 4), [Stem(17, kernel=1), Conv(4), Readout(3)], T=2)
TIGHT = replace(ENGINE, pe=4, simd=16, spike_depth=16)


def test_taps_outside_the_map_read_word_0(ports):
    logits, _, counts = run_frames(ports, FLAT, TIGHT)
    assert logits == golden(FLAT)
    assert not counts[16, "both"]


@pytest.mark.parametrize("row, harmless", [(TWO.spike_depth - 1, True), (0, False)])
def test_taps_outside_the_map_read_word_0_on_either_side(ports, row, harmless):
    """The last word, which is number 0 of the other side, may hold anything."""
    words = TWO.simd * TWO.lanes // 16
    ones = protocol.encode_write(Region.SPIKES, words * row, [0xFFFF] * words)
    logits, *_ = run_frames(ports, NETWORK, TWO, 2, [ones])
    assert (logits == golden(NETWORK, 2)) == harmless


@pytest.mark.parametrize("row, both", [(5, 1), (4, 0)])
def test_a_collision_is_noticed(ports, row, both):
    dut, counts = SpikeMemory(32, 8), Counter()

    async def testbench(ctx):
        for values in [
            dict(enable=1, address=5, write_banks=0, write_address=5),
            dict(enable=0, address=5, write_banks=3, write_address=5),
            dict(enable=1, address=5, write_banks=3, write_address=row),
        ]:
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick()

    simulate(dut, testbench, collisions(ports, counts, 3))
    assert counts == {(8, "read"): 2, (8, "write"): 2, (8, "both"): both}
