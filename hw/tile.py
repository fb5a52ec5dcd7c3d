"""How a finished tile leaves the unit that summed it."""

from amaranth.hdl import Mux, Signal
from amaranth.lib import data

__all__ = ["hand_out"]


def hand_out(m, unit, done, sums, passes=None, slow=None):
    """Hand out the ``pe`` sums, ``units`` a cycle, channel 0 first, once ``done``.

    They move to a second set of registers, so the next tile starts at once; it may be done
    ``groups`` cycles later. With ``passes``, a value of up to ``unit.passes``, all come so often.
    While ``slow``, a group comes every fourth cycle only.
    """
    channel = unit.out.shape().elem_shape
    waiting = Signal(data.ArrayLayout(channel, unit.pe), reset_less=True)
    groups, most = unit.groups, unit.groups
    if passes is not None:
        groups, most = passes * unit.groups, unit.passes * unit.groups
    left = Signal(range(most + 1))
    with m.If(done):
        m.d.sync += left.eq(groups)
        m.d.sync += [waiting[p].eq(value) for p, value in enumerate(sums)]
    with m.Elif(unit.out_valid):
        m.d.sync += left.eq(left - 1)
        m.d.sync += [waiting[p].eq(waiting[p + unit.units]) for p in range(unit.pe - unit.units)]
        if passes is not None:
            m.d.sync += [
                waiting[p].eq(waiting[(p + unit.units) % unit.pe])
                for p in range(unit.pe - unit.units, unit.pe)
            ]
    comes = left != 0
    if slow is not None:
        turn = Signal(2)
        m.d.sync += turn.eq(Mux(done, 0, turn + 1))
        comes &= ~slow | (turn == 0)
    m.d.comb += unit.out_valid.eq(comes)
    m.d.comb += [unit.out[u].eq(waiting[u]) for u in range(unit.units)]
