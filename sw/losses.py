"""Losses of logits at every time step."""

import torch
from torch.nn import functional as F

__all__ = ["classification_loss", "distillation_loss"]


def classification_loss(logits, labels, recipe):
    """Cross-entropy of logits ``[T, N, classes]`` with labels ``[N]``, smoothed.

    ``tet``: of every time step, averaged over them (Deng et al., arXiv 2202.11946, eq. 9).
    ``mean``: of the logits averaged over time.
    """
    if recipe.loss == "mean":
        logits = logits.mean(0, keepdim=True)
    return F.cross_entropy(
        logits.flatten(0, 1), labels.repeat(len(logits)), label_smoothing=recipe.label_smoothing
    )


def distillation_loss(logits, taught, recipe):
    """How far the classes of logits ``[T, N, C]`` are from those of a teacher's, ``[N, C]``.

    The Kullback-Leibler divergence at ``temperature``, times its square (Hinton et al., arXiv
    1503.02531). With the loss ``tet`` every time step learns from the teacher, as members of an
    ensemble do; with ``mean`` their mean.
    """
    if recipe.loss == "mean":
        logits = logits.mean(0, keepdim=True)
    target = torch.softmax(taught / recipe.temperature, 1).expand_as(logits)
    found = torch.log_softmax(logits / recipe.temperature, 2)
    divergence = F.kl_div(found.flatten(0, 1), target.flatten(0, 1), reduction="batchmean")
    return recipe.temperature**2 * divergence
