"""OR pooling of spikes, the maximum of bits; and of the strips of a stem, one word."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.passes import follow_passes

__all__ = ["Pool"]


class Pool(wiring.Component):
    """ORs the spikes of the 2 x 2 pixels of a window, or passes them on.

    The tiles of a window arrive one after the other, each as ``groups`` groups of channels; the
    pooled groups leave with the last of them. A stem's come strip by strip, each with the spikes of
    one strip alone; they too leave together. With passes, every tile comes once in each, and so
    leaves each pass.

    Members
    -------
    enable : pool 2 x 2; one_strip : a tile has one of the strips; both constant while a layer runs.
    first_pass : number of the first of ``passes``, if there are several; constant likewise.
    clear : start of a layer.
    valid, spikes : ``width`` spikes of a group: all its channels, all lanes. out_valid, out :
        likewise, in the same cycle.
    """

    latency = 0

    def __init__(self, groups, width, strips=1, steps=1, passes=1):
        self.groups, self.width, self.strips, self.steps = groups, width, strips, steps
        self.passes = passes
        super().__init__({
            "enable": In(1),
            **({"one_strip": In(1)} if strips > 1 else {}),
            **({"first_pass": In(range(passes))} if passes > 1 else {}),
            "clear": In(1),
            "valid": In(1),
            "spikes": In(width),
            "out_valid": Out(1),
            "out": Out(width),
        })

    def _of_strip(self, spikes, strip):
        """``spikes`` of a group, those of one strip alone."""
        lane = (1 << self.steps) - 1
        lanes = sum(
            lane << first * self.steps
            for first in range(strip, self.width // self.steps, self.strips)
        )
        return spikes & lanes

    def model(self, spikes, enable, one_strip=False, passes=1):
        """Pooled groups of a list of groups: of 4 tiles when enabled, each of them once a strip."""
        strips, windows = (self.strips if one_strip else 1), (4 if enable else 1)
        tile = self.groups * passes
        pooled, together = [], strips * windows * tile
        for start in range(0, len(spikes), together):
            result = [0] * tile
            for place, group in enumerate(spikes[start : start + together]):
                if one_strip:
                    group = self._of_strip(group, place // tile // windows)
                result[place % tile] |= group
            pooled += result
        return pooled

    def elaborate(self, platform):
        m = Module()
        group = Signal(range(max(self.groups, 2)))
        ends = group == self.groups - 1
        if self.passes > 1:
            passes = follow_passes(
                m, self.groups, self.passes, self.first_pass, self.clear, self.valid
            )
            ends &= passes.last
            place = Cat(group, passes.number)
        seen = Signal(data.ArrayLayout(self.width, self.groups * self.passes))
        before = seen[place if self.passes > 1 else 0]
        pixel = Signal(2)
        spikes, later, last = self.spikes, self.enable & (pixel != 0), ~self.enable | (pixel == 3)
        if self.strips > 1:
            strip = Signal(range(self.strips))
            spikes = Signal(self.width)
            m.d.comb += spikes.eq(self.spikes)
            with m.If(self.one_strip), m.Switch(strip):
                for number in range(self.strips):
                    with m.Case(number):
                        m.d.comb += spikes.eq(self._of_strip(self.spikes, number))
            with m.If(self.valid & ends & last):
                m.d.sync += strip.eq(strip + 1)
            with m.If(self.clear):
                m.d.sync += strip.eq(0)
            later |= self.one_strip & (strip != 0)
            last &= ~self.one_strip | (strip == self.strips - 1)
        m.d.comb += [self.out.eq(spikes), self.out_valid.eq(self.valid & last)]
        with m.If(later):
            m.d.comb += self.out.eq(spikes | before)
        with m.If(self.valid):
            if self.passes > 1:
                m.d.sync += seen[place].eq(self.out)
            else:
                m.d.sync += [seen[p].eq(seen[p + 1]) for p in range(self.groups - 1)]
                m.d.sync += seen[self.groups - 1].eq(self.out)
            m.d.sync += group.eq(group + 1)
            with m.If(ends):
                m.d.sync += [group.eq(0), pixel.eq(pixel + 1)]
        with m.If(self.clear):
            m.d.sync += [group.eq(0), pixel.eq(0)]
        return m
