"""Builds with the engine that is found for the network, at the clock that it reaches."""

import json

import pytest

import hw.build
import hw.device
from hw.boards import BOARDS
from hw.command import build_fitted
from hw.fit import fit
from hw.report import TimingError
from hw.tools import BuildError
from sw import image
from sw.engine import ENGINES, Engine
from tests.hw.test_build import Echo

MODEL = "models/digits.bsnn"


def missed(reached_hz):
    error = TimingError("timing missed")
    error.reached_hz = reached_hz
    return error


@pytest.fixture
def digits():
    return image.load(MODEL)


@pytest.fixture
def tried(monkeypatch):
    """Stands in for the build: misses every clock above 10 MHz, which it reaches; what it tried."""
    tried = []

    def build(board, model, *, clock_hz=None, **options):
        tried.append((clock_hz or board.clock_hz, board.engine))
        if tried[-1][0] > 20_000_000:
            raise missed(20_500_000.0)
        return options

    build.tried = tried
    return build


def test_the_engine_is_the_networks(monkeypatch, tmp_path, capsys, digits):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    arguments = ["icebreaker", "--model", MODEL, "--out", str(tmp_path), "--json"]
    assert hw.build.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    found = fit(digits, BOARDS["icebreaker"])
    assert Engine.from_dict(report["engine"]) == found.engine != ENGINES["icebreaker"]
    assert report["cycles_per_frame"] == found.cycles
    assert hw.build.main([*arguments, "--engine", "board"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Engine.from_dict(report["engine"]) == ENGINES["icebreaker"]


def test_a_clock_that_is_missed_is_lowered(tried, digits, capsys):
    assert build_fitted(tried, BOARDS["icebreaker"], digits, seed=3) == {"seed": 3}
    (first, engine), (second, other) = tried.tried
    assert (first, second) == (24_000_000, 19_000_000) and engine == other
    assert capsys.readouterr().err == "timing missed; now with 19 MHz\n"


def test_enough_frames_at_the_lower_clock(tried, digits):
    """A larger engine, if there is one."""
    board = BOARDS["ulx3s-85f"]
    clock = board.clock_hz
    fps = 0.999 * clock / fit(digits, board, fps=3000).cycles
    build_fitted(tried, board, digits, fps)
    (_, engine), (slower, other) = tried.tried
    assert fit(digits, board, fps=fps).engine == engine != other
    assert slower / fit(digits, board, slower, fps).cycles >= fps
    slow = r"does not reach 700 frames/s on the icebreaker: .* at 19"
    with pytest.raises(BuildError, match=slow):
        build_fitted(tried, BOARDS["icebreaker"], digits, 700)


def test_it_is_not_tried_for_ever(digits):
    def never(board, model, *, clock_hz=None):
        clocks.append(clock_hz)
        raise missed(0.9 * (clock_hz or board.clock_hz))

    clocks = []
    with pytest.raises(TimingError):
        build_fitted(never, BOARDS["icebreaker"], digits)
    assert clocks == [None, 20_000_000, 17_000_000]


def test_a_clock_that_cannot_be_lowered_stays_missed(digits):
    """There is none so slow, the board has but one, or it was another clock that was missed."""
    for name, reached in (("icebreaker", 3e6), ("tang-nano-9k", 20e6), ("icebreaker", 40e6)):
        calls = []

        def never(board, model, *, clock_hz=None, calls=calls, reached=reached):
            calls.append(clock_hz)
            raise missed(reached)

        with pytest.raises(TimingError, match="timing missed"):
            build_fitted(never, BOARDS[name], digits)
        assert calls == [None]


@pytest.mark.parametrize("arguments, message", [
    (["--fps", "1000000"], "error: digits does not reach 1e+06 frames/s on the icebreaker"),
    (["--fps", "5", "--engine", "board"], "error: --fps chooses an engine"),
    (["--model", "models/cnv.bsnn"], "error: cnv does not fit the icebreaker: its weights are"),
])
def test_what_cannot_be_is_one_line(arguments, message, tmp_path, capsys):
    words = ["icebreaker", "--model", MODEL, "--out", str(tmp_path / "new"), *arguments]
    assert hw.build.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1
    assert not (tmp_path / "new").exists()
