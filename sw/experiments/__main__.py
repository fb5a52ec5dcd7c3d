"""Regenerates the AGMM paper's figures and tables on the data at hand, as PNG and markdown.

Networks are trained where they have not been; what was cut off goes on when called again.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sw.data import load
from sw.experiments import figures, tables
from sw.experiments.report import make_report
from sw.experiments.runs import run
from sw.files import replace_file
from sw.networks import load as load_network
from sw.train import ERRORS, error_line
from sw.train import parse as parse_training
from sw.training import TrainingError

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


def main(argv=None):
    """Exit status 0, 2 after one line on stderr, or 130 after Ctrl-C."""
    listed = "\n".join(f"  {name:<10}{it.what}" for name, it in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m sw.experiments", description=__doc__.split("\n\n")[0],
        usage="%(prog)s [options] EXPERIMENT ... [-- OPTIONS OF sw/train.py]",
        epilog=f"experiments:\n{listed}\n\nexample:\n"
        "  python -m sw.experiments fig6 table1 -- --data digit-saccades --epochs 5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="+", choices=[*EXPERIMENTS, "all"], metavar="EXPERIMENT", help="or all")
    add("--seeds", type=int, default=3, metavar="N", help="runs of each network (default: 3)")
    add("--folder", type=Path, metavar="DIR",
        help="of runs and results (default: runs/experiments-<network>)")
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    args, options = parser.parse_args(words[:end]), words[end + 1 :]
    names = list(EXPERIMENTS) if "all" in args.names else args.names
    try:
        if args.seeds < 1:
            raise TrainingError(f"--seeds must be at least 1, got {args.seeds}")
        training = parse_training(options)
        network = load_network(training.arch)
        folder = args.folder or Path("runs") / f"experiments-{network.name}"
        test = load(training.data, "test", training.data_root, training.T or network.T)
        for name in names:
            runs = {
                variant: [run(variant, seed, folder, options) for seed in range(args.seeds)]
                for variant in EXPERIMENTS[name].variants
            }
            command = shlex.join(["python", "-m", "sw.experiments", *words])
            _make(name, runs, test, folder, command)
            print(f"{folder / name}.md")
    except ERRORS as error:
        print(error_line(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
