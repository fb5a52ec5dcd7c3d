"""What neurons compute: every spike of the circuit is that of the equations, in exact integers."""

from functools import partial

from amaranth.hdl import Array as Choice
from amaranth.hdl import Assert, Assume, Cat, Fragment, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.lif import LIF
from hw.scale import BIAS_BITS, Scale
from hw.stream import clamp
from sw.formats import (
    GAIN_FRACTION,
    GAIN_ONE,
    MEMBRANE_EXTRA_BITS,
    SLOPE_BITS,
    SLOPE_FRACTION,
    STREAM_BITS,
    STREAM_THRESHOLD,
    THRESHOLD_BITS,
    apply_gain,
    leak,
    saturate,
)
from tests.formal.proof import Circuit, inside
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS", "History"]


def fits(value, bits):
    """Whether an exact value is one of ``bits`` bits, signed."""
    return (value >= -(1 << bits - 1)) & (value < 1 << bits - 1)


class History:
    """Values of some cycles ago, and whether there are that many cycles yet."""

    def __init__(self, m, most):
        self.m, self.most = m, most
        self.cycle = Signal(range(most + 1), name="cycle")
        with m.If(self.cycle != most):
            m.d.sync += self.cycle.eq(self.cycle + 1)

    def ago(self, value, cycles):
        """To be called outside ``m.If``, which would hold the registers back."""
        for _ in range(cycles):
            was = Signal.like(value, name="was")
            self.m.d.sync += was.eq(value)
            value = was
        return value

    def follows(self, value, cause, cycles):
        """Asserts, once, that ``value`` is what ``cause`` was so many cycles ago."""
        self.m.d.comb += Assert((self.cycle != cycles) | (value == self.ago(cause, cycles)))


class MembraneSpec(wiring.Component):
    """Spikes are those of U = tau U + drive, and 0 behind a spike, in exact integers.

    Step by step, from the drives of a channel and the membrane of the step before, over the cycles
    to its spikes, whatever the registers hold at first: so for all time. What comes from the
    multipliers later is of no effect, so their operands are 0.

    With passes the first step goes on from what is kept (``lif-keeps``), and the last pass alone is
    masked.

    A step is exact if its drive and membrane fit their widths, of which ``sw.bounds`` makes sure
    for the network's, and those come first.
    """

    def __init__(self, lanes, width, leak_shifts, steps=None, shortcuts=False, passes=1, groups=1):
        self.lif = LIF(lanes, width, leak_shifts, steps, passes, groups, shortcuts)
        super().__init__({
            "valid": In(1), "threshold": In(THRESHOLD_BITS), "leak_shift": In(2),
            "step_mask": In(lanes), **({"resume": In(1), "last": In(1)} if passes > 1 else {}),
        })

    def elaborate(self, platform):
        m = Module()
        lif, steps = self.lif, self.lif.steps
        m.submodules.lif = fragment = Fragment.get(lif, None)
        registers, history = inside(fragment), History(m, lif.latency)
        m.d.comb += [
            lif.valid.eq(self.valid), lif.threshold.eq(self.threshold),
            lif.leak_shift.eq(self.leak_shift),
            lif.step_mask.eq(self.step_mask),
            Assume(Cat(self.leak_shift == shift for shift in lif.leak_shifts).any()),
        ]
        history.follows(lif.out_valid, self.valid, lif.latency)
        mask = self.step_mask
        if lif.passes > 1:
            m.d.comb += [lif.resume.eq(self.resume), lif.last.eq(self.last)]
            mask |= (~history.ago(self.last, lif.latency)).replicate(lif.lanes)
        full = lif.latency if lif.passes > 1 else steps
        wide = signed(lif.width + MEMBRANE_EXTRA_BITS + 3)
        threshold = registers[f"threshold_{lif.drive_latency - 1}"]
        for lane in range(lif.lanes):
            t, membrane = lane % steps, registers[f"membrane{lane}"]
            drive = registers[f"joined{lane}"] if lif.shortcuts else (
                registers[f"product{lane}"] >> GAIN_FRACTION
            )
            drive, leaked = history.ago(drive, t), Signal(wide, name=f"exact_leaked{lane}")
            if t or lif.passes > 1:
                before = Signal(wide, name=f"before{lane}")
                m.d.comb += before.eq(
                    registers[f"membrane{lane - 1}"] if t else _of(registers, "started", lif, lane)
                )
                with m.Switch(self.leak_shift):
                    for shift in lif.leak_shifts:
                        with m.Case(shift):
                            m.d.comb += leaked.eq(leak(before, shift))
            exact, rest = Signal(wide, name=f"exact{lane}"), Signal(wide, name=f"rest{lane}")
            fires, fit = Signal(name=f"exact_fires{lane}"), Signal(name=f"fit{lane}")
            m.d.comb += [
                exact.eq(leaked + drive), fires.eq(exact >= history.ago(threshold, t)),
                rest.eq(Mux(fires, 0, exact)), fit.eq(
                    fits(drive, lif.width) & fits(exact, lif.width + MEMBRANE_EXTRA_BITS)
                ),
            ]
            # Once is enough, for the registers held anything before.
            m.d.comb += [
                Assert((history.cycle != t + 1) | ~history.ago(fit, 1)
                       | (membrane == history.ago(rest, 1))),
                Assert((history.cycle != full) | ~history.ago(fit, steps - t) | (
                    lif.spikes[lane] == (history.ago(fires, steps - t) & mask[lane])
                )),
            ]
        return m


