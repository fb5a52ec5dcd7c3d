"""Fmax over seeds, with the real tools on a tiny design."""

import json
import statistics

import pytest

import hw.device
from hw import seeds
from hw.boards import BOARDS
from hw.build import build
from sw import image
from tests.hw.test_build import MODEL, Echo


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(hw.device, "Accelerator", Echo)
    monkeypatch.setattr(seeds, "RESULTS", tmp_path / "seeds")
    return tmp_path / "seeds"


def test_every_seed_is_that_of_a_build(results, tmp_path, capsys):
    assert seeds.main(["icebreaker", "--seeds", "3"]) == 0
    report = json.loads((results / "icebreaker.json").read_text())
    board, model = BOARDS["icebreaker"], image.load(MODEL)
    builds = [
        build(board, model, seed=seed, out=tmp_path / f"{seed}", quiet=True) for seed in (1, 2, 3)
    ]
    fmax = [report["fmax_mhz"] for report in builds]
    assert report["fmax_mhz"] == fmax and len(set(fmax)) > 1
    assert report["design"] == builds[0]["design"] != builds[1]["design"]
    assert [report[name] for name in ("min", "median", "max")] == [
        min(fmax), statistics.median(fmax), max(fmax)
    ]
    assert report["clock_mhz"] == builds[0]["clock_mhz"]
    assert "(min, median, max of 3 seeds)" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["nosuch"], "error: unknown board 'nosuch': one of"),
    (["icebreaker", "--seeds", "0"], "error: --seeds must be at least 1, got 0"),
])
def test_bad_input_is_one_line(results, capsys, arguments, message):
    assert seeds.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not results.exists()
