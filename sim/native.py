"""Runs frames through the accelerator at the full speed of Verilator: a C++ loop, no cocotb.

All logits and cycle counts are compared; sim.run compares every layer.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass

import torch

from hw.verilog import accelerator_verilog
from sim.command import accuracy_of, add_arguments, engine_of, finish
from sim.frames import load_frames
from sim.simulators import SimulationError, build_native
from sw import image, protocol
from sw.cycles import cycles_per_frame
from sw.golden import IntegerNetwork
from sw.program import compile_program

__all__ = ["main", "run", "session"]


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


def _talk(engine, commands):
    """The replies to ``commands``, the clock cycles and the seconds that they took."""
    wanted = sum(command.reply for command in commands)
    done = subprocess.run(
        [build_native(accelerator_verilog(engine)), str(wanted)],
        input=b"".join(command.data for command in commands), check=False, capture_output=True,
    )
    replies = done.stdout
    if done.returncode:
        raise SimulationError(f"the accelerator fell silent after {len(replies)} bytes of {wanted}")
    cycles, seconds = done.stderr.split()
    parts, start = [], 0
    for command in commands:
        parts.append(replies[start : start + command.reply])
        start += command.reply
    return parts, int(cycles), float(seconds)


def run(model, golden, frames, engine):
    """Simulate an image on frames uint8 [N, ...] and compare with ``golden``.

    Returns a dict: frames, differences, logits, cycles_per_frame and cycle_model, and of the whole
    session, loading included, cycles and seconds.
    """
    program = compile_program(model, engine)
    last = len(model.network.layers) - 1
    commands = list(session(program, frames))
    replies, cycles, seconds = _talk(engine, commands)
    counts, logits = [0] * len(frames), []
    for command, reply in zip(commands, replies, strict=True):
        protocol.check_status(reply)
        if command.cycles_of is not None:
            cycles_of_run, words = protocol.decode_run(reply)
            counts[command.cycles_of] += cycles_of_run
            if len(words):
                logits.append(program.unpack_boundary(last, words, command.side).tolist())
    expected = cycles_per_frame(
        model.network, engine, model.gain_mode == "exact", program.ahead
    )
    wanted = golden(torch.as_tensor(frames)).tolist()
    differences = [
        f"frame {number}: logits {got}, golden {right}"
        for number, (got, right) in enumerate(zip(logits, wanted, strict=True)) if got != right
    ] + [
        f"frame {number}: {count} cycles, the cycle model says {expected}"
        for number, count in enumerate(counts) if count != expected
    ]
    return {
        "frames": len(frames), "differences": differences, "logits": logits,
        "cycles_per_frame": counts[-1], "cycle_model": expected, "cycles": cycles,
        "seconds": seconds,
    }


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sim.native", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m sim.native --model models/digits.bsnn -n 100",
    )
    add_arguments(parser, images=20)
    return parser


def _run(arguments):
    model = image.load(arguments.model)
    frames, labels = load_frames(model, arguments)
    result = run(model, IntegerNetwork(model), frames.numpy(), engine_of(arguments.engine))
    accuracy = accuracy_of(result.pop("logits"), labels)
    return {
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
