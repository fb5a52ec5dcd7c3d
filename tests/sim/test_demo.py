"""The demo's command line, with its work replaced: what it prints, writes and returns."""

import json

import pytest
import torch

from hw.build import BuildError
from sim import demo
from sim.page import NO_BOARD, render, table
from sw.checkpoint import save_checkpoint
from sw.model import SpikingNetwork
from sw.networks import digits
from tests.sim.figures import examples, summary


@pytest.fixture
def work(monkeypatch):
    """Sets what the demo's work ends in: a summary or an error."""
    def end_in(result):
        def replaced(folder, images, simulator):
            if isinstance(result, Exception):
                raise result
            return result, examples()
        monkeypatch.setattr(demo, "demo", replaced)
    return end_in


def test_table_and_page(work, tmp_path, capsys):
    work(summary())
    assert demo.main(["--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "RTL accuracy" in printed
    assert NO_BOARD in printed
    assert NO_BOARD in (tmp_path / "index.html").read_text()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary()


def test_json_is_all_of_stdout(work, tmp_path, capsys):
    work(summary())
    assert demo.main(["--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == summary()


def test_a_difference_fails_and_is_shown(work, tmp_path, capsys):
    work(summary(differences=["frame 0 conv1: 1 of 64 values differ"]))
    assert demo.main(["--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "1 DIFFER" in printed.out
    assert "differs: frame 0 conv1" in printed.err
    assert "verdict bad" in (tmp_path / "index.html").read_text()


def test_an_error_is_one_line_and_keeps_the_old_page(work, tmp_path, capsys):
    (tmp_path / "index.html").write_text("old")
    work(BuildError("it does not fit"))
    assert demo.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: it does not fit\n"
    assert (tmp_path / "index.html").read_text() == "old"


def test_no_images_is_refused(work, tmp_path, capsys):
    work(summary())
    assert demo.main(["--out", str(tmp_path), "-n", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def simulated(plan, simulator):
    """What a simulator that agrees with the golden model returns."""
    return {
        "frames": len(plan.frames), "differences": [], "cycles_per_frame": sum(plan.cycles),
        "logits": plan.boundaries[-1].tolist(),
    }


@pytest.fixture
def short(monkeypatch):
    """A demo without training, simulator and place-and-route; all else is real."""
    def trained(folder):
        folder.mkdir()
        torch.manual_seed(0)
        save_checkpoint(folder / "c.safetensors", SpikingNetwork(digits()))
        return str(folder / "c.safetensors"), summary()["history"]

    monkeypatch.setattr(demo, "_train", trained)
    monkeypatch.setattr(demo, "simulate", simulated)
    monkeypatch.setattr(demo, "build", lambda *_, **__: summary()["bitstream"])


def test_stages_fit_together(short, tmp_path):
    result, shown = demo.demo(tmp_path, images=3)
    # The made-up report speaks of another network: that must not go unnoticed.
    (difference,) = result.pop("differences")
    assert "the bitstream's report says 1000 cycles a frame" in difference
    result["differences"] = []
    assert set(summary()) <= set(result)
    assert json.loads(json.dumps(result)) == result
    assert result["boundaries"] == 12
    assert [layer["name"] for layer in result["layers"]] == ["stem0", "conv1", "conv2", "readout3"]
    assert len({example.label for example in shown}) == len(shown)
    assert "RTL = golden     all equal" in table(result)
    assert "</html>" in render(result, shown)
