"""Datasets, from small files in the formats of the real ones."""

import gzip
import hashlib
import pickle
import struct
import sys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from sw.checkpoint import load_checkpoint
from sw.data import DataError, Views, fashion_mnist, load, saccades, source
from sw.data.events import frames_of
from sw.recipe import Recipe
from sw.train import main


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
    monkeypatch.setattr(source, "DOWNLOADS", tmp_path / "cache")
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "installed")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def offline(monkeypatch):
    def no_network(*args, **kwargs):
        raise RuntimeError("no network")

    for name in (
        "torchvision.datasets.FashionMNIST",
        "torchvision.datasets.cifar.download_and_extract_archive",
        "tonic.dataset.download_and_extract_archive",
    ):
        monkeypatch.setattr(name, no_network)


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


def test_the_search_ends_with_advice(nothing_installed, offline):
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


def write_cifar(folder, monkeypatch, name):
    """A CIFAR of 20 images in the format of the real one, and torchvision's sums for its files."""
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    images = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
    label = "labels" if name == "CIFAR10" else "fine_labels"
    (folder / kind.base_folder).mkdir(parents=True)
    for which, rows in (("train_list", slice(0, 12)), ("test_list", slice(12, 20))):
        content = {"data": images[rows], label: list(range(20))[rows]}
        packed = pickle.dumps(content, protocol=2)
        (folder / kind.base_folder / which).write_bytes(packed)
        monkeypatch.setattr(kind, which, [[which, hashlib.md5(packed).hexdigest()]])
    meta = pickle.dumps({kind.meta["key"]: [f"{n}" for n in range(20)]}, protocol=2)
    (folder / kind.base_folder / kind.meta["filename"]).write_bytes(meta)
    monkeypatch.setitem(kind.meta, "md5", hashlib.md5(meta).hexdigest())
    return torch.from_numpy(images).view(20, 3, 32, 32)


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
@pytest.mark.parametrize("place, root", [("data", None), ("cache", None), ("mine", "mine")])
def test_cifar(nothing_installed, offline, monkeypatch, name, place, root):
    images = write_cifar(nothing_installed / place, monkeypatch, name)
    found, labels = load(name.lower(), "train", root)
    assert torch.equal(found, images[:12]) and labels.tolist() == list(range(12))
    assert found.dtype == torch.uint8 and labels.dtype == torch.int64
    assert torch.equal(load(name.lower(), "test", root)[0], images[12:])


def test_a_changed_cifar_is_not_opened(nothing_installed, offline, monkeypatch):
    write_cifar(nothing_installed, monkeypatch, "CIFAR10")

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("code of a stranger was run",))

    bomb = pickle.dumps({"data": Bomb()})
    (nothing_installed / "cifar-10-batches-py" / "train_list").write_bytes(bomb)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
        load("cifar10", "train", nothing_installed)


@pytest.mark.parametrize("name, advice", [
    ("cifar10", r"no CIFAR10.*download failed.*cifar-10-python.tar.gz.*--data-root"),
    ("cifar100", r"no CIFAR100.*cifar-100-python.tar.gz.*--data-root"),
    ("dvs-gesture", r"no DVSGesture.*ibmGestureTrain.tar.gz and http.*ibmGestureTest.tar.gz.*root"),
    ("cifar10-dvs", r"no CIFAR10DVS.*figshare.*CIFAR10DVS.zip.*--data-root"),
])
def test_missing_data_say_where_they_come_from(nothing_installed, offline, name, advice):
    with pytest.raises(DataError, match=advice) as error:
        load(name, "train")
    assert "\n" not in f"{error.value}"
    with pytest.raises(DataError, match="in mine: "):
        load(name, "train", "mine")
    assert not list(nothing_installed.rglob("*.*"))


def test_event_cameras_need_tonic(nothing_installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic.transforms", None)
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    for name in ("digit-saccades", "dvs-gesture"):
        with pytest.raises(DataError, match=r"pip install 'agamemnon\[events\]'"):
            load(name, "test")


def events(count, seed=0):
    """Random events of a 128 x 128 camera: columns t, x, y, p."""
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, 10_000, count))
    return np.stack([times, *random.integers(0, 128, (2, count)), random.integers(0, 2, count)])


