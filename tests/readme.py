"""Reads the pages for the tests: code blocks, shell commands, tables, headings and links."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text, language):
    """Contents of all fenced code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text, title):
    """What stands under a ``## `` heading."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def commands(block):
    """Shell commands of a block as lists of words, without comments, split at ``&&``."""
    lines = block.splitlines()
    return [
        shlex.split(part, comments=True)
        for line in lines if line.strip() for part in line.split("&&")
    ]


def anchors(text):
    """Names by which a page's headings are linked to."""
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def links(text):
    """Targets of all links, code blocks left out."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)]+)\)", prose)


def table(text, *columns):
    """Rows, as lists of cells, of the first table whose header starts with these columns."""
    header = "| " + " | ".join(columns)
    body = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in body]
