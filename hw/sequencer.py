"""Walks the layer program: fetches a layer's record, then addresses every operand of it in turn."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostWrite
from hw.memory import HostMemory
from hw.record import layer_layout
from sw.program import Region
from sw.record import FIELDS, element_bits, field_words, record_stride, record_words

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Issues one operand a cycle.

    The order: output pixel, tile of pe output channels, pixel of the pooling window, kernel row,
    kernel column, input word.

    Along a kernel row the elements are contiguous in the spike memory, so an address moves by one;
    all other moves are constants of the record, added to a register: there is no multiplier. The
    weights of a tile are contiguous and start over for every pixel.

    Members
    -------
    start, first, count, busy : run ``count`` layers from number ``first``; ``cycles`` counts while
        busy, and starts from 0 with each run.
    layer : record of the running layer, stable from ``clear`` until the next fetch.
    clear : pulse before the first operand of a layer.
    gain_load, gain_data : the record's gains or factors, step 0 first.
    gain_start, gain_busy : the Gain unit, for layers with an exact gain.
    written : the layer's last word is being written.
    valid, first_element, last_element, element, weight, inside : an operand: where it lies in a
        tile, its element and weight address, and whether it is inside the map (else it is zero).
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "start": In(1),
            "first": In(8),
            "count": In(8),
            "busy": Out(1),
            "cycles": Out(32),
            "layer": Out(layer_layout(engine)),
            "clear": Out(1),
            "gain_load": Out(1),
            "gain_data": Out(16),
            "gain_start": Out(1),
            "gain_busy": In(1),
            "written": In(1),
            "valid": Out(1),
            "first_element": Out(1),
            "last_element": Out(1),
            "element": Out(element_bits(engine)),
            "weight": Out(range(engine.weight_depth)),
            "inside": Out(1),
            "host": In(HostWrite),
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        m.submodules.program = program = HostMemory(
            Region.PROGRAM, 16, engine.layer_depth * record_stride(engine)
        )
        wiring.connect(m, wiring.flipped(self.host), program.host)

        number, left = Signal(8), Signal(8)
        word, word_valid = Signal(8), Signal()
        loaded = Signal.like(word)
        words = record_words(engine)

        stride_bits = record_stride(engine).bit_length() - 1
        m.d.comb += program.address.eq(Cat(word[:stride_bits], number))
        m.d.sync += [loaded.eq(word), word_valid.eq(0)]
        self._load_record(m, program.data, loaded, word_valid)

        # Counters of the walk, outermost last, and what each one's end means for the next.
        depth, kx, ky = Signal.like(layer.depth_last), Signal(3), Signal(3)
        sub, tile = Signal(2), Signal.like(layer.tiles_last)
        x, y = Signal.like(layer.out_width_last), Signal.like(layer.out_height_last)
        depth_end, row_end, tile_end, window_end, pixel_end, line_end, map_end = (
            Signal(name=f"{name}_end")
            for name in ("depth", "row", "tile", "window", "pixel", "line", "map")
        )
        m.d.comb += [
            depth_end.eq(depth == layer.depth_last),
            row_end.eq(depth_end & (kx == layer.kernel_last)),
            tile_end.eq(row_end & (ky == layer.kernel_last)),
        ]
        # The outer counters move at the end of a tile and are asked at the end of the next, at
        # least pe / units >= 4 cycles later: time for registers, off the longest path.
        last = 1
        for name, end, condition in (
            ("window", window_end, ~layer.pool | (sub == 3)),
            ("pixel", pixel_end, tile == layer.tiles_last),
            ("line", line_end, x == layer.out_width_last),
            ("map", map_end, y == layer.out_height_last),
        ):
            last = last & condition
            is_last = Signal(name=f"{name}_last")
            m.d.sync += is_last.eq(last)
            m.d.comb += end.eq(tile_end & is_last)

        # Element addresses of: this element, its window's corner, the pooled pixel's first window,
        # the pooled row's first window. Likewise the map coordinates of this tap.
        element, window, pixel, line = (
            Signal(self.element.shape(), name=n) for n in ("element_", "window", "pixel", "line")
        )
        next_window, next_pixel, next_line = (
            Signal.like(element, name=f"next_{n}") for n in ("window", "pixel", "line")
        )
        row_jump = layer.row_jump.as_signed()
        m.d.comb += [
            next_window.eq(Mux(sub == 1, pixel + layer.y_step, window + layer.x_step)),
            next_pixel.eq(pixel + Mux(layer.pool, layer.x_step << 1, layer.x_step)),
            next_line.eq(line + Mux(layer.pool, layer.y_step << 1, layer.y_step)),
        ]
        tap_y, tap_x, top, left_x, pixel_y, pixel_x = (
            Signal(7, name=n) for n in ("tap_y", "tap_x", "top", "left_x", "pixel_y", "pixel_x")
        )
        corner = Signal(7)
        step = Signal(3)
        m.d.comb += [
            corner.eq(-layer.padding),
            step.eq(Mux(layer.pool, layer.stride << 1, layer.stride)),
        ]

        def enter_window(address, row, column):
            """Start a window: its first element, at its top left tap."""
            return [
                element.eq(address), window.eq(address),
                tap_y.eq(row), top.eq(row), tap_x.eq(column), left_x.eq(column),
            ]

        weight, tile_weight = Signal.like(self.weight), Signal.like(self.weight)
        slack = Signal(range(engine.groups))
        fresh = Signal()
        m.d.comb += [
            self.element.eq(element),
            self.weight.eq(weight),
            # Coordinates wrap: a tap above or left of the map is beyond its end.
            self.inside.eq((tap_y < layer.in_height) & (tap_x < layer.in_width)),
            self.first_element.eq(fresh),
            self.last_element.eq(tile_end),
        ]

        def advance():
            m.d.sync += [
                depth.eq(depth + 1), element.eq(element + 1), weight.eq(weight + 1), fresh.eq(0),
            ]
            with m.If(depth_end):
                m.d.sync += [depth.eq(0), kx.eq(kx + 1), tap_x.eq(tap_x + 1)]
            with m.If(row_end):
                m.d.sync += [
                    kx.eq(0), ky.eq(ky + 1), element.eq(element + row_jump),
                    tap_x.eq(left_x), tap_y.eq(tap_y + 1),
                ]
            with m.If(tile_end):
                m.d.sync += [
                    ky.eq(0), fresh.eq(1), sub.eq(sub + 1), weight.eq(tile_weight),
                ]
                m.d.sync += enter_window(
                    next_window,
                    Mux(sub == 1, top + layer.stride, top),
                    Mux(sub == 1, pixel_x, left_x + layer.stride),
                )
            with m.If(window_end):
                m.d.sync += [
                    sub.eq(0), tile.eq(tile + 1), weight.eq(weight + 1), tile_weight.eq(weight + 1),
                ]
                m.d.sync += enter_window(pixel, pixel_y, pixel_x)
            with m.If(pixel_end):
                m.d.sync += [
                    tile.eq(0), x.eq(x + 1), pixel.eq(next_pixel), pixel_x.eq(pixel_x + step),
                    weight.eq(layer.weight_base), tile_weight.eq(layer.weight_base),
                ]
                m.d.sync += enter_window(next_pixel, pixel_y, pixel_x + step)
            with m.If(line_end):
                m.d.sync += [
                    x.eq(0), y.eq(y + 1), line.eq(next_line), pixel.eq(next_line),
                    pixel_y.eq(pixel_y + step), pixel_x.eq(corner),
                ]
                m.d.sync += enter_window(next_line, pixel_y + step, corner)

        with m.If(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        with m.Elif(self.start):
            m.d.sync += self.cycles.eq(0)
        with m.FSM():
            with m.State("Idle"):
                with m.If(self.start):
                    m.d.sync += [
                        self.busy.eq(1), number.eq(self.first),
                        left.eq(self.count), word.eq(0),
                    ]
                    m.next = "Fetch"
            with m.State("Fetch"):
                m.d.comb += program.enable.eq(1)
                m.d.sync += [word.eq(word + 1), word_valid.eq(1)]
                with m.If(word == words - 1):
                    m.next = "Last word"
            with m.State("Last word"):
                m.next = "Gain start"
            with m.State("Gain start"):
                m.d.comb += self.gain_start.eq(layer.exact_gain)
                m.next = "Gain"
            with m.State("Gain"):
                with m.If(~self.gain_busy):
                    m.d.comb += self.clear.eq(1)
                    m.d.sync += [
                        depth.eq(0), kx.eq(0), ky.eq(0), sub.eq(0), tile.eq(0), x.eq(0), y.eq(0),
                        line.eq(layer.start), pixel.eq(layer.start),
                        pixel_y.eq(corner), pixel_x.eq(corner), fresh.eq(1),
                        weight.eq(layer.weight_base), tile_weight.eq(layer.weight_base),
                        slack.eq(engine.groups - 1),
                    ]
                    m.d.sync += enter_window(layer.start, corner, corner)
                    m.next = "Enter"
            with m.State("Enter"):
                # The registers that know the last tile, column and row follow the counters.
                m.next = "Run"
            with m.State("Run"):
                m.d.comb += self.valid.eq(1)
                with m.If(slack != 0):
                    m.d.sync += slack.eq(slack - 1)
                advance()
                with m.If(map_end):
                    m.next = "Drain"
                with m.Elif(tile_end):
                    m.d.sync += slack.eq(engine.groups - 1)
                    with m.If(slack != 0):
                        m.d.sync += slack.eq(slack - 1)
                        m.next = "Short tile"
            with m.State("Short tile"):
                # The array hands out a tile in groups of channels: a shorter one waits for that.
                m.d.sync += slack.eq(slack - 1)
                with m.If(slack == 0):
                    m.d.sync += slack.eq(engine.groups - 1)
                    m.next = "Run"
            with m.State("Drain"):
                with m.If(self.written):
                    m.d.sync += [number.eq(number + 1), left.eq(left - 1), word.eq(0)]
                    m.next = "Fetch"
                    with m.If(left == 1):
                        m.d.sync += self.busy.eq(0)
                        m.next = "Idle"
        return m

    def _load_record(self, m, data, loaded, valid):
        """Store the record's words, as they arrive, in the members of ``self.layer``."""
        fields = field_words()
        with m.If(valid), m.Switch(loaded):
            for word in range(fields):
                with m.Case(word):
                    for field in FIELDS:
                        value = self.layer[field.name]
                        if field.word == word:
                            m.d.sync += value[:16].eq(data >> field.shift)
                        elif field.bits > 16 and field.word == word - 1:
                            m.d.sync += value[16:].eq(data)
        m.d.comb += [self.gain_load.eq(valid & (loaded >= fields)), self.gain_data.eq(data)]
