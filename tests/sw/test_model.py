import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.model import SpikingNetwork, binary_weights
from sw.modules import BinaryConv2d

SMALL = Network(
    "small",
    Shape(2, 9, 7),
    [Stem(8, stride=2), Conv(12), Conv(16, pool=2), Readout(5)],
    T=3,
)


def trained_looking(network, seed=0):
    """A model in eval mode whose norms and gains are not the initial ones."""
    torch.manual_seed(seed)
    model = SpikingNetwork(network)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.5, 0.5)
            nn.init.normal_(module.bias, 0.3, 0.5)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.2, 1)
    for name, parameter in model.named_parameters():
        if name.endswith("alpha"):
            nn.init.normal_(parameter, 0, 3)
    return model.eval()


def naive(model, images):
    """The network one sample and one time step at a time, by the formulas."""
    network = model.network
    stem, *convs, readout = model.layers
    result = []
    for image in images:
        membranes = [0.0] * (1 + len(convs))
        logits = []
        for t in range(network.T):
            signal = image[None].float() / 255
            for i, layer in enumerate([stem, *convs]):
                if i == 0:
                    weight = layer.conv.integers * layer.conv.scale[:, None, None, None]
                elif isinstance(layer.conv, BinaryConv2d):
                    weight = torch.where(layer.conv.signs, 1.0, -1.0)
                    weight = weight * layer.conv.gamma[:, None, None, None]
                else:
                    weight = layer.conv.weight
                window = network.layers[i]
                current = F.conv2d(signal, weight, None, window.stride, window.padding)
                current = layer.norm(current)
                if i > 0 and layer.agmm is not None:
                    current = current * torch.sigmoid(layer.agmm.alpha[t] * current.mean())
                membrane = network.tau * membranes[i] + current
                signal = (membrane >= network.v_threshold).float()
                membranes[i] = membrane * (1 - signal)
                if window.pool == 2:
                    signal = F.max_pool2d(signal, 2)
            weight = readout.linear.integers * readout.linear.scale[:, None]
            logits.append(weight @ signal.flatten() + readout.linear.bias)
        result.append(torch.stack(logits))
    return torch.stack(result, 1)


@torch.no_grad()
@pytest.mark.parametrize("neuron", ["agmm", "vanilla", "fp"])
def test_model_is_the_formulas(neuron):
    model = trained_looking(SMALL.replace(neuron=neuron))
    images = torch.randint(0, 256, (4, 2, 9, 7), dtype=torch.uint8)
    logits = model(images)
    assert logits.shape == (3, 4, 5)
    torch.testing.assert_close(logits, naive(model, images), rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.01

    # Each of these must be seen by the comparison above.
    expected = naive(model, images)
    with torch.no_grad():
        model.layers[1].conv.weight[3] *= -1
    assert not torch.allclose(model(images), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_record_gives_the_spikes_that_leave_every_layer():
    model = trained_looking(SMALL)
    images = torch.randint(0, 256, (4, 2, 9, 7), dtype=torch.uint8)
    logits, spikes = model(images, record=True)
    assert torch.equal(logits, model(images))
    for spike, shape in zip(spikes, SMALL.shapes[1:-1], strict=True):
        assert spike.shape == (3, 4, shape.channels, shape.height, shape.width)
        assert set(spike.unique().tolist()) == {0.0, 1.0}
    # Order C, H, W into the readout.
    assert torch.allclose(logits, model.layers[-1].linear(spikes[-1].reshape(3, 4, -1)))


def test_neuron_kinds():
    binary = binary_weights(SpikingNetwork(SMALL))
    assert [tuple(layer.weight.shape) for layer in binary] == [(12, 8, 3, 3), (16, 12, 3, 3)]
    vanilla = SpikingNetwork(SMALL.replace(neuron="vanilla"))
    assert vanilla.layers[1].agmm is None and len(binary_weights(vanilla)) == 2
    assert not binary_weights(SpikingNetwork(SMALL.replace(neuron="fp")))


def test_every_parameter_learns_and_memory_format_changes_nothing():
    images = torch.randint(0, 256, (8, 2, 9, 7), dtype=torch.uint8)
    losses = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = SpikingNetwork(SMALL).to(memory_format=memory_format)
        loss = model(images).square().mean()
        loss.backward()
        losses.append(loss.item())
        still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert not still
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
