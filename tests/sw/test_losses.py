"""Losses over time steps."""

import torch
from torch.nn.functional import cross_entropy, log_softmax

from sw.losses import classification_loss
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
