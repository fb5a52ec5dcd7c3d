"""What synthesis makes of the accelerator for the iCE40 UP5K, against the golden model."""

from dataclasses import replace

import pytest

from hw.boards import BOARDS
from hw.netlist import accelerator_netlist
from hw.tools import BuildError
from sim.run import main, make_plan, simulate
from sim.simulators import build
from sw.engine import Engine
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.support import random_frames, random_image

ICE40 = BOARDS["icebreaker"]

#: Narrow: gates take long to compile.
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=1024, spike_depth=256, channel_depth=256, mean_depth=512,
    leak_shifts=(1,),
)
NETWORK = Network("gates", Shape(1, 6, 6), [Stem(16), Conv(16, pool=2), Conv(18), Readout(10)])


def differences(image, golden_image):
    frames = random_frames(NETWORK, 4).numpy()
    plan = make_plan(image, IntegerNetwork(golden_image), frames, ENGINE)
    return simulate(plan, gates_of=ICE40)["differences"]


def test_gates_equal_golden():
    image = random_image(NETWORK)
    assert differences(image, image) == []


def test_one_wrong_weight_is_seen():
    image = random_image(NETWORK)
    weights = image.layers[1].weights.copy()
    weights[0, 0, 1, 1] ^= True
    wrong = replace(image.layers[1], weights=weights)
    layers = (image.layers[0], wrong, *image.layers[2:])
    found = differences(replace(image, layers=layers), image)
    assert found
    assert all("stem0" not in line for line in found)


def test_the_netlist_is_of_the_cells_of_the_part():
    _, folder = build(ENGINE, gates_of=ICE40)
    netlist = (folder / "accelerator.v").read_text()
    modules = netlist.index("module accelerator")
    for cell in ("SB_SPRAM256KA", "SB_RAM40_4K", "SB_MAC16", "SB_CARRY", "SB_DFFESR"):
        assert f"  {cell} " in netlist[modules:], cell


def test_a_part_without_models_is_refused(capsys):
    with pytest.raises(BuildError, match="no simulation models"):
        accelerator_netlist(BOARDS["ulx3s-85f"], ENGINE)
    command = ["--model", "models/digits.bsnn", "--netlist"]
    for options, message in (
        (["--engine", "ulx3s-85f"], "ulx3s-85f: Yosys has no simulation models of its block RAMs"),
        (["--sim", "icarus"], "gates need verilator"),
    ):
        assert main([*command, *options]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
