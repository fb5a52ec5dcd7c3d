"""Booting from flash: what is played, when, from flashes of all sorts; then a device that does."""

import random

import pytest
from amaranth.sim import Simulator

from hw.boot import LENGTH_BYTES, MAGIC, OFFSET, PAUSE, SIZE_BITS, Boot, append, blob
from hw.device import Device
from hw.uart import DIVISOR_MIN
from sw import framing, protocol
from sw.golden import IntegerNetwork
from sw.program import Region, compile_program, stamp_address
from tests.hw.support import FLOWS, SMALL, sink, with_and_without_gaps
from tests.hw.test_device import BREAK_BITS, NETWORK, QUIET_BITS, SerialHost, infer, load
from tests.support import random_frames, random_image

#: Cycles from the command that wakes a flash until it listens.
WAKES = 1000

#: Without the sigmoid table, which would take most of the time.
IMAGE = random_image(NETWORK, gain="frozen")
PROGRAM = compile_program(IMAGE, SMALL)

PAYLOAD = bytes(random.Random(1).randrange(256) for _ in range(40))


def flash_model(pins, contents, wakes=WAKES):
    """A process: a flash with ``contents`` at OFFSET and 0xFF elsewhere, in deep power-down.

    It takes and gives bits on the edges of its clock, and heeds nothing but the command that wakes
    it until so many cycles after that.
    """
    async def process(ctx):
        awake_at, cycle, clock, bits, place = None, 0, 0, "", None
        ctx.set(pins.cipo, 1)
        async for _, _, cs, clk, copi in ctx.tick().sample(pins.cs, pins.clk, pins.copi):
            cycle += 1
            if not cs:
                bits, place = "", None
            elif clk and not clock:
                bits += str(copi) if len(bits) < 32 else ""
                if bits == f"{0xAB:08b}":
                    awake_at = cycle + wakes
                elif place is None and len(bits) == 32 and bits.startswith(f"{0x03:08b}"):
                    # A command that came too early is not heard to its end.
                    heard = awake_at is not None and cycle - 64 >= awake_at
                    place = 8 * (int(bits[8:], 2) - OFFSET) if heard else None
            elif clock and not clk and place is not None:
                inside = 0 <= place < 8 * len(contents)
                octet = contents[place // 8] if inside else 0xFF
                ctx.set(pins.cipo, octet >> (7 - place % 8) & 1)
                place += 1
            clock = clk

    return process


def run(dut, contents, *testbenches, wakes=WAKES):
    """Runs ``testbenches`` to their end, with a flash at ``dut.flash``."""
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_process(flash_model(dut.flash, contents, wakes))
    for testbench in testbenches:
        sim.add_testbench(testbench)
    sim.run()


def played(contents, willing=FLOWS, wakes=WAKES):
    """(bytes played, cycles until it was over) of a Boot whose flash has ``contents``."""
    dut, got, took = Boot(), [], []
    limit = dut.cycles(len(contents)) + 10 * len(contents) + 100

    async def watch(ctx):
        cycle = 0
        async for _, _, busy in ctx.tick().sample(dut.busy):
            if not busy:
                took.append(cycle)
                return
            cycle += 1
            assert cycle < limit

    run(dut, contents, watch, sink(dut.octets, got, limit, willing), wakes=wakes)
    return bytes(got), took[0]


def with_head(payload, size=None):
    size = len(payload) if size is None else size
    return MAGIC + size.to_bytes(LENGTH_BYTES, "little") + payload


@with_and_without_gaps
def test_what_is_in_the_flash_is_played(willing):
    contents = with_head(PAYLOAD) + b"more"
    got, took = played(contents, willing)
    assert got == PAYLOAD == Boot().model(bytes(OFFSET) + contents)
    cycles = Boot().cycles(len(PAYLOAD))
    assert (took == cycles) if willing == FLOWS else (took > cycles), (took, cycles)


@pytest.mark.parametrize("contents", [
    b"", PAYLOAD, MAGIC[:-1], MAGIC[:3] + b"X" + with_head(PAYLOAD)[4:], with_head(b""),
    with_head(PAYLOAD, 1 << SIZE_BITS), MAGIC,
], ids=["blank", "foreign", "cut magic", "wrong magic", "empty", "too long", "no length"])
def test_a_flash_without_a_network(contents):
    """It is over at once, and nothing is played."""
    got, took = played(contents)
    assert got == b"" == Boot().model((bytes(OFFSET) + contents).ljust(OFFSET + 99, b"\xff"))
    assert 3 * PAUSE < took <= Boot().cycles(0)


def test_a_flash_that_does_not_wake():
    assert played(with_head(PAYLOAD), wakes=PAUSE - 100)[0] == PAYLOAD
    assert played(with_head(PAYLOAD), wakes=PAUSE + 100)[0] == b""


def test_the_longest_that_is_played_ends():
    """A length that a broken write has left: the blank flash behind it is played, and no more."""
    got, _ = played(with_head(PAYLOAD, 60))
    assert got == PAYLOAD + b"\xff" * 20


def test_a_blob_is_a_load_behind_the_bitstream():
    contents = append(b"bits", PROGRAM)
    assert contents[: OFFSET] == b"bits".ljust(OFFSET, b"\xff")
    assert contents[OFFSET:] == blob(PROGRAM)
    receiver, commands = framing.Receiver(), []
    for octet in Boot().model(contents):
        for _, command, again in receiver.take(octet):
            assert not again
            commands.append(command)
    assert commands == list(PROGRAM.load_commands())
    assert receiver.octets == b""
    assert len(commands) > 4


def boot_device(contents, scenario):
    """Run ``scenario(host)`` once a Device has booted. The line is loud meanwhile, and unheard.

    There is a break before the network comes and one amid it.
    """
    dut = Device(SMALL, DIVISOR_MIN, QUIET_BITS, boot=True)
    sent = []

    async def testbench(ctx):
        host = SerialHost(ctx, dut)
        await host.send_break()
        await host.send(framing.frame_command(framing.OPENING, protocol.INFO))
        # The last reply would come in less.
        cycles = Boot().cycles(0) + 18 * len(contents)
        for cycle in range(cycles):
            ctx.set(dut.rx_line, not 0 <= cycle - cycles // 2 < BREAK_BITS * DIVISOR_MIN)
            *_, bit, lost = await ctx.tick().sample(dut.tx_line, dut.lost)
            sent.append(bit)
            # A break is no byte, and one shows until it is over.
            assert not lost or cycle > cycles // 2
        await scenario(host)

    run(dut, contents, testbench)
    assert set(sent) == {1}


async def held(host):
    """Whether the device says that the network is loaded."""
    await host.open()
    stamp = PROGRAM.stamp
    reply = await host.ask(protocol.encode_read(stamp_address(SMALL), len(stamp)))
    return protocol.decode_words(reply).tolist() == stamp.tolist()


def test_a_device_boots_and_infers():
    """No host has loaded anything; afterwards it is a device like any other."""
    frames = random_frames(NETWORK, 2)
    golden = IntegerNetwork(IMAGE)(frames).tolist()
    got = []

    async def scenario(host):
        got.append(await held(host))
        got.append((await infer(host, PROGRAM, frames[0]))[0])
        await host.send_break()
        got.append(await held(host))
        got.append((await infer(host, PROGRAM, frames[1]))[0])

    boot_device(blob(PROGRAM), scenario)
    assert got == [True, golden[0], True, golden[1]]
    assert golden[0] != golden[1]


def damaged():
    """A blob with one wrong bit among its weights."""
    octets = bytearray(blob(PROGRAM))
    data = PROGRAM.regions[Region.WEIGHTS].astype("<u2").tobytes()
    octets[octets.index(data) + len(data) // 2] ^= 0x10
    return bytes(octets)


def test_a_damaged_network_is_not_taken_for_one():
    """Its answers would be wrong: the frame with the damage stops the boot, the stamp is last."""
    got = []

    async def scenario(host):
        got.append(await held(host))

    boot_device(damaged(), scenario)
    assert got == [False]


def test_a_device_with_a_blank_flash_is_loaded_by_its_host():
    frame = random_frames(NETWORK, 1)
    got = []

    async def scenario(host):
        got.append(await held(host))
        await load(host, PROGRAM)
        got.append((await infer(host, PROGRAM, frame[0]))[0])

    boot_device(b"", scenario)
    assert got == [False, IntegerNetwork(IMAGE)(frame).tolist()[0]]
