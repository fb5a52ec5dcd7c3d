"""No row of the spike memory is read in the cycle in which a layer writes it (without strips).

The pieces. What is read is word 0, or inside the map the operand's element (``hw.core``). That is
``start`` and steps of the record (``walk-addresses``), which for records of ``sw.program`` are
those to a word of the map that the layer reads (``walk-fields``). What is written are the words of
its pixels, from ``out_base`` on (``writer-places``), and never word 0 (``writer-order``). These two
maps have no word in common, nor has a third that a stem core writes meanwhile (``maps-apart``).
Operands are valid only while the sequencer walks, and it does so for the next layer only after
``written``, which comes with the layer's last word (``writer-ends``); then ``busy`` falls, before
which the host does nothing (``host-waits``).

Not proven: that maps with halos are written where they should be, that logits end where their map
does, and what the accelerator does with a stem core's word that waits for one of the other core.
Simulated is all of that.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from types import SimpleNamespace
from unittest.mock import patch

import z3
from amaranth.hdl import Assert, Assume, Cat, Const, Mux, Signal

from sw import program
from sw.engine import EngineError
from sw.layers import Readout
from sw.record import MAP_LIMIT, Kind
from tests.formal.progress import SequencerSpec, WriterSpec
from tests.formal.proof import Circuit, Claim, ongoing
from tests.hw.support import PAIRS_IN_PASSES, PASSES, SMALL, STRIPS, STRIPS_IN_PASSES
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


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
        walks = Cat(ongoing(walk, name) for name in ("Enter", "Run", "Short tile")).any()
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
        with m.If(ongoing(walk, "Enter") | ongoing(walk, "Short tile")):
            m.d.comb += Assert((walk["depth"] == 0) & (walk["kx"] == 0) & (walk["ky"] == 0))
        m.d.comb += [
            Assert(~dut.valid | walks), Assert(~ongoing(walk, "Clear") | ~walk["word_valid"]),
        ]
        return m


class PlaceSpec(WriterSpec):
    """The n-th pixel of a layer is written to its words, the n-th from ``out_base`` on.

    A pixel has as many words as its tiles fill; a layer has ``out_width_last`` + 1 pixels a row and
    ``out_height_last`` + 1 rows, which is asserted with ``writer-ends``, whose spec this one adds
    to. Assumed, as there, of the sequencer: the record is constant from ``clear`` on, which comes
    when all is written, and no group comes behind the layer's last. Not of logits, nor with strips.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, layer, dut, inner = self.engine, self.layer, self.dut, self.inner
        address, part, group = (inner[name] for name in ("address", "part", "group"))
        tile_bits, part_bits = engine.groups.bit_length() - 1, len(part)
        tile, of_tile = group[tile_bits:], group[:tile_bits]
        pixel, here, held = (Signal.like(address, name=n) for n in ("pixel", "here", "held"))
        held_part, held_ends = Signal.like(part), Signal()
        # A tile goes to the memory two cycles after its last group has come.
        coming, leaving = dut.passed & inner["ends_tile"], inner["flush"]
        m.d.comb += here.eq(pixel + (tile >> part_bits))
        with m.If(self.valid & of_tile.all()):
            m.d.sync += [
                held.eq(here), held_part.eq(tile[:part_bits]), held_ends.eq(inner["last_group"]),
            ]
            with m.If(inner["last_group"]):
                m.d.sync += pixel.eq(pixel + (layer.tiles_last >> part_bits) + 1)
        begun = Signal()
        with m.If(self.clear):
            m.d.sync += [pixel.eq(layer.out_base), begun.eq(1)]
        m.d.comb += [
            Assume(~self.clear | ~(dut.passed | leaving)),
            Assume(~(dut.passed | leaving) | (self.record == layer.as_value())),
            Assert(begun | ~(self.running | dut.passed | leaving)),
        ]
        place = held
        if engine.passes > 1:
            into, out_of = inner["coming"], inner["leaving"]
            held_pass = Signal.like(into.number)
            with m.If(self.valid & of_tile.all()):
                m.d.sync += held_pass.eq(into.number)
            place = (held + inner["plane"])[: len(held)]
            with m.If(begun & ~self.clear):
                m.d.comb += Assert(
                    out_of.number == Mux(coming | leaving, held_pass, into.number)
                )
        with m.If(begun & ~self.clear):
            m.d.comb += [
                Assert(~dut.write_banks.any() | (dut.write_address == place)),
                Assert(address == Mux(coming | leaving, held, here)),
                Assert(part == Mux(coming | leaving, held_part, tile[:part_bits])),
                Assert(~(coming & leaving)),
                Assert(~coming | ((of_tile == 0) & (dut.last_group == held_ends))),
                Assert(~leaving | ((of_tile <= 1) & (inner["ends_word"] == held_ends))),
            ]
        return m


