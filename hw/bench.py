"""Builds the boards and reports the networks that README tells the figures of."""

import argparse
import json
import sys
from pathlib import Path

from hw.boards import BOARDS
from hw.build import build
from hw.clock import ClockError
from hw.report import network_report
from hw.tools import BuildError
from hw.uart import BaudError
from sw import image
from sw.engine import EngineError
from sw.files import replace_file
from sw.image import ImageError
from sw.program import compile_program

__all__ = ["NETWORKS", "bench", "main"]

#: Networks of each board; the bitstream is the same for all of them.
NETWORKS = {
    "icebreaker": ("fashion-mnist", "fashion-mnist-fast"),
    "icebreaker-t1": ("tinbinn",),
    "upduino-v3": ("fashion-mnist", "fashion-mnist-fast"),
    "icesugar": ("fashion-mnist", "fashion-mnist-fast"),
    "hx8k-evn": ("fashion-mnist-fast",),
    "tang-nano-9k": ("fashion-mnist-fast",),
    "ulx3s-25f": ("fashion-mnist", "fashion-mnist-fast"),
    "orangecrab": ("fashion-mnist", "fashion-mnist-fast"),
    "colorlight-5a-75b": ("fashion-mnist", "fashion-mnist-fast"),
    "ulx3s-85f": ("cnv", "fashion-mnist"),
    "ulx3s-85f-wide": ("cnv", "fashion-mnist"),
    "ulx3s-85f-residual": ("resnet20",),
    "ecpix5": ("cnv", "fashion-mnist"),
}
RESULTS = Path("results/builds")


def bench(name, results=RESULTS, out=Path("build"), seed=None):
    """Builds a board; writes and returns the report of each of its networks."""
    board, reports = BOARDS[name], []
    seed = board.seed if seed is None else seed
    for network in NETWORKS[name]:
        model = image.load(f"models/{network}.bsnn")
        if not reports:
            command = f"python -m hw.bench {name} --seed {seed}"
            built = build(board, model, seed=seed, out=out, command=command)
        clock_hz = round(built["clock_mhz"] * 1e6)
        program = compile_program(model, board.engine)
        reports.append({**built, **network_report(model, program, clock_hz, built["baud"])})
        replace_file(results / f"{name}-{network}.json", json.dumps(reports[-1], indent=2) + "\n")
    return reports


def main(argv=None):
    """Exit status 0, 2 after one line on stderr, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.bench",
        description=f"{__doc__} Reports go to {RESULTS}/; then: python docs/results.py",
    )
    add = parser.add_argument
    add("boards", nargs="*", metavar="BOARD", help=f"default: {', '.join(NETWORKS)}")
    add("--seed", type=int, help="of placement (default: the board's)")
    add("--json", action="store_true", help="end with the reports, in one line")
    args = parser.parse_args(argv)
    reports = []
    try:
        for name in args.boards or NETWORKS:
            if name not in NETWORKS:
                raise BuildError(f"unknown board {name!r}: one of {', '.join(NETWORKS)}")
            reports += bench(name, seed=args.seed)
    except (BuildError, BaudError, ClockError, EngineError, ImageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; reports of finished boards are kept", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(reports))
        return 0
    for report in reports:
        print(
            f"{report['board']} {report['model']}: {report['frames_per_s']:,.0f} frames/s at"
            f" {report['clock_mhz']:g} MHz, T={report['T']}, {report['utilisation']:.1%} of"
            f" {report['lanes']:,} MACs a cycle"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
