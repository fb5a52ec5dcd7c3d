"""Sweeps in threads of this process, and on a scheduler and a worker that are processes.

The jobs are functions of this file, which the worker imports.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from distributed import Client

import hw.device
from hw import seeds
from hw.boards import BOARDS
from hw.tools import BuildError
from sw import cluster
from sw.children import run_child
from sw.cluster import ClusterError, stop_if_unwanted, sweep
from tests.hw.test_build import Echo

ROOT = Path(__file__).parents[2]
BOTH = threading.Barrier(2)


@contextlib.contextmanager
def dask(*words):
    """A process of dask's, ended afterwards."""
    program = [sys.executable, "-m", "dask", *words, "--no-dashboard", "--host", "127.0.0.1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}"}
    with subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def new_scheduler(folder):
    """The file of a scheduler, with the address in it."""
    path = folder / "scheduler.json"
    with dask("scheduler", "--port", "0", "--scheduler-file", f"{path}"):
        wait_for(path.is_file)
        yield path


def dask_worker(path):
    return dask("worker", "--scheduler-file", f"{path}", "--nthreads", "2")


def address(path):
    return json.loads(path.read_text())["address"]


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """Options of a sweep on a cluster."""
    with new_scheduler(tmp_path_factory.mktemp("cluster")) as path, dask_worker(path):
        with Client(address(path)) as client:
            client.wait_for_workers(1, timeout=60)
        yield {"cluster": address(path)}


@pytest.fixture(params=["here", "cluster"])
def where(request):
    return {"jobs": 2} if request.param == "here" else request.getfixturevalue("remote")


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def run(job, items, *common, **options):
    with sweep(job, items, *common, title="test", quiet=True, **options) as runs:
        return list(runs)


def linear(number, factor, offset):
    return factor * number + offset, os.getpid()


def given(item, *common):
    return item, *common


def met(number):
    BOTH.wait(5)
    return number


def fail(number):
    if number == 3:
        raise BuildError("the third one fails")
    return number


def listening(_):
    """Hosts and ports (IPv4) at which this process listens."""
    ours = {os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = set()
    for row in rows:
        if row[3] == "0A" and f"socket:[{row[9]}]" in ours:
            host, port = row[1].split(":")
            found.add((socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16)))
    return found


def hold(name, folder):
    """A job whose child, whose number is in a file, would live for a minute."""
    script = f"echo $$ > {folder}/{name}.new; mv {folder}/{name}.new {folder}/{name}; exec sleep 60"
    return run_child(["sh", "-c", script], subprocess.DEVNULL, stop_if_unwanted)


def fail_beside(name, folder):
    if name != "bad":
        return hold(name, folder)
    wait_for(Path(folder, "good").is_file)
    raise BuildError("the other one still runs")


def alive(path):
    """Whether the process whose number is in a file runs. A zombie does not."""
    with contextlib.suppress(FileNotFoundError):
        state = Path("/proc", path.read_text().strip(), "stat").read_text()
        return state.rpartition(")")[2].split()[0] != "Z"
    return False


def test_every_item_has_its_result(where):
    found = run(linear, range(5), 10, 7, **where)
    assert sorted((item, result) for item, (result, _) in found) == [
        (item, 10 * item + 7) for item in range(5)
    ]
    here = {process == os.getpid() for _, (_, process) in found}
    assert here == {"jobs" in where}
    assert run(linear, [], 1, 2, **where) == []
    assert run(given, [{"a": 1}], [1, 2], {"b": [3]}, **where) == [
        ({"a": 1}, ({"a": 1}, [1, 2], {"b": [3]}))
    ]


def test_nobody_outside_can_connect():
    before = listening(None)
    with socket.create_server(("", 0)) as other:
        ((_, found),) = run(listening, [None])
        assert {host for host, _ in found - before} == {"127.0.0.1", "0.0.0.0"}
        assert {place for place in found - before if place[0] == "0.0.0.0"} == {other.getsockname()}


def test_so_many_jobs_run_at_a_time():
    assert sorted(run(met, [1, 2], jobs=2)) == [(1, 1), (2, 2)]
    BOTH.reset()
    with pytest.raises(threading.BrokenBarrierError):
        run(met, [1, 2])


def test_an_error_arrives_as_it_is(where):
    with pytest.raises(BuildError, match=r"^the third one fails$"):
        run(fail, range(5), **where)
    assert run(fail, [1], **where) == [(1, 1)]


