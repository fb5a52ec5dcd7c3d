"""Rewrites the place-and-route table of README.md from ``results/builds/``.

Run it after new builds: ``python docs/results.py``.
"""

import json
import re
from pathlib import Path

__all__ = ["PAGE", "load", "render"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"

COLUMNS = (
    "board", "MACs/cycle", "LUT4", "FF", "logic in use", "block RAM", "SPRAM", "DSP", "fmax",
    "clock", "cycles a frame", "frames/s",
)
HEADER = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"


def load():
    """All build reports, by file name."""
    paths = sorted((ROOT / "results" / "builds").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


def _of(report, cells):
    if cells not in report["occupancy"]:
        return "-"
    entry = report["occupancy"][cells]
    return f"{entry['used']:,} of {entry['available']:,}"


def _row(report):
    # Of an iCE40, a logic cell holds a LUT, a flip-flop or both.
    logic = "logic_cells" if "logic_cells" in report["occupancy"] else "lut4"
    values = (
        f"{report['board']} ({report['device']})", f"{report['lanes']:,}", f"{report['lut4']:,}",
        f"{report['ff']:,}", f"{report['occupancy'][logic]['share']:.0%}", _of(report, "bram"),
        _of(report, "spram"), _of(report, "dsp"), f"{report['fmax_mhz']:.1f} MHz",
        f"{report['clock_mhz']:.0f} MHz", f"{report['cycles_per_frame']:,}",
        f"{report['frames_per_s']:,.0f}",
    )
    return f"| {' | '.join(values)} |\n"


def render(text, reports):
    """The page with the table as it should be."""
    start = text.index(HEADER) + len(HEADER)
    table = re.match(r"(\|.*\n)*", text[start:])[0]
    return text[:start] + "".join(map(_row, reports)) + text[start + len(table) :]


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(), load()))
