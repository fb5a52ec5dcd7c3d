"""Datasets: frames of bytes, and labels, as tensors in memory. Of ImageNet, frames stay on disk.

A module for each source; this one knows them all.
"""

from functools import partial

from sw.data import cifar, digits, events, fashion_mnist, imagenet, saccades
from sw.data.augment import Views
from sw.data.source import DataError

__all__ = ["DATASETS", "DataError", "Views", "load"]


def _static(load):
    """``load`` of images that are the same at every time step, whatever T is."""
    return lambda split, root, T: load(split, root)


_LOADERS = {
    "digits": _static(digits.load),
    "fashion-mnist": _static(fashion_mnist.load),
    "cifar10": _static(partial(cifar.load, "CIFAR10")),
    "cifar100": _static(partial(cifar.load, "CIFAR100")),
    "imagenet": _static(imagenet.load),
    "digit-saccades": saccades.load,
    "dvs-gesture": partial(events.load, "DVSGesture"),
    "cifar10-dvs": partial(events.load, "CIFAR10DVS"),
}
DATASETS = tuple(_LOADERS)


def load(name, split, root=None, T=1):
    """Frames (uint8) and labels (int64 ``[N]``) of a dataset.

    Frames are ``[N, C, H, W]``, of event cameras ``[N, T, C, H, W]``. name: one of ``DATASETS``.
    split: ``train`` or ``test``. root: folder of its files, where they are not found without or to
    be downloaded. T: time steps, for event cameras. Raises DataError.
    """
    if name not in _LOADERS:
        raise DataError(f"unknown data {name!r}: one of {', '.join(DATASETS)}")
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}: train or test")
    return _LOADERS[name](split, root, T)
