"""What engines take, beside what was built."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hw.boards import BOARDS
from hw.estimate import PARTS, estimate, features, hard_blocks
from sw.engine import ENGINES, Engine

BUILDS = {path.stem: json.loads(path.read_text()) for path in Path("results/builds").glob("*.json")}


@pytest.mark.parametrize("name", BUILDS)
def test_builds_take_what_was_estimated(name):
    """Exactly, of hard blocks; LUTs as nearly as single engines of the fit."""
    report = BUILDS[name]
    part = PARTS[BOARDS[report["board"]].platform.device]
    found = estimate(part, Engine.from_dict(report["engine"]))
    blocks = {name: found[name] for name in ("bram", "dsp", "spram")}
    assert blocks == {name: report.get(name, 0) for name in blocks}
    assert found["lut4"] == pytest.approx(report["lut4"], rel=0.15)
    logic = report.get("logic_cells", report["lut4"])
    assert found["logic"] == pytest.approx(logic, rel=0.15)


@pytest.mark.parametrize("name", BUILDS)
def test_parts_have_what_nextpnr_says(name):
    report = BUILDS[name]
    part = PARTS[BOARDS[report["board"]].platform.device]
    cells = {cell: entry["available"] for cell, entry in report["occupancy"].items()}
    cells["logic"] = cells.pop("logic_cells", None) or cells.pop("lut4")
    assert {cell: cells[cell] for cell in part.cells} == part.cells


@pytest.mark.parametrize("change", [
    dict(current_width=18), dict(simd=32), dict(leak_shifts=(0, 1, 2, 3)), dict(passes=4),
    dict(mean_depth=4096),
], ids=str)
def test_what_is_more_takes_more(change):
    part, engine = PARTS["LFE5U-25F"], replace(ENGINES["icebreaker"], current_width=16)
    assert sum(features(part, replace(engine, **change)).values()) > sum(
        features(part, engine).values()
    )
    more, less = (estimate(part, each) for each in (replace(engine, **change), engine))
    assert more["lut4"] > less["lut4"] or more["bram"] > less["bram"]


def test_multipliers_become_luts_where_there_are_none():
    engine = ENGINES["hx8k-evn"]
    assert hard_blocks(PARTS["iCE40HX8K"], engine)["dsp"] == 0
    assert hard_blocks(PARTS["iCE40UP5K"], engine)["dsp"] == 8
    with_dsps, without = (
        estimate(PARTS[device], engine)["lut4"] for device in ("iCE40UP5K", "iCE40HX8K")
    )
    assert without > with_dsps + 500
