"""Places and routes a board with many seeds: the clock it reaches, and not by luck."""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from hw.boards import BOARDS
from hw.build import find_board, prepare
from hw.clock import ClockError
from hw.report import tool_report
from hw.tools import BuildError, run_tool, step
from hw.uart import BaudError
from sw.files import replace_file

__all__ = ["RESULTS", "main", "seeds_report"]

RESULTS = Path("results/seeds")


def _commands(plan):
    return json.loads(plan.files[f"{plan.script}.json"])["commands"]


def seeds_report(board, count, quiet=False):
    """Fmax in MHz with seeds 1 to ``count``, of one synthesis. Raises BuildError."""
    clock_generator = board.clock_generator(board.clock_hz)
    reached = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan = prepare(board, clock_generator, 1)
        for name, content in plan.files.items():
            (folder / name).write_text(content)
        (tool, *arguments), *_ = _commands(plan)
        with step(f"{board.name}: synthesis", quiet) as tick:
            run_tool(tool, arguments, folder, tick)
        for seed in tqdm(range(1, count + 1), desc=board.name, unit="seed", disable=quiet or None):
            _, (tool, *arguments), *_ = _commands(prepare(board, clock_generator, seed))
            run_tool(tool, arguments, folder)
            clocks = json.loads((folder / "top.report.json").read_text())["fmax"]
            reached.append(round(min(clock["achieved"] for clock in clocks.values()), 3))
    return {
        "board": board.name,
        "clock_mhz": float(clock_generator.frequency_hz) / 1e6,
        "design": plan.digest().hex(),
        "fmax_mhz": reached,
        "min": min(reached), "median": statistics.median(reached), "max": max(reached),
        "tools": tool_report(board.family),
        "command": f"python -m hw.seeds {board.name} --seeds {count}",
    }


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.seeds",
        description=f"{__doc__} Reports go to {RESULTS}/.",
        epilog=f"boards: {', '.join(BOARDS)}",
    )
    parser.add_argument("board", help="which board")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="default: 10")
    args = parser.parse_args(argv)
    try:
        if args.seeds < 1:
            raise BuildError(f"--seeds must be at least 1, got {args.seeds}")
        report = seeds_report(find_board(args.board), args.seeds)
        RESULTS.mkdir(parents=True, exist_ok=True)
        replace_file(RESULTS / f"{args.board}.json", json.dumps(report, indent=2) + "\n")
    except (BuildError, BaudError, ClockError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{report['board']}: fmax {report['min']:.1f} / {report['median']:.1f} /"
        f" {report['max']:.1f} MHz (min, median, max of {args.seeds} seeds), clock"
        f" {report['clock_mhz']:g} MHz"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
