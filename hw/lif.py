"""Bias, gain and leaky integrate-and-fire over the time steps, one channel a cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from sw.formats import (
    GAIN_FRACTION,
    GAIN_ONE,
    MEMBRANE_EXTRA_BITS,
    THRESHOLD_BITS,
    apply_gain,
    leak,
)

__all__ = ["LIF"]


class LIF(wiring.Component):
    """U[t] = tau * U[t-1] + g[t] * X[t]; spike and reset to 0 when U >= threshold (eq. 1-4, 11).

    The membrane runs through a chain of one stage a time step, so it needs no memory. Steps
    outside ``step_mask`` are computed and stay silent. Of ``lanes``, each ``steps`` in a row are a
    neuron of their own.

    Members
    -------
    valid, current, bias, threshold : a channel: its current before the bias for each lane.
        ``leak_shifts`` lists the leaks that are built.
    gain, leak_shift, step_mask : constant while a layer runs; gain 256 is one.
    out_valid, spikes : bit t is the spike of step t.
    """

    def __init__(self, lanes, width, leak_shifts, steps=None):
        self.lanes, self.width, self.leak_shifts = lanes, width, leak_shifts
        self.steps = steps or lanes
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
        })

    @property
    def latency(self):
        return 2 + self.steps

    def model(self, currents, bias, threshold, gains, leak_shift, step_mask):
        """Spikes, one bit a step, for currents before the bias that fit the width with it."""
        membrane = spikes = 0
        for t in range(self.lanes):
            if t % self.steps == 0:
                membrane = 0
            membrane = leak(membrane, leak_shift) + apply_gain(currents[t] + bias, gains[t])
            if membrane >= threshold:
                membrane = 0
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

        def delayed(signal, cycles, name):
            for stage in range(cycles):
                following = Signal.like(signal, name=f"{name}_{stage}", reset_less=True)
                m.d.sync += following.eq(signal)
                signal = following
            return signal

        # Step t works one cycle after step t - 1, on the membrane that it leaves.
        thresholds = [delayed(self.threshold, 2, "threshold")]
        membrane = 0
        spikes = []
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
            else:
                m.d.comb += potential.eq(drive)
            spike = Signal(name=f"fires{lane}")
            fired = Signal(name=f"spike{lane}", reset_less=True)
            m.d.comb += spike.eq(potential >= thresholds[t])
            m.d.sync += [following.eq(Mux(spike, 0, potential)), fired.eq(spike)]
            membrane = following
            spikes.append(delayed(fired, self.steps - 1 - t, f"spike{lane}"))
        valid = self.valid
        for stage in range(self.latency):
            following = Signal(name=f"valid{stage}")
            m.d.sync += following.eq(valid)
            valid = following
        m.d.comb += self.out_valid.eq(valid)
        m.d.comb += [
            self.spikes[t].eq(spike & self.step_mask[t]) for t, spike in enumerate(spikes)
        ]
        return m

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
