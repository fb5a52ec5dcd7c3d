"""The accelerator behind a UART: all of a bitstream but its clock and its pins."""

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hw.accelerator import Accelerator
from hw.uart import UART

__all__ = ["Device"]


class Device(wiring.Component):
    """An accelerator whose byte port is a serial line.

    A break on the line ends whatever the accelerator does and has it wait for a command. All
    memories keep their contents: a loaded network stays loaded.

    Parameters
    ----------
    engine : what to build. divisor : clock cycles per bit of the line.

    Members
    -------
    rx_line, tx_line : the serial line; ``rx_line`` may be asynchronous.
    lost : a byte got lost since the last break.
    """

    def __init__(self, engine, divisor):
        self.engine, self.divisor = engine, divisor
        super().__init__({"rx_line": In(1, init=1), "tx_line": Out(1, init=1), "lost": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart = uart = UART(self.divisor)
        accelerator = Accelerator(self.engine)
        # A register of its own: this goes to every corner of the accelerator.
        reset = Signal()
        m.d.sync += reset.eq(uart.broken)
        m.submodules.accelerator = ResetInserter(reset)(accelerator)
        connect(m, uart.rx, accelerator.rx)
        connect(m, accelerator.tx, uart.tx)
        m.d.comb += [uart.rx_line.eq(self.rx_line), self.tx_line.eq(uart.tx_line)]
        with m.If(uart.broken):
            m.d.sync += self.lost.eq(0)
        with m.Elif(uart.error):
            m.d.sync += self.lost.eq(1)
        return m
