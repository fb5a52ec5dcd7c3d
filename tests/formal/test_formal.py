"""The proofs that take seconds, and that those which take longer are of these sources."""

import json

import pytest
from amaranth.hdl import Assert, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tests.formal.__main__ import PROOFS, RESULTS, killed, main
from tests.formal.proof import Circuit, Claim

FAST = [proof for proof in PROOFS.values() if not proof.slow]


@pytest.mark.parametrize("proof", FAST, ids=lambda proof: proof.name)
def test_holds(proof):
    assert proof.holds()


@pytest.mark.parametrize("kind", [Circuit, Claim])
def test_an_error_in_the_sources_is_noticed(kind):
    assert killed(next(proof for proof in FAST if isinstance(proof, kind)))


@pytest.mark.parametrize("proof", PROOFS.values(), ids=lambda proof: proof.name)
def test_report_is_of_these_sources(proof):
    report = json.loads(RESULTS.read_text())
    entry = report["proofs"][proof.name]
    stale = f"changed: run {report['command']} {proof.name}"
    assert entry["digest"] == proof.digest, stale
    assert entry["mutation"] == proof.mutant.digest, stale
    assert entry["proven"] and entry["killed"]


def test_report_has_no_others():
    assert set(json.loads(RESULTS.read_text())["proofs"]) == set(PROOFS)


class Never(wiring.Component):
    """Its input is never 1, which is wrong."""

    i: In(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += Assert(~self.i)
        return m


def test_what_is_wrong_is_not_proven():
    first = FAST[0]
    assert not Circuit("never", "an input is 0", Never, first.mutant, depth=1).holds()


def test_a_name_that_is_none_is_refused(capsys):
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err == "error: no proof nothing: see --list\n"
