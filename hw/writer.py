"""Packs spikes into words of the spike memory, pixel after pixel, and writes the logits."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.record import layer_layout

__all__ = ["Writer"]


class Writer(wiring.Component):
    """Writes a layer's output as one run of words from ``layer.out_base`` on.

    Channels come in order, ``pe`` a tile, all tiles of a pixel before the next pixel. A word is
    written when its last channel, or the last of the pixel, has come. Logits take a word each.

    Members
    -------
    layer, clear : the layer record, and the start of a layer.
    valid, spikes : one channel, all lanes. logit_valid, logit : one class.
    write_enable, write_address, write_data : to the spike memory, one cycle later; the data are 0
        when nothing is left to write.
    written : the last word of the layer is being written.
    passed, passed_spikes : a channel as it is stored; channels that only fill the last tile
        are silent. last_channel, last_column: it ends a pixel, a row.
    """

    latency = 1

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "spikes": In(engine.lanes),
            "logit_valid": In(1),
            "logit": In(32),
            "write_enable": Out(1),
            "write_address": Out(range(engine.spike_depth)),
            "write_data": Out(engine.simd * engine.lanes),
            "written": Out(1),
            "passed": Out(1),
            "passed_spikes": Out(engine.lanes),
            "last_channel": Out(1),
            "last_column": Out(1),
        })

    def model(self, channels, real_channels, logits=False):
        """Words written for a list of channels of one pixel, or for logits."""
        if logits:
            return [value & 0xFFFFFFFF for value in channels[:real_channels]]
        simd, lanes = self.engine.simd, self.engine.lanes
        stored = [s if c < real_channels else 0 for c, s in enumerate(channels)]
        return [
            sum(s << (i * lanes) for i, s in enumerate(stored[start : start + simd]))
            for start in range(0, len(stored), simd)
        ]

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        pe_bits = engine.pe.bit_length() - 1
        word = Signal(data.ArrayLayout(engine.lanes, engine.simd))
        channel = Signal.like(layer.channels)
        x, y = Signal.like(layer.out_width_last), Signal.like(layer.out_height_last)
        slot = channel[: engine.simd.bit_length() - 1]
        valid = Signal()
        flush, logit, logit_real = Signal(), Signal(32), Signal()

        real = Signal()
        m.d.comb += [
            valid.eq(self.valid | self.logit_valid),
            real.eq(channel < layer.channels),
            self.passed.eq(self.valid),
            self.passed_spikes.eq(Mux(real, self.spikes, 0)),
            self.last_channel.eq(
                (channel[pe_bits:] == layer.tiles_last)
                & channel[:pe_bits].all()
            ),
            self.last_column.eq(x == layer.out_width_last),
        ]

        # The word goes out one cycle after its last channel came in, as the next one begins.
        for index in range(engine.simd):
            with m.If(self.valid & (slot == index)):
                m.d.sync += word[index].eq(self.passed_spikes)
            with m.Elif(flush):
                m.d.sync += word[index].eq(0)
        m.d.sync += [
            flush.eq(self.valid & (self.last_channel | slot.all())),
            logit.eq(Mux(self.logit_valid & real, self.logit, 0)),
            logit_real.eq(self.logit_valid & real),
            self.written.eq(
                valid & self.last_channel & self.last_column & (y == layer.out_height_last)
            ),
        ]
        with m.If(valid):
            m.d.sync += channel.eq(channel + 1)
            with m.If(self.last_channel):
                m.d.sync += [channel.eq(0), x.eq(x + 1)]
                with m.If(self.last_column):
                    m.d.sync += [x.eq(0), y.eq(y + 1)]
        m.d.comb += [
            self.write_enable.eq(flush | logit_real),
            self.write_data.eq(word.as_value() | logit),
        ]
        with m.If(self.write_enable):
            m.d.sync += self.write_address.eq(self.write_address + 1)
        with m.If(self.clear):
            m.d.sync += [
                self.write_address.eq(layer.out_base), channel.eq(0), x.eq(0), y.eq(0),
                word.eq(0),
            ]
        return m
