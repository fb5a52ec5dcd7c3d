"""What all simulations have in common: the engine that is asked for, and how they end."""

import json

import pytest

from sim import emulate, run
from sim.command import engine_of, finish
from sw.engine import ENGINES, EngineError


def test_an_engine_is_a_boards_or_that_of_a_build(tmp_path):
    assert engine_of("icebreaker") == ENGINES["icebreaker"]
    report = tmp_path / "report.json"
    for engine in (ENGINES["icebreaker-t1"], ENGINES["ulx3s-85f"]):
        report.write_text(json.dumps({"engine": engine.to_dict(), "fmax_mhz": 30}))
        assert engine_of(str(report)) == engine != engine_of("icebreaker")


@pytest.mark.parametrize("text, message", [
    (None, r"neither a board \(icebreaker, .*\) nor the report"), ("{", "no report of a build"),
    ("{}", "no report of a build"), ('{"engine": 3}', "no report of a build"),
    ('{"engine": {"pe": 4}}', "no report of a build"),
])
def test_what_is_neither_is_one_line(text, message, tmp_path, capsys):
    report = tmp_path / "report.json"
    if text:
        report.write_text(text)
    with pytest.raises(EngineError, match=message):
        engine_of(str(report))
    for command in (run, emulate):
        model = ["--model", "models/digits.bsnn"] if command is run else []
        assert command.main([*model, "--engine", str(report)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {report}: ") and error.count("\n") == 1


def test_gates_are_of_a_board(tmp_path, capsys):
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"engine": ENGINES["icebreaker"].to_dict()}))
    assert run.main(["--model", "models/digits.bsnn", "--engine", str(report), "--netlist"]) == 2
    assert capsys.readouterr().err.startswith("error: --netlist needs a board")


def test_ctrl_c_is_one_line(capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    assert finish(interrupted, None, None) == 130
    assert capsys.readouterr().err == "\nstopped\n"
