"""Many jobs of one kind, some at a time: in threads of this process, or on a cluster of dask's.

A job is a function that waits for a child process and asks ``stop_if_unwanted`` meanwhile. What it
needs goes to it by value, and what it finds comes back by value.

The processes of a cluster speak pickle with each other: who reaches one of their ports runs code as
its user. A cluster is one of your own, on a network that you trust.
"""

import argparse
import asyncio
import contextlib
import hashlib
import logging
import signal
import threading
from concurrent.futures import CancelledError
from functools import cache
from importlib import metadata
from pathlib import Path

from distributed import (
    Client,
    KilledWorker,
    Reschedule,
    Scheduler,
    Security,
    SpecCluster,
    Worker,
    as_completed,
    get_worker,
)
from distributed.comm import connect
from distributed.utils import silence_logging_cmgr
from distributed.worker import WORKER_ANY_RUNNING
from tqdm import tqdm

__all__ = ["ClusterError", "add_options", "check_cluster", "stop_if_unwanted", "sweep"]

#: Seconds that a scheduler may take to answer, and its first worker to appear.
TIMEOUT = 5


class ClusterError(RuntimeError):
    """A cluster that cannot be worked with, in one line."""


def _number(text):
    """A number of jobs of the command line, for argparse."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def add_options(parser, what):
    """Adds --jobs and --cluster, one or the other, to a command line. what: the jobs, in plural."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--jobs", type=_number, default=1, metavar="N", help=f"{what} at a time (default: 1)"
    )
    group.add_argument(
        "--cluster", metavar="ADDRESS",
        help="of a dask scheduler, whose workers run them (CONTRIBUTING.md, Many runs)",
    )


def stop_if_unwanted():
    """Raises Reschedule in a job whose sweep is over, or whose worker is told to end.

    The job of a worker that ends starts again on another. Nothing happens in what is no job.
    """
    try:
        worker = get_worker()
        task = worker.state.tasks.get(worker.get_current_task())
    except (KeyError, ValueError):
        return
    if worker.status not in WORKER_ANY_RUNNING or task is None or task.state != "executing":
        raise Reschedule("this worker's job is not wanted any longer")


@cache
def _sources():
    """Digest of the project's sources, as they are when it is first asked for."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    parts = [root / part for part in ("hw", "sim", "sw")]
    for path in sorted(path for part in parts for path in part.rglob("*.*p*")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _versions(packages):
    """Of what a job's result depends on: packages, None if not installed, and these sources."""
    found = dict.fromkeys(packages)
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return {**found, "agamemnon": _sources()}


def _run(job, item, versions, *common):
    """The job, on a worker that has the same versions."""
    found = _versions([name for name in versions if name != "agamemnon"])
    for name, version in versions.items():
        if found[name] != version:
            raise ClusterError(
                f"a worker has {name} {found[name]}, not {version}: install the same on all"
                " machines, and start the workers again"
            )
    return job(item, *common)


async def _meet(address):
    security = Security().get_connection_args("client")
    line = await connect(address, timeout=TIMEOUT, **security)
    await line.close()


def check_cluster(address):
    """Raises ClusterError if no scheduler answers at ``address``.

    A Client that finds this out leaves a thread, and may then stop the next one from starting.
    """
    try:
        asyncio.run(_meet(address))
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no dask scheduler answers at {address}: start one with dask scheduler, and give the"
            " address that it prints"
        ) from error


@contextlib.contextmanager
def _client(jobs, address):
    """A Client of the cluster at ``address``, or of ``jobs`` threads of this process."""
    if address is None:
        # Both listen for HTTP, whatever they are told: here on this machine only.
        options = {
            "protocol": "inproc://", "dashboard": False, "dashboard_address": "127.0.0.1:0",
        }
        with SpecCluster(
            scheduler={"cls": Scheduler, "options": options}, silence_logs=logging.CRITICAL,
            workers={0: {"cls": Worker, "options": {
                **options, "nthreads": jobs, "memory_limit": 0,
            }}},
        ) as local, Client(local) as client:
            yield client
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        check_cluster(address)
        client = stack.enter_context(Client(address))
        try:
            client.wait_for_workers(1, timeout=TIMEOUT)
        except TimeoutError as error:
            raise ClusterError(
                f"the scheduler at {address} has no workers: start some with dask worker {address}"
            ) from error
        yield client


def _result(future):
    try:
        return future.result()
    except (CancelledError, KilledWorker) as error:
        raise ClusterError(
            "the cluster has lost its scheduler, all workers, or one job again and again: see"
            " their logs"
        ) from error


@contextlib.contextmanager
def _interrupted_by_sigterm():
    """As by Ctrl-C: else it would end this process, and not the tools that it has started."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sweep(job, items, *common, jobs=1, cluster=None, packages=(), title, unit="run", quiet=False):
    """An iterator over (item, job(item, *common)), as they are done, with a progress bar.

    jobs: so many at a time in threads of this process. cluster: address of a dask scheduler, whose
    workers run them instead. common: sent there once. packages: of which the workers must have our
    versions. Leaving the context stops the jobs that still run; here, it waits for their end.
    Raises ClusterError, and what a job raises.
    """
    versions = _versions(packages)
    with _interrupted_by_sigterm(), _client(jobs, cluster) as client:
        # On every worker, so that none can take it along when it goes.
        shared = client.scatter([*common], broadcast=True, hash=False) if common else []
        runs = {
            client.submit(_run, job, item, versions, *shared, pure=False): item for item in items
        }
        done = tqdm(as_completed(runs), title, len(runs), unit=unit, disable=quiet or None)
        try:
            yield ((runs[run], _result(run)) for run in done)
        finally:
            done.close()
            client.cancel([*runs])
