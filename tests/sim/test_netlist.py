"""What synthesis makes of the accelerator for iCE40 and ECP5, against the golden model."""

from dataclasses import replace

import pytest

from hw.boards import BOARDS
from hw.netlist import accelerator_netlist
from hw.tools import BuildError
from sim.run import main, make_plan, simulate
from sim.simulators import build
from sw.engine import Engine
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, ResidualConv, Shape, Stem
from tests.support import random_frames, random_image

#: Narrow: gates take long to compile.
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=1024, spike_depth=256, channel_depth=256, mean_depth=512,
    leak_shifts=(1,),
)
NETWORK = Network("gates", Shape(1, 6, 6), [Stem(16), Conv(16, pool=2), Conv(18), Readout(10)])
#: By board; that of the ECP5 has a stream. It is deep, as those of all ECP5 boards: of others, abc9
#: of Yosys 0.70 loses carry cells of the popcounts, in some runs and not in others.
ENGINES = {"icebreaker": ENGINE, "ulx3s-25f": replace(ENGINE, stream_depth=512, deep=True)}
NETWORKS = {
    "icebreaker": NETWORK,
    "ulx3s-25f": Network(
        "gates", Shape(1, 4, 4),
        [Stem(10), ResidualConv(19, projection=True), ResidualConv(19, stride=2), Readout(10)],
    ),
}
CELLS = {
    "icebreaker": ("SB_SPRAM256KA", "SB_RAM40_4K", "SB_MAC16", "SB_CARRY", "SB_DFFESR"),
    "ulx3s-25f": ("DP16KD", "MULT18X18D", "CCU2C", "TRELLIS_FF"),
}
each_board = pytest.mark.parametrize("name", ENGINES)


def differences(name, image, golden_image):
    frames = random_frames(image.network, 4).numpy()
    plan = make_plan(image, IntegerNetwork(golden_image), frames, ENGINES[name])
    return simulate(plan, gates_of=BOARDS[name])["differences"]


@each_board
def test_gates_equal_golden(name):
    image = random_image(NETWORKS[name])
    assert differences(name, image, image) == []


@each_board
def test_one_wrong_weight_is_seen(name):
    image = random_image(NETWORKS[name])
    weights = image.layers[1].weights.copy()
    weights[0, 0, 1, 1] ^= True
    wrong = replace(image.layers[1], weights=weights)
    layers = (image.layers[0], wrong, *image.layers[2:])
    found = differences(name, replace(image, layers=layers), image)
    assert found
    assert all("stem0" not in line for line in found)


@each_board
def test_the_netlist_is_of_the_cells_of_the_part(name):
    _, folder = build(ENGINES[name], gates_of=BOARDS[name])
    netlist = (folder / "accelerator.v").read_text()
    modules = netlist.index("module accelerator")
    for cell in CELLS[name]:
        assert f"  {cell} " in netlist[modules:], cell


def test_a_part_without_models_is_refused(capsys):
    with pytest.raises(BuildError, match="only gates of iCE40 and ECP5 parts are simulated"):
        accelerator_netlist(BOARDS["tang-nano-9k"], ENGINE)
    command = ["--model", "models/digits.bsnn", "--netlist"]
    for options, message in (
        (["--engine", "tang-nano-9k"], "tang-nano-9k: only gates of iCE40 and ECP5 parts"),
        (["--sim", "icarus"], "gates need verilator"),
    ):
        assert main([*command, *options]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
