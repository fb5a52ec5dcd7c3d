"""The loss around a trained network, in a plane through it."""

import torch

from sw.losses import classification_loss

__all__ = ["landscape"]


def _direction(model, generator):
    """A random step of all weights, each filter as long as the model's own (Li et al. 2018).

    Norms, biases and gains stay: the first are left alone there, too.
    """
    steps = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        step = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        flat = step.flatten(1)
        length = parameter.detach().flatten(1).norm(dim=1) / flat.norm(dim=1).clamp(min=1e-12)
        steps[name] = (flat * length[:, None]).view_as(parameter)
    return steps


def _loss(model, frames, labels, recipe, batch=100):
    total, device = 0.0, next(model.parameters()).device
    for x, y in zip(frames.split(batch), labels.split(batch), strict=True):
        loss = classification_loss(model(x.to(device)), y.to(device), recipe)
        total += loss.item() * len(y)
    return total / len(labels)


@torch.no_grad()
def landscape(model, frames, labels, recipe, points=11, radius=1.0, seed=0, tick=lambda: None):
    """Loss around a model, ``[points, points]``, in a random plane through it: the middle is it.

    Filter-normalised directions of Li et al. (arXiv 1712.09913), from -radius to radius. Binary
    weights move as the real ones behind them do, and are binarised where they are. ``tick`` is
    called after each point.
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    x, y = _direction(model, generator), _direction(model, generator)
    own = {name: parameter.clone() for name, parameter in model.named_parameters() if name in x}
    places = torch.linspace(-radius, radius, points).tolist()
    losses = torch.empty(points, points)
    try:
        for row, b in enumerate(places):
            for column, a in enumerate(places):
                for name, parameter in model.named_parameters():
                    if name in own:
                        parameter.copy_(own[name] + a * x[name] + b * y[name])
                losses[row, column] = _loss(model, frames, labels, recipe)
                tick()
    finally:
        for name, parameter in model.named_parameters():
            if name in own:
                parameter.copy_(own[name])
    return losses
