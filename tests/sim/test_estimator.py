"""The estimates: what was measured, what follows from it, and how a study goes on."""

import json

import pytest

from hw.boards import BOARDS
from hw.estimate import PARTS, RESULTS, estimate
from sim import estimator
from sim.engines import KINDS, draw
from sim.estimator import HELD_OUT, is_held_out, report_of


@pytest.fixture(scope="module")
def committed():
    return json.loads(RESULTS.read_text())


def test_what_was_asked_for_is_reached(committed):
    assert committed["heldout_n"] == HELD_OUT * len(KINDS) >= 20
    assert committed["heldout_lut_error"] <= 0.05
    for found in committed["kinds"].values():
        assert found["heldout"]["lut4"]["error"] <= 0.05
        assert found["heldout"]["logic"]["error"] <= 0.05
    for name in ("bram", "dsp", "spram", "cycle"):
        assert committed[f"{name}_mismatches"] == 0
    assert all("cycles" in row for row in committed["engines"] if is_held_out(row))


def test_the_report_follows_from_its_rows(committed):
    found = report_of(committed["engines"])
    for kind, kept in committed["kinds"].items():
        assert found["kinds"][kind]["coefficients"]["lut4"] == pytest.approx(
            kept["coefficients"]["lut4"], rel=0.01, abs=0.01
        )
    assert found["heldout_lut_error"] == pytest.approx(committed["heldout_lut_error"], abs=1e-3)
    part = KINDS["up5k"].part
    row = next(row for row in committed["engines"] if row["kind"] == "up5k")
    assert estimate(part, draw("up5k", row["number"]))["lut4"] == pytest.approx(
        row["lut4"], rel=0.15
    )


@pytest.mark.parametrize("name, figure", [
    ("lut4", "heldout_lut_error"), ("bram", "bram_mismatches"), ("dsp", "dsp_mismatches"),
    ("spram", "spram_mismatches"), ("cycles", "cycle_mismatches"),
    ("differences", "cycle_mismatches"),
])
def test_what_is_off_is_seen(committed, name, figure):
    rows = [dict(row) for row in committed["engines"]]
    wrong = next(filter(is_held_out, rows))
    wrong[name] += 10000 if name == "lut4" else 1
    assert report_of(rows)[figure] > committed[figure]


def test_held_out_engines_are_not_fitted_to(committed):
    rows = [dict(row) for row in committed["engines"]]
    for row in rows:
        if is_held_out(row):
            row["lut4"] *= 2
    found = report_of(rows)
    before = report_of(committed["engines"])
    for kind in KINDS:
        assert found["kinds"][kind]["coefficients"] == before["kinds"][kind]["coefficients"]
    assert found["heldout_lut_error"] > 0.3


def test_engines_are_drawn_again_alike():
    assert draw("ecp5", 3) == draw("ecp5", 3) != draw("ecp5", 4)
    shapes = [(e.exact_gain, e.passes > 1, e.has_stream, e.deep, e.stem is None)
              for e in (draw("ecp5", number) for number in range(KINDS["ecp5"].fitted))]
    assert all({0, 1} == set(column) for column in zip(*shapes, strict=True))


def row_of(report, kind, number):
    row, = (r for r in report["engines"] if (r["kind"], r["number"]) == (kind, number))
    return row


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_of_these_sources(committed, kind):
    """A few engines stand for all: between them they have whatever an engine may have."""
    numbers = estimator.probes(kind)
    engines = [draw(kind, number) for number in range(KINDS[kind].fitted)]
    for trait in ("exact_gain", "has_stream", "stem"):
        assert any(getattr(engines[number], trait) for number in numbers) == any(
            getattr(engine, trait) for engine in engines
        )
    for number in numbers:
        row = row_of(committed, kind, number)
        assert estimator.design_of(estimator.plan_of(kind, number)) == row["design"], (
            f"the hardware has changed: run {committed['command']}"
        )
    assert len({row["design"] for row in committed["engines"]}) == len(committed["engines"])


def test_a_row_is_what_synthesis_gives(committed):
    number, *_ = estimator.probes("up5k")
    assert estimator._studied(("up5k", number)) == row_of(committed, "up5k", number)


def test_other_sources_are_another_study(monkeypatch):
    monkeypatch.setattr(estimator, "plan_of", lambda kind, number: (kind, number))
    monkeypatch.setattr(estimator, "design_of", lambda plan: f"{plan}")
    before = estimator._identity()
    assert estimator._identity() == before
    monkeypatch.setattr(estimator, "design_of", lambda plan: f"{plan} changed")
    other = estimator._identity()
    monkeypatch.setattr(estimator, "_tools", dict)
    assert len({before, other, estimator._identity()}) == 3


#: What the job below was called with.
CALLS = []


def studied(item):
    """In place of ``_studied``; a function of a module, for dask copies others."""
    CALLS.append(item)
    if len(CALLS) == 21:
        raise KeyError(item)
    return {"kind": item[0], "number": item[1]}


def test_what_was_cut_off_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(estimator, "_studied", studied)
    monkeypatch.setattr(estimator, "_identity", lambda: "0")
    monkeypatch.setattr(estimator, "report_of", lambda rows: rows)
    with pytest.raises(KeyError):
        estimator.study(tmp_path, quiet=True)
    kept, called = len([*(tmp_path / "estimator-0").iterdir()]), len(CALLS)
    assert kept > 0
    rows = estimator.study(tmp_path, jobs=2, quiet=True)
    everything = [
        (kind, number) for kind in KINDS for number in range(KINDS[kind].fitted + HELD_OUT)
    ]
    assert [(row["kind"], row["number"]) for row in rows] == everything
    done = len(CALLS)
    assert done - called == len(everything) - kept < len(everything)
    assert estimator.study(tmp_path, quiet=True) == rows and len(CALLS) == done


def test_every_part_has_estimates(committed):
    assert {part.kind for part in PARTS.values()} == set(committed["kinds"]) == set(KINDS)
    assert {board.platform.device for board in BOARDS.values()} == PARTS.keys()


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(estimator, "study", interrupted)
    assert estimator.main([]) == 130
    assert capsys.readouterr().err == "\nstopped; the same command goes on\n"
