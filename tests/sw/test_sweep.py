"""AGMM beside other gains over learning rates, from runs of a tiny network."""

import json

import pytest

from sw.experiments import sweep
from sw.experiments.runs import Run
from sw.experiments.variants import VARIANTS


def finished(accuracy, flips):
    history = ({"flip_ratio": 2 * flips, "test_accuracy": 0.1},
               {"flip_ratio": 0.0, "test_accuracy": accuracy})
    return Run(None, history, {}, {"processor": "CPU"})


def setting(lr, agmm):
    return {"lr": lr}, {
        "vanilla": [finished(0.5, 0.25), finished(0.75, 0.25)],
        "half": [finished(0.5, 0.25), finished(0.5, 0.5)],
        "agmm": [finished(accuracy, 0.125) for accuracy in agmm],
    }


@pytest.fixture
def report(monkeypatch):
    monkeypatch.setattr(sweep, "make_report", lambda name, runs, command: {
        "experiment": name, "command": command,
    })
    return sweep.make_sweep([setting(0.1, (0.75, 0.5)), setting(1.0, (1.0, 1.0))], "a command")


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_differences_are_of_the_same_seed(report):
    header, _, low, high = cells(sweep.table(report))
    assert header[:2] == ["lr", "seeds"]
    assert header[2:5] == [f"{VARIANTS[name].name}, %" for name in ("vanilla", "half", "agmm")]
    assert low[:2] == ["0.1", "2"] and high[:2] == ["1", "2"]
    assert low[2:5] == ["62.50 (50.00 to 75.00)", "50.00 (50.00 to 50.00)",
                        "62.50 (50.00 to 75.00)"]
    assert low[5:7] == ["0.00 (-25.00 to 25.00)", "12.50 (0.00 to 25.00)"]
    assert high[5] == "37.50 (25.00 to 50.00)"


def test_flips_are_of_all_epochs(report):
    *_, low, _ = cells(sweep.table(report))
    assert low[7:] == ["25.00", "37.50", "12.50"]


def test_it_survives_a_file_and_draws_a_line_for_each_T(report, tmp_path):
    assert json.loads(json.dumps(report)) == report
    two = [{**one, "options": {"T": T, **one["options"]}}
           for T in (2, 4) for one in report["settings"]]
    sizes = []
    for name, settings in (("one", report["settings"]), ("two", two)):
        sweep.draw({**report, "settings": settings}, tmp_path / name)
        sizes.append((tmp_path / name).read_bytes())
    assert all(picture.startswith(b"\x89PNG") for picture in sizes) and sizes[0] != sizes[1]


def test_command_line(tmp_path, capsys):
    words = ["--lr", "0.01", "0.1", "--T", "2", "--seeds", "1", "--folder", f"{tmp_path}"]
    options = ["--", "--data", "digits", "--epochs", "1"]
    assert sweep.main([*words, *options]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'sweep.md'}\n"
    report = json.loads((tmp_path / "sweep.json").read_text())
    assert report["command"].startswith("python -m sw.experiments.sweep --lr 0.01 0.1 --T 2")
    assert [one["options"] for one in report["settings"]] == [
        {"T": 2, "lr": 0.01}, {"T": 2, "lr": 0.1}
    ]
    assert report["fingerprints"].keys() == report["runs"].keys() == {"vanilla", "half", "agmm"}
    for one in report["settings"]:
        folder = tmp_path / f"T2-lr{one['options']['lr']:g}"
        for variant, (run,) in one["runs"].items():
            log = json.loads((folder / f"{variant}-s0" / "log.jsonl").read_text())
            assert run["test_accuracy"] == log["test_accuracy"]
            assert run["flip_ratio"] == log["flip_ratio"]
    assert sweep.table(report) in (tmp_path / "sweep.md").read_text()
    assert (tmp_path / "sweep.png").is_file()


@pytest.mark.parametrize("words, message", [
    (["--lr", "0.1", "--seeds", "0"], "--seeds must be at least 1, got 0"),
    (["--lr", "0"], "lr must be positive"),
    (["--lr", "0.1", "--T", "17"], "17"),
])
def test_bad_input_is_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sweep.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
