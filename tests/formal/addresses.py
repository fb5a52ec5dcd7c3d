"""No row of the spike memory is read in the cycle in which a layer writes it.

The pieces. What is read is word 0, or inside the map the operand's element (``hw.core``). That is
``start`` and steps of the record (``walk-addresses``), which for records of ``sw.program`` are
those to a word of the map that the layer reads (``walk-fields``). What is written are the words of
its pixels, from ``out_base`` on, and with strips those of their halos (``writer-places``), or its
logits (``writer-logits``). For records of ``sw.program`` these are words of the map that the layer
writes (``writes-in-map``). The two maps have no word in common, nor has a third that a stem core
writes meanwhile, and none has word 0 (``maps-apart``). Such a stem's words may wait for those of
the other core, but not for long (``stem-waits``).

Operands are valid only while the sequencer walks, and it does so for the next layer only after
``written``, which comes with the layer's last word (``writer-ends``), or with logits a cycle behind
(``writer-logits``); then ``busy`` falls, before which, and for two cycles behind, the host does
nothing (``host-waits``).
"""

from dataclasses import replace
from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.readout import Readout
from hw.record import layer_layout
from hw.writer import Writer
from sw.record import Kind
from tests.formal.progress import SequencerSpec, WriterSpec
from tests.formal.proof import Circuit, elaborated
from tests.hw.support import PAIRS, PAIRS_IN_PASSES, PASSES, SMALL, STRIPS, STRIPS_IN_PASSES
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS", "LogitSpec", "PlaceSpec"]


