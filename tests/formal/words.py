"""What the words hold that a layer writes: each spike and each logit has its place.

Where the words are, and that there are no more of them: ``tests.formal.addresses``.
"""

from dataclasses import replace
from functools import partial

from amaranth.hdl import Assert, Cat, Const, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In

from hw.spikes import BANK
from tests.formal.addresses import LogitSpec, PlaceSpec
from tests.formal.proof import Circuit, nested
from tests.hw.support import LONG, PAIRS, PASSES, SMALL, STRIPS_IN_PASSES
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class WordSpec(PlaceSpec):
    """Channel c of a pixel is in its word c // ``simd``, from bit c % ``simd`` * ``lanes`` on.

    Channels from ``layer.channels`` on are 0. So are, with strips, rows beyond the map, which ends
    before row ``full_rows`` of strip ``full_strips``. A row that lies below the strip before its
    own is in the halo below: each strip's spikes are in the place of the strip before, and those of
    the first in none. In the halo above they are in the place of the strip behind.

    A tile's own banks are written, with a word's first tile all banks; the data of the others are
    0, and all are when nothing is written. A cycle after it came each group leaves as it is stored.

    In which cycles and to which words is asserted with ``writer-places``, whose spec this one adds
    to, with all that is assumed there. Groups, passes and tiles are counted here, not by the
    Writer.
    """

    def __init__(self, engine):
        super().__init__(engine, spikes=In(data.ArrayLayout(engine.lanes, engine.units)))

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, layer, dut, inner = self.engine, self.layer, self.dut, self.inner
        m.d.comb += dut.spikes.eq(self.spikes)
        groups, lanes = engine.groups, engine.lanes
        strips, steps = engine.pixels, engine.steps
        runs = self.running & ~self.clear
        first_pass = layer.first_pass if engine.passes > 1 else 0
        (group, number, tile), ends_pixel = nested(
            m, self.clear, runs, self.valid,
            ("group", groups, 0, groups - 1),
            ("number", engine.passes, first_pass, engine.passes - 1),
            ("tile", 1 << len(layer.tiles_last), 0, layer.tiles_last),
        )

        # The group as it is stored, and the tile with it: channel by channel, lane by lane.
        stored = []
        for u in range(engine.units):
            exists = tile * engine.pe + group * engine.units + u < layer.channels
            for lane in range(lanes):
                in_map = 1
                if strips > 1:
                    row_of_map = Cat(dut.row, Const(lane // steps, len(layer.full_strips)))
                    in_map = row_of_map < Cat(layer.full_rows, layer.full_strips)
                stored.append(self.spikes[u][lane] & exists & in_map)
        stored, bits = Cat(stored), engine.units * lanes
        before, whole = Signal(engine.pe * lanes), Signal(engine.pe * lanes)
        for place in range(groups):
            m.d.comb += whole.word_select(place, bits).eq(
                Mux(self.valid & (group == place), stored, before.word_select(place, bits))
            )
        m.d.sync += before.eq(whole)
        passed = [Signal(), Signal(bits), Signal()]
        m.d.sync += Cat(passed).eq(Cat(self.valid, stored, ends_pixel))
        m.d.comb += [
            Assert(dut.passed == passed[0]),
            Assert(~dut.passed | (Cat(dut.passed_spikes, dut.last_group) == Cat(passed[1:]))),
        ]

        # The tile that is written so many cycles later.
        ago = [whole]
        for age in range(dut.latency):
            ago.append(Signal.like(whole, name=f"tile{age + 1}"))
            m.d.sync += ago[-1].eq(ago[-2])
        writes, written = Signal(), Signal.like(whole)
        m.d.comb += [writes.eq(self.came[-1]), written.eq(ago[-1])]
        if strips > 1:
            row = self.due["row"]
            for age, of, in_halo in (
                (3, range(1, strips + 1), row < layer.halo_below),
                (4, range(-1, strips - 1), row + layer.halo_above > layer.out_height_last),
            ):
                with m.If(self.came[age - 1]):
                    m.d.comb += [writes.eq(in_halo), written.eq(Cat(
                        ago[age].word_select(channel * strips + strip, steps)
                        if 0 <= strip < strips else Const(0, steps)
                        for channel in range(engine.pe) for strip in of
                    ))]
        parts, part = engine.simd // engine.pe, self.due["part"]
        m.d.comb += [
            Assert(dut.write_data == Cat(
                Mux(writes & (part == place), written, 0) for place in range(parts)
            )),
            *(
                Assert(enable == (writes & ((part == 0) | (part == bank * BANK // len(whole)))))
                for bank, enable in enumerate(dut.write_banks)
            ),
        ]

        # What of the state is reached at all. Of a tile that has begun, what has come stands last.
        tile_now = inner["tile"].as_value()
        with m.If(runs):
            m.d.comb += Assert(inner["group"] == Cat(group, tile))
            if engine.passes > 1:
                m.d.comb += Assert(inner["coming"].number == number)
            for come in range(1, groups):
                with m.If(group == come):
                    m.d.comb += Assert(before[: come * bits] == Mux(
                        dut.passed, Cat(tile_now, dut.passed_spikes), Cat(Const(0, bits), tile_now)
                    )[-come * bits :])
        return m


class LogitWordSpec(LogitSpec):
    """The logit of class k stands in word k // ``units``, from bit 32 * (k % ``units``) on.

    All else of these words is 0, and so are the data when none is written. Of spikes of the layer
    before they hold nothing, and no logits are joined with spikes. In which cycles and to which
    words is asserted with ``writer-logits``, whose spec this one adds to, with all that is assumed
    there.
    """

    def __init__(self, engine):
        super().__init__(
            engine, logit=In(data.ArrayLayout(32, engine.units)),
            spikes=In(data.ArrayLayout(engine.lanes, engine.units)),
        )

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, dut = self.engine, self.dut
        word = Signal(32 * engine.units)
        m.d.comb += [dut.logit.eq(self.logit), dut.spikes.eq(self.spikes)]
        m.d.sync += word.eq(Cat(
            Mux(self.comes_next & (self.coming * engine.units + u < self.layer.channels),
                self.logit[u], 0)
            for u in range(engine.units)
        ))
        with m.If(self.is_readout):
            m.d.comb += Assert(dut.write_data == word)
        with m.Else():
            m.d.comb += Assert(self.inner["logit"] == 0)
        return m


PROOFS = [
    *(
        Circuit(
            f"writer-words{name}",
            "each spike is written to the bit of its channel and lane, and 0 to all without one",
            partial(WordSpec, engine), Mutation("hw/writer.py", *change), depth=7, inductive=True,
            slow=engine.pixels > 1,
        )
        for name, engine, change in (
            ("", replace(SMALL, simd=16), (
                "(this | chosen[0] | logit_real)", "(this | logit_real)",
                "of a word's parts, those without channels stay as they were",
            )),
            ("-pairs", PAIRS, (
                "Cat(Const(u, unit_bits), group) < layer.channels",
                "Cat(Const(0, unit_bits), group) < layer.channels",
                "behind an odd number of channels there is another",
            )),
            ("-passes", PASSES, (
                "group[:group_bits].all() & ~coming.last", "coming.last & ~coming.last",
                "channels of a pass are those behind the one before",
            )),
            ("-strips", replace(SMALL, lanes=8, pixels=4), (
                "copy.eq(moved(-1))", "copy.eq(moved(1))",
                "the halo below is that of the strip before",
            )),
            ("-strips-passes", STRIPS_IN_PASSES, (
                "((strip == layer.full_strips) & partly)", "partly",
                "all strips have as many rows as one that is partly in the map",
            )),
        )
    ),
    *(
        Circuit(
            f"writer-logit-words{name}",
            "each logit is written to the bits of its class, and 0 to all others",
            partial(LogitWordSpec, engine), Mutation("hw/writer.py", *change),
            depth=7, inductive=True,
        )
        for name, engine, change in (
            ("", LONG, (
                "Mux(self.logit_valid & real[u], self.logit[u], 0)", "self.logit[u]",
                "logits of no class are written",
            )),
            ("-pairs", PAIRS, (
                "logit.word_select(u, 32)", "logit.word_select(engine.units - 1 - u, 32)",
                "of two logits, the second comes first",
            )),
            ("-strips-passes", STRIPS_IN_PASSES, (
                "Cat(Mux(this, written_tile, 0)", "Cat(Mux(this | logit_real, written_tile, 0)",
                "logits are joined with the last spikes before them",
            )),
        )
    ),
]
