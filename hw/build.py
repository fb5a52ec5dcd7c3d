"""Builds the bitstream of a board with open tools, and a report of what it cost.

The engine is found for the network (``hw.fit``), or it is the board's own, for many networks. The
bitstream does not contain the network: any image that fits the engine is loaded at run time.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from hw.command import command_line
from hw.report import check_resources, check_timing, network_report, resource_report, tool_report
from hw.tools import BuildError, run_plan, step, write_plan
from hw.top import Top
from sw.program import compile_program

__all__ = [
    "build", "build_report", "folder_of", "main", "place_and_route", "prepare", "replacing",
]


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


def folder_of(board, out):
    """Where the bitstream of a board is."""
    return Path(out, board.name)


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    return command_line("python -m hw.build", __doc__, build, folder_of, "fit", argv)


if __name__ == "__main__":
    sys.exit(main())
