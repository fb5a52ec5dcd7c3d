"""Shortcuts around binary convolutions: what they may be, and what is trained."""

import json
from functools import partial

import pytest
import torch
from torch.nn import functional as F

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
from tests.support import random_frames, random_model
from tests.sw.residual import CODED, LATER, NETWORK, NETWORKS, PROJECTED


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
