"""Builds a bitstream that holds a network, and replaces the network in seconds.

The first build places and routes. Block RAM gets placeholders there, random bits that icebram or
ecpbram find again in what was routed and replace by any network that fits the engine. Weights in
the SPRAM of a UP5K cannot come with the bitstream: the device loads them from its flash (hw.boot).
"""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from hw import boot
from hw.build import build_report, place_and_route, prepare, replacing
from hw.command import command_line
from hw.contents import Contents
from hw.memory import has_spram
from hw.report import tool_report
from hw.tools import BuildError, commands, run_tool, step
from sw.program import Region, compile_program, region_words

__all__ = ["bake", "columns", "folder_of", "main", "memory_words", "placeholder"]

#: Rows of the block RAM columns in which the tools of a family look for contents, and what they
#: call the text of a routed design.
ROWS = {"ice40": 256, "ecp5": 512}
ROUTED = {"ice40": "top.asc", "ecp5": "top.config"}

#: Where the placed and routed design is kept, in the folder of the baked one.
PLACED = "placed"


def folder_of(board, out):
    """Where the baked bitstream of a board is."""
    return Path(out, f"{board.name}-baked")


def placeholder(engine):
    """Region -> random uint16 words, always the same; not of the frame."""
    rng = np.random.default_rng(1)
    return {
        region: rng.integers(0, 1 << 16, size, np.uint16)
        for region, size in region_words(engine).items() if region != Region.FRAME
    }


def columns(tables, rows):
    """Bits [rows, columns] of ``Contents.tables``, as block RAM has them.

    A column is a bit of so many rows of a table; rows beyond its end are 0.
    """
    parts = []
    for _, width, table in tables:
        octets = [list(row.to_bytes(width // 8, "little")) for row in table]
        bits = np.unpackbits(np.array(octets, np.uint8), axis=1, bitorder="little")
        bits = np.pad(bits, ((0, -len(bits) % rows), (0, 0)))
        parts.extend(bits.reshape(-1, rows, width))
    return np.concatenate(parts, axis=1)


def _write_hex(path, bits):
    """A row a line, the first column lowest. Which table a column is of does not matter to them."""
    lines = [np.packbits(row[::-1]).tobytes().hex() for row in bits]
    path.write_text("\n".join(lines) + "\n")


def memory_words(text):
    """Block -> integers that fill it, of all block RAM in the text of a routed design."""
    blocks, words = {}, None
    for line in text.splitlines():
        if line.startswith("."):
            words = None
            if line.startswith((".ram_data", ".bram_init")):
                words = blocks[line] = []
        elif words is not None:
            words.extend(int(word, 16) for word in line.split())
    return blocks


def _replace(board, folder, before, after):
    """Writes the routed design in ``folder`` with columns ``after`` in place of ``before``."""
    _write_hex(folder / "from.hex", before)
    _write_hex(folder / "to.hex", after)
    name = ROUTED[board.family]
    if board.family == "ice40":
        run_tool(
            "icebram", ["from.hex", "to.hex"], folder, source=f"{PLACED}/{name}", target=name
        )
    else:
        run_tool(
            "ecpbram", ["--input", f"{PLACED}/{name}", "--output", name, "--from", "from.hex",
                        "--to", "to.hex"], folder,
        )


def _check(board, folder, tables):
    """Raises BuildError unless every column of the placeholders was routed, once.

    Ecpbram says nothing of what it does not find. Replaced by their opposites, all bits change.
    """
    before = columns(tables, ROWS[board.family])
    _replace(board, folder, before, 1 - before)
    old, new = (
        memory_words(Path(place, ROUTED[board.family]).read_text())
        for place in (folder / PLACED, folder)
    )
    found = sum(
        (a ^ b).bit_count()
        for block in old for a, b in zip(old[block], new.get(block, ()), strict=False)
    )
    if found != before.size:
        raise BuildError(
            f"{found} of {before.size} bits of the memories are in block RAM: the others cannot be"
            " replaced"
        )


def _design(board, plan):
    """What a placed and routed design was made from."""
    return {"design": plan.digest().hex(), "tools": tool_report(board.family)}


def _place(board, clock_generator, plan, old, folder, quiet):
    """The routed design of ``plan``, in ``folder/placed``: that of ``old``, if there is one.

    Returns what was reached, and whether it is new.
    """
    placed, report = folder / PLACED, old / PLACED / "reached.json"
    if report.is_file():
        reached = json.loads(report.read_text())
        if reached.items() >= _design(board, plan).items():
            # Nothing writes to these files again.
            shutil.copytree(old / PLACED, placed, copy_function=os.link)
            return reached, False
    placed.mkdir()
    reached = place_and_route(board, clock_generator, plan, placed, quiet)
    reached |= _design(board, plan)
    (placed / "reached.json").write_text(json.dumps(reached, indent=2) + "\n")
    return reached, True


def bake(board, image, *, clock_hz=None, seed=None, out=Path("build"), command="", quiet=False):
    """Builds ``out/<board>-baked/``, as ``hw.build.build``, with the network in its bitstream.

    Places and routes only if what is there is of another design.
    """
    if board.family not in ROWS:
        raise BuildError(f"{board.name}: no tool replaces what its block RAM holds")
    program = compile_program(image, board.engine)
    seed = board.seed if seed is None else seed
    clock_generator = board.clock_generator(clock_hz or board.clock_hz)
    boots = has_spram(board.platform)
    contents = None if boots else Contents(placeholder(board.engine))
    target = folder_of(board, out)
    with replacing(target) as folder:
        with step(f"{board.name}: elaboration", quiet):
            plan = prepare(board, clock_generator, seed, contents, boots)
        reached, new = _place(board, clock_generator, plan, target, folder, quiet)
        with step(f"{board.name}: {image.network.name} into the bitstream", quiet):
            bitstream = f"top{board.bitstream}"
            if boots:
                routed = Path(folder, PLACED, bitstream).read_bytes()
                Path(folder, bitstream).write_bytes(boot.append(routed, program))
            else:
                before = contents.tables(contents.words)
                if new:
                    _check(board, folder, before)
                after = contents.tables(program.contents)
                rows = ROWS[board.family]
                _replace(board, folder, columns(before, rows), columns(after, rows))
                pack, *arguments = commands(plan)[-1]
                run_tool(pack, arguments, folder)
        report = build_report(board, image, program, clock_generator, reached, seed, command)
        Path(folder, "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    # Of the board, so that another network finds an engine that holds it too.
    return command_line("python -m hw.bake", __doc__, bake, folder_of, "board", argv)


if __name__ == "__main__":
    sys.exit(main())
