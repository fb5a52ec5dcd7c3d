"""The demo's page: one HTML file with every figure inside it, readable by itself and offline."""

from dataclasses import dataclass
from html import escape

import numpy as np

from sim.charts import bars, lines, picture

__all__ = ["Example", "mosaic", "render", "rows", "table"]

NO_BOARD = (
    "No physical board was involved: the accelerator's Verilog was simulated, and the clock"
    " frequency is what place-and-route promises."
)

#: What the bitstream's report counts.
CELLS = {
    "logic_cells": "logic cells", "lut4": "LUT4", "ff": "flip-flops", "bram": "BRAM",
    "spram": "SPRAM", "dsp": "DSP",
}

#: Spikes, in a colour that reads on either background; silence is transparent.
SPIKE = (217, 119, 6, 255)

STYLE = """
:root { color-scheme: light dark; --bg: #fff; --fg: #1b1f24; --dim: #5d6670; --line: #d8dde3;
  --ok: #1a7f37; --bad: #c62828; --c0: #0b69a3; --c1: #c25100; --c2: #1a7f5a; --c3: #8a3fa0;
  --c4: #8a6d00; --c5: #b0306a; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --fg: #e3e7ec; --dim: #99a3ae;
  --line: #333b44; --ok: #56c271; --bad: #ff7b72; --c0: #5db1ec; --c1: #ff9d57; --c2: #5fd0a2;
  --c3: #cf94e6; --c4: #d9bd4c; --c5: #f283b0; } }
body { margin: 2rem auto; max-width: 58rem; padding: 0 1rem; background: var(--bg);
  color: var(--fg); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0; } h2 { margin: 2.5rem 0 .5rem; } .dim, footer { color: var(--dim); }
.verdict { border-left: 4px solid var(--ok); padding: .2rem 1rem; }
.verdict.bad { border-color: var(--bad); }
table { border-collapse: collapse; } td, th { padding: .25rem 1.5rem .25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td:nth-child(2) { font-variant-numeric: tabular-nums; font-weight: 600; white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem; }
.scroll { overflow-x: auto; } .digits td, .digits th { padding-right: .8rem; }
.digits .dim { font-weight: normal; }
figure { margin: 0; } figcaption { font-weight: 600; } figure p { margin: 0; font-size: .85rem; }
.key { margin-right: 1rem; white-space: nowrap; }
.key::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .35em;
  border-radius: 2px; background: var(--c); }
svg { width: 100%; height: auto; } svg text { fill: var(--fg); font-size: 12px; }
.grid { stroke: var(--line); } .track { fill: var(--line); } .bar, .dot { fill: var(--c); }
.line { fill: none; stroke: var(--c); stroke-width: 2; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); }
.c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
img { image-rendering: pixelated; border: 1px solid var(--line); display: block; }
code { font-size: .9em; }
"""


@dataclass(frozen=True, eq=False)
class Example:
    """A simulated image, and what the accelerator made of it.

    frame: uint8 [C, H, W]. spikes: of each layer but the last, uint8 [T, C, H, W].
    """

    frame: np.ndarray
    label: int
    spikes: list
    logits: np.ndarray


def rows(summary):
    """The results as (name, value, remark): the terminal's table and the page's."""
    tested, simulated = summary["images"], summary["simulated_images"]
    build = summary["bitstream"]
    cells = build["occupancy"]
    equal = "all equal" if not summary["differences"] else f"{len(summary['differences'])} DIFFER"

    def accuracy(key, images, what):
        return f"{summary[key]:.2%}", f"{what}, {images} test images"

    def used(key, name):
        of = f"of {cells[key]['available']:,} " if key in cells else ""
        return f"{build[key]:,}", f"{of}{name}"

    return [
        ("float accuracy", *accuracy("float_accuracy", tested, "PyTorch")),
        ("golden accuracy", *accuracy("integer_accuracy", tested, "integers")),
        ("agreement", *accuracy("agreement", tested, "float and golden name the same class")),
        ("RTL accuracy", *accuracy("rtl_accuracy", simulated, "simulated Verilog")),
        ("RTL = golden", equal, f"{summary['boundaries']} layer boundaries, spike by spike"),
        (
            "cycles a frame", f"{summary['cycles_per_frame']:,}",
            f"all {summary['T']} time steps; cycle model {summary['cycle_model']:,}",
        ),
        (
            "frames/s", f"{build['frames_per_s']:,.0f}",
            f"at {build['clock_mhz']:g} MHz, without the transfer of the frame",
        ),
        ("LUT4", *used("lut4", "look-up tables")),
        ("BRAM", *used("bram", "block RAMs")),
        *([("SPRAM", *used("spram", "single-port RAMs"))] if "spram" in build else []),
        ("DSP", *used("dsp", "multipliers")),
        ("fmax", f"{build['fmax_mhz']:.1f} MHz", f"{build['board']}, {build['device']}"),
    ]


def table(summary):
    """The results as text, for the terminal."""
    results = rows(summary)
    first, second = (max(len(row[i]) for row in results) for i in (0, 1))
    return "\n".join(f"{a:{first}}  {b:>{second}}  {c}" for a, b, c in results)


