"""The accelerator without a board: simulated behind a pseudo-terminal, for the host's driver."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tty

from hw.verilog import baked_verilog, endpoint_verilog
from sim.command import add_engine, engine_of
from sim.simulators import SimulationError, build_native
from sw.engine import EngineError
from sw.program import compile_program

__all__ = ["Emulator", "main"]

#: A line without a byte for so many cycles is quiet: some tens of milliseconds of simulation.
QUIET_BITS = 15

EPILOG = """examples:
  python -m sim.emulate                              then, in another terminal, what it says
  python -m sim.emulate --engine ulx3s-85f --port board
"""


class Emulator:
    """A simulated accelerator at the end of a pseudo-terminal; a context manager.

    baked : the image that it has when power comes, None for none.

    Members
    -------
    port : name of the terminal, for the host to open. It stays when the accelerator is reset.
    """

    def __init__(self, engine, quiet_bits=QUIET_BITS, baked=None):
        verilog = endpoint_verilog(engine, quiet_bits)
        if baked is not None:
            verilog = baked_verilog(compile_program(baked, engine), quiet_bits)
        self.program = build_native(verilog)
        # The host's end stays open here too, so that a host may come and go.
        self.device_end, self.host_end = os.openpty()
        tty.setraw(self.host_end)
        self.port = os.ttyname(self.host_end)
        self._start()

    def _start(self):
        self.process = subprocess.Popen(
            [self.program], stdin=self.device_end, stdout=self.device_end,
            stderr=subprocess.DEVNULL,
        )

    def _stop(self):
        self.process.kill()
        self.process.wait()

    def reset(self):
        """As if the power had gone and come again: all memories are empty."""
        self._stop()
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stop()
        os.close(self.device_end)
        os.close(self.host_end)


@contextlib.contextmanager
def _link(name, port):
    """``name`` is another name of ``port`` as long as this lasts. Raises OSError."""
    if name is None:
        yield port
        return
    os.symlink(port, name)
    try:
        yield name
    finally:
        os.unlink(name)


def main(argv=None):
    """Exit status 0 when interrupted or told to end, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.emulate", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_engine(parser)
    add = parser.add_argument
    add("--port", metavar="NAME", help="a name for the terminal, which must not exist yet")
    args = parser.parse_args(argv)
    # Ended in whatever way, it takes the simulation and the name of the terminal along. A shell
    # has what it starts in the background ignore ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Emulator(engine_of(args.engine)) as emulator, _link(args.port, emulator.port) as port:
            print(
                f"the accelerator of {args.engine}, simulated, is at {port}; in another terminal:\n"
                "  python -m sw.host infer models/digits.bsnn docs/pictures/digit.png"
                f" --port {port} --timeout 5\n"
                "until ctrl-C", flush=True,
            )
            status = emulator.process.wait()
            print(f"error: the simulation ended with status {status}", file=sys.stderr)
            return 2
    except KeyboardInterrupt:
        return 0
    except (EngineError, SimulationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename2 or error.filename}: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
