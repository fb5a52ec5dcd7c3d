"""The frames that a simulation runs."""

import numpy as np
import torch

from sim.simulators import SimulationError
from sw import data
from sw.layers import Events

__all__ = ["NOISE", "load_frames"]

#: Frames for a model without a data set.
NOISE = "noise"


def load_frames(model, arguments):
    """The frames to run, and their labels: those of the data set that the model was trained on.

    Noise has no labels.
    """
    if arguments.images < 1:
        raise SimulationError(f"--images must be at least 1, got {arguments.images}")
    name = arguments.data or model.info.get("data")
    if name == NOISE:
        random, size = np.random.default_rng(0), (arguments.images, *model.network.frame_shape)
        if isinstance(model.network.layers[0], Events):
            # Most pixels see nothing in a time step.
            frames = random.poisson(0.2, size).astype(np.uint8)
        else:
            frames = random.integers(0, 256, size, np.uint8)
        return torch.from_numpy(frames), None
    if name not in data.DATASETS:
        raise SimulationError(
            f"{arguments.model} names no data set to take frames from: give --data, or --data noise"
        )
    images, labels = data.load(name, "test", arguments.data_root, model.network.T)
    return images[: arguments.images], labels[: arguments.images]
