"""OR pooling of spikes: the maximum of bits."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Pool"]


class Pool(wiring.Component):
    """ORs the spikes of the 2 x 2 pixels of a window, or passes them on.

    The tiles of a window arrive one after the other, each as ``groups`` groups of channels; the
    pooled groups leave with the last of them.

    Members
    -------
    enable : pool 2 x 2; constant while a layer runs.
    clear : start of a layer.
    valid, spikes : ``width`` spikes of a group: all its channels, all lanes. out_valid, out :
        likewise, in the same cycle.
    """

    latency = 0

    def __init__(self, groups, width):
        self.groups, self.width = groups, width
        super().__init__({
            "enable": In(1),
            "clear": In(1),
            "valid": In(1),
            "spikes": In(width),
            "out_valid": Out(1),
            "out": Out(width),
        })

    def model(self, spikes, enable):
        """Pooled groups of a list of groups: windows of 4 tiles when enabled."""
        if not enable:
            return list(spikes)
        pooled = []
        for start in range(0, len(spikes), 4 * self.groups):
            tiles = [spikes[start + i * self.groups :][: self.groups] for i in range(4)]
            pooled += [a | b | c | d for a, b, c, d in zip(*tiles, strict=True)]
        return pooled

    def elaborate(self, platform):
        m = Module()
        seen = Signal(data.ArrayLayout(self.width, self.groups))
        group = Signal(range(max(self.groups, 2)))
        pixel = Signal(2)
        m.d.comb += [
            self.out.eq(self.spikes),
            self.out_valid.eq(self.valid & (~self.enable | (pixel == 3))),
        ]
        with m.If(self.enable & (pixel != 0)):
            m.d.comb += self.out.eq(self.spikes | seen[0])
        with m.If(self.valid):
            m.d.sync += [seen[p].eq(seen[p + 1]) for p in range(self.groups - 1)]
            m.d.sync += seen[self.groups - 1].eq(self.out)
            m.d.sync += group.eq(group + 1)
            with m.If(group == self.groups - 1):
                m.d.sync += [group.eq(0), pixel.eq(pixel + 1)]
        with m.If(self.clear):
            m.d.sync += [group.eq(0), pixel.eq(0)]
        return m
