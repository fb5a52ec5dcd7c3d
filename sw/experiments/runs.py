"""Runs of the trainer that figures and tables are made from: trained once, then kept."""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from sw.checkpoint import load_checkpoint
from sw.children import run_child
from sw.cluster import ClusterError, stop_if_unwanted, sweep
from sw.data import load
from sw.experiments.variants import VARIANTS
from sw.train import describe, kept_arguments, parse, same_arguments, train
from sw.training import TrainingError

__all__ = ["Run", "run", "run_all", "train_all"]


@dataclass(frozen=True)
class Run:
    """A finished training. history: one dict per epoch, as in its log.jsonl.

    machine: versions and processor that it was made with, empty where not known.
    """

    checkpoint: Path
    history: tuple
    args: dict
    machine: dict


def _checkpoint(variant, seed, folder):
    return Path(folder) / f"{variant}-s{seed}" / "checkpoint.safetensors"


def _missing(variant, seed, folder, options):
    """Options of the training that a run is made by, or goes on with; None if it is finished."""
    checkpoint, about = _checkpoint(variant, seed, folder), VARIANTS[variant]
    teacher = []
    if about.teacher:
        teacher = ["--teacher", f"{_checkpoint(about.teacher, seed, folder)}"]
    # The last of two equal options counts.
    words = [*options, *about.options, *teacher, "--seed", f"{seed}", "--out"]
    words.append(f"{checkpoint.parent}")
    wanted = parse(words)
    if wanted.resume:
        raise TrainingError("--resume is not for experiments: they go on by themselves")
    if not checkpoint.is_file():
        return words
    network, _, info = load_checkpoint(checkpoint)
    same = network == describe(wanted) and same_arguments(info["args"], kept_arguments(wanted))
    if not same or info["earlier"]:
        raise TrainingError(
            f"{checkpoint.parent} is a run with other options: choose another --folder"
        )
    finished = len(info["history"]) >= wanted.recipe.epochs
    return None if finished else ["--resume", f"{checkpoint}"]


def run(variant, seed, folder, options):
    """The Run of a variant and a seed in ``folder``; trained, or gone on with, if need be.

    variant: a key of ``VARIANTS``. options: of sw/train.py for all of them, a list of words.
    """
    if teacher := VARIANTS[variant].teacher:
        run(teacher, seed, folder, options)
    while words := _missing(variant, seed, folder, options):
        train(parse(words))
    checkpoint = _checkpoint(variant, seed, folder)
    info = load_checkpoint(checkpoint)[2]
    return Run(checkpoint, tuple(info["history"]), info["args"], info.get("machine", {}))


def run_all(variants, seeds, folder, options):
    """Lists of Run by variant, one for each of the first ``seeds`` seeds."""
    return {
        variant: [run(variant, seed, folder, options) for seed in range(seeds)]
        for variant in variants
    }


def _train(words, folder, threads):
    """A job: sw/train.py in a process of its own, for torch has one seed and one set of threads."""
    environment = {
        "OMP_NUM_THREADS": f"{threads}", **os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}",
    }
    with tempfile.TemporaryFile() as output:
        status = run_child(
            [sys.executable, "-P", "-m", "sw.train", *words], output, stop_if_unwanted,
            cwd=folder, env=environment,
        )
        output.seek(0)
        lines = output.read().decode(errors="replace").split("\n")
    if status:
        said = [line for line in lines if line.strip()] or ["no message"]
        raise TrainingError(said[-1].removeprefix("error: "))


def _train_group(wanted, jobs, cluster):
    """Trains runs that do not need each other. wanted: options by variant, seed and folder."""
    missing = {
        key: words for key, options in wanted.items() if (words := _missing(*key, options))
    }
    if not missing:
        return
    # What has to be downloaded or converted, once.
    args = parse(next(iter(missing.values())))
    for split in ("train", "test"):
        load(args.data, split, args.data_root, describe(args).T)
    # Where OMP_NUM_THREADS is set, it stays: sums are then rounded alike for all ``jobs``.
    threads = 1 if cluster else max(torch.get_num_threads() // jobs, 1)
    with sweep(
        _train, missing.values(), f"{Path.cwd()}", threads, jobs=jobs, cluster=cluster,
        packages=["torch"], title="trainings",
    ) as runs:
        for _ in runs:
            pass
    for key in missing:
        if _missing(*key, wanted[key]):
            raise ClusterError(
                f"{_checkpoint(*key)} is not finished here: the workers of a cluster must share"
                f" {Path.cwd()} with this machine"
            )


def train_all(wanted, jobs, cluster):
    """Trains what ``run`` needs for all ``wanted``, its arguments, some at a time.

    jobs, cluster: as ``sw.cluster.sweep`` takes them; the workers of a cluster share the current
    folder with us. One after the other, here, are trained by ``run``. Raises ClusterError.
    """
    if jobs == 1 and not cluster:
        return
    alone, taught = {}, {}
    for variant, seed, folder, options in wanted:
        teacher = VARIANTS[variant].teacher
        alone[teacher or variant, seed, folder] = options
        if teacher:
            taught[variant, seed, folder] = options
    for group in (alone, taught):
        _train_group(group, jobs, cluster)
