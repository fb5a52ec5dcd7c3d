"""Sums and products too wide to be solved at once, a stage of registers at a time."""

from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Fragment, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.popcount import Popcount
from hw.readout import Readout
from hw.scale import BIAS_BITS, Scale
from sw.formats import (
    ACCUMULATOR_BITS,
    PLANES,
    SLOPE_BITS,
    SLOPE_FRACTION,
    STREAM_THRESHOLD,
    THRESHOLD_BITS,
    stream_current,
)
from tests.formal.neurons import History, fits
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


class ScaleSpec(wiring.Component):
    """A current in the unit of the stream is ``sw.formats.stream_current`` of product and bias.

    If that fits, for any product: as ``stream_current`` makes it of the product times 1. The
    operands of the multiplication are the current, signed or a count, and the slope; that it gives
    their product is taken for granted. The bias has half a unit, as the export gives it. Without a
    stream, current, bias and threshold pass.
    """

    def __init__(self, width):
        self.scale = Scale(1, width)
        super().__init__({
            "streamed": In(1), "counts": In(1), "current": In(signed(width)),
            "bias": In(signed(BIAS_BITS - SLOPE_FRACTION)), "raw_bias": In(BIAS_BITS),
            "limit": In(len(self.scale.limit)),
        })

    def elaborate(self, platform):
        m = Module()
        scale, history = self.scale, History(m, self.scale.latency)
        m.submodules.scale = fragment = Fragment.get(scale, None)
        registers = inside(fragment)
        half = Const(1 << (SLOPE_FRACTION - 1), SLOPE_FRACTION)
        m.d.comb += [
            getattr(scale, name).eq(getattr(self, name)) for name in ("streamed", "counts", "limit")
        ]
        m.d.comb += [
            scale.current[0].eq(self.current),
            scale.bias.eq(Mux(self.streamed, Cat(half, self.bias), self.raw_bias)),
            Assume((history.cycle == 0) | (self.streamed == history.ago(self.streamed, 1))),
        ]
        value, factor = registers["value0"], registers["factor"][:SLOPE_BITS]
        was_current, was_limit = (history.ago(one, 1) for one in (self.current, self.limit))
        current, limit = (history.ago(one, 1) for one in (was_current, was_limit))
        bias = history.ago(scale.bias, 2)
        product = registers["product0"]
        exact = Signal(signed(len(product) + 1))
        held, exact_bias = registers["bias_q"], registers["bias_q"][SLOPE_FRACTION:].as_signed()
        m.d.comb += exact.eq(stream_current(product, 1, exact_bias))
        out, full = scale.out_current[0], history.cycle == scale.latency
        # Of any product: at first it is any.
        with m.If((history.cycle == 0) & self.streamed):
            m.d.comb += [
                Assume(held[:SLOPE_FRACTION] == half),
                Assert(~fits(exact, scale.width) | (out == exact)),
            ]
        with m.If(full & self.streamed):
            m.d.comb += [
                Assert(value == Mux(self.counts, was_current.as_unsigned(), was_current)),
                Assert(factor == was_limit[:SLOPE_BITS]),
                Assert(held == bias), Assert(scale.out_bias == 0),
                Assert(scale.out_threshold == STREAM_THRESHOLD),
            ]
        with m.Elif(full):
            m.d.comb += [
                Assert(out == current),
                Assert(scale.out_bias == bias[: scale.width].as_signed()),
                Assert(scale.out_threshold == limit[:THRESHOLD_BITS]),
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
    Circuit(
        "scale", "a scaled current is any product, rounded, and the bias; its operands are exact",
        partial(ScaleSpec, 16),
        Mutation("hw/scale.py", "operand[t][-1] & ~self.counts", "operand[t][-1]",
                 "large counts are negative"),
        depth=3, anywhere=True,
    ),
]
