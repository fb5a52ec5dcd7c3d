"""The list of mutations, the report on them, and the runner: it tells an error from a comment."""

import ast
import json
from dataclasses import replace

import pytest

from tests.mutants import runner
from tests.mutants.__main__ import COMMAND, RESULTS, misjudged, source_digests, survivors
from tests.mutants.mutation import Mutation
from tests.mutants.mutations import MUTATIONS
from tests.mutants.runner import ROOT, MutationError

#: Tests that compare digests notice any change, and so tell nothing.
DIGESTS = ("tests/test_results.py", "tests/test_docs.py", "tests/hw/test_estimate.py")

QUICK = ("tests/sw/test_positions.py",)
COMMENT = Mutation(
    "sw/positions.py", "A handful of classes an axis", "Some classes an axis", "a comment", QUICK
)
WRONG_PERIOD = replace(
    COMMENT, old="(position - self.low) % self.period", new="(position - self.low) // self.period"
)
NO_PYTHON = replace(COMMENT, old="class Axis:", new="class Axis")
ENDLESS = replace(COMMENT, old="        outputs = (size", new="        while True: pass\n"
                  "        outputs = (size")


def stale(report):
    """Why a report no longer tells of the mutations and the sources, or None."""
    if [entry["mutation"] for entry in report["mutations"]] != [one.digest for one in MUTATIONS]:
        return f"the mutations have changed: run {report['command']}"
    found = source_digests()
    changed = [path for path in found if report["sources"].get(path) != found[path]]
    if changed:
        return f"{', '.join(changed)} changed: run {report['command']}"
    return None


def function_of(test):
    """(path, name of the function) of a test's id; the name is None for a file."""
    path, _, rest = test.partition("::")
    return path, rest.partition("[")[0] or None


def missing(tests):
    """Those of the ``tests``, ids of pytest, whose file or function is not there."""
    found = []
    for test in tests:
        path, name = function_of(test)
        names = {None}
        if (ROOT / path).is_file():
            tree = ast.parse((ROOT / path).read_text())
            names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if name not in names or not (ROOT / path).is_file():
            found.append(test)
    return found


def test_every_mutation_has_one_place():
    assert len(MUTATIONS) >= 60
    assert len({one.digest for one in MUTATIONS}) == len(MUTATIONS)
    for one in MUTATIONS:
        text = (ROOT / one.path).read_text()
        assert one.applied(text) != text
    for old in ("no such text", "self"):
        with pytest.raises(ValueError, match=r"^sw/positions.py: \d+ places, not one: "):
            replace(COMMENT, old=old).applied((ROOT / COMMENT.path).read_text())


def test_their_tests_exist_and_compare_no_digests():
    tests = {test for one in MUTATIONS for test in one.tests}
    assert missing(tests) == []
    assert missing(["tests/nothing.py", f"{QUICK[0]}::test_nothing"]) == [
        "tests/nothing.py", f"{QUICK[0]}::test_nothing"
    ]
    assert not [test for test in tests if test.startswith(DIGESTS)]


def test_every_mutation_was_noticed_or_is_equivalent():
    report = json.loads(RESULTS.read_text())
    assert stale(report) is None
    entries = report["mutations"]
    assert survivors(entries) == [] and misjudged(entries) == []
    for one, entry in zip(MUTATIONS, entries, strict=True):
        assert entry["equivalent"] == one.equivalent
    killers = [e["killed_by"] for e in entries if e["killed_by"] not in (None, "timed out")]
    assert missing(killers) == [], f"tests that are no longer there: run {COMMAND}"
    assert set(report["control"]) == {test for one in MUTATIONS for test in one.tests}
    counts = (report["killed"], report["equivalent"], report["survived"])
    assert counts == (
        sum(bool(entry["killed_by"]) for entry in entries),
        sum(one.equivalent is not None for one in MUTATIONS), 0,
    )


def test_a_report_of_other_sources_or_mutations_is_stale():
    report = json.loads(RESULTS.read_text())
    assert stale({**report, "mutations": report["mutations"][1:]})
    sources = {**report["sources"], "hw/lif.py": "0"}
    assert stale({**report, "sources": sources}) == f"hw/lif.py changed: run {COMMAND}"


def test_survivors_are_those_that_nothing_noticed():
    entries = [
        dict(killed_by=by, equivalent=why)
        for by, why in (("test", None), (None, "why"), (None, None), ("test", "why"))
    ]
    assert survivors(entries) == entries[2:3]
    assert misjudged(entries) == entries[3:]


def test_the_runner_tells_a_comment_from_an_error():
    seconds = runner.control(QUICK)
    assert seconds.keys() == set(QUICK) and seconds[QUICK[0]] > 0
    entries = list(runner.run([COMMENT, WRONG_PERIOD], seconds, jobs=2))
    assert [entry["mutation"] for entry in entries] == [COMMENT.digest, WRONG_PERIOD.digest]
    assert entries[0]["killed_by"] is None
    assert function_of(entries[1]["killed_by"]) == (
        QUICK[0], "test_every_position_has_the_taps_of_its_class"
    )
    assert COMMENT.applied((ROOT / COMMENT.path).read_text()), "the sources are untouched"


def test_a_mutant_without_end_is_noticed(monkeypatch):
    monkeypatch.setattr(runner, "SECONDS", 8)
    (entry,) = runner.run([ENDLESS], dict.fromkeys(QUICK, 0))
    assert entry["killed_by"] == "timed out" and entry["seconds"] >= 8


def test_what_pytest_cannot_tell_is_an_error():
    with pytest.raises(MutationError, match="pytest ends with status 2, which is no answer"):
        list(runner.run([NO_PYTHON], dict.fromkeys(QUICK, 0)))
    with pytest.raises(MutationError, match="test_nothing does not pass without a mutation"):
        runner.control([f"{QUICK[0]}::test_nothing"])
