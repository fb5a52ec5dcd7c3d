"""Packs spikes into words of the spike memory, pixel after pixel, and writes the logits."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.record import layer_layout

__all__ = ["Writer"]


class Writer(wiring.Component):
    """Writes a layer's output as one run of words from ``layer.out_base`` on.

    Channels come in order, ``units`` a cycle, ``pe`` a tile, all tiles of a pixel before the next
    pixel. A word is written when its last channel, or the last of the pixel, has come. The logits
    of a cycle take a word, 32 bits each.

    Members
    -------
    layer, clear : the layer record, and the start of a layer.
    valid, spikes : a group of channels, all lanes. logit_valid, logit : a group of classes.
    write_enable, write_address, write_data : to the spike memory, one cycle later; the data are 0
        when nothing is left to write.
    written : the last word of the layer is being written.
    passed, passed_spikes : a group as it is stored; channels that only fill the last tile are
        silent. last_group, last_column: it ends a pixel, a row.
    """

    latency = 1

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "spikes": In(data.ArrayLayout(engine.lanes, engine.units)),
            "logit_valid": In(1),
            "logit": In(data.ArrayLayout(32, engine.units)),
            "write_enable": Out(1),
            "write_address": Out(range(engine.spike_depth)),
            "write_data": Out(engine.simd * engine.lanes),
            "written": Out(1),
            "passed": Out(1),
            "passed_spikes": Out(data.ArrayLayout(engine.lanes, engine.units)),
            "last_group": Out(1),
            "last_column": Out(1),
        })

    def model(self, channels, real_channels, logits=False):
        """Words written for a list of channels of one pixel, or for logits."""
        if logits:
            units, real = self.engine.units, channels[:real_channels]
            return [
                sum((value & 0xFFFFFFFF) << (32 * u) for u, value in enumerate(real[i : i + units]))
                for i in range(0, len(real), units)
            ]
        simd, lanes = self.engine.simd, self.engine.lanes
        stored = [s if c < real_channels else 0 for c, s in enumerate(channels)]
        return [
            sum(s << (i * lanes) for i, s in enumerate(stored[start : start + simd]))
            for start in range(0, len(stored), simd)
        ]

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        unit_bits = engine.units.bit_length() - 1
        group_bits = engine.groups.bit_length() - 1
        slots = engine.simd // engine.units
        word = Signal(data.ArrayLayout(engine.lanes * engine.units, slots))
        group = Signal(len(layer.channels) - unit_bits)
        x, y = Signal.like(layer.out_width_last), Signal.like(layer.out_height_last)
        slot = group[: slots.bit_length() - 1]
        valid = Signal()
        flush, logit_real = Signal(), Signal()
        logit = Signal(32 * engine.units)

        real = Signal(engine.units)
        m.d.comb += [
            valid.eq(self.valid | self.logit_valid),
            self.passed.eq(self.valid),
            self.last_group.eq(
                (group[group_bits:] == layer.tiles_last) & group[:group_bits].all()
            ),
            self.last_column.eq(x == layer.out_width_last),
        ]
        for u in range(engine.units):
            m.d.comb += [
                real[u].eq(Cat(Const(u, unit_bits), group) < layer.channels),
                self.passed_spikes[u].eq(Mux(real[u], self.spikes[u], 0)),
            ]
            m.d.sync += logit.word_select(u, 32).eq(
                Mux(self.logit_valid & real[u], self.logit[u], 0)
            )

        # The word goes out one cycle after its last group came in, as the next one begins.
        for index in range(slots):
            with m.If(self.valid & (slot == index)):
                m.d.sync += word[index].eq(self.passed_spikes)
            with m.Elif(flush):
                m.d.sync += word[index].eq(0)
        m.d.sync += [
            flush.eq(self.valid & (self.last_group | slot.all())),
            logit_real.eq(self.logit_valid & real[0]),
            self.written.eq(
                valid & self.last_group & self.last_column & (y == layer.out_height_last)
            ),
        ]
        with m.If(valid):
            m.d.sync += group.eq(group + 1)
            with m.If(self.last_group):
                m.d.sync += [group.eq(0), x.eq(x + 1)]
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
                self.write_address.eq(layer.out_base), group.eq(0), x.eq(0), y.eq(0),
                word.eq(0),
            ]
        return m
