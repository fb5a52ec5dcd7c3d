"""XNOR-popcount: how many of the bits of two words agree."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.carry import has_carry_cells, threes

__all__ = ["Popcount"]


class Popcount(wiring.Component):
    """Number of positions in which ``spikes`` and ``weights`` agree, ``latency`` cycles later.

    With spikes in {0, 1} and weights in {-1, +1} stored as {0, 1}, the sum of weights over spikes
    is this count minus the number of -1 weights, which is a constant of the output channel.

    Yosys rewrites any sum of bits into its own compressor, so the tree is written plainly. On ECP5
    the comparison and the first addition share the carry cells, which Yosys does not find.
    ``deep`` puts registers behind the first additions, and before the last.
    """

    def __init__(self, simd, deep=False):
        self.simd, self.deep = simd, deep
        super().__init__({
            "spikes": In(simd),
            "weights": In(simd),
            "count": Out(range(simd + 1)),
        })

    @property
    def latency(self):
        return 3 if self.deep else 1

    def model(self, spikes, weights):
        mask = (1 << self.simd) - 1
        return (~(spikes ^ weights) & mask).bit_count()

    def elaborate(self, platform):
        m = Module()
        if has_carry_cells(platform):
            ones, twos = threes(m, self.spikes, self.weights)
        else:
            agree = ~(self.spikes ^ self.weights)
            ones, twos = [agree[bit] for bit in range(self.simd)], []
        if self.deep:
            ones, twos = (list(_registered(m, Cat(bits))) for bits in (ones, twos))
        parts = [_tree(m, bits, name) for bits, name in ((ones, "ones"), (twos, "twos")) if bits]
        if self.deep:
            parts = [_registered(m, part) for part in parts]
        total = sum(part << place for place, part in enumerate(parts))
        m.d.comb += self.count.eq(_registered(m, total[: len(self.count)]))
        return m


def _registered(m, value):
    # A flag that comes along says when it counts: data have no reset, which saves wires.
    register = Signal.like(value, name="register", reset_less=True)
    m.d.sync += register.eq(value)
    return register


def _tree(m, level, name):
    """Sum of a list of bits."""
    depth = 0
    # Named intermediate sums: a nested expression of this size would be duplicated, not shared.
    while len(level) > 1:
        depth += 1
        following = []
        for index in range(0, len(level), 2):
            pair = level[index : index + 2]
            partial = Signal(depth + 1, name=f"{name}{depth}_{index // 2}")
            m.d.comb += partial.eq(sum(pair[1:], pair[0]))
            following.append(partial)
        level = following
    return level[0]
