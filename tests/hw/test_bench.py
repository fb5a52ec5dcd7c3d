"""Reports of several networks on one bitstream, without building it."""

import json

import pytest

from hw import bench
from hw.boards import BOARDS
from sw import image
from sw.cycles import cycles_per_frame


@pytest.fixture
def builds(monkeypatch):
    """What is built, each with a clock of 10 MHz."""
    calls = []

    def build(board, model, *, seed, out, command):
        assert command.endswith(f"--seed {seed}")
        calls.append((board.name, model.network.name, command))
        return {
            "board": board.name, "clock_mhz": 10.0, "baud": 1_000_000, "lut4": 1,
            "model": "of the build",
        }

    monkeypatch.setattr(bench, "build", build)
    return calls


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_built_once_for_all_its_networks(board, builds, tmp_path):
    names = bench.NETWORKS[board]
    reports = bench.bench(board, tmp_path, seed=3)
    assert builds == [(board, names[0], f"python -m hw.bench {board} --seed 3")]
    assert [report["model"] for report in reports] == list(names)
    for name, report in zip(names, reports, strict=True):
        assert json.loads((tmp_path / f"{board}-{name}.json").read_text()) == report
        model, engine = image.load(f"models/{name}.bsnn"), BOARDS[board].engine
        cycles = cycles_per_frame(model.network, engine, ahead=engine.stem is not None)
        assert report["cycles_per_frame"] == cycles
        assert report["frames_per_s"] == pytest.approx(1e7 / cycles, abs=1e-3)
        assert report["lut4"] == 1


def test_the_line_by_hand(builds, tmp_path):
    """A WRITE of 784 bytes, its reply, a RUN, and its reply with the logits of ten classes."""
    octets = (13 + 784 + 4) + 6 + 13 + (1 + 1 + 4 + 10 * 8 + 4)
    report = bench.bench("icebreaker", tmp_path)[0]
    assert report["line_ms_per_frame"] == octets * 10 / 1e3
    seconds = octets * 10 / 1e6 + report["cycles_per_frame"] / 1e7
    assert report["frames_per_s_over_line"] == pytest.approx(1 / seconds, abs=1e-3)


def test_a_board_has_a_seed_of_its_own(builds, tmp_path):
    for name, seed in (("ulx3s-85f", 1), ("ulx3s-85f-wide", 2)):
        assert BOARDS[name].seed == seed
        bench.bench(name, tmp_path)
        assert builds[-1][2] == f"python -m hw.bench {name} --seed {seed}"


def test_utilisation_is_of_the_array(builds, tmp_path):
    one, two = (bench.bench(board, tmp_path)[0] for board in ("icebreaker", "ulx3s-85f"))
    # The icebreaker's stem keeps its array waiting, that of the ulx3s-85f has a core of its own.
    for report, first in ((one, 0), (two, 1)):
        useful = sum(layer["macs"] for layer in report["layers"][first:])
        share = useful / (report["lanes"] * report["cycles_per_frame"])
        assert report["utilisation"] == pytest.approx(share, abs=1e-4)
    assert [one["stem_works_ahead"], two["stem_works_ahead"]] == [False, True]
    assert two["layers"][0]["utilisation"] is None
    assert sum(layer["macs"] for layer in two["layers"]) == two["macs_per_frame"]


def test_an_unknown_board_is_one_line(capsys):
    assert bench.main(["ice"]) == 2
    assert capsys.readouterr().err == f"error: unknown board 'ice': one of {', '.join(BOARDS)}\n"


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "build", interrupted)
    assert bench.main(["icebreaker"]) == 130
    assert capsys.readouterr().err == "\nstopped; reports of finished boards are kept\n"
