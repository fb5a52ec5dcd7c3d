"""Event cameras: recordings become frames, one for each time step, all of as many events."""

import hashlib
import importlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from tqdm import tqdm

from sw.data import source
from sw.files import replace_file

__all__ = ["SIDE", "frames_of", "load"]

#: Of a frame: what VGGSNN takes (Deng et al., arXiv 2202.11946).
SIDE = 48


def _tonic(part):
    """tonic's module ``part``. Raises DataError."""
    try:
        return importlib.import_module(f"tonic.{part}")
    except ImportError as error:
        raise source.DataError(
            "event cameras are read by tonic: pip install 'agamemnon[events]'"
        ) from error


def frames_of(events, T, sensor, side):
    """uint8 ``[T, 2, side, side]`` of a recording's events, a numpy array of t, x, y and p.

    Frame t counts the events of each polarity and pixel in the t-th of T parts of equal counts, at
    most 255; the up to T - 1 events left over at the end are left out. The camera's ``sensor`` x
    ``sensor`` pixels become ``side`` x ``side``.
    """
    transforms, size = _tonic("transforms"), (side, side)
    events = transforms.Downsample(sensor_size=(sensor, sensor, 2), target_size=size)(events)
    frames = transforms.ToFrame(sensor_size=(*size, 2), n_event_bins=T)(events)
    return np.minimum(frames, 255).astype(np.uint8)


def _recordings(name, root, **arguments):
    """tonic's dataset ``name``. Raises DataError."""
    kind = getattr(_tonic("datasets"), name)

    def refuse(self):
        raise FileNotFoundError

    # Left to itself it starts a download, of gigabytes, wherever a file is missing.
    present = type(name, (kind,), {"download": refuse})
    recordings = source.find(root, partial(present, **arguments), partial(kind, **arguments))
    if recordings is None:
        files = " and ".join(
            f"{getattr(kind, f'{part}url')} as {getattr(kind, f'{part}filename')}"
            for part in ("", "train_", "test_") if hasattr(kind, f"{part}url")
        )
        raise source.DataError(
            f"no {name}{f' in {root}' if root else ', and the download failed'}: save {files} in a"
            f" folder {name}, unpack there, and name the folder around it with --data-root"
        )
    return recordings


def _in_split(name, path, split):
    """Whether a recording is of ``split``; tonic knows that of DVSGesture itself.

    No split is published with CIFAR10DVS. This is the one of Deng et al., as in their code: of
    each class, files 0 to 899 train, 900 to 999 test.
    """
    return name == "DVSGesture" or (
        (int(Path(path).stem.rpartition("_")[2]) < 900) == (split == "train")
    )


def load(name, split, root=None, T=16):
    """Frames ``[N, T, 2, 48, 48]`` and labels of tonic's DVSGesture or CIFAR10DVS.

    They are made once and kept in ~/.cache/agamemnon, for each T. Raises DataError.
    """
    recordings = _recordings(name, root, **(
        {"train": split == "train"} if name == "DVSGesture" else {}
    ))
    place = f"{Path(recordings.location_on_system).resolve()}"
    key = hashlib.sha256(place.encode()).hexdigest()[:8]
    # More recordings than before are another dataset.
    kept = source.DOWNLOADS / (
        f"{name}-{split}-T{T}-{SIDE}-{len(recordings)}-{key}.safetensors"
    )
    if not kept.is_file():
        # In the same order on every machine.
        chosen = sorted(
            (path, number) for number, path in enumerate(recordings.data)
            if _in_split(name, path, split)
        )
        frames = np.empty((len(chosen), T, 2, SIDE, SIDE), np.uint8)
        for row, (path, number) in enumerate(tqdm(chosen, f"{name} {split}", disable=None)):
            try:
                events, _ = recordings[number]
                frames[row] = frames_of(events, T, recordings.sensor_size[0], SIDE)
            except Exception as error:
                # Readers of recordings raise all kinds, their own included.
                raise source.DataError(f"{path}: not a readable recording ({error})") from error
        labels = torch.tensor([recordings.targets[number] for _, number in chosen])
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, save({"frames": torch.from_numpy(frames), "labels": labels}))
    tensors = load_file(kept)
    return tensors["frames"], tensors["labels"]
