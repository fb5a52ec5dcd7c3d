"""The last layer's logits: 8-bit weights as eight binary planes through the array."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from sw.formats import ACCUMULATOR_BITS, PLANES

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Adds up the planes of ``units`` classes at once, the heaviest plane first.

    A weight is the sum of its planes' +1 and -1 times powers of two (``sw.formats``), so a logit is
    the counts of its planes, doubled and added in turn, plus a bias.

    Members
    -------
    clear : start of a layer.
    valid, counts : a plane of ``units`` classes: agreement counts of the array, ``width`` bits for
        each lane.
    bias : of these classes, one cycle after ``valid``; that of the last plane counts.
    out_valid, out : logits, after the last plane.
    """

    latency = 2

    def __init__(self, units, lanes, width):
        self.units, self.lanes, self.width = units, lanes, width
        super().__init__({
            "clear": In(1),
            "valid": In(1),
            "counts": In(data.ArrayLayout(data.ArrayLayout(width, lanes), units)),
            "bias": In(data.ArrayLayout(signed(ACCUMULATOR_BITS), units)),
            "out_valid": Out(1),
            "out": Out(data.ArrayLayout(signed(ACCUMULATOR_BITS), units)),
        })

    def model(self, planes, biases):
        """Logits [units] of counts [PLANES][units][lanes]."""
        return [
            sum(sum(plane[u]) << (PLANES - 1 - index) for index, plane in enumerate(planes)) + bias
            for u, bias in enumerate(biases)
        ]

    def elaborate(self, platform):
        m = Module()
        plane, summed, done = Signal(range(PLANES)), Signal(), Signal()
        m.d.sync += [summed.eq(self.valid), done.eq(summed & (plane == PLANES - 1))]
        with m.If(self.clear):
            m.d.sync += plane.eq(0)
        with m.Elif(summed):
            m.d.sync += plane.eq(plane + 1)
        for u in range(self.units):
            count = Signal(self.width + (self.lanes - 1).bit_length(), name=f"count{u}")
            logit = Signal(signed(ACCUMULATOR_BITS), name=f"logit{u}")
            bias = Signal(signed(ACCUMULATOR_BITS), name=f"bias{u}")
            m.d.sync += [
                count.eq(sum(self.counts[u][t] for t in range(self.lanes))), bias.eq(self.bias[u]),
            ]
            with m.If(summed):
                m.d.sync += logit.eq(Mux(plane == 0, 0, logit << 1) + count)
            m.d.comb += self.out[u].eq(logit + bias)
        m.d.comb += self.out_valid.eq(done)
        return m
