"""Rewrites the tables and pictures of experiments.md from ``results/experiments/``.

Run it after new trainings: ``python docs/experiments.py``.
"""

import json
import re
from pathlib import Path

from sw.experiments import figures, sweep, tables
from sw.experiments.report import runs_of
from sw.experiments.variants import VARIANTS
from sw.model import SpikingNetwork
from sw.networks import resnet19
from sw.operations import ENERGIES
from sw.size import size_report

__all__ = ["PAGE", "PICTURES", "THROUGHPUT", "blocks", "load", "render"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "experiments.md"
PICTURES = ROOT / "docs" / "pictures"
THROUGHPUT = ROOT / "results" / "trainer_throughput.json"

#: Table 2 of the AGMM paper: MB, 10^9 synaptic operations and MACs, mJ.
TABLE_2 = {
    "agmm": (2.46, 0.045, 0.028, 0.064),
    "vanilla": (2.31, 0.056, 0.027, 0.066),
    "fp": (50.46, 0.750, 0.027, 0.330),
}

#: What docs/throughput.py measures.
TRAINERS = {
    "ours": "Agamemnon", "spikingjelly": "SpikingJelly", "snntorch": "snnTorch",
    "limit": "the convolutions alone",
}


def load():
    """All reports on studies, by file name."""
    paths = sorted((ROOT / "results" / "experiments").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _table_2():
    """Sizes of our ResNet-19, and energies of the paper's operations, beside the paper's."""
    rows = []
    for name, (printed, acs, macs, millijoules) in TABLE_2.items():
        size = size_report(SpikingNetwork(resnet19().replace(neuron=name)))
        energies = [mac * macs + ac * acs for mac, ac in ENERGIES.values()]
        rows.append((
            VARIANTS[name].name, f"{size.packed_bytes / 1e6:.2f}", f"{printed:.2f}", f"{acs:.3f}",
            f"{macs:.3f}", *(f"{energy:.3f}" for energy in energies), f"{millijoules:.3f}",
        ))
    return tables.markdown(
        ("network", "MB", "MB, paper", "SOPs, G, paper", "MACs, G, paper",
         *(f"mJ, {preset}" for preset in ENERGIES), "mJ, paper"), rows,
    )


def _throughput(report):
    """Images/s of each trainer in its best setting, and in its best without torch.compile."""
    rows, ours = [], report["ours_images_per_s"]
    for name, about in TRAINERS.items():
        rate, settings = report[f"{name}_images_per_s"], report[f"{name}_settings"]
        plain = max(one["images_per_s"] for one in report[f"{name}_all"] if not one["compiled"])
        rows.append((
            about, f"{rate:,.0f}", ", ".join(word for word, on in settings.items() if on) or "fp32",
            f"{plain:,.0f}", f"{ours / rate:.2f}", f"{ours / plain:.2f}",
        ))
    return tables.markdown(
        ("trainer", "images/s", "its best setting", "images/s, not compiled", "ours / its best",
         "ours / not compiled"), rows,
    )


def _table(report):
    if report["experiment"] == "sweep":
        return sweep.table(report)
    return tables.accuracy(runs_of(report), None)


def _draw(report, path):
    if report["experiment"] == "sweep":
        sweep.draw(report, path)
    else:
        figures.training(runs_of(report), None, path)


def _processors(report):
    """What the runs were made on, where it is known."""
    machines = [
        run.get("machine") for setting in report.get("settings", [report])
        for group in setting["runs"].values() for run in group
    ]
    names = sorted({machine["processor"] for machine in machines if machine})
    return f", on {' and '.join(names)}" if names else ""


def _study(name, report):
    return (
        f"{_table(report)}\n![{name}](pictures/{name}.png)\n\n"
        f"`{report['command']}`{_processors(report)}\n"
    )


def blocks(reports, throughput):
    """What belongs between ``<!-- NAME -->`` and ``<!-- end -->``, by name.

    reports: as of ``load``. throughput: what ``docs/throughput.py`` found.
    """
    studies = {name: _study(name, report) for name, report in reports.items()}
    return {
        **studies, "table 2": f"{_table_2()}\n", "throughput": f"{_throughput(throughput)}\n",
    }


def render(text, parts):
    """The page with ``blocks`` as they should be. ValueError if there is no place for one."""
    for name, part in parts.items():
        pattern = rf"(?<=<!-- {re.escape(name)} -->\n).*?(?=<!-- end -->)"
        text, found = re.subn(
            pattern, lambda _, part=part: part, text, count=1, flags=re.DOTALL
        )
        if not found:
            raise ValueError(f"{PAGE.name} has no place for {name}")
    return text


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    reports = load()
    parts = blocks(reports, json.loads(THROUGHPUT.read_text()))
    PAGE.write_text(render(PAGE.read_text(), parts))
    for name, report in reports.items():
        _draw(report, PICTURES / f"{name}.png")
