"""Ranges of the export hold: no sum over weights, stream or AGMM mean leaves the one it is given.

The statements are about the functions themselves.
"""

from functools import partial
from itertools import product
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import z3

from sw import bounds, formats
from sw.image import MEAN_SHIFTS
from sw.layers import Conv, Readout, ResidualConv, Stem
from sw.positions import Axis
from tests.formal.integers import ARRAYS, ZERO, array, between, clamp, integers, where
from tests.formal.proof import Claim
from tests.formal.widths import STEPS
from tests.mutants.mutation import Mutation

__all__ = ["BYTES", "PROOFS", "longer"]

#: Of 8 bits; -128 too, which the trainer does not make.
BYTES = np.arange(-128, 128, dtype=np.int8)

#: A channel without inputs.
NONE = np.zeros((1, 0), np.int8)

#: Rows and columns of maps for the AGMM.
MAPS = (1, 3), (4, 4), (5, 2), (28, 9)


def _itself(value):
    return value


def longer(weights, *before):
    """Weights ``[C, inputs]`` that are the end of longer ones: those before count in every sum.

    before: what they add to one sum after the other, the same in all channels.
    """
    rest = iter(before)

    class End(np.ndarray):
        def sum(self, axis):
            return array(next(rest)) + np.asarray(self).sum(axis)

    return weights.view(End)


def sums():
    """Induction over the inputs: none, or one more to any that keep their sum in its range.

    Every weight there is has a channel of its own. A sum of NumPy's is taken to be that over all
    inputs but one, and the last; of what they add nothing is known.
    """
    one, other, total, value, steps = integers("one other total value steps")
    claims = {}
    for layer, weights, factors, most in (
        (Conv(2), np.array([False, True]), [-1, 1], 1),
        (Stem(256), BYTES, BYTES, 255),
        (Readout(256), BYTES, formats.readout_weight(BYTES.astype(int)), steps),
    ):
        weights, none = weights[:, None], NONE.astype(weights.dtype)
        first, before, after = (
            zip(*bounds.sum_range(layer, inputs, array(steps)), strict=True)
            for inputs in (none, longer(none, one, other), longer(weights, one, other))
        )
        given = z3.And(steps >= 0, between(value, 0, most), between(total, *next(before)))
        name = type(layer).__name__
        claims[f"{name}, no input"] = between(ZERO, *next(first))
        claims[f"{name}, one more"] = z3.Implies(given, z3.And(*[
            between(total + value * factor, *ends)
            for factor, ends in zip(factors, after, strict=True)
        ]))
    return claims


def projections():
    """As ``sums``, of any stream in a range; then of any sum in its range what is made of it.

    That a slope keeps the order of what it multiplies is among the ``rules-rise``.
    """
    low, high, one, other, total, value, slope, bias = integers(
        "low high one other total value slope bias"
    )

    made = []
    for weights in (NONE, longer(NONE, one, other), longer(BYTES[:, None], one, other)):
        projection = SimpleNamespace(
            weights=weights.astype(np.int64), slope=array(slope), bias=array(bias)
        )
        with patch.object(bounds, "np", ARRAYS):
            ends = bounds.projection_range(projection, (array(low), array(high)))
        made.append([list(zip(*pair, strict=True)) for pair in ends])
    (none, *_), ((before,), (currents,), (streams,)), (after, *_) = made
    least, operand, most = (formats.projected(end, clamp) for end in (before[0], total, before[1]))
    current = formats.stream_current(operand, slope, bias)
    given = z3.And(between(value, low, high), between(total, *before), slope >= 0)
    rises = [
        z3.Implies(z3.And(lower <= upper, slope >= 0), lower * slope <= upper * slope)
        for lower, upper in ((least, operand), (operand, most))
    ]
    return {
        "no input": between(ZERO, *none[0]),
        "one more": z3.Implies(given, z3.And(*[
            between(total + value * weight, *ends)
            for weight, ends in zip(BYTES, after, strict=True)
        ])),
        "currents": z3.Implies(z3.And(given, *rises), between(current, *currents)),
        "stream": z3.Implies(
            between(current, *currents), between(formats.saturate(current, clamp), *streams)
        ),
    }


def streams():
    """Currents under gains of any ranges (``drives-in-range``), plus a shortcut of any range.

    The second channel is one that is new behind the layer: nothing is added to it.
    """
    low, high, around, *square = integers("low high around north east south west")
    least, most = (integers(" ".join(f"{end}{t}" for t in range(STEPS))) for end in ("low", "high"))
    drive, = integers("drive")
    ranges = ((array(low, low), array(high, high)) for low, high in zip(least, most, strict=True))
    with patch.object(bounds, "np", ARRAYS), patch.object(
        bounds, "_driven", lambda *_: next(ranges)
    ):
        ends = bounds.stream_range(
            ResidualConv(2), None, None, range(STEPS), (array(low), array(high))
        )
    given = z3.And(between(around, low, high), z3.Or(*map(partial(between, drive), least, most)))
    claims = {
        name: z3.Implies(given, between(formats.saturate(drive + added, clamp), *pair))
        for name, added, pair in zip(
            ("with a shortcut", "new"), (around, 0), zip(*ends, strict=True), strict=True
        )
    }
    claims["average"] = z3.Implies(
        z3.And(*(between(value, low, high) for value in square)),
        between(formats.average(sum(square)), low, high),
    )
    return claims


