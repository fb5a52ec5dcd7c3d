"""What the command lines of builds have in common: a board, a network, and an engine for it."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from hw.boards import BOARDS, find_board
from hw.clock import ClockError
from hw.fit import add_options, fitted
from hw.report import TimingError
from hw.tools import BuildError
from hw.uart import BaudError
from sw import image as network_image
from sw.engine import EngineError
from sw.image import ImageError

__all__ = ["DEFAULT_MODEL", "build_fitted", "command_line", "megahertz"]

DEFAULT_MODEL = Path("models/fashion-mnist.bsnn")

#: Clocks that are tried, and how much faster than the next one a design must have been.
TRIES = 3
MARGIN = 0.97


def megahertz(text):
    """A clock of the command line, for argparse."""
    value = float(text)
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text} is no clock in MHz")
    return value


def _slower(board, reached_hz):
    """The fastest clock of whole MHz that a design reaches with some room, or None."""
    for clock_mhz in range(int(MARGIN * reached_hz / 1e6), 0, -1):
        with contextlib.suppress(ClockError, BaudError):
            board.clock_generator(clock_mhz * 1_000_000)
            return clock_mhz * 1_000_000
    return None


def build_fitted(work, board, image, fps=None, **options):
    """``work``, as ``build``, with the engine that ``hw.fit`` finds, at the clock that it reaches.

    That is the board's or, if it is missed, a slower one, for which an engine is found anew. Raises
    what ``work`` and ``fit`` raise: TimingError if it is missed TRIES times.
    """
    def attempt(clock_hz):
        chosen = fitted(board, image, "fit", clock_hz, fps)
        return work(chosen, image, clock_hz=clock_hz, **options)

    clock_hz = None
    for _ in range(TRIES - 1):
        try:
            return attempt(clock_hz)
        except TimingError as missed:
            tried, clock_hz = clock_hz or board.clock_hz, _slower(board, missed.reached_hz)
            # It may have been another clock of the design.
            if clock_hz is None or clock_hz >= tried:
                raise
            print(f"{missed}; now with {clock_hz / 1e6:g} MHz", file=sys.stderr)
    return attempt(clock_hz)


def _parse(prog, description, engine, argv):
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description.split("\n\n")[0],
        epilog=f"boards: {', '.join(BOARDS)}",
    )
    add = parser.add_argument
    add("board", help="which board")
    add("--model", type=Path, default=DEFAULT_MODEL, metavar="FILE",
        help=f"network image that it is for (default: {DEFAULT_MODEL})")
    add_options(parser, engine)
    add("--clock", type=megahertz, metavar="MHZ",
        help="of the design (default: the board's, or a slower one that --engine fit reaches)")
    add("--seed", type=int, help="of placement (default: the board's)")
    add("--out", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    add("--json", action="store_true", help="end with the report on stdout, in one line")
    return parser.parse_args(argv)


def _print_report(path, report):
    """The figures that matter, in two lines."""
    occupancy = ", ".join(
        f"{cells['used']} of {cells['available']} {name}"
        for name, cells in report["occupancy"].items()
    )
    print(f"{path}: {occupancy}")
    print(
        f"{report['fmax_mhz']:.1f} MHz reached, {report['clock_mhz']:g} MHz used:"
        f" {report['model']} at {report['frames_per_s']:.1f} frames/s (T={report['T']})"
    )


def command_line(prog, description, work, folder, engine, argv):
    """What the command ``prog`` does: ``work``, as ``build``, which leaves it in ``folder``.

    engine: "fit" or "board", unless the user wants the other. Exit status 0, 2 after one line on
    stderr, or 130 after Ctrl-C.
    """
    args = _parse(prog, description, engine, argv)
    arguments = sys.argv[1:] if argv is None else argv
    try:
        board = find_board(args.board)
        image = network_image.load(args.model)
        options = dict(
            seed=args.seed, out=args.out, command=" ".join([prog, *map(str, arguments)])
        )
        if args.engine == "fit" and args.clock is None:
            report = build_fitted(work, board, image, args.fps, **options)
        else:
            clock_hz = args.clock and round(args.clock * 1e6)
            board = fitted(board, image, args.engine, clock_hz, args.fps)
            report = work(board, image, clock_hz=clock_hz, **options)
    except (BuildError, BaudError, ClockError, EngineError, ImageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; an earlier build is kept", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(report))
    else:
        _print_report(folder(board, args.out) / report["bitstream"], report)
    return 0
