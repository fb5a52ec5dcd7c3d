"""Hyper-parameters and presets."""

import json
from dataclasses import fields

import pytest

from sw import networks
from sw.data import DATASETS
from sw.recipe import PRESETS, Recipe, RecipeError
from sw.train import main, parse

#: Shapes of the frames of datasets, for T.
FRAMES = {
    "digits": lambda T: (1, 8, 8), "fashion-mnist": lambda T: (1, 28, 28),
    "digit-saccades": lambda T: (T, 2, 16, 16), "cifar10": lambda T: (3, 32, 32),
    "cifar100": lambda T: (3, 32, 32), "imagenet": lambda T: (3, 224, 224),
    "dvs-gesture": lambda T: (T, 2, 48, 48), "cifar10-dvs": lambda T: (T, 2, 48, 48),
}


@pytest.mark.parametrize("changes, message", [
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, got adam"),
    ({"lr": 0.0}, "lr must be positive"),
    ({"lr": float("nan")}, "lr must be at least 0, got nan"),
    ({"lr": float("inf")}, "lr must be at least 0, got inf"),
    ({"crop": -1}, "crop must be at least 0"),
    ({"ema": 1.0}, "ema must be below 1"),
    ({"label_smoothing": 1.0}, "label_smoothing must be below 1"),
    ({"momentum": 1.0}, "momentum must be below 1"),
    ({"warmup": 21.0}, "warmup must be at most the 20 epochs"),
    ({"distill": 1.5}, "distill must be at most 1"),
])
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    with pytest.raises(RecipeError, match=message) as error:
        Recipe(**changes)
    assert "\n" not in f"{error.value}"


@pytest.mark.parametrize("entry", fields(Recipe), ids=lambda entry: entry.name)
def test_every_hyper_parameter_has_an_option(entry):
    option, default = f"--{entry.name.replace('_', '-')}", getattr(Recipe(), entry.name)
    expected = {
        bool: lambda: not default, int: lambda: default + 1, float: lambda: default / 2 + 0.125,
        str: lambda: entry.metadata["choices"][-1],
    }[entry.type]()
    arguments = [option] if entry.type is bool else [option, f"{expected}"]
    assert expected != default
    recipe = parse(arguments).recipe
    assert getattr(recipe, entry.name) == expected
    assert recipe.replace(**{entry.name: default}) == parse([]).recipe == PRESETS["digits"].recipe


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_what_there_is(name):
    preset = PRESETS[name]
    assert preset.data in DATASETS
    network = networks.load(preset.arch)
    network = network.replace(T=preset.T or network.T)
    assert network.frame_shape == FRAMES[preset.data](network.T)
    args = parse(["--preset", name])
    assert args.recipe == preset.recipe and args.arch == preset.arch and args.data == preset.data
    assert (args.T, args.neuron) == (preset.T, preset.neuron)


def test_options_go_before_the_preset():
    args = parse(["--preset", "fashion-mnist", "--epochs", "3", "--no-flip", "--T", "2"])
    preset = PRESETS["fashion-mnist"].recipe
    assert args.recipe == preset.replace(epochs=3, flip=False) and args.T == 2


def test_the_preset_of_a_dataset_is_its_default():
    assert parse(["--data", "fashion-mnist"]).recipe == PRESETS["fashion-mnist"].recipe
    args = parse(["--data", "cifar10"])
    assert args.recipe == PRESETS["agmm-cifar10"].recipe and args.arch == "resnet19-10"


def test_show_prints_everything_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--preset", "digits", "--lr", "0.5", "--T", "3", "--show"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["recipe"] == {**PRESETS["digits"].recipe.to_dict(), "lr": 0.5}
    assert shown["network"]["T"] == 3 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments, message", [
    (["--preset", "digits", "--data", "fashion-mnist"], "--preset digits is for --data digits"),
    (["--label-smoothing", "2"], "label_smoothing must be below 1"),
    (["--workers", "-1"], "--workers must be at least 0"),
    (["--batch", "5000"], "--batch 5000 is more than the 1437 training samples"),
    (["--data", "digit-saccades", "--auto-augment", "cifar10"], "images of 1 or 3 channels"),
])
def test_bad_input_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
