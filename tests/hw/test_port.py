"""The command port against the protocol in plain Python, with stalls on either side."""

import random
from dataclasses import dataclass, field

import pytest

from hw.port import Port
from sw import protocol
from sw.program import Region, region_words
from sw.protocol import Flags, Opcode, Status
from tests.hw.support import (
    FLOWS,
    SMALL,
    STALLS,
    TWO,
    WIDE,
    difference,
    shape,
    simulate,
    sink,
    source,
)

#: A run of n layers takes this many cycles a layer in the stub below, and one of a stem alone this.
RUN_CYCLES, STEM_CYCLES = 70, 41


@dataclass
class Device:
    """What the port's surroundings saw, and the bytes that came back."""

    reply: list = field(default_factory=list)
    writes: list = field(default_factory=list)
    runs: list = field(default_factory=list)


def spike_word(address):
    return (address * 40503 + 77) & 0xFFFF


def run_cycles(count):
    return RUN_CYCLES * count or STEM_CYCLES


def may_run(engine, first, count, flags):
    """Layers that the program has, or the stem of an engine with a core for it."""
    if first + count > engine.layer_depth:
        return False
    if engine.stem is None:
        return count > 0 and flags == 0
    return flags < 8 and (count > 0 or bool(flags & 2))


def expected(engine, commands):
    """The Device after ``commands``, given as (opcode, arguments...)."""
    device, sizes = Device(), region_words(engine)
    for opcode, *arguments in commands:
        if opcode == Opcode.INFO:
            device.reply += [Status.OK, *protocol.encode_info(engine)]
        elif opcode == Opcode.WRITE:
            region, address, words = arguments
            fits = [address + i < sizes.get(region, 0) for i in range(len(words))]
            device.reply.append(Status.OK if all(fits) else Status.RANGE)
            device.writes += [
                (region, address + i, word) for i, word in enumerate(words) if fits[i]
            ]
        elif opcode == Opcode.READ:
            address, count = arguments
            if address + count > sizes[Region.SPIKES]:
                device.reply.append(Status.RANGE)
                continue
            device.reply.append(Status.OK)
            for i in range(count):
                device.reply += spike_word(address + i).to_bytes(2, "little")
        elif opcode == Opcode.RUN:
            first, count, flags, address, words = (*arguments, *[0] * 5)[:5]
            within = address + words <= sizes[Region.SPIKES]
            if not (within and may_run(engine, first, count, flags)):
                device.reply.append(Status.RANGE)
                continue
            device.runs.append((first, count, flags))
            device.reply += [Status.OK, *run_cycles(count).to_bytes(4, "little")]
            for i in range(words):
                device.reply += spike_word(address + i).to_bytes(2, "little")
        else:
            device.reply.append(Status.UNKNOWN)
    return device


def encode(opcode, *arguments):
    encoders = {
        Opcode.WRITE: protocol.encode_write, Opcode.READ: protocol.encode_read,
        Opcode.RUN: protocol.encode_run,
    }
    if opcode in encoders:
        return encoders[opcode](*arguments)
    return bytes([opcode, *range(1, protocol.COMMAND_BYTES)])


def surroundings(dut, device, cycles):
    """Testbenches that are the memories and the sequencer of a port, and fill in ``device``."""
    async def memories(ctx):
        write, read = dut.write, dut.read
        for _ in range(cycles):
            *_, enable, region, address, word, reads, wanted = await ctx.tick().sample(
                write.enable, write.region, write.address, write.data, read.enable, read.address
            )
            if enable:
                device.writes.append((region, address, word))
            if reads:
                ctx.set(read.data, spike_word(wanted))

    async def sequencer(ctx):
        left = 0
        for _ in range(cycles):
            *_, start, first, count, flags = await ctx.tick().sample(
                dut.start, dut.first, dut.count, dut.flags
            )
            if start:
                assert left == 0, "started twice"
                device.runs.append((first, count, int(flags)))
                left = run_cycles(count)
            elif left:
                # A stem core takes its side as long as it works.
                assert device.runs[-1] == (first, count, int(flags)), "changed while running"
            ctx.set(dut.busy, left > 0)
            left = max(left - 1, 0)

    return memories, sequencer


def run(engine, commands, rx=FLOWS, tx=FLOWS):
    """The Device after all commands came in back to back."""
    dut, device = Port(engine), Device()
    octets = b"".join(encode(*command) for command in commands)
    wanted = expected(engine, commands)
    cycles = int(1.3 * (len(octets) / rx + 2 * len(wanted.reply) / tx)) + 200
    cycles += sum(run_cycles(count) for _, count, _ in wanted.runs)

    async def trust(ctx):
        ctx.set(dut.check.intact, 1)

    simulate(
        dut, trust, source(dut.rx, octets, rx), sink(dut.tx, device.reply, cycles, tx),
        *surroundings(dut, device, cycles),
    )
    return device


