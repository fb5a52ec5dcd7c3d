"""Judges malformed images by the thousand, in several processes of limited memory."""

import contextlib
import faulthandler
import hashlib
import multiprocessing
import platform
import resource
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from tqdm import tqdm

from sw import bounds, files, formats, image, layers, positions
from tests.sw.fuzz_image.cases import bases, make
from tests.sw.fuzz_image.judge import PATIENCE_S, judge

__all__ = ["LOADING", "PIECE", "run", "sources"]

#: Modules of sw that load an image.
LOADING = (bounds, files, formats, image, layers, positions)

#: Bytes that a process may ask for.
MEMORY = 1 << 30

#: Cases of one piece of work, and failures that a report tells.
PIECE, TOLD = 500, 20


def sources():
    """Digest of all that loads an image."""
    text = "".join(Path(module.__file__).read_text() for module in LOADING)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _limit_memory():
    """What the process has, and MEMORY more."""
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _work(bases, seed, folder, numbers):
    """Counters of mutations and of outcomes, and the failures, of the cases ``numbers``."""
    mutations, outcomes, failures = Counter(), Counter(), []
    # Where no signal is heard, inside a library, or nothing is computed, the worker ends.
    faulthandler.dump_traceback_later(60 + PATIENCE_S * len(numbers), exit=True)
    for number in numbers:
        path = Path(folder, f"{number}.bsnn")
        kinds, raw = make(bases, seed, number, path)
        outcome, wrong = judge(raw, path)
        mutations.update(kinds)
        outcomes[outcome] += 1
        if wrong:
            failures.append({"case": number, "mutations": kinds, "what": wrong})
        # A worker that dies leaves its case behind.
        path.unlink()
    faulthandler.cancel_dump_traceback_later()
    return mutations, outcomes, failures


def run(cases, seed=1, jobs=1, before=None, quiet=True):
    """Yields a report every so often, the last one of all ``cases``. Goes on after ``before``.

    Without jobs, all is done in this process, and no limit of memory holds.
    """
    started = time.monotonic()
    before = before or {"cases": 0, "mutations": {}, "outcomes": {}, "failures": [], "seconds": 0}
    done, failures = before["cases"], list(before["failures"])
    mutations, outcomes = Counter(before["mutations"]), Counter(before["outcomes"])
    pieces = [range(first, min(first + PIECE, cases)) for first in range(done, cases, PIECE)]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        work, spread = partial(_work, bases(), seed, folder), map
        if jobs:
            pool = ProcessPoolExecutor(
                jobs, multiprocessing.get_context("spawn"), _limit_memory
            )
            spread = stack.enter_context(pool).map
        bar = stack.enter_context(
            tqdm(total=cases, initial=done, unit="case", disable=quiet or None)
        )
        results = spread(work, pieces)
        for piece in pieces:
            try:
                found = next(results)
            except BrokenProcessPool:
                left = sorted(path.stem for path in Path(folder).glob("*.bsnn"))
                failures.append({"case": left, "what": "one of them ended the process"})
                found = Counter(), Counter({"failure": 1}), []
                cases = done + len(piece)
            mutations += found[0]
            outcomes += found[1]
            failures += found[2]
            done = piece.stop
            bar.update(len(piece))
            yield {
                "command": f"python -m tests.sw.fuzz_image --cases {cases} --seed {seed}",
                "versions": {
                    "python": platform.python_version(),
                    **{name: metadata.version(name) for name in ("numpy", "safetensors", "torch")},
                },
                "source": sources(), "cases": done, "seed": seed,
                "mutations": dict(sorted(mutations.items())),
                "outcomes": dict(outcomes.most_common()),
                "failures": failures[:TOLD],
                "seconds": round(before["seconds"] + time.monotonic() - started, 1),
            }
            if done == cases:
                return
