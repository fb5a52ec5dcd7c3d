"""Link and port never wait for each other."""

from functools import partial

from amaranth.hdl import Assert, Assume, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.link import Link
from hw.port import Port
from tests.formal.proof import Circuit, elaborated, ongoing
from tests.formal.streams import ENGINE
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]

#: Cycles that a reader of replies and the cores let them wait, at most.
PATIENCE = 1

#: Cycles within which they listen to the line again, or send a byte.
LONGEST = 24


class LinkedProgress(wiring.Component):
    """Whatever comes over the line, they listen for more of it or send a byte again before long."""

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    busy: In(1)
    word: In(16)

    def elaborate(self, platform):
        m = Module()
        link, port = Link(4), Port(ENGINE)
        m.submodules.link, of_link = elaborated(link)
        m.submodules.port, of_port = elaborated(port)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.command, port.rx)
        connect(m, port.tx, link.reply)
        connect(m, link.check, port.check)
        m.d.comb += [port.busy.eq(self.busy), port.read.data.eq(self.word)]
        heard, worked = partial(ongoing, of_link), partial(ongoing, of_port)

        # Others are fair: a reader takes a byte, and cores come to their end.
        refused, runs, waits = (
            Signal(range(LONGEST + 2), name=name) for name in ("refused", "runs", "waits")
        )
        m.d.sync += [refused.eq(0), runs.eq(0), waits.eq(0)]
        with m.If(self.tx.valid & ~self.tx.ready):
            m.d.sync += refused.eq(refused + 1)
        with m.If(self.busy):
            m.d.sync += runs.eq(runs + 1)
        m.d.comb += [Assume(refused <= PATIENCE), Assume(runs <= PATIENCE)]
        with m.If(~heard("Listen") & ~(self.tx.valid & self.tx.ready)):
            m.d.sync += waits.eq(waits + 1)
        m.d.comb += Assert(waits <= LONGEST)

        # What they know of each other.
        sending, summing = of_link["sending"], of_link["summing"]
        hears = heard("Listen") | heard("Taken") | heard("Judge") | (heard("Weigh") & ~sending)
        with m.If(hears):
            m.d.comb += [
                Assert(worked("Command") | worked("Check") | worked("Write") | worked("Written")),
                Assert(~sending),
            ]
        with m.If(sending):
            m.d.comb += Assert(
                worked("Status") | worked("Data") | worked("Read") | worked("Low byte")
                | worked("High byte") | worked("Command")
            )
        with m.If(summing):
            m.d.comb += [Assert(worked("Command")), Assert(sending)]
        with m.If(heard("Send") | heard("Next")):
            m.d.comb += Assert(sending)
        with m.If(heard("Judge")):
            m.d.comb += Assert(link.check.awaits)
        with m.If(worked("Write") & ~port.rx.ready):
            m.d.comb += Assert(heard("Work") | heard("Listen"))
        return m


PROOFS = [
    Circuit(
        "link-and-port-go-on", "link and port listen again or send a byte within"
        f" {LONGEST} cycles", LinkedProgress,
        Mutation(
            "hw/link.py", "with m.If(command.ready | check.awaits):", "with m.If(command.ready):",
            "a link waits for data where a sum is due", (),
        ),
        depth=LONGEST + 2, inductive=True, slow=True,
    ),
]
