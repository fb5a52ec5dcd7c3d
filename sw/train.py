"""Train a network: surrogate gradients through time, binary weights from the first step.

The loss is TET: cross-entropy averaged over the time steps. Everything random in epoch e is drawn
from a generator seeded with (seed, e), so a resumed run repeats an uninterrupted one exactly.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

from sw import networks
from sw.checkpoint import CheckpointError, load_checkpoint, load_model, save_checkpoint
from sw.data import DATASETS, DataError, augment, load
from sw.files import replace_file
from sw.layers import NEURONS, LayerError
from sw.model import SpikingNetwork
from sw.plots import plot_curves

__all__ = ["TrainingError", "evaluate", "main", "train"]

EPILOG = """examples:
  python sw/train.py                                    digits, in a minute
  python sw/train.py --data fashion-mnist --precision bf16     the network of the iCE40 demo
  python sw/train.py --neuron vanilla --seed 1          the same without AGMM
  python sw/train.py --arch my.py:net --data digits     a network of your own
  python sw/train.py --resume runs/x/checkpoint.safetensors --epochs 40

The output folder gets checkpoint.safetensors (always of the last whole epoch), log.jsonl (one line
per epoch) and curves.png. Next step: python sw/export.py FOLDER/checkpoint.safetensors

Where other jobs keep the cores busy, set OMP_NUM_THREADS=1: threads that wait for each other on a
shared core are many times slower."""


#: By dataset; 100 for the others.
EPOCHS = {"digits": 20, "digit-saccades": 20, "fashion-mnist": 16}


class TrainingError(ValueError):
    """A training that cannot start or go on, in one line."""


def parse(argv=None):
    """Command-line arguments; with --resume, the run's own are the defaults."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__.split("\n\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--arch", help="built-in network, or file.py:function; default: named like --data")
    add("--data", choices=DATASETS, default="digits", help="dataset (default: digits)")
    add("--data-root", metavar="DIR", help="folder of the dataset's files, if not found by itself")
    add("--neuron", choices=NEURONS, help="agmm, vanilla (no gain) or fp (real weights)")
    add("--T", type=int, help="time steps, 1 to 16 (default: the network's)")
    add("--epochs", type=int, help="default: 20 for the digits, 16 for"
        " fashion-mnist, else 100")
    add("--batch", type=int, default=64, help="images per update (default: 64)")
    add("--lr", type=float, default=2e-3, help="first learning rate of AdamW (default: 2e-3)")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of training, evaluation is fp32; bf16 is twice as fast on CPUs with AMX"
        " (default: fp32)",
    )
    add("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    add("--out", metavar="DIR", help="default: runs/<network>-<neuron>-T<T>-s<seed>")
    add("--resume", metavar="CHECKPOINT", help="go on with a run, with its own arguments")
    add("--json", action="store_true", help="end with one line of JSON on stdout")
    args = parser.parse_args(argv)
    if args.resume:
        info = load_checkpoint(args.resume)[2]
        stored = info.get("args")
        if not stored or not info.get("history") or not info["optimizer"]:
            raise CheckpointError(f"{args.resume}: holds no training to resume")
        parser.set_defaults(**stored, out=str(Path(args.resume).parent))
        args = parser.parse_args(argv)
        for name in ("arch", "data", "neuron", "T"):
            if getattr(args, name) != stored.get(name):
                raise TrainingError(f"--resume keeps the run's own --{name}: drop that option")
    if args.epochs is None:
        args.epochs = EPOCHS.get(args.data, 100)
    if min(args.epochs, args.batch) < 1 or not args.lr > 0:
        raise TrainingError("--epochs, --batch and --lr must be positive")
    if not 0 <= args.seed < 1 << 32:
        raise TrainingError(f"--seed must be 0 to {(1 << 32) - 1}, got {args.seed}")
    return args


def describe(args):
    """The network that the arguments ask for."""
    network = networks.load(args.arch or args.data)
    changes = {"neuron": args.neuron, "T": args.T}
    return network.replace(**{name: value for name, value in changes.items() if value is not None})


def make_optimizer(model, lr):
    """AdamW; only weights decay, not norms, gains and biases.

    The papers' SGD (0.1, momentum 0.9) is slower in few epochs: after the 20 of digits its loss is
    0.215 and its test accuracy 98.6 %, against 0.063 and 99.7 %.
    """
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


@torch.no_grad()
def evaluate(model, images, labels, batch=500):
    """Accuracy (0 to 1) and the firing rate of every layer but the last, in fp32."""
    model.eval()
    correct, rates = 0, 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        logits, spikes = model(x, record=True)
        correct += (logits.mean(0).argmax(1) == y).sum().item()
        rates = rates + torch.stack([s.mean() for s in spikes]) * len(y)
    return correct / len(labels), (rates / len(labels)).tolist()


def weight_signs(model):
    """Signs of the weights between stem and readout, binary or not, True for +1; no shortcuts'."""
    return [layer.conv.weight.detach() >= 0 for layer in model.layers[1:-1]]


def flip_ratio(before, after):
    """Share of weights whose sign differs (eq. 8); 0 for a network without a Conv."""
    flips = sum((a != b).sum().item() for a, b in zip(before, after, strict=True))
    return flips / max(1, sum(a.numel() for a in before))


def train_epoch(model, optimizer, images, labels, args, epoch):
    """One pass over the training images. Returns a dict of loss, accuracy, flip ratios, lr."""
    model.train()
    device = images.device
    generator = torch.Generator().manual_seed(args.seed * 1_000_003 + epoch)
    steps = max(1, len(labels) // args.batch)
    order = torch.randperm(len(labels), generator=generator)[: steps * args.batch]
    first = signs = weight_signs(model)
    loss_sum = correct = flips = 0
    progress = tqdm(
        order.split(args.batch), f"epoch {epoch + 1}/{args.epochs}", leave=False, disable=None
    )
    for step, chosen in enumerate(progress):
        lr = args.lr * 0.5 * (1 + math.cos(math.pi * (epoch + step / steps) / args.epochs))
        for group in optimizer.param_groups:
            group["lr"] = lr
        x = augment(args.data, images[chosen].cpu(), generator).to(device)
        y = labels[chosen]
        with torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16"):
            logits = model(x)
        logits = logits.float()
        loss = F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)))
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {epoch + 1}: try a smaller --lr than {args.lr}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        loss_sum += loss.item() * len(y)
        correct += (logits.mean(0).argmax(1) == y).sum().item()
        signs, before = weight_signs(model), signs
        flips += flip_ratio(before, signs)
        progress.set_postfix(loss=f"{loss.item():.3f}")
    return {
        "loss": loss_sum / len(order),
        "train_accuracy": correct / len(order),
        "flip_ratio": flip_ratio(first, signs),
        "flip_ratio_per_update": flips / steps,
        "lr": lr,
    }


