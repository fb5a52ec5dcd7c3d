"""From a readout's last operand to its last logits: they are reached, and not before."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Fragment, Module, Mux, Signal
from amaranth.lib.data import ArrayLayout

from hw.readout import Readout
from hw.tile import hand_out
from hw.writer import Writer
from sw.formats import PLANES
from sw.record import Kind
from tests.formal.layer_ends import TilesApartSpec
from tests.formal.proof import Circuit, elaborated, inside
from tests.hw import support
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class LogitsEndSpec(TilesApartSpec):
    """The n-th set of classes is written to the n-th word, and ``written`` comes with the last.

    At most ``groups`` and four cycles behind the layer's last operand, and not before. Again behind
    each set that only fills the last tile, of which nothing is written until the next record
    comes, which begins with another kind; by then the sequencer is on its way. Sequencer, handing
    out of the array, Readout and Writer; left out is the delay between the first two, which is
    constant (``array-hands-out``). What logits are: ``readout``. Not of engines with a stream.

    Assumed of the records of readouts, and guaranteed by ``sw.program``: one pixel, no pooling, at
    least one class, and as many tiles as the planes of the classes take. Other layers end at any
    time, and their groups of spikes leave no trace in the Writer (``layer-ends``).
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, dut, walk, layer = self.engine, self.dut, self.walk, self.dut.layer
        groups, within, is_readout = engine.groups, self.within, layer.kind == Kind.READOUT
        unit = SimpleNamespace(
            pe=engine.pe, units=engine.units, groups=groups,
            out=Signal(ArrayLayout(1, engine.units)), out_valid=Signal(),
        )
        leaving, readout, writer = Module(), Readout(engine.units, 1, 1), Writer(engine)
        of_array = self.offered & (layer.kind != Kind.STEM)
        hand_out(leaving, unit, of_array, [Const(0)] * engine.pe)
        m.submodules.leaving = leaves = Fragment.get(leaving, None)
        m.submodules.readout, inner = elaborated(readout)
        writes, placed = elaborated(writer)
        m.submodules.writer = writes
        summed, left, registers = inner["summed"], inside(leaves)["left"], inside(writes)
        m.d.comb += [
            readout.clear.eq(dut.clear), readout.valid.eq(unit.out_valid & is_readout),
            writer.layer.eq(layer), writer.clear.eq(dut.clear),
            writer.logit_valid.eq(readout.out_valid),
            Assume(~(is_readout & within("Drain")) | (self.written == writer.written)),
        ]

        # Of the record: planes of the classes, and what of them the tiles before the last have.
        bits, planes = groups.bit_length() - 1, Signal(len(layer.channels) + PLANES.bit_length())
        sets = Signal(len(layer.channels))
        known = (
            (layer.out_width_last == 0) & (layer.out_height_last == 0) & ~layer.pool & (sets != 0)
            & (planes > layer.tiles_last << bits) & (planes <= (layer.tiles_last + 1) << bits)
        )
        m.d.comb += [
            sets.eq((layer.channels + engine.units - 1) >> engine.units.bit_length() - 1),
            planes.eq(sets * PLANES),
        ]
        with m.If(within("Clear") & is_readout):
            m.d.comb += Assume(known)

        # Tiles that have ended, cycles since the last one did, and groups that have left.
        most = max(self.since.init, groups + 6)
        ended, gone = Signal(len(layer.tiles_last) + 1), Signal(len(planes))
        age, array_was = Signal(range(most + 1), init=most), Signal()
        m.d.sync += [
            age.eq(Mux(age == most, most, age + 1)), gone.eq(gone + unit.out_valid),
        ]
        with m.If(self.offered):
            m.d.sync += [ended.eq(ended + 1), age.eq(1), array_was.eq(of_array)]
        with m.If(dut.clear):
            m.d.sync += [ended.eq(0), gone.eq(0)]
        m.d.comb += [
            Assert((age >= self.since) & (age <= most)),
            Assert((age == self.since) | (self.since == self.since.init)),
            Assert(~array_was | (self.needed == groups) | (age == most)),
            Assert(left == Mux(array_was & (age <= groups), groups + 1 - age, 0)),
        ]
        with m.If(within("Fetch")):
            m.d.comb += Assert((age >= walk["word"]) | (age == most))
        with m.If(within("Last word", "Clear", "Enter") | ~self.seen & within("Run")):
            m.d.comb += Assert(age == most)

        # The planes that the Readout has counted, and the way of a set of classes from there.
        done = readout.out_valid
        counted = Signal.like(gone)
        m.d.comb += counted.eq(gone - summed)
        completes = unit.out_valid & is_readout & (gone[:3] == PLANES - 1)
        ways, lasts = Signal(4), Signal(4)
        m.d.sync += [
            ways.eq(Cat(completes, ways)), lasts.eq(Cat(completes & (gone + 1 >= planes), lasts)),
        ]
        for stage, flag in enumerate(
            (summed, done, registers["passes"], writer.written)
        ):
            m.d.comb += Assert(~(flag | ways[stage]) | (age <= groups + 1 + stage))
        m.d.comb += Assert((lasts & ~ways) == 0)
        # It is over, and the next record has not come: sets that fill the last tile still leave.
        over = Signal()
        with m.If(within("Drain")):
            m.d.sync += over.eq(is_readout)
        with m.Elif(walk["word_valid"]):
            m.d.sync += over.eq(0)
        after = over & ~within("Drain")
        m.d.comb += [
            Assert(~after | within("Idle", "Fetch")),
            Assert(~(over & within("Fetch")) | (walk["word"] == walk["word_valid"])),
        ]
        all_tiles = within("Drain") | after
        on = is_readout & (all_tiles | within("Enter", "Run", "Short tile"))
        written_sets = (counted >> 3) - done - ways[2]
        with m.If(on):
            m.d.comb += [
                Assert(known),
                Assert(ended == Mux(all_tiles, layer.tiles_last + 1, walk["tile"])),
                Assert(self.seen == (ended != 0)), Assert(~self.seen | array_was),
                Assert(~self.seen | (self.needed == groups)),
                Assert(gone + left == ended << bits),
                Assert(inner["plane"] == counted[:3]),
                Assert(registers["group"] == (counted >> 3) - done),
                Assert(ways[0] == summed & (counted[:3] == PLANES - 1)),
                Assert(ways[1] == done), Assert(ways[2] == registers["passes"]),
                Assert(~ways[1] | (counted[:3] == 0)), Assert(~ways[2] | (counted[:3] <= 1)),
                Assert(lasts[0] == ways[0] & (counted + 1 >= planes)),
                Assert(lasts[1] == ways[1] & (counted >= planes)),
                Assert(lasts[2] == ways[2] & (counted >= planes)),
                # With the last set, and not before; each to a word of its own.
                Assert(writer.written == lasts[3]),
                Assert(~writer.written | all_tiles),
                Assert(
                    writer.write_banks == Mux(
                        ways[2] & (written_sets < sets), (1 << len(writer.write_banks)) - 1, 0
                    )
                ),
                Assert(writer.write_address == (
                    layer.out_base + Mux(written_sets < sets, written_sets, sets)
                )[: len(writer.write_address)]),
            ]
        with m.If(on & within("Drain")):
            m.d.comb += [
                Assert(age <= groups + 4),
                Assert((gone < planes) | Cat(
                    last & (age <= groups + 1 + stage) for stage, last in enumerate(lasts)
                ).any()),
            ]
        # No spikes come, and leave nothing.
        quiet = [registers["ended"], registers["flush"], registers["passed"]]
        if engine.pixels > 1:
            quiet += [placed["places"].value, registers["last"]]
        if engine.passes > 1:
            with m.If(on):
                m.d.comb += Assert(registers["plane"] == 0)
        m.d.comb += Assert(Cat(quiet) == 0)
        return m


