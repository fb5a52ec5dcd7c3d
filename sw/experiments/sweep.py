"""Over learning rates and time steps: what AGMM adds to no gain, and to a constant one.

The search for where the paper's order of accuracies appears, and where not.
"""

import json
import statistics
import sys
from itertools import product

from matplotlib.figure import Figure

from sw.experiments.command import execute, make_parser
from sw.experiments.figures import band, save
from sw.experiments.report import make_report
from sw.experiments.runs import run_all, train_all
from sw.experiments.tables import markdown, spread
from sw.experiments.variants import VARIANTS
from sw.files import replace_file

__all__ = ["draw", "main", "make_sweep", "table"]

COMPARED = ("vanilla", "half", "agmm")
BASES = {"vanilla": "no gain", "half": "a gain of 1/2"}


def _numbers(run):
    """Of a finished training, what the table needs."""
    return {
        "test_accuracy": run.history[-1]["test_accuracy"],
        "flip_ratio": statistics.mean(entry["flip_ratio"] for entry in run.history),
        "machine": run.machine,
    }


def make_sweep(settings, command):
    """A dict for JSON. settings: pairs of options (a dict) and runs, lists of Run by variant.

    The first setting's runs are kept whole, as ``make_report`` does.
    """
    return {**make_report("sweep", settings[0][1], command), "settings": [
        {"options": options, "runs": {
            variant: [_numbers(run) for run in group] for variant, group in runs.items()
        }} for options, runs in settings
    ]}


def _percent(setting, variant, key="test_accuracy"):
    return [100 * run[key] for run in setting["runs"][variant]]


def _gained(setting, base):
    """Accuracy of AGMM less that of ``base``, in percent, for each seed."""
    pairs = zip(_percent(setting, "agmm"), _percent(setting, base), strict=True)
    return [ours - theirs for ours, theirs in pairs]


def table(report):
    """Accuracy of each network, what AGMM adds for the same seed, and flips, by setting."""
    rows = []
    for setting in report["settings"]:
        flips = [statistics.mean(_percent(setting, name, "flip_ratio")) for name in COMPARED]
        rows.append((
            *(f"{value:g}" for value in setting["options"].values()),
            f"{len(setting['runs']['agmm'])}",
            *(spread(_percent(setting, variant)) for variant in COMPARED),
            *(spread(_gained(setting, base)) for base in BASES),
            *(f"{flip:.2f}" for flip in flips),
        ))
    names = [VARIANTS[variant].name for variant in COMPARED]
    return markdown(
        (*report["settings"][0]["options"], "seeds", *(f"{name}, %" for name in names),
         *(f"AGMM less {about}" for about in BASES.values()),
         *(f"flips an epoch, {name}, %" for name in names)), rows,
    )


def draw(report, path):
    """The error of each network over the learning rate, a picture for each number of time steps."""
    by_steps = {}
    for setting in report["settings"]:
        by_steps.setdefault(setting["options"].get("T"), []).append(setting)
    figure = Figure(figsize=(10, 4), layout="constrained")
    pictures = figure.subplots(1, len(by_steps), sharey=True, squeeze=False)[0]
    for axes, (T, settings) in zip(pictures, by_steps.items(), strict=True):
        settings = sorted(settings, key=lambda setting: setting["options"]["lr"])
        rates = [setting["options"]["lr"] for setting in settings]
        for variant in COMPARED:
            errors = [[100 - right for right in _percent(one, variant)] for one in settings]
            name, colour = VARIANTS[variant].name, VARIANTS[variant].colour
            band(axes, rates, list(zip(*errors, strict=True)), "o-", name, colour)
        axes.set(title="" if T is None else f"T={T}", xlabel="learning rate", xscale="log",
                 ylabel="test error, %", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
    save(figure, path)


def _work(args, options, command):
    plans = []
    for T, lr in product(args.T or [None], args.lr):
        setting = {"lr": lr} if T is None else {"T": T, "lr": lr}
        folder = args.folder / "-".join(f"{name}{value:g}" for name, value in setting.items())
        words = [*options, *(f"--{name}={value}" for name, value in setting.items())]
        plans.append((setting, folder, words))
    train_all([
        (variant, seed, folder, words)
        for _, folder, words in plans for variant in COMPARED for seed in range(args.seeds)
    ], args.jobs, args.cluster)
    settings = [
        (setting, run_all(COMPARED, args.seeds, folder, words))
        for setting, folder, words in plans
    ]
    report = make_sweep(settings, command)
    draw(report, args.folder / "sweep.png")
    replace_file(args.folder / "sweep.md", f"# Sweep\n\n![sweep](sweep.png)\n\n{table(report)}")
    replace_file(args.folder / "sweep.json", json.dumps(report) + "\n")
    print(f"{args.folder / 'sweep.md'}")


def main(argv=None):
    """Command line. Returns the exit status."""
    parser = make_parser(
        "sw.experiments.sweep", description=__doc__.split("\n\n")[0],
        usage="%(prog)s [options] --lr LR ... [-- OPTIONS OF sw/train.py]",
        epilog="example:\n  python -m sw.experiments.sweep --lr 0.03 0.1 0.3 --T 2 4 --"
        " --data digit-saccades --optimizer sgd",
    )
    parser.add_argument("--lr", nargs="+", type=float, required=True, help="learning rates")
    parser.add_argument("--T", nargs="+", type=int, help="time steps (default: the network's)")
    return execute(parser, argv, _work)


if __name__ == "__main__":
    sys.exit(main())
