import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sw import golden
from sw import train as trainer
from sw.checkpoint import load_checkpoint, load_model, save_checkpoint
from sw.data import load
from sw.export import export
from sw.optimise import make_optimizer
from sw.recipe import Recipe
from sw.train import main
from sw.training import evaluate, flip_ratio

ROOT = Path(__file__).parents[2]

ARCH = """
from sw.layers import Conv, Network, Readout, Shape, Stem

def net():
    return Network("tiny", Shape(1, 8, 8), [Stem(16), Conv(16, pool=2), Readout(10)], T=2)

def narrow():
    return Network("narrow", Shape(1, 8, 8), [Stem(16), Readout(5)])

def wide():
    return Network("wide", Shape(1, 28, 28), [Stem(16), Readout(10)])
"""


@pytest.fixture(scope="module")
def arch(tmp_path_factory):
    path = tmp_path_factory.mktemp("arch") / "mine.py"
    path.write_text(ARCH)
    return f"{path}:net"


def run(arch, out, *options):
    return main(["--arch", arch, "--out", str(out), "--batch", "96", "--lr", "0.005", *options])


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(arch, tmp_path_factory):
    """An uninterrupted run of four epochs."""
    out = tmp_path_factory.mktemp("whole")
    assert run(arch, out, "--epochs", "4") == 0
    return out


