"""CIFAR-10 and CIFAR-100, read by torchvision, which checks its files by their sums first."""

from functools import partial

import torch

from sw.data import source

__all__ = ["load"]


def load(name, split, root=None):
    """Images ``[N, 3, 32, 32]`` and labels of torchvision's dataset ``name``: CIFAR10 or CIFAR100.

    Their files hold pickles, which torchvision opens only if they are the published ones, byte for
    byte. Raises DataError.
    """
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    present = partial(kind, train=split == "train")
    dataset = source.find(root, present, partial(present, download=True))
    if dataset is None:
        raise source.DataError(
            f"no {name}{f' in {root}' if root else ', and the download failed'}: unpack"
            f" {kind.filename} of https://www.cs.toronto.edu/~kriz/cifar.html in a folder, and name"
            " that with --data-root"
        )
    images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(dataset.targets)