def check(engine, commands, **willing):
    wanted, got = expected(engine, commands), run(engine, commands, **willing)
    for name in ("reply", "writes", "runs"):
        assert difference(getattr(wanted, name), getattr(got, name)) is None, name
    return got


def mixed_commands(engine):
    rng, sizes = random.Random(15), region_words(engine)
    spikes = sizes[Region.SPIKES]
    commands = [(Opcode.INFO,), (0x00,), (Opcode.RUN, 0, 1), (Opcode.RUN, 0, 0, Flags.STEM)]
    for region, size in sizes.items():
        words = [rng.getrandbits(16) for _ in range(rng.randint(1, 4))]
        last = size - len(words)
        commands += [(Opcode.WRITE, region, last, words), (Opcode.READ, rng.randrange(99), 3)]
    return [
        *commands,
        (Opcode.READ, spikes - 2, 2),
        (Opcode.READ, spikes - 1, 2),
        (255,),
        (Opcode.WRITE, Region.MEANS, 0, []),
        (Opcode.RUN, 1, engine.layer_depth - 1),
        (Opcode.RUN, 0, 2, Flags.SIDE | Flags.STEM, 11, 3),
        (Opcode.RUN, 0, 1, 0, spikes - 3, 3),
        (Opcode.RUN, 0, 1, 0, spikes - 3, 4),
        (Opcode.READ, 7, 0),
        (Opcode.RUN, 2, engine.layer_depth - 1),
        (Opcode.INFO,),
    ]


@pytest.mark.parametrize("rx", [FLOWS, STALLS], ids=["rx-flows", "rx-stalls"])
@pytest.mark.parametrize("tx", [FLOWS, STALLS], ids=["tx-flows", "tx-stalls"])
@pytest.mark.parametrize("engine", [SMALL, TWO], ids=shape)
def test_commands_back_to_back(engine, rx, tx):
    got = check(engine, mixed_commands(engine), rx=rx, tx=tx)
    assert len(got.runs) == (3 if engine is SMALL else 5)


@pytest.mark.parametrize("engine", [SMALL, WIDE, TWO], ids=shape)
def test_info_tells_the_engine(engine):
    got = check(engine, [(Opcode.INFO,)])
    assert protocol.decode_info(bytes(got.reply)) == engine


@pytest.mark.parametrize("opcode", [0x00, 0x05, 0x8F, 0xFF])
def test_unknown_opcodes_are_answered_and_have_no_data(opcode):
    got = check(SMALL, [(opcode,), (Opcode.READ, 3, 1)])
    assert got.reply[:2] == [Status.UNKNOWN, Status.OK]


def test_regions_are_as_large_as_their_memories():
    """In 16-bit words; a record of four lanes has 32."""
    assert region_words(SMALL) == {
        Region.SPIKES: 512 * 2, Region.WEIGHTS: 1024 * 2, Region.CHANNELS: 256 * 2,
        Region.MEANS: 512, Region.SIGMOID: 512, Region.PROGRAM: 8 * 32, Region.FRAME: 512,
    }
    assert {region: words for region, words in region_words(TWO).items() if region > 8} == {
        Region.STEM_WEIGHTS: 64 * 2, Region.STEM_CHANNELS: 32 * 2, Region.STEM_MEANS: 256,
        Region.STEM_PROGRAM: 2 * 32,
    }


@pytest.mark.parametrize(
    "engine, region",
    [(SMALL, region) for region in Region if region < 8] + [(TWO, region) for region in Region],
    ids=lambda value: value.name if isinstance(value, Region) else shape(value),
)
def test_writes_end_with_the_memory(engine, region):
    """What lies inside is written, what lies beyond is dropped, and the next command is clear."""
    size = region_words(engine)[region]
    got = check(engine, [
        (Opcode.WRITE, region, size - 1, [1]), (Opcode.WRITE, region, size, [2]),
        (Opcode.WRITE, region, size - 1, [3, 4, 5]), (Opcode.WRITE, region, 0, [6, 7]),
        (Opcode.WRITE, region, 0xFFFFFF, [8]),
    ])
    assert [word for *_, word in got.writes] == [1, 3, 6, 7]


@pytest.mark.parametrize(
    "engine, region",
    [(SMALL, region) for region in (7, 8, 9, 0x0D, 0x0F, 0x11, 0x81, 0xFF)]
    + [(TWO, region) for region in (7, 8, 12, 14, 15, 0x19, 0x89)],
)
def test_unknown_regions_are_out_of_range(engine, region):
    got = check(engine, [(Opcode.WRITE, region, 0, [1, 2]), (Opcode.INFO,)])
    assert got.reply[0] == Status.RANGE and got.writes == []


def test_addresses_do_not_wrap_around():
    got = check(SMALL, [
        (Opcode.WRITE, Region.SPIKES, 0xFFFFFE, [1, 2, 3, 4]), (Opcode.READ, 0xFFFFFF, 2),
    ])
    assert got.reply == [Status.RANGE] * 2 and got.writes == []


