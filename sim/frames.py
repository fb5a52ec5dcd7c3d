"""The frames that a simulation runs."""

import torch

from sim.simulators import SimulationError
from sw import data
from sw.frames import NOISE, noise

__all__ = ["load_frames"]


def load_frames(model, arguments):
    """The frames to run, and their labels: those of the data set that the model was trained on.

    Noise has no labels.
    """
    if arguments.images < 1:
        raise SimulationError(f"--images must be at least 1, got {arguments.images}")
    name = arguments.data or model.info.get("data")
    if name == NOISE:
        return torch.from_numpy(noise(model.network, arguments.images)), None
    if name not in data.DATASETS:
        raise SimulationError(
            f"{arguments.model} names no data set to take frames from: give --data, or --data noise"
        )
    images, labels = data.load(name, "test", arguments.data_root, model.network.T)
    return images[: arguments.images], labels[: arguments.images]
