"""Two builds of the same sources give the same bitstream, byte for byte.

A small engine's is built with the tests. The icebreaker's own, with a report:
python -m tests.hw.reproducible
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from hw.boards import BOARDS
from hw.build import place_and_route, prepare
from hw.report import tool_report
from hw.tools import step
from sw.files import replace_file
from tests.hw.support import SMALL

__all__ = ["ACCELERATOR", "RESULTS", "SURROUNDINGS", "TINY", "build", "main"]

RESULTS = Path("results/reproducible.json")

ACCELERATOR = BOARDS["icebreaker"]
TINY = replace(ACCELERATOR, engine=SMALL)

#: What two builds may differ in: order of Python's sets, language, time zone. And the folder.
SURROUNDINGS = (
    {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"},
    {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Auckland"},
)


def build(board, folder, surroundings):
    """Builds in ``folder``, in a process of its own: a dict of what was reached, and the SHA-256.

    board: ACCELERATOR or TINY.
    """
    program = (
        "import sys; from tests.hw import reproducible;"
        "reproducible.build_here(reproducible.TINY if sys.argv[1] else reproducible.ACCELERATOR,"
        " sys.argv[2])"
    )
    arguments = ["tiny" if board is TINY else "", str(folder)]
    subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True,
        cwd=Path(__file__).parents[2], env={**os.environ, **surroundings},
    )
    reached = json.loads(Path(folder, "reached.json").read_text())
    bitstream = Path(folder, f"top{board.bitstream}").read_bytes()
    return {**reached, "sha256": hashlib.sha256(bitstream).hexdigest()}


def build_here(board, folder):
    clock = board.clock_generator(board.clock_hz)
    reached = place_and_route(board, clock, prepare(board, clock, board.seed), folder, quiet=True)
    Path(folder, "reached.json").write_text(json.dumps(reached))


def main(argv=None):
    """Exit status 0, or 1 when the builds differ."""
    argparse.ArgumentParser(
        prog="python -m tests.hw.reproducible",
        description=f"{__doc__.splitlines()[0]} Writes {RESULTS}.",
    ).parse_args(argv)
    started, builds = time.monotonic(), []
    for number, surroundings in enumerate(SURROUNDINGS, 1):
        with (
            tempfile.TemporaryDirectory(prefix="x" * number) as folder,
            step(f"{ACCELERATOR.name} [{number}/{len(SURROUNDINGS)}]"),
        ):
            builds.append(build(ACCELERATOR, folder, surroundings))
    report = {
        "command": "python -m tests.hw.reproducible", "board": ACCELERATOR.name,
        "seed": ACCELERATOR.seed, "tools": tool_report(ACCELERATOR.family),
        "surroundings": SURROUNDINGS, "builds": builds,
        "seconds": round(time.monotonic() - started, 1),
    }
    replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
    same = all(one == builds[0] for one in builds)
    print(f"{len(builds)} builds: {'the same' if same else 'NOT the same'} {builds[0]['sha256']}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
