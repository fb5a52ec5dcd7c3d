"""Runs of the trainer that figures and tables are made from: trained once, then kept."""

from dataclasses import dataclass
from pathlib import Path

from sw.checkpoint import load_checkpoint
from sw.experiments.variants import VARIANTS
from sw.train import describe, kept_arguments, parse, same_arguments, train
from sw.training import TrainingError

__all__ = ["Run", "run", "run_all"]


@dataclass(frozen=True)
class Run:
    """A finished training. history: one dict per epoch, as in its log.jsonl.

    machine: versions and processor that it was made with, empty where not known.
    """

    checkpoint: Path
    history: tuple
    args: dict
    machine: dict


def run(variant, seed, folder, options):
    """The Run of a variant and a seed in ``folder``; trained, or gone on with, if need be.

    variant: a key of ``VARIANTS``. options: of sw/train.py for all of them, a list of words.
    """
    out, about = Path(folder) / f"{variant}-s{seed}", VARIANTS[variant]
    checkpoint = out / "checkpoint.safetensors"
    teacher = []
    if about.teacher:
        teacher = ["--teacher", f"{run(about.teacher, seed, folder, options).checkpoint}"]
    # The last of two equal options counts.
    wanted = parse([*options, *about.options, *teacher, "--seed", f"{seed}", "--out", f"{out}"])
    if wanted.resume:
        raise TrainingError("--resume is not for experiments: they go on by themselves")
    if not checkpoint.is_file():
        train(wanted)
    network, _, info = load_checkpoint(checkpoint)
    same = network == describe(wanted) and same_arguments(info["args"], kept_arguments(wanted))
    if not same or info["earlier"]:
        raise TrainingError(f"{out} is a run with other options: choose another --folder")
    if len(info["history"]) < wanted.recipe.epochs:
        train(parse(["--resume", f"{checkpoint}"]))
        info = load_checkpoint(checkpoint)[2]
    return Run(checkpoint, tuple(info["history"]), info["args"], info.get("machine", {}))


def run_all(variants, seeds, folder, options):
    """Lists of Run by variant, one for each of the first ``seeds`` seeds."""
    return {
        variant: [run(variant, seed, folder, options) for seed in range(seeds)]
        for variant in variants
    }