def interrupted(arch, out, monkeypatch, *options):
    """The same run, stopped by Ctrl-C in the third epoch."""
    calls = []

    def stop_in_third(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", stop_in_third)
        assert run(arch, out, "--epochs", "4", *options) == 130
    assert len(losses(out)) == 2
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    return out / "checkpoint.safetensors"


def test_training_learns_and_leaves_its_files(whole):
    history = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert history[-1]["test_accuracy"] > 0.85
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    for entry in history:
        # A sign that flips back counts in an update and not in the epoch, of 14 updates.
        assert entry["flip_ratio"] <= entry["flip_ratio_per_update"] * 14
        assert 0 < entry["flip_ratio_per_update"] < entry["flip_ratio"]
        assert 0 < entry["flip_ratio"] < 1
        assert len(entry["gradient_mean"]) == len(entry["gradient_variance"]) == 1
        assert entry["gradient_mean"][0] > 0 and 0 < entry["gradient_variance"][0] < 1
        assert len(entry["firing_rates"]) == 2 and all(0 < r < 1 for r in entry["firing_rates"])
    assert history[0]["lr"] > history[-1]["lr"] > 0
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")
    model, network, info = load_model(whole / "checkpoint.safetensors")
    assert network.name == "tiny" and info["history"] == history and info["args"]["epochs"] == 4
    assert info["machine"]["torch"] == torch.__version__ and info["machine"]["processor"]
    test_set = load("digits", "test")
    assert evaluate(model, *test_set)[0] == history[-1]["test_accuracy"]
    model.layers[-1].linear.weight.data.mul_(-1)
    assert evaluate(model, *test_set)[0] < 0.1


def test_a_resumed_run_is_the_uninterrupted_one(arch, whole, tmp_path, monkeypatch):
    checkpoint = interrupted(arch, tmp_path, monkeypatch)
    assert main(["--resume", str(checkpoint)]) == 0
    assert losses(tmp_path) == losses(whole)
    assert load_checkpoint(checkpoint)[2]["earlier"] == []
    expected = load_file(whole / "checkpoint.safetensors")
    for name, tensor in load_file(checkpoint).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("broken", ["optimizer", "seed"])
def test_a_resume_that_loses_state_is_noticed(arch, whole, tmp_path, monkeypatch, broken):
    checkpoint = interrupted(arch, tmp_path, monkeypatch)
    model, _, info = load_model(checkpoint)
    optimizer = make_optimizer(model, Recipe())
    state = info.pop("optimizer")
    if broken == "optimizer":
        state[0]["exp_avg"].zero_()
    else:
        info["args"]["seed"] = 7
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    save_checkpoint(checkpoint, model, optimizer, **info)
    assert main(["--resume", str(checkpoint)]) == 0
    assert losses(tmp_path)[:2] == losses(whole)[:2]
    assert losses(tmp_path)[2] != losses(whole)[2]


def test_a_resume_with_other_options_remembers_the_first(arch, tmp_path, monkeypatch):
    checkpoint = interrupted(arch, tmp_path, monkeypatch)
    assert main(["--resume", str(checkpoint), "--epochs", "3"]) == 0
    info = load_checkpoint(checkpoint)[2]
    (earlier,) = info["earlier"]
    assert (earlier["epochs"], earlier["args"]["epochs"], info["args"]["epochs"]) == (2, 4, 3)


def test_an_option_that_a_run_did_not_have_yet_is_no_other(arch, tmp_path, monkeypatch):
    checkpoint = interrupted(arch, tmp_path, monkeypatch)
    model, _, info = load_model(checkpoint)
    assert info["args"].pop("no_shortcuts") is None
    del info["optimizer"], info["trained"]
    save_checkpoint(checkpoint, model, **info)
    assert main(["--resume", str(checkpoint)]) == 0
    assert load_checkpoint(checkpoint)[2]["earlier"] == []


def test_a_resumed_average_is_the_uninterrupted_one(arch, tmp_path, monkeypatch):
    options = ["--epochs", "4", "--ema", "0.9"]
    assert run(arch, tmp_path / "whole", *options) == 0
    checkpoint = interrupted(arch, tmp_path / "cut", monkeypatch, *options)
    assert main(["--resume", str(checkpoint)]) == 0
    expected = load_file(tmp_path / "whole" / "checkpoint.safetensors")
    found = load_file(checkpoint)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
    # What is evaluated and exported is the average, which lags behind what is trained.
    model, _, info = load_model(checkpoint)
    assert evaluate(model, *load("digits", "test"))[0] == info["history"][-1]["test_accuracy"]
    name = "layers.1.conv.weight"
    assert not torch.equal(info["trained"][name], model.state_dict()[name])


def test_compiled_is_what_is_trained_and_not_what_is_kept(arch, whole, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    assert run(arch, tmp_path / "run", "--epochs", "4", "--compile") == 0
    assert len(compiled) == 1 and losses(tmp_path / "run") == losses(whole)


def test_processes_that_prepare_frames_change_nothing(arch, whole, tmp_path):
    assert run(arch, tmp_path / "run", "--epochs", "4", "--workers", "2") == 0
    assert losses(tmp_path / "run") == losses(whole)


def test_a_resumed_run_leaves_others_alone(arch, whole, tmp_path, capsys):
    assert run(arch, tmp_path / "other", "--epochs", "1") == 0
    before = (tmp_path / "other" / "checkpoint.safetensors").read_bytes()
    words = ["--resume", str(whole / "checkpoint.safetensors"), "--epochs", "5"]
    assert main([*words, "--out", str(tmp_path / "other")]) == 2
    assert "other holds a run" in capsys.readouterr().err
    assert (tmp_path / "other" / "checkpoint.safetensors").read_bytes() == before


def test_an_optimiser_without_memory_goes_on(arch, tmp_path):
    options = ["--optimizer", "sgd", "--momentum", "0"]
    assert run(arch, tmp_path / "whole", *options, "--epochs", "2") == 0
    assert run(arch, tmp_path / "run", *options, "--epochs", "1") == 0
    checkpoint = str(tmp_path / "run" / "checkpoint.safetensors")
    assert main(["--resume", checkpoint, "--epochs", "2"]) == 0
    assert load_checkpoint(checkpoint)[2]["history"][1]["epoch"] == 2


def test_a_checkpoint_of_an_older_trainer_is_not_resumed(whole, tmp_path, capsys):
    model, _, info = load_model(whole / "checkpoint.safetensors")
    del info["args"]["flip"], info["optimizer"], info["trained"]
    save_checkpoint(tmp_path / "old", model, **info)
    assert main(["--resume", str(tmp_path / "old")]) == 2
    error = capsys.readouterr().err
    assert "of an older trainer" in error and f"--init {tmp_path / 'old'}" in error


def test_resume_keeps_the_network(whole, capsys):
    checkpoint = str(whole / "checkpoint.safetensors")
    before = (whole / "checkpoint.safetensors").read_bytes()
    for options in (
        ["--T", "4"], ["--neuron", "fp"], ["--arch", "digits"], ["--optimizer", "sgd"],
        ["--no-shortcuts"],
    ):
        assert main(["--resume", checkpoint, *options]) == 2
        assert options[0] in capsys.readouterr().err
    assert (whole / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("neuron", ["vanilla", "fp"])
def test_other_neurons_other_steps_and_bf16(arch, tmp_path, neuron, capsys):
    options = ["--neuron", neuron, "--T", "1", "--precision", "bf16", "--epochs", "2", "--json"]
    assert run(arch, tmp_path, *options) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["test_accuracy"] > 0.3 and result["epoch"] == 2
    assert 0 < result["flip_ratio"] < 1  # eq. 8 counts signs, of real weights too
    network = load_checkpoint(result["checkpoint"])[0]
    assert network.neuron == neuron and network.T == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (["--arch", "nonsense"], "nonsense"),
        (["--arch", "mine:nothing"], "mine"),
        (["--T", "99"], "T must be"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--data", "fashion-mnist", "--data-root", "nowhere"], "nowhere"),
        (["--resume", "missing.safetensors"], "missing.safetensors"),
        (["--resume", __file__], "not a checkpoint"),
        (["--seed", "-1"], "--seed must be"),
        ([], "holds a run"),
    ],
)
def test_errors_are_one_line_and_overwrite_nothing(options, message, arch, tmp_path, capsys):
    old = tmp_path / "run" / "checkpoint.safetensors"
    old.parent.mkdir()
    old.write_text("precious")
    default = [] if "--arch" in options or "--data" in options else ["--arch", arch]
    assert main([*default, "--out", str(old.parent), *options]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0] and error[0].startswith("error: ")
    assert old.read_text() == "precious" and len(list(old.parent.iterdir())) == 1


def test_a_loss_that_is_no_number_stops_the_run(arch, tmp_path, capsys):
    assert run(arch, tmp_path, "--lr", "1e30") == 2
    assert "smaller --lr" in capsys.readouterr().err
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_finished_run_needs_more_epochs_to_go_on(whole, capsys):
    assert main(["--resume", str(whole / "checkpoint.safetensors"), "--epochs", "3"]) == 2
    assert "has 4 of 3 epochs" in capsys.readouterr().err


def test_the_data_must_fit_the_network(arch, tmp_path, capsys):
    assert run(arch.replace(":net", ":wide"), tmp_path / "run") == 2
    assert "(1, 28, 28)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_network_needs_an_output_for_every_class(arch, tmp_path, capsys):
    assert run(arch.replace(":net", ":narrow"), tmp_path / "run") == 2
    assert "narrow has 5 outputs, digits has 10 classes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_events_are_trained_on_and_exported(tmp_path):
    out = tmp_path / "run"
    options = ["--data", "digit-saccades", "--T", "2", "--epochs", "2", "--out", str(out)]
    assert main(options) == 0
    first, last = losses(out)
    assert last < first
    model, network, info = load_model(out / "checkpoint.safetensors")
    frames, labels = load("digit-saccades", "test", T=2)
    assert frames.shape[1:] == network.frame_shape == (2, 2, 16, 16)
    image = export(model, network, info["args"])
    report = golden.evaluate(image, frames, labels)
    assert report["float_accuracy"] == info["history"][-1]["test_accuracy"] > 0.3
    assert report["agreement"] > 0.9


def test_a_checkpoint_without_training_is_not_resumed(whole, tmp_path, capsys):
    model, _, _ = load_model(whole / "checkpoint.safetensors")
    save_checkpoint(tmp_path / "bare", model)
    assert main(["--resume", str(tmp_path / "bare")]) == 2
    assert "no training" in capsys.readouterr().err


def test_flip_ratio_counts_signs():
    before = [torch.tensor([True, False]), torch.tensor([[True, True]])]
    after = [torch.tensor([True, True]), torch.tensor([[True, True]])]
    assert flip_ratio(before, after) == 0.25
    assert flip_ratio(before, before) == 0
    assert flip_ratio([], []) == 0


@pytest.mark.parametrize("command", [["sw/train.py"], ["-m", "sw.train"]])
def test_help_from_script_and_module(command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--resume" in result.stdout and "examples:" in result.stdout
