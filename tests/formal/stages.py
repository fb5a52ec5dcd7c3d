"""Sums and products too wide to be solved at once, a stage of registers at a time."""

from functools import partial

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.popcount import Popcount
from hw.readout import Readout
from sw.formats import (
    ACCUMULATOR_BITS,
    PLANES,
)
from tests.formal.neurons import History
from tests.formal.proof import Circuit, elaborated, inside
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class PopcountTreeSpec(wiring.Component):
    """Every sum of the tree is that of the two below, and the lowest are the bits that agree.

    So, added up by hand and not by z3, the count is the number of bits that agree. A bit that
    agrees, less one if its weight is -1, is the weight times the spike: asserted of each. Without
    the carry cells of an ECP5.
    """

    def __init__(self, simd, deep=False):
        self.popcount = Popcount(simd, deep)
        super().__init__({"spikes": In(simd), "weights": In(simd)})

    def elaborate(self, platform):
        m = Module()
        popcount = self.popcount
        circuit, inner = elaborated(popcount)
        m.submodules.popcount = circuit
        sums, history = inside(circuit), History(m, 1)
        m.d.comb += [popcount.spikes.eq(self.spikes), popcount.weights.eq(self.weights)]
        level = []
        for spike, weight in zip(self.spikes, self.weights, strict=True):
            agrees = Signal(name="agrees")
            m.d.comb += [
                agrees.eq(spike == weight),
                Assert(agrees - ~weight == Mux(spike, Mux(weight, 1, -1), 0)),
            ]
            level.append(agrees)
        if popcount.deep:
            history.follows(Cat(inner["ones"]), Cat(level), 1)
            level = inner["ones"]
        depth = 0
        while len(level) > 1:
            depth += 1
            above = [sums[f"ones{depth}_{place}"] for place in range(-(-len(level) // 2))]
            m.d.comb += [
                Assert(total == sum(level[2 * place : 2 * place + 2]))
                for place, total in enumerate(above)
            ]
            level = above
        total, = level
        if popcount.deep:
            history.follows(inner["parts"][0], total, 1)
            total, = inner["parts"]
        history.follows(popcount.count, total, 1)
        return m


class ReadoutSpec(wiring.Component):
    """A logit is the counts of its planes, over the lanes, times powers of two, plus the bias.

    Modulo 2**24: that it fits is a matter of ``sw.bounds``. Assumed is nothing: planes come at any
    time, and a clear starts over.
    """

    def __init__(self, *arguments):
        self.readout = Readout(*arguments)
        super().__init__({
            name: member for name, member in self.readout.signature.members.items()
            if member.flow is In
        })

    def elaborate(self, platform):
        m = Module()
        readout = self.readout
        circuit, inner = elaborated(readout)
        m.submodules.readout = circuit
        registers = inside(circuit)
        m.d.comb += [
            getattr(readout, name).eq(getattr(self, name)) for name in self.signature.members
        ]
        plane, came, ended = Signal(range(PLANES)), Signal(), Signal()
        m.d.sync += [came.eq(self.valid), ended.eq(came & (plane == PLANES - 1))]
        with m.If(came):
            m.d.sync += plane.eq(plane + 1)
        with m.If(self.clear):
            m.d.sync += plane.eq(0)
        m.d.comb += [
            Assert(inner["plane"] == plane), Assert(inner["summed"] == came),
            Assert(readout.out_valid == ended),
        ]
        for u in range(readout.units):
            count, bias = Signal(ACCUMULATOR_BITS), Signal(ACCUMULATOR_BITS)
            total, logit = Signal(ACCUMULATOR_BITS), registers[f"logit{u}"]
            heavier = Signal(ACCUMULATOR_BITS)
            m.d.sync += [
                count.eq(sum(self.counts[u][lane] for lane in range(readout.lanes))),
                bias.eq(self.bias[u]),
            ]
            with m.If(came):
                m.d.sync += total.eq(
                    Mux(plane == 0, 0, total) + (count << (PLANES - 1 - plane).as_unsigned())
                )
            out = readout.out[u].as_unsigned()
            m.d.comb += [
                heavier.eq(logit << (PLANES - plane).as_unsigned()),
                Assert(registers[f"count{u}"] == count),
                Assert((plane == 0) | (heavier == total)),
                Assert(~ended | (logit.as_unsigned() == total)),
                Assert(~ended | (out == (total + bias)[:ACCUMULATOR_BITS])),
            ]
        return m


PROOFS = [
    *(
        Circuit(
            f"popcount-tree-{simd}{'-deep' * deep}",
            "each sum of the tree is that of the two below, and the lowest are bits that agree",
            partial(PopcountTreeSpec, simd, deep), Mutation("hw/popcount.py", *error), depth=3,
            anywhere=True,
        )
        for simd, deep, error in (
            (16, False, ("partial = Signal(depth + 1,", "partial = Signal(depth,",
                         "every sum loses its carry")),
            (64, True, ("partial = Signal(depth + 1,", "partial = Signal(min(depth + 1, 6),",
                        "the sums of 32 and more lose their carry")),
        )
    ),
    Circuit(
        "readout", "a logit is its planes' counts times powers of two, and the bias",
        partial(ReadoutSpec, 2, 4, 10),
        Mutation("hw/readout.py", "Mux(plane == 0, 0, logit << 1)", "Mux(plane == 0, 0, logit)",
                 "planes are all worth the same"),
        depth=2, inductive=True,
    ),
]
