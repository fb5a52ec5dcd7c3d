"""Puts a built bitstream on a board with openFPGALoader: into its flash, or until power is off.

No board was at hand: the tests check what openFPGALoader is called with.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import hw.bake
from hw.boards import BOARDS, find_board
from hw.build import folder_of
from hw.memory import has_spram
from hw.tools import BuildError

__all__ = ["flash", "main"]

LOADER = "openFPGALoader"


def flash(board, out=Path("build"), volatile=False, baked=False):
    """Loads the bitstream of ``hw.build`` or ``hw.bake`` in ``out``. Raises BuildError."""
    folder = hw.bake.folder_of(board, out) if baked else folder_of(board, out)
    bitstream = folder / f"top{board.bitstream}"
    if not bitstream.is_file():
        target = "bake" if baked else "bitstream"
        raise BuildError(f"there is no {bitstream}: make {target} BOARD={board.name}")
    if baked and volatile and has_spram(board.platform):
        raise BuildError(f"the {board.name} boots its network from the flash: not with --volatile")
    if not board.loader:
        raise BuildError(
            f"{LOADER} does not know the {board.name}: copy {bitstream} {board.by_hand}"
        )
    loader = shutil.which(LOADER)
    if loader is None:
        raise BuildError(f"{LOADER} is not installed: apt-get install openfpgaloader, or brew")
    place = "--write-sram" if volatile else "--write-flash"
    done = subprocess.run([loader, *board.loader.split(), place, bitstream], check=False)
    if done.returncode:
        raise BuildError(
            f"{LOADER} ended with status {done.returncode}: is the {board.name} plugged in, and may"
            " you use it?"
        )


def main(argv=None):
    """Exit status 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m hw.flash", description=__doc__.split("\n\n")[0],
        epilog=f"boards: {', '.join(BOARDS)}",
    )
    parser.add_argument("board", help="which board")
    parser.add_argument("--out", type=Path, default=Path("build"), metavar="DIR",
                        help="of python -m hw.build (default: build)")
    parser.add_argument("--volatile", action="store_true",
                        help="leave the flash alone: the board forgets it when power is off")
    parser.add_argument("--baked", action="store_true",
                        help="the bitstream of python -m hw.bake, with a network")
    args = parser.parse_args(argv)
    try:
        flash(find_board(args.board), args.out, args.volatile, args.baked)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
