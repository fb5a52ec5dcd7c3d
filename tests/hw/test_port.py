"""The command port against the protocol in plain Python, with stalls on either side."""

import random
from dataclasses import dataclass, field

import pytest

from hw.port import Port
from sw import protocol
from sw.program import Region, region_words
from sw.protocol import Opcode, Status
from tests.hw.support import FLOWS, SMALL, STALLS, WIDE, difference, shape, simulate, sink, source

#: A run of n layers takes this many cycles a layer in the stub below.
RUN_CYCLES = 70


@dataclass
class Device:
    """What the port's surroundings saw, and the bytes that came back."""

    reply: list = field(default_factory=list)
    writes: list = field(default_factory=list)
    runs: list = field(default_factory=list)


def spike_word(address):
    return (address * 40503 + 77) & 0xFFFF


def expected(engine, commands):
    """The Device after ``commands``, given as (opcode, arguments...)."""
    device = Device()
    for opcode, *arguments in commands:
        if opcode == Opcode.INFO:
            device.reply += [Status.OK, *protocol.encode_info(engine)]
        elif opcode == Opcode.WRITE:
            region, address, words = arguments
            size = region_words(engine, region) if region in list(Region) else 0
            fits = [address + i < size for i in range(len(words))]
            device.reply.append(Status.OK if all(fits) else Status.RANGE)
            device.writes += [
                (region, address + i, word) for i, word in enumerate(words) if fits[i]
            ]
        elif opcode == Opcode.READ:
            address, count = arguments
            if address + count > region_words(engine, Region.SPIKES):
                device.reply.append(Status.RANGE)
                continue
            device.reply.append(Status.OK)
            for i in range(count):
                device.reply += spike_word(address + i).to_bytes(2, "little")
        elif opcode == Opcode.RUN:
            first, count = arguments
            if not 0 < count <= engine.layer_depth - first:
                device.reply.append(Status.RANGE)
                continue
            device.runs.append((first, count))
            device.reply += [Status.OK, *(RUN_CYCLES * count).to_bytes(4, "little")]
        else:
            device.reply.append(Status.UNKNOWN)
    return device


def encode(opcode, *arguments):
    encoders = {
        Opcode.WRITE: protocol.encode_write, Opcode.READ: protocol.encode_read,
        Opcode.RUN: protocol.encode_run,
    }
    return encoders[opcode](*arguments) if opcode in encoders else bytes([opcode])


def run(engine, commands, rx=FLOWS, tx=FLOWS):
    """The Device after all commands came in back to back."""
    dut, device = Port(engine), Device()
    octets = b"".join(encode(*command) for command in commands)
    wanted = expected(engine, commands)
    layers = sum(count for _, count in wanted.runs)
    cycles = int(1.3 * (len(octets) / rx + 2 * len(wanted.reply) / tx)) + RUN_CYCLES * layers + 200

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
            *_, start, first, count = await ctx.tick().sample(dut.start, dut.first, dut.count)
            if start:
                assert left == 0, "started twice"
                device.runs.append((first, count))
                left = RUN_CYCLES * count
                ctx.set(dut.cycles, left)
            ctx.set(dut.busy, left > 0)
            left = max(left - 1, 0)

    simulate(
        dut, source(dut.rx, octets, rx), sink(dut.tx, device.reply, cycles, tx), memories, sequencer
    )
    return device


def check(engine, commands, **willing):
    wanted, got = expected(engine, commands), run(engine, commands, **willing)
    for name in ("reply", "writes", "runs"):
        assert difference(getattr(wanted, name), getattr(got, name)) is None, name
    return got


def mixed_commands(engine):
    rng = random.Random(15)
    spikes = region_words(engine, Region.SPIKES)
    commands = [(Opcode.INFO,), (0x00,), (Opcode.RUN, 0, 1)]
    for region in Region:
        words = [rng.getrandbits(16) for _ in range(rng.randint(1, 4))]
        last = region_words(engine, region) - len(words)
        commands += [(Opcode.WRITE, region, last, words), (Opcode.READ, rng.randrange(99), 3)]
    return [
        *commands,
        (Opcode.READ, spikes - 2, 2),
        (Opcode.READ, spikes - 1, 2),
        (255,),
        (Opcode.WRITE, Region.MEANS, 0, []),
        (Opcode.RUN, 1, engine.layer_depth - 1),
        (Opcode.READ, 7, 0),
        (Opcode.RUN, 2, engine.layer_depth - 1),
        (Opcode.INFO,),
    ]


