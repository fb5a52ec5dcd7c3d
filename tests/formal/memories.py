"""No row of a memory is read in the cycle in which the engine writes it."""

from dataclasses import replace

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.record import layer_layout
from hw.stream import Stream
from hw.writer import Writer
from tests.formal.proof import Circuit, elaborated
from tests.hw.support import PASSES, SMALL
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]

STREAMED = replace(SMALL, stream_depth=64)


class StreamSpec(wiring.Component):
    """What a Stream writes lies below all that it will still read, for any record and any time.

    Addresses are followed without wrapping: ``element`` of the group that reads, ``place`` of the
    one that is written. Assumed:

    - of records, guaranteed by ``sw.stream`` and ``ResidualConv.check_shape``: the stream that is
      read and the one that is written start at the same word; they have as many words a pixel, or
      with averages from as many up to twice as many; a row with averages has two pixels for each
      of the output; the stream that is read is in the memory, and no group comes behind its end;
    - of the core: a pixel has at least two groups (it has a tile's); with averages they are four
      cycles apart (``hand_out``, slow); the record is constant from ``clear`` on, which comes when
      all is written, two cycles before the first group; a projection, which reads another stream,
      has no shortcut.
    """

    def __init__(self):
        self.engine = STREAMED
        super().__init__({
            "clear": In(1), "valid": In(1), "layer": In(layer_layout(self.engine)),
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer, depth = self.engine, self.layer, self.engine.stream_depth
        dut = Stream(engine)
        m.submodules.stream, inner = elaborated(dut)
        m.d.comb += [
            dut.clear.eq(self.clear), dut.valid.eq(self.valid), dut.layer.eq(layer),
        ]
        valid, tap, read, write = (inner[name] for name in ("valid", "tap", "read", "write"))
        ends, group, column = (inner[name] for name in ("ends", "group", "column"))
        before, words = layer.shortcut_last + 1, layer.stream_last + 1
        pixel_words = Mux(layer.average, before << 1, before)

        # The layer runs, since a cycle or longer; the outer steps have their operands.
        running, settled, known = Signal(), Signal(), Signal()
        record = Signal(len(layer.as_value()))
        m.d.sync += [
            record.eq(layer), settled.eq(running),
            known.eq(running & ~self.clear & ~(ends & (group == layer.stream_last))),
        ]
        with m.If(self.clear):
            m.d.sync += running.eq(1)
        m.d.comb += [
            Assume(~self.valid | (settled & ~self.clear)),
            Assume(~running | self.clear | (record == layer.as_value())),
            Assume(~self.clear | ~Cat(valid[1:], tap).any()),
            Assume(layer.shortcut),
            Assume(layer.stream_in == layer.stream_out),
            Assume((before >= engine.groups) & (words >= engine.groups)),
            Assume(Mux(layer.average, (before <= words) & (words <= 2 * before), before == words)),
            Assume(~layer.average | (layer.stream_row == (layer.out_width_last + 1) * 2 * before)),
            Assume(~(layer.average & self.valid & Cat(valid[1:4]).any())),
        ]
        # The first word of this group, of its pixel, of its row; where the next word is written.
        bits = 2 + len(read.addr)
        element, pixel, row, place = (
            Signal(bits, name=f"whole_{name}") for name in ("element", "pixel", "row", "place")
        )
        moved, element_was = Signal(), Signal.like(element)
        m.d.sync += [element_was.eq(element), moved.eq(running & ~self.clear)]
        with m.If(ends):
            m.d.sync += element.eq(element + 1)
            with m.If(group == layer.stream_last):
                m.d.sync += [element.eq(pixel + pixel_words), pixel.eq(pixel + pixel_words)]
                with m.If(layer.average & (column == layer.out_width_last)):
                    after = row + 2 * layer.stream_row
                    m.d.sync += [element.eq(after), pixel.eq(after), row.eq(after)]
        with m.If(write.en):
            m.d.sync += place.eq(place + 1)
        with m.If(self.clear):
            start = layer.stream_in
            m.d.sync += [element.eq(start), pixel.eq(start), row.eq(start), place.eq(start)]
        # No group comes behind the end of the stream, nor is one on its way.
        end = Mux(layer.average, row + 2 * layer.stream_row, pixel + pixel_words)
        coming = Cat(self.valid, valid[1:4]).any()
        m.d.comb += Assume(~coming | (end <= depth))

        read_not_written = valid[4] + valid[5] + valid[6]
        m.d.comb += [
            Assert(~(read.en & write.en & (read.addr == write.addr))),
            Assert(running | ~Cat(settled, valid[1:], tap).any()),
        ]
        with m.If(running & ~self.clear):
            m.d.comb += [
                Assert(known | (group == 0)),
                Assert(~write.en | (place < element)),
                Assert(~moved | (element >= element_was)),
                # What of the state is reached at all.
                Assert(element[: len(read.addr)] == inner["element"]),
                Assert(pixel[: len(read.addr)] == inner["pixel"]),
                Assert(row[: len(read.addr)] == inner["row"]),
                Assert(place[: len(read.addr)] == write.addr),
                Assert(element == pixel + group),
                Assert(group <= layer.stream_last),
                Assert(place + read_not_written <= element),
                Assert(place + read_not_written >= group),
                Assert(~known | (inner["next_pixel"] == (pixel + pixel_words)[: len(read.addr)])),
                Assert(~known | ~layer.average | (
                    inner["next_row"] == (row + 2 * layer.stream_row)[: len(read.addr)]
                )),
                Assert(~settled | (inner["right"] == before[: len(read.addr)])),
                Assert(~settled | (inner["below"] == layer.stream_row)),
            ]
            with m.If(~layer.average):
                m.d.comb += Assert(tap == 0)
            with m.Else():
                m.d.comb += [
                    Assert(pixel == row + column * 2 * before),
                    Assert(column <= layer.out_width_last),
                    Assert((tap == 1) == valid[1]),
                    Assert((tap == 2) == valid[2]),
                    Assert((tap == 3) == valid[3]),
                    *(
                        Assert(~(valid[stage] & Cat(valid[stage + 1 : stage + 4]).any()))
                        for stage in range(1, len(valid) - 1)
                    ),
                ]
        return m


class WriterSpec(wiring.Component):
    """A layer's words are written from ``out_base`` on, each at the last one's place or one higher.

    With passes that is so in each plane: planes are ``out_plane`` words apart. So no word below
    ``out_base`` is written, and never word 0, where taps outside a map read their zeros. Assumed:
    the record is constant from ``clear`` on, which comes when all is written, and no word of the
    layer is behind the end of the memory; the first is the sequencer's doing, the second that of
    ``sw.program``, which gives every output its place, behind word 0. Not of strips: where their
    halos lie, ``writer-places`` says.
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "clear": In(1), "valid": In(1), "logit_valid": In(1), "layer": In(layer_layout(engine)),
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer, dut = self.engine, self.layer, Writer(self.engine)
        m.submodules.writer, inner = elaborated(dut)
        m.d.comb += [
            dut.clear.eq(self.clear), dut.valid.eq(self.valid), dut.layer.eq(layer),
            dut.logit_valid.eq(self.logit_valid),
        ]
        running, runs, record = Signal(), Signal(), Signal(len(layer.as_value()))
        m.d.sync += [record.eq(layer), runs.eq(running & ~self.clear)]
        with m.If(self.clear):
            m.d.sync += running.eq(1)
        pending = Cat(self.valid, self.logit_valid, dut.passed, *(
            inner[name] for name in ("flush", "logit_passed", "logit_real")
        )).any()
        m.d.comb += [
            Assume(~running | self.clear | (record == layer.as_value())),
            Assume(~pending | (running & ~self.clear)),
        ]
        # Where a word is in the first plane, without wrapping, and how far this plane is behind.
        address, writes = inner["address"], dut.write_banks.any()
        address_was, wrote = Signal.like(address), Signal()
        base, place_was = Signal.like(address), Signal(len(address) + 1)
        place = Signal(len(address) + 1, name="whole_place")
        plane = Signal(len(address) + 4, name="whole_plane")
        m.d.comb += place.eq(Mux(runs, place_was + (address - address_was)[: len(address)], base))
        m.d.sync += [address_was.eq(address), wrote.eq(writes), place_was.eq(place)]
        with m.If(self.clear):
            m.d.sync += base.eq(layer.out_base)
        with m.If(running & ~self.clear):
            m.d.comb += [
                Assume(~writes | (place + plane < engine.spike_depth)),
                Assert(~writes | ((dut.write_address == place + plane) & (place >= base))),
                Assert(~writes | (base == 0) | (dut.write_address != 0)),
                Assert(~runs | (place == place_was) | (wrote & (place == place_was + 1))),
                Assert(~runs | wrote | (address == address_was)),
                # What of the state is reached at all.
                Assert(place[: len(address)] == address),
                Assert((place >= base) & (base == layer.out_base)),
            ]
            if engine.passes > 1:
                number = inner["leaving"].number
                m.d.comb += [
                    Assert(number >= layer.first_pass),
                    Assert(inner["plane"] == plane[: len(address)]),
                ]
        if engine.passes > 1:
            m.d.comb += plane.eq((number - layer.first_pass)[: len(number)] * layer.out_plane)
        return m


PROOFS = [
    Circuit(
        "stream-order", "the stream overwrites no word that it has not read, and none as it reads",
        StreamSpec, Mutation(
            "hw/stream.py", "Mux(layer.average, words << 1, words)", "words",
            "averages move on by one pixel, not two",
        ),
        depth=2, inductive=True,
    ),
    Circuit(
        "writer-order", "a layer's words are written one after the other, and never word 0",
        lambda: WriterSpec(SMALL), Mutation(
            "hw/writer.py", "address.eq(layer.out_base), group.eq(0),", "group.eq(0),",
            "a layer's words follow those of the layer before",
        ),
        depth=2, inductive=True,
    ),
    Circuit(
        "writer-order-passes", "with passes a layer's words are written so in a plane for each",
        lambda: WriterSpec(PASSES), Mutation(
            "hw/writer.py", "plane.eq(Mux(leaving.last, 0, plane + layer.out_plane))",
            "plane.eq(plane + layer.out_plane)", "the first plane follows the last",
        ),
        depth=2, inductive=True,
    ),
]
