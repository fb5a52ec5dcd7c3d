"""Bias, gain and leaky integrate-and-fire over the time steps, one channel a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.stream import clamp
from sw.formats import (
    GAIN_FRACTION,
    GAIN_ONE,
    MEMBRANE_EXTRA_BITS,
    STREAM_BITS,
    THRESHOLD_BITS,
    apply_gain,
    leak,
    saturate,
)

__all__ = ["LIF"]


class LIF(wiring.Component):
    """U[t] = tau * U[t-1] + g[t] * X[t]; spike and reset to 0 when U >= threshold (eq. 1-4, 11).

    The membrane runs through a chain of one stage a time step and needs no memory. Steps
    outside ``step_mask`` are computed and stay silent. Of ``lanes``, each ``steps`` in a row are a
    neuron of their own.

    With ``shortcuts``, the stream is added behind the gain, and the sum drives the membrane.

    With ``passes``, the ``groups`` channels of a tile come in each of them, and their membranes
    wait for the next; ``groups`` is at least ``steps``.

    Members
    -------
    valid, current, bias, threshold : a channel: its current before the bias for each lane.
        ``leak_shifts`` lists the leaks that are built.
    gain, leak_shift, step_mask : constant while a layer runs; gain 256 is one.
    resume, last : with passes only. The membrane goes on from the same channel of the pass before;
        this is the last pass, to which alone ``step_mask`` applies. ``gain`` is then that of the
        pass of a channel one cycle after it.
    streamed, shortcut, stream : with shortcuts only. Whether there is a stream, constant while a
        layer runs; what is added to a channel, two cycles after it; the sum, a cycle later.
    out_valid, spikes : bit t is the spike of step t.
    """

    def __init__(
        self, lanes, width, leak_shifts, steps=None, passes=1, groups=1, shortcuts=False
    ):
        self.lanes, self.width, self.leak_shifts = lanes, width, leak_shifts
        self.steps, self.passes, self.groups = steps or lanes, passes, groups
        self.shortcuts = shortcuts
        stream = data.ArrayLayout(signed(STREAM_BITS), lanes)
        super().__init__({
            "valid": In(1),
            "current": In(data.ArrayLayout(signed(width), lanes)),
            "bias": In(signed(width)),
            "threshold": In(THRESHOLD_BITS),
            "gain": In(data.ArrayLayout(GAIN_FRACTION + 1, lanes)),
            "leak_shift": In(2),
            "step_mask": In(lanes),
            "out_valid": Out(1),
            "spikes": Out(lanes),
            **({"resume": In(1), "last": In(1)} if passes > 1 else {}),
            **({
                "streamed": In(1), "shortcut": In(stream), "stream": Out(stream),
            } if shortcuts else {}),
        })

    @property
    def latency(self):
        return self.drive_latency + self.steps

    @property
    def drive_latency(self):
        """Cycles until the first step is due."""
        return 3 if self.shortcuts else 2

    def model(
        self, currents, bias, threshold, gains, leak_shift, step_mask, membranes=None, stream=None
    ):
        """Spikes, one bit a step, for currents before the bias that fit the width with it.

        membranes: of each neuron before the first step, 0 if not given; becomes those after.
        stream: what a shortcut adds to each lane; becomes the sums.
        """
        spikes, kept = 0, membranes or [0] * (self.lanes // self.steps)
        for t in range(self.lanes):
            neuron = t // self.steps
            drive = apply_gain(currents[t] + bias, gains[t])
            if stream is not None:
                drive = stream[t] = saturate(
                    drive + stream[t], lambda value, low, high: max(low, min(high, value))
                )
            kept[neuron] = leak(kept[neuron], leak_shift) + drive
            if kept[neuron] >= threshold:
                kept[neuron] = 0
                spikes |= 1 << t
        return spikes & step_mask

    def elaborate(self, platform):
        m = Module()
        width = self.width

        # Products of all steps at once, one multiplier each. Signed, with exact widths and without
        # resets, all of this but the bias fits an iCE40 SB_MAC16.
        driven = []
        for t in range(self.lanes):
            current = Signal(signed(width), reset_less=True, name=f"current{t}")
            gain = Signal(signed(GAIN_FRACTION + 2), name=f"gain{t}")
            product = Signal(
                signed(width + GAIN_FRACTION + 2), reset_less=True, name=f"product{t}"
            )
            m.d.comb += gain.eq(self.gain[t])
            m.d.sync += [
                current.eq(self.current[t] + self.bias),
                product.eq(current * gain + GAIN_ONE // 2),
            ]
            driven.append((product >> GAIN_FRACTION)[:width].as_signed())
        if self.shortcuts:
            driven = self._with_shortcuts(m, driven)

        def delayed(signal, cycles, name):
            for stage in range(cycles):
                following = Signal.like(signal, name=f"{name}_{stage}", reset_less=True)
                m.d.sync += following.eq(signal)
                signal = following
            return signal

        # Step t works one cycle after step t - 1, on the membrane that it leaves.
        thresholds = [delayed(self.threshold, self.drive_latency, "threshold")]
        membrane = 0
        spikes, started = [], None
        if self.passes > 1:
            left, started = self._kept(m)
        for lane in range(self.lanes):
            t = lane % self.steps
            following = Signal(
                signed(width + MEMBRANE_EXTRA_BITS), name=f"membrane{lane}", reset_less=True
            )
            potential = Signal.like(following, name=f"potential{lane}")
            drive = delayed(driven[lane], t, f"drive{lane}")
            if t:
                m.d.comb += potential.eq(self._leaked_sum(m, membrane, drive, lane))
                if t == len(thresholds):
                    thresholds.append(delayed(thresholds[-1], 1, f"threshold_step{t}"))
            elif started is not None:
                membrane = started[lane // self.steps]
                m.d.comb += potential.eq(self._leaked_sum(m, membrane, drive, lane))
            else:
                m.d.comb += potential.eq(drive)
            spike = Signal(name=f"fires{lane}")
            fired = Signal(name=f"spike{lane}", reset_less=True)
            m.d.comb += spike.eq(potential >= thresholds[t])
            m.d.sync += [following.eq(Mux(spike, 0, potential)), fired.eq(spike)]
            membrane = following
            if started is not None and t == self.steps - 1:
                m.d.comb += left[lane // self.steps].eq(Mux(spike, 0, potential))
            spikes.append(delayed(fired, self.steps - 1 - t, f"spike{lane}"))
        valid = self.valid
        for stage in range(self.latency):
            following = Signal(name=f"valid{stage}")
            m.d.sync += following.eq(valid)
            valid = following
        m.d.comb += self.out_valid.eq(valid)
        in_use = self.step_mask
        if self.passes > 1:
            last = delayed(self.last, self.latency, "last")
            in_use |= (~last).replicate(self.lanes)
        m.d.comb += [self.spikes[t].eq(spike & in_use[t]) for t, spike in enumerate(spikes)]
        return m

    def _with_shortcuts(self, m, driven):
        """The drives a cycle later, with the stream added where there is one."""
        joined = []
        for t, drive in enumerate(driven):
            total = Signal(signed(self.width + 1), name=f"total{t}")
            value = Signal(signed(self.width), name=f"joined{t}", reset_less=True)
            m.d.comb += total.eq(drive + self.shortcut[t])
            m.d.sync += value.eq(
                Mux(self.streamed, saturate(total, clamp), drive)
            )
            m.d.comb += self.stream[t].eq(value)
            joined.append(value)
        return joined

    def _kept(self, m):
        """The membranes that the pass leaves, to be set in its last step, and those it starts from.

        A channel comes again ``groups`` channels later: by then its last step is done.
        """
        membrane = signed(self.width + MEMBRANE_EXTRA_BITS)
        shape = data.ArrayLayout(membrane, self.lanes // self.steps)
        kept = Signal(data.ArrayLayout(shape, self.groups), reset_less=True)
        left = Signal(shape)
        valid, resume = self.valid, self.resume
        for stage in range(self.drive_latency):
            due, resumes = Signal(name=f"due{stage}"), Signal(name=f"resume{stage}")
            m.d.sync += [due.eq(valid), resumes.eq(resume)]
            valid, resume = due, resumes
        channel, started = Signal(range(self.groups)), Signal(shape)
        with m.If(resume):
            m.d.comb += started.eq(kept[channel])
        with m.If(valid):
            m.d.sync += channel.eq(channel + 1)
        for stage in range(self.steps - 1):
            later, done = Signal.like(channel, name=f"channel{stage}"), Signal(name=f"done{stage}")
            m.d.sync += [later.eq(channel), done.eq(valid)]
            channel, valid = later, done
        with m.If(valid):
            m.d.sync += kept[channel].eq(left)
        return left, started

    def _leaked_sum(self, m, membrane, drive, lane):
        """tau * membrane + drive."""
        if self.leak_shifts == (1,):
            # U - (U >> 1) is (U + 1) >> 1: a single addition, one bit wider.
            doubled = Signal(signed(len(membrane) + 1), name=f"doubled{lane}")
            m.d.comb += doubled.eq(Cat(1, drive).as_signed() + membrane)
            return doubled >> 1
        leaked = Signal.like(membrane, name=f"leaked{lane}")
        with m.Switch(self.leak_shift):
            for shift in self.leak_shifts:
                with m.Case(shift):
                    m.d.comb += leaked.eq(leak(membrane, shift))
        return leaked + drive
