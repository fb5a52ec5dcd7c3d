"""What a piece of hardware takes after synthesis, for the studies beside this one."""

import json
import tempfile
from pathlib import Path

from hw.tools import run_tool

__all__ = ["lut4"]


def lut4(board, text, top):
    """LUT4s of the RTLIL ``text`` of module ``top`` on a board's part; a CCU2C of ECP5 is two."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "top.il").write_text(text)
        Path(folder, "top.ys").write_text(
            f"read_rtlil top.il\n"
            f"synth_{board.family} {board.synth_opts} -top {top} -json top.json\n"
        )
        run_tool("yosys", ["top.ys"], folder)
        netlist = json.loads(Path(folder, "top.json").read_text())
    kinds = [cell["type"] for cell in netlist["modules"][top]["cells"].values()]
    return kinds.count("SB_LUT4") + kinds.count("LUT4") + 2 * kinds.count("CCU2C")
