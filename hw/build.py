"""Builds the bitstream of a board with open tools, and a report of what it cost.

The engine is found for the network (``hw.fit``), or it is the board's own, for many networks. The
bitstream does not contain the network: any image that fits the engine is loaded at run time.
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
from hw.fit import add_options, fitted
from hw.report import (
    TimingError,
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

__all__ = [
    "build",
    "build_fitted",
    "build_report",
    "command_line",
    "find_board",
    "folder_of",
    "main",
    "megahertz",
    "place_and_route",
    "prepare",
    "replacing",
]

DEFAULT_MODEL = Path("models/fashion-mnist.bsnn")

#: Clocks that are tried, and how much faster than the next one a design must have been.
TRIES = 3
MARGIN = 0.97


def find_board(name):
    """The Board of that name. Raises BuildError."""
    if name not in BOARDS:
        raise BuildError(f"unknown board {name!r}: one of {', '.join(BOARDS)}")
    return BOARDS[name]


def prepare(board, clock_generator, seed, contents=None, boot=False):
    """Amaranth's BuildPlan: the same files, byte for byte, for the same arguments.

    contents: Contents of the memories when power comes. boot: see Device.
    """
    platform = board.new_platform()
    platform.contents = contents
    return platform.prepare(
        Top(board, clock_generator, boot),
        emit_src=False,
        script_after_read=board.script,
        synth_opts=board.synth_opts,
        # A missed clock is ours to report, in words that say what to do.
        nextpnr_opts=f"--seed {seed} --report top.report.json --timing-allow-fail"
        f" {board.nextpnr_opts}".rstrip(),
    )


def place_and_route(board, clock_generator, plan, folder, quiet):
    """Builds in ``folder``; the resources and timing that were reached. Raises BuildError."""
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
def replacing(target):
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
        error.args = (f"{error} (logs: {failed})",)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    if target.exists():
        os.replace(target, old / "old")
    os.replace(folder, target)
    shutil.rmtree(old)
    shutil.rmtree(failed, ignore_errors=True)


def build_report(board, image, program, clock_generator, reached, seed, command):
    """All that report.json says, of what ``place_and_route`` reached and the network's speed."""
    frequency, platform = clock_generator.frequency_hz, board.platform
    return {
        "board": board.name,
        "device": f"{platform.device}-{platform.package}",
        "bitstream": f"top{board.bitstream}",
        "clock_mhz": float(frequency) / 1e6,
        **reached,
        **network_report(image, program, frequency, board.baud(frequency)),
        "engine": board.engine.to_dict(),
        "tools": tool_report(board.family),
        "seed": seed,
        "command": command,
    }


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


def build(board, image, *, clock_hz=None, seed=None, out=Path("build"), command="", quiet=False):
    """Builds ``out/<board>/`` with top.bin or top.bit, logs and report.json; returns the report.

    Raises BuildError, ClockError, BaudError or EngineError; then ``out/<board>/`` is untouched.
    """
    program = compile_program(image, board.engine)
    seed = board.seed if seed is None else seed
    clock_generator = board.clock_generator(clock_hz or board.clock_hz)
    with replacing(folder_of(board, out)) as folder:
        with step(f"{board.name}: elaboration", quiet):
            plan = prepare(board, clock_generator, seed)
        reached = place_and_route(board, clock_generator, plan, folder, quiet)
        report = build_report(board, image, program, clock_generator, reached, seed, command)
        Path(folder, "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def megahertz(text):
    """A clock of the command line, for argparse."""
    value = float(text)
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text} is no clock in MHz")
    return value


def _slower(board, reached_hz):
    """The fastest clock of whole MHz that a design reaches with some room. Raises BuildError."""
    for clock_mhz in range(int(MARGIN * reached_hz / 1e6), 0, -1):
        with contextlib.suppress(ClockError, BaudError):
            board.clock_generator(clock_mhz * 1_000_000)
            return clock_mhz * 1_000_000
    raise BuildError(f"the {board.name} makes no clock below {reached_hz / 1e6:.1f} MHz")


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
            clock_hz = _slower(board, missed.reached_hz)
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


def folder_of(board, out):
    """Where the bitstream of a board is."""
    return Path(out, board.name)


def command_line(prog, description, work, folder, engine, argv):
    """What the command ``prog`` does: ``work``, as ``build``, which leaves it in ``folder``.

    engine: "fit" or "board", unless the user wants the other. Exit status 0, or 2 after one line on
    stderr.
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
    if args.json:
        print(json.dumps(report))
    else:
        _print_report(folder(board, args.out) / report["bitstream"], report)
    return 0


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    return command_line("python -m hw.build", __doc__, build, folder_of, "fit", argv)


if __name__ == "__main__":
    sys.exit(main())
