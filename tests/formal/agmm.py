"""The mean of a convolution's outputs without computing them, and the gain that is made of it."""

from dataclasses import replace
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import z3
from amaranth.hdl import Assert, Assume, Cat, Fragment, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from hw.agmm import Gain, Mean
from hw.bus import HostWrite
from hw.record import layer_layout
from sw.bounds import position_table
from sw.cycles import GAIN_STEP_CYCLES
from sw.engine import Engine
from sw.formats import (
    FACTOR_BITS,
    FACTOR_FRACTION,
    GAIN_FRACTION,
    INDEX_LIMIT,
    MEAN_BITS,
    TABLE_BITS,
    mean_index,
)
from sw.image import MEAN_SHIFTS
from sw.positions import Axis
from tests.formal.integers import Integer
from tests.formal.proof import Circuit, Claim, elaborated, inside
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


DEPTHS = dict(weight_depth=64, spike_depth=64, channel_depth=64, mean_depth=64)
ONE = Engine(pe=8, simd=16, lanes=2, **DEPTHS)
PASSES = replace(ONE, passes=2)
PAIRS = replace(ONE, simd=32, units=2)


class _Signs(np.ndarray):
    """Weights, each of them any: numpy's ``where`` of them is an array of z3 expressions."""

    def __array_function__(self, function, types, args, kwargs):
        assert function is np.where and not kwargs
        weights, positive, negative = args
        chosen = [z3.If(weight, positive, negative) for weight in weights.flat]
        return np.array(chosen, object).reshape(self.shape)


def _direct(layer, shape, weights, scales, spikes):
    """Sum over all outputs of scale times sum of +-1 over the spikes below the kernel."""
    outputs, inputs = weights.shape[:2]
    rows, columns = (
        range(-layer.padding, size + layer.padding - layer.kernel + 1, layer.stride)
        for size in (shape.height, shape.width)
    )
    terms = []
    for o, top, left in product(range(outputs), rows, columns):
        for i, dy, dx in product(range(inputs), range(layer.kernel), range(layer.kernel)):
            y, x = top + dy, left + dx
            if 0 <= y < shape.height and 0 <= x < shape.width:
                weight = z3.If(weights[o, i, dy, dx], z3.IntVal(1), z3.IntVal(-1))
                terms.append(scales[o] * weight * spikes[i, y, x])
    return z3.Sum(terms)