def _ways(function):
    """(conditions, result) of each way that a function of z3 integers may go, but to EngineError.

    A condition that it asks for is taken for true, and in another call for false.
    """
    results, open_ways = [], [[]]
    while open_ways:
        way, path = open_ways.pop(), []

        def decide(condition, way=way, path=path):
            if len(path) == len(way):
                open_ways.append([*way, False])
                way.append(True)
            path.append(condition if way[len(path)] else z3.Not(condition))
            return way[len(path) - 1]

        with patch.object(z3.BoolRef, "__bool__", decide), suppress(EngineError):
            results.append((path, function()))
    return results


def maps_apart():
    """What ``_allocate`` gives networks of up to 6 layers, on engines with a stem core or without.

    Maps of any sizes, at any depth of the memory. A map is read by the next layer, which writes the
    next one; a stem that works ahead writes its map on the other side while all the others are
    read and written.
    """
    depth = z3.Int("depth")
    claims = {}
    for stem, coded, layers in product((False, True), (False, True), range(2, 7)):
        sizes = [z3.Int(f"size_{index}") for index in range(layers)]
        engine = SimpleNamespace(stem=stem or None, spike_depth=depth)
        network = SimpleNamespace(coded=coded, name="", layer_name=str)
        with patch.object(program, "_spike_words", lambda network, engine, sizes=sizes: sizes):
            ways = _ways(partial(program._allocate, network, engine))
        for number, (conditions, (firsts, ahead)) in enumerate(ways):
            maps = [(first, first + size) for first, size in zip(firsts, sizes, strict=True)]
            # Neither word 0 nor that of the stamp, on any side.
            spared = 2 if stem else 1
            apart = [
                z3.And(first >= spared, end <= depth - spared) for first, end in maps
            ] + [z3.Or(a[1] <= b[0], b[1] <= a[0]) for a, b in pairwise(maps)]
            first, end = depth - maps[0][1], depth - maps[0][0]
            apart += [z3.Implies(ahead, z3.Or(end <= a[0], a[1] <= first)) for a in maps]
            given = [*conditions, *(size >= 1 for size in sizes)]
            name = f"{layers} layers{', stem core' * stem}{', coded' * coded}, way {number}"
            claims[name] = z3.Implies(z3.And(given), z3.And(apart))
    return claims


