"""Tables of the pages, rewritten in place by the scripts beside this one."""

import re

__all__ = ["find_table", "replace_table"]


def find_table(text, columns):
    """Where the rows of the table with these columns start and end in ``text``."""
    header = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    start = text.index(header) + len(header)
    return start, start + re.match(r"(\|.*\n)*", text[start:]).end()


def replace_table(text, columns, rows):
    """``text`` with ``rows``, a list of strings each, in that table."""
    start, end = find_table(text, columns)
    return text[:start] + "".join(f"| {' | '.join(row)} |\n" for row in rows) + text[end:]
