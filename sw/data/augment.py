"""Augmentation of training frames, as operations on whole batches."""

import torch
from torch.nn import functional as F

__all__ = ["augment"]

#: Border in pixels by which frames move each way, and whether half of them are mirrored.
_VIEWS = {
    "digits": (1, False), "fashion-mnist": (1, True), "cifar10": (4, True), "cifar100": (4, True),
    "digit-saccades": (1, False),
    # Left and right are two of the gestures.
    "dvs-gesture": (5, False), "cifar10-dvs": (5, True),
}


def augment(name, frames, generator):
    """Random views of a batch of a dataset: same shape and type, drawn from ``generator``.

    Every frame moves by up to a few pixels each way (zeros come in); half of those of some datasets
    are mirrored left to right. The time steps of a sample stay together.
    """
    border, mirrors = _VIEWS[name]
    images = _crop(frames.flatten(1, -3), border, generator)
    if mirrors:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images.view(frames.shape)


def _crop(images, border, generator):
    N, _, H, W = images.shape
    windows = F.pad(images, [border] * 4).unfold(2, H, 1).unfold(3, W, 1)
    top, left = torch.randint(2 * border + 1, (2, N), generator=generator)
    return windows[torch.arange(N), :, top, left]
