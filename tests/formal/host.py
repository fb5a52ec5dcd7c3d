"""What the host can do to the memories, and when."""

from amaranth.hdl import Assert, Assume, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.port import Check, Port
from tests.formal.proof import Circuit, elaborated, ongoing
from tests.formal.streams import ENGINE
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class HostWaits(wiring.Component):
    """While the cores are busy, the host neither writes nor reads; nor both at any time.

    Nor does it in the first two cycles behind, nor start them again: a word of a stem core may
    still wait (``stem-waits``). Cores are busy from the cycle after their start, for as long as
    they like. A deep engine's memories get the writes a cycle later, and that is still before.
    """

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    check: In(Check)
    busy: In(1)

    def elaborate(self, platform):
        m = Module()
        port = Port(ENGINE)
        m.submodules.port, of_port = elaborated(port)
        connect(m, flipped(self.rx), port.rx)
        connect(m, port.tx, flipped(self.tx))
        connect(m, flipped(self.check), port.check)
        m.d.comb += port.busy.eq(self.busy)

        was_busy, started, wrote = Signal(), Signal(), Signal()
        m.d.sync += [
            was_busy.eq(self.busy), started.eq(port.start), wrote.eq(port.write.enable),
        ]
        with m.If(~was_busy):
            m.d.comb += Assume(~self.busy | started)
        m.d.comb += Assert(~(port.write.enable & port.read.enable))
        with m.If(self.busy | port.start | port.read.enable):
            m.d.comb += [Assert(~port.write.enable), Assert(~wrote)]
        # Behind a run there is its status to send first.
        soon = Signal(2)
        m.d.sync += soon.eq(Cat(self.busy, soon))
        with m.If(self.busy | soon.any()):
            m.d.comb += [Assert(~port.read.enable), Assert(~port.start)]
        with m.If(soon.any()):
            m.d.comb += Assert(~port.write.enable)
        with m.If(soon[1] & ~soon[0]):
            m.d.comb += Assert(ongoing(of_port, "Status"))
        # A start is followed by nothing else, so induction need not try.
        with m.If(self.busy | started):
            m.d.comb += Assert(ongoing(of_port, "Running"))
        with m.If(wrote):
            m.d.comb += Assert(ongoing(of_port, "Write"))
        return m


PROOFS = [
    Circuit(
        "host-waits", "memories are not written by the host while they are read", HostWaits,
        Mutation(
            "hw/port.py", "with m.If(~self.busy):\n                    m.next = \"Status\"",
            "with m.If(1):\n                    m.next = \"Status\"",
            "the port does not wait for the end of a run",
        ),
        depth=2, inductive=True,
    ),
]
