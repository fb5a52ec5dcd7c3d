"""Places and routes a board with many seeds: the clock it reaches, and not by luck."""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from hw.boards import BOARDS, find_board
from hw.build import prepare
from hw.clock import ClockError
from hw.report import tool_report
from hw.tools import BuildError, commands, run_tool, step, synthesise, write_plan
from hw.uart import BaudError
from sw.cluster import ClusterError, add_options, check_cluster, stop_if_unwanted, sweep
from sw.files import replace_file

__all__ = ["RESULTS", "main", "seeds_report"]

RESULTS = Path("results/seeds")


def _synthesise(board, plan, folder, quiet):
    """The netlist of ``plan``, made in ``folder``: no seed changes it."""
    write_plan(plan, folder)
    with step(f"{board.name}: synthesis", quiet) as tick:
        synthesise(plan, folder, tick)
    return (folder / "top.json").read_text()


def _place_and_route(seed, plan, netlist, minutes):
    """Fmax in MHz of ``netlist`` with ``seed``, or None if it is not routed in ``minutes``."""
    _, (tool, *arguments), *_ = commands(plan)
    arguments[arguments.index("--seed") + 1] = f"{seed}"
    end = time.monotonic() + 60 * minutes

    def tick():
        stop_if_unwanted()
        if time.monotonic() > end:
            raise TimeoutError

    with tempfile.TemporaryDirectory(prefix="agamemnon-seed.") as folder:
        write_plan(plan, folder)
        Path(folder, "top.json").write_text(netlist)
        try:
            run_tool(tool, arguments, folder, tick)
        except TimeoutError:
            return None
        clocks = json.loads(Path(folder, "top.report.json").read_text())["fmax"]
        return round(min(clock["achieved"] for clock in clocks.values()), 3)


def _known(path, about, minutes):
    """Fmax by seed, of an earlier report on the same; not of seeds that now get more time."""
    report = json.loads(path.read_text()) if path.is_file() else {}
    if {name: report.get(name) for name in about} != about:
        return {}
    return {
        int(seed): fmax for seed, fmax in report["fmax_mhz"].items()
        if fmax is not None or report["minutes"] >= minutes
    }


def _report(about, reached, minutes):
    """The report on what seeds have reached, or None if that is nothing."""
    routed = [fmax for fmax in reached.values() if fmax is not None]
    if not routed:
        return None
    return {
        **about,
        "fmax_mhz": {f"{seed}": reached[seed] for seed in sorted(reached)},
        "minutes": minutes,
        "min": min(routed), "median": statistics.median(routed), "max": max(routed),
        "command": f"python -m hw.seeds {about['board']} --seeds {len(reached)}"
        f" --minutes {minutes}",
    }


def seeds_report(
    board, count, path, jobs=1, minutes=120, out=Path("build"), cluster=None, quiet=False
):
    """Fmax in MHz with seeds 1 to ``count``, of one synthesis, ``jobs`` at a time or on a cluster.

    None for a seed that is not routed in ``minutes``. The report so far is in ``path`` whenever a
    seed is done, and seeds that are in it already, of the same design and tools, are not run again.
    cluster: the address of its scheduler, as ``sw.cluster.sweep`` takes it. Raises BuildError,
    ClusterError.
    """
    clock_generator = board.clock_generator(board.clock_hz)
    # The digest is that of the board's own build.
    plan = prepare(board, clock_generator, board.seed)
    about = {
        "board": board.name,
        "clock_mhz": float(clock_generator.frequency_hz) / 1e6,
        "design": plan.digest().hex(),
        "tools": tool_report(board.family),
    }
    reached = _known(path, about, minutes)
    missing = [seed for seed in range(1, count + 1) if seed not in reached]
    if missing:
        if cluster:
            check_cluster(cluster)
        path.parent.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{board.name}-seeds.", dir=out) as folder:
            netlist = _synthesise(board, plan, Path(folder), quiet)
        with sweep(
            _place_and_route, missing, plan, netlist, minutes, jobs=jobs, cluster=cluster,
            packages=[f"yowasp-nextpnr-{board.family}"], title=board.name, unit="seed",
            quiet=quiet,
        ) as runs:
            for seed, fmax in runs:
                reached[seed] = fmax
                if report := _report(about, reached, minutes):
                    replace_file(path, json.dumps(report, indent=2) + "\n")
    report = _report(about, reached, minutes)
    if report is None:
        raise BuildError(f"{board.name}: none of {count} seeds is routed in {minutes} minutes")
    return report


def main(argv=None):
    """Exit status 0, 2 after one line on stderr, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.seeds",
        description=f"{__doc__} Reports go to {RESULTS}/; what was cut off"
        " goes on when called again.",
        epilog=f"boards: {', '.join(BOARDS)}",
    )
    parser.add_argument("board", help="which board")
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="default: 10")
    add_options(parser, "seeds, of 3 GiB each,")
    parser.add_argument(
        "--minutes", type=int, default=120, metavar="N",
        help="after which a seed counts as one that cannot be routed (default: 120)",
    )
    args = parser.parse_args(argv)
    try:
        for name in ("seeds", "minutes"):
            if getattr(args, name) < 1:
                raise BuildError(f"--{name} must be at least 1, got {getattr(args, name)}")
        board, path = find_board(args.board), RESULTS / f"{args.board}.json"
        report = seeds_report(
            board, args.seeds, path, args.jobs, args.minutes, cluster=args.cluster
        )
    except (BuildError, BaudError, ClockError, ClusterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        return 130
    reached = list(report["fmax_mhz"].values())
    missing = reached.count(None)
    print(
        f"{report['board']}: fmax {report['min']:.1f} / {report['median']:.1f} /"
        f" {report['max']:.1f} MHz (min, median, max of {len(reached)} seeds"
        f"{f', {missing} of them not routed' if missing else ''}), clock"
        f" {report['clock_mhz']:g} MHz"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
