"""What leaves the Pool: the OR of the spikes of a window, or the spikes themselves."""

from functools import partial

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal

from hw.pool import Pool
from tests.formal.proof import Circuit, InputsOf, elaborated, inside, nested
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class PoolSpec(InputsOf):
    """A group leaves as the OR of its spikes in all windows and strips, with the last of them.

    Each pass for itself; of a strip's tile, only that strip's spikes. Without pooling, and of all
    strips at once, it is the group that comes. Spikes come at any time, groups in the order of
    ``Pool``. Assumed, and guaranteed by the sequencer: the record stands from a clear to the next,
    and no group comes in the cycle of a clear (``layer-ends``).
    """

    def __init__(self, *arguments):
        super().__init__(Pool(*arguments))

    def elaborate(self, platform):
        m = Module()
        pool, groups, strips = self.dut, self.dut.groups, self.dut.strips
        circuit, inner = elaborated(pool)
        m.submodules.pool = circuit
        m.d.comb += self.connected()
        one_strip, first_pass = (
            getattr(self, name, Const(0)) for name in ("one_strip", "first_pass")
        )
        record, begun = Cat(self.enable, one_strip, first_pass), Signal()
        record_was, runs = Signal.like(record), begun & ~self.clear
        m.d.sync += [record_was.eq(record), begun.eq(begun | self.clear)]
        m.d.comb += [
            Assume(~self.valid | runs), Assume(~runs | (record == record_was)),
        ]

        # Where the next group belongs.
        (group, number, window, strip), _ = nested(
            m, self.clear, runs, self.valid,
            ("group", groups, 0, groups - 1),
            ("number", pool.passes, first_pass, pool.passes - 1),
            ("window", 4, 0, Mux(self.enable, 3, 0)),
            ("strip", strips, 0, Mux(one_strip, strips - 1, 0)),
        )

        # The OR of each group of each pass, so far.
        own = [Mux(one_strip, strip == place // pool.steps % strips, 1)
               for place in range(pool.width)]
        spikes, opens = self.spikes & Cat(own), (window == 0) & (strip == 0)
        ors = [Signal(pool.width, name=f"or{place}") for place in range(groups * pool.passes)]
        place, total = Signal(range(len(ors))), Signal(pool.width)
        m.d.comb += [
            place.eq(number * groups + group), total.eq(Mux(opens, 0, Array(ors)[place]) | spikes),
        ]
        with m.If(self.valid):
            m.d.sync += Array(ors)[place].eq(total)
        with m.If(runs):
            m.d.comb += [
                Assert(pool.out_valid == (
                    self.valid & (window == Mux(self.enable, 3, 0))
                    & (strip == Mux(one_strip, strips - 1, 0))
                )),
                Assert(~pool.out_valid | (pool.out == total)),
            ]

        # What of the state is reached at all.
        with m.If(runs):
            m.d.comb += [
                Assert(inner["group"] == group), Assert(~self.enable | (inner["pixel"] == window)),
            ]
            if strips > 1:
                m.d.comb += Assert(~one_strip | (inner["strip"] == strip))
            if pool.passes > 1:
                registers = inside(circuit)
                m.d.comb += [
                    Assert(registers["passes.number"] == number),
                    Assert(registers["passes.group"] == group),
                ]
            for index, known in enumerate(ors):
                at = index if pool.passes > 1 else (index - group)[: (groups - 1).bit_length()]
                unused = (index // groups < first_pass) | (opens & (place <= index))
                m.d.comb += Assert(unused | (inner["seen"][at] == known))
        return m


PROOFS = [
    Circuit(
        f"pool{name}", "a group leaves as the OR of its windows, or as it comes",
        partial(PoolSpec, *arguments), Mutation(*error), depth=2, inductive=True,
    )
    for name, arguments, error in (
        ("", (4, 2), (
            "hw/pool.py", "seen[self.groups - 1].eq(self.out)",
            "seen[self.groups - 1].eq(spikes)", "only the last two pixels count",
        )),
        ("-passes", (4, 2, 1, 1, 4), (
            "hw/pool.py", "place = Cat(group, passes.number)", "place = Cat(group, passes.first)",
            "passes share what has been seen",
        )),
        ("-strips-passes", (4, 8, 2, 2, 2), (
            "hw/pool.py", "later |= self.one_strip & (strip != 0)",
            "later |= self.one_strip & (pixel != 0)", "a strip replaces the one before",
        )),
    )
]
