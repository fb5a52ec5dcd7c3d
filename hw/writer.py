"""Packs spikes into words of the spike memory, pixel after pixel, and writes the logits."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.passes import follow_passes
from hw.record import layer_layout
from hw.spikes import BANK
from sw.cycles import HALO_CYCLES

__all__ = ["Writer"]


class Writer(wiring.Component):
    """Writes a layer's output as one run of words from ``layer.out_base`` on.

    Channels come in order, ``units`` a cycle, ``pe`` a tile, all tiles of a pixel before the next
    pixel. Each tile is written as it is complete. The first of a word also clears the word's other
    parts: no channels may follow for them. The logits of ``units`` classes take a word, 32 bits
    each.

    With strips, a tile that is also in a halo is written to that first, moved over by one strip.
    With passes, each has a plane of its own, ``layer.out_plane`` words behind the one before.

    Members
    -------
    layer, clear : the layer record, and the start of a layer.
    valid, spikes : a group of channels, all lanes. logit_valid, logit : a group of classes.
    write_banks, write_address, write_data : to the spike memory, ``latency`` cycles later, logits
        one; a bit for each bank that is written. The data are 0 in all others, and when nothing is
        written. Copies for halos come in the two cycles before.
    written : the last word of the layer is being written.
    passed, passed_spikes : a group as it is stored, one cycle later; channels that only fill the
        last tile are silent. last_group : it ends a pixel.
    column, row : of the pixel, and after its last group has come, of the next.
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "spikes": In(data.ArrayLayout(engine.lanes, engine.units)),
            "logit_valid": In(1),
            "logit": In(data.ArrayLayout(32, engine.units)),
            "write_banks": Out(engine.simd * engine.lanes // BANK),
            "write_address": Out(range(engine.spike_depth)),
            "write_data": Out(engine.simd * engine.lanes),
            "written": Out(1),
            "passed": Out(1),
            "passed_spikes": Out(data.ArrayLayout(engine.lanes, engine.units)),
            "last_group": Out(1),
            "column": Out(7),
            "row": Out(7),
        })

    @property
    def latency(self):
        return 2 + HALO_CYCLES * (self.engine.pixels > 1)

    def model(self, channels, real_channels, logits=False):
        """(banks, word) of each write for channels of one pixel and pass, or for logits."""
        engine = self.engine
        every = (1 << len(self.write_banks)) - 1
        if logits:
            units, real = engine.units, channels[:real_channels]
            return [
                (every, sum(
                    (value & 0xFFFFFFFF) << (32 * u)
                    for u, value in enumerate(real[start : start + units])
                ))
                for start in range(0, len(real), units)
            ]
        stored = [s if c < real_channels else 0 for c, s in enumerate(channels)]
        banks = engine.pe * engine.lanes // BANK
        writes = []
        for start in range(0, len(stored), engine.pe):
            first = start % engine.simd
            tile = stored[start : start + engine.pe]
            word = sum(s << ((first + i) * engine.lanes) for i, s in enumerate(tile))
            part = ((1 << banks) - 1) << (first * engine.lanes // BANK)
            writes.append((part if first else every, word))
        return writes

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        unit_bits = engine.units.bit_length() - 1
        group_bits = engine.groups.bit_length() - 1
        parts = engine.simd // engine.pe
        tile = Signal(data.ArrayLayout(engine.lanes * engine.units, engine.groups), reset_less=True)
        group = Signal(len(layer.channels) - unit_bits)
        part = Signal(range(parts))
        x, y = self.column, self.row
        last_group, last_column, last_spikes, ends_tile, ends_word, ended, flush = (
            Signal(name=name) for name in (
                "ends_pixel", "ends_row", "last_spikes", "ends_tile", "ends_word", "ended", "flush",
            )
        )
        logit, logit_passed, logit_real = (
            Signal(bits, name=name)
            for name, bits in (("logit_q", 32 * engine.units), ("passes", 1), ("real_logit", 1))
        )

        # First what a group is, then where it goes: a cycle each.
        real = Signal(engine.units)
        ends_pixel = (group[group_bits:] == layer.tiles_last) & group[:group_bits].all()
        if engine.passes > 1:
            coming = follow_passes(
                m, engine.groups, engine.passes, layer.first_pass, self.clear, self.valid
            )
            ends_pixel &= coming.last
        m.d.comb += [
            last_group.eq(ends_pixel),
            last_column.eq(x == layer.out_width_last),
            last_spikes.eq(last_group & last_column & (y == layer.out_height_last)),
        ]
        m.d.sync += [
            self.passed.eq(self.valid),
            self.last_group.eq(last_group),
            ends_tile.eq(group[:group_bits].all()),
            ended.eq(self.valid & last_spikes),
        ]
        spikes = self.spikes
        if engine.pixels > 1:
            spikes = self._in_map(m, y)
        for u in range(engine.units):
            m.d.comb += real[u].eq(Cat(Const(u, unit_bits), group) < layer.channels)
            m.d.sync += [
                self.passed_spikes[u].eq(Mux(real[u], spikes[u], 0)),
                logit.word_select(u, 32).eq(Mux(self.logit_valid & real[u], self.logit[u], 0)),
            ]

        # What is written and when, when in its place, whether that closes a word, and the last.
        written_tile, writes, places, closes, written = tile, flush, flush, ends_word, ended
        # The place in the first pass, and in this one.
        address = place = self.write_address
        if engine.pixels > 1 or engine.passes > 1:
            address = place = Signal.like(self.write_address, name="place")
        if engine.passes > 1:
            plane, place = (
                Signal.like(self.write_address, name=name) for name in ("plane", "place_in_pass")
            )
            m.d.comb += place.eq(address + plane)
        if engine.pixels > 1:
            written_tile, writes, places, closes, written = self._with_halos(
                m, tile, flush, ends_word, ended, place
            )
        elif engine.passes > 1:
            m.d.comb += self.write_address.eq(place)
        moves_on = places
        if engine.passes > 1:
            leaving = follow_passes(
                m, 1, engine.passes, layer.first_pass, self.clear, places, "passes_written"
            )
            moves_on = places & leaving.last
            with m.If(places):
                m.d.sync += plane.eq(Mux(leaving.last, 0, plane + layer.out_plane))
            with m.If(self.clear):
                m.d.sync += plane.eq(0)
        # The tile goes out one cycle after its last group came in, as the next one begins.
        with m.If(self.passed):
            m.d.sync += tile.eq(Cat(tile[1:], self.passed_spikes))
        m.d.sync += [
            flush.eq(self.passed & ends_tile),
            ends_word.eq(self.last_group),
            logit_passed.eq(self.logit_valid),
            logit_real.eq(self.logit_valid & real[0]),
            # After the last logit the next is none.
            self.written.eq(written | (logit_passed & ~real[0])),
        ]
        with m.If(self.valid | self.logit_valid):
            m.d.sync += group.eq(group + 1)
        with m.If(self.valid):
            with m.If(last_group):
                m.d.sync += [group.eq(0), x.eq(x + 1)]
                with m.If(last_column):
                    m.d.sync += [x.eq(0), y.eq(y + 1)]
            if engine.passes > 1:
                with m.If(group[:group_bits].all() & ~coming.last):
                    m.d.sync += group.eq(Cat(Const(0, group_bits), group[group_bits:]))
        chosen = Signal(parts)
        m.d.comb += [chosen[index].eq(writes & (part == index)) for index in range(parts)]
        m.d.comb += [
            self.write_data.eq(
                Cat(Mux(this, written_tile, 0) for this in chosen) | logit
            ),
            self.write_banks.eq(
                Cat(
                    (this | chosen[0] | logit_real).replicate(len(self.write_banks) // parts)
                    for this in chosen
                )
            ),
        ]
        with m.If(moves_on):
            m.d.sync += part.eq(part + 1)
            with m.If(closes):
                m.d.sync += part.eq(0)
        with m.If((moves_on & (closes | (part == parts - 1))) | logit_real):
            m.d.sync += address.eq(address + 1)
        with m.If(self.clear):
            m.d.sync += [
                address.eq(layer.out_base), group.eq(0), part.eq(0), x.eq(0), y.eq(0),
            ]
        return m

    def _in_map(self, m, row):
        """The spikes that come in, without those of strips whose ``row`` is beyond the map."""
        layer, steps = self.layer, self.engine.steps
        spikes = Signal.like(self.spikes, name="in_map")
        partly = Signal()
        m.d.comb += partly.eq(row < layer.full_rows)
        inside = [
            (strip < layer.full_strips) | ((strip == layer.full_strips) & partly)
            for strip in range(self.engine.pixels)
        ]
        lanes = Cat(lane.replicate(steps) for lane in inside)
        m.d.comb += [spikes[u].eq(self.spikes[u] & lanes) for u in range(self.engine.units)]
        return spikes

    def _with_halos(self, m, tile, flush, ends_word, ended, address):
        """The tile three times: into the halo below, into the one above, into its place.

        Returns what is written and when, when the last of it is, whether that closes a word, and
        when the layer's last is.
        """
        layer, engine = self.layer, self.engine
        # Whether its row is in a halo, as late as the flush.
        near = Signal(2)
        m.d.comb += [
            near[0].eq(self.row < layer.halo_below),
            near[1].eq(self.row + layer.halo_above > layer.out_height_last),
        ]
        for stage in range(2):
            following = Signal(2, name=f"near{stage}")
            m.d.sync += following.eq(near)
            near = following
        held, halos, closes = Signal.like(tile, name="held"), Signal(2), Signal()
        with m.If(flush):
            m.d.sync += [held.eq(tile), halos.eq(near), closes.eq(ends_word)]
        turn, last = Signal(HALO_CYCLES), Signal(HALO_CYCLES)
        m.d.sync += [turn.eq(Cat(flush, turn[:-1])), last.eq(Cat(ended, last[:-1]))]

        def moved(strips):
            """The tile, each strip in the place of another; what has none falls out."""
            channels = [
                held.as_value().word_select(channel, engine.lanes) for channel in range(engine.pe)
            ]
            bits = engine.steps * abs(strips)
            return Cat(
                Cat(lanes[bits:], Const(0, bits)) if strips < 0
                else Cat(Const(0, bits), lanes[:-bits])
                for lanes in channels
            )

        copy, writes = Signal(len(held.as_value())), Signal()
        m.d.comb += [copy.eq(held), self.write_address.eq(address), writes.eq(turn[2])]
        with m.If(turn[0]):
            m.d.comb += [
                copy.eq(moved(-1)), self.write_address.eq(address + layer.strip_words),
                writes.eq(halos[0]),
            ]
        with m.If(turn[1]):
            m.d.comb += [
                copy.eq(moved(1)), self.write_address.eq(address - layer.strip_words),
                writes.eq(halos[1]),
            ]
        return copy, writes, turn[2], closes, last[2]
