"""The rules of streams, on every port: what is offered stays until it is taken."""

from amaranth.hdl import Assert, Assume, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.uart import Receiver
from tests.formal.proof import Circuit
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS", "keeps_offer"]


def keeps_offer(m, stream, rule, name):
    """``rule`` (Assert or Assume): a payload that was offered and not taken is offered again."""
    waited, payload = Signal(name=f"{name}_waited"), Signal.like(stream.payload, name=f"{name}_was")
    m.d.sync += [waited.eq(stream.valid & ~stream.ready), payload.eq(stream.payload)]
    with m.If(waited):
        m.d.comb += rule(stream.valid & (stream.payload == payload))


class ReceiverSpec(wiring.Component):
    """A byte received waits for its reader, whatever the line does."""

    line: In(1)
    o: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver(divisor=4)
        m.d.comb += receiver.line.eq(self.line)
        connect(m, receiver.o, flipped(self.o))
        keeps_offer(m, self.o, Assert, "o")
        return m


PROOFS = [
    Circuit(
        "uart-receiver", "a byte received is offered until it is taken", ReceiverSpec,
        Mutation("hw/uart.py", "with m.If(level & (~self.o.valid | self.o.ready)):",
                 "with m.If(level):", "a byte not taken yet is overwritten", ()),
        depth=2, inductive=True,
    ),
]
