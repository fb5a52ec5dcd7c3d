"""From a tile's last operand to its groups of channels: none is lost, and none comes twice."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Fragment, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In

from hw.array import Array
from hw.mac import Mac
from hw.neurons import Neurons
from hw.pool import Pool
from hw.record import layer_layout
from hw.scale import Scale
from hw.tile import hand_out
from hw.writer import Writer
from sw.program import Region
from sw.record import Kind
from tests.formal.neurons import History
from tests.formal.progress import SequencerSpec
from tests.formal.proof import Circuit, elaborated, inside
from tests.formal.sums import SMALL
from tests.hw import support
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


class HandOutSpec(wiring.Component):
    """``latency`` cycles behind a tile's last operand its groups leave, channel 0 first.

    One a cycle, with ``slow`` one in four, of a MAC once in each pass in use. They hold the sums
    that stood at the end of the tile, and nothing else leaves. Assumed: last operands are as far
    apart as the groups need (proofs ``tiles-apart``), and the record stands until they have left.
    """

    def __init__(self, unit, *arguments):
        self.unit = unit(*arguments)
        super().__init__({
            name: member for name, member in self.unit.signature.members.items()
            if member.flow is In
        })

    def elaborate(self, platform):
        m = Module()
        unit = self.unit
        circuit, inner = elaborated(unit)
        m.submodules.unit = circuit
        registers = inside(circuit)
        m.d.comb += [
            getattr(unit, name).eq(getattr(self, name)) for name in self.signature.members
        ]
        slow, first_pass = (getattr(self, name, Const(0)) for name in ("slow", "first_pass"))
        passes = getattr(unit, "passes", 1)
        most = 4 * unit.groups * passes
        groups, apart = (Signal(range(most + 1), name=name) for name in ("all_groups", "apart"))
        m.d.comb += [
            groups.eq((passes - first_pass) * unit.groups),
            apart.eq(Mux(slow, groups << 2, groups)),
            Assume(first_pass < passes),
        ]

        # Cycles since the sums stood, as long as groups are to leave, and those that have left.
        history, busy = History(m, unit.latency), Signal()
        since, gone = (Signal(range(most + 1), name=name) for name in ("since", "gone"))
        record, stood = Cat(slow, first_pass), Signal(8)
        done = history.ago(self.valid & self.last, unit.latency - 1)
        m.d.sync += [stood.eq(record), since.eq(Mux(done, 0, since + 1))]
        with m.If(done):
            m.d.sync += busy.eq(1)
        with m.Elif(since + 1 == apart):
            m.d.sync += busy.eq(0)
        m.d.comb += [
            gone.eq(Mux(slow, (since + 3) >> 2, since)),
            Assume(~busy | ((record == stood) & (~done | (since + 1 == apart)))),
            Assert(unit.out_valid == (busy & (~slow | (since[:2] == 0)))),
            # What of the state is reached at all.
            Assert(registers["left"] == Mux(busy, groups - gone, 0)),
            Assert(~busy | (since < apart)),
        ]
        if "turn" in registers:
            m.d.comb += Assert(~busy | (registers["turn"] == since[:2]))

        # The sums as they stood, from the first that has not left.
        bits, sums = len(Cat(unit.out[0])), inner.get("currents", inner["accumulators"])
        held = Signal(bits * unit.pe, reset_less=True)
        with m.If(done):
            m.d.sync += held.eq(Cat(Cat(sums[p])[:bits] for p in range(unit.pe)))
        rotates = hasattr(self, "first_pass")
        for p in range(unit.pe):
            place = Signal(range(most * unit.units + unit.pe), name=f"place{p}")
            m.d.comb += place.eq(gone * unit.units + p)
            known = busy if rotates else busy & (place < unit.pe)
            channel = held.word_select(place[: unit.pe.bit_length() - 1], bits)
            m.d.comb += Assert(~known | (registers["waiting"].word_select(p, bits) == channel))
            if p < unit.units:
                m.d.comb += Assert(~unit.out_valid | (Cat(unit.out[p]) == channel))
        return m


class TilesApartSpec(SequencerSpec):
    """The last operands of two tiles are as far apart as the first one's groups need.

    As many cycles as a tile has groups; four times as many where it averages, and those of every
    pass in use for a stem. Of any two tiles, of a layer or of two; for any records, as
    ``SequencerSpec``.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, dut, walk, layer = self.engine, self.dut, self.walk, self.dut.layer
        longest = engine.groups * max(engine.passes, 4 if engine.has_stream else 1)
        stem, readout = layer.kind == Kind.STEM, layer.kind == Kind.READOUT
        times, passes, strip, in_pass = 1, 1, 0, 0
        if engine.has_stream:
            times = Mux(layer.average, 4, 1)
        if engine.passes > 1:
            passes = engine.passes - layer.first_pass
            times = Mux(stem, passes, times)
            in_pass = walk["pass_number"] - layer.first_pass
        if engine.pixels > 1:
            strip = dut.strip
        needed, need = (Signal(range(longest + 1), name=name) for name in ("needed", "need"))
        self.needed, self.need = needed, need
        m.d.comb += need.eq(engine.groups * times)

        # Cycles since the last one, and those it needs; up to the longest there are.
        self.offered, self.seen = dut.valid & dut.last_element, Signal()
        self.since = Signal(range(longest + 1), init=longest)
        since, seen = self.since, self.seen
        m.d.sync += since.eq(Mux(since == longest, longest, since + 1))
        with m.If(self.offered):
            m.d.sync += [since.eq(1), needed.eq(need), seen.eq(1)]
            m.d.comb += Assert(since >= needed)
        with m.If(dut.clear):
            m.d.sync += seen.eq(0)

        # What of the state is reached at all. Between layers there is a record to fetch.
        slack, depth, kx, ky = (walk[name] for name in ("slack", "depth", "kx", "ky"))
        m.d.comb += [Assert(since <= longest), Assert(needed <= longest)]
        with m.If(self.within("Fetch")):
            m.d.comb += Assert((since >= walk["word"]) | (since == longest))
        with m.If(self.within("Last word", "Clear", "Enter") | ~seen & self.within("Run")):
            m.d.comb += Assert(since == longest)
        # All tiles of a layer have as many operands: numbers of this one, and of the last.
        turns = Mux(readout, in_pass * engine.pixels + strip, 0)
        last_turn = Mux(readout, passes * engine.pixels - 1, 0)
        here, last = Signal(range(longest + 1)), Signal(range(longest + 1), name="last_place")
        for place, *counters in (
            (here, turns, ky, kx, depth),
            (last, last_turn, layer.kernel_last, layer.kernel_last, layer.depth_last),
        ):
            number, *others = counters
            for count, lasts in zip(
                others, (layer.kernel_last, layer.kernel_last, layer.depth_last), strict=True
            ):
                number = _upto(m, longest, number * _upto(m, longest, lasts + 1) + count)
            m.d.comb += place.eq(number)
        waits = _upto(m, longest, Mux(last < need, need - 1 - last, 0))
        with m.If(self.within("Enter", "Run")):
            m.d.comb += Assert(slack == Mux(here < need, need - 1 - here, 0))
        with m.If(self.within("Run", "Short tile") & seen):
            m.d.comb += Assert(needed == need)
        with m.If(self.within("Run") & seen):
            m.d.comb += Assert(since >= _upto(m, longest, waits + 1 + here))
        with m.If(self.within("Short tile")):
            m.d.comb += [
                Assert(seen & (here == 0) & (last < need)),
                Assert(since + slack + last == need - 1),
            ]
        return m