def test_an_error_stops_the_others(where, tmp_path):
    with pytest.raises(BuildError, match="the other one still runs"):
        run(fail_beside, ["good", "bad"], f"{tmp_path}", **where)
    wait_for(lambda: not alive(tmp_path / "good"))
    assert (tmp_path / "good").is_file()


def test_an_interrupt_leaves_no_child(where, interruptible, tmp_path):
    children, seen = [tmp_path / "first", tmp_path / "second"], []

    def interrupt():
        wait_for(lambda: all(map(alive, children)))
        seen.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        run(hold, ["first", "second", "third"], f"{tmp_path}", **where)
    other.join()
    if "cluster" in where:
        wait_for(lambda: not any(map(alive, children)))
    assert not any(map(alive, children))
    # Far sooner than its children would have ended.
    assert time.monotonic() - seen[0] < 30
    assert not (tmp_path / "third").exists()


def test_a_caller_that_is_killed_leaves_no_child_on_the_cluster(remote, tmp_path):
    script = (
        "from tests.sw.test_cluster import hold, run\n"
        f"run(hold, ['one'], {str(tmp_path)!r}, cluster={remote['cluster']!r})"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as caller:
        wait_for(lambda: alive(tmp_path / "one"))
        caller.kill()
    wait_for(lambda: not alive(tmp_path / "one"))


def test_a_worker_that_ends_takes_its_children_along(tmp_path):
    children = [tmp_path / "first", tmp_path / "second"]
    with new_scheduler(tmp_path) as path, dask_worker(path) as process:
        def end():
            wait_for(lambda: all(map(alive, children)))
            process.terminate()

        other = threading.Thread(target=end)
        other.start()
        with pytest.raises(ClusterError, match="has lost its scheduler, all workers, or one"):
            run(hold, ["first", "second"], f"{tmp_path}", cluster=address(path))
        other.join()
        process.wait()
    wait_for(lambda: not any(map(alive, children)))


def test_other_sources_and_packages_are_refused(remote, monkeypatch):
    assert run(fail, [1], packages=["tqdm"], **remote) == [(1, 1)]
    monkeypatch.setattr(cluster.metadata, "version", lambda name: "0.0")
    with pytest.raises(ClusterError, match=r"^a worker has tqdm 4\S+, not 0.0: install the same"):
        run(fail, [1], packages=["tqdm"], **remote)
    monkeypatch.undo()
    monkeypatch.setattr(cluster, "_sources", lambda: "other")
    with pytest.raises(ClusterError, match=r"^a worker has agamemnon \w{12}, not other: install"):
        run(fail, [1], **remote)


def test_who_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", 0.5)
    for nobody in ("tcp://127.0.0.1:1", "nonsense"):
        with pytest.raises(ClusterError, match=f"^no dask scheduler answers at {nobody}: start"):
            run(fail, [1], cluster=nobody)


def test_a_scheduler_without_workers_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "TIMEOUT", 5)
    with new_scheduler(tmp_path) as path, pytest.raises(
        ClusterError, match="has no workers: start some with dask worker tcp:"
    ):
        run(fail, [1], cluster=address(path))


def test_seeds_of_a_board_are_the_same_there(remote, monkeypatch, tmp_path):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)
    monkeypatch.chdir(tmp_path)
    reports = [
        seeds.seeds_report(BOARDS["icebreaker"], 2, Path(name), quiet=True, **options)
        for name, options in (("here", {}), ("there", remote))
    ]
    assert reports[0] == reports[1]
    assert Path("here").read_bytes() == Path("there").read_bytes()
    assert len(set(reports[0]["fmax_mhz"].values())) == 2


def test_a_caller_that_is_told_to_end_takes_its_children_along(tmp_path):
    script = (
        "from tests.sw.test_cluster import hold, run\n"
        f"run(hold, ['one', 'two'], {str(tmp_path)!r}, jobs=2)"
    )
    children = [tmp_path / "one", tmp_path / "two"]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as caller:
        wait_for(lambda: all(map(alive, children)))
        caller.terminate()
        assert caller.wait() != 0
    wait_for(lambda: not any(map(alive, children)))


def test_no_jobs_are_refused(capsys):
    with pytest.raises(SystemExit):
        seeds.main(["icebreaker", "--jobs", "0"])
    assert "argument --jobs: must be at least 1, got 0" in capsys.readouterr().err
