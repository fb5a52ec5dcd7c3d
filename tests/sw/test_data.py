import gzip
import struct

import pytest
import torch

from sw import data
from sw.data import DataError, augment, load


def idx(array):
    """An array of bytes as an idx file."""
    return struct.pack(f">I{array.dim()}I", 0x800 + array.dim(), *array.shape) + bytes(
        array.flatten().tolist()
    )


def write_dataset(folder, packed, labels=(3, 1)):
    folder.mkdir(parents=True, exist_ok=True)
    images = torch.arange(2 * 28 * 28).view(2, 28, 28) % 256
    labels = torch.tensor(labels)
    for prefix, shift in (("train", 0), ("t10k", 7)):
        for kind, array in (("images-idx3", (images + shift) % 256), ("labels-idx1", labels)):
            content = idx(array)
            if packed:
                content = gzip.compress(content)
            (folder / f"{prefix}-{kind}-ubyte{'.gz' if packed else ''}").write_bytes(content)
    return images[:, None].byte(), labels


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "TORCHVISION", (tmp_path / "data", tmp_path / "cache"))
    monkeypatch.setattr(data, "INSTALLED", tmp_path / "installed")
    return tmp_path


def test_digits_are_bytes_split_once_and_for_all():
    images, labels = load("digits", "train")
    test_images, test_labels = load("digits", "test")
    assert images.shape == (1437, 1, 8, 8) and test_images.shape == (360, 1, 8, 8)
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert images.max() == 255 and images.min() == 0
    assert torch.equal(images, load("digits", "train")[0])
    assert test_labels.bincount().min() >= 34
    seen = {bytes(image.flatten().tolist()) for image in images}
    assert not any(bytes(image.flatten().tolist()) in seen for image in test_images)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_fashion_mnist_from_a_folder_of_the_user(nothing_installed, packed, place):
    root = nothing_installed / "mine"
    images, labels = write_dataset(root / place, packed)
    before = sorted(root.rglob("*"))
    found, found_labels = load("fashion-mnist", "train", root)
    assert torch.equal(found, images) and torch.equal(found_labels, labels)
    assert found.dtype == torch.uint8 and found_labels.dtype == torch.int64
    assert not torch.equal(load("fashion-mnist", "test", root)[0], images)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("place", ["installed", "cache/FashionMNIST/raw", "data/FashionMNIST/raw"])
def test_fashion_mnist_finds_its_copy(nothing_installed, place):
    images, _ = write_dataset(nothing_installed / place, packed=True)
    assert torch.equal(load("fashion-mnist", "train")[0], images)


def test_the_search_ends_with_advice(nothing_installed, monkeypatch):
    def offline(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    with pytest.raises(DataError, match=r"apt-get install dataset-fashion-mnist.*--data-root"):
        load("fashion-mnist", "train")
    with pytest.raises(DataError, match="put its four"):
        load("fashion-mnist", "train", nothing_installed)


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b"\0\0\x08\x03short", mtime=0),
                gzip.compress(bytes(999), mtime=0)[:10] + bytes(20)]
)
def test_a_damaged_file_is_named(nothing_installed, content):
    write_dataset(nothing_installed, packed=True)
    (nothing_installed / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load("fashion-mnist", "train", nothing_installed)


def test_images_and_labels_must_agree(nothing_installed):
    write_dataset(nothing_installed, packed=True, labels=(3, 1, 2))
    with pytest.raises(DataError, match="labels"):
        load("fashion-mnist", "train", nothing_installed)


def test_unknown_names():
    with pytest.raises(DataError, match="mnist"):
        load("mnist", "train")
    with pytest.raises(DataError, match="validation"):
        load("digits", "validation")


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_augmentation_moves_and_mirrors(name):
    images = torch.randint(1, 256, (64, 1, 6, 6), dtype=torch.uint8)
    views = augment(name, images, torch.Generator().manual_seed(0))
    assert views.shape == images.shape and views.dtype == torch.uint8
    padded = torch.nn.functional.pad(images, [1] * 4)
    mirrored = 0
    for n, view in enumerate(views):
        moves = [padded[n, :, y : y + 6, x : x + 6] for y in range(3) for x in range(3)]
        straight = any(torch.equal(view, move) for move in moves)
        mirrored += not straight
        assert straight or any(torch.equal(view.flip(2), move) for move in moves)
    assert (mirrored > 0) == (name == "fashion-mnist")
    assert torch.equal(views, augment(name, images, torch.Generator().manual_seed(0)))
    assert not torch.equal(views, augment(name, images, torch.Generator().manual_seed(1)))
