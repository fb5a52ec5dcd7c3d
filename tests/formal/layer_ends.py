"""From a tile's last operand to the layer's last word: it is reached, and not before."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

from amaranth.hdl import Assert, Assume, Cat, Const, Fragment, Module, Mux, Signal
from amaranth.lib.data import ArrayLayout

from hw.pool import Pool
from hw.tile import hand_out
from hw.writer import Writer
from sw.record import Kind
from tests.formal.progress import SequencerSpec
from tests.formal.proof import Circuit, inside
from tests.hw import support
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


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


def _upto(m, most, value):
    """``value``, or ``most`` if it is more."""
    limited = Signal(range(most + 1), name="limited")
    m.d.comb += limited.eq(Mux(value < most, value, most))
    return limited


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
]
