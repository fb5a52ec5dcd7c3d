"""Carry chains of ECP5, where one cell does more than the addition that Yosys sees in it.

A CCU2C has two halves, each with inputs A, B, C, D. Its LUT4 gives the sum before the carry, and
chooses what goes on: the carry in if it is 1, else a LUT2 of A and B, whose contents are the LUT4's
four lowest entries (Yosys' ``ccu2c_sim.vh``). In a LUT's contents, A is bit 0 of an entry's index.
"""

from amaranth.hdl import Cat, Const, Instance, Signal

__all__ = ["accumulate", "has_carry_cells", "threes"]

#: With C = 1: S is the carry in, and A xnor B goes on.
FEED = 0x0009
#: S and carry of (A xnor B) + (C xor D) + carry in.
ADD = 0x9669
#: S is the carry in, and 0 goes on.
HAND_OUT = 0x0000
#: With D = 1: S and carry of A + (0 if C else B) + carry in.
RESTART = 0xA60A


def has_carry_cells(platform):
    """Whether ``platform`` is an ECP5; without one (simulation) there are no cells."""
    return getattr(platform, "device", "").startswith("LFE5U")


def carry_chain(m, halves):
    """S of each half, for a list of (init, A, B, C, D), the first one's carry in being 0."""
    halves = [*halves, *[(HAND_OUT, 0, 0, 0, 0)] * (len(halves) % 2)]
    sums = [Signal(name=f"half{index}") for index in range(len(halves))]
    carry = Const(0)
    for index in range(0, len(halves), 2):
        ports, following = {}, Signal(name=f"carry{index}")
        for place in (0, 1):
            init, *inputs = halves[index + place]
            ports[f"p_INIT{place}"] = Const(init, 16)
            ports[f"p_INJECT1_{place}"] = "NO"
            ports[f"o_S{place}"] = sums[index + place]
            for letter, value in zip("ABCD", inputs, strict=True):
                ports[f"i_{letter}{place}"] = Const(value, 1) if isinstance(value, int) else value
        m.submodules += Instance("CCU2C", i_CIN=carry, o_COUT=following, **ports)
        carry = following
    return sums


def threes(m, spikes, weights):
    """(bits worth one, bits worth two) whose sum is the number of positions that agree.

    Of three positions, a half feeds one into the carry and the next half adds the other two: its S
    is worth one, and its carry, which the half behind it hands out, two.
    """
    count = len(spikes)
    halves, one_places, two_places = [], [], []
    for first in range(0, count - 1, 3):
        second, third = first + 1, first + 2
        if first:
            two_places.append(len(halves))
        if third < count:
            halves.append((FEED, spikes[third], weights[third], 1, 0))
        else:
            halves.append((HAND_OUT, 0, 0, 0, 0))
        one_places.append(len(halves))
        halves.append((ADD, spikes[first], weights[first], ~spikes[second], weights[second]))
    two_places.append(len(halves))
    halves.append((HAND_OUT, 0, 0, 0, 0))
    sums = carry_chain(m, halves)
    ones, twos = ([sums[place] for place in places] for places in (one_places, two_places))
    if count % 3 == 1:
        ones.append(~(spikes[-1] ^ weights[-1]))
    return ones, twos


def accumulate(m, total, addend, restart):
    """``addend`` if ``restart``, else ``total + addend``; as wide as ``total``."""
    padded = Signal.like(total)
    m.d.comb += padded.eq(addend)
    halves = [(RESTART, padded[bit], total[bit], restart, 1) for bit in range(len(total))]
    return Cat(carry_chain(m, halves)[: len(total)])
