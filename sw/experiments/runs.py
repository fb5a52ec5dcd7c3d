"""Runs of the trainer that figures and tables are made from: trained once, then kept."""

from dataclasses import dataclass
from pathlib import Path

from sw.checkpoint import load_checkpoint
from sw.train import kept_arguments, parse, train
from sw.training import TrainingError

__all__ = ["Run", "run"]


@dataclass(frozen=True)
class Run:
    """A finished training. history: one dict per epoch, as in its log.jsonl."""

    neuron: str
    seed: int
    checkpoint: Path
    history: tuple
    args: dict


def run(neuron, seed, folder, options):
    """The Run of a neuron and a seed in ``folder``; trained, or gone on with, if need be.

    options: of sw/train.py for all of them, a list of words.
    """
    out = Path(folder) / f"{neuron}-s{seed}"
    checkpoint = out / "checkpoint.safetensors"
    words = ["--neuron", neuron, "--seed", f"{seed}", "--out", f"{out}", *options]
    wanted = parse(words)
    if not checkpoint.is_file():
        train(wanted)
    info = load_checkpoint(checkpoint)[2]
    if info["args"] != kept_arguments(wanted):
        raise TrainingError(f"{out} is a run with other options: choose another --folder")
    if len(info["history"]) < wanted.recipe.epochs:
        train(parse(["--resume", f"{checkpoint}"]))
        info = load_checkpoint(checkpoint)[2]
    return Run(neuron, seed, checkpoint, tuple(info["history"]), info["args"])
