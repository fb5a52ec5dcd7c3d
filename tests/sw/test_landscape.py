"""The plane of losses around a network."""

import pytest
import torch

from sw.landscape import _direction, landscape
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.losses import classification_loss
from sw.recipe import Recipe
from tests.support import noise_frames, settled_model

NETWORK = Network("tiny", Shape(1, 8, 8), [Stem(4), Conv(6), Readout(3)], T=2)


@pytest.fixture
def model():
    return settled_model(NETWORK)


def test_directions_are_as_long_as_filters(model):
    steps = _direction(model, torch.Generator().manual_seed(0))
    assert set(steps) == {
        "layers.0.conv.weight", "layers.1.conv.weight", "layers.2.linear.weight"
    }
    for name, step in steps.items():
        own = model.get_parameter(name).detach()
        assert torch.allclose(step.flatten(1).norm(dim=1), own.flatten(1).norm(dim=1))
        cosine = torch.cosine_similarity(step.flatten(), own.flatten(), 0)
        assert cosine.abs() < 0.9


def test_the_middle_is_the_network_and_it_stays(model):
    frames = noise_frames(NETWORK, 8)
    labels, ticks = torch.randint(0, 3, (8,)), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = landscape(
        model, frames, labels, Recipe(), points=5, radius=0.5, tick=lambda: ticks.append(1)
    )
    assert losses.shape == (5, 5) and len(ticks) == 25
    with torch.no_grad():
        here = classification_loss(model(frames), labels, Recipe())
    assert torch.allclose(losses[2, 2], here)
    assert losses.flatten().unique().numel() > 20
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    again = landscape(model, frames, labels, Recipe(), points=5, radius=0.5)
    assert torch.equal(again, losses)
    other = landscape(model, frames, labels, Recipe(), points=5, radius=0.5, seed=1)
    assert not torch.equal(other, losses)


def test_it_stays_when_it_is_cut_off(model):
    frames = noise_frames(NETWORK, 8)
    before = model.layers[1].conv.weight.detach().clone()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape(model, frames, torch.zeros(8, dtype=torch.int64), Recipe(), tick=stop)
    assert torch.equal(model.layers[1].conv.weight, before)
