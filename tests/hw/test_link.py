"""The link in front of a port, against ``sw.framing`` and the protocol in plain Python."""

import random
from itertools import pairwise

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.bus import HostRead, HostWrite
from hw.link import Link, quiet_bits
from hw.port import Port
from sw import framing, protocol
from sw.framing import NUMBERS, OPENING, frame_command, frame_reply
from sw.program import Region, region_words
from sw.protocol import Flags, Opcode, Status
from tests.faults import FAULTS
from tests.hw.support import FLOWS, SMALL, STALLS, difference, simulate, sink
from tests.hw.test_port import Device, encode, expected, surroundings

QUIET_BITS = 6
QUIET = None


class LinkedPort(wiring.Component):
    """A port behind a link."""

    def __init__(self, engine):
        self.engine = engine
        self.link = Link(QUIET_BITS)
        super().__init__({
            "rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)),
            "write": Out(HostWrite), "read": Out(HostRead), "start": Out(1), "first": Out(8),
            "count": Out(8), "flags": Out(Flags), "busy": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        m.submodules.port = port = Port(self.engine)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.command, port.rx)
        connect(m, port.tx, link.reply)
        connect(m, link.check, port.check)
        connect(m, port.write, flipped(self.write))
        connect(m, port.read, flipped(self.read))
        m.d.comb += [
            self.start.eq(port.start), self.first.eq(port.first), self.count.eq(port.count),
            self.flags.eq(port.flags), port.busy.eq(self.busy),
        ]
        return m


def talk(arrivals, cycles, rx=FLOWS, tx=FLOWS):
    """The Device after ``arrivals``, bytes with QUIET for a line that is quiet."""
    dut, device = LinkedPort(SMALL), Device()
    rng = random.Random(3)

    async def line(ctx):
        for octet in arrivals:
            if octet is QUIET:
                # The last byte is on its way, and a reply.
                await ctx.tick().repeat(4 * (1 << QUIET_BITS) + 400)
                continue
            while rng.random() >= rx:
                await ctx.tick()
            ctx.set(dut.rx.payload, octet)
            ctx.set(dut.rx.valid, 1)
            await ctx.tick().until(dut.rx.ready)
            ctx.set(dut.rx.valid, 0)

    simulate(
        dut, line, sink(dut.tx, device.reply, cycles, tx), *surroundings(dut, device, cycles)
    )
    return device


class Memory:
    """The port in Python: what has been written and run, and replies."""

    def __init__(self):
        self.device = Device()
        self.last = b""

    def __call__(self, command, again):
        if again and command[0] & 15 == Opcode.RUN:
            return self.last
        told = expected(SMALL, [decode(command)])
        self.device.writes += told.writes
        self.device.runs += told.runs
        reply = bytes(told.reply)
        if command[0] & 15 == Opcode.RUN:
            self.last = reply
        return reply


def decode(command):
    """What ``encode`` of the port's tests would make ``command`` of."""
    opcode, flags, region = command[0] & 15, command[0] >> 4, command[1]
    address, words = (int.from_bytes(command[a:b], "little") for a, b in ((2, 5), (5, 7)))
    if opcode == Opcode.WRITE:
        data = command[8:]
        return opcode, region, address, [
            int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)
        ]
    return {
        Opcode.READ: (opcode, address, words),
        Opcode.RUN: (opcode, region, command[7], flags, address, words),
    }.get(opcode, (opcode,))


def check(arrivals, **willing):
    """Hardware and model agree on ``arrivals``; the Device."""
    memory = Memory()
    replies = Link(QUIET_BITS).model(arrivals, memory)
    octets = sum(octet is not QUIET for octet in arrivals)
    cycles = 12 * octets + 24 * len(replies) * round(1 / min(1, *willing.values(), 1)) + 3000
    cycles += (4 * (1 << QUIET_BITS) + 400) * (len(arrivals) - octets)
    cycles += 600 * len(memory.device.runs)
    got = talk(arrivals, cycles, **willing)
    assert difference(list(replies), got.reply) is None
    assert difference(memory.device.runs, got.runs) is None
    return got, memory.device


COMMANDS = [
    (Opcode.INFO,), (Opcode.WRITE, Region.MEANS, 5, [10, 11, 12]), (Opcode.READ, 9, 2),
    (Opcode.RUN, 0, 3, 0, 17, 4), (Opcode.WRITE, Region.FRAME, 0, []), (9,),
    (Opcode.READ, region_words(SMALL)[Region.SPIKES], 1), (Opcode.RUN, 1, 2),
    (Opcode.WRITE, Region.WEIGHTS, 7, [1]), (Opcode.WRITE, Region.MEANS, 511, [1, 2]),
]


def frames(first=OPENING, commands=COMMANDS):
    """The frames of commands, one after the other."""
    numbers = [first, *((first + n) % NUMBERS for n in range(1, len(commands)))]
    return [
        frame_command(number, encode(*command))
        for number, command in zip(numbers, commands, strict=True)
    ]


@pytest.mark.parametrize("rx", [FLOWS, STALLS], ids=["rx-flows", "rx-stalls"])
@pytest.mark.parametrize("tx", [FLOWS, STALLS], ids=["tx-flows", "tx-stalls"])
def test_frames_back_to_back(rx, tx):
    got, _ = check(b"".join(frames()), rx=rx, tx=tx)
    wanted = expected(SMALL, COMMANDS)
    assert difference(wanted.writes, got.writes) is None
    assert got.runs == wanted.runs and len(got.runs) == 2


