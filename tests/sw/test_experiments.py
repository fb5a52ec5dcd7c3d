"""Figures and tables of the paper, from runs of a tiny network."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from sw import modules
from sw.checkpoint import load_checkpoint, load_model
from sw.cluster import ClusterError
from sw.data import load
from sw.experiments import figures, runs, tables
from sw.experiments.__main__ import EXPERIMENTS, main
from sw.experiments.report import fingerprint, runs_of
from sw.experiments.variants import VARIANTS
from sw.layers import Conv, ResidualConv
from sw.operations import energy, operations
from sw.train import parse, train
from sw.training import TrainingError
from tests.sw.test_cluster import address, dask_worker, new_scheduler

ARCH = """
from sw.layers import *

def net():
    layers = [Stem(8), ResidualConv(8), Conv(8, pool=2), Readout(10)]
    return Network("tiny", Shape(1, 8, 8), layers, T=2)
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    path = tmp_path_factory.mktemp("arch") / "mine.py"
    path.write_text(ARCH)
    return ["--", "--arch", f"{path}:net", "--epochs", "1", "--batch", "96"]


@pytest.fixture(scope="module")
def made(options, tmp_path_factory):
    """All experiments, of two seeds."""
    folder = tmp_path_factory.mktemp("experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "POINTS", 3)
        assert main(["all", "--seeds", "2", "--folder", f"{folder}", *options]) == 0
    return folder


def row(text, name):
    """The cells of the table's row that begins with ``name``."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def log(folder, neuron, seed):
    lines = (folder / f"{neuron}-s{seed}" / "log.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


def test_every_experiment_leaves_its_page_and_picture(made):
    for name in EXPERIMENTS:
        text = (made / f"{name}.md").read_text()
        picture = made / f"{name}.png"
        assert picture.is_file() == (not name.startswith("table"))
        assert (f"![{name}]({name}.png)" in text) == picture.is_file()
        if picture.is_file():
            assert picture.read_bytes().startswith(b"\x89PNG")
        for neuron in EXPERIMENTS[name].variants:
            assert row(text, VARIANTS[neuron].name)


def test_accuracies_are_those_of_the_logs(made):
    text = (made / "table1.md").read_text()
    for neuron in ("fp", "agmm", "vanilla"):
        values = [100 * log(made, neuron, seed)["test_accuracy"] for seed in (0, 1)]
        _, seeds, accuracy, *_ = row(text, VARIANTS[neuron].name)
        assert seeds == "2"
        assert accuracy == f"{sum(values) / 2:.2f} ({min(values):.2f} to {max(values):.2f})"


def test_costs_are_those_of_the_operations(made):
    frames, _ = load("digits", "test")
    for neuron in ("fp", "vanilla"):
        model, *_ = load_model(made / f"{neuron}-s0" / "checkpoint.safetensors")
        layers = operations(model, frames[:200])
        cells = row((made / "table2.md").read_text(), VARIANTS[neuron].name)
        assert cells[2] == f"{sum(layer.acs for layer in layers) / 1e6:.3f}"
        assert cells[4] == f"{1e6 * energy(layers, '45nm-fp32'):.3f}"
    sizes = [row((made / "table2.md").read_text(), VARIANTS[n].name)[1] for n in ("fp", "vanilla")]
    assert float(sizes[0]) > float(sizes[1])


def test_variants_of_the_self_ensemble_are_what_they_say(made):
    for seed in (0, 1):
        paths = {name: made / f"{name}-s{seed}" / "checkpoint.safetensors" for name in VARIANTS}
        loaded = {name: load_checkpoint(path) for name, path in paths.items()}
        for name in ("plain", "plain-taught"):
            assert type(loaded[name][0].layers[1]) is Conv
        for name in ("agmm", "taught"):
            assert type(loaded[name][0].layers[1]) is ResidualConv
        for name in ("taught", "plain-taught"):
            assert loaded[name][2]["args"]["teacher"] == f"{paths['fp']}"
        weights = [loaded[name][1]["layers.1.conv.weight"] for name in ("agmm", "taught")]
        assert not weights[0].equal(weights[1])


def test_numbers_are_kept_that_make_the_table_again(made):
    report = json.loads((made / "ablation.json").read_text())
    assert report["command"].startswith("python -m sw.experiments all --seeds 2 --folder")
    kept = runs_of(report)
    assert tables.accuracy(kept, None) in (made / "ablation.md").read_text()
    kept["agmm"][1].history[-1]["test_accuracy"] += 0.01
    assert tables.accuracy(kept, None) not in (made / "ablation.md").read_text()


def test_the_fingerprint_is_of_the_trainer(made, monkeypatch):
    report = json.loads((made / "ablation.json").read_text())
    prints = report["fingerprints"]
    assert prints.keys() == report["runs"].keys()
    assert prints["agmm"] != prints["vanilla"] != prints["fp"]
    args = runs_of(report)["agmm"][0].args
    assert fingerprint(args) == prints["agmm"]
    assert fingerprint({**args, "lr": 2 * args["lr"]}) != prints["agmm"]
    backward = modules._UnrolledLIF.backward
    monkeypatch.setattr(
        modules._UnrolledLIF, "backward",
        staticmethod(lambda ctx, grad: backward(ctx, 1.1 * grad)),
    )
    changed = fingerprint(args)
    assert changed["gradient_deviation"][0] > 1.05 * prints["agmm"]["gradient_deviation"][0]


def test_what_is_trained_is_not_trained_again(made, options, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    trained = []
    monkeypatch.setattr(runs, "train", trained.append)
    assert main(["fig8", "--seeds", "2", "--folder", f"{folder}", *options]) == 0
    assert trained == [] and capsys.readouterr().out == f"{folder / 'fig8.md'}\n"
    assert main(["fig8", "--seeds", "2", "--folder", f"{folder}", *options, "--lr", "0.1"]) == 2
    assert "is a run with other options: choose another --folder" in capsys.readouterr().err
    assert trained == []


def learned(folder, variant, seed):
    """The losses of a run's epochs, and its weights."""
    path = folder / f"{variant}-s{seed}" / "checkpoint.safetensors"
    _, state, info = load_checkpoint(path)
    weights = {name: tensor.tolist() for name, tensor in state.items()}
    return [entry["loss"] for entry in info["history"]], weights


def test_trained_at_the_same_time_they_are_the_same(made, options, tmp_path):
    runs.train_all([("fp", seed, tmp_path, options[1:]) for seed in (0, 1)], 2, None)
    for seed in (0, 1):
        assert learned(tmp_path, "fp", seed) == learned(made, "fp", seed)
        assert learned(tmp_path, "fp", seed)[0] != learned(made, "fp", 1 - seed)[0]


def test_trained_on_a_cluster_they_are_the_same(made, options, tmp_path, monkeypatch):
    with new_scheduler(tmp_path) as path, dask_worker(path):
        runs.train_all([("fp", 0, tmp_path, options[1:])], 1, address(path))
        assert learned(tmp_path, "fp", 0) == learned(made, "fp", 0)
        # A worker that writes to another folder.
        monkeypatch.setattr(runs, "_train", print)
        with pytest.raises(ClusterError, match="is not finished here: the workers of a cluster"):
            runs.train_all([("fp", 1, tmp_path, options[1:])], 1, address(path))


def test_teachers_come_first_and_what_is_there_is_kept(options, tmp_path, monkeypatch):
    groups, wanted = [], [("taught", seed, tmp_path, options[1:]) for seed in (0, 1)]

    @contextlib.contextmanager
    def sweep(job, items, *common, **more):
        groups.append([parse(words).out for words in items])
        yield ((words, train(parse(words))) for words in items)

    monkeypatch.setattr(runs, "sweep", sweep)
    runs.train_all([("fp", 0, tmp_path, options[1:])], 2, None)
    runs.train_all(wanted, 2, None)
    names = [[Path(out).name for out in group] for group in groups]
    assert names == [["fp-s0"], ["fp-s1"], ["taught-s0", "taught-s1"]]
    runs.train_all(wanted, 2, None)
    runs.train_all([("vanilla", 0, tmp_path, options[1:])], 1, None)
    assert len(groups) == 3


def test_a_job_ends_with_what_the_trainer_says(tmp_path):
    with pytest.raises(TrainingError, match=r"^--batch 2000 is more than the 1437"):
        runs._train(["--batch", "2000", "--out", "x"], f"{tmp_path}", 1)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_cut_off_goes_on(options, tmp_path, monkeypatch):
    words = [*options[1:], "--epochs", "2"]
    whole = runs.run("fp", 0, tmp_path / "whole", words)
    save, saved = runs.train.__globals__["save_checkpoint"], []

    def stop(*arguments, **info):
        save(*arguments, **info)
        saved.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(runs.train.__globals__, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            runs.run("fp", 0, tmp_path / "cut", words)
    again = runs.run("fp", 0, tmp_path / "cut", words)
    assert len(again.history) == 2 and saved == [1]
    assert again.history[1]["loss"] == whole.history[1]["loss"]


def test_options_of_the_experiment_go_last(options, tmp_path):
    words = [*options[1:], "--neuron", "agmm", "--seed", "7", "--out", f"{tmp_path / 'x'}"]
    found = runs.run("fp", 0, tmp_path / "runs", words)
    assert (found.args["neuron"], found.args["seed"]) == ("fp", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    with pytest.raises(TrainingError, match="--resume is not for experiments"):
        runs.run("fp", 0, tmp_path / "runs", [*options[1:], "--resume", f"{found.checkpoint}"])


def test_a_network_that_has_changed_is_noticed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(ARCH)
    words = ["--arch", f"{path}:net", "--epochs", "1", "--batch", "96"]
    runs.run("fp", 0, tmp_path, words)
    path.write_text(ARCH.replace("Conv(8, pool=2)", "Conv(9, pool=2)"))
    with pytest.raises(TrainingError, match="is a run with other options"):
        runs.run("fp", 0, tmp_path, words)


@pytest.mark.parametrize("words, message", [
    (["fig1", "--seeds", "0"], "--seeds must be at least 1, got 0"),
    (["fig1", "--cluster", "nonsense"], "no dask scheduler answers at nonsense"),
    (["fig1", "--", "--arch", "nonsense"], "nonsense"),
    (["fig1", "--", "--lr", "0"], "lr must be positive"),
])
def test_bad_input_is_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(Path(tmp_path).iterdir())