def fields_place_taps():
    """The steps that ``_windows`` gives a Conv or Stem lead to its taps, and those in the map.

    Of all sizes; a map begins at element 0, and ``compile_program`` adds where it does. With
    strips the height is that of the rows that are stored of one, but of a frame its own. Assumed is
    what ``Conv.conv_shape`` and ``sw.strips`` make of the sizes: that the last window ends in the
    padding, or in the last row that is stored.
    """
    names = "height width words kernel padding y x right below ky kx depth rows columns"
    v = SimpleNamespace(**{name: z3.Int(name) for name in names.split()})
    claims = {}
    for stride, pool, pixels, frame in product((1, 2), (1, 2), (1, 2), (False, True)):
        layer = SimpleNamespace(kernel=v.kernel, stride=stride, padding=v.padding)
        shape = SimpleNamespace(height=v.height, width=v.width, channels=None)
        cut, engine = SimpleNamespace(stored_rows=v.height), SimpleNamespace(pixels=pixels)
        with (
            patch.object(program, "_words_per_pixel", lambda channels, engine: v.words),
            patch.object(program, "strips", lambda network, engine, cut=cut: [cut]),
        ):
            record = program._windows(layer, shape, None if frame else cut, engine, 1)
            size, = program._plane_words(SimpleNamespace(shapes=[None, shape]), engine)
        above = v.padding if pixels == 1 or frame else 0
        row = (v.kernel - 1) * v.words + record["depth_last"] + record["row_jump"]
        element = (
            record["start"] + pool * (v.y * record["y_step"] + v.x * record["x_step"])
            + v.below * record["y_step"] + v.right * record["x_step"]
            + v.ky * row + v.kx * (record["depth_last"] + 1) + v.depth
        )
        tap_y = (v.y * pool + v.below) * stride + v.ky - above
        tap_x = (v.x * pool + v.right) * stride + v.kx - v.padding
        name = f"stride {stride}, pool {pool}{', strips' * (pixels > 1)}{', frame' * frame}"
        claims[f"{name}: address"] = element == (tap_y * v.width + tap_x) * v.words + v.depth
        counts = z3.And(
            v.kernel >= 1, v.kernel <= 8, v.padding >= 0, v.padding <= 3,
            *(z3.And(count >= 0, count < end) for count, end in (
                (v.y, v.rows), (v.x, v.columns), (v.below, pool), (v.right, pool),
                (v.ky, v.kernel), (v.kx, v.kernel),
            )),
            (v.rows * pool - 1) * stride + v.kernel <= v.height + 2 * above,
            (v.columns * pool - 1) * stride + v.kernel <= v.width + 2 * v.padding,
            v.height <= MAP_LIMIT, v.width <= MAP_LIMIT,
        )
        # Coordinates of 7 bits tell those in the map from those above and left of it.
        claims[f"{name}: coordinates"] = z3.Implies(counts, z3.And(*(
            ((tap % 128) < limit) == z3.And(tap >= 0, tap < side)
            for tap, limit, side in (
                (tap_y, record["in_height"], v.height), (tap_x, record["in_width"], v.width),
            )
        )))
    # Of a tap that is inside: the last of its pixel, of its row, of the map is no further.
    tap_y, tap_x, number, passes = z3.Ints("tap_y tap_x pass passes")
    inside = z3.And(*(z3.And(place >= 0, place < end) for place, end in (
        (tap_y, v.height), (tap_x, v.width), (v.depth, v.words), (number, passes),
    )))
    place = (tap_y * v.width + tap_x) * v.words + v.depth
    claims["inside"] = z3.Implies(inside, z3.And(place >= 0, place < size))
    # The planes of passes are as far apart as they are large.
    element = z3.Int("element")
    claims["inside, in passes"] = z3.Implies(
        z3.And(inside, element >= 0, element < size),
        z3.And(number * size + element >= 0, number * size + element < passes * size),
    )
    # A readout takes the words of a plane one after the other.
    cut = SimpleNamespace(rows=v.height)
    with patch.object(program, "_words_per_pixel", lambda channels, engine: v.words):
        record = program._windows(Readout(1), shape, cut, engine, 1)
    claims["readout"] = z3.And(record["start"] == 0, record["depth_last"] + 1 == size)
    return claims


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
        )
    ),
    Claim(
        "walk-fields", "the steps of a record lead to the words of the taps, which are in the map",
        fields_place_taps, Mutation(
            "sw/program.py", "row_jump=row - layer.kernel * depth + 1",
            "row_jump=row - layer.kernel * depth", "a kernel's next row is a word too near",
        ),
    ),
    Claim(
        "maps-apart", "the maps that a layer reads and writes have no word in common",
        maps_apart, Mutation(
            "sw/program.py", "if worst > room:", "if worst > room + 1:",
            "two maps may be a word too large",
        ),
    ),
]