class LayerEndsSpec(TilesApartSpec):
    """``written`` comes so many cycles behind the last group of a layer's last tile, else never.

    Sequencer, handing out (the MACs' for a stem, else the array's), Pool and Writer: each takes the
    groups for those of the pixel, tile, strip, window and pass that the sequencer was at. Left out
    are the delays between them, which are constant: those of array and MACs (``array-hands-out``
    and so on) and of the neurons (``groups-reach-pool``).

    Assumed of records, and guaranteed by ``sw.program``: averages are those of convolutions, and a
    projection has a stream. Not of readouts, which end with their logits.
    """

    def elaborate(self, platform):
        m = super().elaborate(platform)
        engine, dut, walk, layer = self.engine, self.dut, self.walk, self.dut.layer
        stem, within = layer.kind == Kind.STEM, self.within
        known = stem | (layer.kind == Kind.CONV)
        if engine.has_stream:
            known |= (layer.kind == Kind.PROJECTION) & ~layer.average
            known &= ~(stem & layer.average)
        with m.If(within("Clear")):
            m.d.comb += Assume(known)
        pool, writer = Pool(
            engine.groups, engine.lanes * engine.units, engine.pixels, engine.steps, engine.passes
        ), Writer(engine)
        unit = SimpleNamespace(
            pe=engine.pe, units=engine.units, groups=engine.groups, passes=engine.passes,
            out=Signal(ArrayLayout(1, engine.units)), out_valid=Signal(),
        )
        passes, slow, first_pass, in_turns = None, None, Const(0), Const(0)
        if engine.passes > 1:
            first_pass, in_turns = layer.first_pass, walk["in_turns"]
            passes = Mux(stem, engine.passes - first_pass, 1)
            m.d.comb += pool.first_pass.eq(first_pass)
        if engine.pixels > 1:
            m.d.comb += pool.one_strip.eq(stem)
        if engine.has_stream:
            slow = layer.average
        leaving = Module()
        hand_out(leaving, unit, self.offered, [Const(0)] * engine.pe, passes, slow)
        registers = {}
        for name, part in (("leaving", leaving), ("pool", pool), ("writer", writer)):
            m.submodules[name] = circuit = Fragment.get(part, None)
            registers |= {f"{name}.{key}": value for key, value in inside(circuit).items()}
        m.d.comb += [
            pool.enable.eq(layer.pool), pool.clear.eq(dut.clear), pool.valid.eq(unit.out_valid),
            writer.layer.eq(layer), writer.clear.eq(dut.clear), writer.valid.eq(pool.out_valid),
            Assume(self.written == writer.written),
        ]

        # Tiles in their order: where the sequencer is, where it was at the last tile's end, and
        # the tile behind that.
        in_pass = walk["pass_number"] if engine.passes > 1 else Const(0)
        strip = dut.strip if engine.pixels > 1 else Const(0)
        counters = {
            "pass": in_pass, "sub": Mux(layer.pool, walk["sub"], 0), "strip": strip,
            "tile": walk["tile"], "x": walk["x"], "y": walk["y"],
        }
        firsts = {name: Const(0) for name in counters} | {"pass": first_pass}
        lasts = {
            "pass": Mux(in_turns, engine.passes - 1, first_pass), "sub": Mux(layer.pool, 3, 0),
            "strip": Mux(stem, engine.pixels - 1, 0), "tile": layer.tiles_last,
            "x": layer.out_width_last, "y": layer.out_height_last,
        }
        ended = {name: Signal(len(value), name=f"ended_{name}") for name, value in counters.items()}
        behind, carry = {}, 1
        for name, was in ended.items():
            behind[name] = Mux(carry, Mux(was == lasts[name], firsts[name], was + 1), was)
            carry = carry & (was == lasts[name])
        all_ended = carry
        with m.If(self.offered):
            m.d.sync += [was.eq(counters[name]) for name, was in ended.items()]
        running = within("Enter", "Run", "Short tile")
        with m.If(running & self.seen):
            m.d.comb += [Assert(counters[name] == behind[name]) for name in counters]
            m.d.comb += [
                Assert((firsts[name] <= was) & (was <= lasts[name])) for name, was in ended.items()
            ]
            m.d.comb += Assert(~all_ended)
        with m.If(running & ~self.seen):
            m.d.comb += [Assert(counters[name] == firsts[name]) for name in counters]
        with m.If(running | within("Drain")):
            m.d.comb += Assert(known)
        with m.If(running):
            m.d.comb += [Assert(counters[name] <= lasts[name]) for name in counters]
        with m.If(within("Drain")):
            m.d.comb += [Assert(all_ended), Assert(self.seen), Assert(self.needed == self.need)]

        # How far the last tile has left.
        left = registers["leaving.left"]
        groups = self.need if slow is None else Mux(slow, engine.groups, self.need)
        due = self.needed - self.since + 1
        if slow is not None:
            due = Mux(slow, due >> 2, due)
        with m.If(~self.seen | within("Fetch", "Last word", "Clear", "Enter", "Idle")):
            m.d.comb += Assert(left == 0)
        with m.Elif(self.since < self.needed):
            m.d.comb += Assert(left == due)
            if slow is not None:
                m.d.comb += Assert((registers["leaving.turn"] + 1)[:2] == self.since[:2])
        with m.Else():
            m.d.comb += Assert(left <= (1 if slow is None else ~slow))
        gone, leaves = Signal.like(left), left != 0
        m.d.comb += gone.eq(groups - left)

        # The next group that leaves, and what Pool and Writer take it for.
        group_bits = engine.groups.bit_length() - 1
        group = Mux(leaves, gone[:group_bits], 0)
        now = {name: Mux(leaves, ended[name], counters[name]) for name in counters}
        if engine.passes > 1:
            now["pass"] += Mux(leaves & stem, gone >> group_bits, 0)
        merged = (now["sub"] == lasts["sub"]) & (now["strip"] == lasts["strip"])
        place = registers["writer.group"]
        with m.If(running | (within("Drain") & leaves)):
            m.d.comb += [
                Assert(registers["pool.group"] == group),
                Assert(~layer.pool | (registers["pool.pixel"] == now["sub"])),
                Assert(place[:group_bits] == Mux(merged, group, 0)),
                Assert(place[group_bits:] == now["tile"]),
                Assert(writer.column == now["x"]), Assert(writer.row == now["y"]),
            ]
            if engine.pixels > 1:
                m.d.comb += Assert(~stem | (registers["pool.strip"] == now["strip"]))
            if engine.passes > 1:
                m.d.comb += [
                    Assert(registers["pool.passes.number"] == now["pass"]),
                    Assert(registers["pool.passes.group"] == group),
                    Assert(registers["writer.passes.group"] == place[:group_bits]),
                    Assert(
                        registers["writer.passes.number"] == Mux(merged, now["pass"], first_pass)
                    ),
                ]
        # ``written`` comes so many cycles behind the layer's last group, and else never.
        drained, quiet = within("Drain") & ~leaves, Signal(range(writer.latency + 1))
        m.d.sync += quiet.eq(Mux(drained, quiet + 1, 0))
        coming = Cat(registers["writer.ended"], registers.get("writer.last", []), writer.written)
        m.d.comb += [
            Assert(~drained | (quiet < writer.latency)), Assert(registers["writer.passes"] == 0),
            Assert(coming == Mux(drained, 1 << quiet, 0)),
        ]
        return m


