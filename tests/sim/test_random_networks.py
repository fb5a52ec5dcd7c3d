"""Random networks on a few engines, and that the comparison of such would see an error."""

import json
import shlex
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from sw.engine import EngineError
from sw.layers import AveragedReadout, Conv, Network, Readout, ResidualConv, Shape, Stem
from tests.sim import random_networks
from tests.sim.coverage import BINS, bins_in, bins_of, describe, next_holes, table
from tests.sim.random_cases import STALLS, Case, Setting
from tests.sim.random_networks import main, run
from tests.sim.strategies import cases

SMALL = Network("small", Shape(2, 6, 6), [Stem(9), Conv(7, kernel=5), Readout(3)], T=2)


def random_settings(count):
    return settings(
        max_examples=count, deadline=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@random_settings(16)
@given(cases(
    ("two cores", "two strips", "four passes", "shortcuts, two units, four passes"),
    Setting(rubbish=False),
))
def test_verilog_equals_golden(case):
    assert run(case)["differences"] == []


@random_settings(4)
@given(cases(("two strips",), Setting(rubbish=True)))
def test_no_collision_of_the_memories_matters(case):
    assert run(case)["differences"] == []


@pytest.mark.parametrize("T", [6, 16])
def test_exact_gains_in_several_passes(T):
    network = Network(
        "passes", Shape(2, 8, 9), [Stem(9), Conv(7, pool=2), Conv(10), AveragedReadout(3)], T=T
    )
    assert run(Case("four passes", network, "exact", 5))["differences"] == []


def test_one_wrong_bias_is_noticed():
    case = Case("two cores", SMALL, "exact", 5, "stalls")
    layers = list(case.image.layers)
    layers[2] = replace(layers[2], bias=layers[2].bias + 1)
    found = run(case, golden=replace(case.image, layers=tuple(layers)))["differences"]
    assert found
    assert all("readout2" in line for line in found if "in one go" not in line)


def test_stalls_take_their_time_and_change_nothing():
    results = {name: run(Case("two strips", SMALL, "frozen", 5, name)) for name in STALLS}
    assert all(result["differences"] == [] for result in results.values())
    assert len({result["cycles_per_frame"] for result in results.values()}) == 1
    cycles = {name: result["cycles"] for name, result in results.items()}
    assert cycles["no stalls"] < min(cycles["stalled rx"], cycles["stalled tx"])
    assert max(cycles["stalled rx"], cycles["stalled tx"]) < cycles["stalls"]


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Results go to tmp_path, and no engine is elaborated for its digest."""
    monkeypatch.setattr(random_networks, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(random_networks, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setattr(random_networks, "sources", lambda: {"hardware": "0"})
    return tmp_path


def planted(monkeypatch, differs):
    """Instead of simulations: a difference in every case that ``differs``."""
    ran = []

    def result(case):
        ran.append(case)
        return {
            "frames": 2, "cycles": 100, "differences": ["planted"] if differs(case) else [],
        }

    monkeypatch.setattr(random_networks, "run", result)
    return ran


def test_a_difference_is_shrunk_and_replays(alone, monkeypatch, capsys):
    """A planted one, of every network with a stride of 2 behind the first layer."""
    def differs(case):
        return any(getattr(layer, "stride", 1) == 2 for layer in case.network.layers[1:])

    with monkeypatch.context() as plant:
        ran = planted(plant, differs)
        assert main(["--networks", "30"]) == 1
        first = next(case for case in ran if differs(case))
        printed = capsys.readouterr().out.splitlines()[-1]
        report = json.loads((alone / "results.json").read_text())
        assert [found["replay"] for found in report["differences"]] == [printed]
        *command, text = shlex.split(printed)
        assert command == ["python", "-m", "tests.sim.random_networks", "--replay"]
        small = Case.from_json(text)
        assert differs(small)
        assert len(small.network.layers) <= 4
        assert 50 * small.network.macs_per_frame() < first.network.macs_per_frame()
        assert (small.engine, small.stalls, small.rubbish) in {
            ("one unit", "no stalls", False), ("shortcuts", "no stalls", False)
        }
        assert main(["--replay", text]) == 1
        assert "planted" in capsys.readouterr().out
    small = replace(small, engine="two strips", gain="frozen")
    assert main(["--replay", small.to_json()]) == 0
    assert "equal to the golden model" in capsys.readouterr().out


def test_what_breaks_off_is_a_difference(alone, monkeypatch, capsys):
    def broken(case):
        raise random_networks.SimulationError("the simulation ended early")

    monkeypatch.setattr(random_networks, "run", broken)
    assert main(["--networks", "1"]) == 1
    assert "the simulation ended early" in capsys.readouterr().out


@pytest.mark.parametrize("text", [
    "{", "{}", "[]", Case("nine units", SMALL, "exact", 5).to_json(),
    Case("one unit", SMALL, "exact", 5, "storms").to_json(),
    Case("one unit", SMALL.replace(T=5), "exact", 5).to_json(),
])
def test_no_case_is_one_line(capsys, text):
    assert main(["--replay", text]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --replay") and error.count("\n") == 1


def test_no_networks_are_refused(capsys):
    assert main(["--networks", "0"]) == 2
    assert capsys.readouterr().err == "error: --networks must be at least 1, got 0\n"


def test_a_run_that_was_cut_short_goes_on(alone, monkeypatch, capsys):
    def networks(count, seed):
        ran = planted(monkeypatch, lambda case: len(ran) > count)
        return ran, main(["--networks", "6", "--seed", seed])

    whole, _ = networks(6, "3")
    kept = json.loads((alone / "results.json").read_text())
    cut, status = networks(4, "4")
    assert status == 1 and len(cut) > 4
    rest, status = networks(6, "4")
    assert (status, len(rest)) == (0, 2)
    again, _ = networks(6, "3")
    assert again == whole != cut[:4] + rest
    assert json.loads((alone / "results.json").read_text()) == kept
    assert (kept["networks"], kept["frames"], kept["cycles"]) == (6, 12, 600)
    capsys.readouterr()


def test_bins_are_what_can_be():
    found = {describe(bin_) for bin_ in BINS}
    assert len(found) == len(BINS)
    assert "conv, stride 2, pool 2, passes: several, gain: exact, stalls" in found
    assert "projecting shortcut, stride 2, pool 1, shortcuts, passes: one" in found
    assert not [name for name in found if "stem" in name and "gain: exact" in name]
    assert not [name for name in found if "shortcut, " in name and "two strips" in name]
    assert not [name for name in found if "averagedconv, stride 2" in name]


@random_settings(60)
@given(cases())
def test_every_case_hits_bins(case):
    hit = set(bins_of(case))
    assert hit <= set(BINS)
    assert len(hit) > len(case.network.layers)


def test_a_network_without_its_engine_has_no_bins():
    network = Network("wrong", Shape(1, 6, 6), [Stem(9), ResidualConv(9), Readout(3)])
    assert not set(bins_of(Case("two strips", network, "frozen", 5))) <= set(BINS)
    with pytest.raises(EngineError):
        run(Case("two strips", network, "frozen", 5))


def test_draws_fill_holes(monkeypatch):
    """Every one of the holes first asked for, and then the one that is left alone."""
    planted(monkeypatch, lambda case: False)
    for hit in (set(), set(BINS[1:]), set(BINS[:300] + BINS[301:]), set(BINS[:-1])):
        holes = next_holes(hit)
        case, _ = random_networks._draw("1", holes)
        assert bins_in(holes) & set(bins_of(case))
        assert not bins_in(holes) & hit
    assert next_holes(set(BINS)) is None
    assert table(set(BINS))["all"] == {"hit": len(BINS), "bins": len(BINS)}
    assert table(set(BINS[1:]))["stem"]["hit"] == table(set(BINS))["stem"]["hit"] - 1
