"""Runs frames through the simulated accelerator and compares every layer with the golden model."""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hw.boards import BOARDS
from sim.command import accuracy_of, add_arguments, engine_of, finish
from sim.frames import load_frames
from sim.plan import Plan
from sim.simulators import (
    SIMULATORS,
    SimulationError,
    build,
    power_up_arguments,
    source_digest,
)
from sw import image
from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import EngineError
from sw.golden import IntegerNetwork
from sw.program import compile_program

__all__ = ["main", "make_plan", "run", "simulate"]

EPILOG = """examples:
  python -m sim.run --model models/digits.bsnn -n 3
  python -m sim.run --model models/fashion-mnist.bsnn -n 1 --sim icarus
  python -m sim.run --model mine.bsnn --engine ulx3s-85f --json
  python -m sim.run --model models/digits.bsnn --netlist     after synthesis for the iCE40
  python -m sim.run --model models/digits.bsnn --netlist --engine ulx3s-25f     for the ECP5

The accelerator is loaded over its byte port, as on a board, and runs layer by layer. Every spike of
every layer, every logit and every cycle count must equal the golden model and the cycle model."""


@contextlib.contextmanager
def _progress(path, total):
    """A bar that grows with the file to which the testbench adds a byte for every frame."""
    done = threading.Event()
    path.touch()
    with tqdm(total=total, desc="simulation", unit="frame", leave=False, disable=None) as bar:

        def follow():
            while not done.wait(0.2):
                bar.update(path.stat().st_size - bar.n)

        follower = threading.Thread(target=follow)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()


def make_plan(network_image, golden, frames, engine, stalls=None):
    """Plan of running an image on frames uint8 [N, ...], expecting what ``golden`` gives.

    ``golden`` is the IntegerNetwork of the same image, except where a test wants a difference.
    stalls: see ``ByteHost``.
    """
    program = compile_program(network_image, engine)
    logits, boundaries = golden(torch.as_tensor(frames), record=True)
    maps = [boundary.spikes.transpose(0, 1).numpy() for boundary in boundaries]
    exact = network_image.gain_mode == "exact"
    network = network_image.network
    cycles = [layer_cycles(network, i, engine, exact) for i in range(len(network.layers))]
    per_frame = cycles_per_frame(network, engine, exact, program.ahead)
    boundaries = [*maps, logits.numpy()]
    return Plan(program, np.asarray(frames), boundaries, cycles, per_frame, stalls or {})


def simulate(plan, simulator="verilator", gates_of=None, platform=None, power_up=None):
    """Run a Plan. Returns the testbench's result.

    frames, differences, cycles_per_frame, logits; cycles and seconds of the whole session.
    gates_of, platform: see ``build``. power_up: seed of what registers and memories hold when power
    comes; of gates, those of which the part leaves it open. Without one they hold zeros.
    """
    runner, folder = build(
        plan.program.engine, simulator, gates_of, platform, power_up is not None
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        scratch = Path(scratch)
        plan.save(scratch / "plan.npz")
        result = scratch / "result.json"
        started = time.monotonic()
        # The runner ends the process when a test fails; what failed stands in the result.
        progress = scratch / "progress"
        with contextlib.suppress(SystemExit), _progress(progress, len(plan.frames)):
            runner.test(
                hdl_toplevel="accelerator",
                hdl_toplevel_lang="verilog",
                test_module="sim.testbench",
                build_dir=folder,
                test_dir=scratch,
                results_xml=str(scratch / "results.xml"),
                log_file=scratch / "simulation.log",
                plusargs=power_up_arguments(power_up),
                extra_env={
                    "PLAN": str(scratch / "plan.npz"), "RESULT": str(result),
                    "PROGRESS": str(progress),
                    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
                },
            )
        if not result.exists():
            log = (scratch / "simulation.log").read_text().splitlines()
            raise SimulationError("the simulation ended early:\n" + "\n".join(log[-30:]))
        return {**json.loads(result.read_text()), "seconds": time.monotonic() - started}


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sim.run", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, images=2)
    add = parser.add_argument
    add("--sim", choices=SIMULATORS, default="verilator", help="default: verilator")
    add("--netlist", action="store_true",
        help="simulate the gates of an iCE40 or ECP5 board's synthesis, not the Verilog that it"
        " starts from")
    add("--power-up", type=int, metavar="SEED",
        help="seed, from 1, of what registers and memories hold when power comes; of gates, those"
        " of which the part leaves it open (default: zeros)")
    return parser


def run(arguments):
    """Simulate as the command line says. Returns a dict of figures, with all differences."""
    model = image.load(arguments.model)
    images, labels = load_frames(model, arguments)
    engine = engine_of(arguments.engine)
    if arguments.netlist and arguments.engine not in BOARDS:
        raise EngineError("--netlist needs a board, not the report of a build")
    plan = make_plan(model, IntegerNetwork(model), images.numpy(), engine)
    gates_of = BOARDS[arguments.engine] if arguments.netlist else None
    result = simulate(plan, arguments.sim, gates_of, power_up=arguments.power_up)
    accuracy = accuracy_of(result.pop("logits"), labels)
    return {
        "command": f"python -m sim.run --model {arguments.model} --images {arguments.images}"
        f" --sim {arguments.sim} --engine {arguments.engine}"
        f"{' --netlist' if arguments.netlist else ''}"
        f"{f' --power-up {seed}' if (seed := arguments.power_up) else ''}"
        f"{f' --data {arguments.data}' if arguments.data else ''}",
        "model": arguments.model,
        "checksum": model.checksum,
        "engine": arguments.engine,
        "netlist": arguments.netlist,
        "source": source_digest(engine, gates_of),
        "simulator": arguments.sim,
        **result,
        # What the host wrote is no layer's work.
        "boundaries": result["frames"] * (len(plan.boundaries) - model.network.coded),
        "cycle_model": plan.frame_cycles,
        "accuracy": accuracy,
    }


def _summary(result, verdict):
    return (
        f"{result['frames']} frames, {result['boundaries']} layer boundaries: {verdict} the"
        f" golden model; {result['cycles_per_frame']} cycles a frame"
        f" (cycle model {result['cycle_model']}); {result['seconds']:.1f} s in"
        f" {result['simulator']}"
    )


def main(argv=None):
    """Command line. Returns the exit status: 0 equal, 1 different, 2 could not run."""
    return finish(run, _parser().parse_args(argv), _summary)


if __name__ == "__main__":
    sys.exit(main())
