"""What the command lines of experiments have in common."""

import argparse
import shlex
import sys
from pathlib import Path

from sw.cluster import ClusterError, add_options
from sw.networks import load
from sw.train import ERRORS, error_line, parse
from sw.training import TrainingError

__all__ = ["execute", "make_parser"]


def make_parser(module, **texts):
    """A parser with the options that all have; behind ``--`` are those of sw/train.py."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", formatter_class=argparse.RawDescriptionHelpFormatter, **texts
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs of each network (default: 3)"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR",
        help="of runs and results (default: runs/experiments-<network>)",
    )
    add_options(parser, "trainings")
    return parser


def execute(parser, argv, work):
    """Exit status of ``work(args, options, command)``: 0, 2 after a line on stderr, 130 on Ctrl-C.

    options: words behind ``--``. command: what the user typed, to be kept with the results.
    """
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    args, options = parser.parse_args(words[:end]), words[end + 1 :]
    try:
        if args.seeds < 1:
            raise TrainingError(f"--seeds must be at least 1, got {args.seeds}")
        network = load(parse(options).arch)
        args.folder = args.folder or Path("runs") / f"experiments-{network.name}"
        work(args, options, f"{parser.prog} {shlex.join(words)}")
    except (*ERRORS, ClusterError) as error:
        print(error_line(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    return 0
