"""The unit of the stream: currents times the slope of their channel."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from sw.formats import (
    SLOPE_BITS,
    SLOPE_FRACTION,
    STREAM_THRESHOLD,
    THRESHOLD_BITS,
    stream_current,
)

__all__ = ["Scale"]

#: Bits of a bias that is as fine as the product of current and slope.
BIAS_BITS = 32


class Scale(wiring.Component):
    """What a LIF takes of a channel: as it is or, with a stream, in the unit of that.

    Members
    -------
    streamed, counts : whether there is a stream, and whether currents are counts of the array,
        which are not negative; constant while a layer runs.
    current, bias, limit : of a channel: its currents before the bias, ``width`` bits, for each
        lane; with a stream, a bias of ``SLOPE_FRACTION`` more fraction bits, half a unit included,
        and the slope, else the bias and the threshold.
    out_current, out_bias, out_threshold : ``latency`` cycles later; with a stream, the bias is part
        of the current.
    """

    latency = 2

    def __init__(self, lanes, width):
        self.lanes, self.width = lanes, width
        currents = data.ArrayLayout(signed(width), lanes)
        super().__init__({
            "streamed": In(1),
            "counts": In(1),
            "current": In(currents),
            "bias": In(BIAS_BITS),
            "limit": In(max(SLOPE_BITS, THRESHOLD_BITS)),
            "out_current": Out(currents),
            "out_bias": Out(signed(width)),
            "out_threshold": Out(THRESHOLD_BITS),
        })

    def model(self, sums, bias, limit, streamed):
        """(currents, bias, threshold) of sums before the bias: counts of the array or a MAC's."""
        if not streamed:
            return sums, bias, limit
        return [stream_current(value, limit, bias) for value in sums], 0, STREAM_THRESHOLD

    def elaborate(self, platform):
        m = Module()
        # Two registers each, of which the multipliers of an ECP5 take those of their operands.
        operand, current = (Signal.like(self.current, name=n) for n in ("operand", "current_q"))
        factor, threshold = (Signal.like(self.limit, name=n) for n in ("factor", "threshold"))
        early_bias, bias = (Signal.like(self.bias, name=n) for n in ("early_bias", "bias_q"))
        m.d.sync += [
            operand.eq(self.current), current.eq(operand),
            factor.eq(self.limit), threshold.eq(factor),
            early_bias.eq(self.bias), bias.eq(early_bias),
        ]
        for t in range(self.lanes):
            value = Signal(signed(self.width + 1), name=f"value{t}")
            product = Signal(signed(self.width + SLOPE_BITS + 1), name=f"product{t}")
            m.d.comb += value.eq(
                Cat(operand[t], operand[t][-1] & ~self.counts).as_signed()
            )
            m.d.sync += product.eq(value * factor[:SLOPE_BITS])
            m.d.comb += self.out_current[t].eq(
                Mux(self.streamed, (product + bias)[SLOPE_FRACTION:], current[t])
            )
        m.d.comb += [
            self.out_bias.eq(Mux(self.streamed, 0, bias)),
            self.out_threshold.eq(Mux(self.streamed, STREAM_THRESHOLD, threshold)),
        ]
        return m
