"""XNOR-popcount: how many of the bits of two words agree."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Popcount"]


class Popcount(wiring.Component):
    """Number of positions in which ``spikes`` and ``weights`` agree, one cycle later.

    With spikes in {0, 1} and weights in {-1, +1} stored as {0, 1}, the sum of weights over spikes
    is this count minus the number of -1 weights, which is a constant of the output channel.

    Yosys rewrites any sum of bits into its own compressor (2.6 LUT4 a bit on iCE40 and ECP5), so
    the tree is written plainly. One module instantiated many times is synthesised once.
    """

    latency = 1

    def __init__(self, simd):
        self.simd = simd
        super().__init__({
            "spikes": In(simd),
            "weights": In(simd),
            "count": Out(range(simd + 1)),
        })

    def model(self, spikes, weights):
        mask = (1 << self.simd) - 1
        return (~(spikes ^ weights) & mask).bit_count()

    def elaborate(self, platform):
        m = Module()
        agree = ~(self.spikes ^ self.weights)
        level = [agree[bit] for bit in range(self.simd)]
        depth = 0
        # Named intermediate sums: a nested expression of this size would be duplicated, not shared.
        while len(level) > 1:
            depth += 1
            following = []
            for index in range(0, len(level), 2):
                pair = level[index : index + 2]
                partial = Signal(depth + 1, name=f"sum{depth}_{index // 2}")
                m.d.comb += partial.eq(sum(pair[1:], pair[0]))
                following.append(partial)
            level = following
        m.d.sync += self.count.eq(level[0])
        return m