def _of(registers, name, lif, lane):
    """The membrane of a lane's neuron, of those that an LIF with passes keeps."""
    neuron, bits = lane // lif.steps, lif.width + MEMBRANE_EXTRA_BITS
    return registers[name].word_select(neuron, bits).as_signed()


class KeptSpec(wiring.Component):
    """A channel's first step in a pass goes on from its last step's membrane in the pass before.

    That of the channel ``groups`` channels before, whenever they come; from 0 where it does not
    resumes. Currents are any, and gains one. Assumed is nothing.
    """

    def __init__(self, lanes, width, steps, passes, groups):
        self.lif = LIF(lanes, width, (1,), steps, passes, groups)
        super().__init__({
            "valid": In(1), "resume": In(1), "threshold": In(THRESHOLD_BITS),
            "current": In(width * lanes),
        })

    def elaborate(self, platform):
        m = Module()
        lif = self.lif
        m.submodules.lif = fragment = Fragment.get(lif, None)
        registers = inside(fragment)
        m.d.comb += [
            lif.valid.eq(self.valid), lif.resume.eq(self.resume), lif.threshold.eq(self.threshold),
            Cat(lif.current).eq(self.current), *(gain.eq(GAIN_ONE) for gain in lif.gain),
        ]
        due, resumes = self.valid, self.resume
        for stage in range(lif.drive_latency):
            was, resumed = Signal(name="was_due"), Signal(name="was_resume")
            m.d.sync += [was.eq(due), resumed.eq(resumes)]
            due, resumes = was, resumed
            m.d.comb += [
                Assert(registers[f"due{stage}"] == due),
                Assert(registers[f"resume{stage}"] == resumes),
            ]
        # Channels in turn, followed to a cycle behind their last step.
        channel, done = Signal(range(lif.groups), name="turn"), due
        place = channel
        with m.If(due):
            m.d.sync += channel.eq(channel + 1)
        for stage in range(lif.steps):
            later, finished = Signal.like(channel, name="place"), Signal(name="finished")
            m.d.sync += [later.eq(place), finished.eq(done)]
            if stage < lif.steps - 1:
                m.d.comb += [
                    Assert(registers[f"channel{stage}"] == later),
                    Assert(registers[f"done{stage}"] == finished),
                ]
            place, done = later, finished
        for lane in range(lif.steps - 1, lif.lanes, lif.steps):
            membrane, kept, have = registers[f"membrane{lane}"], [], []
            for number in range(lif.groups):
                own, known = Signal.like(membrane, name="own"), Signal(name="known")
                new, now = done & (place == number), Signal.like(membrane, name="now")
                m.d.comb += now.eq(Mux(new, membrane, own))
                with m.If(new):
                    m.d.sync += [own.eq(membrane), known.eq(1)]
                kept.append(now)
                have.append(known | new)
                stored = registers["kept"].word_select(
                    number * (lif.lanes // lif.steps) + lane // lif.steps, len(membrane)
                ).as_signed()
                m.d.comb += Assert(~(known | new) | (stored == now))
            started = _of(registers, "started", lif, lane)
            expected = Signal.like(membrane, name="expected")
            m.d.comb += expected.eq(Choice(kept)[channel])
            m.d.comb += [
                Assert(resumes | (started == 0)),
                Assert(~(resumes & Choice(have)[channel]) | (started == expected)),
            ]
        return m


class DriveSpec(wiring.Component):
    """Drives are the currents with their bias, times the gain and rounded, plus the shortcut.

    The registers of a lane, one after the other: each is what ``sw.formats`` makes of the one
    before, in exact integers, if that fits (``sw.bounds``). The circuit multiplies by adding half a
    unit and shifting, and the factors here are its own: z3 is not asked what a product is.
    """

    def __init__(self, width, shortcuts):
        self.lif = LIF(1, width, (1,), shortcuts=shortcuts)
        super().__init__({
            "current": In(signed(width)), "bias": In(signed(width)),
            "gain": In(GAIN_FRACTION + 1), "shortcut": In(signed(STREAM_BITS)), "streamed": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        lif = self.lif
        m.submodules.lif = fragment = Fragment.get(lif, None)
        registers, started = inside(fragment), Signal()
        m.d.sync += started.eq(1)
        m.d.comb += [
            lif.current[0].eq(self.current), lif.bias.eq(self.bias), lif.gain[0].eq(self.gain),
        ]
        current, product = registers["current0"], registers["product0"]
        biased = Signal(signed(lif.width + 1), reset_less=True)
        driven = Signal.like(product, name="driven", reset_less=True)
        m.d.sync += [
            biased.eq(self.current + self.bias),
            driven.eq(apply_gain(current, registers["gain0"])),
        ]
        with m.If(started):
            m.d.comb += [
                Assert(registers["gain0"] == self.gain),
                Assert(~fits(biased, lif.width) | (current == biased)),
                Assert(product >> GAIN_FRACTION == driven),
            ]
        if lif.shortcuts:
            m.d.comb += [lif.streamed.eq(self.streamed), lif.shortcut[0].eq(self.shortcut)]
            drive = product >> GAIN_FRACTION
            fit, joined = Signal(), Signal(signed(lif.width + 2), reset_less=True)
            m.d.sync += [
                fit.eq(fits(drive, lif.width)),
                joined.eq(Mux(self.streamed, saturate(drive + self.shortcut, clamp), drive)),
            ]
            with m.If(started & fit):
                m.d.comb += Assert(registers["joined0"] == joined)
                with m.If(fits(joined, STREAM_BITS)):
                    m.d.comb += Assert(lif.stream[0] == joined)
        return m


class ScaleSpec(wiring.Component):
    """With a stream a current is the product with its slope, plus the bias, without the fraction.

    Modulo its width: ``biases-folded`` says what that is of. Without one, nothing is changed. The
    factors are followed to the multiplier, the whole product out of it, and the bias and the slope
    or threshold past it. Assumed: ``streamed`` and ``counts`` stay while a layer runs (the
    record's).
    """

    def __init__(self, width):
        self.scale = Scale(1, width)
        super().__init__({
            "streamed": In(1), "counts": In(1), "current": In(signed(width)),
            "bias": In(BIAS_BITS), "limit": In(len(self.scale.limit)),
        })

    def elaborate(self, platform):
        m = Module()
        scale = self.scale
        m.submodules.scale = fragment = Fragment.get(scale, None)
        registers, history = inside(fragment), History(m, scale.latency)
        current, bias, limit = (
            history.ago(value, scale.latency) for value in (self.current, self.bias, self.limit)
        )
        m.d.comb += [
            scale.streamed.eq(self.streamed), scale.counts.eq(self.counts),
            scale.current[0].eq(self.current), scale.bias.eq(self.bias), scale.limit.eq(self.limit),
        ]
        for mode in (self.streamed, self.counts):
            m.d.comb += Assume((history.cycle == 0) | (mode == history.ago(mode, 1)))
        operand, factor, value, product = (
            registers[name] for name in ("operand", "factor", "value0", "product0")
        )
        asked, slope = history.ago(self.current, 1), history.ago(self.limit, 1)
        # Beside the circuit's own multiplication, where Yosys sees that they are the same one.
        exact = Signal(signed(len(value) + SLOPE_BITS))
        fragment.add_statements("sync", exact.eq(value * factor[:SLOPE_BITS]))
        with m.If(history.cycle == scale.latency):
            m.d.comb += [
                Assert(operand.as_signed() == asked),
                Assert(factor == slope), Assert(product == exact),
                Assert(value == Mux(self.counts, operand, operand.as_signed())),
                Assert(scale.out_current[0] == Mux(
                    self.streamed, ((product + bias) >> SLOPE_FRACTION)[: scale.width].as_signed(),
                    current,
                )),
                Assert(self.streamed | (scale.out_bias == bias[: scale.width].as_signed())),
                Assert(~self.streamed | (scale.out_bias == 0)),
                Assert(scale.out_threshold == Mux(
                    self.streamed, STREAM_THRESHOLD, limit[:THRESHOLD_BITS]
                )),
            ]
        return m


#: Cycles of a proof: the longest latency, and one.
DEPTH = 8


def _circuit(name, states, spec, *error):
    return Circuit(name, states, spec, Mutation("hw/lif.py", *error), DEPTH, anywhere=True)


PROOFS = [
    _circuit(
        "lif-half", "spikes are those of the membrane's equation with tau = 1/2",
        partial(MembraneSpec, 4, 16, (1,)),
        "doubled.eq(Cat(1, drive)", "doubled.eq((drive << 1)", "what leaks is not floored",
    ),
    _circuit(
        "lif-leaks", "spikes are those of the membrane's equation with every tau",
        partial(MembraneSpec, 4, 18, (0, 1, 2, 3)),
        "leaked.eq(leak(membrane, shift))", "leaked.eq(leak(membrane, shift | 1))",
        "a leak is that of another tau",
    ),
    _circuit(
        "lif-strips", "spikes of two neurons in one unit are those of each",
        partial(MembraneSpec, 4, 16, (1,), 2),
        "            if t:\n", "            if lane:\n",
        "a neuron starts from its neighbour's membrane",
    ),
    _circuit(
        "lif-stream-spikes", "spikes behind a stream are those of the membrane's equation",
        partial(MembraneSpec, 4, 16, (1,), shortcuts=True),
        "following.eq(Mux(spike, 0, potential)), fired", "following.eq(potential), fired",
        "a membrane is not reset",
    ),
    _circuit(
        "lif-passes", "spikes of a pass are those of the membrane it starts with",
        partial(MembraneSpec, 4, 16, (1,), 2, passes=2, groups=4),
        "membrane = started[lane // self.steps]", "membrane = started[0]",
        "all neurons go on from the first one's membrane",
    ),
    Circuit(
        "lif-keeps", "each channel goes on in a pass from its own membrane of the pass before",
        partial(KeptSpec, 4, 16, 2, 2, 4),
        Mutation("hw/lif.py", "m.d.sync += [later.eq(channel), done.eq(valid)]",
                 "m.d.sync += [later.eq(channel + 1), done.eq(valid)]",
                 "membranes are kept for the channel behind"),
        depth=3, inductive=True,
    ),
    *(
        Circuit(
            name, states, partial(DriveSpec, width, shortcuts),
            Mutation("hw/lif.py", *error), depth=2, inductive=True,
        )
        for name, states, width, shortcuts, error in (
            (
                "lif-drive", "a drive is the current with its bias, times the gain, rounded", 16,
                False, (
                    "product.eq(current * gain + GAIN_ONE // 2)",
                    "product.eq(current * gain + GAIN_ONE // 2 - 1)", "halves are rounded down",
                ),
            ),
            (
                "lif-stream", "with a shortcut a drive is the saturated sum", 18, True, (
                    "total = Signal(signed(self.width + 1), name=",
                    "total = Signal(signed(self.width), name=",
                    "the carry of a shortcut is dropped before it saturates",
                ),
            ),
        )
    ),
    Circuit(
        "scale", "with a stream a current is the product with its slope, plus the bias",
        partial(ScaleSpec, 18),
        Mutation("hw/scale.py", "operand[t][-1] & ~self.counts", "operand[t][-1]",
                 "large counts are thought negative"),
        depth=4, anywhere=True,
    ),
]
