"""The block of a spiking transformer."""

import json

import pytest
import torch
from torch import nn

from sw.layers import (
    AveragedReadout,
    Conv,
    Events,
    LayerError,
    Network,
    Readout,
    Shape,
    Stem,
    Transformer,
)
from sw.model import SpikingNetwork
from sw.modules import AGMM, BinaryConv2d
from sw.operations import operations
from sw.size import size_report
from sw.train import main
from tests.support import noise_frames, settled_model

NETWORK = Network(
    "former", Shape(1, 8, 8), [Stem(8, stride=2), Transformer(heads=2), AveragedReadout(10)], T=3
)


@pytest.fixture
def model():
    return settled_model(NETWORK)


def lif(currents):
    """Spikes of currents ``[T, ...]``, by the formula."""
    membrane, spikes = 0.0, []
    for current in currents:
        membrane = 0.5 * membrane + current
        spikes.append((membrane >= 1).float())
        membrane = membrane * (1 - spikes[-1])
    return torch.stack(spikes)


def test_attention_is_softmax_free_and_pixel_by_pixel(model):
    block = model.layers[1]
    spikes = torch.rand(3, 2, 8, 4, 4).round()
    parts = lif(block.queries_keys_values(spikes)).view(3, 2, 3, 2, 4, 16)
    expected = torch.zeros(3, 2, 2, 4, 16)
    for t in range(3):
        for n in range(2):
            for head in range(2):
                q, k, v = parts[t, n, :, head]
                # Of each pixel: the values of all pixels, as often as its query meets their keys.
                for pixel in range(16):
                    meets = (q[:, pixel, None] * k).sum(0)
                    expected[t, n, head, :, pixel] = (v * meets).sum(1)
    normed = block.norm(expected.view(6, 8, 4, 4)).view(3, 2, 8, 4, 4)
    found = block.attention(spikes)
    assert torch.equal(found, lif(normed))
    assert 0.01 < found.mean() < 0.99


def test_shortcuts_carry_currents_around_both_halves(model):
    block = model.layers[1]
    spikes, stream = torch.rand(3, 2, 8, 4, 4).round(), torch.randn(3, 2, 8, 4, 4)
    middle = stream + block.out(block.attention(spikes))
    expected = middle + block.contract(lif(block.expand(lif(middle))))
    found, current = block(spikes, stream)
    assert torch.allclose(current, expected, atol=1e-5) and torch.equal(found, lif(current))


@pytest.mark.parametrize("neuron, kind, gains", [
    ("agmm", BinaryConv2d, 2), ("vanilla", BinaryConv2d, 0), ("fp", nn.Conv2d, 0),
])
def test_feed_forward_is_binary_attention_is_not(neuron, kind, gains):
    block = SpikingNetwork(NETWORK.replace(neuron=neuron)).layers[1]
    assert type(block.expand.conv) is type(block.contract.conv) is kind
    assert type(block.queries_keys_values.conv) is type(block.out.conv) is nn.Conv2d
    assert sum(isinstance(module, AGMM) for module in block.modules()) == gains


def test_sizes_and_operations(model):
    binary = 2 * 8 * 32
    assert size_report(model).binary == binary
    # A pixel's: four projections of 8 to 8, 32 hidden channels, and keys times values of 4 to 4.
    assert NETWORK.layer_macs()[1] == 3 * 16 * (4 * 64 + 2 * 2 * 4 * 4 + 2 * 8 * 32)
    layers = {layer.name: layer for layer in operations(model, noise_frames(NETWORK, 4))}
    found = layers["transformer1"]
    assert found.dense == 3 * 16 * (4 * 64 + 2 * 8 * 32) and 0 < found.acs < found.dense


@pytest.mark.parametrize("layers, message", [
    ([Stem(9), Transformer(heads=2), Readout(2)], "layer 1: 9 channels cannot be shared by 2"),
    ([Events(), Transformer(heads=1), Readout(2)], "layer 1 has a shortcut, so the layer before"),
    ([Stem(8), Conv(8, pool=2), Transformer(), Readout(2)], "layer 2 has a shortcut"),
    ([Stem(8), Transformer(heads=0), Readout(2)], "layer 1 heads must be a whole number from 1"),
])
def test_what_cannot_be_is_refused(layers, message):
    with pytest.raises(LayerError, match=message):
        NETWORK.replace(layers=layers)


def test_a_transformer_learns(tmp_path):
    (tmp_path / "mine.py").write_text("""
from sw.layers import *

def net():
    return Network("former", Shape(1, 8, 8), [
        Stem(16, stride=2), Transformer(heads=2), Transformer(heads=2), Readout(10)], T=2)
""")
    words = ["--arch", f"{tmp_path / 'mine.py'}:net", "--epochs", "4", "--lr", "0.005"]
    assert main([*words, "--out", f"{tmp_path / 'run'}"]) == 0
    log = [*map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())]
    assert log[-1]["test_accuracy"] > 0.6 and log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert 0 < log[0]["flip_ratio"] < 1 and len(log[0]["gradient_mean"]) == 4
