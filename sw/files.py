"""Files that are there whole or not at all."""

import os
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path, content):
    """Write ``content``, bytes or text in UTF-8; a reader finds the old file or the new one.

    Raises OSError when that fails, and leaves the old file as it was.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
