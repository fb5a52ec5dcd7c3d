"""Train a network: surrogate gradients through time, binary weights from the first step.

Everything random in epoch e is drawn from generators seeded with (seed, e), so a resumed run
repeats an uninterrupted one exactly, on the same machine with as many threads and processes.
"""

import argparse
import json
import sys
import time
from dataclasses import fields
from pathlib import Path

import torch
from tqdm import tqdm

from sw import networks, processes
from sw.checkpoint import CheckpointError, load_checkpoint, load_model, save_checkpoint
from sw.data import DATASETS, DataError, Views, load
from sw.files import replace_file
from sw.layers import NEURONS, LayerError
from sw.model import SpikingNetwork
from sw.optimise import make_average, make_optimizer
from sw.plots import plot_curves
from sw.recipe import PRESETS, Recipe, RecipeError, add_options
from sw.teacher import load_teacher, start_from
from sw.training import TrainingError, evaluate, train_epoch

__all__ = [
    "ERRORS", "REMEMBERED", "describe", "error_line", "kept_arguments", "main", "parse",
    "same_arguments", "train",
]

EPILOG = """examples:
  python sw/train.py                                    digits, in a minute
  python sw/train.py --data fashion-mnist --precision bf16     the network of the iCE40 demo
  python sw/train.py --neuron vanilla --seed 1          the same without AGMM
  python sw/train.py --arch my.py:net --data digits     a network of your own
  python sw/train.py --preset agmm-cifar10 --show       all that the preset says
  python sw/train.py --teacher runs/x/checkpoint.safetensors      distilled from another network
  python sw/train.py --resume runs/x/checkpoint.safetensors --epochs 40
  torchrun --nproc-per-node 2 sw/train.py --preset agmm-cifar10      two processes, or GPUs

The output folder gets checkpoint.safetensors (always of the last whole epoch), log.jsonl (one line
per epoch) and curves.png. Next step: python sw/export.py FOLDER/checkpoint.safetensors

presets:
{presets}

Where other jobs keep the cores busy, set OMP_NUM_THREADS=1: threads that wait for each other on a
shared core are many times slower."""

#: What the user can cause.
ERRORS = (CheckpointError, DataError, LayerError, RecipeError, TrainingError, OSError)

#: What a resumed run keeps, and what it remembers besides the recipe.
KEPT = ("preset", "arch", "data", "neuron", "no_shortcuts", "T", "seed", "optimizer")
REMEMBERED = (*KEPT, "init", "teacher", "data_root")


