"""8-bit multiply-accumulate for the layers that are not binary: stem and readout."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from sw.formats import ACCUMULATOR_BITS

__all__ = ["Mac"]


class Mac(wiring.Component):
    """One unsigned operand a cycle times ``pe`` signed weights, accumulated over a tile.

    Members
    -------
    valid, first, last : a cycle of work, and whether it opens or closes a tile.
    operand : pixel, or number of spikes of an input channel over the time steps.
    weights : ``pe`` signed bytes.
    out_valid, out : sums of the next ``units`` output channels, channel 0 first.
    """

    #: From the last cycle of a tile to its first channels.
    latency = 4

    def __init__(self, pe, units=1):
        self.pe, self.units, self.groups = pe, units, pe // units
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            "operand": In(8),
            "weights": In(data.ArrayLayout(signed(8), pe)),
            "out_valid": Out(1),
            "out": Out(data.ArrayLayout(signed(ACCUMULATOR_BITS), units)),
        })

    def model(self, tile):
        """Sums [pe] of a tile given as a list of (operand, weights)."""
        return [sum(operand * weights[p] for operand, weights in tile) for p in range(self.pe)]

    def cycles(self, words):
        """Cycles a tile of ``words`` operands keeps the unit."""
        return max(words, self.groups)

    def elaborate(self, platform):
        m = Module()
        buffer = Signal(data.ArrayLayout(signed(ACCUMULATOR_BITS), self.pe))
        # Signed and without resets, operand and product registers fit inside an iCE40 SB_MAC16.
        operand = Signal(signed(9), reset_less=True)
        flags = Signal(data.StructLayout({"valid": 1, "first": 1, "last": 1}))
        flags_q = Signal.like(flags)
        done = Signal()
        m.d.sync += [
            operand.eq(self.operand),
            flags.valid.eq(self.valid),
            flags.first.eq(self.first),
            flags.last.eq(self.valid & self.last),
            flags_q.eq(flags),
            done.eq(flags_q.last),
        ]
        accumulators = []
        for p in range(self.pe):
            weight = Signal(signed(8), reset_less=True, name=f"weight{p}")
            product = Signal(signed(17), reset_less=True, name=f"product{p}")
            accumulator = Signal(signed(ACCUMULATOR_BITS), name=f"accumulator{p}")
            accumulators.append(accumulator)
            m.d.sync += [weight.eq(self.weights[p]), product.eq(operand * weight)]
            with m.If(flags_q.valid):
                m.d.sync += accumulator.eq(Mux(flags_q.first, product, accumulator + product))

        left = Signal(range(self.groups + 1))
        with m.If(done):
            m.d.sync += left.eq(self.groups)
            m.d.sync += [buffer[p].eq(accumulators[p]) for p in range(self.pe)]
        with m.Elif(self.out_valid):
            m.d.sync += left.eq(left - 1)
            m.d.sync += [buffer[p].eq(buffer[p + self.units]) for p in range(self.pe - self.units)]
        m.d.comb += [self.out_valid.eq(left != 0)]
        m.d.comb += [self.out[u].eq(buffer[u]) for u in range(self.units)]
        return m
