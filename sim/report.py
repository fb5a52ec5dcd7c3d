"""What a network takes on a board, before any synthesis: cycles, frames/s, memories, limits."""

import argparse
import json
import sys
from html import escape
from pathlib import Path

from hw.boards import BOARDS, find_board
from hw.clock import ClockError
from hw.command import DEFAULT_MODEL, megahertz
from hw.fit import add_options, fitted
from hw.sizing import sizing
from hw.tools import BuildError
from hw.uart import BaudError
from sim.charts import bars
from sim.page import NO_BOARD, STYLE
from sw import image as network_image
from sw.engine import EngineError
from sw.files import replace_file
from sw.image import ImageError

__all__ = ["main", "render", "table"]


#: What the cells of a part are called.
CELLS = {
    "logic": "logic cells (estimate)", "bram": "block RAMs", "dsp": "multipliers",
    "spram": "SPRAMs",
}


def _share(value):
    return "" if value is None else f"{value:.1%}"


def folding(report):
    """The engine in a few words."""
    engine = report["engine"]
    words = f"{engine['pe']} x {engine['simd']} channels, {engine['lanes']} lanes"
    if engine["pixels"] > 1:
        words += f" of {engine['pixels']} pixels"
    if engine["passes"] > 1:
        words += f" in {engine['passes']} passes"
    if engine["stem"]:
        words += f", a stem core of {engine['stem']['pe']}"
    return words


def _sections(report):
    """(title, columns, rows of text): the terminal's tables and the page's."""
    yield "Speed", ("", "", ""), [
        ("cycles a frame", f"{report['cycles_per_frame']:,}", f"all {report['T']} time steps"),
        ("frames/s", f"{report['frames_per_s']:,.1f}", f"at {report['clock_mhz']:g} MHz"),
        (
            "over the line", f"{report['frames_per_s_over_line']:,.1f}",
            f"at {report['baud']:,} baud",
        ),
        ("array in use", f"{report['utilisation']:.1%}", f"of {report['lanes']:,} MACs a cycle"),
    ]
    yield "Layers", ("layer", "MACs", "cycles", "array in use"), [
        (layer["name"], f"{layer['macs']:,}", f"{layer['cycles']:,}", _share(layer["utilisation"]))
        for layer in report["layers"]
    ]
    yield "Cells", ("", "in use", "of", ""), [
        (
            CELLS[cell["name"]], f"{cell['used']:,}", f"{cell['available']:,}",
            _share(cell["share"]),
        )
        for cell in report["cells"]
    ]
    yield "Memories, 16-bit words", ("memory", "in use", "of", ""), [
        (memory["name"], f"{memory['used']:,}", f"{memory['available']:,}", _share(memory["share"]))
        for memory in report["memories"]
    ]
    yield "Spike memory, 16-bit words", ("output of", "first", "words"), [
        (place["layer"], f"{place['first']:,}", f"{place['words']:,}")
        for place in report["spike_map"]
    ]


def _columns(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def table(report):
    """The report as text, for the terminal."""
    lines = [f"{report['model']} on {report['board']} ({report['device']}): {folding(report)}"]
    for title, columns, rows in _sections(report):
        lines += ["", title, *_columns([*([columns] if any(columns) else []), *rows])]
    return "\n".join([*lines, "", *report["limits"]])


def render(report):
    """The report as a page, one HTML file with its figures inside."""
    total = sum(layer["cycles"] for layer in report["layers"])
    figures = [
        bars("Cycles by layer", [
            (layer["name"], layer["cycles"], f"{layer['cycles']:,} ({layer['cycles'] / total:.0%})")
            for layer in report["layers"]
        ]),
        bars("Array in use", [
            (layer["name"], layer["utilisation"], f"{layer['utilisation']:.0%}")
            for layer in report["layers"] if layer["utilisation"] is not None
        ], full=1),
        bars("Cells in use", [
            (cell["name"], cell["share"], f"{cell['share']:.0%}") for cell in report["cells"]
        ], full=1),
        bars("Memories in use", [
            (memory["name"].lower().replace("_", " "), memory["share"], f"{memory['share']:.0%}")
            for memory in report["memories"]
        ], full=1),
    ]

    def cells(kind, row):
        return "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row)

    tables = "".join(
        f"<h2>{escape(title)}</h2><div class=scroll><table>"
        + "".join(
            f"<tr>{cells('th' if row is columns else 'td', row)}</tr>"
            for row in ([columns, *rows] if any(columns) else rows)
        ) + "</table></div>"
        for title, columns, rows in _sections(report)
    )
    limits = "<br>".join(map(escape, report["limits"]))
    title = f"{report['model']} on {report['board']}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Agamemnon: {escape(title)}</title>
<style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class=dim>{escape(report["device"])}, {escape(folding(report))}. Before synthesis: all is exact
but the logic cells.</p>
<p class=verdict>{limits}<br><span class=dim>{NO_BOARD}</span></p>
<div class=figures>{"".join(figures)}</div>
{tables}
<footer>Model {escape(report["model_checksum"][:16])}.</footer>
</body></html>
"""


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.report", description=__doc__,
        epilog=f"boards: {', '.join(BOARDS)}; example: python -m sim.report icebreaker --model"
        " models/digits.bsnn",
    )
    add = parser.add_argument
    add("board", help="which board")
    add("--model", type=Path, default=DEFAULT_MODEL, metavar="FILE",
        help=f"network image (default: {DEFAULT_MODEL})")
    add_options(parser)
    add("--clock", type=megahertz, metavar="MHZ", help="of the design (default: the board's)")
    add("--out", type=Path, default=Path("build"), metavar="DIR",
        help="where the page goes (default: build)")
    add("--json", action="store_true", help="print the report as one line of JSON")
    args = parser.parse_args(argv)
    try:
        board = find_board(args.board)
        image = network_image.load(args.model)
        clock_hz = args.clock and round(args.clock * 1e6)
        board = fitted(board, image, args.engine, clock_hz, args.fps)
        report = sizing(board, image, clock_hz)
        args.out.mkdir(parents=True, exist_ok=True)
        page = args.out / f"report-{board.name}-{report['model']}.html"
        replace_file(page, render(report))
    except (BaudError, BuildError, ClockError, EngineError, ImageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if args.json else f"{table(report)}\n{page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
