"""Biases and thresholds of the channels whose sums have just come out of the array."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostWrite
from hw.memory import HostMemory
from hw.passes import follow_passes
from hw.record import layer_layout
from sw.packing import channel_slot_bits
from sw.program import Region
from sw.record import Kind

__all__ = ["Channels"]


class Channels(wiring.Component):
    """Follows the order in which channels leave a tile and reads their word.

    A tile's channels repeat for each pass (but not those of a readout), for each pixel of a pooling
    window, and of a stem for each strip; tiles repeat for each window.

    Members
    -------
    layer, clear : the layer record, and the start of a layer.
    valid : a group of ``units`` channels leaves. word : their entries, one cycle later: of each the
        bias in the low slot, the threshold in the high one, both ``channel_slot_bits`` wide.
    """

    latency = 1

    def __init__(self, engine, region=Region.CHANNELS):
        self.engine, self.region = engine, region
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "word": Out(data.ArrayLayout(2 * channel_slot_bits(engine), engine.units)),
            "host": In(HostWrite),
        })

    def model(self, tiles, pool, pixels, repeats=1):
        """Entry numbers, from the layer's first, in the order of the channels of ``pixels``."""
        pe = self.engine.pe
        return [
            tile * pe + channel
            for _ in range(pixels) for tile in range(tiles)
            for _ in range(4 * repeats if pool else repeats) for channel in range(pe)
        ]

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        m.submodules.memory = mem = HostMemory(
            self.region, 2 * channel_slot_bits(engine) * engine.units,
            engine.channel_depth // engine.units,
        )
        wiring.connect(m, wiring.flipped(self.host), mem.host)
        group = Signal(range(engine.groups))
        pixel = Signal(2)
        tile = Signal.like(layer.tiles_last)
        last_pixel = ~layer.pool | (pixel == 3)
        strip = Signal(range(engine.pixels))
        m.d.comb += [
            mem.address.eq(
                (layer.channel_base >> (engine.units.bit_length() - 1))
                + (tile << (engine.groups.bit_length() - 1)) + group
            ),
            mem.enable.eq(self.valid),
            self.word.eq(mem.data),
        ]
        ends = group == engine.groups - 1
        if engine.passes > 1:
            passes = follow_passes(
                m, engine.groups, engine.passes, layer.first_pass, self.clear, self.valid
            )
            ends &= passes.last | (layer.kind == Kind.READOUT)
        with m.If(self.valid):
            m.d.sync += group.eq(group + 1)
            with m.If(ends):
                m.d.sync += pixel.eq(pixel + 1)
                with m.If(last_pixel):
                    m.d.sync += [pixel.eq(0), tile.eq(tile + 1)]
                    with m.If(tile == layer.tiles_last):
                        m.d.sync += tile.eq(0)
                    if engine.pixels > 1:
                        with m.If((layer.kind == Kind.STEM) & (strip != engine.pixels - 1)):
                            m.d.sync += [strip.eq(strip + 1), tile.eq(tile)]
                        with m.Else():
                            m.d.sync += strip.eq(0)
        with m.If(self.clear):
            m.d.sync += [group.eq(0), pixel.eq(0), tile.eq(0)]
            if engine.pixels > 1:
                m.d.sync += strip.eq(0)
        return m
