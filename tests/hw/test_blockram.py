"""Block RAMs counted beforehand are those that Amaranth elaborates and Yosys makes.

Of small engines: what the boards' take is compared with their builds, in test_estimate.
"""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.back import rtlil

from hw.accelerator import Accelerator
from hw.blockram import Memory, block_rams, lut_rams, memories
from hw.boards import BOARDS, IGNORE_COLLISIONS
from hw.memory import HostMemory, bank_bits
from hw.tools import run_tool
from sw.engine import ENGINES
from sw.program import Region
from tests.hw.support import FOURS, PAIRS_IN_PASSES, SMALL, STRIPS, TWO, shape

EVERY = {**{shape(e): e for e in (SMALL, FOURS, STRIPS, PAIRS_IN_PASSES, TWO)},
         "odd": replace(SMALL, spike_depth=200),
         "rest": replace(SMALL, spike_depth=300),
         "shortcuts": replace(PAIRS_IN_PASSES, stream_depth=512, layer_depth=16),
         "icebreaker": ENGINES["icebreaker"]}


@pytest.mark.parametrize("name", EVERY)
def test_every_memory_is_counted(name):
    text = rtlil.convert(Accelerator(EVERY[name]), name="top", emit_src=False)
    found = Counter(re.findall(r"^ *memory width (\d+) size (\d+) ", text, re.M))
    expected = Counter((f"{m.width}", f"{m.depth}") for m in memories(EVERY[name]))
    assert found == expected
    assert found != Counter((f"{m.width}", f"{m.depth + 1}") for m in memories(EVERY[name]))


def blocks_of(family, memory, folder):
    """What Yosys makes of a HostMemory like this one."""
    host = HostMemory(Region.WEIGHTS, memory.width, memory.depth)
    text = rtlil.convert(host, name="top", emit_src=False)
    Path(folder, "top.il").write_text(text)
    Path(folder, "top.ys").write_text(
        f"read_rtlil top.il\n{IGNORE_COLLISIONS}\nsynth_{family} -top top -json top.json\n"
    )
    run_tool("yosys", ["top.ys"], folder)
    cells = json.loads(Path(folder, "top.json").read_text())["modules"]["top"]["cells"]
    return Counter(cell["type"] for cell in cells.values())


#: Where it turns: a block more, another width, LUTs instead, and registers.
SHAPES = [
    ("ice40", 16, 257), ("ice40", 64, 768), ("ice40", 8, 512), ("ice40", 16, 4),
    ("ecp5", 64, 1025), ("ecp5", 16, 1024), ("ecp5", 256, 128), ("ecp5", 16, 64), ("ecp5", 32, 32),
]


@pytest.mark.parametrize("family, width, depth", SHAPES)
def test_yosys_makes_as_many(family, width, depth, tmp_path):
    memory = Memory("", width, depth, min(bank_bits(width), width))
    found = blocks_of(family, memory, tmp_path)
    assert found["SB_RAM40_4K"] + found["DP16KD"] == block_rams(family, memory)
    assert found["TRELLIS_DPR16X4"] == lut_rams(family, memory)


def test_shapes_are_of_all_kinds():
    """Else the test above would show less than it seems to."""
    kinds = Counter()
    for family, width, depth in SHAPES:
        memory = Memory("", width, depth, min(bank_bits(width), width))
        kinds[bool(block_rams(family, memory)), bool(lut_rams(family, memory))] += 1
    assert kinds.keys() == {(True, False), (False, True), (False, False)}


def test_bits_that_nothing_reads_take_no_block():
    whole = Memory("", 64, 256, 16)
    assert block_rams("ice40", whole) == 4
    assert block_rams("ice40", replace(whole, used=((0, 24), (32, 48)))) == 3
    assert block_rams("ice40", replace(whole, used=((0, 1), (63, 64)))) == 2


def test_boards_hold_what_they_are_said_to():
    """What a build has of a hard block, and another engine not."""
    board = BOARDS["ulx3s-85f"]
    report = json.loads(Path("results/builds/ulx3s-85f-cnv.json").read_text())
    counted = [
        sum(block_rams("ecp5", memory) for memory in memories(engine))
        for engine in (board.engine, replace(board.engine, mean_depth=8192))
    ]
    assert counted[0] == report["bram"] != counted[1]