class AddressSpec(SequencerSpec):
    """Element and coordinates of each operand are sums of steps of the record, one for each count.

    In row and column a tap is ``y`` and ``x`` strides (two with pooling) behind the corner, which
    is -``padding``, then the window of the pool and the tap of the kernel. Its element is as many
    ``y_step`` and ``x_step`` behind ``start``; a pass adds ``in_plane``, a strip of a stem
    ``strip_jump``, a tap in its row ``depth_last`` + 1; a row of the kernel begins ``row_jump``
    behind the last element of the one before. All modulo the registers' sizes. ``walk-fields``
    says what that is for the records of ``sw.program``. No product is formed: a step is added when
    its counter moves on, and that counters start over, stay or move on by one is asserted.

    Assumed: a readout has a kernel of one tap (``sw.program``). Else records are any words. What of
    the state is reached at all is asserted with ``walk-ends``, whose spec this one adds to. Not of
    a projection's elements, which are not in the spike memory.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, dut, walk, layer = self.engine, self.dut, self.walk, self.dut.layer
        walks = self.within("Enter", "Run", "Short tile")
        stem, readout, projection = (
            layer.kind == kind for kind in (Kind.STEM, Kind.READOUT, Kind.PROJECTION)
        )
        counters = {name: walk[name] for name in ("depth", "kx", "ky", "x", "y")}
        if engine.pixels > 1:
            counters["strip"] = dut.strip
        if engine.passes > 1:
            counters["pass_number"] = walk["pass_number"]
        was = {name: Signal.like(counter) for name, counter in counters.items()}
        m.d.sync += [was[name].eq(counter) for name, counter in counters.items()]

        def number(value, bits=None):
            """The value modulo a power of two, by default as an address."""
            result = Signal(bits or len(dut.element))
            m.d.comb += result.eq(value)
            return result

        def steps(name, first, by, origin=0, start=None):
            """``first``, and ``by`` more than before whenever the counter moves on.

            So nothing is multiplied. start: what ``by`` is added to, if not the last step.
            """
            counter, result, before = counters[name], Signal.like(first), Signal.like(first)
            after = number((before if start is None else start) + by, len(first))
            m.d.sync += before.eq(result)
            m.d.comb += result.eq(
                Mux(counter == origin, first, Mux(counter == was[name], before, after))
            )
            with m.If(walks):
                m.d.comb += Assert(
                    (counter == origin) | (counter == was[name]) | (counter == was[name] + 1)
                )
            return result

        def pooled(step):
            return number(Mux(layer.pool, step << 1, step), len(step))

        start = Signal.like(dut.element)
        with m.If(~walks):
            m.d.sync += start.eq(walk["line"])
        sub, stride = number(Mux(layer.pool, walk["sub"], 0), 2), number(layer.stride, 7)
        corner = number(-layer.padding, 7)
        corner_y = number(Mux(stem, corner, 0), 7) if engine.pixels > 1 else corner

        # Where a window begins: row and column of the map, and the element.
        pixel_y, pixel_x = (
            steps(name, first, pooled(stride)) for name, first in (("y", corner_y), ("x", corner))
        )
        line = steps("y", start, pooled(layer.y_step))
        pixel = steps("x", line, pooled(layer.x_step))
        strip_y, strip_pixel, turn = pixel_y, pixel, Const(0, 7)
        if engine.pixels > 1:
            of_stem = steps("strip", pixel_y, layer.strip_rows), steps(
                "strip", pixel, layer.strip_jump
            )
            strip_y, strip_pixel = (
                number(Mux(stem, one, other), len(one))
                for one, other in zip(of_stem, (pixel_y, pixel), strict=True)
            )
        top = number(strip_y + Mux(sub[1], stride, 0), 7)
        left = number(pixel_x + Mux(sub[0], stride, 0), 7)
        window_row = number(strip_pixel + Mux(sub[1], layer.y_step, 0))
        window = number(window_row + Mux(sub[0], layer.x_step, 0))
        in_pass = window
        if engine.passes > 1:
            in_pass = steps("pass_number", window, layer.in_plane, layer.first_pass)
            turn = number(walk["pass_number"] - layer.first_pass, 7)
        if engine.pixels > 1:
            turn = number(turn * engine.pixels + dut.strip, 7)
        tap = Signal.like(window)
        tap_before = Signal.like(window)
        m.d.sync += tap_before.eq(tap)
        last_before = number(tap_before + layer.depth_last)
        row = steps("ky", in_pass, layer.row_jump, start=last_before)
        m.d.comb += tap.eq(steps("kx", row, number(layer.depth_last + 1)))

        with m.If(walks):
            m.d.comb += [
                Assume(~readout | (layer.kernel_last == 0)),
                Assert(walk["pixel_y"] == pixel_y),
                Assert(walk["pixel_x"] == pixel_x),
                Assert(walk["top"] == top),
                Assert(walk["left_x"] == left),
                Assert(walk["tap_y"] == number(top + Mux(readout, turn, walk["ky"]), 7)),
                Assert(walk["tap_x"] == number(left + walk["kx"], 7)),
                Assert(walk["line"] == line),
                Assert(walk["pixel"] == pixel),
                Assert(walk["window"] == window),
                Assert(projection | (dut.element == number(tap + walk["depth"]))),
            ]
            m.d.comb += Assert(dut.inside == (
                (walk["tap_y"] < layer.in_height) & (walk["tap_x"] < layer.in_width)
            ))
            if engine.pixels > 1:
                m.d.comb += [
                    Assert(walk["strip_pixel"] == strip_pixel),
                    Assert(walk["strip_row"] == strip_y),
                ]
            if engine.passes > 1:
                m.d.comb += Assert(walk["in_pass"] == in_pass)
            # A row of the kernel begins behind the last element of the one before.
            with m.If((walk["ky"] != 0) & (walk["ky"] != was["ky"])):
                m.d.comb += Assert(was["kx"] == layer.kernel_last)
        with m.If(self.within("Enter", "Short tile")):
            m.d.comb += Assert((walk["depth"] == 0) & (walk["kx"] == 0) & (walk["ky"] == 0))
        m.d.comb += [
            Assert(~dut.valid | walks), Assert(~self.within("Clear") | ~walk["word_valid"]),
        ]
        return m


class PlaceSpec(WriterSpec):
    """The n-th pixel of a layer is written to its words, the n-th from ``out_base`` on.

    A pixel has as many words as its tiles fill, a row ``out_width_last`` + 1 pixels, and each pass
    a plane, ``out_plane`` words behind the one before. With strips a tile of the first
    ``halo_below`` rows is written ``strip_words`` higher, too, and one of the last ``halo_above``
    rows so much lower, and no other. Where that is in the map, ``writes-in-map`` says. A layer has
    ``out_height_last`` + 1 rows, which is asserted with ``writer-ends``, whose spec this one adds
    to.

    Assumed, as there, of the sequencer: the record is constant from ``clear`` on, which comes when
    all is written, and no group comes behind the layer's last. Not of logits.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, layer, dut, inner = self.engine, self.layer, self.dut, self.inner
        address, part, group = (inner[name] for name in ("address", "part", "group"))
        tile_bits, part_bits = engine.groups.bit_length() - 1, len(part)
        tile, of_tile = group[tile_bits:], group[:tile_bits]
        pixel, row, column = (
            Signal.like(like, name=f"own_{name}") for name, like in (
                ("pixel", address), ("row", dut.row), ("column", dut.column),
            )
        )
        # The cycles since a tile's last group has come: two until it goes to the memory, or then
        # into one halo, into the other, and into its place.
        ends = self.valid & of_tile.all()
        came = Signal(dut.latency)
        halos, written = came[2:], came[-1]
        m.d.sync += came.eq(Cat(ends, came))
        here = {
            "place": (pixel + (tile >> part_bits))[: len(address)], "part": tile[:part_bits],
            "ends": inner["last_group"], "row": row,
        }
        if engine.passes > 1:
            here["pass"] = inner["coming"].number
        held, copied = (
            {name: Signal(len(value), name=f"{when}_{name}") for name, value in here.items()}
            for when in ("held", "copied")
        )
        with m.If(ends):
            m.d.sync += [register.eq(here[name]) for name, register in held.items()]
            with m.If(inner["last_group"]):
                m.d.sync += [
                    pixel.eq(pixel + (layer.tiles_last >> part_bits) + 1), column.eq(column + 1),
                ]
                with m.If(column == layer.out_width_last):
                    m.d.sync += [column.eq(0), row.eq(row + 1)]
        with m.If(came[1]):
            m.d.sync += [register.eq(held[name]) for name, register in copied.items()]
        # Of the tile that is on its way to the memory, or if there is none, of the next.
        due = {
            name: Mux(halos.any(), copied[name], Mux(came[:2].any(), held[name], here[name]))
            for name in here
        }
        begun = Signal()
        self.came, self.due = came, due
        with m.If(self.clear):
            m.d.sync += [pixel.eq(layer.out_base), row.eq(0), column.eq(0), begun.eq(1)]
        m.d.comb += [
            Assume(~self.clear | ~came.any()),
            Assume(~came.any() | (self.record == layer.as_value())),
            Assert(begun | ~(self.running | came.any())),
            Assert(came[:2] == Cat(dut.passed & inner["ends_tile"], inner["flush"])),
        ]
        place, banks, to = due["place"], dut.write_banks, dut.write_address
        if engine.passes > 1:
            number, plane = inner["leaving"].number, inner["plane"]
            place = (place + plane)[: len(to)]
            with m.If((self.running | came.any()) & ~self.clear):
                m.d.comb += [
                    Assert(number == due["pass"]), Assert(number >= layer.first_pass),
                    Assert(
                        plane == ((number - layer.first_pass)[: len(number)] * layer.out_plane)[
                            : len(plane)
                        ]
                    ),
                ]
        with m.If(begun & ~self.clear):
            m.d.comb += [
                Assert(~written | (banks.any() & (to == place))),
                Assert(address == due["place"]), Assert(part == due["part"]),
                Assert((dut.row == row) & (dut.column == column)),
                Assert(~banks.any() | (halos if engine.pixels > 1 else written).any()),
                # What of the state is reached at all.
                Assert(~came[0] | (dut.last_group == held["ends"])),
                Assert(~came[1] | (inner["ends_word"] == held["ends"])),
                *(
                    Assert(~came[age] | ((of_tile <= age) & ~came[:age].any()))
                    for age in range(min(len(came), 4))
                ),
            ]
            if engine.pixels > 1:
                below, above = halos[0], halos[1]
                m.d.comb += [
                    Assert(~below | (banks.any() == (due["row"] < layer.halo_below))),
                    Assert(~below | (to == (place + layer.strip_words)[: len(to)])),
                    Assert(~above | (
                        banks.any() == (due["row"] + layer.halo_above > layer.out_height_last)
                    )),
                    Assert(~above | (to == (place - layer.strip_words)[: len(to)])),
                ]
        return m


