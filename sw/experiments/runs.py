"""Runs of the trainer that figures and tables are made from: trained once, then kept."""

from dataclasses import dataclass
from pathlib import Path

from sw.checkpoint import load_checkpoint
from sw.train import describe, kept_arguments, parse, train
from sw.training import TrainingError

__all__ = ["Run", "run"]


@dataclass(frozen=True)
class Run:
    """A finished training. history: one dict per epoch, as in its log.jsonl."""

    checkpoint: Path
    history: tuple
    args: dict


def run(neuron, seed, folder, options):
    """The Run of a neuron and a seed in ``folder``; trained, or gone on with, if need be.

    options: of sw/train.py for all of them, a list of words.
    """
    out = Path(folder) / f"{neuron}-s{seed}"
    checkpoint = out / "checkpoint.safetensors"
    # The last of two equal options counts.
    wanted = parse([*options, "--neuron", neuron, "--seed", f"{seed}", "--out", f"{out}"])
    if wanted.resume:
        raise TrainingError("--resume is not for experiments: they go on by themselves")
    if not checkpoint.is_file():
        train(wanted)
    network, _, info = load_checkpoint(checkpoint)
    same = network == describe(wanted) and info["args"] == kept_arguments(wanted)
    if not same or info["earlier"]:
        raise TrainingError(f"{out} is a run with other options: choose another --folder")
    if len(info["history"]) < wanted.recipe.epochs:
        train(parse(["--resume", f"{checkpoint}"]))
        info = load_checkpoint(checkpoint)[2]
    return Run(checkpoint, tuple(info["history"]), info["args"])
