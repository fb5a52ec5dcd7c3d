"""8-bit multiply-accumulate for the stem, and for projections of the stream."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.carry import accumulate, has_carry_cells
from hw.tile import hand_out
from sw.formats import PROJECTION_BITS, STEM_SHIFT, STREAM_BITS

__all__ = ["Mac"]


class Mac(wiring.Component):
    """One pixel a cycle times ``pe`` signed weights, accumulated over a tile.

    With ``of_stream``, operands may be values of a stream as well, and nothing wraps around.

    Members
    -------
    valid, first, last : a cycle of work, and whether it opens or closes a tile.
    operand : pixel. weights : ``pe`` signed bytes, with ``deep`` a cycle later.
    out_valid, out : currents before the bias, ``width`` bits, of the next ``units`` output
        channels, channel 0 first. Modulo 2**width: with the bias they are proven to fit.
    first_pass : if there are ``passes``; the channels of a tile come in each of them.
    """

    #: From the last cycle of a tile to its first channels.
    latency = 4

    def __init__(self, pe, units, width, passes=1, of_stream=False, deep=False):
        self.pe, self.units, self.groups, self.passes = pe, units, pe // units, passes
        self.of_stream, self.deep = of_stream, deep
        self.width = PROJECTION_BITS - STEM_SHIFT if of_stream else width
        super().__init__({
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            "operand": In(signed(STREAM_BITS) if of_stream else 8),
            "weights": In(data.ArrayLayout(signed(8), pe)),
            "out_valid": Out(1),
            "out": Out(data.ArrayLayout(signed(self.width), units)),
            **({"first_pass": In(range(passes))} if passes > 1 else {}),
        })

    def model(self, tile):
        """Currents [pe] of a tile given as a list of (operand, weights)."""
        currents = [
            sum(operand * weights[p] for operand, weights in tile) >> STEM_SHIFT
            for p in range(self.pe)
        ]
        half = 1 << (self.width - 1)
        return [(current + half) % (2 * half) - half for current in currents]

    def cycles(self, words, passes=1):
        """Cycles a tile of ``words`` operands keeps the unit."""
        return max(words, self.groups * passes)

    def elaborate(self, platform):
        m = Module()
        # Signed and without resets, operand and product registers fit inside an iCE40 SB_MAC16.
        operand = Signal(signed(STREAM_BITS if self.of_stream else 9), reset_less=True)
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
            weight = self.weights[p]
            if not self.deep:
                weight = Signal(signed(8), reset_less=True, name=f"weight{p}")
                m.d.sync += weight.eq(self.weights[p])
            product = Signal(signed(len(operand) + 8), reset_less=True, name=f"product{p}")
            accumulator = Signal(
                signed(self.width + STEM_SHIFT), reset_less=True, name=f"accumulator{p}"
            )
            accumulators.append(accumulator)
            m.d.sync += product.eq(operand * weight)
            if has_carry_cells(platform):
                following = accumulate(m, accumulator, product, flags_q.first)
            else:
                following = Mux(flags_q.first, product, accumulator + product)
            with m.If(flags_q.valid):
                m.d.sync += accumulator.eq(following)

        currents = [accumulator >> STEM_SHIFT for accumulator in accumulators]
        passes = self.passes - self.first_pass if self.passes > 1 else None
        hand_out(m, self, done, currents, passes)
        return m
