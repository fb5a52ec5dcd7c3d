"""Puts one error at a time into the hardware and the golden model: the tests must notice each.

What a run before has found is kept, unless the mutated file has changed or a mutation survived.
"""

import argparse
import json
import sys

from sw.files import replace_file
from tests.mutants.mutations import MUTATIONS
from tests.mutants.runner import ROOT, MutationError, control, digest_of, run, tools

__all__ = ["COMMAND", "RESULTS", "main", "misjudged", "source_digests", "survivors"]

RESULTS = ROOT / "results" / "mutants.json"
COMMAND = "python -m tests.mutants"


def survivors(entries):
    """Those that no test noticed, and that are not marked as equivalent."""
    return [entry for entry in entries if not (entry["killed_by"] or entry["equivalent"])]


def misjudged(entries):
    """Those that are marked as equivalent, and that a test noticed."""
    return [entry for entry in entries if entry["killed_by"] and entry["equivalent"]]


def source_digests():
    return {
        path: digest_of((ROOT / path).read_text()) for path in sorted({m.path for m in MUTATIONS})
    }


def _kept(report, sources):
    """mutation -> entry of a report, where a run would find the same."""
    entries = [
        entry for entry in report["mutations"]
        if report["sources"].get(entry["path"]) == sources.get(entry["path"])
    ]
    undecided = survivors(entries) + misjudged(entries)
    return {entry["mutation"]: entry for entry in entries if entry not in undecided}


def _save(entries, seconds, sources):
    """Writes the report, and returns it."""
    found = [
        {**entries[one.digest], "equivalent": one.equivalent}
        for one in MUTATIONS if one.digest in entries
    ]
    killed = sum(bool(entry["killed_by"]) for entry in found)
    used = {test for one in MUTATIONS for test in one.tests}
    report = {
        "command": COMMAND,
        "tools": tools(),
        "sources": sources,
        "killed": killed,
        "equivalent": len(found) - killed - len(survivors(found)),
        "survived": len(survivors(found)),
        "seconds": round(sum(entry["seconds"] for entry in found)),
        "control": {test: taken for test, taken in seconds.items() if test in used},
        "mutations": found,
    }
    replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
    return report


def main(argv=None):
    """Exit status 0 if all were noticed, 1 if not, 2 if that could not be told."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=f"{__doc__}\nWrites {RESULTS.relative_to(ROOT)}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="TEXT", help="those whose file or words have it in them")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="at a time (default: 1)")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        print(f"error: --jobs must be at least 1, got {args.jobs}", file=sys.stderr)
        return 2
    sources = source_digests()
    before = {"sources": {}, "control": {}, "mutations": []}
    if RESULTS.is_file():
        before = json.loads(RESULTS.read_text())
    entries = _kept(before, sources)
    chosen = [one for one in MUTATIONS if (args.only or "") in f"{one.path} {one.breaks}"]
    wanted = [one for one in chosen if one.digest not in entries]
    tests = {test: None for one in wanted for test in one.tests} | {
        test: None for one in chosen for test in one.tests if test not in before["control"]
    }
    try:
        seconds = before["control"] | control(list(tests), args.jobs)
        report = _save(entries, seconds, sources)
        for entry in run(wanted, seconds, args.jobs):
            entries[entry["mutation"]] = entry
            report = _save(entries, seconds, sources)
    except (MutationError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for entry in survivors(report["mutations"]):
        print(f"survived: {entry['path']}: {entry['breaks']}")
    for entry in misjudged(report["mutations"]):
        print(f"not equivalent: {entry['path']}: {entry['breaks']}: {entry['killed_by']}")
    print(
        f"{len(report['mutations'])} of {len(MUTATIONS)} mutations: {report['killed']} killed,"
        f" {report['equivalent']} equivalent, {report['survived']} survived"
    )
    return 1 if survivors(report["mutations"]) + misjudged(report["mutations"]) else 0


if __name__ == "__main__":
    sys.exit(main())
