"""Which spike word an element lies in, and its value for the 8-bit layers."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.record import layer_layout
from sw.record import Kind, element_bits

__all__ = ["Operand"]


class Operand(wiring.Component):
    """Splits an element address into a word and a place in it.

    An element is a byte of the word for the stem, the whole word for a convolution, and one
    channel for the readout, whose value is its number of spikes over the time steps.

    Members
    -------
    layer : the layer record. element : address of the walk.
    word_address : in the same cycle. word : what the memory answers, one cycle later.
    value : of the element in ``word``, in the same cycle; for the 8-bit layers.
    """

    latency = 1

    def __init__(self, engine):
        self.engine = engine
        self.bytes = engine.simd * engine.lanes // 8
        super().__init__({
            "layer": In(layer_layout(engine)),
            "element": In(element_bits(engine)),
            "word_address": Out(range(engine.spike_depth)),
            "word": In(engine.simd * engine.lanes),
            "value": Out(8),
        })

    def model(self, kind, element, words):
        """Value of ``element`` of the spike words ``words``, for the stem or the readout."""
        if kind == Kind.STEM:
            row, place = divmod(element, self.bytes)
            return words[row] >> (8 * place) & 0xFF
        row, place = divmod(element, self.engine.simd)
        lanes = self.engine.lanes
        return (words[row] >> (lanes * place) & ((1 << lanes) - 1)).bit_count()

    def elaborate(self, platform):
        m = Module()
        engine = self.engine
        place = Signal(range(max(self.bytes, engine.simd)))
        m.d.sync += place.eq(self.element)
        pixel, steps = Signal(8), Signal(engine.lanes)
        m.d.comb += [
            pixel.eq(self.word.word_select(place[: (self.bytes - 1).bit_length()], 8)),
            steps.eq(self.word.word_select(place[: (engine.simd - 1).bit_length()], engine.lanes)),
        ]
        with m.Switch(self.layer.kind):
            with m.Case(Kind.STEM):
                m.d.comb += [
                    self.word_address.eq(self.element >> (self.bytes - 1).bit_length()),
                    self.value.eq(pixel),
                ]
            with m.Case(Kind.READOUT):
                m.d.comb += [
                    self.word_address.eq(self.element >> (engine.simd - 1).bit_length()),
                    self.value.eq(sum(steps[t] for t in range(engine.lanes))),
                ]
            with m.Default():
                m.d.comb += self.word_address.eq(self.element)
        return m
