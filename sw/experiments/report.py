"""What a figure or table was made from, as numbers to keep, and what shows that they are stale."""

import platform
from argparse import Namespace
from importlib import metadata

import torch

from sw.data import Views
from sw.experiments.runs import Run
from sw.model import CodedLayer, SpikingNetwork
from sw.optimise import make_optimizer
from sw.recipe import Recipe
from sw.train import REMEMBERED, describe
from sw.training import train_epoch

__all__ = ["fingerprint", "make_report", "runs_of"]

#: Of every epoch, what tables and curves need.
KEPT = (
    "loss", "train_accuracy", "test_accuracy", "flip_ratio", "flip_ratio_per_update",
    "firing_rates",
)
#: Of a fingerprint; a whole batch of a large network takes minutes.
UPDATES, BATCH = 3, 16


def fingerprint(args):
    """Loss and gradients of three updates on noise: what a change of the trainer would change.

    args: of a run. A dict of lists of numbers. In float64: where sums are rounded otherwise, as on
    another machine, a current near the threshold would in float32 make other spikes.
    """
    # Of runs that are older than an option.
    network = describe(Namespace(**dict.fromkeys(REMEMBERED) | args))
    recipe = Recipe(**{name: args[name] for name in Recipe().to_dict()})
    recipe = recipe.replace(batch=BATCH, precision="fp32")
    draws, samples = torch.Generator().manual_seed(0), UPDATES * BATCH
    frames = torch.randint(
        0, 256, (samples, *network.frame_shape), dtype=torch.uint8, generator=draws
    )
    labels = torch.randint(0, network.layers[-1].channels, (samples,), generator=draws)
    torch.manual_seed(0)
    model = SpikingNetwork(network).double()
    for layer in model.layers:
        if isinstance(layer, CodedLayer):
            layer.register_forward_hook(lambda layer, frames, spikes: spikes.double())
    optimizer, views = make_optimizer(model, recipe), Views(frames, labels, recipe, 0)
    entry = train_epoch(model, model, optimizer, views, recipe, 0)
    deviations = [variance**0.5 for variance in entry["gradient_variance"]]
    return _rounded({"loss": [entry["loss"]], "gradient_deviation": deviations})


def _rounded(value):
    """With every number in it to eight digits behind the point."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else round(value, 8)


def make_report(name, runs, command):
    """A dict for JSON. runs: lists of Run by variant. command: what made them."""
    return {
        "experiment": name,
        "command": command,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "fingerprints": {
            variant: fingerprint(group[0].args) for variant, group in runs.items()
        },
        "runs": {variant: [_numbers(run) for run in group] for variant, group in runs.items()},
    }


def _numbers(run):
    history = [_rounded({key: entry[key] for key in KEPT}) for entry in run.history]
    return {"args": run.args, "machine": run.machine, "history": history}


def runs_of(report):
    """The runs that a report was of, without their checkpoints."""
    return {
        variant: [
            Run(None, tuple(run["history"]), run["args"], run.get("machine", {})) for run in group
        ]
        for variant, group in report["runs"].items()
    }
