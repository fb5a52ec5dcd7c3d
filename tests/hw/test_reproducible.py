"""The same sources give the same bitstream: a small accelerator for the icebreaker, built twice."""

import re

import hw.device
from hw.boards import BOARDS
from hw.build import place_and_route, prepare
from tests.hw import reproducible
from tests.hw.reproducible import SURROUNDINGS, TINY, build
from tests.hw.test_build import Echo


def test_two_builds_are_the_same_bytes(tmp_path):
    folders = [tmp_path / name for name in ("a", "another folder")]
    for folder in folders:
        folder.mkdir()
    first, second = map(build, (TINY, TINY), folders, SURROUNDINGS)
    assert first == second
    assert first["lut4"] > 1000
    assert re.fullmatch("[0-9a-f]{64}", first["sha256"])
    bitstreams = [(folder / "top.bin").read_bytes() for folder in folders]
    assert bitstreams[0] == bitstreams[1] and len(bitstreams[0]) > 10_000
    assert TINY.engine != reproducible.ACCELERATOR.engine


def test_another_seed_gives_other_bytes(monkeypatch, tmp_path):
    """Of a design that is placed in seconds."""
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    board, bitstreams = BOARDS["icebreaker"], []
    clock = board.clock_generator(board.clock_hz)
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        place_and_route(board, clock, prepare(board, clock, seed), folder, quiet=True)
        bitstreams.append((folder / "top.bin").read_bytes())
    assert bitstreams[0] == bitstreams[1] != bitstreams[2]
