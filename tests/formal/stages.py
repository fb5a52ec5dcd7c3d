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
from tests.formal.proof import Circuit, InputsOf, elaborated, inside
from tests.formal.sums import ECP5
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class PopcountTreeSpec(wiring.Component):
    """Every sum of the tree is that of the two below, and the lowest are the bits that agree.

    So, added up by hand and not by z3, the count is the number of bits that agree. A bit that
    agrees, less one if its weight is -1, is the weight times the spike: asserted of each. An ECP5's
    carry cells add three of these bits first, into one bit worth one and one worth two, of which
    there is a tree each.
    """

    def __init__(self, simd, deep=False):
        self.popcount = Popcount(simd, deep)
        super().__init__({"spikes": In(simd), "weights": In(simd)})

    def elaborate(self, platform):
        m = Module()
        popcount = self.popcount
        circuit, inner = elaborated(popcount, platform)
        m.submodules.popcount = circuit
        sums, history = inside(circuit), History(m, 1)
        m.d.comb += [popcount.spikes.eq(self.spikes), popcount.weights.eq(self.weights)]
        agreeing = []
        for spike, weight in zip(self.spikes, self.weights, strict=True):
            agrees = Signal(name="agrees")
            m.d.comb += [
                agrees.eq(spike == weight),
                Assert(agrees - ~weight == Mux(spike, Mux(weight, 1, -1), 0)),
            ]
            agreeing.append(agrees)
        ones, twos, deep = inner["ones"], inner["twos"], popcount.deep
        for place, two in enumerate(twos):
            three = sum(agreeing[3 * place : 3 * place + 3])
            history.follows(ones[place] + (two << 1), three, deep)
        history.follows(Cat(ones[len(twos) :]), Cat(agreeing[3 * len(twos) :]), deep)
        totals = [
            self._tree(m, sums, level, name)
            for level, name in ((ones, "ones"), (twos, "twos")) if level
        ]
        if deep:
            for part, total in zip(inner["parts"], totals, strict=True):
                history.follows(part, total, 1)
            totals = inner["parts"]
        total = sum(part << place for place, part in enumerate(totals))
        # Sums that registers may hold at first are larger than any count.
        history.follows(popcount.count, total[: len(popcount.count)], 1)
        return m

    def _tree(self, m, sums, level, name):
        """Its highest sum; asserts all sums above the bits of ``level``."""
        depth = 0
        while len(level) > 1:
            depth += 1
            above = [sums[f"{name}{depth}_{place}"] for place in range(-(-len(level) // 2))]
            m.d.comb += [
                Assert(total == sum(level[2 * place : 2 * place + 2]))
                for place, total in enumerate(above)
            ]
            level = above
        return level[0]


class ReadoutSpec(InputsOf):
    """A logit is the counts of its planes, over the lanes, times powers of two, plus the bias.

    Modulo 2**24: that it fits is a matter of ``sw.bounds``. Assumed is nothing: planes come at any
    time, and a clear starts over.
    """

    def __init__(self, *arguments):
        super().__init__(Readout(*arguments))

    def elaborate(self, platform):
        m = Module()
        readout = self.dut
        circuit, inner = elaborated(readout)
        m.submodules.readout = circuit
        registers = inside(circuit)
        m.d.comb += self.connected()
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
            f"popcount-tree-{simd}{'-cells' * (platform is not None)}{'-deep' * deep}",
            "each sum of the tree is that of the two below, and the lowest are bits that agree",
            partial(PopcountTreeSpec, simd, deep), Mutation(*error), depth=3, anywhere=True,
            platform=platform,
        )
        for simd, deep, platform, error in (
            (16, False, None, (
                "hw/popcount.py", "partial = Signal(depth + 1,", "partial = Signal(depth,",
                "every sum loses its carry",
            )),
            (64, True, None, (
                "hw/popcount.py", "partial = Signal(depth + 1,",
                "partial = Signal(min(depth + 1, 6),",
                "the sums of 32 and more lose their carry",
            )),
            (16, False, ECP5, (
                "hw/carry.py", "ones.append(~(spikes[-1] ^ weights[-1]))",
                "ones.append(spikes[-1] ^ weights[-1])",
                "the bit left over counts if it differs",
            )),
            (64, True, ECP5, (
                "hw/carry.py", "~spikes[second], weights[second]",
                "spikes[second], weights[second]", "every third bit counts if it differs",
            )),
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