def _parser():
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__.split("\n\n")[0],
        epilog=EPILOG.format(presets="\n".join(
            f"  {name:<18}{preset.about}" for name, preset in PRESETS.items()
        )),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, help="a training with a name (default: that of --data)")
    add("--data", choices=DATASETS, help="dataset (default: the preset's, or digits)")
    add("--data-root", metavar="DIR", help="folder of the dataset's files, if not found by itself")
    add("--arch", help="built-in network, or file.py:function (default: the preset's)")
    add("--neuron", choices=NEURONS, help="agmm, vanilla (no gain), fp (real weights); to compare"
        " agmm with, half (a gain of 1/2) and scalar (one for each time step)")
    add("--no-shortcuts", action="store_true", default=None, help="leave out the network's"
        " shortcuts, to compare")
    add("--T", type=int, help="time steps, 1 to 16 (default: the network's)")
    add("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    add("--init", metavar="CHECKPOINT", help="start from its weights; T may be another")
    add("--teacher", metavar="CHECKPOINT", help="network to distil from, or torchvision:MODEL")
    add("--out", metavar="DIR", help="default: runs/<network>-<neuron>-T<T>-s<seed>")
    add("--resume", metavar="CHECKPOINT", help="go on with a run, with its own arguments")
    add("--workers", type=int, default=0, metavar="N",
        help="processes that prepare frames, beside each one that trains (default: none)")
    add("--compile", action="store_true", help="use torch.compile, which takes minutes at first")
    add("--show", action="store_true", help="only say what would be trained, in JSON")
    add("--json", action="store_true", help="end with one line of JSON on stdout")
    add_options(parser)
    return parser


def _defaults(args):
    """What the preset or the run to be resumed says, under the names of the options."""
    if args.resume:
        info = load_checkpoint(args.resume)[2]
        stored = info.get("args")
        if not stored or not info.get("history"):
            raise CheckpointError(f"{args.resume}: holds no training to resume")
        if not {entry.name for entry in fields(Recipe)} <= set(stored):
            raise CheckpointError(
                f"{args.resume}: of an older trainer, whose views of frames were others: start"
                f" from its weights with --init {args.resume}"
            )
        return {**stored, "out": str(Path(args.resume).parent)}
    preset = PRESETS.get(args.preset or args.data or "digits")
    if preset is None:
        # The papers' networks for the papers' data.
        preset = next(preset for preset in PRESETS.values() if preset.data == args.data)
    return {
        "data": preset.data, "arch": preset.arch, "T": preset.T, "neuron": preset.neuron,
        **preset.recipe.to_dict(),
    }


def parse(argv=None):
    """Command-line arguments, the hyper-parameters as ``recipe``."""
    parser = _parser()
    defaults = _defaults(parser.parse_args(argv))
    parser.set_defaults(**defaults)
    args = parser.parse_args(argv)
    if args.resume:
        for name in KEPT:
            if getattr(args, name) != defaults.get(name):
                option = name.replace("_", "-")
                raise TrainingError(f"--resume keeps the run's own --{option}: drop that option")
    elif args.preset and args.data != defaults["data"]:
        raise TrainingError(f"--preset {args.preset} is for --data {defaults['data']}")
    args.recipe = Recipe(**{
        name: getattr(args, name, default) for name, default in Recipe().to_dict().items()
    })
    if args.workers < 0:
        raise TrainingError(f"--workers must be at least 0, got {args.workers}")
    if not 0 <= args.seed < 1 << 32:
        raise TrainingError(f"--seed must be 0 to {(1 << 32) - 1}, got {args.seed}")
    return args


def kept_arguments(args):
    """What a checkpoint keeps of the arguments, and a run that goes on has again."""
    return {name: getattr(args, name) for name in REMEMBERED} | args.recipe.to_dict()


def same_arguments(kept, others):
    """Whether two runs were asked for the same: options that were not given do not count.

    Nor those that a trainer did not have yet.
    """
    return all(kept.get(name) == others.get(name) for name in {*kept, *others})


def describe(args):
    """The network that the arguments ask for."""
    network = networks.load(args.arch)
    if args.no_shortcuts:
        network = networks.without_shortcuts(network)
    changes = {"neuron": args.neuron, "T": args.T}
    return network.replace(**{name: value for name, value in changes.items() if value is not None})


def _check(args, network, train_set, done):
    """TrainingError unless the data fit the network and the processes, and there is work to do."""
    frames, labels = train_set
    if frames.shape[1:] != network.frame_shape:
        raise TrainingError(
            f"{network.name} takes frames of {network.frame_shape}, {args.data} has"
            f" {tuple(frames.shape[1:])}: choose --data or --arch"
        )
    classes, outputs = labels.max().item() + 1, network.layers[-1].channels
    if classes > outputs:
        raise TrainingError(
            f"{network.name} has {outputs} outputs, {args.data} has {classes} classes"
        )
    if done >= args.recipe.epochs:
        raise TrainingError(
            f"{args.resume} has {done} of {args.recipe.epochs} epochs: give more --epochs"
        )
    if args.recipe.batch > len(labels):
        raise TrainingError(
            f"--batch {args.recipe.batch} is more than the {len(labels)} training samples"
        )
    if args.recipe.auto_augment != "none" and frames.shape[-3] not in (1, 3):
        raise TrainingError(
            f"--auto-augment is for images of 1 or 3 channels, {args.data} has {frames.shape[-3]}"
        )
    if args.recipe.batch % processes.number():
        raise TrainingError(
            f"--batch {args.recipe.batch} cannot be shared by {processes.number()} processes"
        )


def train(args):
    """Train as the arguments say. Returns a dict with the last epoch's numbers and the files."""
    recipe = args.recipe
    try:
        device = processes.join()
    except RuntimeError as error:
        raise TrainingError(f"{error}") from error
    if args.resume:
        model, network, info = load_model(args.resume)
    else:
        network = describe(args)
        torch.manual_seed(args.seed)
        model, info = SpikingNetwork(network), {"history": [], "optimizer": {}, "trained": {}}
        if args.init:
            start_from(model, args.init)
    # One process downloads and converts what the others then find.
    with processes.first_alone():
        train_set, test_set = (
            load(args.data, split, args.data_root, network.T) for split in ("train", "test")
        )
    history = info["history"]
    _check(args, network, train_set, len(history))
    teacher = load_teacher(args.teacher, network, device) if args.teacher else None
    model.to(device, memory_format=torch.channels_last)
    average = make_average(model, recipe)
    if info["trained"]:
        model.load_state_dict(info["trained"])
    evaluated = model if average is None else average.module
    optimizer = make_optimizer(model, recipe)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": info["optimizer"], "param_groups": groups})
    views = Views(*train_set, recipe, args.seed)

    name = f"{network.name}-{network.neuron}-T{network.T}-s{args.seed}"
    out = Path(args.out or Path("runs") / name)
    checkpoint, log = out / "checkpoint.safetensors", out / "log.jsonl"
    curves = out / "curves.png"
    if checkpoint.exists() and not (args.resume and checkpoint.samefile(args.resume)):
        raise TrainingError(f"{out} holds a run: --resume {checkpoint}, or choose another --out")
    kept = kept_arguments(args)
    earlier = info.get("earlier", [])
    # Wherever the data lie, they are the same.
    before = {**info.get("args", {}), "data_root": kept["data_root"]}
    if history and not same_arguments(kept, before):
        earlier = [*earlier, {"epochs": len(history), "args": info["args"]}]
    forward = processes.parallel(model, device)
    if args.compile:
        forward = torch.compile(forward)
    if processes.is_first():
        out.mkdir(parents=True, exist_ok=True)
    try:
        for views.epoch in range(len(history), recipe.epochs):
            start = time.perf_counter()
            entry = {"epoch": views.epoch + 1, **train_epoch(
                model, forward, optimizer, views, recipe, args.seed, args.workers, average, teacher
            )}
            entry["test_accuracy"], entry["firing_rates"] = evaluate(
                evaluated, *test_set, recipe.batch, args.workers
            )
            entry["seconds"] = round(time.perf_counter() - start, 2)
            history.append(entry)
            if processes.is_first():
                save_checkpoint(
                    checkpoint, evaluated, optimizer,
                    trained=None if average is None else model.state_dict(),
                    args=kept, earlier=earlier, history=history, machine=_machine(device),
                )
                replace_file(log, "".join(json.dumps(line) + "\n" for line in history))
                _tell(entry)
    finally:
        # Of a run that was stopped, too.
        if history and processes.is_first():
            plot_curves(history, curves)
    return {**history[-1], "checkpoint": str(checkpoint), "log": str(log), "curves": str(curves)}


def _machine(device):
    """What a training was made with, besides its arguments."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"torch": torch.__version__, "processor": processor}


def _tell(entry):
    tqdm.write(
        f"epoch {entry['epoch']:3}  loss {entry['loss']:.4f}"
        f"  train {entry['train_accuracy']:.2%}  test {entry['test_accuracy']:.2%}"
        f"  flips {entry['flip_ratio']:.2%}  {entry['seconds']:.0f} s",
        file=sys.stderr,
    )


def error_line(error):
    """One of ``ERRORS`` for the user. In a worker, all lines but the last say where it was."""
    return f"error: {f'{error}'.strip().splitlines()[-1]}"


def main(argv=None):
    """Command line. Returns the exit status: 0, 2 on an error, 130 after Ctrl-C."""
    try:
        args = parse(argv)
        if args.show:
            shown = {"network": describe(args).to_dict(), "recipe": args.recipe.to_dict()}
            print(json.dumps(shown, indent=2))
            return 0
        result = train(args)
        first = processes.is_first()
    except ERRORS as error:
        print(error_line(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; --resume goes on after the last whole epoch", file=sys.stderr)
        return 130
    finally:
        processes.leave()
    if args.json and first:
        print(json.dumps(result))
    elif first:
        print(f"test accuracy {result['test_accuracy']:.2%}, checkpoint {result['checkpoint']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
