"""Bounds of the export hold: no current and no membrane leaves the range that it is given.

The statements are about the functions themselves, called with integers of z3.
"""

from functools import partial
from unittest.mock import patch

import z3

from sw import bounds, formats
from sw.layers import LEAKS
from tests.formal.integers import ARRAYS, ZERO, Integer, between, clamp, integers, where
from tests.formal.proof import Claim
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS", "STEPS"]

#: Time steps, as many as a network may have.
STEPS = 16


def monotone():
    """Of a rising number, every rule gives a rising one: the ends of a range bound all of it."""
    low, high, bias, by = integers("low high bias by")
    rules = {
        "spike_current": partial(formats.spike_current, bias=bias),
        "stem_current": partial(formats.stem_current, bias=bias),
        "saturate": partial(formats.saturate, clamp=clamp),
        "projected": partial(formats.projected, clamp=clamp),
        "average": formats.average,
        **{f"leak {shift}": partial(formats.leak, shift=shift) for shift in LEAKS.values()},
    }
    claims = {
        name: z3.Implies(low <= high, rule(low) <= rule(high)) for name, rule in rules.items()
    }
    ordered, scale = z3.And(low <= high, by >= 0), Integer(z3.IntVal(1 << formats.SLOPE_FRACTION))
    claims["stream_current"] = z3.Implies(
        z3.And(ordered, low * by <= high * by),
        formats.stream_current(low, by, bias) <= formats.stream_current(high, by, bias),
    )
    claims["products"] = z3.Implies(ordered, low * by <= high * by)
    value, = integers("value")
    claims["gain of one"] = formats.apply_gain(value, formats.GAIN_ONE).term == value.term
    claims["slope of one"] = formats.stream_current(value, scale, bias).term == (value + bias).term
    return claims


def driven():
    """A current of a range, under a gain of a range, is within what ``bounds`` says."""
    low, high, least, most, current, gain = integers("low high least most current gain")
    with patch.object(bounds, "np", ARRAYS):
        ends = bounds._driven(low, high, (least, most))
    given = z3.And(least >= 0, between(current, low, high), between(gain, least, most))
    return {
        "lowest": z3.Implies(given, formats.apply_gain(current, gain) >= ends[0]),
        "highest": z3.Implies(given, formats.apply_gain(current, gain) <= ends[1]),
    }


def membranes(fires):
    """Drives of any ranges, a range for each step, and any drive of each: what the neuron does.

    fires: whether there is a threshold, or only what the membrane reaches until the first spike.
    Of the leak nothing is known but that it rises, which ``monotone`` says of all there are.
    """
    low, threshold = integers("low threshold")
    least, most, drives = (
        integers(" ".join(f"{name}{t}" for t in range(STEPS)))
        for name in ("least", "most", "drive")
    )
    leaks, ranges = z3.Function("leak", z3.IntSort(), z3.IntSort()), zip(least, most, strict=True)
    leaked = []

    def leak(membrane, _=None):
        leaked.append(membrane.term)
        return Integer(leaks(membrane.term))

    with patch.object(bounds, "np", ARRAYS), patch.object(formats, "leak", leak), \
            patch.object(bounds, "_driven", lambda *_: next(ranges)):
        ends = bounds.membrane_range(low, low, range(STEPS), None, threshold if fires else None)
    rest, within, given = ZERO, [], [threshold >= 0]
    for drive, *each, lower, upper in zip(
        drives, least, most, leaked[::2], leaked[1::2], strict=True
    ):
        potential = leak(rest) + drive
        given += [
            between(drive, *each),
            z3.Implies(lower <= rest.term, leaks(lower) <= leaks(rest.term)),
            z3.Implies(rest.term <= upper, leaks(rest.term) <= leaks(upper)),
        ]
        within.append(between(potential, *ends))
        rest = where(potential >= threshold, 0, potential) if fires else potential
    return {
        f"step {t}": z3.Implies(z3.And(*given), claim) for t, claim in enumerate(within)
    }


PROOFS = [
    Claim(
        "rules-rise", "the ends of a range of sums bound every current, stream and average of it",
        monotone,
        Mutation("sw/formats.py", "return membrane - (membrane >> shift)",
                 "return membrane - (membrane >> shift) * 2", "more leaks away than there is"),
    ),
    Claim(
        "drives-in-range", "a current under a gain is within the range of the export's bounds",
        driven,
        Mutation("sw/bounds.py", "np.minimum(*(least for least, _ in ends))", "ends[1][0]",
                 "the least current is thought least under the largest gain"),
    ),
    Claim(
        "membranes-in-range", "a membrane is within the range of the export's bounds",
        partial(membranes, fires=True),
        Mutation("sw/bounds.py", "np.maximum(threshold - 1, 0)", "0",
                 "a neuron that may fire is thought to rest at 0"),
    ),
    Claim(
        "reach-in-range", "a membrane that never fired is within the range of the export's bounds",
        partial(membranes, fires=False),
        Mutation("sw/bounds.py", "rest_low, rest_high = membrane_low, membrane_high",
                 "rest_low, rest_high = membrane_low, most", "a membrane is thought to forget"),
    ),
]
