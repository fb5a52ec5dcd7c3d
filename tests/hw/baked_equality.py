"""Bakes a network into a small accelerator, builds one with it too, and compares all block RAM.

    python -m tests.hw.baked_equality

writes results/baked-equality.json, in minutes. The tests do it with memories alone.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hw.bake import PLACED, ROUTED, bake, folder_of, memory_words, placeholder
from hw.boards import BOARDS, IGNORE_COLLISIONS
from hw.build import place_and_route, prepare
from hw.contents import Contents
from hw.report import tool_report
from hw.tools import run_tool
from sw.files import replace_file
from sw.program import compile_program
from tests.hw.support import SMALL
from tests.hw.test_device import IMAGE, NETWORK
from tests.support import random_image

COMMAND = "python -m tests.hw.baked_equality"
RESULTS = Path("results/baked-equality.json")

UNPACK = {"ice40": "iceunpack", "ecp5": "ecpunpack"}

#: Another network for the same engines.
OTHER = random_image(NETWORK, seed=5)


def small_boards(engine):
    """Of both families whose block RAM is patched."""
    return [
        replace(
            BOARDS[name], name=f"small-{BOARDS[name].family}", engine=engine, nextpnr_opts="",
            script=IGNORE_COLLISIONS, clock_hz=clock_hz,
        )
        for name, clock_hz in (("hx8k-evn", 12_000_000), ("ulx3s-25f", 25_000_000))
    ]


#: Its spike memory is in two parts.
ACCELERATORS = small_boards(
    replace(SMALL, weight_depth=256, spike_depth=300, channel_depth=128, mean_depth=128)
)


def rebuild(board, image, folder):
    """The folder of a build that has the network from the start."""
    clock_generator = board.clock_generator(board.clock_hz)
    contents = Contents(compile_program(image, board.engine).contents)
    plan = prepare(board, clock_generator, board.seed, contents)
    folder.mkdir()
    place_and_route(board, clock_generator, plan, folder, quiet=True)
    return folder


def unpacked(board, folder):
    """Block -> integers, of the bitstream in a folder."""
    name = f"unpacked-{ROUTED[board.family]}"
    run_tool(UNPACK[board.family], [f"top{board.bitstream}", name], folder)
    return memory_words(Path(folder, name).read_text())


def differing(board, one, other):
    """Blocks that differ between the bitstreams of two folders."""
    first, second = unpacked(board, one), unpacked(board, other)
    assert first and first.keys() == second.keys()
    return [block for block in first if first[block] != second[block]]


def strange(board, one, other):
    """How many blocks of one folder have contents that no block of the other is left to have.

    Yosys names the cells of an accelerator on iCE40 otherwise when its memories hold other bits, so
    the same netlist is placed elsewhere: there only this can be compared.
    """
    first, second = (
        Counter(map(tuple, unpacked(board, folder).values())) for folder in (one, other)
    )
    return (first - second).total()


def design(board):
    """Digest of what is baked into."""
    contents = Contents(placeholder(board.engine))
    plan = prepare(board, board.clock_generator(board.clock_hz), board.seed, contents)
    return plan.digest().hex()


def compare(board, scratch):
    """A dict of what was found."""
    bake(board, OTHER, out=scratch)
    folder = folder_of(board, scratch)
    rebuilt = rebuild(board, IMAGE, scratch / f"{board.name}-rebuilt")
    unpatched, another = (strange(board, place, rebuilt) for place in (folder / PLACED, folder))
    start = time.monotonic()
    report = bake(board, IMAGE, out=scratch)
    seconds = time.monotonic() - start
    bitstreams = (place / report["bitstream"] for place in (folder, rebuilt))
    return {
        "device": report["device"], "design": report["design"], "image": IMAGE.checksum,
        "blocks": len(unpacked(board, folder)), "strange": strange(board, folder, rebuilt),
        "strange_unpatched": unpatched, "strange_with_another_network": another,
        "same_bitstream": len({path.read_bytes() for path in bitstreams}) == 1,
        "seconds_to_patch": round(seconds, 1), "tools": tool_report(board.family),
    }


def main():
    """Exit status 0, or 1 if any block differs."""
    with tempfile.TemporaryDirectory() as scratch:
        found = {board.name: compare(board, Path(scratch)) for board in ACCELERATORS}
    replace_file(RESULTS, json.dumps({"command": COMMAND, "boards": found}, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return int(any(board["strange"] for board in found.values()))


if __name__ == "__main__":
    sys.exit(main())
