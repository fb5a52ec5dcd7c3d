"""Child processes that end when we are stopped."""

import atexit
import contextlib
import subprocess

__all__ = ["run_child"]

_RUNNING = set()


@atexit.register
def _kill_all():
    """Children of threads that end with their process, unheard, as those of dask's workers do."""
    for process in [*_RUNNING]:
        process.kill()


def run_child(command, output, tick, stderr=subprocess.STDOUT, **options):
    """Exit status of a child process, whose output goes to the file ``output``.

    tick: called about once a second; when it raises, or we are stopped, the child is killed.
    stderr: a file, or with the output. options: more of subprocess.Popen.
    """
    with subprocess.Popen(command, stdout=output, stderr=stderr, **options) as process:
        _RUNNING.add(process)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=1)
                tick()
        except BaseException:
            process.kill()
            raise
        finally:
            _RUNNING.discard(process)
