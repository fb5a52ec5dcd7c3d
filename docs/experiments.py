"""Rewrites the tables and pictures of experiments.md from ``results/experiments/``.

Run it after new trainings: ``python docs/experiments.py``.
"""

import json
import re
from pathlib import Path

from sw.experiments import figures, tables
from sw.experiments.report import runs_of

__all__ = ["PAGE", "PICTURES", "load", "render"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
PICTURES = ROOT / "docs" / "pictures"


def load():
    """All reports, by file name."""
    paths = sorted((ROOT / "results" / "experiments").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def render(text, reports):
    """The page with what stands between ``<!-- NAME -->`` and ``<!-- end -->`` as it should be."""
    for name, report in reports.items():
        table = tables.accuracy(runs_of(report), None)
        block = f"{table}\n![{name}](pictures/{name}.png)\n\n`{report['command']}`\n"
        pattern = rf"(?<=<!-- {re.escape(name)} -->\n).*?(?=<!-- end -->)"
        text, found = re.subn(pattern, lambda _, block=block: block, text, count=1, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PAGE.name} has no place for {name}")
    return text


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    PAGE.write_text(render(PAGE.read_text(), load()))
    for name, report in load().items():
        figures.training(runs_of(report), None, PICTURES / f"{name}.png")
