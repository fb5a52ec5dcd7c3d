"""The same sources give the same bitstream: a small accelerator for the icebreaker, built twice."""

import re

from tests.hw import reproducible
from tests.hw.reproducible import SURROUNDINGS, TINY, build


def test_two_builds_are_the_same_bytes(tmp_path):
    """And with another seed, they are others."""
    folders = [tmp_path / name for name in ("a", "another folder", "seed")]
    for folder in folders:
        folder.mkdir()
    first, second = map(build, (TINY, TINY), folders, SURROUNDINGS)
    assert first == second
    assert re.fullmatch("[0-9a-f]{64}", first["sha256"])
    bitstreams = [(folder / "top.bin").read_bytes() for folder in folders[:2]]
    assert bitstreams[0] == bitstreams[1] and len(bitstreams[0]) > 10_000
    other = build(TINY, folders[2], SURROUNDINGS[0], seed=TINY.seed + 1)
    assert other["sha256"] != first["sha256"] and other["lut4"] > 1000
    assert TINY.engine != reproducible.ACCELERATOR.engine
