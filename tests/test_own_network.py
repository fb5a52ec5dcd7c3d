"""A user's own network goes the whole way: the example of README.md, extracted from that page."""

import json

import pytest
import torch

from hw.boards import BOARDS
from sw import export, golden, image
from sw import train as trainer
from sw.engine import ENGINES, Engine, EngineError
from sw.program import compile_program
from tests.readme import ROOT, blocks, commands, section
from tests.support import BOARD_ENGINES

PROGRAMS = {"sw/train.py": trainer.main, "sw/export.py": export.main, "sw.golden": golden.main}


@pytest.fixture(scope="module")
def page():
    return section((ROOT / "README.md").read_text(), "Bring your own network")


@pytest.fixture(scope="module")
def folder(page, tmp_path_factory):
    """A folder of the user's, in which the page's commands have run, with a single epoch."""
    folder = tmp_path_factory.mktemp("user")
    (source,) = blocks(page, "python")
    (folder / "my_net.py").write_text(source)
    threads = torch.get_num_threads()
    # So small a network is slower on threads that wait for each other, most of all beside others.
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for program, *words in commands(blocks(page, "sh")[0]):
            if program == "make":
                continue
            script, *arguments = words[1:] if words[0] == "-m" else words
            if script == "sw/train.py":
                arguments += ["--epochs", "1", "--batch", "32", "--lr", "0.005"]
            assert PROGRAMS[script](arguments) == 0
    torch.set_num_threads(threads)
    return folder


def test_page_names_every_step(page):
    (block,) = blocks(page, "sh")
    steps = [words[2] if words[1] == "-m" else words[1] for words in commands(block)]
    assert steps == ["sw/train.py", "sw/export.py", "sw.golden", "sim", "bitstream"]


def test_image_is_the_users_network(folder):
    loaded = image.load(folder / "my-net.bsnn")
    assert loaded.network.name == "my-net"
    assert [layer.channels for layer in loaded.network.layers] == [16, 32, 32, 10]
    assert loaded.gain_mode == "exact"


def test_golden_model_runs(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert golden.main(["--model", "my-net.bsnn", "--data", "digits"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 360
    # One epoch: far above the 10 % of guessing, and the integers follow the floats.
    assert result["float_accuracy"] > 0.3
    assert result["agreement"] > 0.8


@pytest.mark.parametrize("board", [
    name for name, engine in BOARD_ENGINES.items() if engine.exact_gain
])
def test_bitstream_would_be_built(folder, board):
    """What hw.build asks of an image before synthesis: that it fits the board's engine."""
    loaded = image.load(folder / "my-net.bsnn")
    program = compile_program(loaded, BOARDS[board].engine)
    assert program.engine == ENGINES[board]


def test_bitstream_is_refused_for_an_engine_too_small(folder):
    small = ENGINES["icebreaker"].to_dict() | {"weight_depth": 64}
    with pytest.raises(EngineError, match=r"my-net does not fit: .* words of weights"):
        compile_program(image.load(folder / "my-net.bsnn"), Engine.from_dict(small))
