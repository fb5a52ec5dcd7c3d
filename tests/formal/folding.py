"""What the export and the program fold away changes no spike and no logit.

What they round is no part of this: the learned weights, and batch norm to biases and slopes.
"""

from functools import partial
from itertools import product
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
import z3

from sw import export, formats, packing, program
from sw.bounds import current_range
from sw.formats import FRACTION, GAIN_ONE, PLANES, SLOPE_FRACTION
from sw.layers import AveragedConv, Conv, Shape, Stem
from tests.formal.integers import ARRAYS, ZERO, Integer, array, between, integers
from tests.formal.proof import Claim
from tests.formal.ranges import BYTES, longer
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


def _constant(layer, weakest, rounds):
    """Of one layer, and the smallest gain: after ``rounds`` of looking for a bias of fewer bits."""
    low, high, bias, threshold, total, gain = integers("low high bias threshold total gain")
    membranes, reaches = integers("before after"), z3.Function("reach", *[z3.IntSort()] * 3)
    exact = Integer(z3.Real("exact"))
    given = [threshold >= 1, between(total, low, high), between(gain, weakest, GAIN_ONE)]
    ceiling = []

    class Unit:
        def __rtruediv__(self, _):
            return exact

    def ceil(value):
        ceiling.extend((threshold - 1 < value, value <= threshold))
        return SimpleNamespace(astype=lambda _: threshold)

    def membrane_range(least, most, *_):
        reach = Integer(reaches(least.term, most.term))
        given.append(reach >= formats.apply_gain(least, weakest))
        return None, reach

    network = SimpleNamespace(
        layers=[layer], v_threshold=1, T=1, leak_shift=1, is_streamed=lambda _: False
    )
    answers = iter([True] * rounds + [False])
    with patch.multiple(
        export, _whole=lambda _: bias, sum_range=lambda *_: (low, high),
        membrane_range=membrane_range,
        np=SimpleNamespace(**vars(ARRAYS) | dict(maximum=lambda unit, _: unit, ceil=ceil)),
    ), patch.object(z3.BoolRef, "any", lambda _: next(answers), create=True):
        folded = export._fold_neuron(network, 0, None, Unit(), 0, 0, [(weakest, GAIN_ONE)])[:2]

    never, always, silent, fires = [], [], [], []
    for membrane, neuron in zip(membranes, ((bias, threshold), folded), strict=True):
        ends = current_range(layer, low, high, neuron[0])
        _, current = current_range(layer, low, total, neuron[0])
        reach = membrane_range(*ends)[1]
        given += [
            membrane <= reach,
            z3.Implies(z3.And(ends[0] <= current, gain >= 0), ends[0] * gain <= current * gain),
            z3.Implies(
                z3.And(ends[0] >= 0, gain >= weakest), ends[0] * weakest <= ends[0] * gain
            ),
        ]
        never.append(reach < neuron[1])
        always.append(formats.apply_gain(ends[0], weakest) >= neuron[1])
        silent.append(membrane < neuron[1])
        fires.append(formats.apply_gain(current, gain) >= neuron[1])
    same = z3.And(folded[0].term == bias.term, folded[1].term == threshold.term)
    kept = z3.If(never[0], z3.And(*silent), z3.If(always[0], z3.And(*fires), same))
    return z3.And(
        z3.Implies(z3.And(*given), kept),
        z3.Implies(z3.And(*ceiling), (membranes[0] >= threshold) == (membranes[0] >= exact)),
    )


def constants():
    """A neuron that is never to fire or always, as it was and as it is exported; the rest is kept.

    Before: any bias, and the smallest integer that is no less than the real threshold, for which a
    membrane, being an integer, fires as for that. Gains are of any range up to one. Never: nothing
    takes the membrane to the threshold (``reach-in-range``, which says too that ``reach`` is no
    less than a first step's drive); then it has not fired, and is within reach. Always: the least
    drive is enough; then it begins each step from 0, which no leak changes. That larger factors
    make larger products is among the ``rules-rise``.
    """
    return {
        f"{type(layer).__name__} gain {weakest} rounds {rounds}": _constant(layer, weakest, rounds)
        for layer, gains in ((Conv(1), range(GAIN_ONE + 1)), (Stem(1), [GAIN_ONE]))
        for weakest in gains for rounds in range(1 if 0 < weakest < GAIN_ONE else 3)
    }


