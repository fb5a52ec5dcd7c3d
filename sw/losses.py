"""Losses of logits at every time step."""

from torch.nn import functional as F

__all__ = ["classification_loss"]


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
