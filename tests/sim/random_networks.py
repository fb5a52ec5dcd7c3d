"""Random networks in simulation, with stalls, against the golden model: every boundary and cycle.

Some run with the tests. Hundreds, with a report: python -m tests.sim.random_networks
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from tqdm import tqdm

from sim.collisions import Rubbish
from sim.run import make_plan, simulate
from sim.simulators import SimulationError, source_digest
from sw.engine import EngineError
from sw.files import replace_file
from sw.golden import IntegerNetwork
from sw.program import compile_program
from tests.sim.coverage import BINS, bins_in, bins_of, describe, next_holes, table
from tests.sim.random_cases import ENGINES, STALLS, Case
from tests.sim.strategies import cases
from tests.support import random_frames

__all__ = ["RESULTS", "main", "run", "sources"]

RESULTS = Path("results/random-networks.json")

#: Where unfinished runs lie, by seed.
UNFINISHED = Path("build/random-networks")

EPILOG = """examples:
  python -m tests.sim.random_networks
  python -m tests.sim.random_networks --networks 50 --seed 7

A network that differs from the golden model ends the run: it is shrunk, and the command that
replays what is left is printed. A run that was cut short goes on where it was."""

FRAMES = 2

#: One for all: Verilog is made once for each platform.
RUBBISH = Rubbish()


class DifferenceError(AssertionError):
    """Simulation and golden model differ."""


def run(case, golden=None):
    """The result of simulating a case; ``golden`` is of another image where a test wants that."""
    frames = random_frames(case.network, FRAMES, case.seed).numpy()
    stalls = dict.fromkeys(STALLS[case.stalls], case.seed)
    plan = make_plan(
        case.image, IntegerNetwork(golden or case.image), frames, ENGINES[case.engine], stalls
    )
    return simulate(plan, platform=RUBBISH if case.rubbish else None)


def sources():
    """Digests of what was simulated: every engine, and one whose memories return rubbish."""
    digests = {name: source_digest(engine) for name, engine in ENGINES.items()}
    return digests | {"rubbish": source_digest(ENGINES["one unit"], platform=RUBBISH)}


def _result(case):
    """As of ``run``; a simulation that breaks off is a difference too."""
    try:
        return run(case)
    except SimulationError as error:
        return {"differences": [str(error)]}


def _draw(key, holes):
    """Runs a Case that fills some of the ``holes``, drawn with a seed of its own: (case, result).

    Of one that differs, what it shrinks to. None if there was no such case among hundreds.
    """
    setting, wanted = holes or (None, ())
    last = None

    @seed(key)
    @settings(
        max_examples=1, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False, print_blob=False, verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(setting=setting, wanted=wanted))
    def one(case):
        nonlocal last
        result = _result(case)
        if last is None or result["differences"]:
            last = case, result
        if result["differences"]:
            raise DifferenceError

    # What hypothesis runs last is the smallest case that differs.
    with suppress(DifferenceError, Unsatisfiable):
        one()
    return last


def _without(case, result):
    """(case, result) that still differ, of what the draw had to have and the difference has not."""
    for change in ({"engine": next(iter(ENGINES))}, {"stalls": "no stalls"}, {"rubbish": False}):
        other = replace(case, **change)
        with suppress(EngineError):
            found = _result(other)
            if found["differences"]:
                case, result = other, found
    return case, result


def _replay(text):
    """Runs the Case of a ``to_json``. Returns the exit status."""
    try:
        case = Case.from_json(text)
        # Refuses what does not fit the engine.
        compile_program(case.image, ENGINES[case.engine])
    except (ValueError, KeyError, TypeError) as error:
        print(f"error: --replay takes what a failure has printed: {error!r}", file=sys.stderr)
        return 2
    differences = _result(case)["differences"]
    print(*differences, f"{'different from' if differences else 'equal to'} the golden model",
          sep="\n")
    return 1 if differences else 0


class _Found:
    """What a run has found so far."""

    def __init__(self):
        self.totals, self.seen, self.hit, self.not_drawn = Counter(), Counter(), set(), set()

    def add(self, case, figures):
        self.totals.update(networks=1, **figures)
        self.seen.update(set(case.features()))
        self.hit.update(bins_of(case))

    def holes(self):
        return [bin_ for bin_ in BINS if bin_ not in self.hit]


class _Journal:
    """A line of JSON for each number that was drawn: those of an unfinished run come again.

    Not where its first line, ``head``, was another.
    """

    def __init__(self, path, head):
        self.path, head = path, json.dumps(head)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.entries = [json.loads(line) for line in lines[1:]] if lines[:1] == [head] else []
        if not self.entries:
            path.write_text(head + "\n")

    def append(self, entry):
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def _run_all(args, digests):
    """(_Found, None), or after a difference (_Found, (case, result))."""
    found, number = _Found(), 0
    journal = _Journal(UNFINISHED / f"{args.seed}.jsonl", digests)
    with tqdm(total=args.networks, unit="network", disable=None) as bar:
        while found.totals["networks"] < args.networks:
            holes = next_holes(found.hit | found.not_drawn)
            if number < len(journal.entries):
                entry = journal.entries[number]
            else:
                drawn = _draw(f"{args.seed} {number}", holes)
                if drawn and drawn[1]["differences"]:
                    return found, _without(*drawn)
                entry = drawn and [drawn[0].to_json(), _figures(*drawn)]
                journal.append(entry)
            number += 1
            if entry is None:
                found.not_drawn.update(bins_in(holes))
                continue
            found.add(Case.from_json(entry[0]), entry[1])
            bar.update()
            bar.set_postfix(holes=len(found.holes()))
    journal.path.unlink()
    return found, None


def _figures(case, result):
    network, frames = case.network, result["frames"]
    return {
        "frames": frames, "boundaries": frames * (len(network.layers) - network.coded),
        "cycles": result["cycles"],
    }


def main(argv=None):
    """Exit status 0 if all are equal, 1 if one is not, 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.random_networks", description=f"{__doc__} Writes {RESULTS}.",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EPILOG,
    )
    parser.add_argument("--networks", type=int, default=300, metavar="N", help="default: 300")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: 1)")
    parser.add_argument("--replay", metavar="CASE", help="run the one that a failure has printed")
    args = parser.parse_args(argv)
    if args.replay is not None:
        return _replay(args.replay)
    if args.networks < 1:
        print(f"error: --networks must be at least 1, got {args.networks}", file=sys.stderr)
        return 2
    digests = sources()
    found, different = _run_all(args, digests)
    coverage = table(found.hit)
    report = {
        "command": f"python -m tests.sim.random_networks --networks {args.networks}"
        f" --seed {args.seed}",
        "sources": digests,
        **found.totals,
        "differences": [],
        "coverage": coverage,
        "holes": [describe(bin_) for bin_ in found.holes()],
        "seen": dict(sorted(found.seen.items())),
    }
    if different:
        case, result = different
        command = f"python -m tests.sim.random_networks --replay {shlex.quote(case.to_json())}"
        report["differences"] = [{"replay": command, "differences": result["differences"]}]
    replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
    for name, row in coverage.items():
        print(f"{name:28}{row['hit']:4} of {row['bins']:4} bins")
    print(f"{len(report['holes'])} holes, listed in {RESULTS}")
    print(f"{found.totals['networks']} networks equal to the golden model")
    if different:
        print(*result["differences"], "one differs; again with:", command, sep="\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
