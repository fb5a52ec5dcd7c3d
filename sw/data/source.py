"""Where files of datasets are looked for, and what is said when they are not there."""

from contextlib import suppress
from pathlib import Path

__all__ = ["DOWNLOADS", "DataError", "find"]


class DataError(ValueError):
    """A dataset that is unknown or cannot be found, with what to do about it in one line."""


#: Where a download goes.
DOWNLOADS = Path.home() / ".cache" / "agamemnon"


def find(root, present, download, also=()):
    """What ``present(folder)`` gives for the first folder that has a dataset, or None.

    The folder is ``root``; without one it is ./data, ``DOWNLOADS`` or one of ``also``, and in the
    end ``download(DOWNLOADS)`` is called. Each says by OSError or RuntimeError that it has nothing.
    """
    ways = [(present, Path(root))] if root else [
        *((present, folder) for folder in (Path("data"), DOWNLOADS, *also)), (download, DOWNLOADS),
    ]
    for way, folder in ways:
        with suppress(OSError, RuntimeError):
            return way(folder)
    return None
