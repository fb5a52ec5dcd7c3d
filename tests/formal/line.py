"""Link and port never wait for each other."""

from amaranth.hdl import Assert, Assume, Signal

from tests.formal.proof import Circuit
from tests.formal.streams import Linked
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]

#: Cycles that a reader of replies and the cores let them wait, at most.
PATIENCE = 1

#: Cycles within which they listen to the line again, or send a byte.
LONGEST = 24


class LinkedProgress(Linked):
    """They listen for more of what comes, or send a byte, before long."""

    def elaborate(self, platform):
        m, heard, worked, of_link = self.linked()

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

        # What else they know of each other.
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
            m.d.comb += Assert(self.link.check.awaits)
        return m


PROOFS = [
    Circuit(
        "link-and-port-go-on", "link and port listen again or send a byte within"
        f" {LONGEST} cycles", LinkedProgress,
        Mutation(
            "hw/link.py", "with m.If(command.ready | check.awaits):", "with m.If(command.ready):",
            "a link waits for data where a sum is due",
        ),
        depth=LONGEST + 2, inductive=True, slow=True,
    ),
]
