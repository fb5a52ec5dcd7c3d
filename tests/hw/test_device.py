"""The accelerator through its serial line: whole frames, and the way back after half a command."""

import pytest

from hw.device import Device
from hw.uart import DIVISOR_MIN
from sw import protocol
from sw.cycles import cycles_per_frame
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.program import Region, compile_program
from tests.hw.support import SMALL, simulate
from tests.support import random_frames, random_image

NETWORK = Network("wired", Shape(1, 3, 3), [Stem(4), Conv(4), Readout(2)])
IMAGE = random_image(NETWORK)
INFO = bytes([protocol.Opcode.INFO])

#: Bits of a byte on the line; a break is longer than two of them.
BYTE_BITS, BREAK_BITS = 10, 21

#: Cycles after which a reply is overdue.
PATIENCE = 200 * DIVISOR_MIN


class SerialHost:
    """The far end of the line, in a testbench."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut

    async def bits(self, *bits):
        for bit in bits:
            self.ctx.set(self.dut.rx_line, bit)
            await self.ctx.tick().repeat(DIVISOR_MIN)

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
                await self.ctx.tick()
                idle += 1
                if idle > PATIENCE:
                    return bytes(octets)
            await self.ctx.tick().repeat(DIVISOR_MIN // 2)
            value = 0
            for place in range(BYTE_BITS):
                value |= self.ctx.get(self.dut.tx_line) << place
                await self.ctx.tick().repeat(DIVISOR_MIN if place < BYTE_BITS - 1 else 1)
            assert value & 1 == 0 and value >> 9 == 1, "a byte without start or stop bit"
            octets.append(value >> 1 & 0xFF)
        return bytes(octets)

    async def ask(self, command, data=0):
        await self.send(command)
        return await self.receive(1 + data)


def device_test(scenario):
    """Run the coroutine ``scenario(host)`` against a Device."""
    dut = Device(SMALL, DIVISOR_MIN)

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
    cycles = protocol.decode_cycles(await host.ask(protocol.encode_run(0, last + 1), 4))
    address, count = program.boundary_words(last)
    words = protocol.decode_words(await host.ask(protocol.encode_read(address, count), 2 * count))
    return program.unpack_boundary(last, words).tolist(), cycles


#: What the host leaves undone: some bytes, of which no reply is awaited.
INTERRUPTED = {
    "argument missing": protocol.encode_read(3, 4)[:-1],
    "half a word": protocol.encode_write(Region.MEANS, 0, [7, 8])[:-3],
    "a reply of 1024 words": protocol.encode_read(0, 1024),
    "another command instead": protocol.encode_write(Region.MEANS, 0, range(20))[:9] + INFO,
}


#: Cycles after which a run is interrupted: while a record is fetched, a gain computed, operands
#: walked and words drained, in one layer or another.
RUN_CYCLES = range(0, cycles_per_frame(NETWORK, SMALL), 61)


def test_a_break_ends_any_command_and_the_network_stays_loaded():
    program = compile_program(IMAGE, SMALL)
    interruptions = [(octets, 0) for octets in INTERRUPTED.values()]
    interruptions += [(protocol.encode_run(0, 3), cycles) for cycles in RUN_CYCLES]
    frames = random_frames(NETWORK, len(interruptions) + 1)
    golden = IntegerNetwork(IMAGE)(frames).tolist()
    expected = [(logits, cycles_per_frame(NETWORK, SMALL)) for logits in golden]
    got = []

    async def scenario(host):
        assert protocol.decode_info(await host.ask(INFO, protocol.INFO_BYTES)) == SMALL
        await load(host, program)
        got.append(await infer(host, program, frames[0]))
        for (octets, wait), frame in zip(interruptions, frames[1:], strict=True):
            await host.send(octets)
            await host.ctx.tick().repeat(max(wait, 1))
            await host.send_break()
            assert protocol.decode_info(await host.ask(INFO, protocol.INFO_BYTES)) == SMALL
            got.append(await infer(host, program, frame))

    device_test(scenario)
    assert got == expected
    assert len({tuple(logits) for logits in golden}) > 1


def test_a_break_may_cut_a_byte_off():
    async def scenario(host):
        await host.send(INTERRUPTED["half a word"])
        await host.bits(0, 1, 1, 1)
        await host.send_break()
        assert protocol.decode_info(await host.ask(INFO, protocol.INFO_BYTES)) == SMALL
        assert not host.ctx.get(host.dut.lost)

    device_test(scenario)


@pytest.mark.parametrize("octets", [INTERRUPTED["argument missing"], INTERRUPTED["half a word"]])
def test_without_a_break_the_port_waits(octets):
    """Negative control: it is the break that brought the port back."""
    async def scenario(host):
        await host.send(octets)
        assert await host.receive(1) == b""
        assert len(await host.ask(INFO, protocol.INFO_BYTES)) != 1 + protocol.INFO_BYTES

    device_test(scenario)


def test_a_lost_byte_shows_until_the_next_break():
    async def scenario(host):
        def lost():
            return host.ctx.get(host.dut.lost)

        assert not lost()
        # The port answers and takes no bytes meanwhile: one is kept, the next is lost.
        await host.send(protocol.encode_read(0, 8) + INFO + INFO)
        await host.idle(100)
        assert lost()
        await host.send_break()
        assert not lost()
        assert await host.ask(INFO, protocol.INFO_BYTES)
        assert not lost()

    device_test(scenario)