def _stored(layer, weights, bias, slope):
    """Biases that the program gives to the channels of a layer (``_CoreImage.add``)."""
    data = SimpleNamespace(weights=weights, bias=array(bias), threshold=None, slope=slope)
    with patch.multiple(
        program, binary_words=_nothing, byte_words=_nothing,
        channel_words=lambda offsets, *_: offsets,
    ), patch.object(program._CoreImage, "_place", lambda _, words, channels: channels):
        stored, = program._CoreImage(None, 0).add(layer, None, data, None, None)
    return stored


def _nothing(*_):
    return None


def _word(number, bits):
    """What two's complement of so many bits makes of an Integer."""
    half = 1 << (bits - 1)
    return Integer((number + half).term % (2 * half) - half)


def biases():
    """Induction over the inputs, of any spikes; then what is left of it in words.

    A count of agreements is that of ``popcount`` and ``array``, 0 of no input. As the circuits have
    it, currents wrap around at their width, and so does the bias in its slot, which is added to
    them (``hw/lif.py``). With a slope, counts do not wrap (``sw.stream.check_stream``), but the
    bias does at 32 bits, which is added before the fraction is dropped (``scale``). Right is a
    current that fits its width, as the export sees to. Of products in words nothing is known.
    """
    count, before, negative, bias, slope, scaled, exact = integers(
        "count before negative bias slope scaled exact"
    )
    spike = _bit("spike")
    minus, plus = (longer(np.array([[weight]]), negative, negative) for weight in (False, True))
    half, claims = 1 << (SLOPE_FRACTION - 1), {}
    for name, layer, weights, sums, rule in (
        ("-1", Conv(1), minus, (count + 1 - spike) << FRACTION,
         partial(formats.spike_current, before - spike)),
        ("+1", Conv(1), plus, (count + spike) << FRACTION,
         partial(formats.spike_current, before + spike)),
        ("stem", Stem(1), np.zeros((1, 1, 1, 1), np.int8), formats.stem_current(before, 0),
         partial(formats.stem_current, before)),
    ):
        given = before.term == (count - negative).term
        stored, fine = (
            _stored(layer, weights, bias, limit) for limit in (None, array(slope))
        )
        claims[name] = z3.Implies(given, (sums + stored).term == rule(bias).term)
        claims[f"{name}, slope"] = z3.Implies(given, (
            sums * slope + fine - rule(0) * slope
        ).term == ((bias << SLOPE_FRACTION) + half).term)
    for width, slot in ((16, 16), (16, 32), (18, 32)):
        current = _word(_word(exact - bias, width) + _word(bias, slot), width)
        claims[f"{width} bits, {slot} stored"] = z3.Implies(
            _word(exact, width).term == exact.term, current.term == exact.term
        )
    for width in (16, 18):
        right = formats.stream_current(exact, 1, bias)
        stored = exact + half + (bias << SLOPE_FRACTION) - scaled
        current = _word((scaled + _word(stored, 32)) >> SLOPE_FRACTION, width)
        claims[f"{width} bits, slope"] = z3.Implies(
            _word(right, width).term == right.term, current.term == right.term
        )
    return claims


def units():
    """The unit of a current, which biases and thresholds are divided by, is that of its sum.

    Batch norm's gain times a weight times an input, as a real number: exact for spikes, and for the
    Stem but for what ``>> STEM_SHIFT`` drops. A channel for every weight there is, gains of either
    sign, and a kernel over averages: the average of four spikes is an input.
    """
    spikes, claims = integers("north east south west"), {}
    for (layer, fold, weights), gain in product((
        (Conv(2, 1), export._fold_conv, [-1, 1]),
        (AveragedConv(2, 1).plain, export._fold_conv, [-1, 1]),
        (Stem(255, 1), export._fold_stem, BYTES[1:].tolist()),
    ), (-0.75, 0.5)):
        image, unit = _folded(layer, fold, torch.tensor(weights)[:, None, None, None], gain)
        inputs = spikes[: layer.kernel**2]
        dropped = []
        for weight, stored, real in zip(weights, image.weights, unit, strict=True):
            signs = np.where(stored, 1, -1) if stored.dtype == bool else stored
            total = sum(int(sign) * spike for sign, spike in zip(signs.flat, inputs, strict=True))
            current = current_range(layer, total, total, 0)[0].term
            exact = z3.RealVal(gain * weight) * sum(inputs).term / len(inputs)
            dropped.append((exact - z3.RealVal(real) * current, real))
        claims[f"{type(layer).__name__} {layer.kernel} {gain}"] = z3.And(*(
            z3.And(rest >= 0, rest < real) if isinstance(layer, Stem) else rest == 0
            for rest, real in dropped
        ))
    return claims


