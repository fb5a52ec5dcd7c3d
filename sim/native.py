"""Runs frames through the accelerator at the full speed of Verilator: a C++ loop, no cocotb.

All logits and cycle counts are compared; sim.run compares every layer.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata

import torch
from tqdm import tqdm

from hw.verilog import accelerator_verilog
from sim.command import accuracy_of, add_arguments, engine_of, finish
from sim.frames import load_frames
from sim.simulators import SimulationError, build_native, source_digest, verilator_version
from sw import image, protocol
from sw.cycles import cycles_per_frame
from sw.golden import IntegerNetwork
from sw.program import compile_program

__all__ = ["main", "run", "session"]

EPILOG = """examples:
  python -m sim.native --model models/digits.bsnn -n 100
  python -m sim.native --model models/fashion-mnist.bsnn -n 10000 --json > results/soak.json"""

#: Frames that the golden model takes at a time: what it keeps of each is large.
BATCH = 50


@dataclass(frozen=True)
class Command:
    """What to send, and the frame whose cycles are in the reply, and its logits if any."""

    data: bytes
    cycles_of: int | None = None
    side: int = 0

    @property
    def reply(self):
        """Bytes of the reply."""
        return protocol.reply_bytes(self.data)


def session(program, frames):
    """Commands that load a Program and run frames uint8 [N, ...] one after the other.

    Where a stem core works ahead, the frame after the last is the first again.
    """
    def write(region, words, address=0):
        return map(Command, protocol.encode_writes(region, address, words))

    def load(number):
        words = program.pack_frame(frames[number % len(frames)])
        return write(program.frame_region, words, program.frame_address)

    for region, words in program.regions.items():
        yield from write(region, words)
    if program.ahead:
        yield from load(0)
        yield Command(program.run_layer(0))
    for number in range(len(frames)):
        side = number % 2 if program.ahead else 0
        yield from load(number + program.ahead)
        if program.has_stem_core and not program.ahead:
            yield Command(program.run_layer(0), cycles_of=number)
        yield Command(program.run_network(side), cycles_of=number, side=side)


class _Accelerator:
    """The simulated accelerator at work on ``commands``.

    cycles, seconds: of all of them, once every reply has been read.
    """

    def __init__(self, engine, commands):
        self._program, self._commands = build_native(accelerator_verilog(engine)), commands

    def replies(self):
        """The reply to each command, as soon as it is there."""
        wanted = sum(command.reply for command in self._commands)
        with tempfile.TemporaryFile() as file:
            file.writelines(command.data for command in self._commands)
            file.seek(0)
            with subprocess.Popen(
                [self._program, str(wanted)], stdin=file, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                try:
                    yield from self._read(process.stdout, wanted)
                    cycles, seconds = process.stderr.read().split()
                finally:
                    process.kill()
        self.cycles, self.seconds = int(cycles), float(seconds)

    def _read(self, stream, wanted):
        heard = 0
        for command in self._commands:
            reply = stream.read(command.reply)
            heard += len(reply)
            if len(reply) < command.reply:
                raise SimulationError(
                    f"the accelerator fell silent after {heard} bytes of {wanted}"
                )
            yield reply


def run(model, golden, frames, engine):
    """Simulate an image on frames uint8 [N, ...] and compare with ``golden``.

    Returns a dict: frames, differences, logits, cycles_per_frame and cycle_model, and of the whole
    session, loading included, cycles and seconds.
    """
    program = compile_program(model, engine)
    last = len(model.network.layers) - 1
    commands = list(session(program, frames))
    accelerator = _Accelerator(engine, commands)
    counts, logits = [0] * len(frames), []
    with tqdm(total=len(frames), desc="simulation", unit="frame", leave=False, disable=None) as bar:
        for command, reply in zip(commands, accelerator.replies(), strict=True):
            protocol.check_status(reply)
            if command.cycles_of is not None:
                cycles, words = protocol.decode_run(reply)
                counts[command.cycles_of] += cycles
                if len(words):
                    logits.append(program.unpack_boundary(last, words, command.side).tolist())
                    bar.update()
    expected = cycles_per_frame(
        model.network, engine, model.gain_mode == "exact", program.ahead
    )
    batches = torch.as_tensor(frames).split(BATCH)
    wanted = [
        right for batch in tqdm(batches, "golden", leave=False, disable=None)
        for right in golden(batch).tolist()
    ]
    differences = [
        f"frame {number}: logits {got}, golden {right}"
        for number, (got, right) in enumerate(zip(logits, wanted, strict=True)) if got != right
    ] + [
        f"frame {number}: {count} cycles, the cycle model says {expected}"
        for number, count in enumerate(counts) if count != expected
    ]
    return {
        "frames": len(frames), "differences": differences, "logits": logits,
        "cycles_per_frame": counts[-1], "cycle_model": expected,
        "cycles": accelerator.cycles, "seconds": accelerator.seconds,
    }


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sim.native", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    add_arguments(parser, images=20)
    return parser


def _run(arguments):
    model, engine = image.load(arguments.model), engine_of(arguments.engine)
    frames, labels = load_frames(model, arguments)
    result = run(model, IntegerNetwork(model), frames.numpy(), engine)
    accuracy = accuracy_of(result.pop("logits"), labels)
    return {
        "command": f"python -m sim.native --model {arguments.model} --images {arguments.images}"
        f" --engine {arguments.engine}{f' --data {arguments.data}' if arguments.data else ''}",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("amaranth", "torch")},
            "verilator": verilator_version(),
        },
        "model": arguments.model, "checksum": model.checksum,
        "engine": arguments.engine, "source": source_digest(engine),
        **result, "accuracy": accuracy, "frames_per_s": result["frames"] / result["seconds"],
    }


def _summary(result, verdict):
    return (
        f"{result['frames']} frames: {verdict} the golden model;"
        f" {result['cycles_per_frame']} cycles a frame (cycle model {result['cycle_model']});"
        f" {result['frames_per_s']:.2f} frames/s,"
        f" {result['cycles'] / result['seconds'] / 1e6:.2f} million cycles/s"
    )


def main(argv=None):
    """Command line. Returns the exit status: 0 equal, 1 different, 2 could not run."""
    return finish(_run, _parser().parse_args(argv), _summary)


if __name__ == "__main__":
    sys.exit(main())
