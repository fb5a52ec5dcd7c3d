"""Regenerates the AGMM paper's figures and tables on the data at hand, as PNG and markdown.

Networks are trained where they have not been; what was cut off goes on when called again.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass

from sw.data import load
from sw.experiments import figures, tables
from sw.experiments.command import execute, make_parser
from sw.experiments.report import make_report
from sw.experiments.runs import run_all, train_all
from sw.files import replace_file
from sw.networks import load as load_network
from sw.train import parse

__all__ = ["EXPERIMENTS", "Experiment", "main"]

@dataclass(frozen=True)
class Experiment:
    """variants: whose runs it takes. draws: its picture, or None. lists: its table."""

    what: str
    variants: tuple
    draws: Callable | None = None
    lists: Callable = tables.accuracy


EXPERIMENTS = {
    "fig1": Experiment(
        "flip ratio and accuracy, binary and real weights", ("vanilla", "fp"), figures.training
    ),
    "fig2": Experiment(
        "loss landscape, real and binary weights", ("fp", "vanilla"), figures.landscapes
    ),
    "fig6": Experiment(
        "flip ratio and accuracy, with AGMM and without", ("fp", "vanilla", "agmm"),
        figures.training,
    ),
    "fig7": Experiment(
        "loss landscape, with AGMM and without", ("vanilla", "agmm"), figures.landscapes
    ),
    "fig8": Experiment(
        "firing rate of every layer, with AGMM and without", ("vanilla", "agmm"), figures.rates
    ),
    "table1": Experiment("accuracy", ("fp", "agmm", "vanilla")),
    "table2": Experiment(
        "size, operations and energy", ("fp", "vanilla", "agmm"), lists=tables.costs
    ),
    "ablation": Experiment(
        "what of AGMM does it", ("vanilla", "half", "scalar", "agmm", "fp"), figures.training
    ),
    "half": Experiment(
        "AGMM beside a constant gain", ("vanilla", "half", "agmm", "fp"), figures.training
    ),
    "sei": Experiment(
        "shortcuts and a teacher, as in SEI-BWSNN",
        ("fp", "plain", "plain-taught", "agmm", "taught"), figures.training,
    ),
}


def _make(name, runs, test, out, command):
    """Writes ``out``/<name>.md, its numbers as .json, and .png if it is a figure."""
    experiment, link = EXPERIMENTS[name], ""
    if experiment.draws is not None:
        experiment.draws(runs, test, out / f"{name}.png")
        link = f"![{name}]({name}.png)\n\n"
    args = next(iter(runs.values()))[0].args
    words = json.dumps({key: value for key, value in args.items() if value is not None})
    replace_file(
        out / f"{name}.md",
        f"# {name}: {experiment.what}\n\n{link}{experiment.lists(runs, test)}\n"
        "First and last layers have 8-bit weights, those of FP-SNN too. The first run:"
        f" `{words}`\n",
    )
    replace_file(out / f"{name}.json", json.dumps(make_report(name, runs, command)) + "\n")


def _work(args, options, command):
    training = parse(options)
    network = load_network(training.arch)
    test = load(training.data, "test", training.data_root, training.T or network.T)
    names = list(EXPERIMENTS) if "all" in args.names else args.names
    train_all([
        (variant, seed, args.folder, options)
        for name in names for variant in EXPERIMENTS[name].variants for seed in range(args.seeds)
    ], args.jobs, args.cluster)
    for name in names:
        runs = run_all(EXPERIMENTS[name].variants, args.seeds, args.folder, options)
        _make(name, runs, test, args.folder, command)
        print(f"{args.folder / name}.md")


def main(argv=None):
    """Command line. Returns the exit status."""
    listed = "\n".join(f"  {name:<10}{it.what}" for name, it in EXPERIMENTS.items())
    parser = make_parser(
        "sw.experiments", description=__doc__.split("\n\n")[0],
        usage="%(prog)s [options] EXPERIMENT ... [-- OPTIONS OF sw/train.py]",
        epilog=f"experiments:\n{listed}\n\nexample:\n"
        "  python -m sw.experiments fig6 table1 -- --data digit-saccades --epochs 5",
    )
    parser.add_argument(
        "names", nargs="+", choices=[*EXPERIMENTS, "all"], metavar="EXPERIMENT", help="or all"
    )
    return execute(parser, argv, _work)


if __name__ == "__main__":
    sys.exit(main())