@pytest.mark.parametrize("bit", range(12, 24))
def test_no_bit_of_an_address_is_left_out(bit):
    """SMALL's longest memory has 2**11 words. The count of a write may not wrap either."""
    assert max(region_words(SMALL).values()) == 1 << 11
    for address in (1 << bit, (1 << bit) - 2):
        got = check(SMALL, [(Opcode.WRITE, Region.SPIKES, address, [1, 2, 3, 4])])
        assert got.reply == [Status.RANGE] and got.writes == []


@pytest.mark.parametrize("address, count, status", [
    (1024, 0, Status.OK), (1024, 1, Status.RANGE), (1023, 1, Status.OK), (0, 1025, Status.RANGE),
    (0, 0, Status.OK), (0xFFFFFF, 0xFFFF, Status.RANGE), (1025, 0, Status.RANGE),
])
def test_reads_beyond_the_spikes_have_no_data(address, count, status):
    assert region_words(SMALL)[Region.SPIKES] == 1024
    got = check(SMALL, [(Opcode.READ, address, count), (Opcode.READ, 5, 1)])
    assert got.reply[0] == status


@pytest.mark.parametrize("first, count, status", [
    (0, 8, Status.OK), (7, 1, Status.OK), (8, 1, Status.RANGE), (0, 9, Status.RANGE),
    (255, 255, Status.RANGE), (255, 1, Status.RANGE), (3, 0, Status.RANGE),
])
def test_runs_beyond_the_program_are_refused(first, count, status):
    got = check(SMALL, [(Opcode.RUN, first, count), (Opcode.INFO,)])
    assert got.reply[0] == status and got.runs == [(first, count, 0)] * (status == Status.OK)


@pytest.mark.parametrize("flags", range(1, 16))
def test_flags_are_refused_without_a_stem_core(flags):
    got = check(SMALL, [(Opcode.RUN, 0, 1, flags), (Opcode.RUN, 0, 0, flags), (Opcode.INFO,)])
    assert got.reply[:2] == [Status.RANGE] * 2 and got.runs == []


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("flags", range(8))
def test_flags_reach_a_stem_core(flags, count):
    """Layers on either side, the stem on either side, or both: but something has to run."""
    got = check(TWO, [(Opcode.RUN, 0, count, flags), (Opcode.INFO,)])
    runs = count > 0 or flags in (2, 3, 6, 7)
    assert got.runs == [(0, count, flags)] * runs
    assert got.reply[0] == (Status.OK if runs else Status.RANGE)


@pytest.mark.parametrize("flags", [8, 10, 15])
def test_unknown_flags_are_refused(flags):
    got = check(TWO, [(Opcode.RUN, 0, 1, flags), (Opcode.RUN, 0, 0, flags), (Opcode.INFO,)])
    assert got.reply[:2] == [Status.RANGE] * 2 and got.runs == []


@pytest.mark.parametrize("first, count, status", [
    (8, 0, Status.OK), (9, 0, Status.RANGE), (7, 1, Status.OK), (8, 1, Status.RANGE),
])
def test_a_stem_does_not_excuse_layers_beyond_the_program(first, count, status):
    got = check(TWO, [(Opcode.RUN, first, count, Flags.STEM), (Opcode.INFO,)])
    assert got.reply[0] == status


@pytest.mark.parametrize("tx", [FLOWS, STALLS], ids=["tx-flows", "tx-stalls"])
def test_cycles_of_a_run_are_those_in_which_anything_is_busy(tx):
    """Counted anew for each run, and not while the reply waits."""
    got = check(TWO, [
        (Opcode.RUN, 0, 8), (Opcode.RUN, 0, 0, Flags.STEM), (Opcode.RUN, 0, 1), (Opcode.RUN, 3, 4),
    ], tx=tx)
    cycles = [int.from_bytes(got.reply[5 * n + 1 : 5 * n + 5], "little") for n in range(4)]
    assert cycles == [560, 41, 70, 280]


def test_differences_are_noticed():
    commands = [(Opcode.WRITE, Region.MEANS, 5, [10, 11]), (Opcode.READ, 9, 2), (Opcode.RUN, 0, 1)]
    got = run(SMALL, commands)
    others = [(Opcode.WRITE, Region.MEANS, 5, [10, 12]), (Opcode.READ, 8, 2), (Opcode.RUN, 1, 2)]
    wanted = expected(SMALL, others)
    assert difference(wanted.reply, got.reply).startswith("entry 2")
    assert difference(wanted.writes, got.writes).startswith("entry 1")
    assert difference(wanted.runs, got.runs).startswith("entry 0")
    # All but the cycles of the run: 140, not 70.
    assert difference(wanted.reply[6:], got.reply[6:]).startswith("entry 1:")
