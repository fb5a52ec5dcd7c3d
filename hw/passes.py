"""Counts the passes in which a network of more time steps than lanes runs."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Passes", "follow_passes"]


class Passes(wiring.Component):
    """Follows the groups of channels of a tile, which come in each pass anew.

    The last pass is number ``passes`` - 1, however many there are.

    Members
    -------
    first_pass : number of the first; constant while a layer runs. clear : start of a layer.
    valid : a group. number : of its pass; first, last : whether that is the first, and the last.
    """

    latency = 0

    def __init__(self, groups, passes):
        self.groups, self.passes = groups, passes
        super().__init__({
            "first_pass": In(range(passes)),
            "clear": In(1),
            "valid": In(1),
            "number": Out(range(passes)),
            "first": Out(1),
            "last": Out(1),
        })

    def model(self, first_pass, groups):
        """Numbers of the passes of so many groups."""
        used = self.passes - first_pass
        return [first_pass + index // self.groups % used for index in range(groups)]

    def elaborate(self, platform):
        m = Module()
        group = Signal(range(self.groups))
        m.d.comb += [
            self.first.eq(self.number == self.first_pass),
            self.last.eq(self.number == self.passes - 1),
        ]
        with m.If(self.valid):
            m.d.sync += group.eq(group + 1)
            with m.If(group == self.groups - 1):
                m.d.sync += self.number.eq(self.number + 1)
                with m.If(self.last):
                    m.d.sync += self.number.eq(self.first_pass)
        with m.If(self.clear):
            m.d.sync += [group.eq(0), self.number.eq(self.first_pass)]
        return m


def follow_passes(m, groups, passes, first_pass, clear, valid, name="passes"):
    """A Passes among the submodules of ``m``, which follows the groups that are ``valid``."""
    m.submodules[name] = follower = Passes(groups, passes)
    m.d.comb += [
        follower.first_pass.eq(first_pass), follower.clear.eq(clear), follower.valid.eq(valid),
    ]
    return follower
