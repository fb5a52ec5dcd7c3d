"""The accelerator behind a serial line: all of a bitstream but its clock and its pins."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.accelerator import Accelerator
from hw.boot import SPI, Boot
from hw.link import Link
from hw.uart import UART

__all__ = ["Device", "Endpoint"]


class Endpoint(wiring.Component):
    """An accelerator that takes its commands in frames (``sw.framing``).

    Parameters
    ----------
    engine : what to build. quiet_bits : see Link.

    Members
    -------
    rx, tx : bytes of the line.
    """

    def __init__(self, engine, quiet_bits):
        self.engine, self.quiet_bits = engine, quiet_bits
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = Link(self.quiet_bits)
        m.submodules.accelerator = accelerator = Accelerator(self.engine, checked=True)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.command, accelerator.rx)
        connect(m, accelerator.tx, link.reply)
        connect(m, link.check, accelerator.check)
        return m


class Device(wiring.Component):
    """An accelerator on a serial line.

    A break on the line ends whatever the accelerator does and has it wait for a frame. All memories
    keep their contents: a loaded network stays loaded.

    Parameters
    ----------
    engine : what to build. divisor : clock cycles per bit of the line. quiet_bits : see Link.
    boot : whether it loads a network from its flash first. It is deaf and silent meanwhile, breaks
        included.

    Members
    -------
    rx_line, tx_line : the serial line; ``rx_line`` may be asynchronous.
    lost : a byte got lost since the last break.
    flash : of a device with ``boot``, the pins of its flash.
    """

    def __init__(self, engine, divisor, quiet_bits, boot=False):
        self.engine, self.divisor, self.quiet_bits = engine, divisor, quiet_bits
        self.boot = boot
        super().__init__({
            "rx_line": In(1, init=1), "tx_line": Out(1, init=1), "lost": Out(1),
            **({"flash": Out(SPI)} if boot else {}),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart = uart = UART(self.divisor)
        endpoint = Endpoint(self.engine, self.quiet_bits)
        # A register of its own: this goes to every corner of the accelerator.
        reset = Signal()
        m.submodules.endpoint = ResetInserter(reset)(endpoint)
        if self.boot:
            m.submodules.boot = boot = Boot()
            connect(m, boot.flash, flipped(self.flash))
            m.d.sync += reset.eq(uart.broken & ~boot.busy)
            with m.If(boot.busy):
                connect(m, boot.octets, endpoint.rx)
                m.d.comb += [endpoint.tx.ready.eq(1), uart.rx.ready.eq(1)]
            with m.Else():
                connect(m, uart.rx, endpoint.rx)
                connect(m, endpoint.tx, uart.tx)
        else:
            m.d.sync += reset.eq(uart.broken)
            connect(m, uart.rx, endpoint.rx)
            connect(m, endpoint.tx, uart.tx)
        m.d.comb += [uart.rx_line.eq(self.rx_line), self.tx_line.eq(uart.tx_line)]
        with m.If(uart.broken):
            m.d.sync += self.lost.eq(0)
        with m.Elif(uart.error):
            m.d.sync += self.lost.eq(1)
        return m