def counted(columns, T):
    """Frames of events, counted one by one."""
    frames = np.zeros((T, 2, 48, 48), int)
    each = columns.shape[1] // T
    for number, (_, x, y, p) in enumerate(columns.T[: each * T].tolist()):
        frames[number // each, p, y * 48 // 128, x * 48 // 128] += 1
    return torch.from_numpy(frames.clip(max=255).astype(np.uint8))


def structured(columns):
    kind = np.dtype([("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", bool)])
    return np.array([*map(tuple, columns.T.tolist())], kind)


def test_frames_hold_equal_counts_of_events():
    columns = events(1003)
    frames = torch.from_numpy(frames_of(structured(columns), 10, 128, 48))
    assert torch.equal(frames, counted(columns, 10))
    assert frames.sum((1, 2, 3)).tolist() == [100] * 10
    assert not torch.equal(frames, counted(columns[:, ::-1], 10))
    # A pixel counts to 255 only, and few events leave frames empty.
    still = np.tile([[0], [5], [9], [1]], 700)
    assert frames_of(structured(still), 2, 128, 48).max() == 255
    assert not frames_of(structured(events(3)), 4, 128, 48).any()


def write_gestures(folder):
    """Recordings of all 11 classes by ten users, and the archives that tonic asks for."""
    place = folder / "DVSGesture"
    for archive, user_from in (("ibmGestureTrain", 1), ("ibmGestureTest", 11)):
        for user in range(user_from, user_from + 10):
            home = place / archive / f"user{user:02}_led"
            home.mkdir(parents=True)
            for label in range(11):
                columns = events(64, seed=100 * user + label)
                np.save(home / f"{label}.npy", columns[[1, 2, 3, 0]].T)
        (place / f"{archive}.tar.gz").touch()


def test_gestures(nothing_installed, offline):
    write_gestures(nothing_installed / "mine")
    frames, labels = load("dvs-gesture", "train", "mine", T=16)
    assert frames.shape == (110, 16, 2, 48, 48) and frames.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.bincount().tolist() == [10] * 11
    # In the order of the files' names: user, then "0", "1", "10", "2".
    assert labels[:4].tolist() == [0, 1, 10, 2]
    assert torch.equal(frames[2], counted(events(64, seed=110), 16))
    test, _ = load("dvs-gesture", "test", "mine", T=16)
    assert torch.equal(test[0], counted(events(64, seed=1100), 16))
    assert load("dvs-gesture", "train", "mine", T=4)[0].shape[1] == 4


def test_frames_are_made_once(nothing_installed, offline):
    write_gestures(nothing_installed / "mine")
    frames, labels = load("dvs-gesture", "test", "mine", T=2)
    for recording in (nothing_installed / "mine").rglob("*.npy"):
        recording.write_bytes(b"gone")
    again, same = load("dvs-gesture", "test", "mine", T=2)
    assert torch.equal(frames, again) and torch.equal(labels, same)
    with pytest.raises(DataError, match=r"user01_led.0.npy: not a readable recording"):
        load("dvs-gesture", "train", "mine", T=2)
    # Those of another folder are others.
    write_gestures(nothing_installed / "data")
    assert load("dvs-gesture", "test", T=2)[0].shape == frames.shape
    assert len(list((nothing_installed / "cache").iterdir())) == 2


def write_cifar10_dvs(folder):
    """100 recordings a class, with the numbers around which the split lies."""
    import dv_processing as dv
    from tonic.datasets import CIFAR10DVS

    place = folder / "CIFAR10DVS"
    for label, name in enumerate(CIFAR10DVS.classes):
        (place / name).mkdir(parents=True)
        for number in range(850, 950):
            store = dv.EventStore()
            for t, x, y, p in events(32, seed=1000 * label + number).T.tolist():
                store.push_back(t, x, y, bool(p))
            config = dv.io.MonoCameraWriter.EventOnlyConfig("DVS", (128, 128))
            path = place / name / f"cifar10_{name}_{number}.aedat4"
            dv.io.MonoCameraWriter(f"{path}", config).writeEvents(store)
    (place / "CIFAR10DVS.zip").touch()


def test_cifar10_dvs(nothing_installed, offline):
    write_cifar10_dvs(nothing_installed / "mine")
    frames, labels = load("cifar10-dvs", "train", "mine", T=10)
    assert frames.shape == (500, 10, 2, 48, 48) and labels.bincount().tolist() == [50] * 10
    assert torch.equal(frames[0], counted(events(32, seed=850), 10))
    test, labels = load("cifar10-dvs", "test", "mine", T=10)
    assert torch.equal(test[0], counted(events(32, seed=900), 10))
    assert torch.equal(test[-1], counted(events(32, seed=9949), 10)) and labels[-1] == 9


def test_saccades_are_events_of_the_digits():
    frames, labels = load("digit-saccades", "test", T=6)
    assert frames.shape == (360, 6, 2, 16, 16) and frames.dtype == torch.uint8
    assert torch.equal(labels, load("digits", "test")[1])
    assert torch.equal(frames[:9], load("digit-saccades", "test", T=6)[0][:9])
    # Every part of a recording has as many events, and both polarities.
    counts = frames.sum((2, 3, 4))
    assert torch.equal(counts, counts[:, :1].expand(-1, 6)) and counts.min() > 30
    assert frames.sum((0, 1, 3, 4)).min() > 0


def test_events_follow_the_change_of_light():
    # An edge, bright on the left, that moves to the left as the camera goes right.
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., :4] = 255
    first, second = saccades.events_of(torch.cat([image, torch.zeros_like(image)]))
    assert len(second) == 0
    start = first[first["t"] <= saccades.STEPS]
    middle = start[(start["y"] > 4) & (start["y"] < 11) & (start["x"] > 4) & (start["x"] < 11)]
    assert len(middle) and not middle["p"].any()
    # Back where it was, each pixel has seen as many changes up as down, but for what is below the
    # contrast.
    balance = np.zeros((16, 16), int)
    np.add.at(balance, (first["y"], first["x"]), np.where(first["p"], 1, -1))
    assert np.abs(balance).max() <= 1
    assert (np.diff(first["t"]) >= 0).all()


