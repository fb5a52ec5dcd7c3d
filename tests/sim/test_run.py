"""What a simulation takes its frames from; what becomes of them is in test_accelerator.py."""

import argparse
from pathlib import Path

import pytest
import torch

from sim.frames import load_frames
from sim.simulators import SimulationError
from sw import image
from tests.sim.test_accelerator import PLAIN
from tests.support import random_image


def frames(model, **changes):
    arguments = dict(model="m.bsnn", images=5, data=None, data_root=None)
    return load_frames(model, argparse.Namespace(**{**arguments, **changes}))


def test_frames_are_those_the_model_was_trained_on():
    images, labels = frames(image.load(Path("models/digits.bsnn")))
    assert images.shape == (5, 1, 8, 8) and len(labels) == 5


def test_noise_fits_any_model_and_has_no_labels():
    images, labels = frames(random_image(PLAIN), data="noise")
    assert labels is None and images.dtype == torch.uint8 and images.shape == (5, 1, 6, 6)
    assert images.float().std() > 50
    assert torch.equal(frames(random_image(PLAIN), data="noise")[0], images)


def test_a_model_without_a_data_set_says_what_to_give():
    with pytest.raises(SimulationError, match="give --data, or --data noise"):
        frames(random_image(PLAIN))


def test_no_frames_are_refused():
    with pytest.raises(SimulationError, match="--images must be at least 1, got 0"):
        frames(random_image(PLAIN), data="noise", images=0)
