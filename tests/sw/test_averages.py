"""Average pooling, which becomes part of the kernel behind it, and fully connected layers."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sw import image
from sw.engine import Engine, EngineError
from sw.golden import IntegerNetwork, float_network
from sw.image import ImageError
from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Conv,
    LayerError,
    Network,
    Readout,
    Shape,
    Stem,
)
from sw.model import SpikingNetwork
from sw.program import compile_program
from tests.support import random_frames, random_image, random_model

NETWORK = Network(
    "averages", Shape(2, 8, 8),
    [Stem(6), AveragedConv(5), AveragedConv(7, kernel=2), Conv(4, kernel=1), AveragedReadout(3)],
    T=3,
)
PLAIN = Network(
    "averages", Shape(2, 8, 8),
    [Stem(6), Conv(5, kernel=6, stride=2, padding=2), Conv(7, kernel=4, stride=2, padding=0),
     Conv(4, kernel=1), Readout(3)],
    T=3,
)


def test_the_hardware_computes_larger_kernels():
    assert NETWORK.plain == PLAIN and PLAIN.plain == PLAIN
    assert NETWORK.shapes == PLAIN.shapes
    assert NETWORK.shapes[2:5] == [Shape(5, 4, 4), Shape(7, 1, 1), Shape(4, 1, 1)]
    assert Network.from_dict(NETWORK.to_dict()) == NETWORK
    # What is trained has the MACs of small kernels, what is built has four times as many.
    assert NETWORK.layer_macs()[1] == 3 * 5 * 4 * 4 * 6 * 9
    assert PLAIN.layer_macs()[1] == 4 * NETWORK.layer_macs()[1]


@pytest.mark.parametrize("changes, message", [
    (dict(kernel=5), "kernel must be at most 4 behind an average pooling, got 5"),
    (dict(kernel=4, padding=2), "padding must be at most 1 behind an average pooling, got 2"),
    (dict(stride=2), "stride must be at most 1 behind an average pooling, got 2"),
    (dict(kernel=0), "kernel must be 1 to 8, got 0"),
])
def test_what_no_kernel_can_do_is_refused(changes, message):
    with pytest.raises(LayerError, match=message):
        AveragedConv(**{"channels": 3, **changes})


def test_padded_averages_need_even_maps():
    message = "averages: layer 1 pads the averages of a map of 9 x 8"
    with pytest.raises(LayerError, match=message):
        NETWORK.replace(input=Shape(2, 9, 8), layers=[Stem(6), AveragedConv(5), Readout(2)])


def test_averages_without_padding_drop_an_odd_row():
    network = NETWORK.replace(
        input=Shape(2, 9, 7), layers=[Stem(6), AveragedConv(5, padding=0), Readout(2)]
    )
    assert network.shapes[2] == Shape(5, 2, 1) == network.plain.shapes[2]
    compare(network)


def compare(network):
    """The image of a network against plain arithmetic on averages, layer by layer."""
    model, exported = random_model(network), random_image(network)
    assert exported.network == network.plain
    golden, frames = IntegerNetwork(exported), random_frames(network, 4, 3)
    _, boundaries = golden(frames, record=True)
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, AveragedConv):
            continue
        signal = boundaries[index - 1].spikes.flatten(0, 1).double()
        signs = model.layers[index].conv.signs * 2.0 - 1
        negative = model.layers[index].norm.weight < 0
        signs[negative] *= -1
        sums = F.conv2d(4 * F.avg_pool2d(signal, 2), signs.double(), padding=layer.padding)
        got = golden.layers[index].sums(boundaries[index - 1].spikes)
        assert torch.equal(got.flatten(0, 1).double(), sums)


def test_sums_are_those_of_averages():
    compare(NETWORK)


def test_the_rebuilt_network_is_the_trained_one():
    frames = random_frames(NETWORK, 10, 3)
    model, rebuilt = random_model(NETWORK), float_network(random_image(NETWORK))
    logits, spikes = model(frames, record=True)
    again, spikes_again = rebuilt(frames, record=True)
    for ours, theirs in zip(spikes, spikes_again, strict=True):
        assert (ours != theirs).float().mean() < 1e-3
    assert torch.allclose(logits, again, atol=1e-4)


def test_integers_follow_the_float_network():
    exported, frames = random_image(NETWORK), random_frames(NETWORK, 60, 5)
    _, spikes = random_model(NETWORK)(frames, record=True)
    _, boundaries = IntegerNetwork(exported)(frames, record=True)
    for real, integer in zip(spikes, boundaries, strict=True):
        assert (real != integer.spikes).float().mean() < 0.06
    assert 0.02 < boundaries[-1].spikes.float().mean() < 0.6


def test_the_average_of_a_map_has_one_weight():
    network = NETWORK.replace(layers=[Stem(6), AveragedReadout(3)])
    model, exported = random_model(network), random_image(network)
    integers = model.layers[1].linear.integers
    assert integers.shape == (3, 6)
    weights = torch.from_numpy(exported.layers[1].weights).view(3, 6, 64)
    assert torch.equal(weights, integers[..., None].expand(3, 6, 64))
    spikes = torch.rand(3, 2, 6, 8, 8).round()
    expected = model.layers[1].linear(spikes.mean((3, 4)))
    assert torch.allclose(model.layers[1](spikes), expected)
    assert torch.allclose(float_network(exported).layers[1](spikes), expected, atol=1e-5)


def test_the_average_of_a_square_has_one_weight():
    network = NETWORK.replace(input=Shape(2, 6, 8), layers=[Stem(5), AveragedReadout(3, window=2)])
    model, exported = random_model(network), random_image(network)
    integers = model.layers[1].linear.integers
    assert integers.shape == (3, 5 * 3 * 4)
    weights = torch.from_numpy(exported.layers[1].weights).view(3, 5, 6, 8)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.equal(weights[..., row::2, column::2], integers.view(3, 5, 3, 4))
    spikes = torch.rand(3, 2, 5, 6, 8).round()
    expected = model.layers[1](spikes)
    assert torch.allclose(float_network(exported).layers[1](spikes), expected, atol=1e-5)
    # Of others than its own the averages differ.
    assert not torch.allclose(model.layers[1](spikes.roll(1, 4)), expected, atol=1e-5)
    assert network.layer_macs()[1] == 3 * 3 * integers.numel() // 3


def test_squares_must_tile_the_map():
    message = "averages: layer 1: window=3 does not divide a map of 8 x 8"
    with pytest.raises(LayerError, match=message):
        NETWORK.replace(layers=[Stem(6), AveragedReadout(3, window=3)])


def test_a_kernel_of_the_map_is_a_fully_connected_layer():
    """Every weight meets one pixel, and nothing is padded."""
    network = Network(
        "dense", Shape(1, 7, 7), [Stem(3), Conv(9, kernel=7, padding=0), Readout(2)], T=2
    )
    assert network.shapes[2] == Shape(9, 1, 1)
    layer = SpikingNetwork(network).layers[1].conv
    spikes = torch.rand(4, 3, 7, 7).round()
    weight = layer.gamma[:, None] * (layer.signs.flatten(1) * 2.0 - 1)
    assert torch.allclose(layer(spikes).flatten(1), spikes.flatten(1) @ weight.T, atol=1e-4)


def test_even_kernels_shrink_the_map_by_default():
    assert Conv(3, kernel=2).padding == 0 and Conv(3, kernel=4).padding == 1
    assert Conv(3, kernel=4).conv_shape(Shape(1, 6, 6)) == Shape(3, 5, 5)


def test_an_image_has_no_averages(tmp_path):
    """Hardware and golden model know none: the export leaves none."""
    exported = random_image(NETWORK.replace(layers=[Stem(6), AveragedReadout(3)]))
    wrong = replace(exported, network=NETWORK.replace(layers=[Stem(6), AveragedReadout(3)]))
    with pytest.raises(ImageError, match="a network that cannot be exported"):
        image.save(wrong, tmp_path / "wrong.bsnn")
    assert not (tmp_path / "wrong.bsnn").exists()


def test_exact_gains_of_large_kernels_may_have_too_many_classes():
    engine = Engine(
        pe=4, simd=8, lanes=4, weight_depth=4096, spike_depth=4096, channel_depth=128,
        mean_depth=4096,
    )
    network = Network(
        "large", Shape(1, 16, 16), [Stem(4), Conv(4, kernel=8, padding=0), Readout(2)], T=2
    )
    message = (
        "^large does not fit: conv1 has 15 x 15 position classes for its exact gain, the engine"
        " walks 15 an axis and 127: a smaller kernel, more padding or --gain frozen$"
    )
    with pytest.raises(EngineError, match=message):
        compile_program(random_image(network), engine)
    compile_program(random_image(network, gain="frozen"), engine)
    # The kernel has the size of the map: a class for each pixel, no more than 64.
    network = network.replace(input=Shape(1, 8, 8))
    compile_program(random_image(network), engine)
