"""The bounds that hold for every input: never left, and as tight as they claim."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sw import formats
from sw.bounds import ExportError, bounds, check, current_range, membrane_range, sum_range
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.support import random_frames, random_image

TINY = Network("tiny", Shape(1, 8, 8), [Stem(4), Conv(6, pool=2), Conv(5), Readout(3)], T=3)


@pytest.mark.parametrize("neuron", ["agmm", "vanilla"])
@pytest.mark.parametrize("tau", [0.0, 0.5, 0.875])
def test_nothing_leaves_its_bounds(neuron, tau):
    """Random and extreme frames and spikes stay inside what the weights promise."""
    network = TINY.replace(neuron=neuron, tau=tau)
    image = random_image(network, 2)
    integer, limits = IntegerNetwork(image), bounds(image)
    frames = torch.cat([
        random_frames(network, 20), torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
        torch.full((1, 1, 8, 8), 255, dtype=torch.uint8),
    ])
    _, boundaries = integer(frames, record=True)
    for index in (1, 2):
        layer, bound = integer.layers[index], limits[index]
        shape = network.shapes[index]
        for spikes in (
            boundaries[index - 1].spikes,
            torch.ones(3, 1, shape.channels, shape.height, shape.width, dtype=torch.uint8),
        ):
            current = formats.spike_current(layer.sums(spikes), layer.bias)
            low, high = current.amin((0, 1, 3, 4)), current.amax((0, 1, 3, 4))
            half = 1 << (torch.from_numpy(bound.current) - 1)
            assert (low >= -half).all() and (high < half).all()
            if neuron == "agmm":
                mean = layer.mean(layer.sums(spikes))
                assert formats.fits_signed(mean.min(), bound.mean_bits)
                assert formats.fits_signed(mean.max(), bound.mean_bits)


def test_sum_bounds_are_reached():
    """The bound on P is exact: the spikes that match a channel's weights reach it."""
    data = random_image(TINY, 2).layers[2]
    low, high = sum_range(TINY.layers[2], data.weights, TINY.T)
    for channel, weights in enumerate(np.where(data.weights, 1, -1)):
        assert (weights * (weights > 0)).sum() == high[channel]
        assert (weights * (weights < 0)).sum() == low[channel]


def test_readout_bounds_are_reached():
    """Spikes in every step where a weight 2w + 1 is positive, or where it is negative."""
    image = random_image(TINY, 2)
    data, bound = image.layers[3], bounds(image)[3]
    low, high = sum_range(TINY.layers[3], data.weights, TINY.T)
    for channel, weights in enumerate(data.weights.astype(int).tolist()):
        assert high[channel] == 3 * sum(2 * w + 1 for w in weights if w >= 0)
        assert low[channel] == 3 * sum(2 * w + 1 for w in weights if w < 0)
        ends = [end[channel] + 2 * data.bias[channel] for end in (low, high)]
        bits = bound.accumulator[channel]
        assert all(formats.fits_signed(end, bits) for end in ends)
        assert not all(formats.fits_signed(end, bits - 1) for end in ends)
        # As stored, the weights would promise half of that.
        assert high[channel] > 3 * sum(w for w in weights if w > 0)


def test_logits_stay_inside_their_bounds_and_reach_them():
    image = random_image(TINY, 2)
    integer, data = IntegerNetwork(image), image.layers[3]
    low, high = (end + 2 * data.bias for end in sum_range(TINY.layers[3], data.weights, TINY.T))
    logits = integer(random_frames(TINY, 20)).numpy()
    assert (logits >= low).all() and (logits <= high).all()
    for channel, weights in enumerate(torch.from_numpy(data.weights.astype(int))):
        for spikes, end in ((weights >= 0, high), (weights < 0, low)):
            spikes = spikes.to(torch.uint8).expand(TINY.T, 1, -1)
            assert integer.layers[3](spikes)[0, channel] == end[channel]


