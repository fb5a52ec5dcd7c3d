"""torchvision's random transforms, each from a seed of its own."""

import torch

__all__ = ["seeded"]


def seeded(transform, images, seeds):
    """``transform`` of each image, stacked. It draws from the global generator, as others do."""
    changed = []
    for image, seed in zip(images, seeds, strict=True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            changed.append(transform(image))
    return torch.stack(changed)