class GroupsReachPoolSpec(wiring.Component):
    """A group of channels that fires comes to the Pool so many cycles later, and nothing else.

    Over those cycles, whatever the registers hold at first: so for all time.
    """

    def __init__(self, engine):
        self.neurons = Neurons(engine, Region.CHANNELS, Region.MEANS)
        super().__init__({"valid": In(1), "fires": In(1), "layer": In(layer_layout(engine))})

    def elaborate(self, platform):
        m = Module()
        neurons = self.neurons
        m.submodules.neurons, inner = elaborated(neurons)
        latency = 1 + inner["lif"].latency + Scale.latency * neurons.engine.has_stream
        m.d.comb += [
            neurons.valid.eq(self.valid), neurons.fires.eq(self.fires),
            neurons.layer.eq(self.layer),
        ]
        History(m, latency).follows(inner["pool"].valid, self.valid & self.fires, latency)
        return m


def _upto(m, most, value):
    """``value``, or ``most`` if it is more."""
    limited = Signal(range(most + 1), name="limited")
    m.d.comb += limited.eq(Mux(value < most, value, most))
    return limited


def _array(**others):
    return Array, SimpleNamespace(**{**vars(SMALL), **others})


PROOFS = [
    *(
        Circuit(
            f"tiles-apart{name}",
            "last operands of tiles are as far apart as their groups need to leave",
            partial(TilesApartSpec, engine), Mutation("hw/sequencer.py", *error), depth=2,
            inductive=True,
        )
        for name, engine, error in (
            ("", support.SMALL, (
                "with m.If(slack == 0):\n                    m.d.sync += slack.eq(shortest)\n",
                "with m.If(slack == 0):\n                    m.d.sync += slack.eq(shortest - 1)\n",
                "a tile behind a short one is shorter by a cycle",
            )),
            ("-stream", replace(support.PAIRS, stream_depth=64), (
                "groups = Mux(layer.average, 4 * groups, groups)",
                "groups = Mux(layer.average, 4 * groups - 1, groups)",
                "averages have a cycle too few",
            )),
            ("-passes", support.PASSES, (
                "(engine.passes - layer.first_pass) * engine.groups",
                "(engine.passes - 1) * engine.groups", "a stem has a pass less",
            )),
            ("-strips", support.STRIPS, (
                "slack.eq(shortest),\n                ]", "slack.eq(0),\n                ]",
                "the first tile of a layer may be shorter",
            )),
            ("-strips-passes", support.STRIPS_IN_PASSES, (
                "shortest = Mux(is_stem, in_all, groups) - 1", "shortest = groups - 1",
                "passes of a stem are not waited for",
            )),
        )
    ),
    *(
        Circuit(
            f"layer-ends{name}",
            "the last operand of a layer of spikes leads to its last word, and no other does",
            partial(LayerEndsSpec, engine), Mutation(*error), depth=2, inductive=True,
        )
        for name, engine, error in (
            ("", support.SMALL, (
                "hw/pool.py", "group.eq(0), pixel.eq(pixel + 1)]", "group.eq(0)]",
                "windows are not counted",
            )),
            ("-stream", replace(support.PAIRS, stream_depth=64), (
                "hw/tile.py", "with m.Elif(unit.out_valid):", "with m.Elif(left != 0):",
                "slow groups leave at once",
            )),
            ("-passes", support.PASSES, (
                "hw/passes.py", "m.d.sync += self.number.eq(self.first_pass)",
                "m.d.sync += self.number.eq(0)", "the first pass is always number 0",
            )),
            ("-strips", support.STRIPS, (
                "hw/pool.py", "with m.If(self.valid & ends & last):",
                "with m.If(self.valid & ends):", "a strip has a single window",
            )),
            ("-strips-passes", support.STRIPS_IN_PASSES, (
                "hw/writer.py", "ended.eq(self.valid & last_spikes)",
                "ended.eq(self.valid & last_group & last_column)", "any row is the last",
            )),
        )
    ),
    *(
        Circuit(
            f"{name}-hands-out",
            "each group of a finished tile leaves once, in order, at its time, and nothing else",
            partial(HandOutSpec, *unit), Mutation("hw/tile.py", *error), depth=7, inductive=True,
        )
        for name, unit, error in (
            ("array", _array(), (
                "m.d.sync += left.eq(left - 1)", "m.d.sync += left.eq(left - 1 - (left == 2))",
                "the last group of two is lost",
            )),
            ("array-slow", _array(pe=8, simd=8, units=2, groups=4, deep=True, has_stream=True), (
                "turn.eq(Mux(done, 0, turn + 1))", "turn.eq(turn + 1)",
                "the first group waits for its turn",
            )),
            ("mac", (Mac, 4, 1, 16), (
                "waiting[p].eq(waiting[p + unit.units]) for p in range(unit.pe - unit.units)",
                "waiting[p].eq(waiting[p + unit.units]) for p in range(unit.pe - unit.units - 1)",
                "the last group is the one before it",
            )),
            ("mac-passes", (Mac, 4, 1, 16, 4), (
                "unit.passes * unit.groups\n", "(unit.passes - 1) * unit.groups\n",
                "all passes are one too many",
            )),
        )
    ),
    *(
        Circuit(
            f"groups-reach-pool{name}",
            "a group of channels comes to the Pool so many cycles later, and nothing else",
            partial(GroupsReachPoolSpec, engine), Mutation(*error), depth=12, anywhere=True,
            slow=engine.has_stream,
        )
        for name, engine, error in (
            ("", support.SMALL, (
                "hw/lif.py", "range(self.latency):\n            following = Signal(name=f\"valid",
                "range(self.latency - 1):\n            following = Signal(name=f\"valid",
                "spikes are late by a cycle",
            )),
            ("-stream", replace(support.SMALL, stream_depth=16), (
                "hw/neurons.py", "for stage in range(Scale.latency):",
                "for stage in range(Scale.latency - 1):", "scaled currents are late by a cycle",
            )),
        )
    ),
]