class LogitSpec(wiring.Component):
    """The n-th group of a readout is word n from ``out_base`` on, if it has classes, else no word.

    ``written`` comes a cycle behind the last of these words, and none before. Assumed:

    - of the sequencer: the record is constant from ``clear`` on, which comes when all is written,
      and the groups that fill up a readout's last tile have left, too;
    - of the core: only a readout has logits, and it has no spikes;
    - of records: there are fewer groups than the Writer counts, which is beyond the channels that
      a memory holds (``sw.program``); a readout has eight for each class.
    """

    def __init__(self, engine, **others):
        self.engine = engine
        super().__init__({
            "clear": In(1), "valid": In(1), "plane_valid": In(1),
            "layer": In(layer_layout(engine)), **others,
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer, dut = self.engine, self.layer, Writer(self.engine)
        self.dut, logits = dut, Readout(engine.units, engine.lanes, width=1)
        m.submodules.writer, inner = elaborated(dut)
        m.submodules.logits, comes_next = logits, logits.out_valid
        m.d.comb += [
            dut.clear.eq(self.clear), dut.valid.eq(self.valid), dut.layer.eq(layer),
            logits.clear.eq(self.clear), logits.valid.eq(self.plane_valid),
            dut.logit_valid.eq(comes_next),
        ]
        running, record = Signal(), Signal(len(layer.as_value()))
        pending, readout = Signal(dut.latency + logits.latency), layer.kind == Kind.READOUT
        m.d.sync += [
            record.eq(layer), pending.eq(Cat(self.valid | self.plane_valid, pending)),
        ]
        with m.If(self.clear):
            m.d.sync += running.eq(1)
        coming, number = (Signal.like(inner["group"], name=name) for name in ("coming", "number"))
        comes, ended = Signal(), Signal()
        self.inner, self.comes_next, self.coming = inner, comes_next, coming
        self.is_readout = running & readout & ~self.clear
        m.d.comb += [
            Assume(~running | self.clear | (record == layer.as_value())),
            Assume(~(self.valid | self.plane_valid) | (running & ~self.clear)),
            Assume(~self.clear | ~pending.any()),
            Assume(~Mux(readout, self.valid, self.plane_valid)),
            Assume(~comes_next | ~coming.all()),
            Assert(running | ~pending.any()),
        ]
        m.d.sync += [comes.eq(comes_next), number.eq(coming)]
        with m.If(comes_next):
            m.d.sync += coming.eq(coming + 1)
        with m.If(self.clear):
            m.d.sync += coming.eq(0)
        classes, writes = layer.channels, dut.write_banks.any()
        word, last, now, words = Signal(), Signal(), Signal.like(coming), Signal.like(classes)
        m.d.comb += [
            now.eq(Mux(comes, number, coming)),
            words.eq((classes + engine.units - 1) >> (engine.units.bit_length() - 1)),
            word.eq(comes & (number * engine.units < classes)),
            last.eq(word & ((number + 1) * engine.units >= classes)),
        ]
        m.d.sync += ended.eq(last)
        with m.If(self.is_readout):
            m.d.comb += [
                Assert(writes == word), Assert(dut.write_banks.all() == word),
                Assert(~word | (dut.write_address == (layer.out_base + number)[
                    : len(dut.write_address)
                ])),
                Assert(~ended | dut.written),
                Assert(~dut.written | (coming * engine.units >= classes)),
                # What of the state is reached at all.
                Assert(inner["group"] == coming), Assert(~comes | (number + 1 == coming)),
                Assert(inner["address"] == (layer.out_base + Mux(now < words, now, words))[
                    : len(inner["address"])
                ]),
                *([Assert(inner["plane"] == 0)] if engine.passes > 1 else []),
            ]
        return m


PROOFS = [
    *(
        Circuit(
            f"walk-addresses{name}",
            "an operand is the word of its tap and pass in the map that the record describes",
            partial(AddressSpec, engine), Mutation("hw/sequencer.py", *change),
            depth=2, inductive=True,
        )
        for name, engine, change in (
            ("", SMALL, (
                "element.eq(element + row_jump)", "element.eq(element + 1)",
                "rows of a kernel are taken to lie one behind the other",
            )),
            ("-passes", PASSES, (
                "sub.eq(sub), element.eq(next_pass),", "sub.eq(sub), element.eq(in_pass),",
                "a pass reads what the one before has read",
            )),
            ("-stream", replace(PAIRS_IN_PASSES, stream_depth=64), (
                "next_pixel.eq(pixel + Mux(layer.pool, layer.x_step << 1, layer.x_step))",
                "next_pixel.eq(pixel + layer.x_step)", "pools overlap",
            )),
            ("-strips", STRIPS, (
                "Mux(is_stem, corner, 0) if strips", "corner if strips",
                "the rows above a strip are taken for padding",
            )),
            ("-strips-passes", STRIPS_IN_PASSES, (
                "strip.eq(strip + 1), element.eq(in_pass),",
                "strip.eq(strip + 1), element.eq(pixel),",
                "all strips but the first are of the first pass",
            )),
        )
    ),
    *(
        Circuit(
            f"writer-logits{name}", "logits are written to as many words as they fill, and no more",
            partial(LogitSpec, engine), Mutation("hw/writer.py", *change),
            depth=7, inductive=True,
        )
        for name, engine, change in (
            ("", PAIRS, (
                "logit_real.eq(self.logit_valid & real[0])", "logit_real.eq(self.logit_valid)",
                "groups without classes are words, too",
            )),
            ("-strips-passes", STRIPS_IN_PASSES, (
                "(moves_on & (closes | (part == parts - 1))) | logit_real",
                "moves_on & (closes | (part == parts - 1))", "all logits are written to one word",
            )),
        )
    ),
    *(
        Circuit(
            f"writer-places{name}", "each pixel of a layer is written to its own words of the map",
            partial(PlaceSpec, engine), Mutation("hw/writer.py", *change),
            depth=7, inductive=True,
        )
        for name, engine, change in (
            ("", SMALL, (
                "ends_word.eq(self.last_group),", "ends_word.eq(0),",
                "a pixel's last word is not closed",
            )),
            ("-passes", PASSES, (
                "moves_on = places & leaving.last", "moves_on = places",
                "each pass is written behind the one before",
            )),
            ("-strips", STRIPS, (
                "near[0].eq(self.row < layer.halo_below)",
                "near[0].eq(self.row <= layer.halo_below)", "the halo below has a row more",
            )),
            ("-strips-passes", STRIPS_IN_PASSES, (
                "m, tile, flush, ends_word, ended, place\n",
                "m, tile, flush, ends_word, ended, address\n", "all passes are in one plane",
            )),
        )
    ),
]
