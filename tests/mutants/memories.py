"""Errors of the memories, and of what writes the spikes."""

from tests.mutants.mutation import mutations_of

__all__ = ["MEMORIES"]

MEMORIES = [
    *mutations_of(
        "hw/memory.py",
        (
            "return HOST if width <= NARROW else", "return HOST if width < NARROW else",
            "a memory of 64 bits is written 32 at a time",
        ),
        (
            "            with m.If(enable):\n                m.d.sync += low",
            "            with m.If(self.host.enable):\n                m.d.sync += low",
            "a low half of another memory takes the place of one that waits",
        ),
        (
            "Mux(self.host.enable, row, self.address)", "Mux(self.host.enable, self.address, row)",
            "SPRAM is addressed by the wrong side",
        ),
        ("i_WREN=enable[bank]", "i_WREN=enable[0]", "the host writes the first SPRAM alone"),
    ),
    *mutations_of(
        "hw/spikes.py",
        (
            "        with m.If(read_enable):\n            m.d.sync += rest",
            "        with m.If(self.enable):\n            m.d.sync += rest",
            "the host reads the upper part where it should read the lower",
        ),
        (
            "((a >= power) == part for a in", "((a > power) == part for a in",
            "the first row of the upper part is taken for one of the lower",
        ),
        (
            "host_enable = self.host.enable & (self.host.region == self.region)",
            "host_enable = self.host.enable",
            "the host's words for all memories are spikes",
        ),
        (
            "m.d.sync += selected.eq(bank)", "m.d.comb += selected.eq(bank)",
            "the host reads the bank of its next address",
        ),
    ),
    *mutations_of(
        "hw/stream.py",
        (
            "Mux(value < low, low, Mux(value > high, high, value))", "Mux(value < low, low, value)",
            "currents above the largest wrap around",
            ("tests/hw/test_lif.py",),
        ),
        (
            "(group <= layer.shortcut_last)", "(group < layer.shortcut_last)",
            "the last group of channels has no shortcut",
        ),
        (
            "total = Signal(signed(STREAM_BITS + 2), name=",
            "total = Signal(signed(STREAM_BITS + 1), name=",
            "the carry of four is dropped",
        ),
        (
            "group.eq(0), column.eq(0), tap.eq(0),", "group.eq(0), column.eq(0),",
            "a tap is left from the layer before",
            (),
            (
                "a layer starts when the words of the one before are written, six cycles after its "
                "last group: the four reads of that are over, and tap is 0 again"
            ),
        ),
        (
            "with m.If(layer.average & (column == layer.out_width_last))",
            "with m.If(layer.average & (column > layer.out_width_last))",
            "averages go on in the same row",
        ),
    ),
    *mutations_of(
        "hw/writer.py",
        (
            "self.row + layer.halo_above > layer.out_height_last",
            "self.row + layer.halo_above >= layer.out_height_last",
            "a row too many in the halo above",
        ),
        (
            "self.row < layer.halo_below", "self.row <= layer.halo_below",
            "a row too many in the halo below",
        ),
        (
            "partly.eq(row < layer.full_rows)", "partly.eq(row <= layer.full_rows)",
            "the row below the map is not silent",
        ),
        (
            "address.eq(layer.out_base), group.eq(0), part.eq(0),",
            "address.eq(layer.out_base), group.eq(0),",
            "the part of a word is left from the layer before",
        ),
        (
            "            with m.If(self.clear):\n                m.d.sync += plane.eq(0)\n", "",
            "a plane is left from the layer before",
        ),
        (
            "Cat(Const(u, unit_bits), group) < layer.channels",
            "Cat(Const(u, unit_bits), group) <= layer.channels",
            "the channel behind the last is not silent",
        ),
        (
            "logit_real.eq(self.logit_valid & real[0])", "logit_real.eq(self.logit_valid)",
            "classes that only fill the last tile are written",
        ),
    ),
    *mutations_of(
        "hw/contents.py",
        (
            "<< (HOST * part)", "<< (HOST * (parts - 1 - part))",
            "baked words are the wrong way round",
            ("tests/hw/test_memory.py", "tests/hw/test_contents.py"),
        ),
        (
            "memory.model(contents.words[memory.region])[part]\n    return dict(init=rows",
            (
                "memory.model(contents.words[memory.region])\n    "
                "rows = rows[: len(rows[part])]\n    "
                "return dict(init=rows"
            ),
            "both parts of a memory hold the lower part's words",
        ),
    ),
    *mutations_of(
        "hw/bake.py",
        (
            "((0, -len(bits) % rows), (0, 0))", "((-len(bits) % rows, 0), (0, 0))",
            "a table lies at the end of its blocks",
            ("tests/hw/test_bake.py::test_a_patched_bitstream_equals_a_rebuilt_one",),
        ),
    ),
]
