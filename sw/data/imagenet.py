"""ImageNet, or any folder of images in a folder for each class: read as they are needed."""

from pathlib import Path

import torch

from sw.data.seeded import seeded
from sw.data.source import DataError

__all__ = ["Folder", "load"]

SIDE = 224


class Folder:
    """Images of a split, in the place of a tensor ``[N, 3, 224, 224]``.

    As usual for evaluation their shorter side becomes 256 pixels, and the middle is taken; for
    training a rectangle of 8 to 100 % of their area, 3:4 to 4:3 (Szegedy et al. 2015).
    """

    def __init__(self, paths):
        from torchvision.transforms import v2

        self.paths, self.shape = paths, (len(paths), 3, SIDE, SIDE)
        self.middle = v2.Compose([v2.Resize(256), v2.CenterCrop(SIDE)])
        self.part = v2.RandomResizedCrop(SIDE)

    def _read(self, number):
        from torchvision.datasets.folder import pil_loader
        from torchvision.transforms.v2.functional import pil_to_tensor

        path = self.paths[number]
        try:
            return pil_to_tensor(pil_loader(path))
        except OSError as error:
            raise DataError(f"{path}: not a readable image ({error})") from error

    def __getitem__(self, numbers):
        """Images of a list or tensor of numbers, or of a slice, for evaluation."""
        if isinstance(numbers, slice):
            numbers = range(len(self.paths))[numbers]
        return torch.stack([self.middle(self._read(number)) for number in numbers])

    def views(self, numbers, seeds):
        """The same for training, each from a seed."""
        return seeded(self.part, [self._read(number) for number in numbers], seeds)


def load(split, root=None):
    """``Folder`` and labels of ``root``/train or ``root``/val, ./data/imagenet without root.

    Labels are the places of the folders of the classes in the order of their names. Raises
    DataError.
    """
    from torchvision.datasets import ImageFolder

    place = Path(root or "data/imagenet") / ("train" if split == "train" else "val")
    try:
        folder = ImageFolder(place)
    except OSError as error:
        raise DataError(
            f"no ImageNet in {place}: it takes a folder of images for each class (get them from"
            " https://image-net.org/download, then name the folder of train and val with"
            " --data-root)"
        ) from error
    paths, labels = zip(*folder.samples, strict=True)
    return Folder(paths), torch.tensor(labels)
