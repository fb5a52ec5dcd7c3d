"""Figures 1, 2, 6, 7 and 8 of the AGMM paper."""

from io import BytesIO

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from sw.checkpoint import load_model
from sw.experiments.variants import VARIANTS
from sw.files import replace_file
from sw.landscape import landscape
from sw.recipe import Recipe

__all__ = ["DEVICE", "band", "landscapes", "rates", "save", "training"]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

#: Of a landscape: points a side, and test frames that the loss is taken over.
POINTS, FRAMES = 21, 500


def save(figure, path):
    """Writes a figure as PNG."""
    picture = BytesIO()
    figure.savefig(picture, dpi=120)
    replace_file(path, picture.getvalue())


def band(axes, places, curves, style, label, colour):
    """The mean of ``curves``, one for each seed, and the range that they span."""
    curves = np.asarray(curves)
    axes.plot(places, curves.mean(0), style, color=colour, label=label)
    axes.fill_between(places, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)


def _curves(axes, runs, key, style, label, colour):
    """A log's ``key`` over the epochs, in percent."""
    curves = [[100 * entry[key] for entry in run.history] for run in runs]
    band(axes, range(1, len(curves[0]) + 1), curves, style, label, colour)


def training(runs, test, path):
    """Flip ratio (eq. 8), and accuracy, of runs by variant: figures 1 and 6."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    flips, accuracy = figure.subplots(1, 2)
    for variant, group in runs.items():
        name, colour = VARIANTS[variant].name, VARIANTS[variant].colour
        _curves(flips, group, "flip_ratio", "-", name, colour)
        _curves(accuracy, group, "train_accuracy", "-", f"{name}, train", colour)
        _curves(accuracy, group, "test_accuracy", ":", f"{name}, test", colour)
    flips.set(title="sign flips in an epoch, %", xlabel="epoch", yscale="symlog")
    accuracy.set(title="accuracy, %", xlabel="epoch")
    for axes in (flips, accuracy):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, path)


def landscapes(runs, test, path):
    """The loss around the first run of each variant: figures 2 and 7."""
    frames, labels = (tensor[:FRAMES] for tensor in test)
    losses = {}
    for variant, (first, *_) in runs.items():
        name, model = VARIANTS[variant].name, load_model(first.checkpoint)[0].to(DEVICE)
        with tqdm(total=POINTS**2, desc=name, leave=False, disable=None) as bar:
            losses[name] = landscape(
                model, frames, labels, Recipe(), POINTS, tick=bar.update
            ).numpy()
    figure = Figure(figsize=(5 * len(losses), 4.5), layout="constrained")
    every = np.stack([*losses.values()])
    levels, places = np.linspace(every.min(), every.max(), 25), np.linspace(-1, 1, POINTS)
    for axes, (name, loss) in zip(
        figure.subplots(1, len(losses), squeeze=False)[0], losses.items(), strict=True
    ):
        drawn = axes.contourf(places, places, loss, levels, cmap="viridis")
        axes.contour(places, places, loss, levels, colors="white", linewidths=0.4)
        axes.set(title=f"{name}: {loss[POINTS // 2, POINTS // 2]:.3f} in the middle")
        axes.set_aspect("equal")
    figure.colorbar(drawn, ax=figure.axes, label="loss on test frames")
    save(figure, path)


def rates(runs, test, path):
    """Share of spikes behind each layer at the end of training: figure 8."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for place, (variant, group) in enumerate(runs.items()):
        each = np.array([[100 * r for r in run.history[-1]["firing_rates"]] for run in group])
        layers = np.arange(each.shape[1]) + (place - (len(runs) - 1) / 2) * 0.8 / len(runs)
        spread = [each.mean(0) - each.min(0), each.max(0) - each.mean(0)]
        axes.bar(
            layers, each.mean(0), 0.8 / len(runs), yerr=spread,
            label=VARIANTS[variant].name, color=VARIANTS[variant].colour,
        )
    axes.set(xlabel="layer", ylabel="firing rate behind it, %")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    save(figure, path)
