"""Children end when we do."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sw.children import run_child

ROOT = Path(__file__).parents[2]
CHILD = ["sh", "-c", "echo $$; exec sleep 60"]


def runs(number):
    """Whether there is a process of that number, and not only a zombie."""
    stat = Path("/proc", number, "stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_its_status_and_what_it_says(tmp_path):
    with open(tmp_path / "log", "w") as output:
        assert run_child(["sh", "-c", "echo out; echo err >&2; exit 3"], output, None) == 3
        assert run_child(["true"], output, None, cwd=tmp_path) == 0
    assert (tmp_path / "log").read_text() == "out\nerr\n"


def test_a_tick_that_raises_ends_it(tmp_path):
    def tick():
        assert runs((tmp_path / "log").read_text().strip())
        raise KeyError

    with open(tmp_path / "log", "w") as output, pytest.raises(KeyError):
        run_child(CHILD, output, tick)
    assert not runs((tmp_path / "log").read_text().strip())


@pytest.mark.parametrize("last, left", [("", False), ("os._exit(0)", True)])
def test_the_child_of_a_thread_ends_with_the_process(tmp_path, last, left):
    """But not if that one has no chance to say so."""
    script = f"""
import os, threading, time
from sw.children import run_child

log = open({str(tmp_path / "log")!r}, "w")
work = lambda: run_child({CHILD}, log, lambda: None)
threading.Thread(target=work, daemon=True).start()
while not os.path.getsize(log.name):
    time.sleep(0.05)
{last}
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    number = (tmp_path / "log").read_text().strip()
    time.sleep(0.2)
    try:
        assert runs(number) == left
    finally:
        subprocess.run(["kill", number], check=False, stderr=subprocess.DEVNULL)