@pytest.mark.parametrize("rx", [FLOWS, STALLS], ids=["rx-flows", "rx-stalls"])
@pytest.mark.parametrize("tx", [FLOWS, STALLS], ids=["tx-flows", "tx-stalls"])
def test_commands_back_to_back(rx, tx):
    check(SMALL, mixed_commands(SMALL), rx=rx, tx=tx)


@pytest.mark.parametrize("engine", [SMALL, WIDE], ids=shape)
def test_info_tells_the_engine(engine):
    got = check(engine, [(Opcode.INFO,)])
    assert protocol.decode_info(bytes(got.reply)) == engine


@pytest.mark.parametrize("opcode", [0x00, 0x05, 0x81, 0xFF])
def test_unknown_opcodes_are_answered_and_have_no_arguments(opcode):
    got = check(SMALL, [(opcode,), (Opcode.READ, 3, 1)])
    assert got.reply[:2] == [Status.UNKNOWN, Status.OK]


@pytest.mark.parametrize("region", Region)
def test_writes_end_with_the_memory(region):
    """What lies inside is written, what lies beyond is dropped, and the next command is clear."""
    size = region_words(SMALL, region)
    got = check(SMALL, [
        (Opcode.WRITE, region, size - 1, [1]), (Opcode.WRITE, region, size, [2]),
        (Opcode.WRITE, region, size - 1, [3, 4, 5]), (Opcode.WRITE, region, 0, [6, 7]),
        (Opcode.WRITE, region, 0xFFFFFF, [8]),
    ])
    assert [word for *_, word in got.writes] == [1, 3, 6, 7]


@pytest.mark.parametrize("region", [6, 7, 8, 0x0D, 0x81, 0xFF])
def test_unknown_regions_are_out_of_range(region):
    got = check(SMALL, [(Opcode.WRITE, region, 0, [1, 2]), (Opcode.INFO,)])
    assert got.reply[0] == Status.RANGE and got.writes == []


def test_addresses_do_not_wrap_around():
    got = check(SMALL, [
        (Opcode.WRITE, Region.SPIKES, 0xFFFFFE, [1, 2, 3, 4]), (Opcode.READ, 0xFFFFFF, 2),
    ])
    assert got.reply == [Status.RANGE] * 2 and got.writes == []


@pytest.mark.parametrize("address, count, status", [
    (1024, 0, Status.OK), (1024, 1, Status.RANGE), (1023, 1, Status.OK), (0, 1025, Status.RANGE),
    (0, 0, Status.OK), (0xFFFFFF, 0xFFFFFF, Status.RANGE), (1025, 0, Status.RANGE),
])
def test_reads_beyond_the_spikes_have_no_data(address, count, status):
    assert region_words(SMALL, Region.SPIKES) == 1024
    got = check(SMALL, [(Opcode.READ, address, count), (Opcode.READ, 5, 1)])
    assert got.reply[0] == status


@pytest.mark.parametrize("first, count, status", [
    (0, 8, Status.OK), (7, 1, Status.OK), (8, 1, Status.RANGE), (0, 9, Status.RANGE),
    (255, 255, Status.RANGE), (255, 1, Status.RANGE), (3, 0, Status.RANGE),
])
def test_runs_beyond_the_program_are_refused(first, count, status):
    got = check(SMALL, [(Opcode.RUN, first, count), (Opcode.INFO,)])
    assert got.reply[0] == status and got.runs == [(first, count)] * (status == Status.OK)


def test_differences_are_noticed():
    commands = [(Opcode.WRITE, Region.MEANS, 5, [10, 11]), (Opcode.READ, 9, 2), (Opcode.RUN, 0, 1)]
    got = run(SMALL, commands)
    others = [(Opcode.WRITE, Region.MEANS, 5, [10, 12]), (Opcode.READ, 8, 2), (Opcode.RUN, 1, 1)]
    wanted = expected(SMALL, others)
    assert difference(wanted.reply, got.reply).startswith("entry 2")
    assert difference(wanted.writes, got.writes).startswith("entry 1")
    assert difference(wanted.runs, got.runs).startswith("entry 0")
