"""The XNOR-popcount array: pe output channels x lanes time steps, simd inputs a cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.carry import accumulate, has_carry_cells
from hw.popcount import Popcount
from sw.formats import FRACTION

__all__ = ["Array"]


class Array(wiring.Component):
    """Accumulates agreement counts over a tile and hands out its channels, ``units`` a cycle.

    All lanes share the weights of a cycle: bit p * simd + c is the weight from input c to output
    p. The spike word has lane t of input c at bit c * lanes + t. The sums of a finished tile move
    to a second set of registers, so the next tile starts at once; a tile takes at least pe / units
    cycles.

    Members
    -------
    valid, first, last : a cycle of work, and whether it opens or closes a tile.
    spikes, weights : operands of that cycle.
    out_valid, out : agreement counts of the next output channels, all lanes, channel 0 first.
        Modulo 2**width: the current they make is proven at export to fit its own width.
    """

    #: From the last cycle of a tile to its first channels.
    latency = 3

    def __init__(self, engine):
        self.pe, self.simd, self.lanes = engine.pe, engine.simd, engine.lanes
        self.units, self.groups = engine.units, engine.groups
        self.width = engine.current_width - FRACTION
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            "spikes": In(self.simd * self.lanes),
            "weights": In(self.pe * self.simd),
            "out_valid": Out(1),
            "out": Out(data.ArrayLayout(data.ArrayLayout(self.width, self.lanes), self.units)),
        })

    def model(self, tile):
        """Counts [pe][lanes] of a tile given as a list of (spikes, weights) words."""
        counts = [[0] * self.lanes for _ in range(self.pe)]
        mask = (1 << self.simd) - 1
        for spikes, weights in tile:
            for t in range(self.lanes):
                lane = sum((spikes >> (c * self.lanes + t) & 1) << c for c in range(self.simd))
                for p in range(self.pe):
                    weight = weights >> (p * self.simd)
                    counts[p][t] += (~(lane ^ weight) & mask).bit_count()
        return [[count & ((1 << self.width) - 1) for count in channel] for channel in counts]

    def cycles(self, words):
        """Cycles a tile of ``words`` words keeps the array."""
        return max(words, self.groups)

    def elaborate(self, platform):
        m = Module()
        sums = data.ArrayLayout(data.ArrayLayout(self.width, self.lanes), self.pe)
        accumulators, buffer = Signal(sums), Signal(sums)
        valid, first, last, done = (
            Signal(name=name) for name in ("valid_q", "first_q", "last_q", "done")
        )
        m.d.sync += [
            valid.eq(self.valid), first.eq(self.first), last.eq(self.valid & self.last),
            done.eq(last),
        ]
        lanes = [Signal(self.simd, name=f"lane{t}") for t in range(self.lanes)]
        m.d.comb += [lane.eq(self.spikes[t :: self.lanes]) for t, lane in enumerate(lanes)]
        for p in range(self.pe):
            for t, lane in enumerate(lanes):
                m.submodules[f"popcount{p}_{t}"] = popcount = Popcount(self.simd)
                m.d.comb += [
                    popcount.spikes.eq(lane),
                    popcount.weights.eq(self.weights[p * self.simd : (p + 1) * self.simd]),
                ]
                total, count = accumulators[p][t], popcount.count
                if has_carry_cells(platform):
                    following = accumulate(m, total, count, first)
                else:
                    # On iCE40 a choice after the addition fits the LUT that adds; before, it does
                    # not.
                    following = Mux(first, count, total + count)
                with m.If(valid):
                    m.d.sync += total.eq(following)

        left = Signal(range(self.groups + 1))
        with m.If(done):
            m.d.sync += [buffer.eq(accumulators), left.eq(self.groups)]
        with m.Elif(self.out_valid):
            m.d.sync += left.eq(left - 1)
            m.d.sync += [buffer[p].eq(buffer[p + self.units]) for p in range(self.pe - self.units)]
        m.d.comb += [self.out_valid.eq(left != 0)]
        m.d.comb += [self.out[u].eq(buffer[u]) for u in range(self.units)]
        return m
