"""Rewrites the layer record table of architecture.md from ``sw.record``.

Run it after a change of the record: ``python docs/layer_record.py``. Meanings are kept by name.
"""

import re
import sys
from pathlib import Path

from tables import find_table, replace_table

from sw.record import EVERY_FIELD

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).with_name("architecture.md")

COLUMNS = ("word", "bits", "field", "meaning")


def _row(field, meaning):
    last_word = field.word + (field.shift + field.bits - 1) // 16
    last_bit = field.shift + field.bits - 1
    word = f"{field.word}-{last_word}" if last_word > field.word else f"{field.word}"
    bits = f"{field.shift}-{last_bit}" if field.bits > 1 else f"{field.shift}"
    return word, bits, f"`{field.name}`", meaning


def render(text, fields=EVERY_FIELD):
    """The page with the table as it should be. KeyError for a field that has no meaning yet."""
    start, end = find_table(text, COLUMNS)
    pattern = r"^\|[^|]*\|[^|]*\| `(\w+)` \| (.*) \|$"
    meanings = dict(re.findall(pattern, text[start:end], re.MULTILINE))
    rows = [_row(field, meanings[field.name]) for field in fields]
    return replace_table(text, COLUMNS, rows)


if __name__ == "__main__":
    try:
        PAGE.write_text(render(PAGE.read_text()))
    except KeyError as error:
        sys.exit(f"{PAGE.name}: add a row for the new field {error} with its meaning")
