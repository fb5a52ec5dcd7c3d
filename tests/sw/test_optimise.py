"""Optimisers, learning rates and averages of recipes."""

import pytest
import torch

from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.model import SpikingNetwork
from sw.optimise import learning_rate, make_average, make_optimizer
from sw.recipe import Recipe


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SpikingNetwork(Network("small", Shape(1, 8, 8), [Stem(4), Conv(4), Readout(3)], T=2))


@pytest.mark.parametrize("optimizer, kind", [
    ("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW),
])
def test_only_weights_decay(model, optimizer, kind):
    recipe = Recipe(optimizer=optimizer, weight_decay=0.3, momentum=0.7, lr=0.1)
    made = make_optimizer(model, recipe)
    assert type(made) is kind
    decays = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        weight = name.endswith(("conv.weight", "linear.weight"))
        assert decays.pop(id(parameter)) == (0.3 if weight else 0), name
    assert not decays
    group = made.param_groups[0]
    assert group["momentum" if optimizer == "sgd" else "betas"] in (0.7, (0.7, 0.999))


def test_the_learning_rate_rises_and_falls():
    recipe = Recipe(epochs=10, warmup=2.0, lr=0.4)
    rates = [learning_rate(recipe, epoch) for epoch in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    assert learning_rate(recipe.replace(warmup=0.0), 5) == pytest.approx(0.2)


def test_the_average_follows(model):
    assert make_average(model, Recipe()) is None
    average = make_average(model, Recipe(ema=0.75))
    before = model.layers[1].conv.weight.detach().clone()
    with torch.no_grad():
        model.layers[1].conv.weight += 1
        model.layers[1].norm.running_mean += 4
    average.update_parameters(model)
    assert torch.allclose(average.module.layers[1].conv.weight, before + 0.25)
    assert torch.allclose(average.module.layers[1].norm.running_mean, torch.tensor(1.0))
