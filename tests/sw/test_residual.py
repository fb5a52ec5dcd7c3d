"""Shortcuts around binary convolutions: from what a network may be to words and cycles."""

import json
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sw import formats, protocol
from sw.bounds import (
    ExportError,
    bounds,
    check,
    current_range,
    gain_range,
    projection_range,
    stream_range,
    sum_range,
)
from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import Engine, EngineError
from sw.export import _fold_projection, export
from sw.golden import IntegerNetwork, IntegerShortcut, float_network
from sw.image import ImageError, Projection, load, save
from sw.layers import (
    AveragedConv,
    Conv,
    Events,
    LayerError,
    Network,
    Pixels,
    Readout,
    ResidualConv,
    Shape,
    Stem,
)
from sw.model import SpikingNetwork
from sw.networks import resnet19
from sw.program import Region, compile_program, region_words
from sw.record import EVERY_FIELD, Kind, field_bits, fields, record_words
from tests.support import random_frames, random_image, random_model
from tests.sw.test_golden import changed, differences, saturated
from tests.sw.test_image import rewrite, same
from tests.sw.test_passes import record_of

#: Maps of 6 x 8, then 3 x 4, then 1 x 2.
NETWORK = Network(
    "double", Shape(2, 6, 8),
    [Stem(4), ResidualConv(4), ResidualConv(7, stride=2), ResidualConv(7, kernel=1),
     Conv(6, pool=2), Readout(3)],
    T=4,
)
#: The first stream comes from a convolution; another begins, while the first ends.
LATER = Network(
    "later", Shape(2, 12, 8),
    [Stem(6, pool=2), Conv(8), ResidualConv(8, kernel=5), Conv(7), ResidualConv(12, stride=2),
     Readout(3)],
    T=2, tau=0.875,
)
CODED = Network(
    "coded", Shape(2, 6, 4),
    [Pixels(3), Conv(5), ResidualConv(9, stride=2), ResidualConv(9), Readout(3)], T=3,
)
#: Odd maps of 7 x 9, 4 x 5 and 2 x 3; to fewer channels and to more; one after the other.
PROJECTED = Network(
    "projected", Shape(2, 7, 9),
    [Stem(5), ResidualConv(3, projection=True), ResidualConv(9, stride=2, projection=True),
     ResidualConv(9), ResidualConv(6, kernel=1, stride=2, projection=True), Readout(3)],
    T=4,
)
PROJECTIONS = (1, 2, 4)
NETWORKS = {network.name: network for network in (NETWORK, LATER, CODED, PROJECTED)}
#: Of random networks that are at work in every layer.
SEED = 5

#: Words of 4 channels in groups of one: 4 for a pixel and tile.
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=512, spike_depth=256, channel_depth=128, mean_depth=256,
    stream_depth=192,
)
#: Two of four passes, for T = 4; a tile of 8 channels leaves in 4 groups of two.
PASSES = replace(ENGINE, pe=8, simd=32, lanes=2, units=2, passes=4, stream_depth=384)
ENGINES = {"one": ENGINE, "passes": PASSES}


@pytest.mark.parametrize("changes, message", [
    (dict(pool=2), "pool must be 1 beside a shortcut, got 2"),
    (dict(kernel=4), "a shortcut needs an odd kernel and padding=2, got kernel=4, padding=1"),
    (dict(kernel=4, padding=2), "odd kernel and padding=2, got kernel=4, padding=2"),
    (dict(padding=0), "odd kernel and padding=1, got kernel=3, padding=0"),
    (dict(kernel=5, padding=1), "odd kernel and padding=2, got kernel=5, padding=1"),
    (dict(stride=3), r"stride must be one of \(1, 2\), got 3"),
])
def test_layers_that_no_shortcut_can_go_around(changes, message):
    with pytest.raises(LayerError, match=message):
        ResidualConv(**{"channels": 4, **changes})


NEEDS_A_CURRENT = "must be a Stem or a Conv with pool=1"
OR_PROJECTS, OR_TAKES = ", or projection=True$", ": it takes projection=True$"


