"""What a network takes on a board is what the program and the build's report say."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from hw.bench import NETWORKS
from hw.boards import BOARDS
from hw.sizing import sizing
from sw import image
from sw.engine import EngineError
from sw.program import Region, compile_program, region_words

CASES = [(board, network) for board, networks in NETWORKS.items() for network in networks]


@pytest.mark.parametrize("name, network", CASES)
def test_speed_and_memories(name, network):
    board, model = BOARDS[name], image.load(f"models/{network}.bsnn")
    found, program = sizing(board, model), compile_program(model, board.engine)
    built = json.loads(Path(f"results/builds/{name}-{network}.json").read_text())
    for key in ("device", "clock_mhz", "engine", "cycles_per_frame", "frames_per_s", "layers",
                "frames_per_s_over_line", "baud"):
        assert json.loads(json.dumps(found[key])) == built[key], key
    memories = {memory["name"]: memory for memory in found["memories"]}
    assert {Region[n]: m["available"] for n, m in memories.items()} == region_words(board.engine)
    for region, words in program.regions.items():
        if region != Region.SPIKES:
            assert memories[region.name]["used"] == len(words)
    assert all(0 <= memory["used"] <= memory["available"] for memory in memories.values())
    # A map ends where the memory does, or before; the next one does not touch it.
    places = [(place["first"], place["first"] + place["words"]) for place in found["spike_map"]]
    for one, other in pairwise(places):
        assert one[1] <= other[0] or other[1] <= one[0]
    assert all(0 < first < end <= memories["SPIKES"]["available"] for first, end in places)


def test_limits_by_hand():
    """784 bytes at 3 Mbaud take longer than the layers of the small one, not of the large one."""
    board = BOARDS["icebreaker"]
    fast = sizing(board, image.load("models/fashion-mnist-fast.bsnn"))["limits"]
    slow = sizing(board, image.load("models/fashion-mnist.bsnn"))["limits"]
    assert fast[2].startswith("line-bound: 3.03 ms") and slow[2].startswith("compute-bound")
    assert slow[0].startswith("conv3 takes 39%") and slow[1].startswith("MEANS is")


def test_a_slower_clock():
    board, model = BOARDS["icebreaker"], image.load("models/digits.bsnn")
    whole, half = sizing(board, model), sizing(board, model, 12_000_000)
    assert half["frames_per_s"] == pytest.approx(whole["frames_per_s"] / 2, rel=1e-3)
    assert half["clock_mhz"] == 12.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(EngineError, match="cnv does not fit"):
        sizing(BOARDS["icebreaker"], image.load("models/cnv.bsnn"))
