"""Updates of the weights: the optimiser, its learning rate, and an average of the weights."""

import math

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["learning_rate", "make_average", "make_optimizer"]


def make_optimizer(model, recipe):
    """The optimiser of a recipe. Only weights decay, not norms, gains and biases."""
    learned = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in learned if p.dim() > 1]
    others = [p for p in learned if p.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999))


def learning_rate(recipe, epoch):
    """Of the update at ``epoch``, a fraction: a line up to ``lr``, then a cosine down to 0."""
    if epoch < recipe.warmup:
        return recipe.lr * epoch / recipe.warmup
    share = (epoch - recipe.warmup) / (recipe.epochs - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def make_average(model, recipe):
    """A copy of ``model`` (its ``module``) that follows it slowly, or None for ``ema`` 0."""
    if not recipe.ema:
        return None
    follow = get_ema_multi_avg_fn(recipe.ema)
    average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
    # Or the first update would be a copy.
    average.n_averaged.fill_(1)
    return average
