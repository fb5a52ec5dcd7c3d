"""Places and routes a board with many seeds: the clock it reaches, and not by luck."""

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from hw.boards import BOARDS
from hw.build import find_board, prepare
from hw.clock import ClockError
from hw.report import tool_report
from hw.tools import BuildError, commands, run_tool, step, write_plan
from hw.uart import BaudError
from sw.files import replace_file

__all__ = ["RESULTS", "main", "seeds_report"]

RESULTS = Path("results/seeds")
NETLIST = "top.json"


def _synthesise(board, plan, design, folder, quiet):
    """Leaves the netlist of ``plan`` in ``folder``, unless it is there: no seed changes it.

    What the seeds of another ``design`` have left there goes.
    """
    stamp = folder / "design.json"
    if stamp.is_file() and json.loads(stamp.read_text()) == design:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_plan(plan, folder)
    (tool, *arguments), *_ = commands(plan)
    with step(f"{board.name}: synthesis", quiet) as tick:
        run_tool(tool, arguments, folder, tick)
    replace_file(stamp, json.dumps(design))


def _place_and_route(plan, seed, folder, minutes):
    """Fmax in MHz of the netlist in ``folder`` with ``seed``, or None if not routed in ``minutes``.

    Kept there once it is known: a seed that has been routed counts, whatever time it was given.
    """
    known = folder / f"seed{seed}.json"
    if known.is_file():
        found = json.loads(known.read_text())
        if found["fmax_mhz"] is not None or found["minutes"] >= minutes:
            return found["fmax_mhz"]
    _, (tool, *arguments), *_ = commands(plan)
    arguments[arguments.index("--seed") + 1] = f"{seed}"
    end, fmax = time.monotonic() + 60 * minutes, None

    def tick():
        if time.monotonic() > end:
            raise TimeoutError

    with tempfile.TemporaryDirectory(dir=folder) as scratch, contextlib.suppress(TimeoutError):
        write_plan(plan, scratch)
        shutil.copy(folder / NETLIST, scratch)
        run_tool(tool, arguments, scratch, tick)
        clocks = json.loads(Path(scratch, "top.report.json").read_text())["fmax"]
        fmax = round(min(clock["achieved"] for clock in clocks.values()), 3)
    replace_file(known, json.dumps({"fmax_mhz": fmax, "minutes": minutes}))
    return fmax


def seeds_report(board, count, jobs=1, minutes=120, out=Path("build"), quiet=False):
    """Fmax in MHz with seeds 1 to ``count``, of one synthesis, ``jobs`` at a time.

    None of a seed that is not routed in ``minutes``. Seeds that are done stay done in ``out``: the
    same call goes on where one was cut off. Raises BuildError.
    """
    clock_generator = board.clock_generator(board.clock_hz)
    plan = prepare(board, clock_generator, 1)
    design = {"design": plan.digest().hex(), "tools": tool_report(board.family)}
    folder = out / f"{board.name}-seeds"
    _synthesise(board, plan, design, folder, quiet)
    seeds = range(1, count + 1)
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(_place_and_route, plan, seed, folder, minutes) for seed in seeds]
        try:
            for run in tqdm(
                as_completed(runs), board.name, count, unit="seed", disable=quiet or None
            ):
                run.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    reached = [run.result() for run in runs]
    routed = [fmax for fmax in reached if fmax is not None]
    if not routed:
        raise BuildError(f"{board.name}: none of {count} seeds is routed in {minutes} minutes")
    return {
        "board": board.name,
        "clock_mhz": float(clock_generator.frequency_hz) / 1e6,
        **design,
        "fmax_mhz": reached,
        "min": min(routed), "median": statistics.median(routed), "max": max(routed),
        "command": f"python -m hw.seeds {board.name} --seeds {count} --minutes {minutes}",
    }


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.seeds",
        description=f"{__doc__} Reports go to {RESULTS}/; what was cut off"
        " goes on when called again.",
        epilog=f"boards: {', '.join(BOARDS)}",
    )
    parser.add_argument("board", help="which board")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="seeds at a time, 3 GiB each (default: 1)"
    )
    parser.add_argument(
        "--minutes", type=int, default=120, metavar="N",
        help="after which a seed counts as one that cannot be routed (default: 120)",
    )
    args = parser.parse_args(argv)
    try:
        for name in ("seeds", "jobs", "minutes"):
            if getattr(args, name) < 1:
                raise BuildError(f"--{name} must be at least 1, got {getattr(args, name)}")
        report = seeds_report(find_board(args.board), args.seeds, args.jobs, args.minutes)
        RESULTS.mkdir(parents=True, exist_ok=True)
        replace_file(RESULTS / f"{args.board}.json", json.dumps(report, indent=2) + "\n")
    except (BuildError, BaudError, ClockError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = report["fmax_mhz"].count(None)
    print(
        f"{report['board']}: fmax {report['min']:.1f} / {report['median']:.1f} /"
        f" {report['max']:.1f} MHz (min, median, max of {args.seeds} seeds"
        f"{f', {missing} of them not routed' if missing else ''}), clock"
        f" {report['clock_mhz']:g} MHz"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
