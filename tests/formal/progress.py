"""Whatever runs comes to an end: no layer record keeps the sequencer busy for ever."""

from dataclasses import replace
from functools import partial

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.agmm import Gain
from hw.bus import HostWrite
from hw.record import layer_layout
from hw.sequencer import Sequencer
from hw.writer import Writer
from sw.cycles import GAIN_STEP_CYCLES
from sw.record import Kind, field_words, record_words
from tests.formal.proof import Circuit, elaborated, inside, ongoing
from tests.hw.support import PAIRS, PASSES, SMALL, STRIPS, STRIPS_IN_PASSES
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS", "SequencerSpec", "WriterSpec"]


class SequencerSpec(wiring.Component):
    """A rank that rises in every cycle that does not wait for another unit, until busy falls.

    The rank is a number of fixed width: so busy falls after finitely many such cycles. What is
    waited for: ``gain_busy`` to fall (proof ``gain-ends``) and ``written`` to come. Records are any
    words, written by the host at any time; the count of layers is any. Assumed is of an engine with
    strips only, and guaranteed by ``sw.program``: a readout has no pooling.
    """

    def __init__(self, engine):
        self.engine, self.dut = engine, Sequencer(engine)
        super().__init__({
            "start": In(1), "first": In(8), "count": In(8), "gain_busy": In(1), "written": In(1),
            "host": In(HostWrite),
        })

    def within(self, *names):
        """Whether the sequencer is in a state of these."""
        return Cat(ongoing(self.walk, name) for name in names).any()

    def elaborate(self, platform):
        m = Module()
        engine, dut = self.engine, self.dut
        circuit, walk = elaborated(dut)
        m.submodules.walk, self.walk = circuit, walk
        layer, within = dut.layer, self.within

        wiring.connect(m, wiring.flipped(self.host), dut.host)
        m.d.comb += [
            dut.start.eq(self.start), dut.first.eq(self.first), dut.count.eq(self.count),
            dut.gain_busy.eq(self.gain_busy), dut.written.eq(self.written),
        ]
        depth, kx, ky, sub, tile, x, y, slack, word, loaded, left = (
            walk[name] for name in (
                "depth", "kx", "ky", "sub", "tile", "x", "y", "slack", "word", "loaded", "left",
            )
        )
        no, strip, in_pass, first_pass = Const(0), Const(0), Const(0), Const(0)
        last_strip, last_pass = engine.pixels - 1, engine.passes - 1
        stem, readout, in_turns = layer.kind == Kind.STEM, layer.kind == Kind.READOUT, no
        if engine.pixels > 1:
            strip = dut.strip
            with m.If(within("Clear")):
                m.d.comb += Assume(~(readout & layer.pool))
        if engine.passes > 1:
            in_pass, first_pass, in_turns = walk["pass_number"], layer.first_pass, walk["in_turns"]

        # The rank: layers left, stages of a layer, and in the walk its counters, outermost first.
        stages = ("Fetch", "Last word", "Clear", "Enter", "Run", "Drain")
        running, short = within("Run", "Short tile"), within("Short tile")
        steps = Cat(
            Mux(short, ~slack, 0)[: len(slack)], ~short, depth, kx, ky, Mux(readout, strip, 0),
            in_pass, sub, Mux(readout, 0, strip), tile, x, y,
        )
        stage, step = Signal(range(len(stages))), Signal(len(steps))
        for index, name in enumerate(stages):
            with m.If(within(name) | (short & (name == "Run"))):
                m.d.comb += stage.eq(index)
        m.d.comb += step.eq(Mux(running, steps, Mux(within("Fetch"), word, 0)))
        rank = Cat(step, stage, ~(left - 1)[: len(left)])
        before, rises, was_busy = Signal(len(rank)), Signal(), Signal()
        waits = Mux(
            within("Drain"), ~self.written, within("Fetch", "Last word") & self.gain_busy
        )
        m.d.sync += [before.eq(rank), rises.eq(~waits), was_busy.eq(dut.busy)]
        with m.If(was_busy & dut.busy):
            m.d.comb += Assert(Mux(rises, rank > before, rank >= before))
        m.d.comb += Assert(dut.busy == ~within("Idle"))
        # A gain comes only if there was none in work: the other half of ``gain-ends``.
        gain_was_busy = Signal()
        m.d.sync += gain_was_busy.eq(self.gain_busy)
        m.d.comb += Assert(~(dut.gain_load & gain_was_busy))

        # What of the state is reached at all. Of the fetch: all fields come before the gains.
        fields, words = field_words(engine), record_words(engine, engine.passes)
        last_word = words - 1 - first_pass * engine.lanes
        with m.If(walk["word_valid"]):
            m.d.comb += [
                Assert(within("Fetch", "Last word")),
                Assert((loaded + 1)[: len(word)] == word),
                Assert(within("Fetch") | (loaded >= fields)),
            ]
        with m.If(within("Fetch")):
            m.d.comb += Assert(word <= last_word)
        # Of the walk: each counter up to its last, passes and strips not in use at their first.
        walks = running | within("Enter")
        with m.If(walks):
            m.d.comb += [
                Assert(counter <= last) for counter, last in (
                    (depth, layer.depth_last), (kx, layer.kernel_last), (ky, layer.kernel_last),
                    (tile, layer.tiles_last), (x, layer.out_width_last), (y, layer.out_height_last),
                    (in_pass, Mux(in_turns | readout, last_pass, first_pass)),
                    (first_pass, in_pass),
                    (strip, Mux(stem | readout, last_strip, 0)),
                )
            ]
            if engine.pixels > 1:
                m.d.comb += Assert(~(readout & layer.pool))
        # The outer counters' ends are known a cycle late: in time, even if a tile is one operand.
        late, corner = Signal(), (depth == 0) & (kx == 0) & (ky == 0)
        m.d.sync += late.eq(within("Clear") | (within("Run") & walk["tile_end"]))
        single = (layer.depth_last == 0) & (layer.kernel_last == 0) & (
            ~readout | ((first_pass == last_pass) & (last_strip == 0))
        )
        last = 1
        if engine.passes > 1:
            last &= ~in_turns | (in_pass == last_pass)
            with m.If(running & ~late):
                m.d.comb += Assert(inside(circuit)["pass_last"] == last)
        for name, condition in (
            ("window", ~layer.pool | (sub == 3)),
            *([("strip", ~stem | (strip == last_strip))] if engine.pixels > 1 else []),
            ("pixel", tile == layer.tiles_last),
            ("line", x == layer.out_width_last),
            ("map", y == layer.out_height_last),
        ):
            last &= condition
            with m.If(running & ~late):
                m.d.comb += Assert(inside(circuit)[f"{name}_last"] == last)
        with m.If(late & running):
            m.d.comb += [
                Assert(corner), Assert(~readout | ((strip == 0) & (in_pass == first_pass))),
            ]
        with m.If(within("Enter", "Run") & single):
            m.d.comb += Assert(slack == walk["shortest"])
        return m


