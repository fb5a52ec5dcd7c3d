"""Views: frames in batches, those for training augmented, each from a seed of its own.

The view of a sample depends on the run's seed, the epoch and the sample's number alone: not on the
batch it is in, nor on the process that makes it.
"""

import zlib

import torch
from torch.nn import functional as F

from sw.data.imagenet import Folder
from sw.data.seeded import seeded

__all__ = ["Views"]


class Views(torch.utils.data.Dataset):
    """A dataset for a DataLoader: gives ``(frames, labels)`` of lists of numbers of samples.

    frames, labels: as from ``sw.data.load``. recipe: a ``sw.recipe.Recipe``, or None for frames as
    they are. epoch: of the views to come, set before each.
    """

    def __init__(self, frames, labels, recipe=None, seed=0):
        self.frames, self.labels, self.recipe, self.seed = frames, labels, recipe, seed
        self.epoch = 0
        self.policy = None
        if recipe is not None and recipe.auto_augment != "none":
            from torchvision.transforms import AutoAugmentPolicy, v2

            self.policy = v2.AutoAugment(AutoAugmentPolicy(recipe.auto_augment))

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, numbers):
        labels, recipe = self.labels[numbers], self.recipe
        if recipe is None:
            return self.frames[numbers], labels
        draws = [self._generator(number) for number in numbers]
        if isinstance(self.frames, Folder):
            frames = self.frames.views(numbers, _seeds(draws))
        else:
            frames = self.frames[numbers]
        images = frames.flatten(1, -3)
        for change, pixels in (
            (_crop, recipe.crop), (_roll, recipe.roll), (_flip, recipe.flip),
            (self._policy, self.policy is not None), (_cutout, recipe.cutout),
        ):
            if pixels:
                images = change(images, pixels, draws)
        return images.view(frames.shape), labels

    def _generator(self, number):
        # Of 32 bits, for the generator uses no more.
        seed = zlib.crc32(f"{self.seed} {self.epoch} {number}".encode())
        return torch.Generator().manual_seed(seed)

    def _policy(self, images, _, draws):
        return seeded(self.policy, images, _seeds(draws))


def _draw(values, count, draws):
    """Random integers ``[count, N]`` from 0 to ``values`` - 1, of each generator ``count``."""
    return torch.stack([torch.randint(values, (count,), generator=draw) for draw in draws], 1)


def _seeds(draws):
    """A seed of each generator, for torchvision's transforms."""
    return _draw(1 << 62, 1, draws)[0].tolist()


def _crop(images, border, draws):
    """Each image moved by up to ``border`` pixels each way; zeros come in."""
    N, _, H, W = images.shape
    windows = F.pad(images, [border] * 4).unfold(2, H, 1).unfold(3, W, 1)
    top, left = _draw(2 * border + 1, 2, draws)
    return windows[torch.arange(N), :, top, left]


def _roll(images, border, draws):
    """The same, and what leaves at one side comes in at the other."""
    moves = _draw(2 * border + 1, 2, draws).T - border
    return torch.stack([
        image.roll(move, (1, 2)) for image, move in zip(images, moves.tolist(), strict=True)
    ])


def _flip(images, _, draws):
    """Half of the images mirrored left to right."""
    (mirrored,) = _draw(2, 1, draws).bool()
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _cutout(images, side, draws):
    """A square of ``side`` x ``side`` zeros around any pixel of each image (arXiv 1708.04552)."""
    inside = []
    for size in images.shape[2:]:
        first, place = _draw(size, 1, draws).T - side // 2, torch.arange(size)
        inside.append((place >= first) & (place < first + side))
    rows, columns = inside
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])
