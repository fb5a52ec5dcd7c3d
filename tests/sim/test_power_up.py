"""Nothing depends on what registers and memories hold when power comes: random contents."""

from dataclasses import replace

import pytest

from hw.boards import BOARDS
from sim.run import main, make_plan, simulate
from sw.golden import IntegerNetwork
from sw.program import Region
from tests.sim.test_accelerator import FOUR, PLAIN, RESIDUAL, STREAM_IN_PASSES, TWO, tall_image
from tests.sim.test_netlist import ENGINE, NETWORK
from tests.support import random_frames, random_image

SEEDS = (1, 2, 3)


def plan_of(engine, image):
    frames = random_frames(image.network, 2).numpy()
    return make_plan(image, IntegerNetwork(image), frames, engine)


@pytest.fixture(scope="module", params=["stem core", "strips", "shortcuts in passes"])
def plan(request):
    if request.param == "stem core":
        return plan_of(TWO, random_image(PLAIN))
    if request.param == "strips":
        return plan_of(FOUR, tall_image("plain", FOUR))
    network = RESIDUAL["projections"]
    return plan_of(STREAM_IN_PASSES, random_image(network.replace(T=network.T + 4)))


def without(plan, region):
    """The plan, but the host leaves out ``region``."""
    regions = {other: words for other, words in plan.program.regions.items() if other != region}
    return replace(plan, program=replace(plan.program, regions=regions))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_contents_change_nothing(plan, seed):
    assert simulate(plan, power_up=seed)["differences"] == []


def test_word_0_is_zero_because_the_host_writes_it(plan):
    """Taps outside a map read it: zeros from power-up would hide that the host forgot it."""
    forgotten = without(plan, Region.SPIKES)
    assert simulate(forgotten)["differences"] == []
    assert all(simulate(forgotten, power_up=seed)["differences"] for seed in SEEDS)


def test_weights_that_are_not_loaded_are_random(plan):
    forgotten = without(plan, Region.WEIGHTS)
    logits = [simulate(forgotten, power_up=seed)["logits"] for seed in SEEDS]
    assert all(logits[0] != other for other in logits[1:])
    assert simulate(forgotten, power_up=SEEDS[0])["logits"] == logits[0]


def test_spram_of_the_gates_may_hold_anything():
    """An SPRAM has no initial contents; block RAM and registers of an iCE40 start with zeros."""
    board = BOARDS["icebreaker"]
    plan = plan_of(ENGINE, random_image(NETWORK))
    assert simulate(plan, gates_of=board, power_up=SEEDS[0])["differences"] == []
    forgotten = without(plan, Region.WEIGHTS)
    logits = [
        simulate(forgotten, gates_of=board, power_up=seed)["logits"] for seed in SEEDS[:2]
    ]
    assert logits[0] != logits[1]


def test_seeds_that_verilator_does_not_take_are_refused(capsys):
    command = ["--model", "models/digits.bsnn", "--power-up"]
    for options, message in (
        (["0"], "--power-up must be 1 to 2147483647, got 0"),
        (["1", "--sim", "icarus"], "--power-up needs verilator"),
    ):
        assert main([*command, *options]) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
