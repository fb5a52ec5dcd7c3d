"""The UART against its model, against senders that are off frequency, and under stalls."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import connect

from hw.uart import DIVISOR_MIN, FRAME_BITS, UART, BaudError, Receiver, Transmitter, divisor_for
from tests.hw.support import simulate, sink, source

OCTETS = [0x00, 0xFF, 0x55, 0xAA, 0x01, 0x80, *random.Random(0).randbytes(6)]

#: Share of cycles in which a side is willing.
NEVER_STALLS, STALLS = 1.0, 0.02


def line_driver(line, bits, cycles_per_bit):
    """Puts ``bits`` on ``line``, each edge at the cycle nearest to its real-valued time."""

    async def testbench(ctx):
        now = 0
        for number, bit in enumerate(bits):
            ctx.set(line, bit)
            end = round((number + 1) * cycles_per_bit)
            await ctx.tick().repeat(end - now)
            now = end
        ctx.set(line, 1)

    return testbench


def counter(signal, counts, cycles):
    async def testbench(ctx):
        for _ in range(cycles):
            *_, value = await ctx.tick().sample(signal)
            counts.append(value)

    return testbench


def frames(octets, stop=1):
    return [b for octet in octets for b in (0, *(octet >> n & 1 for n in range(8)), stop)]


def receive(bits, divisor, cycles_per_bit=None, willing=NEVER_STALLS):
    """Bytes and the number of errors that a receiver makes of ``bits``."""
    dut = Receiver(divisor)
    received, errors = [], []
    cycles = int((len(bits) + 4) * (cycles_per_bit or divisor)) + 20
    simulate(
        dut,
        line_driver(dut.line, bits, cycles_per_bit or divisor),
        sink(dut.o, received, cycles, willing),
        counter(dut.error, errors, cycles),
    )
    return received, sum(errors)


@pytest.mark.parametrize("divisor", [DIVISOR_MIN, 5, 24])
def test_transmitter_equals_its_model(divisor):
    dut = Transmitter(divisor)
    levels = []
    cycles = len(OCTETS) * dut.cycles
    simulate(
        dut,
        source(dut.i, OCTETS, NEVER_STALLS),
        counter(dut.line, levels, dut.latency + cycles + 3 * divisor),
    )
    assert levels == [1] * dut.latency + dut.model(OCTETS) + [1] * (3 * divisor)


def test_transmitter_waits_for_bytes():
    dut = Transmitter(DIVISOR_MIN)
    levels = []
    simulate(dut, source(dut.i, OCTETS, STALLS), counter(dut.line, levels, 4000))
    # Back to bytes: the idle gaps only ever prolong a stop bit.
    text = "".join(map(str, levels))
    octets = []
    while "0" in text:
        text = text[text.index("0"):]
        bits = text[DIVISOR_MIN // 2 :: DIVISOR_MIN][:10]
        octets.append(int(bits[8:0:-1], 2))
        assert bits[9] == "1"
        text = text[10 * DIVISOR_MIN :]
    assert octets == OCTETS


@pytest.mark.parametrize("divisor", [DIVISOR_MIN, 5, 24])
@pytest.mark.parametrize("error", [-0.02, 0, 0.02])
def test_receiver_takes_a_sender_two_per_cent_off(divisor, error):
    received, errors = receive(frames(OCTETS), divisor, divisor * (1 + error))
    assert (received, errors) == (OCTETS, 0)


@pytest.mark.parametrize("error", [-0.1, 0.1])
def test_receiver_fails_on_a_sender_ten_per_cent_off(error):
    """Negative control: the test above could not pass whatever the sender does."""
    received, _ = receive(frames(OCTETS), 24, 24 * (1 + error))
    assert received != OCTETS


@pytest.mark.parametrize("divisor", [DIVISOR_MIN, 7, 24])
def test_receiver_latency(divisor):
    dut = Receiver(divisor)
    valid = []
    simulate(
        dut,
        line_driver(dut.line, frames([0x35]), divisor),
        counter(dut.o.valid, valid, dut.latency + 5),
    )
    assert valid.index(1) == dut.latency


def test_framing_errors_are_dropped():
    sent = [(0x12, 1), (0x34, 0), (0x56, 1), (0x00, 0), (0x9A, 1)]
    # One idle bit after each frame: a receiver can only find the next start bit after a high line.
    bits = [bit for octet, stop in sent for bit in (*frames([octet], stop), 1)]
    received, errors = receive(bits, 24)
    assert received == Receiver(24).model(sent) == [0x12, 0x56, 0x9A]
    assert errors == 2


def test_break_is_one_error():
    received, errors = receive([0] * 50 + [1] + frames([0x77]), 8)
    assert (received, errors) == ([0x77], 1)


@pytest.mark.parametrize("low", [9, 10, 40])
def test_a_break_lasts_until_the_line_rises(low):
    """Nine low bits are the start bit and byte 0; the tenth is where the stop bit should be."""
    dut, levels, states = Receiver(8), [0] * low + [1] * 4 + frames([0]), []
    simulate(dut, line_driver(dut.line, levels, 8), counter(dut.broken, states, 8 * len(levels)))
    expected = [0] * len(states)
    if low > 9:
        start, end = dut.latency, 8 * low + dut.SYNC_STAGES + 1
        expected[start:end] = [1] * (end - start)
    assert states == expected


@pytest.mark.parametrize("ones", range(1, 9))
def test_a_break_may_begin_inside_a_byte(ones):
    """A start bit and some ones, then low: a break once eight bits in a row were low."""
    dut, states = Receiver(8), []
    levels = [0] + [1] * ones + [0] * 17 + [1] * 4
    simulate(dut, line_driver(dut.line, levels, 8), counter(dut.broken, states, 8 * len(levels)))
    assert sum(states) >= 8 // 2
    assert states.index(1) > 8 * (1 + ones + 7)
    assert not any(states[-8:])


def test_a_byte_with_a_bad_stop_bit_is_no_break():
    dut, states = Receiver(8), []
    levels = frames([0x40], stop=0) + [1] * 4
    simulate(dut, line_driver(dut.line, levels, 8), counter(dut.broken, states, 8 * len(levels)))
    assert not any(states)


def test_glitch_is_no_start_bit():
    """A low of two fifths of a bit, then a real byte."""
    bits = [0] * 2 + [1] * 9 + [b for b in frames([0xC3]) for _ in range(5)]
    received, errors = receive(bits, 20, cycles_per_bit=4)
    assert (received, errors) == ([0xC3], 0)


def test_byte_not_taken_in_time_is_an_error():
    """The first byte is kept unchanged, the others are lost and counted."""
    received, errors = receive(frames([1, 2, 3]), 8, willing=0.0)
    assert (received, errors) == ([], 2)


def test_a_byte_may_be_taken_as_the_next_one_comes():
    """In that very cycle; a cycle later it is too late."""
    for late, expected in ((0, ([1, 2], 0)), (1, ([1], 1))):
        dut, errors, received = Receiver(8), [], []

        async def take(ctx, dut=dut, late=late, received=received):
            # The second byte is there ``latency`` cycles after it began.
            cycles = FRAME_BITS * 8 + dut.latency - 1 + late
            await ctx.tick().repeat(cycles)
            ctx.set(dut.o.ready, 1)
            for _ in range(20):
                *_, valid, octet = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                if valid:
                    received.append(octet)

        simulate(
            dut, line_driver(dut.line, frames([1, 2]), 8), take, counter(dut.error, errors, 200)
        )
        assert (received, sum(errors)) == expected


def test_receiver_takes_stalls_shorter_than_a_byte():
    received, errors = receive(frames(OCTETS), 24, willing=0.1)
    assert (received, errors) == (OCTETS, 0)


@pytest.mark.parametrize("source_willing", [NEVER_STALLS, STALLS])
@pytest.mark.parametrize("sink_willing", [NEVER_STALLS, 0.1])
def test_loop_back(source_willing, sink_willing):
    dut = UART(8)
    m = Module()
    m.submodules.dut = dut
    m.d.comb += dut.rx_line.eq(dut.tx_line)
    received, errors = [], []
    cycles = 5000
    simulate(
        m,
        source(dut.tx, OCTETS, source_willing),
        sink(dut.rx, received, cycles, sink_willing),
        counter(dut.error, errors, cycles),
    )
    assert received == OCTETS
    assert not any(errors)


@pytest.mark.parametrize("source_willing", [NEVER_STALLS, STALLS])
def test_echo_through_a_second_uart(source_willing):
    """Bytes come back through a far end that hands its receiver's stream to its transmitter."""
    near, far = UART(8), UART(8)
    m = Module()
    m.submodules += near, far
    m.d.comb += [far.rx_line.eq(near.tx_line), near.rx_line.eq(far.tx_line)]
    connect(m, far.rx, far.tx)
    received = []
    simulate(
        m,
        source(near.tx, OCTETS, source_willing),
        sink(near.rx, received, 5000, NEVER_STALLS),
    )
    assert received == OCTETS


def test_divisor():
    assert divisor_for(24e6, 1_000_000) == 24
    assert divisor_for(12e6, 115_200) == 104
    with pytest.raises(BaudError, match=r"^5\.3 MHz cannot be divided to 1000000 baud"):
        divisor_for(5.3e6, 1_000_000)
    # Too fast and too slow; too few cycles for a bit.
    for clock_hz in (5.3e6, 5.7e6, 3e6):
        with pytest.raises(BaudError, match="cannot be divided"):
            divisor_for(clock_hz, 1_000_000)
    for component in (Receiver, Transmitter):
        with pytest.raises(BaudError, match="at least 4"):
            component(3)
