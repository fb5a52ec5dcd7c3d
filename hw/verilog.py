"""Verilog of the accelerator, for simulators and for designs of others."""

import argparse
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from amaranth.back import verilog

from hw.accelerator import Accelerator
from hw.contents import Contents
from hw.device import Endpoint
from sw.engine import ENGINES
from sw.files import replace_file

__all__ = ["accelerator_verilog", "baked_verilog", "endpoint_verilog", "main"]


def _verilog(component, platform=None):
    return verilog.convert(
        component, name="accelerator", platform=platform, emit_src=False, strip_internal_attrs=True
    )


@cache
def accelerator_verilog(engine, platform=None):
    """Verilog of ``Accelerator(engine)``, module ``accelerator``; the same text for every run.

    platform: what makes its memories where a simulation wants others (``sim.collisions``).
    """
    return _verilog(Accelerator(engine), platform)


@cache
def endpoint_verilog(engine, quiet_bits):
    """The same of ``Endpoint(engine, quiet_bits)``: commands come in frames."""
    return _verilog(Endpoint(engine, quiet_bits))


def baked_verilog(program, quiet_bits):
    """The same with a Program in its memories when power comes."""
    platform = SimpleNamespace(contents=Contents(program.contents))
    return _verilog(Endpoint(program.engine, quiet_bits), platform)


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.verilog",
        description="Writes the Verilog of a board's accelerator: weights in a memory, no pins.",
        epilog=f"boards: {', '.join(ENGINES)}",
    )
    parser.add_argument("board", help="whose engine")
    parser.add_argument("-o", type=Path, metavar="FILE", help="default: standard output")
    args = parser.parse_args(argv)
    if args.board not in ENGINES:
        print(f"error: unknown board {args.board!r}: one of {', '.join(ENGINES)}", file=sys.stderr)
        return 2
    text = accelerator_verilog(ENGINES[args.board])
    if args.o is None:
        sys.stdout.write(text)
        return 0
    try:
        replace_file(args.o, text)
    except OSError as error:
        print(f"error: {args.o}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