@pytest.mark.parametrize("layers, size, message", [
    ([Stem(4), ResidualConv(3)], (4, 4), f"channels=3 .* of 4: it takes 4{OR_PROJECTS}"),
    ([Stem(4), ResidualConv(5)], (4, 4), f"channels=5 .* of 4: it takes 4{OR_PROJECTS}"),
    ([Stem(4), ResidualConv(3, stride=2)], (4, 4), f"channels=3 .* takes 4 to 8{OR_PROJECTS}"),
    ([Stem(4), ResidualConv(9, stride=2)], (4, 4), f"channels=9 .* takes 4 to 8{OR_PROJECTS}"),
    ([Stem(4), ResidualConv(4, stride=2)], (5, 4), f"2 x 2 .* the map is 5 x 4{OR_TAKES}"),
    ([Stem(4), ResidualConv(4, stride=2)], (4, 5), f"2 x 2 .* the map is 4 x 5{OR_TAKES}"),
    ([Pixels(4), ResidualConv(4)], (4, 4), NEEDS_A_CURRENT),
    ([Events(4), ResidualConv(4)], (4, 4), NEEDS_A_CURRENT),
    ([Stem(4, pool=2), ResidualConv(4)], (4, 4), NEEDS_A_CURRENT),
    ([Stem(2), Conv(4, pool=2), ResidualConv(4)], (4, 4), NEEDS_A_CURRENT),
    ([Stem(2), AveragedConv(4, pool=2), ResidualConv(4)], (4, 4), NEEDS_A_CURRENT),
    ([Pixels(4), ResidualConv(4, projection=True)], (4, 4), NEEDS_A_CURRENT),
    ([Stem(4, pool=2), ResidualConv(5, projection=True)], (4, 4), NEEDS_A_CURRENT),
    ([Stem(4), ResidualConv(4, projection=1)], (4, 4), "projection must be True or False$"),
    ([Stem(4), ResidualConv(4, projection=None)], (4, 4), "projection must be True or False$"),
])
def test_networks_that_no_shortcut_can_be_in(layers, size, message):
    with pytest.raises(LayerError, match=f"^odd: layer {len(layers) - 1}.*{message}") as raised:
        Network("odd", Shape(1, *size), [*layers, Readout(2)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("before, layer, size", [
    (Stem(4), ResidualConv(4), (5, 3)), (Stem(4), ResidualConv(4, kernel=7), (2, 2)),
    (Stem(4), ResidualConv(4, stride=2), (2, 2)), (Stem(4), ResidualConv(8, stride=2), (6, 4)),
    (Stem(4), ResidualConv(5, kernel=1, stride=2), (4, 4)),
    (Stem(4, stride=2), ResidualConv(4), (5, 5)),
    (AveragedConv(4), ResidualConv(4, kernel=5), (4, 4)),
    (Conv(4, kernel=2), ResidualConv(4), (4, 4)),
    (Stem(4), ResidualConv(3, projection=True), (4, 4)),
    (Stem(4), ResidualConv(9, stride=2, projection=True), (5, 7)),
    (Conv(4), ResidualConv(1, kernel=7, stride=2, projection=True), (1, 1)),
])
def test_what_a_shortcut_can_go_around(before, layer, size):
    first = [] if isinstance(before, Stem) else [Stem(2)]
    network = Network("even", Shape(1, *size), [*first, before, layer, Readout(2)])
    shape, out = network.shapes[-3], network.shapes[-2]
    # Half of an odd side is rounded up.
    assert [out.height, out.width] == [-(-n // layer.stride) for n in (shape.height, shape.width)]
    assert network.plain.layers[-2] == layer
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


def test_a_stream_begins_before_its_first_shortcut():
    def streamed(network):
        return [network.is_streamed(index) for index in range(len(network.layers))]

    assert streamed(NETWORK) == [True, True, True, True, False, False]
    assert streamed(LATER) == [False, True, True, True, True, False]
    assert streamed(CODED) == [False, True, True, True, False]
    assert streamed(PROJECTED) == [True] * 5 + [False]
    assert not any(streamed(CODED.replace(layers=[Stem(3), Conv(5), Readout(2)])))
    assert [layer["kind"] for layer in NETWORK.to_dict()["layers"]][1:5] == [
        *["residualconv"] * 3, "conv"
    ]
    assert [NETWORK.has_agmm(index) for index in range(6)] == [False, *[True] * 4, False]


def plain_projection(layer, shortcut, stream):
    """A step of a stream [N, C, H, W] in the shape of a layer: a convolution and batch norm."""
    weight, norm = shortcut.conv.weight[..., 0, 0], shortcut.norm
    unit = weight.abs().amax(1, keepdim=True) / 127
    quantised = (weight / unit).round().clamp(-127, 127) * unit
    sums = torch.einsum("oc,ncyx->noyx", quantised, stream)[..., :: layer.stride, :: layer.stride]
    mean, var, gain, bias = (
        value[:, None, None] for value in (norm.running_mean, norm.running_var, norm.weight,
                                           norm.bias)
    )
    return (sums - mean) / (var + norm.eps).sqrt() * gain + bias


def plain_current(network, index, module, signal):
    """Currents [T, N, C, H, W] of a layer before its shortcut, as the papers write them."""
    layer, norm = network.layers[index], module.norm
    weight = module.conv.weight
    if isinstance(layer, Stem):
        weight, signal = module.conv.quantised_weight, (signal.float() / 255).expand(
            network.T, *signal.shape
        )
    elif network.neuron != "fp":
        weight = weight.abs().mean((1, 2, 3), keepdim=True) * weight.sign()
    currents = []
    for t, spikes in enumerate(signal):
        sums = F.conv2d(spikes, weight, stride=layer.stride, padding=layer.padding)
        scale = norm.weight / (norm.running_var + norm.eps) ** 0.5
        current = (sums - norm.running_mean[:, None, None]) * scale[:, None, None]
        current = current + norm.bias[:, None, None]
        if network.has_agmm(index):
            mean = current.mean((1, 2, 3), keepdim=True)
            current = current * torch.sigmoid(module.agmm.alpha[t] * mean)
        currents.append(current)
    return torch.stack(currents)


@pytest.mark.parametrize("neuron", ["agmm", "vanilla", "fp"])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_trained_network_is_plain_arithmetic(name, neuron):
    network = NETWORKS[name].replace(neuron=neuron)
    model, kept = random_model(network), {}
    for index, module in enumerate(model.layers):
        module.register_forward_hook(
            lambda module, arguments, result, index=index: kept.update({index: result})
        )
    frames = random_frames(network, 6, 3)
    _, spikes = model(frames, record=True)
    for index, layer in enumerate(network.layers[:-1]):
        if isinstance(layer, Pixels):
            continue
        signal = spikes[index - 1] if index else frames
        expected = plain_current(network, index, model.layers[index], signal)
        if isinstance(layer, ResidualConv):
            around, branch = kept[index - 1][1], expected
            if layer.projection:
                shortcut = model.layers[index].shortcut
                around = torch.stack([plain_projection(layer, shortcut, step) for step in around])
            elif layer.stride == 2:
                around = torch.stack([F.avg_pool2d(step, 2) for step in around])
            new = layer.channels - around.shape[2]
            new = torch.zeros(*around.shape[:2], new, *around.shape[3:])
            expected = branch + torch.cat([around, new], 2)
            assert (expected - branch)[:, :, : around.shape[2]].abs().mean() > 0.1
        current = kept[index][1]
        assert torch.allclose(current, expected, atol=1e-4)
        membrane = torch.zeros_like(current[0])
        for t in range(network.T):
            membrane = network.tau * membrane + current[t]
            fired = (membrane >= network.v_threshold).float()
            membrane = membrane * (1 - fired)
            assert torch.equal(spikes[index][t], F.max_pool2d(fired, layer.pool))


@pytest.mark.parametrize("kind", [Conv, ResidualConv, partial(ResidualConv, projection=True)],
                         ids=["conv", "plain", "projection"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_gradient_reaches_the_stem_through_shortcuts_alone(kind, stride):
    """Through both of them, each past a convolution whose batch norm lets nothing by."""
    layers = [Stem(3), kind(3, stride=stride), kind(3), Readout(2)]
    model = random_model(NETWORK.replace(layers=layers))
    for module in model.layers[1:3]:
        torch.nn.init.zeros_(module.norm.weight)
        torch.nn.init.zeros_(module.norm.bias)
    model(random_frames(model.network, 4)).square().mean().backward()
    reached = bool(model.layers[0].conv.weight.grad.abs().sum() > 0)
    assert reached == (kind is not Conv)
    if kind not in (Conv, ResidualConv):
        weights = [module.shortcut.conv.weight.grad for module in model.layers[1:3]]
        assert all(gradient.abs().sum() > 0 for gradient in weights)


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


def remade(image, index, **changes):
    """``image`` with the numbers of a projection changed."""
    return changed(image, index, projection=replace(image.layers[index].projection, **changes))


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


def ranges(image):
    """Smallest and largest stream of every layer that has one, by number."""
    found, before = {}, None
    for index, (layer, data) in enumerate(zip(image.network.layers, image.layers, strict=True)):
        if image.network.is_streamed(index):
            sums = sum_range(layer, data.weights, image.network.T)
            low, high = current_range(layer, *sums, data.bias, data.slope)
            gains = gain_range(data.gain, data.agmm)
            if data.projection is not None:
                before = projection_range(data.projection, before)[2]
            shortcut = before if isinstance(layer, ResidualConv) else None
            found[index] = before = stream_range(layer, low, high, gains, shortcut)
    return found


def stays_inside(boundary, ends, bound, leak_shift):
    stream = boundary.stream.long()
    low, high = (torch.from_numpy(end)[:, None, None] for end in ends)
    membrane, bits = torch.zeros_like(stream[0]), torch.from_numpy(bound.membrane)[:, None, None]
    inside = bool(((stream >= low) & (stream <= high)).all())
    for drive in stream:
        membrane = formats.leak(membrane, leak_shift) + drive
        inside &= bool(((membrane >= -(1 << bits - 1)) & (membrane < 1 << bits - 1)).all())
        membrane = torch.where(membrane >= formats.STREAM_THRESHOLD, 0, membrane)
    return inside


@pytest.mark.parametrize("saturated", [False, True])
@pytest.mark.parametrize("gain", ["exact", "frozen"])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_leaves_its_bounds(name, gain, saturated):
    """Of real frames, and of spikes that match the weights beside the extremes of the stream."""
    network = NETWORKS[name]
    image = random_image(network, SEED, gain)
    if saturated:
        for index in filter(network.is_streamed, range(len(network.layers))):
            large = np.where(np.arange(network.layers[index].channels) % 2, -20_000, 20_000)
            image = changed(image, index, bias=large)
    golden, limits, ends = IntegerNetwork(image), bounds(image), ranges(image)
    extremes = torch.tensor([[0], [255]], dtype=torch.uint8).repeat(1, network.input.size)
    extremes = extremes.view(2, *network.frame_shape)
    _, boundaries = golden(torch.cat([random_frames(network, 12), extremes]), record=True)
    for index, shape in enumerate(network.shapes[:-2]):
        if not network.is_streamed(index):
            assert boundaries[index].stream is None
            continue
        layer, bound = network.layers[index], limits[index]
        assert stays_inside(boundaries[index], ends[index], bound, network.leak_shift)
        if isinstance(layer, Stem):
            continue
        # Each channel once: all of its +1 weights hit, or all of its -1 weights, in some window.
        most = torch.zeros(2, layer.channels, dtype=torch.long)
        for channel, sign in np.ndindex(layer.channels, 2):
            taps = torch.from_numpy(image.layers[index].weights[channel] == bool(sign))
            spikes = taps.tile(1, shape.height, shape.width)[:, : shape.height, : shape.width]
            size = (network.T, 1, shape.channels, shape.height, shape.width)
            around = ()
            if isinstance(layer, ResidualConv):
                level = ends[index - 1][sign]
                if layer.projection:
                    rises = image.layers[index].projection.weights[channel] >= 0
                    level = np.where(rises, level, ends[index - 1][1 - sign])
                level = torch.from_numpy(level).int()
                around = (level[:, None, None].expand(size),)
            got = golden.layers[index](spikes.byte().expand(size), *around)
            assert stays_inside(got, ends[index], bound, network.leak_shift)
            values = got.stream[:, :, channel]
            most[sign, channel] = values.amax() if sign else values.amin()
        if gain == "frozen" and network in (NETWORK, PROJECTED):
            assert np.array_equal(most.numpy(), ends[index])


def test_too_narrow_bounds_would_be_left():
    image, frames = random_image(NETWORK, SEED), random_frames(NETWORK, 4)
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    bound, (low, high) = bounds(image)[1], ranges(image)[1]
    # The range without a shortcut.
    layer, data = NETWORK.layers[1], image.layers[1]
    sums = sum_range(layer, data.weights, NETWORK.T)
    currents = current_range(layer, *sums, data.bias, data.slope)
    plain = stream_range(Conv(4), *currents, gain_range(None, data.agmm), None)
    assert (plain[0] > low).all() and (plain[1] < high).all()
    assert not stays_inside(boundaries[1], (low // 8, high // 8), bound, 1)
    narrow = replace(bound, membrane=bound.membrane - 6)
    assert not stays_inside(boundaries[1], (low, high), narrow, 1)


def test_ranges_of_a_projection_are_those_of_its_corners():
    """Ends of a stream that need not include 0, all of them met, and nothing beyond."""
    rng = np.random.default_rng(2)
    for scale in (30, 2_000, 32_767):
        low = rng.integers(-scale, scale, 5)
        ends = low, rng.integers(low, scale + 1)
        shape = (6, 5)
        part = Projection(
            rng.integers(-127, 128, shape), rng.integers(-5000, 5000, 6),
            rng.integers(0, 3000, 6), None, None,
        )
        corners = np.array([
            [ends[side][c] for c, side in enumerate(sides)] for sides in product((0, 1), repeat=5)
        ])
        sums = corners @ part.weights.T
        currents = (saturated(sums // 64) * part.slope + 1024) // 2048 + part.bias
        for got, values in zip(
            projection_range(part, ends), (sums, currents, saturated(currents)), strict=True
        ):
            assert np.array_equal(got, (values.min(0), values.max(0)))
    assert abs(currents).max() > 32_768 > abs(saturated(currents)).min()


def test_bounds_of_projections_are_as_wide_as_needed():
    image = random_image(PROJECTED, SEED)
    found, ends = bounds(image), ranges(image)
    for index, bound in enumerate(found):
        if index not in PROJECTIONS:
            assert not bound.projection.any()
            continue
        part = image.layers[index].projection
        sums, currents, _ = projection_range(part, ends[index - 1])
        for c, bits in enumerate(bound.projection):
            assert all(formats.fits_signed(int(end[c]), int(bits)) for end in sums)
            assert not all(formats.fits_signed(int(end[c]), int(bits) - 1) for end in sums)
            assert all(formats.fits_signed(int(end[c]), int(bound.current[c])) for end in currents)
            slopes = part.slope[c], image.layers[index].slope[c]
            assert bound.slope[c] == max(int(slope).bit_length() for slope in slopes)


def test_projections_that_no_format_holds_are_refused():
    image = random_image(PROJECTED, SEED)
    data, top = image.layers[2].projection, 1 << formats.SLOPE_BITS
    calm = remade(image, 2, weights=np.zeros((9, 3), int))
    check(remade(calm, 2, slope=np.where(np.arange(9) == 7, top - 1, data.slope)))
    message = (
        "^residualconv2 channel 7: the slope may need 18 bits, the format has 17; it takes a"
        " smaller batch norm gain$"
    )
    with pytest.raises(ExportError, match=message):
        check(remade(calm, 2, slope=np.where(np.arange(9) == 7, top, data.slope)))
    check(remade(calm, 2, bias=np.full(9, (1 << 17) - 1)))
    message = (
        "^residualconv2 channel 8: currents may need 19 bits, the format has 18; it takes fewer"
        " inputs or a smaller batch norm gain$"
    )
    with pytest.raises(ExportError, match=message):
        check(remade(calm, 2, bias=np.where(np.arange(9) == 8, 1 << 17, 0)))
    model = random_model(PROJECTED, SEED)
    with torch.no_grad():
        model.layers[1].shortcut.norm.weight[1] = 1e4
    with pytest.raises(ExportError, match=r"^residualconv1 channel 1: currents may need"):
        export(model, PROJECTED)
    with torch.no_grad():
        model.layers[1].shortcut.conv.weight[2, 4] = float("nan")
    with pytest.raises(ExportError, match=r"^residualconv1 channel 2: a weight of the shortcut is"):
        export(model, PROJECTED)


@pytest.mark.parametrize("sign, most", [(1, 516), (-1, 516)])
def test_sums_of_projections_have_32_bits(sign, most):
    """So many times 127 * 32767, or 127 * -32768."""
    for inputs in (most, most + 1):
        network = Network(
            "wide", Shape(1, 1, 1),
            [Stem(inputs, kernel=1), ResidualConv(2, kernel=1, projection=True), Readout(2)],
            T=1, neuron="vanilla",
        )
        image = export(SpikingNetwork(network).eval(), network)
        image = changed(image, 0, bias=np.full(inputs, sign * 60_000))
        weights = np.stack([np.zeros(inputs, int), np.full(inputs, 127)])
        image = remade(image, 1, weights=weights, slope=np.zeros(2, int))
        if inputs == most:
            assert bounds(image)[1].projection.tolist() == [1, 32]
            IntegerNetwork(image)
            continue
        message = (
            "^residualconv1 channel 1: the projection may need 33 bits, the format has 32; it"
            " takes fewer inputs$"
        )
        with pytest.raises(ExportError, match=message):
            check(image)


def test_images_that_no_format_holds_are_refused():
    image = random_image(NETWORK, SEED)
    data, top = image.layers[1], 1 << formats.SLOPE_BITS
    for value in (top - 1, top):
        slope = np.where(np.arange(4) == 2, value, data.slope)
        other = changed(image, 1, slope=slope)
        if value < top:
            check(other)
            continue
        message = (
            "^residualconv1 channel 2: the slope may need 18 bits, the format has 17; it takes a"
            " smaller batch norm gain$"
        )
        with pytest.raises(ExportError, match=message):
            check(other)
    bias = np.where(np.arange(4) == 3, 1 << 17, data.bias)
    message = (
        "^residualconv1 channel 3: currents may need 19 bits, the format has 18; it takes fewer"
        " inputs or a smaller batch norm gain$"
    )
    with pytest.raises(ExportError, match=message):
        check(changed(image, 1, bias=bias))
    model = random_model(NETWORK, SEED)
    with torch.no_grad():
        model.layers[2].norm.weight[5] = 1e4
    with pytest.raises(ExportError, match=r"^residualconv2 channel 5: currents may need"):
        export(model, NETWORK)


def test_sums_need_room_before_their_slope():
    """However little of them is left behind it."""
    image = random_image(NETWORK, SEED)
    for index, (low, high) in {
        0: [end >> 6 for end in sum_range(NETWORK.layers[0], image.layers[0].weights, 4)],
        1: [16 * end for end in sum_range(NETWORK.layers[1], image.layers[1].weights, 4)],
    }.items():
        none = np.zeros(4, int)
        bound = bounds(changed(image, index, slope=none, bias=none))[index]
        for bits, ends in zip(bound.current, zip(low, high, strict=True), strict=True):
            assert all(formats.fits_signed(end, bits) for end in ends)
            assert bound.membrane_bits - 2 >= bits or not all(
                formats.fits_signed(end, bits - 1) for end in ends
            )
        assert bound.slope.tolist() == [0] * 4


def test_export_puts_the_threshold_at_one_whole():
    """A slope is the current's unit and a bias the shift, in 1/256 of the firing threshold."""
    network = NETWORK.replace(neuron="vanilla", v_threshold=0.5)
    image = random_image(network, SEED)
    for index, data in enumerate(image.layers[:4]):
        assert data.threshold is None
        # A unit of the stem is 64 pixels times weights, of a convolution 1/16 spike.
        unit, half = (64, 63 / 128) if index == 0 else (1 / 16, 0)
        real = data.scale.astype(float) * unit
        assert np.abs(data.slope - real * 512 * 2048).max() <= 1
        assert np.abs(data.bias - (data.shift + half * real) * 512).max() <= 0.51
    assert image.layers[4].slope is None and image.layers[4].threshold is not None


def test_export_of_projections_by_hand():
    """From stream to stream the threshold cancels; a bias is in 1/256 of it."""
    network = PROJECTED.replace(neuron="vanilla", v_threshold=0.5)
    model, image = random_model(network, SEED), random_image(network, SEED)
    assert [index for index, data in enumerate(image.layers) if data.projection] == [1, 2, 4]
    for index in PROJECTIONS:
        part, shortcut = image.layers[index].projection, model.layers[index].shortcut
        weight, mean, var, gain, shift = (
            value.detach().double().numpy() for value in (
                shortcut.conv.weight[..., 0, 0], shortcut.norm.running_mean,
                shortcut.norm.running_var, shortcut.norm.weight, shortcut.norm.bias,
            )
        )
        assert (gain < 0).any() and (part.slope > 0).all()
        # A negative gain is one of the opposite weights.
        unit = np.abs(weight).max(1) / 127
        whole = np.rint(weight / unit[:, None]) * np.sign(gain)[:, None]
        assert part.weights.dtype == np.int64 and np.abs(part.weights - whole).max() <= 1
        assert (part.weights != whole).mean() < 0.1
        gain = gain / np.sqrt(var + shortcut.norm.eps)
        assert np.allclose(part.scale, np.abs(gain) * unit, rtol=1e-5)
        assert np.abs(part.slope - np.abs(gain) * unit * 64 * 2048).max() <= 1
        shift = shift - mean * gain
        assert np.allclose(part.shift, shift, atol=1e-5)
        # 63/128 of a unit is what the shift by 6 bits takes away on average.
        bias = shift * 512 + 63 / 128 * 64 * np.abs(gain) * unit
        assert np.abs(part.bias - bias).max() <= 0.51


@pytest.mark.parametrize("gain", ["exact", "frozen"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_survives_its_file(tmp_path, name, gain):
    image = random_image(NETWORKS[name], SEED, gain)
    save(image, tmp_path / "a.bsnn")
    loaded = load(tmp_path / "a.bsnn")
    assert same(loaded, image) and loaded.checksum == image.checksum
    frames = random_frames(image.network, 3)
    assert torch.equal(IntegerNetwork(loaded)(frames), IntegerNetwork(image)(frames))
    other = changed(image, 2, slope=image.layers[2].slope + 1)
    assert other.checksum != image.checksum


@pytest.mark.parametrize("tensors, message", [
    (dict(slope=None), "missing tensor layers.1.slope"),
    (dict(threshold=np.ones(4, "u2")), "unexpected tensor layers.1.threshold"),
    (dict(slope=None, threshold=np.ones(4, "u2")), "missing tensor layers.1.slope"),
    (dict(slope=np.ones(4, "i4")), r"layers.1.slope is int32\[4\], the network needs uint32\[4\]"),
    (dict(slope=np.ones(5, "u4")), r"layers.1.slope is uint32\[5\], the network needs uint32\[4\]"),
])
def test_files_without_a_proper_slope_are_refused(tmp_path, tensors, message):
    save(random_image(NETWORK, SEED), tmp_path / "a.bsnn")
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{
        f"1__{name}": value for name, value in tensors.items()
    })
    with pytest.raises(ImageError, match=message):
        load(tmp_path / "b.bsnn")
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{"4__slope": np.ones(6, "u4")})
    with pytest.raises(ImageError, match=r"unexpected tensor layers\.4\.slope"):
        load(tmp_path / "b.bsnn")


@pytest.mark.parametrize("slope, message", [
    (None, "residualconv1: slope is missing"),
    (np.full(4, 1 << 32), "residualconv1: slope does not fit uint32"),
    (np.full(4, -1), "residualconv1: slope does not fit uint32"),
])
def test_images_without_a_proper_slope_are_not_saved(tmp_path, slope, message):
    with pytest.raises(ImageError, match=message):
        save(changed(random_image(NETWORK, SEED), 1, slope=slope), tmp_path / "a.bsnn")


#: Of a layer of 3 channels behind 5.
PARTS = dict(
    weights=np.ones((3, 5), "i1"), bias=np.ones(3, "i4"), slope=np.ones(3, "u4"),
    scale=np.ones(3, "f4"), shift=np.ones(3, "f4"),
)


@pytest.mark.parametrize("name, value, message", [
    *[(name, None, "missing tensor {}") for name in PARTS],
    *[(name, np.ones(4, part.dtype), "{} is .*4., the network needs ")
      for name, part in PARTS.items()],
    *[(name, part.astype("i2"), r"{} is int16\[3") for name, part in PARTS.items()],
    ("weights", np.ones((5, 3), "i1"), r"{} is int8\[5, 3\], the network needs int8\[3, 5\]"),
    ("weights", np.ones((3, 5, 1, 1), "i1"), r"{} is int8\[3, 5, 1, 1\]"),
    ("scale", np.array([1, np.nan, 1], "f4"), "{} holds numbers that are not finite"),
    ("gain", np.ones(3, "u2"), "unexpected tensor {}"),
])
def test_files_without_a_proper_projection_are_refused(tmp_path, name, value, message):
    save(random_image(PROJECTED, SEED), tmp_path / "a.bsnn")
    # What is right stays right.
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{
        f"1__projection__{key}": part for key, part in PARTS.items()
    })
    assert load(tmp_path / "b.bsnn").layers[1].projection.weights.tolist() == [[1] * 5] * 3
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{f"1__projection__{name}": value})
    with pytest.raises(ImageError, match=message.format(rf"layers\.1\.projection\.{name}")):
        load(tmp_path / "b.bsnn")


@pytest.mark.parametrize("index", [0, 3, 5])
@pytest.mark.parametrize("name", PARTS)
def test_projections_where_there_are_none_are_refused(tmp_path, index, name):
    save(random_image(PROJECTED, SEED), tmp_path / "a.bsnn")
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{
        f"{index}__projection__{name}": PARTS[name]
    })
    with pytest.raises(ImageError, match=rf"unexpected tensor layers\.{index}\.projection\.{name}"):
        load(tmp_path / "b.bsnn")


def test_images_without_a_proper_projection_are_not_saved(tmp_path):
    image, path = random_image(PROJECTED, SEED), tmp_path / "a.bsnn"
    with pytest.raises(ImageError, match=r"^residualconv2: projection\.weights is missing"):
        save(changed(image, 2, projection=None), path)
    for changes, message in (
        (dict(slope=None), "projection.slope is missing"),
        (dict(weights=np.full((9, 3), 128)), "projection.weights does not fit int8"),
        (dict(slope=np.full(9, -1)), "projection.slope does not fit uint32"),
        (dict(bias=np.full(9, 1 << 31)), "projection.bias does not fit int32"),
    ):
        with pytest.raises(ImageError, match=f"^residualconv2: {message}"):
            save(remade(image, 2, **changes), path)
    assert not path.exists()
    part = image.layers[2].projection
    sums = {image.checksum} | {
        remade(image, 2, **{name: getattr(part, name)[::-1]}).checksum for name in PARTS
    }
    assert len(sums) == 6


#: Of 6 x 8 pixels of 4 channels, which take 4 words each, or of PASSES 2 * 4.
@pytest.mark.parametrize("engine, words", [(ENGINE, 6 * 8 * 4), (PASSES, 6 * 8 * 8)], ids=ENGINES)
def test_engines_need_room_for_the_stream(engine, words):
    image = random_image(NETWORK, SEED)
    compile_program(image, replace(engine, stream_depth=words))
    message = f"stem0 needs {words} words of the stream, the engine has {words - 1}"
    with pytest.raises(EngineError, match=f"^double does not fit: {message}$"):
        compile_program(image, replace(engine, stream_depth=words - 1))
    with pytest.raises(EngineError, match=r"^double does not fit: the engine is built without"):
        compile_program(image, replace(engine, stream_depth=0))


def test_the_largest_stream_may_come_late():
    """3 tiles of 2 x 3 pixels behind 2 of 6 x 4, of which the first is not streamed."""
    network = CODED.replace(layers=[
        Stem(4), Conv(4, stride=2), ResidualConv(4), Conv(12), ResidualConv(12), Readout(3)
    ])
    image = random_image(network, SEED)
    compile_program(image, replace(ENGINE, stream_depth=3 * 2 * 12))
    with pytest.raises(EngineError, match="conv3 needs 72 words of the stream, the engine has 71"):
        compile_program(image, replace(ENGINE, stream_depth=3 * 2 * 12 - 1))


def test_counts_beside_a_shortcut_must_not_wrap():
    def image_of(kernel):
        network = Network(
            "many", Shape(1, 2, 2), [Stem(84), ResidualConv(84, kernel=kernel), Readout(2)],
            neuron="vanilla",
        )
        model = random_model(network)
        for module in model.layers[:2]:
            torch.nn.init.constant_(module.norm.weight, 1e-3)
            torch.nn.init.zeros_(module.norm.bias)
        return export(model, network)

    engine = replace(ENGINE, weight_depth=1 << 16, channel_depth=1024, spike_depth=512,
                     stream_depth=512)
    message = (
        "^many does not fit: residualconv1 beside a shortcut sums 4116 inputs, the engine counts to"
        " 4095$"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(image_of(7), engine)
    compile_program(image_of(7), replace(engine, current_width=18))
    compile_program(image_of(5), engine)


#: A pixel of 4 channels, and one of 7: 4 words and 8; with both passes, 8 words each.
STREAM_RECORDS = {
    "one": [
        dict(streamed=1, shortcut=0, average=0, stream_last=3),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=3, stream_last=3),
        dict(streamed=1, shortcut=1, average=1, shortcut_last=3, stream_last=7, stream_row=8 * 4),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=7, stream_last=7),
        *[dict(streamed=0, shortcut=0, average=0)] * 2,
    ],
    "passes": [
        dict(streamed=1, shortcut=0, average=0, stream_last=7),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=7, stream_last=7),
        dict(streamed=1, shortcut=1, average=1, shortcut_last=7, stream_last=7, stream_row=8 * 8),
        dict(streamed=1, shortcut=1, average=0, shortcut_last=7, stream_last=7),
        *[dict(streamed=0, shortcut=0, average=0)] * 2,
    ],
}


@pytest.mark.parametrize("name", ENGINES)
def test_records_by_hand(name):
    program = compile_program(random_image(NETWORK, SEED), ENGINES[name])
    kinds = [Kind.STEM, *[Kind.CONV] * 4, Kind.READOUT]
    for index, (kind, expected) in enumerate(zip(kinds, STREAM_RECORDS[name], strict=True)):
        record, gains = record_of(program, index)
        assert record | expected | dict(kind=kind) == record
        assert len(gains) >= 4
    # A layer that only starts a stream has strides of its own.
    network = NETWORK.replace(layers=[Stem(4), Conv(4, stride=2), ResidualConv(4), Readout(3)])
    record = record_of(compile_program(random_image(network, SEED), ENGINES[name]), 1)[0]
    assert (record["streamed"], record["shortcut"], record["average"]) == (1, 0, 0)


STREAM_FIELDS = (
    "streamed", "shortcut", "average", "shortcut_last", "stream_last", "stream_row", "stream_in",
    "stream_out",
)


def test_fields_of_streams_are_between_means_and_passes():
    single = replace(ENGINE, stream_depth=0)
    new = fields(ENGINE)[len(fields(single)) :]
    assert fields(ENGINE)[: len(fields(single))] == fields(single)
    assert [(field.name, field.bits, field.word, field.shift) for field in new] == [
        ("streamed", 1, 22, 0), ("shortcut", 1, 22, 1), ("average", 1, 22, 2),
        ("shortcut_last", 16, 23, 0), ("stream_last", 16, 24, 0), ("stream_row", 16, 25, 0),
        ("stream_in", 16, 26, 0), ("stream_out", 16, 27, 0),
    ]
    assert fields(PASSES)[: -3] == fields(ENGINE)
    assert (record_words(ENGINE), record_words(PASSES, 2)) == (28 + 4, 31 + 4)
    assert not set(STREAM_FIELDS) & {field.name for field in fields(single)}
    names = [field.name for field in EVERY_FIELD]
    assert [names.count(name) for name in STREAM_FIELDS] == [1] * 8
    for depth, bits in ((192, 8), (256, 8), (257, 9), (1 << 16, 16)):
        kept = field_bits(replace(ENGINE, stream_depth=depth))
        assert [kept[name] for name in STREAM_FIELDS] == [1] * 3 + [bits] * 5


def extreme():
    """The widest slopes, and biases close to the widest currents."""
    image = random_image(NETWORK, SEED)
    for index in range(1, 4):
        count = NETWORK.layers[index].channels
        image = changed(
            image, index, slope=np.full(count, (1 << 17) - 1),
            bias=np.where(np.arange(count) % 2, -100_000, 100_000),
        )
    return image


@pytest.mark.parametrize("width, made", [(16, lambda: random_image(NETWORK, SEED)), (18, extreme)],
                         ids=["random", "extreme"])
@pytest.mark.parametrize("name", ENGINES)
def test_words_of_channels_make_currents_of_counts(name, width, made):
    """All that is added comes before the fraction is dropped, and fits 32 bits."""
    engine, image = replace(ENGINES[name], current_width=width), made()
    rng = np.random.default_rng(1)
    program = compile_program(image, engine)
    rows = program.regions[Region.CHANNELS].view("<i4").reshape(-1, 2)
    assert region_words(engine)[Region.CHANNELS] == 128 * 4
    for index, (layer, data) in enumerate(zip(NETWORK.layers[:-1], image.layers, strict=False)):
        base = record_of(program, index)[0]["channel_base"]
        words = rows[base : base + layer.channels].astype(np.int64)
        unused = rows[base + layer.channels : base + -(-layer.channels // engine.pe) * engine.pe]
        assert not unused.any()
        negative = 0 if index == 0 else (~data.weights).sum((1, 2, 3))
        if not NETWORK.is_streamed(index):
            assert words[:, 0].tolist() == (data.bias - 16 * negative).tolist()
            assert words[:, 1].tolist() == data.threshold.tolist()
            continue
        assert words[:, 1].tolist() == data.slope.tolist()
        for _ in range(50):
            if index == 0:
                current = operand = rng.integers(-4000, 4000, layer.channels)
            else:
                # Inputs that agree with their weights, those that are 0 with -1.
                count = rng.integers(0, layer.fan_in(NETWORK.shapes[index]) + 1, layer.channels)
                current, operand = 16 * (count - negative), 16 * count
            got = (operand * words[:, 1] + words[:, 0]) >> 11
            expected = formats.stream_current(current, data.slope, data.bias)
            assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("changes, message", [
    (dict(pixels=2), "stream_depth needs pixels=1 and no stem core"),
    (dict(current_width=15), "stream_depth needs current_width=16 at least, got 15"),
    (dict(stream_depth=-1), "stream_depth must be 0 to 65536, got -1"),
    (dict(stream_depth=65537), "stream_depth must be 0 to 65536, got 65537"),
    (dict(pe=16, simd=32, stem=True), "stream_depth needs pixels=1 and no stem core"),
])
def test_engines_that_carry_no_stream(changes, message):
    changes = dict(changes)
    if changes.pop("stem", False):
        plain = replace(ENGINE, **changes, stream_depth=0, spike_depth=256)
        changes |= dict(stem=plain.stem_core(pe=4), spike_depth=256)
        replace(ENGINE, **changes, stream_depth=0)
    with pytest.raises(EngineError, match=f"^{message}$"):
        replace(ENGINE, **changes)
    if "stream_depth" not in changes:
        replace(ENGINE, **changes, stream_depth=0)


@pytest.mark.parametrize("engine", [
    ENGINE, PASSES, replace(ENGINE, stream_depth=0), replace(ENGINE, stream_depth=0x12345 >> 1),
    replace(ENGINE, stream_depth=1 << 16, current_width=18, deep=True),
])
def test_engines_survive_json_and_info(engine):
    data = json.loads(json.dumps(engine.to_dict()))
    assert Engine.from_dict(data) == engine
    assert Engine.from_dict(data | dict(stream_depth=77)) != engine
    # As written before there were streams.
    data.pop("stream_depth")
    assert not Engine.from_dict(data).has_stream
    info = protocol.encode_info(engine)
    assert protocol.decode_info(b"\0" + info) == engine
    assert info[-14:] == bytes(10) + engine.stream_depth.to_bytes(4, "little")


def test_info_of_a_stem_core_is_no_stream():
    engine = replace(ENGINE, pe=8, simd=16, stream_depth=0)
    cores = replace(engine, stem=engine.stem_core(pe=4))
    assert protocol.decode_info(b"\0" + protocol.encode_info(cores)) == cores


@pytest.mark.parametrize("name, kernel, tile, operands", [
    # A tile's 4 groups leave one in four cycles.
    ("one", 1, 16, 1), ("one", 3, 16, 9), ("one", 5, 25, 25),
    ("passes", 1, 16, 1), ("passes", 3, 16, 9), ("passes", 5, 25, 25),
])
@pytest.mark.parametrize("exact", [False, True])
def test_cycles_of_averages_by_hand(name, kernel, tile, operands, exact):
    """12 pixels of 7 channels: two tiles each, or one in each of two passes."""
    layers = [Stem(4), ResidualConv(7, kernel=kernel, stride=2), Readout(3)]
    network = NETWORK.replace(layers=layers)
    # Record and setup; gains of 17 cycles, of each lane and pass.
    start = {"one": 28 + 4 + 3, "passes": 31 + 2 * 2 + 3}[name] + exact * 17 * 4
    # Memory 1, sums 3, bias 1; the last group comes 3 groups of 4 cycles after the first, whose 1
    # counts as well; then the slope and the shortcut 3, LIF and writer 3 and a cycle a step.
    drain = 5 + 13 + 3 + 3 + ENGINES[name].steps
    expected = start + 23 * tile + operands + drain
    assert layer_cycles(network, 1, ENGINES[name], exact) == expected
    deep = replace(ENGINES[name], deep=True)
    assert layer_cycles(network, 1, deep, exact) == expected + 3


def test_other_shortcuts_take_no_longer_than_their_convolution():
    for index in (1, 3):
        layers = list(NETWORK.layers)
        layers[index] = Conv(layers[index].channels, layers[index].kernel)
        plain = NETWORK.replace(layers=[*layers[: index + 1], Readout(3)])
        with_it = NETWORK.replace(layers=[*NETWORK.layers[: index + 1], Readout(3)])
        assert layer_cycles(plain, index, ENGINE) == layer_cycles(with_it, index, ENGINE)


@pytest.mark.parametrize("name", ENGINES)
def test_a_stream_delays_every_layer_with_neurons(name):
    """By 3 cycles, and by the 6 words of its record's fields."""
    network = NETWORK.replace(layers=[Stem(4), Conv(7, stride=2), Conv(6, pool=2), Readout(3)])
    engine = ENGINES[name]
    more = [
        layer_cycles(network, index, engine) - layer_cycles(
            network, index, replace(engine, stream_depth=0)
        ) for index in range(4)
    ]
    assert more == [9, 9, 9, 6]
    assert cycles_per_frame(network, engine) == sum(
        layer_cycles(network, index, engine) for index in range(4)
    )


#: Words of PROJECTED's streams on ENGINE: 504, 252, 240, 240, 48. The first two must fit together.
ROOMY = replace(ENGINE, stream_depth=756, layer_depth=9)


def test_records_of_projections_by_hand():
    program = compile_program(random_image(PROJECTED, SEED), ROOMY)
    kinds = [record_of(program, index)[0]["kind"] for index in range(9)]
    project, conv = Kind.PROJECTION, Kind.CONV
    assert kinds == [Kind.STEM, project, conv, project, conv, conv, project, conv, Kind.READOUT]
    nothing = dict.fromkeys(fields_of(program.engine), 0)
    common = nothing | dict(kind=project, streamed=1)
    # 5 channels are 8 in the stream, 3 are 4, 9 are 12: of 7 x 9, 7 x 9, and 4 x 5 pixels.
    for index, expected in {
        1: dict(channels=3, stream_last=3, stream_out=504, depth_last=4, stride=1, in_height=7,
                in_width=9, start=0, x_step=8, y_step=9 * 8, out_height_last=6, out_width_last=8),
        3: dict(channels=9, stream_last=11, stream_out=0, depth_last=2, stride=2, in_height=7,
                in_width=9, start=504, x_step=2 * 4, y_step=2 * 9 * 4, out_height_last=3,
                out_width_last=4, tiles_last=2),
        6: dict(channels=6, stream_last=7, stream_out=708, depth_last=8, stride=2, in_height=4,
                in_width=5, start=0, x_step=2 * 12, y_step=2 * 5 * 12, out_height_last=1,
                out_width_last=2, tiles_last=1),
    }.items():
        record, gains = record_of(program, index)
        bases = {name: record[name] for name in ("weight_base", "channel_base")}
        assert record == common | expected | bases
        assert gains[:4] == [256] * 4
    streams = ("streamed", "shortcut", "average", "shortcut_last", "stream_last", "stream_row",
               "stream_in", "stream_out")
    found = [[record_of(program, index)[0][name] for name in streams] for index in range(9)]
    assert [found[index] for index in (0, 2, 4, 5, 7, 8)] == [
        [1, 0, 0, 0, 7, 0, 0, 0], [1, 1, 0, 3, 3, 0, 504, 504], [1, 1, 0, 11, 11, 0, 0, 0],
        [1, 1, 0, 11, 11, 0, 0, 0], [1, 1, 0, 7, 7, 0, 708, 708], [0] * 8,
    ]


def fields_of(engine):
    return [field.name for field in fields(engine)]


def test_runs_of_a_layer_are_of_both_its_records():
    program = compile_program(random_image(PROJECTED, SEED), ROOMY)
    runs = [program.run_layer(index) for index in range(6)]
    opcode = runs[0][0]
    assert runs == [bytes([opcode, *rest, 0]) for rest in (
        (0, 1), (1, 2), (3, 2), (5, 1), (6, 2), (8, 1)
    )]
    assert program.run_network() == bytes([opcode, 0, 9, 0])
    # Pixels have no record.
    network = CODED.replace(layers=[
        Pixels(3), Conv(5), ResidualConv(9, projection=True), ResidualConv(9), Readout(3)
    ])
    program = compile_program(random_image(network, SEED), replace(ROOMY, stream_depth=480))
    assert [program.run_layer(index)[1:3] for index in range(1, 5)] == [
        bytes(rest) for rest in ((0, 1), (1, 2), (3, 1), (4, 1))
    ]
    assert program.run_network() == bytes([opcode, 0, 5, 0])
    with pytest.raises(EngineError, match="pixels0 is written by the host"):
        program.run_layer(0)


#: Projections from the far end back, behind averages that have left room there, and of a new
#: stream. Maps of 6 x 8, then 3 x 4.
MIXED = Network(
    "mixed", Shape(1, 6, 8),
    [Stem(4), ResidualConv(8, projection=True), ResidualConv(8, stride=2),
     ResidualConv(4, projection=True), Conv(4), ResidualConv(4, projection=True), Readout(2)],
    T=2,
)
#: And one that needs more room than that: 480 words of 576, of which 192 to 287 are read.
GROWING = MIXED.replace(
    name="growing", layers=[*MIXED.layers[:3], ResidualConv(40, projection=True), Readout(2)]
)
LARGE = replace(
    ROOMY, stream_depth=576, weight_depth=4096, spike_depth=1024, channel_depth=1024,
    mean_depth=2048, layer_depth=10, current_width=18,
)


def places(program):
    """Ranges of words that every record with a stream reads, or None, and writes."""
    network, index, before, found = program.network, 0, None, []
    for number, layer in enumerate(network.layers):
        pixels = [shape.height * shape.width for shape in network.shapes[number : number + 2]]
        for _ in range(1 + getattr(layer, "projection", False)):
            record, index = record_of(program, index)[0], index + 1
            if record["streamed"]:
                start = record["stream_out"]
                written = range(start, start + pixels[1] * (record["stream_last"] + 1))
                reads = record["kind"] == Kind.PROJECTION or record["shortcut"]
                start = record["start"] if record["kind"] == Kind.PROJECTION else (
                    record["stream_in"]
                )
                assert not reads or start == before.start
                found.append((before if reads else None, written))
                before = written
    return found


def test_places_of_streams_by_hand():
    found = places(compile_program(random_image(MIXED, SEED), LARGE))
    assert [(read and [read.start, read.stop], [written.start, written.stop])
            for read, written in found] == [
        (None, [0, 192]), ([0, 192], [192, 576]), ([192, 576], [192, 576]),
        ([192, 576], [192, 288]), ([192, 288], [0, 48]), ([0, 48], [0, 48]),
        (None, [0, 48]), ([0, 48], [528, 576]), ([528, 576], [528, 576]),
    ]


@pytest.mark.parametrize("network, depth", [
    (PROJECTED, 756), (PROJECTED, 1000), (MIXED, 576), (MIXED, 577),
    (GROWING, 384 + 480),
], ids=lambda value: getattr(value, "name", value))
def test_a_projection_leaves_what_it_reads(network, depth):
    program = compile_program(random_image(network, SEED), replace(LARGE, stream_depth=depth))
    index = 0
    for layer in network.layers:
        if getattr(layer, "projection", False):
            read, written = places(program)[index]
            assert not set(read) & set(written) and max(*read, *written) < depth
            index += 1
        index += 1


@pytest.mark.parametrize("network, name, words", [
    (PROJECTED, "residualconv1", 504 + 252), (MIXED, "residualconv1", 192 + 384),
    (MIXED.replace(layers=[Stem(1), ResidualConv(8, stride=2, projection=True), Readout(2)]),
     "residualconv1", 192 + 96),
])
def test_engines_need_room_for_both_streams(network, name, words):
    image = random_image(network, SEED)
    compile_program(image, replace(LARGE, stream_depth=words))
    message = f"{name} needs {words} words of the stream, the engine has {words - 1}"
    with pytest.raises(EngineError, match=f"^{network.name} does not fit: {message}$"):
        compile_program(image, replace(LARGE, stream_depth=words - 1))


@pytest.mark.parametrize("depth", [576, 384 + 479])
def test_a_stream_must_fit_beside_one_that_has_shrunk(depth):
    """Averages leave the start of the memory and the end free, each too small."""
    message = f"residualconv3 needs 480 words in one piece, beside 96 from {depth - 384} on, the"
    with pytest.raises(EngineError, match=message):
        compile_program(random_image(GROWING, SEED), replace(LARGE, stream_depth=depth))


def test_projections_run_in_one_pass():
    engine = replace(PASSES, stream_depth=1024, layer_depth=9, spike_depth=512, mean_depth=512)
    message = "residualconv1 has a projection, which runs in one pass, of 2 time steps"
    with pytest.raises(EngineError, match=f"^projected does not fit: {message}$"):
        compile_program(random_image(PROJECTED, SEED), engine)
    network = PROJECTED.replace(T=2)
    program = compile_program(random_image(network, SEED), engine)
    for index in (1, 3, 6):
        record, gains = record_of(program, index)
        assert (record["kind"], record["first_pass"]) == (Kind.PROJECTION, 3)
        assert gains[:2] == [256] * 2
    # Two units: an element is half a word. 9 channels are 16, in 8 words.
    assert [record_of(program, 6)[0][name] for name in ("x_step", "y_step", "stream_last")] == [
        2 * 16, 2 * 5 * 16, 3
    ]
    assert record_of(program, 3)[0]["start"] == 2 * record_of(program, 1)[0]["stream_out"] > 0


def test_programs_hold_projections_too():
    image = random_image(PROJECTED, SEED)
    message = (
        "^projected does not fit: 9 layers and projections, the engine's program holds 8$"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(image, replace(ROOMY, layer_depth=8))
    program = compile_program(image, ROOMY)
    for region, size, field in (
        (Region.WEIGHTS, 2, "weight_depth"), (Region.CHANNELS, 4, "channel_depth")
    ):
        used = len(program.regions[region]) // size
        compile_program(image, replace(ROOMY, **{field: used}))
        with pytest.raises(EngineError, match=f"{used} words of"):
            compile_program(image, replace(ROOMY, **{field: used - 4}))


@pytest.mark.parametrize("engine", [ROOMY, replace(ROOMY, current_width=18)], ids=[16, 18])
def test_words_of_projections(engine):
    image, rng = random_image(PROJECTED, SEED), np.random.default_rng(1)
    program = compile_program(image, engine)
    rows = program.regions[Region.CHANNELS].view("<i4").reshape(-1, 2).astype(np.int64)
    taps = program.regions[Region.WEIGHTS].view("i1").reshape(-1, 4)
    for number, index in zip((1, 3, 6), PROJECTIONS, strict=True):
        record, part = record_of(program, number)[0], image.layers[index].projection
        channels, inputs = part.weights.shape
        # A tile after the other, in each a word of four channels for every input.
        for channel, i in np.ndindex(-(-channels // 4) * 4, inputs):
            word = taps[record["weight_base"] + channel // 4 * inputs + i]
            expected = part.weights[channel, i] if channel < channels else 0
            assert word[channel % 4] == expected
        words = rows[record["channel_base"] :][: -(-channels // 4) * 4]
        assert not words[channels:].any()
        words = words[:channels]
        assert words[:, 1].tolist() == part.slope.tolist()
        for _ in range(20):
            value = rng.integers(-32768, 32768, channels)
            got = (value * words[:, 1] + words[:, 0]) >> 11
            assert got.tolist() == formats.stream_current(value, part.slope, part.bias).tolist()
        # They lie behind those of the convolution beside it; what follows begins where they end.
        tiles, others = -(-channels // 4), [record_of(program, other)[0] for other in range(9)]
        assert others[number + 1]["channel_base"] + tiles * 4 == record["channel_base"]
        for base, words in (("weight_base", tiles * inputs), ("channel_base", tiles * 4)):
            end = record[base] + words
            assert end == min(other[base] for other in others if other[base] > record[base])


def test_macs_of_projections_by_hand():
    """Of each step: outputs times 3 x 3 inputs, and once more times the channels."""
    assert PROJECTED.layer_macs() == [
        63 * 5 * 18, 4 * 63 * 3 * (45 + 5), 4 * 20 * 9 * (27 + 3), 4 * 20 * 9 * 81,
        4 * 6 * 6 * (9 + 9), 4 * 36 * 3,
    ]
    assert ResidualConv(9, stride=2).macs(Shape(6, 4, 4)) == 4 * 9 * 54


@pytest.mark.parametrize("index, walk", [
    # 63 tiles of 5 inputs; 20 pixels of 3 tiles, which leave in 4 groups; 6 of 2, of 9 inputs.
    (1, 63 * 5), (2, 59 * 4 + 3), (4, 12 * 9),
])
@pytest.mark.parametrize("exact", [False, True])
def test_cycles_of_projections_by_hand(index, walk, exact):
    # Record and setup; memory 1, sums 4, bias 1, 4 groups; slope and shortcut 3, LIF and the
    # rest 3 and a cycle a step. No gains are computed.
    expected = 28 + 4 + 3 + walk + 6 + 4 + 3 + 3 + 4
    layers = list(PROJECTED.layers)
    layer = layers[index]
    layers[index] = Conv(layer.channels, layer.kernel, layer.stride)
    plain = layer_cycles(PROJECTED.replace(layers=layers), index, ROOMY, exact)
    assert layer_cycles(PROJECTED, index, ROOMY, exact) == plain + expected
    # Registers behind the array's memories are not on the way.
    deep = replace(ROOMY, deep=True)
    assert layer_cycles(PROJECTED, index, deep, exact) == plain + 3 + expected
    assert cycles_per_frame(PROJECTED, ROOMY, exact) == sum(
        layer_cycles(PROJECTED, number, ROOMY, exact) for number in range(6)
    )


def test_a_small_resnet19_compiles():
    network = resnet19(5, (16, 24, 32), size=8)
    projections = [index for index, layer in enumerate(network.layers)
                   if getattr(layer, "projection", False)]
    assert projections == [7, 13] and len(network.layers) == 18
    assert network.shapes[-2] == Shape(32, 2, 2)
    assert all(map(network.is_streamed, range(17))) and not network.is_streamed(17)
    # 64 pixels of 16 words, and 16 of 24.
    engine = Engine(
        pe=8, simd=16, lanes=2, units=1, weight_depth=4096, spike_depth=512, channel_depth=1024,
        mean_depth=4096, stream_depth=64 * 16 + 16 * 24, layer_depth=20,
    )
    program = compile_program(random_image(network, SEED), engine)
    kinds = [record_of(program, index)[0]["kind"] for index in range(20)]
    assert [index for index, kind in enumerate(kinds) if kind == Kind.PROJECTION] == [7, 14]
    assert program.run_layer(13)[1:3] == bytes([14, 2])
    assert [record_of(program, index)[0]["tiles_last"] for index in (7, 14)] == [2, 3]
    assert [written.start for _, written in places(program)][6:9] == [0, 1024, 1024]
    assert [written.start for _, written in places(program)][13:16] == [1024, 0, 0]
