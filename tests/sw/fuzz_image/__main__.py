"""Malformed network images: the loader refuses each in one line, or returns what the file says.

Three thousand run with the tests. A million, with a report: python -m tests.sw.fuzz_image
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from sw.files import replace_file
from tests.sw.fuzz_image.cases import bases, make
from tests.sw.fuzz_image.judge import judge
from tests.sw.fuzz_image.run import PIECE, run, sources

__all__ = ["RESULTS", "main"]

RESULTS = Path("results/fuzz-image.json")


def _report_before(cases, seed):
    """A report that ``cases`` can go on after, or None."""
    if not RESULTS.exists():
        return None
    report = json.loads(RESULTS.read_text())
    same = report["source"] == sources() and report["seed"] == seed and not report["failures"]
    return report if same and report["cases"] <= cases and report["cases"] % PIECE == 0 else None


def main(argv=None):
    """Exit status 0, or 1 when a case failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sw.fuzz_image",
        description=f"{__doc__.splitlines()[0]} Writes {RESULTS}, and goes on after what it holds.",
    )
    add = parser.add_argument
    add("--cases", type=int, default=1_000_000, help="default: a million")
    add("--seed", type=int, default=1)
    add("--jobs", type=int, default=2, help="processes (default: 2)")
    add("--case", type=int, metavar="N", help="only this one, and what came of it")
    add("--keep", metavar="FILE.bsnn", help="with --case: where to leave the file")
    args = parser.parse_args(argv)
    if args.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "case.bsnn")
            kinds, raw = make(bases(), args.seed, args.case, path)
            if args.keep:
                Path(args.keep).write_bytes(raw)
            outcome, wrong = judge(raw, path)
        print(f"{', '.join(kinds)}: {wrong or outcome}")
        return 1 if wrong else 0
    written, before = 0.0, _report_before(args.cases, args.seed)
    report = before
    for report in run(args.cases, args.seed, args.jobs, before, quiet=False):
        if report["cases"] == args.cases or time.monotonic() - written > 30:
            replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
            written = time.monotonic()
    for failure in report["failures"]:
        print(f"case {failure['case']}: {failure['what']}")
    loaded = sum(n for name, n in report["outcomes"].items() if name.startswith("loaded"))
    print(
        f"{report['cases']:,} files: {len(report['failures'])} failures; {loaded:,} loaded,"
        f" {len(report['outcomes'])} kinds of outcomes, {report['seconds']:.0f} s"
    )
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
