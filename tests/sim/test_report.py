"""The report before synthesis, as table, page and JSON."""

import json
from html import escape

import pytest

from hw.boards import BOARDS
from hw.sizing import sizing
from sim import report
from sw import image
from tests.sim.test_page import Balance


@pytest.fixture(scope="module")
def found():
    return sizing(BOARDS["icebreaker"], image.load("models/digits.bsnn"))


def test_page_is_well_formed_and_needs_nothing_from_outside(found):
    text = report.render(found)
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert not parser.open and not parser.sources
    for layer in found["layers"]:
        assert f"{layer['cycles']:,}" in text
    for limit in found["limits"]:
        assert escape(limit) in text
    assert report.render({**found, "model": "<other>"}) != text
    assert "<other>" not in report.render({**found, "model": "<other>"})


def test_table_has_every_layer_and_memory(found):
    lines = report.table(found).split("\n")
    for layer in found["layers"]:
        row = [layer["name"], f"{layer['macs']:,}", f"{layer['cycles']:,}"]
        assert row in [line.split()[:3] for line in lines]
    for memory in found["memories"]:
        row = [memory["name"], f"{memory['used']:,}", f"{memory['available']:,}"]
        assert row in [line.split()[:3] for line in lines]


def test_command(found, tmp_path, capsys):
    arguments = [
        "icebreaker", "--model", "models/digits.bsnn", "--out", str(tmp_path / "new"),
        "--engine", "board",
    ]
    assert report.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))
    assert (tmp_path / "new" / "report-icebreaker-digits.html").read_text() == report.render(found)
    assert report.main([*arguments, "--clock", "12"]) == 0
    assert "at 12 MHz" in capsys.readouterr().out


@pytest.mark.parametrize("clock", ["nan", "inf", "0", "-5", "fast"])
def test_a_clock_that_is_none_is_refused(clock, tmp_path, capsys):
    with pytest.raises(SystemExit):
        report.main(["icebreaker", "--clock", clock, "--out", str(tmp_path)])
    assert "argument --clock" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["nosuch"], "unknown board 'nosuch'"),
    (["icebreaker", "--model", "none.bsnn"], "none.bsnn"),
    (["icebreaker", "--model", "models/cnv.bsnn"], "cnv does not fit"),
    (["icebreaker", "--clock", "900"], "iCE40 PLL makes 16 to 275 MHz, not 900 MHz"),
])
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    assert report.main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
