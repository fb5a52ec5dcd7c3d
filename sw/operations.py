"""What an inference costs in synaptic operations and energy, counted while it runs.

Operations as NeuroBench counts them: an input that is not 0 meets a weight that is not 0. They are
accumulates (AC) where all inputs of the layer are spikes, else multiply-accumulates (MAC). Padding,
bias, norms, pooling and neurons do not count, nor do products of queries, keys and values. Ours
besides: AGMM takes a MAC for each current, which goes into the mean and is multiplied by the gain.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

from sw.checkpoint import CheckpointError, load_model
from sw.data import DataError, load
from sw.modules import AGMM, BinaryConv2d
from sw.size import size_report

__all__ = [
    "ENERGIES", "Operations", "energy", "main", "operations", "report", "step_accuracies",
]

#: Picojoules of a MAC and of an AC. The first two: Horowitz, ISSCC 2014, 45 nm; multiply and add,
#: add alone. The last fits the AGMM paper's table 2, which does not say where it has them from.
ENERGIES = {
    "45nm-fp32": (4.6, 0.9),
    "45nm-int8": (0.23, 0.03),
    "agmm-table2": (1.69, 0.38),
}


@dataclass(frozen=True)
class Operations:
    """Of a layer and a sample, all time steps: mean counts.

    name: of the layer; ``... shortcut`` for its projection, ``... gain`` for its AGMM. macs, acs:
    one of them is 0. dense: as if no input and no weight were 0. rate: share of the inputs that are
    not 0.
    """

    name: str
    macs: float
    acs: float
    dense: float
    rate: float


def _meetings(module, signal, weight):
    """How many inputs of 1 meet a weight of 1, of inputs and weights of 0 and 1."""
    if isinstance(module, nn.Linear):
        return F.linear(signal, weight).double().sum().item()
    out = F.conv2d(signal, weight, None, module.stride, module.padding)
    return out.double().sum().item()


def _used(module):
    """1 for each weight that is not 0, else 0. 8-bit weights may round to 0; binary ones cannot."""
    if isinstance(module, BinaryConv2d):
        return torch.ones_like(module.weight)
    weight = module.integers if hasattr(module, "integers") else module.weight
    return (weight != 0).float()


@torch.no_grad()
def operations(model, frames, batch=50):
    """List of Operations of a SpikingNetwork: what it does to ``frames``, on average."""
    model.eval()
    device, names = next(model.parameters()).device, {}
    for index, layer in enumerate(model.layers):
        for part, module in layer.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, AGMM)):
                suffix = " shortcut" if part.startswith("shortcut") else ""
                suffix = " gain" if isinstance(module, AGMM) else suffix
                names[module] = model.network.layer_name(index) + suffix
    counts = {name: torch.zeros(4, dtype=torch.float64) for name in names.values()}
    spiking = dict.fromkeys(counts, True)

    def count(module, arguments):
        name, (signal,) = names[module], arguments
        if isinstance(module, AGMM):
            spiking[name], each = False, signal.numel()
            counts[name] += torch.tensor([each, each, each, each], dtype=torch.float64)
            return
        spiking[name] &= bool(((signal == 0) | (signal == 1)).all())
        active, used = (signal != 0).float(), _used(module)
        counts[name] += torch.tensor([
            _meetings(module, active, used),
            _meetings(module, torch.ones_like(active), torch.ones_like(used)),
            active.double().sum(), active.numel(),
        ], dtype=torch.float64)

    hooks = [module.register_forward_pre_hook(count) for module in names]
    try:
        for chunk in frames.split(batch):
            model(chunk.to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Operations(
            name, 0.0 if spiking[name] else met / len(frames),
            met / len(frames) if spiking[name] else 0.0, dense / len(frames), active / total,
        )
        for name, (met, dense, active, total) in (
            (name, values.tolist()) for name, values in counts.items()
        )
    ]


def energy(layers, preset):
    """Joules of a sample, of the operations alone: no memory, no wires. preset: of ``ENERGIES``."""
    mac, ac = ENERGIES[preset]
    return 1e-12 * sum(mac * layer.macs + ac * layer.acs for layer in layers)


def step_accuracies(model, frames, labels, batch=50):
    """Accuracy of the mean logits of the first 1, 2, ... T time steps: an ensemble that grows."""
    right = torch.zeros(model.network.T, dtype=torch.int64)
    device = next(model.parameters()).device
    with torch.no_grad():
        for x, y in zip(frames.split(batch), labels.split(batch), strict=True):
            right += (model.eval()(x.to(device)).cumsum(0).argmax(2).cpu() == y).sum(1)
    return (right / len(labels)).tolist()


def report(model, frames, labels):
    """All of it as a JSON-able dict."""
    layers, size = operations(model, frames), size_report(model)
    return {
        "network": model.network.name, "neuron": model.network.neuron, "T": model.network.T,
        "frames": len(frames),
        "parameters": size.parameters, "fp32_bytes": size.fp32_bytes,
        "packed_bytes": size.packed_bytes,
        "layers": [asdict(layer) for layer in layers],
        "energy_mj": {preset: 1e3 * energy(layers, preset) for preset in ENERGIES},
        "step_accuracies": step_accuracies(model, frames, labels),
    }


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m sw.operations",
        description="Counts the synaptic operations of a trained network on test frames, and tells"
        " its size, its energy under named presets and its accuracy after each time step.",
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="what python sw/train.py wrote")
    add("-n", "--images", type=int, default=200, metavar="N", help="test frames (default: 200)")
    add("--data-root", metavar="DIR", help="folder of the dataset's files, if not found by itself")
    add("--json", action="store_true", help="one line of JSON")
    args = parser.parse_args(argv)
    try:
        if args.images < 1:
            raise DataError(f"--images must be at least 1, got {args.images}")
        model, network, info = load_model(args.checkpoint)
        if not info.get("args"):
            raise CheckpointError(f"{args.checkpoint}: holds no training, so no data to run")
        frames, labels = load(info["args"]["data"], "test", args.data_root, network.T)
        chosen = torch.arange(min(args.images, len(labels)))
        result = report(model, frames[chosen], labels[chosen])
    except (CheckpointError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(result))
        return 0
    print(f"{'layer':<24}{'dense':>14}{'MAC':>14}{'AC':>14}{'active inputs':>16}")
    for layer in result["layers"]:
        print(
            f"{layer['name']:<24}{layer['dense']:>14,.0f}{layer['macs']:>14,.0f}"
            f"{layer['acs']:>14,.0f}{layer['rate']:>16.1%}"
        )
    print(f"\n{size_report(model)}")
    for preset, millijoules in result["energy_mj"].items():
        print(f"{millijoules:.6f} mJ a sample with {preset}: operations alone, no memory, no wires")
    steps = ", ".join(f"{accuracy:.2%}" for accuracy in result["step_accuracies"])
    print(f"accuracy after 1 to {network.T} time steps: {steps} of {result['frames']} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