def _folded(layer, fold, weights, gain):
    """LayerImage, and the unit of its current, of weights whose batch norm has this gain."""
    conv = SimpleNamespace(
        weight=weights, signs=weights > 0, integers=weights, kernel_size=weights.shape[2:],
        gamma=torch.ones(len(weights)), scale=255 * torch.ones(len(weights)),
    )
    network = SimpleNamespace(layers=[layer], T=1, layer_name=str, has_agmm=lambda _: False)
    with patch.multiple(
        export, fold_norm=lambda _: (np.full(len(weights), gain), np.zeros(len(weights))),
        _fold_neuron=lambda _, __, weights, unit, *___: (unit, None, None),
    ):
        image = fold(network, 0, SimpleNamespace(conv=conv, norm=None), None)
    return image, image.bias.tolist()


def logits():
    """Counts of planes, doubled and added (``hw/readout.py``), plus what the program stores.

    Of two inputs, every weight for either, and three steps on lanes for four: the last, and the
    inputs that fill a word, have no spikes. Integers here do not wrap (``sw.program``).
    """
    engine = SimpleNamespace(pe=8, simd=4, units=2, steps=2, pixels=1)
    weights = np.stack([BYTES, BYTES[::-1]], axis=1)
    planes = packing.readout_planes(weights, Shape(2, 1, 1), 1, engine)
    biases = integers(" ".join(f"bias{c}" for c in range(len(weights))))
    with patch.multiple(
        packing, to_words=lambda values, _: values, channel_slot_bits=lambda _: 0,
        np=SimpleNamespace(**vars(np) | dict(int64=object)),
    ):
        stored = packing.logit_words(array(*biases), planes, engine, passes=2)
    spikes = [[_bit(f"spike{t}_{i}") for i in range(2)] for t in range(3)]
    # Set by set of classes, and in a set plane by plane.
    sets = (len(weights) // engine.units, PLANES, engine.units)
    planes, stored = planes.reshape(*sets, engine.simd), stored.reshape(sets)
    equal = []
    for c, bias in enumerate(biases):
        place, logit = (c // engine.units, slice(None), c % engine.units), ZERO
        for plane in planes[place]:
            padded = [[*step, ZERO, ZERO] for step in (*spikes, [ZERO] * 2)]
            logit = logit * 2 + sum(
                spike if bit else 1 - spike
                for step in padded for spike, bit in zip(step, plane, strict=True)
            )
        exact = sum(
            spike * int(formats.readout_weight(int(weight)))
            for step in spikes for spike, weight in zip(step, weights[c], strict=True)
        )
        equal.append((logit + stored[place][-1]).term == (exact + bias * 2).term)
    return {"logits": z3.And(*equal)}


def _bit(name):
    return Integer(z3.If(z3.Bool(name), z3.IntVal(1), z3.IntVal(0)))


PROOFS = [
    Claim(
        "constant-neurons",
        "a neuron whose bias and threshold the export makes smaller has the same spikes", constants,
        Mutation("sw/export.py", "np.where(silent, reach(bias) + 1, threshold)",
                 "np.where(silent, reach(bias), threshold)",
                 "a silent channel's threshold is within reach"),
    ),
    Claim(
        "units-folded", "a current has the unit that its bias and threshold are divided by", units,
        Mutation("sw/export.py", "np.where(gain[:, None, None, None] < 0, -weights, weights)",
                 "weights", "a negative gain does not flip the stem's weights"),
    ),
    Claim(
        "biases-folded",
        "counts of agreements and the bias that is stored make the current of the sum", biases,
        Mutation("sw/program.py", "negative << formats.FRACTION", "negative",
                 "a -1 weight is taken off as a fraction"),
    ),
    Claim(
        "logits-folded", "a logit is the sum of weights over spikes, and twice the bias", logits,
        Mutation("sw/packing.py", "passes * engine.steps * np.einsum", "engine.steps * np.einsum",
                 "lanes of a second pass are not thought of"),
    ),
]
