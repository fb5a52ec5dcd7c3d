"""Networks with shortcuts in integers: the golden model, and the floats it comes from."""

import numpy as np
import pytest
import torch

from sw import formats
from sw.export import _fold_projection
from sw.golden import IntegerNetwork, IntegerShortcut, float_network
from sw.layers import Network, Readout, ResidualConv, Shape, Stem
from tests.support import random_frames, random_image, random_model
from tests.sw.residual import NETWORK, NETWORKS, PROJECTED, PROJECTIONS, SEED, remade
from tests.sw.test_golden import changed, differences


@pytest.mark.parametrize("kind", ["exact", "frozen", "vanilla"])
@pytest.mark.parametrize("network", [*NETWORKS.values(), NETWORK.replace(T=1, tau=0.0)],
                         ids=[*NETWORKS, "one step"])
def test_equals_plain_loops_at_every_boundary(network, kind):
    neuron = "vanilla" if kind == "vanilla" else "agmm"
    image = random_image(
        network.replace(neuron=neuron), SEED, "frozen" if kind == "frozen" else "exact"
    )
    frames = random_frames(network, 2, 11)
    assert differences(image, image, frames) == set()
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    for index, boundary in enumerate(boundaries):
        assert 0.02 < boundary.spikes.float().mean() < 0.9, "a comparison of nothing"
        if network.is_streamed(index):
            assert boundary.stream.dtype == torch.int32 and len(boundary.stream.unique()) > 20


@pytest.mark.parametrize("name, rule, layer", [
    ("average", lambda total: total >> 2, "residualconv2"),
    ("stream_current", lambda current, slope, bias: (current * slope >> 11) + bias, "stem0"),
    ("stream_current", lambda current, slope, bias: (current * slope + (bias << 11)) >> 11,
     "stem0"),
    ("apply_gain", lambda current, gain: current * gain >> 8, "residualconv1"),
])
def test_other_rules_are_noticed(monkeypatch, name, rule, layer):
    image, frames = random_image(NETWORK, SEED), random_frames(NETWORK, 1, 11)
    assert differences(image, image, frames) == set()
    monkeypatch.setattr(formats, name, rule)
    found = differences(image, image, frames)
    assert f"{layer} stream" in found
    assert not any(f"stem0 {what}" in found for what in ("spikes", "stream")) or layer == "stem0"


def test_a_lack_of_shortcuts_is_noticed(monkeypatch):
    image, frames = random_image(NETWORK, SEED), random_frames(NETWORK, 1, 11)
    whole = IntegerShortcut.forward
    monkeypatch.setattr(IntegerShortcut, "forward", lambda self, stream: 0 * whole(self, stream))
    found = differences(image, image, frames)
    assert "residualconv1 stream" in found and "stem0 stream" not in found


@pytest.mark.parametrize("rule", [
    lambda total, clamp: total + 32 >> 6, lambda total, clamp: -(-total >> 6),
    lambda total, clamp: total >> 7 << 1, lambda total, clamp: clamp(total >> 6, -128, 127),
])
def test_other_rules_of_projections_are_noticed(monkeypatch, rule):
    image, frames = random_image(PROJECTED, SEED), random_frames(PROJECTED, 1, 11)
    monkeypatch.setattr(formats, "projected", rule)
    found = differences(image, image, frames)
    assert "residualconv1 stream" in found and "stem0 stream" not in found


@pytest.mark.parametrize("index", PROJECTIONS)
def test_a_number_of_a_projection_off_by_one_is_noticed(index):
    image, frames = random_image(PROJECTED, SEED), random_frames(PROJECTED, 1, 11)
    data = image.layers[index].projection
    for changes in (
        dict(bias=data.bias + 1), dict(slope=data.slope + 64),
        dict(weights=np.roll(data.weights, 1, 1)), dict(weights=-data.weights),
    ):
        found = differences(remade(image, index, **changes), image, frames)
        assert f"{PROJECTED.layer_name(index)} stream" in found
        assert f"{PROJECTED.layer_name(index - 1)} stream" not in found


def overflowing():
    """Projections of 20000 that saturate before their slope, either way, and behind their bias."""
    network = Network(
        "full", Shape(1, 3, 4), [Stem(3), ResidualConv(4, projection=True), Readout(2)], T=2,
        neuron="vanilla",
    )
    image = changed(random_image(network, SEED), 0, bias=np.full(3, 20_000))
    image = changed(image, 1, bias=np.array([0, 0, -30_000, 30_000]))
    return remade(
        image, 1, weights=np.array([[127] * 3, [-127] * 3, [100, 0, 0], [-100, 0, 0]]),
        slope=np.array([1024, 1024, 4096, 4096]), bias=np.array([100, -100, 10, -10]),
    )


def test_projections_saturate_twice(monkeypatch):
    image = overflowing()
    frames = random_frames(image.network, 2, 11)
    assert differences(image, image, frames) == set()
    shortcut = IntegerNetwork(image).layers[1].shortcut(torch.full((1, 1, 3, 1, 1), 20_000))
    # 119062 / 64 and so on: half of the largest, and then the largest.
    assert shortcut.flatten().tolist() == [16484, -16484, 32767, -32768]
    whole = formats.saturate
    monkeypatch.setattr(formats, "projected", lambda total, clamp: total >> 6)
    assert "residualconv1 stream" in differences(image, image, frames)
    monkeypatch.setattr(formats, "projected", lambda total, clamp: whole(total >> 6, clamp))
    monkeypatch.setattr(formats, "saturate", lambda value, clamp: value)
    assert "residualconv1 stream" in differences(image, image, frames)


