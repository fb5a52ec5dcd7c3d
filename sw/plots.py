"""Training curves as a picture."""

from io import BytesIO

from matplotlib.figure import Figure

from sw.files import replace_file

__all__ = ["plot_curves"]


def plot_curves(history, path):
    """Draw loss, accuracy, flip ratio and firing rates to a PNG at ``path``.

    history: a list of one dict per epoch, as in log.jsonl.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    (loss, accuracy), (flips, rates) = figure.subplots(2, 2)
    epochs = [entry["epoch"] for entry in history]

    def draw(axes, key, label, factor=1):
        axes.plot(epochs, [factor * entry[key] for entry in history], ".-", label=label)

    draw(loss, "loss", "training loss")
    draw(accuracy, "train_accuracy", "train (augmented)", 100)
    draw(accuracy, "test_accuracy", "test", 100)
    draw(flips, "flip_ratio", "per epoch", 100)
    draw(flips, "flip_ratio_per_update", "mean per update", 100)
    for layer, curve in enumerate(zip(*(entry["firing_rates"] for entry in history), strict=True)):
        rates.plot(epochs, [100 * rate for rate in curve], ".-", label=f"layer {layer}")
    # Per epoch and per update differ by orders of magnitude; a run of fp weights has only zeros.
    flips.set_yscale("symlog", linthresh=1e-3)
    flips.set_ylim(bottom=0)
    for axes, title in (
        (loss, "loss"),
        (accuracy, "accuracy, %"),
        (flips, "sign flips, %"),
        (rates, "firing rate after pooling, %"),
    ):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    picture = BytesIO()
    figure.savefig(picture, dpi=110)
    replace_file(path, picture.getvalue())
