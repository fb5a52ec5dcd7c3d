"""The whole accelerator, as Verilog, against the golden model: every boundary, every cycle."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from sim.run import make_plan, simulate
from sw.engine import Engine
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.support import random_frames, random_image

SMALL = Engine(
    pe=4, simd=16, lanes=4, weight_depth=1024, spike_depth=512, channel_depth=256, mean_depth=1024
)
#: Another folding, with wide words, more time steps and room for larger currents.
WIDE = Engine(
    pe=8, simd=32, lanes=8, weight_depth=1024, spike_depth=512, channel_depth=256, mean_depth=1024,
    current_width=18,
)
#: Two channels and four at once behind the array.
PAIRS = replace(SMALL, pe=8, units=2)
FOURS = replace(WIDE, pe=16, units=4)

PLAIN = Network("plain", Shape(1, 6, 6), [Stem(16), Conv(16, pool=2), Conv(20), Readout(10)])
NETWORKS = {
    "agmm": (PLAIN, "exact"),
    "frozen gain": (PLAIN, "frozen"),
    "vanilla": (PLAIN.replace(neuron="vanilla"), "exact"),
    "slow leak, two steps": (PLAIN.replace(tau=0.875, T=2), "exact"),
    "odd channels, colour, strides": (
        Network(
            "odd", Shape(3, 9, 7), [Stem(18, stride=2), Conv(21, stride=2), Readout(3)], T=3
        ),
        "exact",
    ),
    "large and small kernels": (
        Network(
            "kernels", Shape(1, 9, 9),
            [Stem(8, kernel=5, pool=2), Conv(17, kernel=5), Conv(6, kernel=1),
             Conv(4, padding=0), Readout(5)],
            tau=0.75,
        ),
        "exact",
    ),
    "no padding": (
        Network("bare", Shape(1, 10, 11), [Stem(8), Conv(6, kernel=5, padding=0), Readout(3)]),
        "exact",
    ),
    "no leak left": (PLAIN.replace(tau=0.0, T=1), "exact"),
}


def differences(image, golden_image, engine, frames=2, simulator="verilator"):
    pictures = random_frames(image.network, frames).numpy()
    plan = make_plan(image, IntegerNetwork(golden_image), pictures, engine)
    result = simulate(plan, simulator)
    assert result["frames"] == frames
    return result["differences"]


@pytest.mark.parametrize("name", NETWORKS)
def test_verilog_equals_golden(name):
    network, gain = NETWORKS[name]
    image = random_image(network, gain=gain)
    assert differences(image, image, SMALL) == []


@pytest.mark.parametrize("engine", [WIDE, FOURS], ids=["wide", "fours"])
def test_another_folding_equals_golden(engine):
    image = random_image(PLAIN.replace(T=8))
    assert differences(image, image, engine) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_two_channels_at_once_equal_golden(name):
    network, gain = NETWORKS[name]
    image = random_image(network, gain=gain)
    assert differences(image, image, PAIRS) == []


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus is a system package")
def test_icarus_equals_golden():
    image = random_image(PLAIN)
    assert differences(image, image, SMALL, frames=1, simulator="icarus") == []


def with_layer(image, index, **changes):
    layers = list(image.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(image, layers=tuple(layers))


def flipped_weight(image):
    weights = image.layers[1].weights.copy()
    weights[0, 0, 1, 1] ^= True
    return with_layer(image, 1, weights=weights)


def shifted_threshold(image):
    """The threshold of every channel's neighbour is right; one channel's is one too high."""
    threshold = image.layers[1].threshold.copy()
    threshold[3] += 1
    return with_layer(image, 1, threshold=threshold)


def wrong_table_entry(image):
    agmm = image.layers[1].agmm
    table = agmm.table.copy()
    table[0, 1, 1] = np.iinfo(np.int16).max
    return with_layer(image, 1, agmm=replace(agmm, table=table))


@pytest.mark.parametrize("corrupt", [flipped_weight, shifted_threshold, wrong_table_entry])
def test_the_comparison_sees_one_wrong_value(corrupt):
    image = random_image(PLAIN)
    found = differences(corrupt(image), image, SMALL, frames=12)
    assert found, f"{corrupt.__name__} went unnoticed"
    # What lies before the corrupted layer still agrees.
    assert all("stem0" not in line for line in found)
