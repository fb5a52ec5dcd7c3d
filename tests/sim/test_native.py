"""The accelerator without cocotb: logits and cycles against the golden model, and a wrong one."""

import json

import pytest

from sim import native, simulators
from sim.simulators import SimulationError
from sw.golden import IntegerNetwork
from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.sim.test_accelerator import PLAIN, SMALL, TWO, with_layer
from tests.support import random_frames, random_image

#: Its map is too large for the stem to work ahead.
LARGE = Network("large", Shape(1, 16, 17), [Stem(12), Conv(9, pool=2), Readout(3)])


def run(image, golden, engine, count=3):
    frames = random_frames(image.network, count).numpy()
    return native.run(image, IntegerNetwork(golden), frames, engine)


@pytest.mark.parametrize(
    "network, engine", [(PLAIN, SMALL), (PLAIN, TWO), (LARGE, TWO)],
    ids=["one core", "a stem ahead", "in turns"],
)
def test_frames_equal_golden(network, engine):
    image = random_image(network)
    result = run(image, image, engine)
    assert result["differences"] == []
    assert result["frames"] == len(result["logits"]) == 3
    assert result["cycles_per_frame"] == result["cycle_model"]
    assert result["cycles"] > 3 * result["cycle_model"]


def test_one_wrong_bias_is_noticed():
    image = random_image(PLAIN)
    bias = image.layers[-1].bias.copy()
    bias[4] += 1
    found = run(image, with_layer(image, -1, bias=bias), SMALL)["differences"]
    assert [line.split(":")[0] for line in found] == ["frame 0", "frame 1", "frame 2"]


def test_another_cycle_count_is_noticed(monkeypatch):
    monkeypatch.setattr(native, "cycles_per_frame", lambda *arguments: 7)
    image = random_image(PLAIN)
    found = run(image, image, SMALL, 1)["differences"]
    assert len(found) == 1 and found[0].endswith("the cycle model says 7")


def test_the_command_reports_as_json(capsys):
    status = native.main(["--model", "models/digits.bsnn", "-n", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (status, result["differences"], result["accuracy"]) == (0, [], 1.0)


@pytest.mark.parametrize("arguments, message", [
    (["--model", "none.bsnn"], "error: none.bsnn"),
    (["--model", "models/digits.bsnn", "-n", "0"], "error: --images must be at least 1, got 0"),
])
def test_bad_input_is_one_line(capsys, arguments, message):
    assert native.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_a_failed_compilation_names_its_log(tmp_path, monkeypatch):
    with pytest.raises(SimulationError, match=r"could not compile the accelerator \(log: .*\)"):
        simulators.build_native("module broken", root=tmp_path)