def mosaic(maps, width):
    """One picture, bool [height, width], of the spike maps [C, H, W], as many a row as fit."""
    channels, height, side = maps.shape
    per_row = max(1, min(channels, width // side))
    filled = np.zeros((-(-channels // per_row) * per_row, height, side), bool)
    filled[:channels] = maps
    tiles = filled.reshape(-1, per_row, height, side).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, per_row * side)


def _spikes(example, step, width=64):
    """Pixels of all layers' spikes at one step, one layer below the other."""
    blocks = []
    for spikes in example.spikes:
        block = mosaic(spikes[step], width)
        blocks += [np.pad(block, ((0, 2), (0, max(0, width - block.shape[1]))))]
    on = np.concatenate(blocks)[:-2]
    return np.where(on[..., None], np.uint8(SPIKE), np.uint8((0, 0, 0, 0)))


def _frame(example):
    gray = example.frame.mean(0).astype(np.uint8)
    return np.dstack([gray, gray, gray, np.full_like(gray, 255)])


def _digits(examples):
    steps = len(examples[0].spikes[0])
    head = "".join(f"<th>step {step + 1}</th>" for step in range(steps))
    body = []
    for example in examples:
        guess = int(np.argmax(example.logits))
        scale = 96 // example.frame.shape[2]
        cells = "".join(
            f"<td>{picture(_spikes(example, step), f'spikes at step {step + 1}', 2)}</td>"
            for step in range(steps)
        )
        body.append(
            f"<tr><td>{picture(_frame(example), f'a {example.label}', scale)}</td>"
            f"<td>{guess}<br><span class=dim>label {example.label}</span></td>{cells}</tr>"
        )
    return (
        f'<div class=scroll><table class=digits><tr><th>image</th><th>RTL says</th>{head}</tr>'
        f"{''.join(body)}</table></div>"
    )


def _curves(history):
    def curve(key, factor=1):
        return [(entry["epoch"], factor * entry[key]) for entry in history]

    return [
        lines("Training loss", {"TET loss": curve("loss")}, "epoch"),
        lines(
            "Accuracy",
            {"train, augmented": curve("train_accuracy", 100), "test": curve("test_accuracy", 100)},
            "epoch", " %",
        ),
        lines("Signs that flipped", {"per epoch": curve("flip_ratio", 100)}, "epoch", " %"),
    ]


def _layers(summary):
    layers, total = summary["layers"], summary["cycles_per_frame"]
    rates = {
        layer["name"]: [(t + 1, 100 * rate) for t, rate in enumerate(layer["firing_rates"])]
        for layer in layers if layer["firing_rates"]
    }
    return [
        lines("Firing rate after pooling", rates, "time step", " %"),
        bars("Cycles a frame by layer", [
            (layer["name"], layer["cycles"], f"{layer['cycles']:,} ({layer['cycles'] / total:.0%})")
            for layer in layers
        ]),
        bars("Occupancy of the part", [
            (CELLS[key], cells["used"] / cells["available"],
             f"{cells['used']:,} of {cells['available']:,}")
            for key, cells in summary["bitstream"]["occupancy"].items()
        ], full=1),
    ]


def render(summary, examples):
    """The page as text. summary: as ``sim.demo`` makes it. examples: list of Example."""
    differences = summary["differences"]
    verdict = (
        "Every spike of every layer, every logit and every cycle count of the simulated"
        " accelerator equals the golden model."
        if not differences else f"The accelerator differs from the golden model: {differences[0]}"
    )
    table = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td><td class=dim>{escape(remark)}</td>"
        "</tr>" for name, value, remark in rows(summary)
    )
    commands = "\n".join(map(escape, summary["commands"]))
    bitstream = summary["bitstream"]
    tools = ", ".join(f"{name} {version}" for name, version in bitstream["tools"].items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Agamemnon: {escape(summary["network"])} on {escape(bitstream["board"])}</title>
<style>{STYLE}</style></head><body>
<h1>Agamemnon: {escape(summary["network"])}</h1>
<p class=dim>A binary-weight spiking network, from PyTorch to a bitstream
({escape(bitstream["board"])}).</p>
<p class="verdict{" bad" if differences else ""}">{escape(verdict)}<br>
<span class=dim>{NO_BOARD}</span></p>
<h2>Results</h2><div class=scroll><table>{table}</table></div>
<h2>Training</h2><div class=figures>{"".join(_curves(summary["history"]))}</div>
<h2>Accelerator</h2><div class=figures>{"".join(_layers(summary))}</div>
<h2>Spikes</h2>
<p class=dim>What the accelerator wrote for each image: at every time step the maps of all
channels, the stem on top, then each convolution after its pooling.</p>
{_digits(examples)}
<h2>Again, step by step</h2><pre class=scroll><code>{commands}</code></pre>
<footer>Model {escape(summary["checksum"][:16])}, seed of place-and-route {bitstream["seed"]},
{escape(tools)}.</footer>
</body></html>
"""
