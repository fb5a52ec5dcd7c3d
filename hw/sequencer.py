"""Walks the layer program: fetches a layer's record, then addresses every operand of it in turn."""

from functools import reduce
from operator import and_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostWrite
from hw.memory import HostMemory
from hw.record import layer_layout
from sw.program import Region
from sw.record import Kind, element_bits, field_words, fields, record_stride, record_words

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Issues one operand a cycle.

    The order: output pixel, tile of pe output channels, strip of the frame (of a stem, if there are
    strips), pixel of the pooling window, pass (if there are several, of a convolution or a
    projection), kernel row, kernel column, input word. A readout's tile has its words once for each
    pass and strip; a stem runs once for all passes.

    Along a kernel row the elements are contiguous in the spike memory, so an address moves by one;
    all other moves are constants of the record, added to a register: there is no multiplier. (The
    channels of a stream are contiguous in a tile and pass; the sequencer steps over the other
    passes.) The weights of a tile are contiguous and start over for every pixel.

    Members
    -------
    start, first, count, busy : run ``count`` layers from number ``first``.
    opening : the running layer is number 0.
    layer : record of the running layer, stable from ``clear`` until the next fetch.
    clear : pulse before the first operand of a layer.
    gain_load, gain_data : the record's gains or factors, step 0 first. gain_busy : the Gain unit
        is not ready for the next.
    written : the layer's last word is being written.
    valid, first_element, last_element, element, weight, inside : an operand: where it lies in a
        tile, its element and weight address, and whether it is inside the map (else it is zero).
    strip : of that operand, of a stem or a readout.
    """

    def __init__(self, engine, region=Region.PROGRAM):
        self.engine, self.region = engine, region
        super().__init__({
            "start": In(1),
            "first": In(8),
            "count": In(8),
            "busy": Out(1),
            "opening": Out(1),
            "layer": Out(layer_layout(engine)),
            "clear": Out(1),
            "gain_load": Out(1),
            "gain_data": Out(16),
            "gain_busy": In(1),
            "written": In(1),
            "valid": Out(1),
            "first_element": Out(1),
            "last_element": Out(1),
            "element": Out(element_bits(engine)),
            "weight": Out(range(engine.weight_depth)),
            "inside": Out(1),
            **({"strip": Out(range(engine.pixels))} if engine.pixels > 1 else {}),
            "host": In(HostWrite),
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        m.submodules.program = program = HostMemory(
            self.region, 16, engine.layer_depth * record_stride(engine)
        )
        wiring.connect(m, wiring.flipped(self.host), program.host)

        words = record_words(engine, engine.passes)
        number, left = (Signal(range(engine.layer_depth + 1), name=n) for n in ("number", "left"))
        word, word_valid = Signal(range(words)), Signal()
        loaded = Signal.like(word)

        stride_bits = record_stride(engine).bit_length() - 1
        m.d.comb += program.address.eq(Cat(word[:stride_bits], number))
        m.d.sync += [loaded.eq(word), word_valid.eq(0)]
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
        ]
        kernel_end = row_end & (ky == layer.kernel_last)
        strips, is_stem = engine.pixels > 1, layer.kind == Kind.STEM
        passes = engine.passes > 1
        if strips:
            strip, strip_end, last_strip = self.strip, Signal(), Signal()
            m.d.comb += last_strip.eq(strip == engine.pixels - 1)
        if passes:
            pass_number, pass_end, last_pass = Signal(range(engine.passes)), Signal(), Signal()
            m.d.comb += last_pass.eq(pass_number == engine.passes - 1)
            # A tile in each pass. A stem has the same sums in all, a readout adds them up.
            in_turns = layer.kind == Kind.CONV
            if engine.has_stream:
                in_turns |= layer.kind == Kind.PROJECTION
        turns = [*([last_strip] if strips else []), *([last_pass] if passes else [])]
        if turns:
            last_turn = reduce(and_, turns)
            m.d.comb += tile_end.eq(kernel_end & ((layer.kind != Kind.READOUT) | last_turn))
        else:
            m.d.comb += tile_end.eq(kernel_end)
        # The outer counters move at the end of a tile and are asked at the end of the next, at
        # least pe / units >= 4 cycles later: time for registers, off the longest path.
        last = 1
        for name, end, condition in (
            *([("pass", pass_end, ~in_turns | last_pass)] if passes else []),
            ("window", window_end, ~layer.pool | (sub == 3)),
            *([("strip", strip_end, ~is_stem | last_strip)] if strips else []),
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
        # The first window of this pixel in this strip, and its first row.
        strip_pixel, strip_row = pixel, None
        if strips:
            strip_pixel, strip_row = Signal.like(pixel, name="strip_pixel"), Signal(7)
            next_strip = Signal.like(pixel, name="next_strip")
            m.d.comb += next_strip.eq(strip_pixel + layer.strip_jump)
        # Where this window is in this pass.
        in_pass, opens_sums = pixel, 1
        if passes:
            in_pass, next_pass = (Signal.like(window, name=n) for n in ("in_pass", "next_pass"))
            opens_sums = pass_number == layer.first_pass
            m.d.comb += next_pass.eq(in_pass + layer.in_plane)
        # The record's start is the first line's: it needs no register of its own.
        self._load_record(m, program.data, loaded, word_valid, line)
        row_jump = layer.row_jump.as_signed()
        m.d.comb += [
            next_window.eq(Mux(sub == 1, strip_pixel + layer.y_step, window + layer.x_step)),
            next_pixel.eq(pixel + Mux(layer.pool, layer.x_step << 1, layer.x_step)),
            next_line.eq(line + Mux(layer.pool, layer.y_step << 1, layer.y_step)),
        ]
        tap_y, tap_x, top, left_x, pixel_y, pixel_x = (
            Signal(7, name=n) for n in ("tap_y", "tap_x", "top", "left_x", "pixel_y", "pixel_x")
        )
        corner = Signal(7)
        # Of a map, the rows above a strip are stored with it.
        corner_y = Mux(is_stem, corner, 0) if strips else corner
        step = Signal(3)
        m.d.comb += [
            corner.eq(-layer.padding),
            step.eq(Mux(layer.pool, layer.stride << 1, layer.stride)),
        ]

        def enter_window(address, row, column):
            """Start a window: its first element, at its top left tap."""
            return [
                element.eq(address), window.eq(address), *([in_pass.eq(address)] if passes else []),
                tap_y.eq(row), top.eq(row), tap_x.eq(column), left_x.eq(column),
            ]

        def enter_pixel(address, row, column):
            """Start with the first strip of a pixel."""
            first = [strip.eq(0), strip_pixel.eq(address), strip_row.eq(row)] if strips else []
            return first + enter_window(address, row, column)

        weight, tile_weight = Signal.like(self.weight), Signal.like(self.weight)
        # The array hands out a tile in groups of channels, and the MACs theirs in every pass.
        longest = max(engine.passes, 4 if engine.has_stream else 1)
        slack = Signal(range(engine.groups * longest))
        groups = engine.groups
        if engine.has_stream:
            groups = Mux(layer.average, 4 * groups, groups)
        shortest = groups - 1
        if passes:
            in_all = (engine.passes - layer.first_pass) * engine.groups
            shortest = Mux(is_stem, in_all, groups) - 1
        fresh = Signal()
        m.d.comb += [
            self.element.eq(element),
            self.weight.eq(weight),
            # Coordinates wrap: a tap above or left of the map is beyond its end.
            self.inside.eq((tap_y < layer.in_height) & (tap_x < layer.in_width)),
            self.first_element.eq(fresh),
            self.last_element.eq(tile_end),
        ]

        next_element = element + 1
        if passes and engine.has_stream:
            # Past the other passes of a tile, to the channels of the next.
            tile_bits = engine.pe.bit_length() - 1
            others = (engine.passes - 1 - layer.first_pass) << tile_bits
            jumps = (layer.kind == Kind.PROJECTION) & depth[:tile_bits].all()
            next_element += Mux(jumps, others, 0)

        def advance():
            m.d.sync += [
                depth.eq(depth + 1), element.eq(next_element), weight.eq(weight + 1), fresh.eq(0),
            ]
            with m.If(depth_end):
                m.d.sync += [depth.eq(0), kx.eq(kx + 1), tap_x.eq(tap_x + 1)]
            with m.If(row_end):
                m.d.sync += [
                    kx.eq(0), ky.eq(ky + 1), element.eq(element + row_jump),
                    tap_x.eq(left_x), tap_y.eq(tap_y + 1),
                ]
            if strips:
                # A readout's next strip: the weights go on, the sums are of other lanes.
                with m.If(kernel_end & ~tile_end):
                    m.d.sync += [
                        ky.eq(0), fresh.eq(opens_sums), strip.eq(strip + 1), element.eq(in_pass),
                    ]
            if passes:
                # A readout's next pass: the sums go on, with the same weights.
                with m.If(kernel_end & ~tile_end & (last_strip if strips else 1)):
                    m.d.sync += [
                        ky.eq(0), fresh.eq(0), weight.eq(tile_weight), element.eq(next_pass),
                        in_pass.eq(next_pass), pass_number.eq(pass_number + 1),
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
            if passes:
                with m.If(tile_end & ~pass_end):
                    m.d.sync += [
                        sub.eq(sub), element.eq(next_pass), window.eq(window),
                        in_pass.eq(next_pass), pass_number.eq(pass_number + 1),
                        tap_y.eq(top), top.eq(top), tap_x.eq(left_x), left_x.eq(left_x),
                    ]
                with m.If(pass_end):
                    m.d.sync += pass_number.eq(layer.first_pass)
            if strips:
                with m.If(window_end):
                    row = strip_row + layer.strip_rows
                    m.d.sync += [
                        strip.eq(strip + 1), strip_pixel.eq(next_strip), strip_row.eq(row),
                    ]
                    m.d.sync += enter_window(next_strip, row, pixel_x)
            with m.If(strip_end if strips else window_end):
                m.d.sync += [
                    sub.eq(0), tile.eq(tile + 1), weight.eq(weight + 1), tile_weight.eq(weight + 1),
                ]
                m.d.sync += enter_pixel(pixel, pixel_y, pixel_x)
            with m.If(pixel_end):
                m.d.sync += [
                    tile.eq(0), x.eq(x + 1), pixel.eq(next_pixel), pixel_x.eq(pixel_x + step),
                    weight.eq(layer.weight_base), tile_weight.eq(layer.weight_base),
                ]
                m.d.sync += enter_pixel(next_pixel, pixel_y, pixel_x + step)
            with m.If(line_end):
                m.d.sync += [
                    x.eq(0), y.eq(y + 1), line.eq(next_line), pixel.eq(next_line),
                    pixel_y.eq(pixel_y + step), pixel_x.eq(corner),
                ]
                m.d.sync += enter_pixel(next_line, pixel_y + step, corner)

        last_word = words - 1
        if passes:
            # Gains are those of the passes in use; the fields have come by then.
            last_word -= layer.first_pass * engine.lanes
        m.d.comb += self.opening.eq(number == 0)
        with m.FSM():
            with m.State("Idle"):
                with m.If(self.start):
                    m.d.sync += [
                        self.busy.eq(1), number.eq(self.first),
                        left.eq(self.count), word.eq(0),
                    ]
                    m.next = "Fetch"
            with m.State("Fetch"):
                with m.If(~self.gain_busy):
                    m.d.comb += program.enable.eq(1)
                    m.d.sync += [word.eq(word + 1), word_valid.eq(1)]
                    with m.If(word == last_word):
                        m.next = "Last word"
            with m.State("Last word"):
                with m.If(~self.gain_busy):
                    m.next = "Clear"
            with m.State("Clear"):
                m.d.comb += self.clear.eq(1)
                m.d.sync += [
                    depth.eq(0), kx.eq(0), ky.eq(0), sub.eq(0), tile.eq(0), x.eq(0), y.eq(0),
                    pixel.eq(line), pixel_y.eq(corner_y), pixel_x.eq(corner), fresh.eq(1),
                    weight.eq(layer.weight_base), tile_weight.eq(layer.weight_base),
                    slack.eq(shortest),
                ]
                if passes:
                    m.d.sync += pass_number.eq(layer.first_pass)
                m.d.sync += enter_pixel(line, corner_y, corner)
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
                    m.d.sync += slack.eq(shortest)
                    with m.If(slack != 0):
                        m.d.sync += slack.eq(slack - 1)
                        m.next = "Short tile"
            with m.State("Short tile"):
                # A tile that is shorter than handing it out waits for that.
                m.d.sync += slack.eq(slack - 1)
                with m.If(slack == 0):
                    m.d.sync += slack.eq(shortest)
                    m.next = "Run"
            with m.State("Drain"):
                with m.If(self.written):
                    m.d.sync += [number.eq(number + 1), left.eq(left - 1), word.eq(0)]
                    m.next = "Fetch"
                    with m.If(left == 1):
                        m.d.sync += self.busy.eq(0)
                        m.next = "Idle"
        return m

    def _load_record(self, m, data, loaded, valid, start):
        """Store the record's words, as they arrive, in ``start`` and in ``self.layer``."""
        count = field_words(self.engine)
        with m.If(valid), m.Switch(loaded):
            for word in range(count):
                with m.Case(word):
                    for field in fields(self.engine):
                        value = start if field.name == "start" else self.layer[field.name]
                        if field.word == word:
                            m.d.sync += value[:16].eq(data >> field.shift)
                        elif field.bits > 16 and field.word == word - 1:
                            m.d.sync += value[16:].eq(data)
        m.d.comb += [self.gain_load.eq(valid & (loaded >= count)), self.gain_data.eq(data)]
