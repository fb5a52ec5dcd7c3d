"""Datasets as two tensors in memory, and their augmentation as batched tensor operations."""

import gzip
import os
import tempfile
import zlib
from pathlib import Path
from urllib.error import URLError

import torch
from torch.nn import functional as F

__all__ = ["DATASETS", "DataError", "augment", "load"]

DATASETS = ("digits", "fashion-mnist")

#: Where the Debian package dataset-fashion-mnist puts its four files.
INSTALLED = Path("/usr/share/datasets/fashion-mnist")

#: Where torchvision keeps a copy, and where a download goes: the last one.
TORCHVISION = (Path("data"), Path.home() / ".cache" / "agamemnon")


class DataError(ValueError):
    """A dataset that is unknown or cannot be found, with what to do about it in one line."""


def load(name, split, root=None):
    """Images (uint8 ``[N, C, H, W]``) and labels (int64 ``[N]``) of a dataset.

    name: one of ``DATASETS``. split: ``train`` or ``test``. root: folder of Fashion-MNIST, either
    of its four idx files (plain or .gz) or of torchvision's ``FashionMNIST/raw``. Without root the
    search goes on to ./data, ~/.cache/agamemnon, the Debian package's folder and a download. Raises
    DataError.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data {name!r}: one of {', '.join(DATASETS)}")
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}: train or test")
    return _digits(split) if name == "digits" else _fashion_mnist(split, root)


def _digits(split):
    """1,437 train and 360 test images, the same ones on every machine."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # The pixels are 0 to 16; the network takes bytes.
    images = (torch.from_numpy(images) * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    train, test = train_test_split(
        range(len(labels)), test_size=360, random_state=0, stratify=labels
    )
    chosen = torch.tensor(train if split == "train" else test)
    return images[chosen], torch.from_numpy(labels).long()[chosen]


def _fashion_mnist(split, root):
    folders = [Path(root)] if root else [*TORCHVISION, INSTALLED]
    for folder in folders:
        for place in (folder, folder / "FashionMNIST" / "raw"):
            if tensors := _read_folder(place, split):
                return tensors
    if root:
        raise DataError(f"no Fashion-MNIST in {root}: put its four *-ubyte.gz files there")
    return _download(split)


def _read_folder(folder, split):
    """The tensors of a folder of idx files, or None where one is missing."""
    prefix = "train" if split == "train" else "t10k"
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte")
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte")
    if images is None or labels is None:
        return None
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise DataError(f"{folder}: images {tuple(images.shape)}, labels {tuple(labels.shape)}")
    return images[:, None], labels.long()


def _read_idx(path):
    """The tensor of an idx file or of the same with .gz; None where neither exists."""
    from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

    packed = path.with_name(path.name + ".gz")
    try:
        if path.is_file():
            return read_sn3_pascalvincent_tensor(path)
        if not packed.is_file():
            return None
        # torchvision reads plain files only, and the folder may not be ours to write to.
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / path.name
            plain.write_bytes(gzip.decompress(packed.read_bytes()))
            return read_sn3_pascalvincent_tensor(plain)
    except (
        OSError, EOFError, ValueError, AssertionError, KeyError, RuntimeError, zlib.error,
    ) as error:
        raise DataError(f"{path}: not a readable idx file ({error})") from error


def _download(split):
    from torchvision.datasets import FashionMNIST

    folder = TORCHVISION[-1]
    try:
        dataset = FashionMNIST(os.fspath(folder), train=split == "train", download=True)
    except (OSError, RuntimeError, URLError) as error:
        raise DataError(
            "no Fashion-MNIST, and the download failed: apt-get install dataset-fashion-mnist,"
            " or name the folder of its four *-ubyte.gz files with --data-root"
        ) from error
    return dataset.data[:, None], dataset.targets


def augment(name, images, generator):
    """Random training views of a batch: same shape and type, drawn from ``generator``.

    Every image moves by up to a pixel each way (zeros come in); half of the Fashion-MNIST images
    are mirrored left to right.
    """
    images = _crop(images, 1, generator)
    if name == "digits":
        return images
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _crop(images, border, generator):
    N, _, H, W = images.shape
    windows = F.pad(images, [border] * 4).unfold(2, H, 1).unfold(3, W, 1)
    top, left = torch.randint(2 * border + 1, (2, N), generator=generator)
    return windows[torch.arange(N), :, top, left]
