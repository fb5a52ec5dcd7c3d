"""The residual stream: currents that shortcuts carry past a layer, in block RAM."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.record import layer_layout
from sw.formats import STREAM_BITS, average

__all__ = ["Stream", "clamp", "stream_word"]


def clamp(value, low, high):
    """``value``, an Amaranth value, or the bound that it is beyond."""
    return Mux(value < low, low, Mux(value > high, high, value))


def stream_word(engine):
    """Layout of a word: all lanes of ``units`` channels."""
    return data.ArrayLayout(data.ArrayLayout(signed(STREAM_BITS), engine.lanes), engine.units)


class Stream(wiring.Component):
    """Reads what a shortcut adds to a group of channels, and writes what becomes of it.

    The stream of a layer is one run of words in the order in which its groups are computed: pixel,
    tile, pass, group; a word holds all lanes of ``units`` channels. The next layer's takes its
    place. With stride 1 a group finds its word where its own will be. With stride 2 it reads the
    four of a 2 x 2 square, one a cycle, so groups are at least four cycles apart; no word is
    written that is still to be read, for there are at most twice as many channels as before.

    A projection reads a whole stream and makes another: then the words come out here.

    Members
    -------
    layer, clear : the layer record, and the start of a layer.
    valid : a group of channels of a layer with a stream.
    shortcut : of that group, ``latency`` cycles later: 0 where the layer has no shortcut, and for
        channels that the stream has not.
    stored : its new values, ``write_latency`` cycles after it.
    enable, address, data : reads of a projection, one cycle.
    """

    latency = 5
    write_latency = 6

    def __init__(self, engine):
        self.engine = engine
        word = stream_word(engine)
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "shortcut": Out(word),
            "stored": In(word),
            "enable": In(1),
            "address": In(range(engine.stream_depth)),
            "data": Out(word),
        })

    def model(self, before, groups, width, averages):
        """Shortcuts of a map [pixels][groups of it] of words, lists of integers; [pixels][groups].

        width: pixels of a row of the map.
        """
        empty = [0] * (self.engine.lanes * self.engine.units)

        def corner(place):
            row, column = divmod(place, width // 2)
            return 2 * row * width + 2 * column

        def word(pixel, group):
            return before[pixel][group] if group < len(before[pixel]) else empty

        if not averages:
            return [[word(pixel, group) for group in range(groups)] for pixel in range(len(before))]
        return [
            [
                [
                    average(sum(four)) for four in zip(
                        *(word(corner(place) + tap, group) for tap in (0, 1, width, width + 1)),
                        strict=True,
                    )
                ]
                for group in range(groups)
            ]
            for place in range(len(before) // 4)
        ]

    def elaborate(self, platform):
        m = Module()
        layer = self.layer
        m.submodules.memory = mem = memory.Memory(
            shape=len(self.stored.as_value()), depth=self.engine.stream_depth, init=[]
        )
        read, write = mem.read_port(), mem.write_port()

        valid = [self.valid]
        for stage in range(self.write_latency):
            valid.append(Signal(name=f"valid{stage}"))
            m.d.sync += valid[-1].eq(valid[-2])
        # A group's first read: at once if three more follow, else as late as the last of those.
        tap = Signal(2)
        reads, ends = Signal(), Signal()
        m.d.comb += [
            reads.eq(Mux(layer.average, self.valid | (tap != 0), valid[3])),
            ends.eq(reads & (~layer.average | (tap == 3))),
        ]
        with m.If(reads & layer.average):
            m.d.sync += tap.eq(tap + 1)

        # Words of this group's first tap, of the pixel's first group, and of the row's first pixel.
        element, pixel, row = (Signal.like(read.addr, name=n) for n in ("element", "pixel", "row"))
        next_pixel, next_row, right, below = (
            Signal.like(read.addr, name=n) for n in ("next_pixel", "next_row", "right", "below")
        )
        group, column = Signal.like(layer.stream_last), Signal.like(layer.out_width_last)
        words = layer.shortcut_last + 1
        offsets = [Const(0), right, below, right + below]
        # The outer steps are due at the earliest a group after their operands have changed.
        m.d.sync += [
            right.eq(words), below.eq(layer.stream_row),
            next_pixel.eq(pixel + Mux(layer.average, words << 1, words)),
            next_row.eq(row + (layer.stream_row << 1)),
        ]
        with m.Switch(tap):
            for number, offset in enumerate(offsets):
                with m.Case(number):
                    m.d.comb += read.addr.eq(element + offset)
        m.d.comb += [read.en.eq(reads & layer.shortcut), self.data.eq(read.data)]
        with m.If(self.enable):
            m.d.comb += [read.en.eq(1), read.addr.eq(self.address)]
        with m.If(ends):
            m.d.sync += [group.eq(group + 1), element.eq(element + 1)]
            with m.If(group == layer.stream_last):
                m.d.sync += [
                    group.eq(0), column.eq(column + 1), element.eq(next_pixel),
                    pixel.eq(next_pixel),
                ]
                with m.If(layer.average & (column == layer.out_width_last)):
                    m.d.sync += [
                        column.eq(0), element.eq(next_row), pixel.eq(next_row), row.eq(next_row),
                    ]
        with m.If(self.clear):
            m.d.sync += [
                element.eq(layer.stream_in), pixel.eq(layer.stream_in), row.eq(layer.stream_in),
                group.eq(0), column.eq(0), tap.eq(0),
            ]

        # The word that has come, alone or with those of the other taps.
        exists, first = Signal(), Signal()
        m.d.sync += [
            exists.eq(layer.shortcut & (group <= layer.shortcut_last)), first.eq(tap == 0),
        ]
        for u, unit in enumerate(self.shortcut):
            for t, value in enumerate(unit):
                place = (u * self.engine.lanes + t) * STREAM_BITS
                come = Signal(signed(STREAM_BITS), name=f"come{u}_{t}")
                total = Signal(signed(STREAM_BITS + 2), name=f"total{u}_{t}")
                with m.If(exists):
                    m.d.comb += come.eq(read.data[place : place + STREAM_BITS])
                m.d.sync += total.eq(Mux(first, come, total + come))
                m.d.comb += value.eq(Mux(layer.average, average(total), total))

        m.d.comb += [write.en.eq(valid[-1]), write.data.eq(self.stored)]
        with m.If(write.en):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(self.clear):
            m.d.sync += write.addr.eq(layer.stream_out)
        return m