class GainSpec(wiring.Component):
    """A Gain is busy for no more than GAIN_STEP_CYCLES at a time.

    Assumed: words come no sooner than it allows; ``walk-ends`` proves that of the sequencer.
    """

    def __init__(self):
        super().__init__({"load": In(1), "data": In(16), "layer": In(layer_layout(SMALL))})

    def elaborate(self, platform):
        m = Module()
        gain = Gain(SMALL)
        m.submodules.gain, inner = elaborated(gain)
        phase = inner["phase"]
        waited, was_busy = Signal(range(2 * GAIN_STEP_CYCLES)), Signal()
        m.d.sync += [was_busy.eq(gain.busy), waited.eq(Mux(gain.busy, waited + 1, 0))]
        m.d.comb += [
            gain.load.eq(self.load), gain.data.eq(self.data), gain.layer.eq(self.layer),
            Assume(~(self.load & was_busy)),
            Assert(waited <= GAIN_STEP_CYCLES),
            # In phase: the last one ends the waiting, the one behind it waits for nothing.
            Assert(phase <= inner["done"]),
            Assert(waited <= Mux(phase == inner["done"], 0, phase)),
            Assert(was_busy == (waited != 0)),
        ]
        return m


class WriterSpec(wiring.Component):
    """Each group of spikes moves the Writer on, and the last is followed by ``written``.

    Assumed, of the sequencer: the record is constant from ``clear`` on, and no group comes behind
    the layer's last. Not of logits.
    """

    def __init__(self, engine, **others):
        self.engine = engine
        super().__init__({
            "clear": In(1), "valid": In(1), "layer": In(layer_layout(engine)), **others,
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer, dut = self.engine, self.layer, Writer(self.engine)
        circuit, inner = elaborated(dut)
        m.submodules.writer = circuit
        m.d.comb += [
            dut.clear.eq(self.clear), dut.valid.eq(self.valid), dut.layer.eq(layer),
        ]
        running, runs, record = Signal(), Signal(), Signal(len(layer.as_value()))
        self.dut, self.inner, self.running, self.record = dut, inner, running, record
        ends = Signal()
        m.d.comb += ends.eq(self.valid & inner["last_spikes"])
        m.d.sync += record.eq(layer)
        with m.If(self.clear):
            m.d.sync += running.eq(1)
        with m.Elif(ends):
            m.d.sync += running.eq(0)
        m.d.comb += [
            Assume(~running | self.clear | (record == layer.as_value())),
            Assume(~self.valid | (running & ~self.clear)),
        ]
        group, bits = inner["group"], engine.groups.bit_length() - 1
        in_pass = inner["coming"].number if engine.passes > 1 else Const(0)
        rank = Cat(group[:bits], in_pass, group[bits:], dut.column, dut.row)
        before = Signal(len(rank))
        m.d.sync += [before.eq(rank), runs.eq(running & self.valid & ~ends)]
        with m.If(runs):
            m.d.comb += Assert(rank > before)
        ended = Signal(dut.latency)
        m.d.sync += ended.eq(Cat(ends, ended))
        m.d.comb += Assert(~ended[-1] | dut.written)
        # What of the state is reached at all.
        with m.If(running & ~self.clear):
            m.d.comb += [
                Assert(group[bits:] <= layer.tiles_last),
                Assert(dut.column <= layer.out_width_last),
                Assert(dut.row <= layer.out_height_last),
            ]
            if engine.passes > 1:
                m.d.comb += [
                    Assert(in_pass >= layer.first_pass),
                    Assert(inside(circuit)["passes.group"] == group[:bits]),
                ]
        return m


def _sequencer(name, engine, mutant):
    return Circuit(
        f"walk-ends{name}",
        "the sequencer goes on whenever it waits for no one, until its layers are done",
        lambda: SequencerSpec(engine), mutant, depth=2, inductive=True,
    )


PROOFS = [
    _sequencer("", SMALL, Mutation(
        "hw/sequencer.py", "x.eq(0), y.eq(y + 1),", "x.eq(0),", "lines are not counted",
    )),
    _sequencer("-stream", replace(PAIRS, stream_depth=64), Mutation(
        "hw/sequencer.py",
        "m.d.sync += slack.eq(slack - 1)\n                with m.If(slack == 0):",
        "with m.If(slack == 0):", "a short tile waits for what never comes",
    )),
    _sequencer("-passes", PASSES, Mutation(
        "hw/sequencer.py",
        "window.eq(window),\n                        in_pass.eq(next_pass), "
        "pass_number.eq(pass_number + 1),",
        "window.eq(window),\n                        in_pass.eq(next_pass),",
        "passes of a tile are not counted",
    )),
    _sequencer("-strips", STRIPS, Mutation(
        "hw/sequencer.py", "strip.eq(strip + 1), strip_pixel.eq(next_strip),",
        "strip_pixel.eq(next_strip),", "strips of a stem are not counted",
    )),
    _sequencer("-strips-passes", STRIPS_IN_PASSES, Mutation(
        "hw/sequencer.py",
        "weight.eq(tile_weight), element.eq(next_pass),\n                        "
        "in_pass.eq(next_pass), pass_number.eq(pass_number + 1),",
        "weight.eq(tile_weight), element.eq(next_pass),\n                        "
        "in_pass.eq(next_pass),", "passes of a readout are not counted",
    )),
    Circuit(
        "gain-ends", "a gain keeps the sequencer waiting for no longer than the cycle model says",
        GainSpec, Mutation(
            "hw/agmm.py", "((phase != 0) & (phase <= FACTOR_BITS))", "(phase != 0)",
            "a gain is busy until it stands",
        ),
        depth=2, inductive=True,
    ),
    *(
        Circuit(
            f"writer-ends{name}",
            "every group of spikes moves the Writer on, and after the last all is written",
            partial(WriterSpec, engine), Mutation("hw/writer.py", *change, breaks),
            depth=7, inductive=True,
        )
        for name, engine, change, breaks in (
            ("", SMALL, ("m.d.sync += [x.eq(0), y.eq(y + 1)]", "m.d.sync += x.eq(0)"),
             "rows are not counted"),
            ("-strips-passes", STRIPS_IN_PASSES,
             ("last.eq(Cat(ended, last[:-1]))", "last.eq(Cat(ended & ~near[0], last[:-1]))"),
             "a last row in a halo is not the last"),
        )
    ),
]
