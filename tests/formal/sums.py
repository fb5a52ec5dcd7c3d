"""Counts of agreeing bits are sums of weights over spikes, wherever they are added up."""

from functools import partial
from types import SimpleNamespace

import z3
from amaranth.hdl import Array as Choice
from amaranth.hdl import Assert, Assume, Cat, Fragment, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout, View
from amaranth.lib.wiring import In

from hw.array import Array
from hw.boards import BOARDS
from hw.popcount import Popcount
from sw import formats
from sw.formats import PLANES
from tests.formal.neurons import History
from tests.formal.proof import Circuit, Claim, inside
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


def _signs(m, spikes, weights, simd):
    """(P, N): sum over the spikes of weights, +1 or -1, and the number of the negative ones."""
    total = Signal(signed(simd.bit_length() + 1), name="total")
    negative = Signal(range(simd + 1), name="negative")
    m.d.comb += [
        total.eq(sum(Mux(spikes[c], Mux(weights[c], 1, -1), 0) for c in range(simd))),
        negative.eq(sum(~weights[c] for c in range(simd))),
    ]
    return total, negative


def _was(m, value):
    was = Signal.like(value, name=f"{value.name}_was", reset_less=True)
    m.d.sync += was.eq(value)
    return was


class PopcountSpec(wiring.Component):
    """The count less the number N of -1 weights is the sum of weights over spikes."""

    def __init__(self, simd, deep=False):
        self.popcount = Popcount(simd, deep)
        super().__init__({"spikes": In(simd), "weights": In(simd)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.popcount = popcount = self.popcount
        history = History(m, popcount.latency)
        m.d.comb += [popcount.spikes.eq(self.spikes), popcount.weights.eq(self.weights)]
        total, negative = (
            history.ago(value, popcount.latency)
            for value in _signs(m, self.spikes, self.weights, popcount.simd)
        )
        m.d.comb += Assert(
            (history.cycle != popcount.latency) | (popcount.count - negative == total)
        )
        return m


class ArraySpec(wiring.Component):
    """What the array hands out is the sum of weights over spikes of a tile, of any words, plus N.

    Modulo 2**width, for tiles that end ``groups`` cycles apart at least (the sequencer's part).
    """

    def __init__(self, engine):
        self.array, self.engine = Array(engine), engine
        super().__init__({
            "valid": In(1), "first": In(1), "last": In(1),
            "spikes": In(engine.simd * engine.lanes), "weights": In(engine.pe * engine.simd),
        })

    def elaborate(self, platform):
        m = Module()
        array, pe, simd, lanes = self.array, self.array.pe, self.array.simd, self.array.lanes
        groups, width = array.groups, array.width
        m.submodules.array = fragment = Fragment.get(array, platform)
        registers = inside(fragment)
        m.d.comb += [
            getattr(array, name).eq(getattr(self, name))
            for name in ("valid", "first", "last", "spikes", "weights")
        ]
        valid, first, last, done = (
            Signal(name=f"was_{name}") for name in ("valid", "first", "last", "done")
        )
        begun, known, out_known = Signal(), Signal(), Signal()
        m.d.sync += [
            valid.eq(self.valid), first.eq(self.first), last.eq(self.valid & self.last),
            done.eq(last),
        ]
        with m.If(valid & first):
            m.d.sync += begun.eq(1)
        m.d.comb += Assert(registers["flags1"] == Cat(valid, first, last))
        m.d.comb += [Assert(registers["done"] == done), Assert(~known | begun)]

        # Groups of the last tile that are still to leave.
        place, since = (Signal(range(groups + 1), init=groups, name=n) for n in ("place", "since"))
        with m.If(done):
            m.d.sync += [place.eq(0), since.eq(1), out_known.eq(known)]
            m.d.comb += Assume(since >= groups)
        with m.Else():
            m.d.sync += [place.eq(Mux(place == groups, groups, place + 1)),
                         since.eq(Mux(since == groups, groups, since + 1))]
        with m.If(valid & last):
            m.d.sync += known.eq(begun | first)
        m.d.comb += [
            Assert(registers["left"] == groups - place),
            Assert(array.out_valid == (place != groups)),
        ]
        accumulators, waiting = (
            View(ArrayLayout(ArrayLayout(width, lanes), pe), registers[name])
            for name in ("accumulators", "waiting")
        )
        for t in range(lanes):
            finished = []
            for p in range(pe):
                word = self.spikes[t :: lanes], self.weights[p * simd : (p + 1) * simd]
                total, negative = (_was(m, value) for value in _signs(m, *word, simd))
                count = registers[f"popcount{p}_{t}.register"]
                sums = Signal(width, name=f"sum{p}_{t}")
                negatives = Signal(width, name=f"negatives{p}_{t}")
                sums_done = Signal(width, name=f"sum{p}_{t}_done")
                with m.If(valid):
                    m.d.sync += [
                        sums.eq(Mux(first, 0, sums) + total),
                        negatives.eq(Mux(first, 0, negatives) + negative),
                    ]
                with m.If(done):
                    m.d.sync += sums_done.eq(sums + negatives)
                finished.append(sums_done)
                held = accumulators[p][t]
                m.d.comb += [
                    Assert(count == total + negative),
                    Assert(~begun | (held == (sums + negatives)[:width])),
                ]
            for p in range(pe):
                expected = Choice(finished)[(place * array.units + p)[:2]]
                m.d.comb += Assert(
                    ~out_known | (place * array.units + p >= pe) | (waiting[p][t] == expected)
                )
        return m


def planes():
    """The bits of a weight of the readout, +1 and -1, times powers of two."""
    weight = z3.BitVec("weight", 12)
    bits = [z3.Extract(place, place, weight + 128) for place in range(PLANES)]
    total = sum(
        (z3.If(bit == 1, z3.BitVecVal(1 << place, 12), z3.BitVecVal(-(1 << place), 12))
         for place, bit in enumerate(bits)), z3.BitVecVal(0, 12),
    )
    return {"sum": z3.Implies(
        z3.And(weight >= -128, weight <= 127), formats.readout_weight(weight) == total
    )}


#: What an array takes of an engine; smaller than any engine that can be built.
SMALL = SimpleNamespace(
    pe=4, simd=4, lanes=2, units=2, groups=2, deep=False, pixels=1, steps=2, passes=1,
    has_stream=False, current_width=10,
)


#: One whose popcounts and accumulators are made of carry cells.
ECP5 = BOARDS["ulx3s-85f"].platform()


def _popcount(name, mutation, *arguments, path="hw/popcount.py", platform=None):
    return Circuit(
        name, "a count less the number of -1 weights is the sum of weights over spikes",
        partial(PopcountSpec, *arguments), Mutation(path, *mutation), 4, anywhere=True,
        platform=platform,
    )


PROOFS = [
    _popcount("popcount", ("agree = ~(self.spikes ^ self.weights)",
                           "agree = ~(self.spikes | self.weights)", "ones do not agree"), 8),
    _popcount("popcount-deep", ("total[: len(self.count)]", "total[: len(self.count) - 1]",
                                "a full count loses its highest bit"), 8, True),
    _popcount("popcount-cells", ("two_places.append(len(halves))\n    halves",
                                 "two_places.append(len(halves) - 1)\n    halves",
                                 "the last carry is not handed out"),
              8, path="hw/carry.py", platform=ECP5),
    Circuit(
        "array", "what leaves the array is a tile's sum of weights over spikes, and a constant",
        partial(ArraySpec, SMALL),
        Mutation("hw/array.py", "following = Mux(first, count, total + count)",
                 "following = Mux(first, 0, total + count)", "a tile's first word is lost"),
        depth=2, inductive=True,
    ),
    Circuit(
        "array-cells", "so it is where carry cells of an ECP5 count and add up",
        partial(ArraySpec, SMALL),
        Mutation("hw/carry.py", "padded[bit], total[bit], restart, 1)",
                 "padded[bit], total[bit], 0, 1)", "a tile goes on from the one before it"),
        depth=2, inductive=True, platform=ECP5,
    ),
    Claim(
        "readout-planes", "a weight of the readout is the sum of its planes times powers of two",
        planes,
        Mutation("sw/formats.py", "return 2 * weight + 1", "return 2 * weight",
                 "weights are even"),
    ),
]
