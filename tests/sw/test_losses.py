"""Losses over time steps."""

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from sw.losses import classification_loss, distillation_loss
from sw.recipe import Recipe


def test_losses_are_cross_entropies():
    logits, labels = torch.randn(3, 5, 7), torch.randint(0, 7, (5,))
    each = [cross_entropy(step, labels) for step in logits]
    tet = classification_loss(logits, labels, Recipe())
    assert torch.allclose(tet, torch.stack(each).mean())
    mean = classification_loss(logits, labels, Recipe(loss="mean"))
    assert torch.allclose(mean, cross_entropy(logits.mean(0), labels))
    assert not torch.allclose(tet, mean)


def test_smoothing_gives_a_share_to_all_classes():
    logits, labels = torch.randn(1, 5, 7), torch.randint(0, 7, (5,))
    target = torch.full((5, 7), 0.1 / 7)
    target[torch.arange(5), labels] += 0.9
    expected = -(target * log_softmax(logits[0], 1)).sum(1).mean()
    found = classification_loss(logits, labels, Recipe(label_smoothing=0.1))
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_is_the_divergence_of_each_step(temperature):
    logits, taught = torch.randn(3, 5, 7), torch.randn(5, 7)
    recipe = Recipe(temperature=temperature)
    target = (taught / temperature).softmax(1)

    def divergence(step):
        own = (step / temperature).log_softmax(1)
        return temperature**2 * (target * (target.log() - own)).sum(1).mean()

    tet = distillation_loss(logits, taught, recipe)
    assert torch.allclose(tet, torch.stack([divergence(step) for step in logits]).mean())
    mean = distillation_loss(logits, taught, recipe.replace(loss="mean"))
    assert torch.allclose(mean, divergence(logits.mean(0)))
    assert not torch.allclose(tet, mean)
    same = distillation_loss(taught.expand(3, 5, 7), taught, recipe)
    assert torch.allclose(same, torch.tensor(0.0), atol=1e-6)
