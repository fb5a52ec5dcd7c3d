"""Rewrites the place-and-route tables of README.md and architecture.md from ``results/``.

Run it after new builds or seeds: ``python docs/results.py``.
"""

import json
from pathlib import Path

from tables import replace_table

__all__ = ["LAYERS_PAGE", "PAGE", "load", "load_seeds", "render", "render_layers", "render_seeds"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
LAYERS_PAGE = ROOT / "docs" / "architecture.md"

COLUMNS = (
    "board", "network", "MACs/cycle", "LUT4", "for each MAC/cycle", "logic in use", "block RAM",
    "DSP", "fmax", "clock", "cycles a frame", "array in use", "frames/s",
)
LINE_COLUMNS = (
    "board", "network", "baud", "ms on the line", "ms computing", "frames/s end to end", "limit",
)
SEED_COLUMNS = ("board", "clock", "seeds", "lowest fmax", "median", "highest")


def _load(folder):
    paths = sorted((ROOT / "results" / folder).glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


def load():
    """All build reports, by file name."""
    return _load("builds")


def load_seeds():
    """All reports on seeds, by board."""
    return _load("seeds")


def _of(report, cells):
    if cells not in report["occupancy"]:
        return "-"
    entry = report["occupancy"][cells]
    return f"{entry['used']:,} of {entry['available']:,}"


def _row(report):
    # Of an iCE40, a logic cell holds a LUT, a flip-flop or both.
    logic = "logic_cells" if "logic_cells" in report["occupancy"] else "lut4"
    return (
        f"{report['board']} ({report['device']})", report["model"], f"{report['lanes']:,}",
        f"{report['lut4']:,}", f"{report['lut4'] / report['lanes']:.2f}",
        f"{report['occupancy'][logic]['share']:.0%}", _of(report, "bram"), _of(report, "dsp"),
        f"{report['fmax_mhz']:.1f} MHz", f"{report['clock_mhz']:.0f} MHz",
        f"{report['cycles_per_frame']:,}", f"{report['utilisation']:.1%}",
        f"{report['frames_per_s']:,.0f}",
    )


def _line_row(report):
    line, run = report["line_ms_per_frame"], 1e3 / report["frames_per_s"]
    return (
        report["board"], report["model"], f"{report['baud']:,}", f"{line:.2f}", f"{run:.2f}",
        f"{report['frames_per_s_over_line']:,.0f}", "line" if line > run else "computation",
    )


def _layer_row(layers):
    """Of one layer, from the reports of several boards: its cycles and utilisation on each."""
    cells = [layers[0]["name"], f"{layers[0]['macs']:,}"]
    for layer in layers:
        share = layer["utilisation"]
        cells += [f"{layer['cycles']:,}", "other core" if share is None else f"{share:.1%}"]
    return cells


def render(text, reports):
    """README with the tables of builds as they should be."""
    text = replace_table(text, COLUMNS, map(_row, reports))
    return replace_table(text, LINE_COLUMNS, map(_line_row, reports))


def _seed_row(report):
    seeds = list(report["fmax_mhz"].values())
    missing = seeds.count(None)
    return (
        report["board"], f"{report['clock_mhz']:g} MHz",
        f"{len(seeds)}, {missing} not routed" if missing else f"{len(seeds)}",
        *(f"{report[name]:.1f} MHz" for name in ("min", "median", "max")),
    )


def render_seeds(text, reports):
    """README with the table of seeds as it should be."""
    return replace_table(text, SEED_COLUMNS, map(_seed_row, reports))


def render_layers(text, reports):
    """architecture.md with the layers of the CNV shape as they should be.

    Its header names the boards, which are those with a report: ValueError if it names others.
    """
    builds = [report for report in reports if report["model"] == "cnv"]
    columns = ["layer", "MACs a frame"]
    for report in builds:
        columns += [f"cycles on {report['board']}", "array in use"]
    layers = zip(*(report["layers"] for report in builds), strict=True)
    return replace_table(text, columns, map(_layer_row, layers))


if __name__ == "__main__":
    for page, rewrite, reports in (
        (PAGE, render, load()), (PAGE, render_seeds, load_seeds()),
        (LAYERS_PAGE, render_layers, load()),
    ):
        page.write_text(rewrite(page.read_text(), reports))