def train(args):
    """Train as the arguments say. Returns a dict with the last epoch's numbers and the files."""
    if args.resume:
        model, network, info = load_model(args.resume)
    else:
        network = describe(args)
        torch.manual_seed(args.seed)
        model, info = SpikingNetwork(network), {"history": [], "optimizer": {}}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_set, test_set = (
        [tensor.to(device) for tensor in load(args.data, split, args.data_root, network.T)]
        for split in ("train", "test")
    )
    if train_set[0].shape[1:] != network.frame_shape:
        raise TrainingError(
            f"{network.name} takes frames of {network.frame_shape}, {args.data} has"
            f" {tuple(train_set[0].shape[1:])}: choose --data or --arch"
        )
    classes, outputs = train_set[1].max().item() + 1, network.layers[-1].channels
    if classes > outputs:
        raise TrainingError(
            f"{network.name} has {outputs} outputs, {args.data} has {classes} classes"
        )
    model.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model, args.lr)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": info["optimizer"], "param_groups": groups})
    history = info["history"]

    name = f"{network.name}-{network.neuron}-T{network.T}-s{args.seed}"
    out = Path(args.out or Path("runs") / name)
    checkpoint, log = out / "checkpoint.safetensors", out / "log.jsonl"
    curves = out / "curves.png"
    if checkpoint.exists() and not args.resume:
        raise TrainingError(f"{out} holds a run: --resume {checkpoint}, or choose another --out")
    if len(history) >= args.epochs:
        raise TrainingError(
            f"{args.resume} has {len(history)} of {args.epochs} epochs: give more --epochs"
        )
    out.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in vars(args).items() if key not in ("out", "resume", "json")}
    earlier = info.get("earlier", [])
    # Wherever the data lie, they are the same.
    if history and {**kept, "data_root": None} != {**info["args"], "data_root": None}:
        earlier = [*earlier, {"epochs": len(history), "args": info["args"]}]
    try:
        for epoch in range(len(history), args.epochs):
            start = time.perf_counter()
            entry = {"epoch": epoch + 1, **train_epoch(model, optimizer, *train_set, args, epoch)}
            entry["test_accuracy"], entry["firing_rates"] = evaluate(model, *test_set)
            entry["seconds"] = round(time.perf_counter() - start, 2)
            history.append(entry)
            save_checkpoint(
                checkpoint, model, optimizer, args=kept, earlier=earlier, history=history
            )
            replace_file(log, "".join(json.dumps(line) + "\n" for line in history))
            tqdm.write(
                f"epoch {epoch + 1:3}  loss {entry['loss']:.4f}"
                f"  train {entry['train_accuracy']:.2%}  test {entry['test_accuracy']:.2%}"
                f"  flips {entry['flip_ratio']:.2%}  {entry['seconds']:.0f} s",
                file=sys.stderr,
            )
    finally:
        # Of a run that was stopped, too.
        if history:
            plot_curves(history, curves)
    return {**history[-1], "checkpoint": str(checkpoint), "log": str(log), "curves": str(curves)}


def main(argv=None):
    """Command line. Returns the exit status: 0, 2 on an error, 130 after Ctrl-C."""
    try:
        args = parse(argv)
        result = train(args)
    except (CheckpointError, DataError, LayerError, TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; --resume goes on after the last whole epoch", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(result))
    else:
        print(f"test accuracy {result['test_accuracy']:.2%}, checkpoint {result['checkpoint']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