@pytest.mark.parametrize("leak_shift", [0, 1, 2, 3])
def test_membranes_stay_in_their_range_and_reach_it(leak_shift):
    rng, gains = np.random.default_rng(leak_shift), [(0, 255), (256, 256), (0, 255), (40, 40)]
    low, high = np.array([-90, 5, -70, -9]), np.array([80, 60, -20, 200])
    threshold = np.array([100, 150, 3, 30])
    lowest, highest = membrane_range(low, high, gains, leak_shift, threshold)
    seen = []
    for trial in range(400):
        membrane = np.zeros(4, int)
        for pair in gains:
            current = (low, high)[trial] if trial < 2 else rng.integers(low, high + 1)
            gain = pair[trial % 2] if trial < 4 else rng.integers(pair[0], pair[1] + 1)
            membrane = formats.leak(membrane, leak_shift) + formats.apply_gain(current, gain)
            seen.append(membrane)
            membrane = np.where(membrane >= threshold, 0, membrane)
    assert (np.min(seen, 0) >= lowest).all() and (np.max(seen, 0) <= highest).all()
    free = membrane_range(low, high, [(256, 256)] * 4, leak_shift)[1]
    membrane = 0
    for _ in range(4):
        membrane = formats.leak(membrane, leak_shift) + np.maximum(high, 0)
    assert (free[high > 0] == membrane[high > 0]).all()


@pytest.mark.parametrize("high, highest", [(10, 15), (11, 16), (20, 25)])
def test_a_membrane_below_the_threshold_may_stay(high, highest):
    """Of a threshold of 11: 10 stays, of which half leaks away; 11 fires and leaves at most 10."""
    ends = membrane_range(*np.array([[-11], [high]]), [(256, 256)] * 2, 1, np.array([11]))
    assert [end.tolist() for end in ends] == [[-16], [highest]]


def test_membranes_that_need_more_bits_than_currents_are_looked_at():
    """With tau = 0.875 the membrane reaches seven times the current: three bits, not two."""
    network = TINY.replace(neuron="vanilla", tau=0.875, T=16)
    image = random_image(network, 2)
    layer, data, bound = network.layers[1], image.layers[1], bounds(image)[1]
    ends = current_range(layer, *sum_range(layer, data.weights, 16), data.bias)
    needed = [
        next(bits for bits in range(1, 20) if all(formats.fits_signed(end, bits) for end in pair))
        for pair in zip(*ends, strict=True)
    ]
    assert bound.current.tolist() == np.maximum(needed, bound.membrane - 2).tolist()
    assert (bound.current > needed).any()


def with_agmm(**changes):
    """TINY's image with another AGMM of its second convolution."""
    image = random_image(TINY, 2)
    layers = list(image.layers)
    layers[2] = replace(layers[2], agmm=replace(layers[2].agmm, **changes))
    return replace(image, layers=tuple(layers))


@pytest.mark.parametrize("factor, fits", [
    (-(1 << 15), True), ((1 << 15) - 1, True), (-(1 << 15) - 1, False), (1 << 15, False),
])
def test_the_ends_of_a_format_are_in_it(factor, fits):
    image = with_agmm(factor=np.array([factor, 0, 0]))
    if fits:
        check(image)
    else:
        with pytest.raises(ExportError, match="the AGMM factor"):
            check(image)


def test_sums_before_the_offset_must_fit_too():
    """An offset in the middle of them would halve what they reach."""
    table = np.abs(random_image(TINY, 2).layers[2].agmm.table)
    top = int(bounds(with_agmm(table=table, offset=0))[2].mean)
    for offset in (-(1 << top - 2), 0):
        assert bounds(with_agmm(table=table, offset=offset))[2].mean == top


def test_an_image_too_wide_for_an_engine_is_refused():
    image = random_image(TINY)
    bits = max(bound.current_bits for bound in bounds(image))
    check(image, bits)
    with pytest.raises(ExportError, match=f"may need {bits} bits, the format has {bits - 1}"):
        check(image, bits - 1)
