"""Fmax over seeds, with the real tools on a tiny design."""

import json
import signal
import statistics
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Reschedule

import hw.device
from hw import seeds, tools
from hw.boards import BOARDS
from hw.build import build
from sw import image
from tests.hw.test_build import MODEL, Echo


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "seeds"


@pytest.fixture
def runs(monkeypatch):
    """The tools that were run, and with which seed."""
    runs, run = [], tools.run_tool

    def run_tool(tool, arguments, *rest):
        seed = arguments[arguments.index("--seed") + 1] if "--seed" in arguments else None
        runs.append((tool, seed))
        run(tool, arguments, *rest)

    for module in (seeds, tools):
        monkeypatch.setattr(module, "run_tool", run_tool)
    return runs


def test_every_seed_is_that_of_a_build(results, tmp_path, capsys):
    assert seeds.main(["icebreaker", "--seeds", "3", "--jobs", "2"]) == 0
    report = json.loads((results / "icebreaker.json").read_text())
    board, model = BOARDS["icebreaker"], image.load(Path(__file__).parents[2] / MODEL)
    builds = [
        build(board, model, seed=seed, out=tmp_path / f"{seed}", quiet=True) for seed in (1, 2, 3)
    ]
    fmax = [report["fmax_mhz"] for report in builds]
    assert list(report["fmax_mhz"].items()) == list(zip("123", fmax, strict=True))
    assert len(set(fmax)) > 1
    assert report["design"] == builds[0]["design"] != builds[1]["design"]
    assert [report[name] for name in ("min", "median", "max")] == [
        min(fmax), statistics.median(fmax), max(fmax)
    ]
    assert report["clock_mhz"] == builds[0]["clock_mhz"]
    assert "(min, median, max of 3 seeds)" in capsys.readouterr().out


def test_seeds_that_are_done_stay_done(results, runs, monkeypatch):
    board, path = BOARDS["icebreaker"], results / "report.json"
    yosys, ice40 = ("yosys", None), "nextpnr-ice40"
    seeds.seeds_report(board, 1, path, quiet=True)
    assert runs == [yosys, (ice40, "1")]
    first = seeds.seeds_report(board, 2, path, quiet=True)
    assert runs[2:] == [yosys, (ice40, "2")]
    assert seeds.seeds_report(board, 1, path, quiet=True) == first
    assert len(runs) == 4 and json.loads(path.read_text()) == first

    # Another design, and other tools, start anew.
    other = replace(board, nextpnr_opts="--no-tmdriv")
    second = seeds.seeds_report(other, 2, path, quiet=True)
    assert runs[4:] == [yosys, (ice40, "1"), (ice40, "2")]
    assert second["design"] != first["design"] and second["fmax_mhz"] != first["fmax_mhz"]
    monkeypatch.setattr(seeds, "tool_report", lambda family: {"nextpnr": "0"})
    third = seeds.seeds_report(other, 1, path, quiet=True)
    assert third["fmax_mhz"] == {"1": second["fmax_mhz"]["1"]}
    assert runs[7:] == [yosys, (ice40, "1")]
    assert list(Path("build").iterdir()) == []


def test_a_seed_that_takes_too_long_is_not_waited_for(results, runs, monkeypatch, capsys):
    run_tool, clock = seeds.run_tool, [0]

    def an_hour(tool, arguments, folder, tick):
        clock[0] += 3600 * ("2" in arguments)
        tick()
        run_tool(tool, arguments, folder)

    monkeypatch.setattr(seeds, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(seeds, "run_tool", an_hour)
    assert seeds.main(["icebreaker", "--seeds", "3", "--minutes", "59"]) == 0
    assert "max of 3 seeds, 1 of them not routed)" in capsys.readouterr().out
    report = json.loads((results / "icebreaker.json").read_text())
    first, second, third = (report["fmax_mhz"][seed] for seed in "123")
    assert second is None and report["command"].endswith("--seeds 3 --minutes 59")
    assert [report[name] for name in ("min", "median", "max")] == [
        min(first, third), (first + third) / 2, max(first, third)
    ]
    # Tried again only if it gets more time.
    board, path = BOARDS["icebreaker"], results / "icebreaker.json"
    del runs[:]
    assert seeds.seeds_report(board, 3, path, minutes=59, quiet=True) == report and runs == []
    again = seeds.seeds_report(board, 3, path, minutes=61, quiet=True)["fmax_mhz"]
    assert [again["1"], again["3"]] == [first, third] and again["2"]
    assert runs[1:] == [("nextpnr-ice40", "2")]


def test_no_seed_at_all_is_one_line(results, monkeypatch, capsys):
    monkeypatch.setattr(seeds, "_place_and_route", lambda *arguments: None)
    assert seeds.main(["icebreaker", "--seeds", "2"]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error == "error: icebreaker: none of 2 seeds is routed in 120 minutes"
    assert not list(results.iterdir())


def test_what_was_cut_off_goes_on(results, runs, interruptible, monkeypatch, capsys):
    run_tool = seeds.run_tool

    stopped = []

    def cut_off(tool, arguments, folder, tick):
        """Ctrl-C, while the second seed is routed and the first is kept; heard, or it goes on."""
        if "2" in arguments:
            deadline = time.monotonic() + 20
            while not (results / "icebreaker.json").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while time.monotonic() < deadline:
                time.sleep(0.1)
                try:
                    tick()
                except Reschedule:
                    stopped.append(Path(folder))
                    raise
        run_tool(tool, arguments, folder, tick)

    monkeypatch.setattr(seeds, "run_tool", cut_off)
    assert seeds.main(["icebreaker", "--seeds", "3"]) == 130
    assert capsys.readouterr().err.endswith("\nstopped; the same command goes on\n")
    assert len(stopped) == 1 and not stopped[0].exists()
    assert list(json.loads((results / "icebreaker.json").read_text())["fmax_mhz"]) == ["1"]
    assert list(Path("build").iterdir()) == []
    monkeypatch.setattr(seeds, "run_tool", run_tool)
    del runs[:]
    assert seeds.main(["icebreaker", "--seeds", "2"]) == 0
    assert runs[1:] == [("nextpnr-ice40", "2")]


@pytest.mark.parametrize("arguments, message", [
    (["nosuch"], "error: unknown board 'nosuch': one of"),
    (["icebreaker", "--seeds", "0"], "error: --seeds must be at least 1, got 0"),
    (["icebreaker", "--minutes", "0"], "error: --minutes must be at least 1, got 0"),
    (["icebreaker", "--cluster", "nonsense"], "error: no dask scheduler answers at nonsense"),
])
def test_bad_input_is_one_line(results, capsys, arguments, message):
    assert seeds.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not results.exists()
