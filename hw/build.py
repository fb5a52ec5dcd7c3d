"""Builds the bitstream of a board with open tools, and a report of what it cost.

The design does not depend on the network: any image that fits the engine is loaded at run time.
The network given here is checked against the engine, and its speed goes into the report.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from hw.boards import BOARDS
from hw.clock import ClockError
from hw.report import (
    check_resources,
    check_timing,
    network_report,
    resource_report,
    tool_report,
)
from hw.tools import BuildError, run_plan, step, write_plan
from hw.top import Top
from hw.uart import BaudError
from sw import image as network_image
from sw.engine import EngineError
from sw.image import ImageError
from sw.program import compile_program

__all__ = ["build", "find_board", "main", "megahertz", "prepare"]

DEFAULT_MODEL = Path("models/fashion-mnist.bsnn")


def find_board(name):
    """The Board of that name. Raises BuildError."""
    if name not in BOARDS:
        raise BuildError(f"unknown board {name!r}: one of {', '.join(BOARDS)}")
    return BOARDS[name]


def prepare(board, clock_generator, seed):
    """Amaranth's BuildPlan: the same files, byte for byte, for the same arguments."""
    return board.new_platform().prepare(
        Top(board, clock_generator),
        emit_src=False,
        script_after_read=board.script,
        synth_opts=board.synth_opts,
        # A missed clock is ours to report, in words that say what to do.
        nextpnr_opts=f"--seed {seed} --report top.report.json --timing-allow-fail"
        f" {board.nextpnr_opts}".rstrip(),
    )


def _place_and_route(board, clock_generator, seed, folder, quiet):
    """Builds in ``folder``; the resources and timing that were reached. Raises BuildError."""
    with step(f"{board.name}: elaboration", quiet):
        plan = prepare(board, clock_generator, seed)
    write_plan(plan, folder)
    log = Path(folder, "top.tim")
    try:
        run_plan(plan, folder, board.name, quiet)
    except BuildError:
        if log.is_file():
            check_resources(log.read_text())
        raise
    report = json.loads(Path(folder, "top.report.json").read_text())
    fmax = check_timing(report, clock_generator.frequency_hz)
    return {
        "fmax_mhz": fmax,
        **resource_report(board, report, log.read_text()),
        "design": plan.digest().hex(),
    }


@contextlib.contextmanager
def _replacing(target):
    """A new folder that takes the place of ``target`` if all goes well.

    If not, ``target`` stays as it was, and what there is goes to ``<target>.failed``, for its logs.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    os.chmod(folder, 0o755)
    failed = target.with_name(f"{target.name}.failed")
    try:
        yield folder
    except BuildError as error:
        shutil.rmtree(failed, ignore_errors=True)
        os.replace(folder, failed)
        raise BuildError(f"{error} (logs: {failed})") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    if target.exists():
        os.replace(target, old / "old")
    os.replace(folder, target)
    shutil.rmtree(old)
    shutil.rmtree(failed, ignore_errors=True)


def build(board, image, *, clock_hz=None, seed=None, out=Path("build"), command="", quiet=False):
    """Builds ``out/<board>/`` with top.bin or top.bit, logs and report.json; returns the report.

    Raises BuildError, ClockError, BaudError or EngineError; then ``out/<board>/`` is untouched.
    """
    engine = board.engine
    program = compile_program(image, engine)
    seed = board.seed if seed is None else seed
    clock_generator = board.clock_generator(clock_hz or board.clock_hz)
    frequency = clock_generator.frequency_hz
    with _replacing(Path(out, board.name)) as folder:
        reached = _place_and_route(board, clock_generator, seed, folder, quiet)
        platform = board.platform
        report = {
            "board": board.name,
            "device": f"{platform.device}-{platform.package}",
            "bitstream": f"top{board.bitstream}",
            "clock_mhz": float(frequency) / 1e6,
            **reached,
            **network_report(image, program, frequency, board.baud(frequency)),
            "engine": engine.to_dict(),
            "tools": tool_report(board.family),
            "seed": seed,
            "command": command,
        }
        Path(folder, "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def megahertz(text):
    """A clock of the command line, for argparse."""
    value = float(text)
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text} is no clock in MHz")
    return value


def parse(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m hw.build",
        description=__doc__.split("\n\n")[0],
        epilog=f"boards: {', '.join(BOARDS)}",
    )
    add = parser.add_argument
    add("board", help="which board")
    add("--model", type=Path, default=DEFAULT_MODEL, metavar="FILE",
        help=f"network image of the report (default: {DEFAULT_MODEL})")
    add("--clock", type=megahertz, metavar="MHZ", help="of the design (default: the board's)")
    add("--seed", type=int, help="of placement (default: the board's)")
    add("--out", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    add("--json", action="store_true", help="end with the report on stdout, in one line")
    return parser.parse_args(argv)


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    args = parse(argv)
    arguments = sys.argv[1:] if argv is None else argv
    try:
        board = find_board(args.board)
        image = network_image.load(args.model)
        report = build(
            board, image, clock_hz=args.clock and round(args.clock * 1e6), seed=args.seed,
            out=args.out, command=" ".join(["python -m hw.build", *map(str, arguments)]),
        )
    except (BuildError, BaudError, ClockError, EngineError, ImageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(report))
    else:
        occupancy = ", ".join(
            f"{cells['used']} of {cells['available']} {name}"
            for name, cells in report["occupancy"].items()
        )
        print(f"{args.out / board.name}/{report['bitstream']}: {occupancy}")
        print(
            f"{report['fmax_mhz']:.1f} MHz reached, {report['clock_mhz']:g} MHz used:"
            f" {report['model']} at {report['frames_per_s']:.1f} frames/s (T={report['T']})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
