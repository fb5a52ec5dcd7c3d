"""Tables 1 and 2 of the AGMM paper, and the figures' numbers, in markdown."""

import statistics

from sw.checkpoint import load_model
from sw.experiments.figures import DEVICE
from sw.experiments.variants import VARIANTS
from sw.operations import ENERGIES, energy, operations
from sw.size import size_report

__all__ = ["accuracy", "costs", "markdown", "spread"]

#: Test frames that operations are counted on.
FRAMES = 200


def markdown(header, rows):
    """A table of words."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values, digits=2):
    """Mean, and the range that the seeds span."""
    mean, low, high = (f"{of(values):.{digits}f}" for of in (statistics.mean, min, max))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def accuracy(runs, test):
    """Test accuracy after the last epoch, and flips over all epochs, by variant: table 1."""
    rows = []
    for variant, group in runs.items():
        flips = [100 * statistics.mean(e["flip_ratio"] for e in run.history) for run in group]
        updates = [
            1e4 * statistics.mean(e["flip_ratio_per_update"] for e in run.history) for run in group
        ]
        rows.append((
            VARIANTS[variant].name, f"{len(group)}",
            spread([100 * run.history[-1]["test_accuracy"] for run in group]),
            spread([100 * run.history[-1]["train_accuracy"] for run in group]),
            spread(flips), spread(updates),
        ))
    return markdown(
        ("network", "seeds", "test accuracy, %", "training accuracy, %", "flips an epoch, %",
         "flips an update, in 10,000"), rows,
    )


def costs(runs, test):
    """Size, operations and energy of the first run of each variant: table 2."""
    rows = []
    for variant, (first, *_) in runs.items():
        model = load_model(first.checkpoint)[0].to(DEVICE)
        layers, size = operations(model, test[0][:FRAMES]), size_report(model)
        rows.append((
            VARIANTS[variant].name, f"{size.packed_bytes / 1e6:.3f}",
            f"{sum(layer.acs for layer in layers) / 1e6:.3f}",
            f"{sum(layer.macs for layer in layers) / 1e6:.3f}",
            *(f"{1e6 * energy(layers, preset):.3f}" for preset in ENERGIES),
        ))
    return markdown(
        ("network", "size, MB", "AC, M", "MAC, M", *(f"µJ, {preset}" for preset in ENERGIES)), rows
    )