PROOFS = [
    Circuit(
        f"logits-end{name}",
        "the last operand of a readout leads to its last logits, and no other does",
        partial(LogitsEndSpec, engine), Mutation(*error),
        depth=2, inductive=True,
    )
    for name, engine, error in (
        ("", support.SMALL, (
            "hw/readout.py", "with m.If(self.clear):", "with m.If(0):",
            "planes that fill a tile are the next readout's first",
        )),
        ("-pairs", support.PAIRS, (
            "hw/writer.py", "(logit_passed & ~real[0])", "(logit_passed & ~real[-1])",
            "an odd class ends the readout before it comes",
        )),
        ("-passes", support.PASSES, (
            "hw/sequencer.py", "(layer.kind != Kind.READOUT) | last_turn", "1",
            "each pass is a tile of its own",
        )),
        ("-strips-passes", support.STRIPS_IN_PASSES, (
            "hw/sequencer.py", "(layer.kind != Kind.READOUT) | last_turn",
            "(layer.kind != Kind.READOUT) | last_strip", "each pass is a tile of its own",
        )),
        ("-wide", replace(support.SMALL, pe=16, simd=16), (
            "hw/writer.py", "logit_real.eq(self.logit_valid & real[0])",
            "logit_real.eq(self.logit_valid)", "classes that fill a tile are written",
        )),
    )
]
