"""Committed results of long runs still speak for the sources beside them."""

import json
import statistics
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hw.bench import NETWORKS
from hw.boards import BOARDS
from hw.build import prepare
from sim.simulators import source_digest
from sw import image
from sw.cycles import cycles_per_frame
from sw.engine import ENGINES
from sw.experiments.report import fingerprint
from sw.program import compile_program
from tests.faults import FAULTS
from tests.hw import baked_equality, reproducible
from tests.sim import coverage, link_faults, random_cases, random_networks
from tests.sw.fuzz_image.__main__ import RESULTS as FUZZED
from tests.sw.fuzz_image.mutations import MUTATIONS as MALFORMATIONS
from tests.sw.fuzz_image.run import sources as fuzz_sources

ROOT = Path(__file__).parents[1]
BUILDS = sorted((ROOT / "results" / "builds").glob("*.json"))
SEEDS = sorted((ROOT / "results" / "seeds").glob("*.json"))
EXPERIMENTS = sorted((ROOT / "results" / "experiments").glob("*.json"))
#: Boards some of whose seeds are still to be run with the link: python -m hw.seeds goes on.
UNFINISHED = {"ulx3s-85f-residual"}
EQUALITY = ROOT / "results" / "equality.json"
SOAK = ROOT / "results" / "soak.json"


@cache
def design(name, clock_mhz, seed):
    """Digest of what would be built now. Reports on several networks share a design."""
    board = BOARDS[name]
    plan = prepare(board, board.clock_generator(round(clock_mhz * 1e6)), seed)
    return plan.digest().hex()


def stale_build(report):
    """Why a build report no longer describes the sources, or None."""
    board = BOARDS[report["board"]]
    if design(report["board"], report["clock_mhz"], report["seed"]) != report["design"]:
        return f"the design has changed: run {report['command']}"
    model = image.load(ROOT / "models" / f"{report['model']}.bsnn")
    if model.checksum != report["model_checksum"]:
        return f"{report['model']} has changed: run {report['command']}"
    ahead = compile_program(model, board.engine).ahead
    if report["cycles_per_frame"] != cycles_per_frame(model.network, board.engine, ahead=ahead):
        return "the cycle model has changed"
    return None


def stale_run(run):
    """Why a simulation no longer describes the sources, or None."""
    if image.load(ROOT / run["model"]).checksum != run["checksum"]:
        return f"{run['model']} has changed: run {run['command']} --json"
    gates_of = BOARDS[run["engine"]] if run.get("netlist") else None
    if source_digest(ENGINES[run["engine"]], gates_of) != run["source"]:
        return f"the hardware has changed: run {run['command']} --json"
    return None


def test_there_is_a_build_for_every_network_of_every_board():
    assert set(NETWORKS) == set(BOARDS)
    expected = {f"{board}-{network}" for board, names in NETWORKS.items() for network in names}
    assert {path.stem for path in BUILDS} == expected


@pytest.mark.parametrize("path", BUILDS, ids=lambda path: path.stem)
def test_builds_are_of_these_sources(path):
    report = json.loads(path.read_text())
    assert stale_build(report) is None
    assert report["fmax_mhz"] >= report["clock_mhz"]
    assert stale_build({**report, "design": "0"})
    assert stale_build({**report, "model_checksum": "0"})
    assert stale_build({**report, "cycles_per_frame": 1})


def test_a_build_with_another_seed_is_stale():
    """On one board: elaboration takes long."""
    report = json.loads((ROOT / "results" / "builds" / "icebreaker-fashion-mnist.json").read_text())
    assert stale_build({**report, "seed": report["seed"] + 1})


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_seeds_are_of_these_sources(path):
    report = json.loads(path.read_text())
    assert report["board"] == path.stem
    assert len(report["fmax_mhz"]) >= (1 if path.stem in UNFINISHED else 10)
    digest = design(report["board"], report["clock_mhz"], BOARDS[report["board"]].seed)
    assert digest == report["design"], f"the design has changed: run {report['command']}"
    fmax = sorted(fmax for fmax in report["fmax_mhz"].values() if fmax is not None)
    found = [report[name] for name in ("min", "median", "max")]
    assert found == [fmax[0], statistics.median(fmax), fmax[-1]]


@pytest.mark.parametrize("run", json.loads(EQUALITY.read_text()), ids=lambda run: run["command"])
def test_simulations_are_of_these_sources(run):
    assert stale_run(run) is None
    assert run["differences"] == []
    assert run["cycles_per_frame"] == run["cycle_model"]
    assert stale_run({**run, "source": "0"})
    assert stale_run({**run, "checksum": "0"})


def test_ten_thousand_frames_are_of_these_sources():
    """All of a test set, one after the other, without a reset."""
    run = json.loads(SOAK.read_text())
    assert stale_run(run) is None
    assert run["frames"] == 10_000
    assert run["differences"] == []
    assert run["cycles_per_frame"] == run["cycle_model"]
    assert run["cycles"] > run["frames"] * run["cycle_model"]
    assert stale_run({**run, "source": "0"})
    assert stale_run({**run, "checksum": "0"})
    assert stale_run({**run, "engine": "ulx3s-25f"})


