"""What the memories hold when power comes, where a network is baked into the bitstream."""

__all__ = ["HOST", "Contents", "power_up", "rows_of"]

#: Bits that the host writes at a time.
HOST = 16


def rows_of(words, width, depth):
    """Rows of ``width`` bits after the host has written the uint16 ``words``, the lowest first."""
    rows, parts = [0] * depth, max(width // HOST, 1)
    for address, value in enumerate(words):
        row, part = divmod(address, parts)
        rows[row] |= (int(value) & ((1 << width) - 1)) << (HOST * part)
    return rows


class Contents:
    """Of all memories of an accelerator, handed to them as ``platform.contents``.

    words: Region -> uint16 words, as ``Program.contents``. A memory of another region has none.
    memories: what has been elaborated since, (memory, slice of its rows) for each that has some.
    """

    def __init__(self, words):
        self.words, self.memories = words, []

    def tables(self, words):
        """(region, width, rows) of every one of ``memories`` if it held ``words``."""
        return [
            (memory.region, memory.width, memory.model(words[memory.region])[part])
            for memory, part in self.memories
        ]


def power_up(platform, memory, part=slice(None)):
    """Arguments of Amaranth's Memory: contents for a ``part`` of a memory's rows, or none.

    Contents are for block RAM: the tools that replace them later find them nowhere else.
    """
    contents = getattr(platform, "contents", None)
    if contents is None or memory.region not in contents.words:
        return dict(init=[])
    contents.memories.append((memory, part))
    rows = memory.model(contents.words[memory.region])[part]
    return dict(init=rows, attrs={"ram_style": "block"})