def write_imagenet(folder):
    """Images of three sizes in two classes, in both splits: [split][class] -> paths."""
    paths = {}
    for split in ("train", "val"):
        for label, name in enumerate(("n01", "n02")):
            place = folder / split / name
            place.mkdir(parents=True)
            for number, size in enumerate(((300, 400), (500, 256), (224, 224))):
                pixels = torch.full((3, *size), 20, dtype=torch.uint8)
                # Only the middle is of the class.
                top, left = (side // 3 for side in size)
                pixels[:, top:-top, left:-left] = 200 - 50 * label
                to_pil_image(pixels).save(place / f"{number}.png")
                paths.setdefault((split, label), []).append(place / f"{number}.png")
    return paths


def test_imagenet_is_read_as_it_is_needed(tmp_path):
    paths = write_imagenet(tmp_path)
    frames, labels = load("imagenet", "test", tmp_path)
    assert frames.shape == (6, 3, 224, 224) and labels.tolist() == [0, 0, 0, 1, 1, 1]
    some = frames[torch.tensor([0, 4])]
    assert some.shape == (2, 3, 224, 224) and some.dtype == torch.uint8
    assert some[:, 0, 112, 112].tolist() == [200, 150] and some[:, 0, 2, 112].tolist() == [20, 20]
    assert torch.equal(frames[:2], frames[[0, 1]])
    paths["val", 0][1].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"n01.1.png: not a readable image") as error:
        frames[[1]]
    assert "\n" not in f"{error.value}"


def test_views_of_imagenet_are_parts_of_it(tmp_path):
    write_imagenet(tmp_path)
    frames, labels = load("imagenet", "train", tmp_path)
    views = Views(frames, labels, Recipe(crop=0, flip=True), seed=0)
    seen, classes = views.__getitems__([0, 4, 5])
    assert seen.shape == (3, 3, 224, 224) and classes.tolist() == [0, 1, 1]
    assert torch.equal(seen[1:], views.__getitems__([4, 5])[0])
    assert not torch.equal(seen, frames[[0, 4, 5]])
    views.epoch = 1
    assert not torch.equal(seen, views.__getitems__([0, 4, 5])[0])


def test_missing_imagenet_says_how_it_lies(nothing_installed):
    with pytest.raises(DataError, match=r"no ImageNet in data/imagenet/train: .*image-net\.org"):
        load("imagenet", "train")
    (nothing_installed / "mine" / "val").mkdir(parents=True)
    with pytest.raises(DataError, match="no ImageNet in mine/val"):
        load("imagenet", "test", "mine")


ARCH = """
from sw.layers import *

def imagenet():
    return Network("small", Shape(3, 224, 224), [
        PooledStem(4, kernel=7, stride=2), ResidualConv(4), TransitionConv(8),
        TransitionConv(8), AveragedReadout(2),
    ], T=2)

def gestures():
    return Network("small", Shape(2, 48, 48), [
        EventStem(4), AveragedConv(8), Conv(8, stride=2), AveragedReadout(11, window=2)
    ], T=2)

def cifar():
    return Network("small", Shape(3, 32, 32), [
        Stem(4), ResidualConv(8, stride=2, projection=True), AveragedReadout(20),
    ], T=2)
"""


@pytest.mark.parametrize("name, network, write, preset", [
    ("imagenet", "imagenet", lambda folder, _: write_imagenet(folder), "agmm-imagenet"),
    ("dvs-gesture", "gestures", lambda folder, _: write_gestures(folder), "agmm-dvs-gesture"),
    ("cifar10", "cifar", lambda *where: write_cifar(*where, "CIFAR10"), "agmm-cifar10"),
])
def test_a_preset_trains_from_files_to_checkpoint(
    nothing_installed, offline, monkeypatch, capsys, name, network, write, preset
):
    write(nothing_installed / "mine", monkeypatch)
    (nothing_installed / "mine.py").write_text(ARCH)
    assert main([
        "--preset", preset, "--arch", f"mine.py:{network}", "--data-root", "mine", "--T", "2",
        "--epochs", "1", "--batch", "4", "--out", "run",
    ]) == 0
    assert "epoch   1" in capsys.readouterr().err
    assert load_checkpoint("run/checkpoint.safetensors")[2]["args"]["preset"] == preset


def test_an_image_that_a_worker_cannot_read_is_one_line(nothing_installed, capsys):
    paths = write_imagenet(nothing_installed)
    paths["train", 0][1].write_bytes(b"no image")
    (nothing_installed / "mine.py").write_text(ARCH)
    assert main([
        "--data", "imagenet", "--arch", "mine.py:imagenet", "--data-root", ".", "--T", "2",
        "--batch", "6", "--out", "run", "--workers", "1",
    ]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "1.png: not a readable image" in error
