"""UART, 8 data bits, no parity, one stop bit: the board's USB bridge as two streams of bytes."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out, connect, flipped

__all__ = ["FRAME_BITS", "UART", "BaudError", "Receiver", "Transmitter", "divisor_for"]

#: Start bit, eight data bits, stop bit.
FRAME_BITS = 10

#: The middle of a bit must be further from its edges than the synchroniser's jitter of a cycle.
DIVISOR_MIN = 4

#: A receiver samples the stop bit 9.5 bits after the start edge. Half a bit is 5 % of that; what
#: our divisor rounds away is taken from the 2 % that each end may be off.
WORST_ERROR = 0.02


class BaudError(ValueError):
    """A baud rate that a clock cannot be divided to."""


def divisor_for(clock_hz, baud):
    """Clock cycles per bit. Raises BaudError when rounding puts it more than 2 % off."""
    divisor = round(clock_hz / baud)
    if divisor < DIVISOR_MIN or abs(clock_hz / (divisor * baud) - 1) > WORST_ERROR:
        raise BaudError(f"{clock_hz / 1e6:g} MHz cannot be divided to {baud} baud within 2 %")
    return divisor


def _checked(divisor):
    if divisor < DIVISOR_MIN:
        raise BaudError(f"divisor must be at least {DIVISOR_MIN}, got {divisor}")
    return divisor


class Transmitter(wiring.Component):
    """Sends each byte as start bit, eight data bits (least significant first), stop bit.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, at least ``DIVISOR_MIN``.

    Members
    -------
    i : stream of bytes; bytes offered in time follow one another without a gap.
    line : to the pin; high when idle.
    """

    #: Cycles from the transfer of a byte to the start bit on ``line``.
    latency = 1

    def __init__(self, divisor):
        self.divisor = _checked(divisor)
        super().__init__({
            "i": In(stream.Signature(8)),
            "line": Out(1, init=1),
        })

    @property
    def cycles(self):
        """Cycles per byte."""
        return FRAME_BITS * self.divisor

    def model(self, octets):
        """Levels of ``line``, one per cycle, while ``octets`` are sent back to back."""
        bits = (bit for octet in octets for bit in (0, *(octet >> n & 1 for n in range(8)), 1))
        return [bit for bit in bits for _ in range(self.divisor)]

    def elaborate(self, platform):
        m = Module()
        # The bit on the line, then those to come, then ones: the line idles high by itself.
        frame = Signal(FRAME_BITS, init=(1 << FRAME_BITS) - 1)
        bits_left = Signal(range(FRAME_BITS))
        timer = Signal(range(self.divisor))
        bit_over, last = Signal(), Signal()
        m.d.comb += [
            self.line.eq(frame[0]),
            bit_over.eq(timer == 0),
            last.eq(bits_left == 0),
            self.i.ready.eq(last & bit_over),
        ]
        with m.If(self.i.ready):
            with m.If(self.i.valid):
                m.d.sync += [
                    frame.eq(Cat(Const(0), self.i.payload, Const(1))),
                    bits_left.eq(FRAME_BITS - 1),
                    timer.eq(self.divisor - 1),
                ]
        with m.Elif(bit_over):
            m.d.sync += [
                frame.eq(Cat(frame[1:], Const(1))),
                bits_left.eq(bits_left - 1),
                timer.eq(self.divisor - 1),
            ]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        return m


class Receiver(wiring.Component):
    """Receives bytes; a frame whose stop bit is low is dropped.

    Each bit is sampled once, in its middle. A start bit shorter than half a bit is taken for noise.
    A line cannot be made to wait: a byte is lost if the one before it was not taken by then.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit, at least ``DIVISOR_MIN``.

    Members
    -------
    line : from the pin, asynchronous.
    o : stream of bytes.
    error : high for one cycle for each byte lost, to a bad stop bit or for want of room.
    broken : high during a break: the line has been low for eight bits at least, the stop bit of a
        frame among them, and stays low. A break may begin inside a frame.
    """

    #: Cycles that the synchroniser takes.
    SYNC_STAGES = 2

    def __init__(self, divisor):
        self.divisor = _checked(divisor)
        super().__init__({
            "line": In(1, init=1),
            "o": Out(stream.Signature(8)),
            "error": Out(1),
            "broken": Out(1),
        })

    @property
    def latency(self):
        """Cycles from the start edge on ``line`` to ``o.valid``, the middle of the stop bit."""
        return self.SYNC_STAGES + self.divisor // 2 + (FRAME_BITS - 1) * self.divisor + 1

    def model(self, frames):
        """Bytes delivered for a list of (byte, stop bit), if every byte is taken in time."""
        return [octet for octet, stop in frames if stop]

    def elaborate(self, platform):
        m = Module()
        level = Signal(init=1)
        # An idle line is high: the synchroniser must not invent a start bit after reset.
        m.submodules.synchroniser = FFSynchronizer(
            self.line, level, init=1, stages=self.SYNC_STAGES
        )
        shift = Signal(8)
        bits_left = Signal(range(FRAME_BITS))
        timer = Signal(range(self.divisor))
        sample = Signal()
        m.d.comb += sample.eq(timer == 0)
        m.d.sync += self.error.eq(0)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("Idle"):
                m.d.sync += [
                    timer.eq(self.divisor // 2 - 1),
                    bits_left.eq(FRAME_BITS - 1),
                ]
                with m.If(~level):
                    m.next = "Start"
            with m.State("Start"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(sample):
                    m.d.sync += timer.eq(self.divisor - 1)
                    m.next = "Bits"
                with m.If(level):
                    m.next = "Idle"
            with m.State("Bits"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(sample):
                    m.d.sync += [
                        timer.eq(self.divisor - 1),
                        bits_left.eq(bits_left - 1),
                        shift.eq(Cat(shift[1:], level)),
                    ]
                with m.If(sample & (bits_left == 1)):
                    with m.If(level & (~self.o.valid | self.o.ready)):
                        m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(shift)]
                    with m.Else():
                        m.d.sync += self.error.eq(1)
                    # Half a bit early, so that a fast sender's next start bit is not missed. After
                    # a bad stop bit the line must rise first: it is no start bit.
                    m.next = "Idle"
                    with m.If(~level):
                        m.next = "Break"
            with m.State("Break"):
                # The stop bit was shifted in like those before it, and so are the bits that follow.
                m.d.comb += self.broken.eq(shift == 0)
                m.d.sync += timer.eq(timer - 1)
                with m.If(sample):
                    m.d.sync += [timer.eq(self.divisor - 1), shift.eq(Cat(shift[1:], level))]
                with m.If(level):
                    m.next = "Idle"
        return m


class UART(wiring.Component):
    """Receiver and transmitter of one serial port.

    Members
    -------
    rx_line, tx_line : the pins. rx : bytes received. tx : bytes to send. error, broken : see
        Receiver.
    """

    def __init__(self, divisor):
        self.divisor = divisor
        super().__init__({
            "rx_line": In(1, init=1),
            "tx_line": Out(1, init=1),
            "rx": Out(stream.Signature(8)),
            "tx": In(stream.Signature(8)),
            "error": Out(1),
            "broken": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        connect(m, receiver.o, flipped(self.rx))
        connect(m, flipped(self.tx), transmitter.i)
        m.d.comb += [
            receiver.line.eq(self.rx_line),
            self.tx_line.eq(transmitter.line),
            self.error.eq(receiver.error),
            self.broken.eq(receiver.broken),
        ]
        return m