def test_cycles_of_a_byte():
    """From one that is taken to the next; the port takes them at once."""
    dut, taken = LinkedPort(SMALL), []

    async def testbench(ctx):
        ctx.set(dut.rx.valid, 1)
        for cycle in range(100):
            *_, ready = await ctx.tick().sample(dut.rx.ready)
            taken.extend([cycle] if ready else [])

    simulate(dut, testbench)
    assert {b - a for a, b in pairwise(taken[:9])} == {dut.link.cycles}


def test_sequence_numbers_start_over():
    commands = [(Opcode.READ, n, 1) for n in range(5)]
    numbers = [OPENING + NUMBERS - 3, NUMBERS - 2, NUMBERS - 1, 0, 1]
    arrivals = b"".join(
        frame_command(number, encode(*command))
        for number, command in zip(numbers, commands, strict=True)
    )
    got, _ = check(arrivals)
    assert got.reply == [
        octet for number, command in zip(numbers, commands, strict=True)
        for octet in frame_reply(number, bytes(expected(SMALL, [command]).reply))
    ]


@pytest.mark.parametrize("number, status, runs", [
    (1, Status.OK, 2), (0, Status.OK, 1), (2, Status.ORDER, 1), (127, Status.ORDER, 1),
    (64, Status.ORDER, 1), (OPENING, Status.OK, 2), (OPENING + 77, Status.OK, 2),
])
def test_a_run_is_run_once(number, status, runs):
    """The next number runs, the last one again is answered alone, others are refused."""
    run = encode(Opcode.RUN, 0, 2)
    got, _ = check(
        frame_command(OPENING + 127, protocol.INFO) + frame_command(0, run)
        + frame_command(number, run)
    )
    assert len(got.runs) == runs
    size = 1 if status else 5
    reply = bytes(got.reply[-framing.reply_bytes(size) :])
    assert framing.unframe_reply(number, reply)[0] == status


@pytest.mark.parametrize("number", [0, 1, 127])
def test_nothing_is_done_before_a_session_is_opened(number):
    """Whatever was before the reset, nobody takes what is there now for the answer."""
    got, _ = check(frame_command(number, encode(Opcode.RUN, 0, 2)))
    assert bytes(got.reply) == frame_reply(number, bytes([Status.ORDER]))
    assert got.runs == []


def test_a_run_comes_again_after_something_damaged():
    run = frame_command(0, encode(Opcode.RUN, 0, 2, 0, 30, 2))
    damaged = bytes([run[0] ^ 4]) + run[1:]
    got, _ = check([
        *frame_command(OPENING + 127, protocol.INFO), *run, QUIET, *damaged, QUIET, *run,
    ])
    size = framing.reply_bytes(1 + 4 + 4)
    assert len(got.runs) == 1 and got.reply[-size:] == got.reply[-2 * size : -size]


@pytest.mark.parametrize("place", range(1 + 8 + 4 + 4 + 4))
def test_a_damaged_frame_has_no_answer_and_the_next_one_has(place):
    write = bytearray(frame_command(OPENING, encode(Opcode.WRITE, Region.MEANS, 3, [5, 6])))
    write[place] ^= 1 << place % 8
    info = frame_command(OPENING, protocol.INFO)
    got, _ = check([*write, QUIET, *info])
    assert len(got.reply) == framing.reply_bytes(protocol.reply_bytes(protocol.INFO))
    # Nothing is written before the header has proved to be intact.
    assert len(got.writes) == (0 if place < 13 else 2)
    deaf, _ = check([*write, *info])
    assert deaf.reply == []


def test_a_frame_after_a_quiet_line_may_have_gaps():
    """The line is quiet no more once a byte has come."""
    info = frame_command(OPENING, protocol.INFO)
    got, _ = check([*info, QUIET, *info], rx=0.05)
    assert len(got.reply) == 2 * framing.reply_bytes(protocol.reply_bytes(protocol.INFO))


@pytest.mark.parametrize("cut", [1, 2, 8, 9, 10, 12, 13, 14, 15, 17, 18, 20])
def test_a_frame_may_end_anywhere(cut):
    write = frame_command(OPENING, encode(Opcode.WRITE, Region.MEANS, 3, [5, 6]))[:cut]
    info = frame_command(OPENING, protocol.INFO)
    got, _ = check([*write, QUIET, *info])
    assert len(got.reply) == framing.reply_bytes(protocol.reply_bytes(protocol.INFO))


def faulty(rng):
    """Arrivals: frames, some with a fault and quiet after it, some twice."""
    arrivals = []
    for frame in frames(OPENING, rng.choices(COMMANDS, k=6)):
        octets, errs = bytearray(frame), rng.random() < 0.67
        if errs:
            rng.choice(list(FAULTS.values()))(rng, octets)
        arrivals += octets
        if errs or rng.random() < 0.2:
            arrivals.append(QUIET)
        if rng.random() < 0.2:
            arrivals += frame
    return arrivals


@pytest.mark.parametrize("seed", range(20))
def test_faults_at_random(seed):
    rng = random.Random(seed)
    check([*faulty(rng), QUIET, *frame_command(OPENING, protocol.INFO)])


@pytest.mark.parametrize("clock_hz, bits", [(12e6, 17), (24e6, 18), (27e6, 19), (50e6, 19),
                                            (13_107_200, 17), (13_107_300, 18)])
def test_quiet_is_ten_milliseconds_at_least_and_less_than_twice_that(clock_hz, bits):
    assert quiet_bits(clock_hz) == bits
    assert 1 <= 2**bits / clock_hz / framing.QUIET_SECONDS < 2


def test_differences_are_noticed():
    arrivals = b"".join(frames())
    got, _ = check(arrivals)
    others = Link(QUIET_BITS).model(arrivals[: -len(frames()[-1])], Memory())
    assert difference(list(others), got.reply) is not None
