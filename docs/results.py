"""Rewrites the tables of results in README.md, architecture.md and verification.md.

They come from ``results/`` and ``hw.boards``; of boards with the same engine, the first stands for
all of them, but in the table of boards.

Run it after new builds or seeds: ``python docs/results.py``.
"""

import json
from pathlib import Path

from tables import replace_table

from hw.bench import NETWORKS
from hw.boards import BOARDS
from sw.engine import boards_of

__all__ = [
    "LAYERS_PAGE", "PAGE", "PROOFS_PAGE", "load", "load_estimator", "load_proofs", "load_seeds",
    "render", "render_boards", "render_estimates", "render_layers", "render_proofs",
    "render_seeds",
]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "README.md"
LAYERS_PAGE = ROOT / "docs" / "architecture.md"
PROOFS_PAGE = ROOT / "docs" / "verification.md"

BOARD_COLUMNS = (
    "`BOARD=`", "part", "MACs/cycle", "crystal", "UART: rx, tx", "LED", "clock", "fmax",
    "logic in use", "block RAM", "frames/s",
)
COLUMNS = (
    "board", "network", "MACs/cycle", "LUT4", "for each MAC/cycle", "logic in use", "block RAM",
    "DSP", "fmax", "clock", "cycles a frame", "array in use", "frames/s",
)
LINE_COLUMNS = (
    "board", "network", "baud", "ms on the line", "ms computing", "frames/s end to end", "limit",
)
ESTIMATE_COLUMNS = (
    "parts", "engines fitted to", "held out", "LUTs off", "farthest", "logic cells off",
)
PROOF_COLUMNS = ("proof", "what holds", "how", "is lost if")
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


def load_proofs():
    """The report on the proofs."""
    return json.loads((ROOT / "results" / "formal.json").read_text())


def load_estimator():
    """The report on the estimates."""
    return json.loads((ROOT / "results" / "estimator.json").read_text())


def _of(report, cells):
    if cells not in report["occupancy"]:
        return "-"
    entry = report["occupancy"][cells]
    return f"{entry['used']:,} of {entry['available']:,}"


def _logic(report):
    # Of an iCE40, a logic cell holds a LUT, a flip-flop or both.
    logic = "logic_cells" if "logic_cells" in report["occupancy"] else "lut4"
    return f"{report['occupancy'][logic]['share']:.0%}"


def _pin(port):
    return port.io.metadata[0].name


def _board_row(board, report):
    platform = board.new_platform()
    clock = platform.request(board.clock, 0, dir="-")
    uart, led = platform.request("uart", 0, dir="-"), board.request_led(platform)
    known = (
        f"`{board.name}`", f"{platform.device}-{platform.package}",
        f"{board.engine.macs_per_cycle:,}", f"{board.crystal_hz / 1e6:g} MHz, {_pin(clock)}",
        f"{_pin(uart.rx)}, {_pin(uart.tx)}: {board.baud(board.clock_hz) / 1e6:g} Mbaud",
        "none" if led is None else _pin(led), f"{board.clock_hz / 1e6:g} MHz",
    )
    if report is None:
        return *known, *["not built"] * (len(BOARD_COLUMNS) - len(known))
    return (
        *known, f"{report['fmax_mhz']:.1f} MHz", _logic(report), _of(report, "bram"),
        f"{report['frames_per_s']:,.0f} (`{report['model']}`)",
    )


def _row(report):
    return (
        f"{report['board']} ({report['device']})", report["model"], f"{report['lanes']:,}",
        f"{report['lut4']:,}", f"{report['lut4'] / report['lanes']:.2f}", _logic(report),
        _of(report, "bram"), _of(report, "dsp"),
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


def _of_each_engine(reports):
    """Those of the first board that carries an engine."""
    firsts = {boards_of(board.engine)[0] for board in BOARDS.values()}
    return [report for report in reports if report["board"] in firsts]


def render(text, reports):
    """README with the tables of builds as they should be."""
    reports = _of_each_engine(reports)
    text = replace_table(text, COLUMNS, map(_row, reports))
    return replace_table(text, LINE_COLUMNS, map(_line_row, reports))


def render_boards(text, reports):
    """README with the table of boards as it should be: each with the last of its networks."""
    found = {(report["board"], report["model"]): report for report in reports}
    return replace_table(text, BOARD_COLUMNS, (
        _board_row(board, found.get((name, NETWORKS[name][-1]))) for name, board in BOARDS.items()
    ))


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
    builds = [report for report in _of_each_engine(reports) if report["model"] == "cnv"]
    columns = ["layer", "MACs a frame"]
    for report in builds:
        columns += [f"cycles on {report['board']}", "array in use"]
    layers = zip(*(report["layers"] for report in builds), strict=True)
    return replace_table(text, columns, map(_layer_row, layers))


def _estimate_row(found):
    lut4, logic = (found["heldout"][count] for count in ("lut4", "logic"))
    return (
        found["parts"], f"{found['fitted_n']}", f"{found['heldout_n']}", f"{lut4['error']:.1%}",
        f"{lut4['largest']:.1%}", f"{logic['error']:.1%}",
    )


def render_estimates(text, report):
    """architecture.md with the errors of the estimates as they should be."""
    return replace_table(text, ESTIMATE_COLUMNS, map(_estimate_row, report["kinds"].values()))


def render_proofs(text, report):
    """verification.md with the proofs as they should be."""
    return replace_table(text, PROOF_COLUMNS, (
        (f"`{name}`", proof["states"], proof["kind"], proof["mutant"])
        for name, proof in report["proofs"].items()
    ))


if __name__ == "__main__":
    for page, rewrite, reports in (
        (PAGE, render_boards, load()), (PAGE, render, load()), (PAGE, render_seeds, load_seeds()),
        (LAYERS_PAGE, render_layers, load()), (LAYERS_PAGE, render_estimates, load_estimator()),
        (PROOFS_PAGE, render_proofs, load_proofs()),
    ):
        page.write_text(rewrite(page.read_text(), reports))