@pytest.mark.parametrize("what", ["bias", "slope"])
def test_a_number_off_by_one_is_noticed(what):
    image, frames = random_image(NETWORK, SEED), random_frames(NETWORK, 2, 11)
    # A slope shows in sums of 2**11 / 16 at once, or where rounding just meets it: scale it up.
    value = getattr(image.layers[1], what) + (1 if what == "bias" else 64)
    assert "residualconv1 stream" in differences(
        changed(image, 1, **{what: value}), image, frames
    )


def saturating():
    """Streams of 20000 and of -20000 twice, which is too much, and back again."""
    image = random_image(NETWORK.replace(neuron="vanilla"), SEED)
    large = np.where(np.arange(4) % 2, -20_000, 20_000)
    for index in (0, 1):
        image = changed(image, index, bias=large)
    return changed(image, 2, bias=np.pad(np.where(large > 0, -32_600, 32_600), (0, 3)))


def test_streams_saturate(monkeypatch):
    image, frames = saturating(), random_frames(NETWORK, 2, 11)
    assert differences(image, image, frames) == set()
    stream = IntegerNetwork(image)(frames, record=True)[1][1].stream
    assert (stream.amin(), stream.amax()) == (-32768, 32767)
    monkeypatch.setattr(formats, "saturate", lambda value, clamp: value)
    found = differences(image, image, frames)
    assert {"residualconv1 stream", "residualconv2 stream", "residualconv2 spikes"} <= found


def test_what_is_saturated_drives_the_membrane():
    """-60000 + 17000 leaves -16384 for the next step, not -21500, and 17000 more are enough."""
    image, none = random_image(NETWORK.replace(neuron="vanilla"), SEED), np.zeros(4, int)
    image = changed(image, 0, slope=none, bias=none + 17_000)
    image = changed(image, 1, slope=none, bias=none - 60_000, gain=np.array([256, 0] * 2))
    frames = random_frames(NETWORK, 2, 11)
    boundary = IntegerNetwork(image)(frames, record=True)[1][1]
    for t, value, fires in ((0, -32768, 0), (1, 17_000, 1), (2, -32768, 0), (3, 17_000, 1)):
        assert (boundary.stream[t] == value).all() and (boundary.spikes[t] == fires).all()
    assert differences(image, image, frames) == set()


def wrong(model, image, frames):
    """Share of the spikes behind every layer that differ between a model and an image."""
    with torch.no_grad():
        _, spikes = model(frames, record=True)
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    return [
        float((real != integer.spikes).float().mean())
        for real, integer in zip(spikes, boundaries, strict=True)
    ]


@pytest.mark.parametrize("neuron", ["agmm", "vanilla"])
@pytest.mark.parametrize("name", NETWORKS)
def test_integers_follow_the_float_network(name, neuron):
    network = NETWORKS[name].replace(neuron=neuron)
    model, image = random_model(network, SEED), random_image(network, SEED)
    frames = random_frames(network, 60, 5)
    with torch.no_grad():
        logits, spikes = model(frames, record=True)
        _, rebuilt = float_network(image)(frames, record=True)
    assert all((a != b).float().mean() < 1e-3 for a, b in zip(spikes, rebuilt, strict=True))
    shares = wrong(model, image, frames)
    assert max(shares) < 0.05
    classes = IntegerNetwork(image)(frames).argmax(1)
    assert (classes == logits.mean(0).argmax(1)).float().mean() > 0.85
    for index in filter(network.is_streamed, range(len(network.layers))):
        data = image.layers[index]
        for change in (dict(slope=data.slope * 2), dict(bias=data.bias + 128)):
            worse = wrong(model, changed(image, index, **change), frames)[index]
            assert worse > 0.015 and worse > 2 * shares[index]
        if (part := data.projection) is None:
            continue
        for change in (
            dict(slope=part.slope * 2), dict(bias=part.bias + 128), dict(weights=-part.weights),
            dict(weights=np.roll(part.weights, 1, 1)), dict(weights=np.roll(part.weights, 1, 0)),
        ):
            worse = wrong(model, remade(image, index, **change), frames)[index]
            assert worse > 0.015 and worse > 2 * shares[index]


@pytest.mark.parametrize("v_threshold", [1.0, 0.5])
@pytest.mark.parametrize("index", PROJECTIONS)
def test_projections_of_one_stream_are_those_of_the_float_network(index, v_threshold):
    """But for rounding, which is to neither side on average: in large units, too."""
    network = PROJECTED.replace(neuron="vanilla", v_threshold=v_threshold)
    shortcut, shape = random_model(network, SEED).layers[index].shortcut, network.shapes[index]
    generator = torch.Generator().manual_seed(1)
    size = (network.T, 10, shape.channels, shape.height, shape.width)
    for factor, reach in ((1, 900), (40, 150)):
        with torch.no_grad():
            shortcut.norm.weight.mul_(factor)
        part = _fold_projection("", shortcut, v_threshold)
        stream = torch.randint(-reach, reach + 1, size, generator=generator, dtype=torch.int32)
        with torch.no_grad():
            real = shortcut(stream * v_threshold / 256) * 256 / v_threshold
        whole = IntegerShortcut(network.layers[index], part)(stream)
        unit = torch.from_numpy(part.slope / 2048)[:, None, None]
        assert whole.shape == real.shape and len(whole.unique()) > 99
        assert real.abs().max() < 32768 and (unit.max() > 4) == (factor > 1)
        # A unit is floored, with half of it in the bias; then slope and bias are rounded.
        error = whole - real
        assert (error.abs() <= unit / 2 + 2).all()
        assert (error.mean((0, 1, 3, 4)).abs() < 0.6 + unit.flatten() / 20).all()