class MeanSpec(wiring.Component):
    """Entries of the right pixel class and channel are read, and those of spikes summed up.

    The record is of any map, and of any classes along an axis as those of ``sw.positions``: a
    period of 1 or 2, and 15 classes at most. Assumed: the record stays while a layer runs (the
    Sequencer); groups come as from the Writer, four or more a pixel, and column and row move on a
    cycle before the last of them is passed; and none is on its way at a clear. Contents of the
    table are anything.

    With passes, the groups of a tile come once in each pass in use, and the same entries are read
    for each; a pass's total is of its spikes alone. Assumed: as the Writer counts them
    (``layer-ends-passes``), a pixel ends with the last group of the last pass; and a layer is left
    with a whole tile: Mean does not start to count groups anew at a clear.
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "layer": In(layer_layout(engine)), "clear": In(1), "stop": In(1),
            "coming": In(1), "ends": In(1),
            "spikes": In(data.ArrayLayout(engine.lanes, engine.units)), "host": In(HostWrite),
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        mean = Mean(engine)
        fragment, own_passes = elaborated(mean, method="_follow_passes")
        m.submodules.mean, own = fragment, inside(fragment)
        wiring.connect(m, wiring.flipped(self.host), mean.host)

        running, layer_was = Signal(), Signal.like(layer.as_value())
        m.d.sync += layer_was.eq(layer)
        with m.If(running):
            m.d.comb += Assume(layer.as_value() == layer_was)
        with m.If(self.stop):
            m.d.sync += running.eq(0)
        axes = {
            axis: tuple(getattr(layer, f"mean_{name}_{axis}") for name in ("low", "middle", "high"))
            for axis in "xy"
        }
        lasts = {"x": layer.out_width_last, "y": layer.out_height_last}
        for axis, (low, middle, high) in axes.items():
            last = lasts[axis]
            m.d.comb += Assume(
                (last < 127) & (high >= 1) & (low <= high) & (high <= last + 1)
                & (low < middle) & (middle <= low + 2) & (middle + last + 1 - high <= 15)
            )

        def class_of(axis, position):
            low, middle, high = axes[axis]
            inner = (position - low)[:7]
            turn = Mux(middle - low == 1, 0, inner[0])
            return Mux(position < low, position,
                       Mux(position >= high, middle + position - high, low + turn))

        # As the Writer does it: the pixel of what comes, and a cycle later of what is passed.
        came = Signal(2)
        x, y, passed_x, passed_y = (Signal(7, name=name) for name in ("x", "y", "u", "v"))
        passed, last_group, quiet = Signal(), Signal(), Signal(3, init=5)
        inside_map = y <= layer.out_height_last
        with m.If(self.coming):
            m.d.comb += [
                Assume(running & ~self.clear & inside_map & (~self.ends | (came == 3))),
            ]
            m.d.sync += came.eq(Mux(self.ends, 0, Mux(came == 3, 3, came + 1)))
            with m.If(self.ends):
                m.d.sync += x.eq(x + 1)
                with m.If(x == layer.out_width_last):
                    m.d.sync += [x.eq(0), y.eq(y + 1)]
        m.d.sync += [
            passed.eq(self.coming), last_group.eq(self.ends), passed_x.eq(x), passed_y.eq(y),
            quiet.eq(Mux(self.coming, 0, Mux(quiet == 5, 5, quiet + 1))),
        ]
        m.d.comb += [
            mean.layer.eq(layer), mean.clear.eq(self.clear), mean.passed.eq(passed),
            mean.passed_spikes.eq(self.spikes), mean.last_group.eq(last_group),
            mean.column.eq(x), mean.row.eq(y),
        ]
        with m.If(self.clear):
            m.d.comb += Assume(quiet == 5)

        # Where the entry of what is passed lies, and how long the pixel has been known.
        offset, age = Signal(16), Signal(2)
        m.d.sync += age.eq(Mux(age == 3, 3, age + 1))
        with m.If(passed):
            m.d.sync += offset.eq(offset + layer.mean_classes)
            with m.If(last_group):
                m.d.sync += [offset.eq(0), age.eq(0)]
        of_passes = [passed]
        if engine.passes > 1:
            of_passes = self._in_passes(m, own | own_passes, running, passed, last_group, offset)
        with m.If(self.clear):
            m.d.sync += [
                running.eq(1), came.eq(0), offset.eq(0), age.eq(0),
                *(position.eq(0) for position in (x, y, passed_x, passed_y)),
            ]

        def start(kind):
            # Of the circuit's own classes, which are asserted: z3 knows no two products as one.
            classes = own[f"{kind}class_y"] * layer.mean_classes_x + own[f"{kind}class_x"]
            return (layer.mean_base + classes)[: len(own["pointer"])]

        pointer = Signal.like(own["pointer"])
        m.d.comb += pointer.eq(start("") + offset)
        wraps = passed_x == layer.out_width_last
        next_x, next_y = Mux(wraps, 0, passed_x + 1), passed_y + wraps
        with m.If(running & (passed_y <= layer.out_height_last)):
            m.d.comb += [
                Assert(own["class_x"] == class_of("x", passed_x)),
                Assert(own["class_y"] == class_of("y", passed_y)),
                Assert(own["pointer"] == pointer),
                Assert(passed_x <= layer.out_width_last),
            ]
            with m.If(next_y <= layer.out_height_last):
                with m.If(age >= 1):
                    m.d.comb += [
                        Assert(own["next_class_x"] == class_of("x", next_x)),
                        Assert(own["next_class_y"] == class_of("y", next_y)),
                    ]
                with m.If(age >= 2):
                    m.d.comb += Assert(own["next_start"] == start("next_"))
        with m.If(running):
            m.d.comb += [
                Assert((age == 3) | (came <= age + 1)),
                Assert(~(passed & last_group) | (age == 3)),
                Assert(
                    Mux(passed & last_group,
                        (x == next_x) & (y == next_y), (x == passed_x) & (y == passed_y))
                ),
                Assert(~passed | (passed_y <= layer.out_height_last)),
                Assert(y <= layer.out_height_last + 1),
            ]
        m.d.comb += [
            Assert(own["enable"] == passed), Assert(own["address"] == own["pointer"]),
            Assert(passed == (quiet == 0)), Assert(quiet <= 5), Assert(passed == mean.passed),
        ]

        # What the table gives a cycle later belongs to the spikes of then.
        for p, of_pass in enumerate(of_passes):
            spikes = Signal.like(self.spikes)
            m.d.sync += spikes.eq(Mux(of_pass, self.spikes, 0))
            for t in range(engine.lanes):
                total = Signal(signed(MEAN_BITS), name=f"sum{t}")
                entries = [
                    Mux(spikes[u][t], own["table.data"].word_select(u, TABLE_BITS).as_signed(), 0)
                    for u in range(engine.units)
                ]
                addend = sum(entries)
                for stage in range(mean.latency - 2):
                    late = Signal(signed(TABLE_BITS + 2), name=f"addend{t}_{stage}")
                    m.d.sync += late.eq(addend)
                    addend = late
                m.d.sync += total.eq(Mux(self.clear, 0, total + addend))
                m.d.comb += Assert(mean.totals[p * engine.lanes + t] == total)
        return m

    def _in_passes(self, m, own, running, passed, last_group, offset):
        """Sets ``offset`` back behind all passes of a tile but the last.

        Returns for each pass whether what is passed is of it.
        """
        groups, passes, layer = self.engine.groups, self.engine.passes, self.layer
        group, tile, number = Signal(range(groups)), Signal(16), Signal(range(passes))
        ends_pass, last_pass = group == groups - 1, number == passes - 1
        with m.If(passed):
            m.d.comb += Assume(~last_group | (ends_pass & last_pass))
            m.d.sync += group.eq(group + 1)
            with m.If(ends_pass & last_pass):
                m.d.sync += [number.eq(layer.first_pass), tile.eq(Mux(last_group, 0, tile + 1))]
            with m.Elif(ends_pass):
                m.d.sync += [
                    number.eq(number + 1), offset.eq(offset - (groups - 1) * layer.mean_classes),
                ]
        with m.If(self.clear):
            m.d.comb += Assume(group == 0)
            m.d.sync += [tile.eq(0), number.eq(layer.first_pass)]
        m.d.comb += [
            Assert(own["group"] == group), Assert(own["passes.group"] == group),
            Assert(~(running | passed) | (own["passes.number"] == number)),
        ]
        # Modulo the table's depth: of wider products z3 makes nothing.
        address_bits = len(own["pointer"])
        place = Cat(group, tile)[:address_bits]
        tile_start = (own["pointer"] - group * layer.mean_classes)[:address_bits]
        with m.If(running):
            m.d.comb += [
                Assert(offset[:address_bits] == (place * layer.mean_classes)[:address_bits]),
                Assert((group == 0) | (own["tile_start"] == tile_start)),
            ]
        return [passed & (number == p) for p in range(passes)]


def _mean_claims():
    claims = {}
    shapes = (3, 5), (4, 4), (5, 3)
    for (height, width), kernel, stride, channels in product(shapes, (1, 2, 3, 5), (1, 2), (1, 2)):
        for padding in range(kernel // 2 + 1):
            if min(height, width) + 2 * padding < kernel:
                continue
            layer = SimpleNamespace(kernel=kernel, stride=stride, padding=padding)
            shape = SimpleNamespace(height=height, width=width)
            weights = np.empty((2, channels, kernel, kernel), object)
            for place in np.ndindex(weights.shape):
                weights[place] = z3.Bool(f"w{place}")
            spikes = np.empty((channels, height, width), object)
            for place in np.ndindex(spikes.shape):
                spikes[place] = z3.Int(f"s{place}")
            scales = np.array(z3.Ints("a b"), object)
            table = position_table(layer, shape, weights.view(_Signs), scales)
            y_axis, x_axis = (Axis.of(size, kernel, stride, padding) for size in (height, width))
            once = z3.Sum([
                spikes[i, y, x] * table[i, y_axis.class_of(y), x_axis.class_of(x)]
                for i, y, x in np.ndindex(spikes.shape)
            ])
            name = f"{height}x{width} kernel {kernel} stride {stride} padding {padding}"
            claims[f"{name} channels {channels}"] = (
                once == _direct(layer, shape, weights, scales, spikes)
            )
    return claims


class GainSpec(wiring.Component):
    """What is loaded becomes a gain after a multiplication; the table is read where it should be.

    The product is followed a bit of the factor at a time, exact and without a shift, for any mean
    whose offset and shift bring it to 16 bits (``sw.bounds.check`` refuses others). Assumed of the
    Sequencer: it waits as long as the Gain is busy and a cycle longer, and its record and the
    totals stay until the gain stands. Contents of the table are anything: what is read from it two
    cycles after busy fell is the gain.
    """

    def __init__(self, engine):
        self.engine = engine
        places = engine.lanes * engine.passes
        super().__init__({
            "load": In(1), "data": In(16), "exact_gain": In(1), "first_pass": In(4),
            "mean_shift": In(5), "mean_offset": In(signed(MEAN_BITS)),
            "totals": In(data.ArrayLayout(signed(MEAN_BITS), places)),
        })

    def elaborate(self, platform):
        m = Module()
        engine, places = self.engine, self.engine.lanes * self.engine.passes
        gain = Gain(engine)
        m.submodules.gain = fragment = Fragment.get(gain, None)
        own = inside(fragment)
        m.d.comb += [
            gain.load.eq(self.load), gain.data.eq(self.data), gain.totals.eq(self.totals),
            gain.layer.exact_gain.eq(self.exact_gain), gain.layer.mean_shift.eq(self.mean_shift),
            gain.layer.mean_offset.eq(self.mean_offset),
        ]
        first_place = 0
        if engine.passes > 1:
            m.d.comb += gain.layer.first_pass.eq(self.first_pass)
            m.d.comb += Assume(self.first_pass < engine.passes)
            first_place = self.first_pass * engine.lanes

        # Cycles since the load, while they matter.
        since, place, was_busy = Signal(range(GAIN_STEP_CYCLES + 2)), Signal(8), Signal()
        starts = self.load & self.exact_gain
        held = Cat(self.exact_gain, self.mean_shift, self.mean_offset, self.totals)
        was_held = Signal.like(held)
        m.d.sync += [was_held.eq(held), was_busy.eq(gain.busy)]
        m.d.comb += Assume(~(self.load & was_busy))
        with m.If(since != 0):
            m.d.comb += Assume(held == was_held)
            m.d.sync += since.eq(Mux(since == GAIN_STEP_CYCLES + 1, 0, since + 1))
        if engine.passes > 1:
            first_pass_was = Signal.like(self.first_pass)
            m.d.sync += first_pass_was.eq(self.first_pass)
            with m.If((since != 0) | (place != 0)):
                m.d.comb += Assume(self.first_pass == first_pass_was)
        with m.If(since == GAIN_STEP_CYCLES):
            last = place + first_place == places - 1
            m.d.sync += place.eq(Mux(last, 0, place + 1))

        total = self.totals.as_value().word_select(
            (place + first_place)[: (places - 1).bit_length()] if places > 1 else 0, MEAN_BITS
        ).as_signed()
        wide = Signal(signed(MEAN_BITS + 2))
        m.d.comb += wide.eq((total + self.mean_offset) >> self.mean_shift)
        factor, scaled = Signal(FACTOR_BITS), Signal(signed(16))
        exact = Signal(signed(16 + FACTOR_BITS))
        with m.If(starts):
            m.d.comb += Assume((wide >= -(1 << 15)) & (wide < 1 << 15))
            m.d.comb += Assume((self.mean_shift[:2] == 0) & (self.mean_shift <= MEAN_BITS - 16))
            m.d.sync += [
                since.eq(1), factor.eq(self.data), scaled.eq(wide), exact.eq(0),
            ]
        for bit in range(FACTOR_BITS):
            with m.If(since == bit + 1):
                term = Mux(factor[bit], scaled << bit, 0)
                m.d.sync += exact.eq(exact - term if bit == FACTOR_BITS - 1 else exact + term)
                m.d.comb += [
                    Assert(own["product"] == exact >> bit), Assert(own["factor"] == factor >> bit),
                    Assert((own["product"] >= -(1 << 15)) & (own["product"] < 1 << 15)),
                ]

        # Its way ends, and that a cycle after the last bit.
        m.d.comb += [
            Assert(gain.busy == (starts | ((since != 0) & (since < GAIN_STEP_CYCLES)))),
            Assert(own["phase"] == since),
            Assert(was_busy == ((since != 0) & (since <= GAIN_STEP_CYCLES))),
            Assert(place + first_place < places),
        ]
        if places > 1:
            m.d.comb += Assert(own["step"] == place)
        with m.If((since != 0) & (since < GAIN_STEP_CYCLES)):
            m.d.comb += [
                Assert(own["scaled"] == scaled), Assert(wide == scaled),
            ]
        scaled_product = exact >> FACTOR_FRACTION
        index = Mux(
            scaled_product < -INDEX_LIMIT, -INDEX_LIMIT,
            Mux(scaled_product > INDEX_LIMIT - 1, INDEX_LIMIT - 1, scaled_product),
        )
        with m.If(since == GAIN_STEP_CYCLES):
            m.d.comb += [
                Assert(own["enable"]), Assert(own["product"] == scaled_product),
                Assert(own["address"] == index + INDEX_LIMIT),
            ]
        with m.Else():
            m.d.comb += Assert(~own["enable"])

        moves, entry = Signal(), Signal(GAIN_FRACTION + 1)
        gains_were = Signal.like(gain.gains.as_value())
        m.d.sync += [
            gains_were.eq(gain.gains.as_value()),
            moves.eq(Mux(self.exact_gain, since == GAIN_STEP_CYCLES + 1, self.load)),
            entry.eq(Mux(self.exact_gain, own["sigmoid.data"], self.data)),
        ]
        started = Signal()
        m.d.sync += started.eq(1)
        with m.If(started):
            after = Cat(gains_were[GAIN_FRACTION + 1 :], entry)
            m.d.comb += Assert(gain.gains.as_value() == Mux(moves, after, gains_were))
        return m


def _index_claims():
    mean = z3.Int("mean")
    bits = z3.Bools(" ".join(f"bit{place}" for place in range(FACTOR_BITS)))
    weights = [1 << place for place in range(FACTOR_BITS - 1)] + [-(1 << FACTOR_BITS - 1)]
    terms = [z3.If(bit, z3.IntVal(weight), 0) for bit, weight in zip(bits, weights, strict=True)]

    def clamp(number, low, high):
        value = number.term
        return z3.If(value < low, low, z3.If(value > high, high, value))

    # What the circuit adds, bit by bit, and then all at once: of both together z3 makes nothing.
    claims = {
        f"bit {place}": z3.If(bit, mean * weight, 0) == mean * term
        for place, (bit, weight, term) in enumerate(zip(bits, weights, terms, strict=True))
    }
    for shift in MEAN_SHIFTS:
        scaled = mean / (1 << shift)
        exact = z3.Sum([scaled * term for term in terms])
        claims[f"shift {shift}"] = (
            mean_index(Integer(mean), shift, Integer(z3.Sum(terms)), clamp)
            == clamp(Integer(exact) >> FACTOR_FRACTION, -INDEX_LIMIT, INDEX_LIMIT - 1)
        )
    return claims


PROOFS = [
    Claim(
        "agmm-mean", "the sum of table entries over the spikes is the sum of the convolution",
        _mean_claims,
        Mutation("sw/positions.py", "if position >= self.high:", "if position > self.high:",
                 "the first position behind the middle is of the middle's classes"),
    ),
    Claim(
        "agmm-index", "the partial products of mean and factor give the index of eq. 11",
        _index_claims,
        Mutation("sw/formats.py", "return clamp(scaled, -INDEX_LIMIT, INDEX_LIMIT - 1)",
                 "return clamp(scaled, -INDEX_LIMIT, INDEX_LIMIT)",
                 "the index leaves the table at its upper end"),
    ),
    Circuit(
        "gain", "a gain is looked up at the exact index, after as many cycles as are counted on",
        partial(GainSpec, ONE),
        Mutation("hw/agmm.py", "sign.eq(phase == FACTOR_BITS)", "sign.eq(phase == look_up)",
                 "the sign of the factor counts as a bit"),
        depth=2, inductive=True,
    ),
    Circuit(
        "gain-passes", "so is each of several passes, in its place", partial(GainSpec, PASSES),
        Mutation("hw/agmm.py", "with m.If(place == engine.lanes * engine.passes - 1):",
                 "with m.If(step == engine.lanes * engine.passes - 1):",
                 "fewer passes do not start over"),
        depth=2, inductive=True, slow=True,
    ),
    Circuit(
        "mean", "the entries that are summed up are those of the class and channel of each spike",
        partial(MeanSpec, ONE),
        Mutation("hw/agmm.py", "return Mux(following == high, middle,",
                 "return Mux(following >= high, middle,",
                 "behind the last border all positions are of one class"),
        depth=2, inductive=True, slow=True,
    ),
    Circuit(
        "mean-pairs", "so are those of two channels at once", partial(MeanSpec, PAIRS),
        Mutation("hw/agmm.py", "signed(TABLE_BITS + engine.units.bit_length() - 1)",
                 "signed(TABLE_BITS)", "the carry of several entries' sum is dropped"),
        depth=4, inductive=True, slow=True,
    ),
    Circuit(
        "mean-passes", "so are those of each of several passes, which are summed up apart",
        partial(MeanSpec, replace(ONE, passes=4)),
        Mutation("hw/agmm.py", "with m.If((group == engine.groups - 1) & ~passes.last):",
                 "with m.If((group == engine.groups - 1) & passes.first):",
                 "of a tile's passes only the second starts over"),
        depth=2, inductive=True, slow=True,
    ),
    Circuit(
        "mean-pairs-passes", "so are those of two channels at once, in each pass",
        partial(MeanSpec, replace(PAIRS, passes=2)),
        Mutation("hw/agmm.py", "for stage in range(self.latency - 1):",
                 "for stage in range(self.latency - 2):",
                 "the pass arrives a cycle before its spikes"),
        depth=4, inductive=True, slow=True,
    ),
]
