"""The XNOR-popcount array: pe output channels x lanes time steps, simd inputs a cycle."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.carry import accumulate, has_carry_cells
from hw.popcount import Popcount
from hw.tile import hand_out
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
    active : with strips, those that take part; ``first`` may come once for each of them.
    slow : with a residual stream, whether a group leaves every fourth cycle only.
    spikes, weights : operands of that cycle; ``deep``, the weights come a cycle later.
    out_valid, out : agreement counts of the next output channels, all lanes, channel 0 first.
        Modulo 2**width: the current they make is proven at export to fit its own width.
    """

    def __init__(self, engine):
        self.pe, self.simd, self.lanes = engine.pe, engine.simd, engine.lanes
        self.units, self.groups = engine.units, engine.groups
        self.deep, self.strips, self.steps = engine.deep, engine.pixels, engine.steps
        self.has_stream = engine.has_stream
        # A readout is counted over all passes.
        self.width = engine.current_width - FRACTION + (engine.passes - 1).bit_length()
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            **({"active": In(self.strips)} if self.strips > 1 else {}),
            **({"slow": In(1)} if self.has_stream else {}),
            "spikes": In(self.simd * self.lanes),
            "weights": In(self.pe * self.simd),
            "out_valid": Out(1),
            "out": Out(data.ArrayLayout(data.ArrayLayout(self.width, self.lanes), self.units)),
        })

    @property
    def latency(self):
        """From the last cycle of a tile to its first channels."""
        return 6 if self.deep else 3

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
        accumulators = Signal(
            data.ArrayLayout(self.out.shape().elem_shape, self.pe), reset_less=True
        )
        spikes, weights = self.spikes, self.weights
        if self.deep:
            spikes = Signal.like(self.spikes, reset_less=True)
            m.d.sync += spikes.eq(self.spikes)
        # As late as the counts.
        flags = Signal(data.StructLayout({
            "valid": 1, "first": 1, "last": 1,
            **({"active": self.strips} if self.strips > 1 else {}),
        }), name="flags0")
        done = Signal()
        m.d.comb += [
            flags.valid.eq(self.valid), flags.first.eq(self.first),
            flags.last.eq(self.valid & self.last),
        ]
        if self.strips > 1:
            m.d.comb += flags.active.eq(self.active)
        for stage in range(self.latency - 2):
            following = Signal(flags.shape(), name=f"flags{stage + 1}")
            m.d.sync += following.eq(flags)
            flags = following
        valid, first = flags.valid, flags.first
        m.d.sync += done.eq(flags.last)
        lanes = [Signal(self.simd, name=f"lane{t}") for t in range(self.lanes)]
        m.d.comb += [lane.eq(spikes[t :: self.lanes]) for t, lane in enumerate(lanes)]
        for p in range(self.pe):
            for t, lane in enumerate(lanes):
                m.submodules[f"popcount{p}_{t}"] = popcount = Popcount(self.simd, self.deep)
                m.d.comb += [
                    popcount.spikes.eq(lane),
                    popcount.weights.eq(weights[p * self.simd : (p + 1) * self.simd]),
                ]
                total, count = accumulators[p][t], popcount.count
                if has_carry_cells(platform):
                    following = accumulate(m, total, count, first)
                else:
                    # On iCE40 a choice after the addition fits the LUT that adds; before, it does
                    # not.
                    following = Mux(first, count, total + count)
                takes_part = valid
                if self.strips > 1:
                    takes_part = valid & flags.active[t // self.steps]
                with m.If(takes_part):
                    m.d.sync += total.eq(following)

        slow = self.slow if self.has_stream else None
        hand_out(m, self, done, [accumulators[p] for p in range(self.pe)], slow=slow)
        return m