def test_random_networks_are_of_these_sources():
    report = json.loads(random_networks.RESULTS.read_text())
    assert report["sources"] == random_networks.sources(), f"changed: run {report['command']}"
    assert report["networks"] >= 200
    assert report["differences"] == []
    assert set(report["seen"]) >= {
        *random_cases.ENGINES, *random_cases.STALLS, "T=1", "several passes", "exact gain",
        "frozen gain", "no gain", "stem 5x5", "conv 1x1", "conv 3x3", "conv 5x5",
        "fully connected", "average pooling", "global average pooling", "events of one level",
        "events of several levels", "pixels of several levels", "stride 2", "pool 2", "padding",
        "no padding", "strips beyond the map", "halos", "1x1 map", "input up to 64",
        "channels not multiples of pe", "shortcut", "averaging shortcut", "projecting shortcut",
        "rubbish where a row is read and written",
    }


def test_random_networks_leave_no_holes():
    """The report names every bin that was not hit: there is none, of all that are there now."""
    report = json.loads(random_networks.RESULTS.read_text())
    assert report["holes"] == []
    assert report["coverage"] == coverage.table(set(coverage.BINS))
    assert report["coverage"] != coverage.table(set(coverage.BINS[1:]))


def test_faults_on_the_line_are_of_these_sources():
    report = json.loads(link_faults.RESULTS.read_text())
    assert report["source"] == link_faults.sources(), f"changed: run {report['command']}"
    assert report["frames"] >= 1_000_000
    assert report["wrong"] == []
    assert set(report["faults"]) == set(FAULTS)
    page = " ".join((ROOT / "README.md").read_text().split())
    told = f"{sum(report['faults'].values()):,} faults"
    assert told in page and f"slowest took {report['longest']:.2f} s" in page


def test_malformed_images_are_of_this_loader():
    report = json.loads(FUZZED.read_text())
    assert report["source"] == fuzz_sources(), f"changed: run {report['command']}"
    assert report["cases"] == sum(report["outcomes"].values()) >= 1_000_000
    assert report["failures"] == []
    assert "failure" not in report["outcomes"]
    assert set(report["mutations"]) == set(MALFORMATIONS)
    page = (ROOT / "docs" / "verification.md").read_text()
    assert f"{report['cases']:,} cases" in page


def test_baked_bitstreams_are_of_these_sources():
    """What a patched bitstream holds is what a rebuilt one does, in every block RAM."""
    report = json.loads(baked_equality.RESULTS.read_text())
    assert len(report["boards"]) == len(baked_equality.ACCELERATORS) == 2
    for board in baked_equality.ACCELERATORS:
        found = report["boards"][board.name]
        assert found["design"] == baked_equality.design(board), f"changed: run {report['command']}"
        assert found["image"] == baked_equality.IMAGE.checksum
        assert found["strange"] == 0
        assert min(found["strange_unpatched"], found["strange_with_another_network"]) > 0
    narrow = replace(board, engine=replace(board.engine, channel_depth=256))
    assert baked_equality.design(narrow) != found["design"]


def stale_reproduction(report):
    """Why two builds no longer describe the sources, or do not agree, or None."""
    first, *others = report["builds"]
    board = BOARDS[report["board"]]
    if design(board.name, board.clock_hz / 1e6, report["seed"]) != first["design"]:
        return f"the design has changed: run {report['command']}"
    return None if others and all(other == first for other in others) else "they differ"


def test_two_builds_of_these_sources_are_the_same():
    report = json.loads(reproducible.RESULTS.read_text())
    assert stale_reproduction(report) is None
    # A third one, of another day.
    kept = json.loads((ROOT / "results" / "builds" / "icebreaker-fashion-mnist.json").read_text())
    first = report["builds"][0]
    assert first == {**{name: kept[name] for name in first.keys() - {"sha256"}},
                     "sha256": first["sha256"]}
    assert report["tools"] == kept["tools"]
    assert stale_reproduction({**report, "builds": [{**first, "design": "0"}] * 2})
    assert stale_reproduction({**report, "builds": [first, {**first, "sha256": "0"}]})
    assert stale_reproduction({**report, "builds": [first]})


def stale_experiment(report):
    """Why runs are no longer what the trainer would make, or None."""
    for name, kept in report["fingerprints"].items():
        found = fingerprint(report["runs"][name][0]["args"])
        # Other machines round otherwise, and a current near the threshold then gives a spike.
        if not all(found[key] == pytest.approx(kept[key], rel=0.03) for key in kept):
            return f"{name} is trained otherwise now, {found}: run {report['command']}"
    return None


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_of_this_trainer(path):
    report = json.loads(path.read_text())
    assert stale_experiment(report) is None
    kept = report["fingerprints"]["agmm"]
    wrong = {**kept, "gradient_deviation": [1.1 * value for value in kept["gradient_deviation"]]}
    assert stale_experiment({**report, "fingerprints": {"agmm": wrong}})