def means():
    """Induction over the pixels, in whatever order they come: the range has a term for each.

    So it bounds every sum on the way, of any spikes and any table; ``agmm-mean`` says that the
    classes are right. Maps are of some sizes, with and without a middle.
    """
    total, low, high, entry = integers("total low high entry")
    claims = {"one more": z3.Implies(between(total, low, high), between(
        total + where(z3.Bool("spike"), entry, 0),
        low + ARRAYS.minimum(entry, 0), high + ARRAYS.maximum(entry, 0),
    ))}
    for (height, width), kernel, stride in product(MAPS, (1, 2, 3, 4, 5, 7), (1, 2)):
        layer = SimpleNamespace(kernel=kernel, stride=stride, padding=kernel // 2)
        axes = [Axis.of(size, kernel, stride, layer.padding) for size in (height, width)]
        table = np.empty((2, *(axis.classes for axis in axes)), object)
        table.flat = integers(" ".join(f"entry{place}" for place in range(table.size)))
        with patch.multiple(bounds, create=True, np=ARRAYS, int=_itself):
            ends = bounds.mean_range(layer, SimpleNamespace(height=height, width=width), table)
        classes = ([axis.class_of(place) for place in range(axis.size)] for axis in axes)
        placed = table[:, *np.ix_(*classes)]
        claims[f"{height}x{width} kernel {kernel} stride {stride}"] = z3.And(*(
            end.term == bound(placed, 0).sum().term
            for end, bound in zip(ends, (ARRAYS.minimum, ARRAYS.maximum), strict=True)
        ))
    return claims


def offsets():
    """The offset of a mean is added before all entries or behind them (``hw/agmm.py``), or never.

    Whatever holds those numbers that ``mean`` is made of, and those of ``mean_scaled``, between two
    limits, as that of a number of bits does. The range of the entries has 0 in it (``means``).
    """
    low, high, offset, total, least, most = integers("low high offset total least most")
    network = SimpleNamespace(
        layers=[Conv(1)], shapes=[None], layer_name=str, coded=False, T=1, leak_shift=1
    )
    nothing, claims = np.zeros(1, int), {}
    for shift in MEAN_SHIFTS:
        agmm = SimpleNamespace(
            offset=offset, shift=shift, table=nothing, factor=nothing, sigmoid=nothing,
        )
        data = SimpleNamespace(
            weights=np.ones((1, 1), bool), bias=nothing, threshold=nothing, slope=None, gain=None,
            agmm=agmm,
        )
        with patch.multiple(
            bounds, create=True, min=ARRAYS.minimum, max=ARRAYS.maximum,
            mean_range=lambda *_: (low, high), _signed_bits=lambda *values: values,
            _channel_bits=lambda *_: nothing,
        ):
            bound, _ = bounds._layer_bounds(network, 0, data, None)
        for name, numbers, sums in (
            ("sums", bound.mean, (total, offset, offset + total)),
            (f"scaled {shift}", bound.mean_scaled, [(offset + total) >> shift]),
        ):
            claims[name] = z3.Implies(
                z3.And(
                    low <= 0, high >= 0, between(total, low, high),
                    *(between(number, least, most) for number in numbers),
                ),
                z3.And(*(between(value, least, most) for value in sums)),
            )
    return claims


PROOFS = [
    Claim(
        "sums-in-range", "a sum of weights over inputs is within the range of the export's bounds",
        sums,
        Mutation("sw/bounds.py", "return -(~flat).sum(1), flat.sum(1)",
                 "return -(~flat).sum(1), (~flat).sum(1)", "as many weights are +1 as -1"),
    ),
    Claim(
        "projections-in-range",
        "sum, current and stream of a projection are within the ranges of the export's bounds",
        projections,
        Mutation("sw/bounds.py", "(before[::-1], before))", "(before, before[::-1]))",
                 "negative weights are thought positive"),
    ),
    Claim(
        "streams-in-range", "a stream is within the range of the export's bounds", streams,
        Mutation("sw/bounds.py", "(0, layer.channels - len(end))", "(layer.channels - len(end), 0)",
                 "the channels that are new are thought to be the first"),
    ),
    Claim(
        "means-in-range",
        "sums of AGMM table entries are within their range, over spikes in any order", means,
        Mutation("sw/bounds.py", "np.minimum(table, 0) * count", "np.minimum(table, 0)",
                 "a class is thought to have a single position"),
    ),
    Claim(
        "offsets-in-range", "an AGMM mean with its offset has no more bits than the export says",
        offsets,
        Mutation("sw/bounds.py", "mean = _signed_bits(*ends, min(K, 0) + ends[0], ",
                 "mean = _signed_bits(*ends, ", "a negative offset is not thought of"),
    ),
]
