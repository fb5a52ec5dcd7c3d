"""The accelerator through its serial line: whole frames, and the way back after half a command."""

import pytest

from hw.device import Device
from hw.uart import DIVISOR_MIN
from sw import framing, protocol
from sw.cycles import cycles_per_frame
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region, compile_program
from tests.hw.support import SMALL, simulate
from tests.support import random_frames, random_image

NETWORK = Network("wired", Shape(1, 3, 3), [Stem(4), Conv(4), Readout(2)])
IMAGE = random_image(NETWORK)

#: A line without a byte for 2**QUIET_BITS cycles is quiet.
QUIET_BITS = 8

#: Bits of a byte on the line; a break is longer than two of them.
BYTE_BITS, BREAK_BITS = 10, 21

#: Cycles after which a reply is overdue.
PATIENCE = 300 * DIVISOR_MIN


class SerialHost:
    """The far end of the line, in a testbench."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut
        self.sequence = framing.OPENING
        self.cycles = 0

    async def tick(self, cycles=1):
        self.cycles += cycles
        await self.ctx.tick().repeat(cycles)

    async def bits(self, *bits):
        for bit in bits:
            self.ctx.set(self.dut.rx_line, bit)
            await self.tick(DIVISOR_MIN)

    async def send(self, octets):
        for octet in octets:
            await self.bits(0, *(octet >> n & 1 for n in range(8)), 1)

    async def idle(self, octets=1):
        """Leave the line high for the time of some bytes."""
        await self.bits(*[1] * BYTE_BITS * octets)

    async def send_break(self):
        await self.bits(*[0] * BREAK_BITS)
        await self.idle()

    async def receive(self, count):
        """The next ``count`` bytes, fewer when the line stays idle."""
        octets = []
        while len(octets) < count:
            idle = 0
            while self.ctx.get(self.dut.tx_line):
                await self.tick()
                idle += 1
                if idle > PATIENCE:
                    return bytes(octets)
            await self.tick(DIVISOR_MIN // 2)
            value = 0
            for place in range(BYTE_BITS):
                value |= self.ctx.get(self.dut.tx_line) << place
                await self.tick(DIVISOR_MIN if place < BYTE_BITS - 1 else 1)
            assert value & 1 == 0 and value >> 9 == 1, "a byte without start or stop bit"
            octets.append(value >> 1 & 0xFF)
        return bytes(octets)

    async def ask(self, command):
        """The reply to a command, in a frame that nothing disturbs."""
        sequence, self.sequence = self.sequence, (self.sequence + 1) % framing.NUMBERS
        await self.send(framing.frame_command(sequence, command))
        octets = await self.receive(framing.reply_bytes(protocol.reply_bytes(command)))
        return framing.unframe_reply(sequence, octets)

    async def open(self):
        """A new session; the engine of the device."""
        self.sequence = framing.OPENING
        return protocol.decode_info(await self.ask(protocol.INFO))


def device_test(scenario):
    """Run the coroutine ``scenario(host)`` against a Device."""
    dut = Device(SMALL, DIVISOR_MIN, QUIET_BITS)

    async def testbench(ctx):
        host = SerialHost(ctx, dut)
        await host.idle()
        await scenario(host)

    simulate(dut, testbench)


async def load(host, program):
    for region, words in program.regions.items():
        protocol.check_status(await host.ask(protocol.encode_write(region, 0, words)))


async def infer(host, program, frame):
    """(logits, cycles) of a frame."""
    packed = program.pack_frame(frame.numpy())
    protocol.check_status(await host.ask(protocol.encode_write(Region.FRAME, 0, packed)))
    last = len(NETWORK.layers) - 1
    cycles, words = protocol.decode_run(await host.ask(program.run_network()))
    return program.unpack_boundary(last, words).tolist(), cycles


def test_a_frame_takes_what_the_reports_say():
    """Its bytes at ten bits each, its cycles, and for each command what the host hesitates here."""
    program = compile_program(IMAGE, SMALL)
    commands = program.frame_commands()
    cycles = framing.bytes_both_ways(commands) * BYTE_BITS * DIVISOR_MIN
    cycles += cycles_per_frame(NETWORK, SMALL)
    took = []

    async def scenario(host):
        await host.open()
        await load(host, program)
        start = host.cycles
        await infer(host, program, random_frames(NETWORK, 1)[0])
        took.append(host.cycles - start)

    device_test(scenario)
    assert 0 <= took[0] - cycles <= 100 * len(commands)


def framed(command, sequence=0):
    return framing.frame_command(sequence, command)


WRITE = framed(protocol.encode_write(Region.MEANS, 0, range(20)))
HEADER = 1 + protocol.COMMAND_BYTES + framing.CRC_BYTES

#: What the host leaves undone: some bytes, of which no reply is awaited.
INTERRUPTED = {
    "argument missing": framed(protocol.encode_read(3, 4))[:3],
    "sum missing": framed(protocol.encode_read(3, 4))[:-1],
    "half a word": WRITE[: HEADER + 3],
    "sum of the data missing": WRITE[:-2],
    "a reply of 1024 words": framed(protocol.encode_read(0, 1024)),
    "another command instead": WRITE[: HEADER + 8] + framed(protocol.INFO),
}

#: Cycles after which a run is interrupted: while a record is fetched, a gain computed, operands
#: walked and words drained, in one layer or another.
RUN_CYCLES = range(0, cycles_per_frame(NETWORK, SMALL), 61)


def test_a_break_ends_any_command_and_the_network_stays_loaded():
    program = compile_program(IMAGE, SMALL)
    interruptions = [(octets, 0) for octets in INTERRUPTED.values()]
    interruptions += [(framed(protocol.encode_run(0, 3)), cycles) for cycles in RUN_CYCLES]
    frames = random_frames(NETWORK, len(interruptions) + 1)
    golden = IntegerNetwork(IMAGE)(frames).tolist()
    expected = [(logits, cycles_per_frame(NETWORK, SMALL)) for logits in golden]
    got = []

    async def scenario(host):
        assert await host.open() == SMALL
        await load(host, program)
        got.append(await infer(host, program, frames[0]))
        for (octets, wait), frame in zip(interruptions, frames[1:], strict=True):
            await host.send(bytes([host.sequence]) + octets[1:])
            await host.ctx.tick().repeat(max(wait, 1))
            await host.send_break()
            assert await host.open() == SMALL
            got.append(await infer(host, program, frame))

    device_test(scenario)
    assert got == expected
    assert len({tuple(logits) for logits in golden}) > 1


def test_a_break_may_cut_a_byte_off():
    async def scenario(host):
        await host.open()
        await host.send(INTERRUPTED["half a word"])
        await host.bits(0, 1, 1, 1)
        await host.send_break()
        assert await host.open() == SMALL
        assert not host.ctx.get(host.dut.lost)

    device_test(scenario)


@pytest.mark.parametrize("octets", [
    octets for name, octets in INTERRUPTED.items() if "reply" not in name
])
@pytest.mark.parametrize("waits", [True, False])
def test_what_ends_half_way_is_forgotten_when_the_line_is_quiet(octets, waits):
    """Without the wait, the control, it is part of what follows, and nothing is answered."""
    async def scenario(host):
        await host.open()
        await host.send(bytes([host.sequence]) + octets[1:])
        if waits:
            await host.ctx.tick().repeat((1 << QUIET_BITS) + 50)
            assert await host.open() == SMALL
        else:
            with pytest.raises(framing.FramingError):
                await host.open()

    device_test(scenario)


def test_a_lost_byte_shows_until_the_next_break():
    async def scenario(host):
        def lost():
            return host.ctx.get(host.dut.lost)

        await host.open()
        assert not lost()
        # The device answers and takes no bytes meanwhile: one is kept, the next is lost.
        await host.send(framed(protocol.encode_read(0, 8), 1) + bytes(5))
        await host.idle(100)
        assert lost()
        await host.send_break()
        assert not lost()
        assert await host.open() == SMALL
        assert not lost()

    device_test(scenario)
