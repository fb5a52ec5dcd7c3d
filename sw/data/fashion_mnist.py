"""Fashion-MNIST, from torchvision's files or those of the Debian package."""

import gzip
import tempfile
import zlib
from functools import partial
from pathlib import Path

from sw.data import source
from sw.data.source import DataError

__all__ = ["load"]

#: Where the Debian package dataset-fashion-mnist puts its four files.
INSTALLED = Path("/usr/share/datasets/fashion-mnist")


def load(split, root=None):
    """60,000 train or 10,000 test images ``[N, 1, 28, 28]`` and their labels.

    root: folder of its four idx files (plain or .gz) or of torchvision's ``FashionMNIST/raw``.
    Without root the search goes on to ./data, ~/.cache/agamemnon, the Debian package's folder and a
    download. Raises DataError.
    """
    found = source.find(root, partial(_present, split), partial(_download, split), [INSTALLED])
    if found is None and root:
        raise DataError(f"no Fashion-MNIST in {root}: put its four *-ubyte.gz files there")
    if found is None:
        raise DataError(
            "no Fashion-MNIST, and the download failed: apt-get install dataset-fashion-mnist,"
            " or name the folder of its four *-ubyte.gz files with --data-root"
        )
    return found


def _present(split, folder):
    for place in (folder, folder / "FashionMNIST" / "raw"):
        if tensors := _read_folder(place, split):
            return tensors
    raise FileNotFoundError(folder)


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


def _download(split, folder):
    from torchvision.datasets import FashionMNIST

    dataset = FashionMNIST(folder, train=split == "train", download=True)
    return dataset.data[:, None], dataset.targets
