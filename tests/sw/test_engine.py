"""Shapes of engines: what is built, and what is refused."""

import json
from dataclasses import replace

import pytest

from sw.engine import ENGINES, Engine, EngineError, boards_of
from tests.support import BOARD_ENGINES

SHAPE = dict(
    pe=4, simd=8, lanes=4, weight_depth=16, spike_depth=16, channel_depth=16, mean_depth=16
)
PAIRS = Engine(**SHAPE | dict(pe=8, simd=16, units=2))
#: What a core for the stem may have otherwise.
STEM = dict(pe=4, units=1, weight_depth=8, channel_depth=4, mean_depth=6)
DEEP = replace(PAIRS, deep=True)
CORES = replace(DEEP, layer_depth=16, stem=DEEP.stem_core(**STEM))


@pytest.mark.parametrize("changes, message", [
    (dict(pe=6), "pe must be a power of two, got 6"),
    (dict(pe=0), "pe must be a power of two, got 0"),
    (dict(simd=24), "simd must be a power of two, got 24"),
    (dict(lanes=3), "lanes must be a power of two, got 3"),
    (dict(lanes=-4), "lanes must be a power of two, got -4"),
    (dict(pe=16), "simd must be at least pe and 8, got pe=16 simd=8"),
    (dict(simd=4), "simd must be at least pe and 8, got pe=4 simd=4"),
    (dict(lanes=2), "simd \\* lanes must be at least 32, and lanes at most 16"),
    (dict(lanes=32), "simd \\* lanes must be at least 32, and lanes at most 16"),
    (dict(simd=16, lanes=2), "pe \\* lanes must be at least 16: a tile is written in whole banks"),
    (dict(pe=2, lanes=8), "pe must be at least 4 \\* units, got pe=2 units=1"),
    (dict(units=2), "pe must be at least 4 \\* units, got pe=4 units=2"),
    (dict(units=0), "units must be a power of two, got 0"),
    (dict(pixels=3), "pixels must be a power of two, got 3"),
    (dict(pixels=0), "pixels must be a power of two, got 0"),
    (dict(pixels=8), "pixels must be at most lanes, got pixels=8 lanes=4"),
    (dict(passes=3), "passes must be a power of two, got 3"),
    (dict(passes=0), "passes must be a power of two, got 0"),
    (dict(passes=-2), "passes must be a power of two, got -2"),
    # 4 groups of channels a tile, of 4 at once 2: the steps of a pass must not be more.
    (dict(lanes=8, passes=2), "passes need pe / units to be at least lanes / pixels, got 4 and 8"),
    (dict(pe=16, simd=16, lanes=8, units=4, passes=2),
     "passes need pe / units to be at least lanes / pixels, got 4 and 8"),
    (dict(lanes=16, pixels=2, passes=2), "at least lanes / pixels, got 4 and 8"),
    # Together they have 16 steps.
    (dict(passes=8), "passes must be at most 4 for 4 time steps each, got 8"),
    (dict(pixels=2, passes=16), "passes must be at most 8 for 2 time steps each, got 16"),
    (dict(pixels=4, passes=32), "passes must be at most 16 for 1 time steps each, got 32"),
    (dict(pe=16, simd=16, lanes=16, passes=2), "passes must be at most 1 for 16 time steps each"),
    (dict(pe=8, units=2), "simd \\* lanes must be at least 32 \\* units"),
    (dict(pe=8, simd=16, units=2, channel_depth=15), "channel_depth must be a multiple of units=2"),
    (dict(pe=8, simd=16, units=2, mean_depth=15), "mean_depth must be a multiple of units=2"),
    (dict(frame_depth=1), "frame_depth must be 2 to 65536, got 1"),
    (dict(frame_depth=65537), "frame_depth must be 2 to 65536, got 65537"),
    (dict(leak_shifts=()), "leak_shifts must be some of"),
    (dict(leak_shifts=(1, 4)), "leak_shifts must be some of"),
])
def test_what_cannot_be_built_is_refused_in_one_line(changes, message):
    with pytest.raises(EngineError, match=message) as raised:
        Engine(**{**SHAPE, **changes})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("changes", [
    {}, dict(pe=16, simd=32, lanes=1), dict(lanes=16), dict(pe=8), dict(simd=64),
    dict(leak_shifts=[1]),
    dict(pe=8, simd=16, units=2), dict(deep=True), dict(spike_depth=12), dict(frame_depth=2),
    dict(frame_depth=65536), dict(pixels=2), dict(pixels=4), dict(lanes=16, pixels=16),
    dict(passes=2), dict(passes=4), dict(pe=8, simd=16, lanes=2, passes=8),
    dict(pe=16, simd=32, lanes=1, passes=16), dict(pe=8, lanes=8, passes=2),
    dict(pixels=2, passes=8), dict(pixels=4, passes=16), dict(lanes=16, pixels=4, passes=4),
    # Without passes, a tile may be shorter than its steps.
    dict(lanes=8, passes=1), dict(lanes=16, passes=1),
])
def test_what_can_be_built_is_accepted(changes):
    engine = Engine(**{**SHAPE, **changes})
    assert Engine.from_dict(engine.to_dict()) == engine
    assert all(engine.core(index) is engine for index in range(3))


@pytest.mark.parametrize(
    "engine", [CORES, *BOARD_ENGINES.values()], ids=["cores", *BOARD_ENGINES]
)
def test_an_engine_survives_json(engine):
    data = json.loads(json.dumps(engine.to_dict()))
    assert Engine.from_dict(data) == engine
    data["mean_depth"] += 8
    assert Engine.from_dict(data) != engine
    if engine.stem:
        data["mean_depth"] -= 8
        data["stem"]["mean_depth"] += 8
        assert Engine.from_dict(data) != engine


def test_a_stem_core_has_its_sizes_and_shares_the_rest():
    assert CORES.stem.to_dict() == {
        **SHAPE, "simd": 16, **STEM, "frame_depth": 512, "layer_depth": 2, "current_width": 16,
        "leak_shifts": (0, 1, 2, 3), "deep": True, "pixels": 1, "passes": 1, "stem": None,
        "stream_depth": 0,
    }
    assert CORES.stem.sizes == STEM
    assert [CORES.core(index) for index in range(3)] == [CORES.stem, CORES, CORES]


@pytest.mark.parametrize("changes", [
    dict(simd=32), dict(lanes=8), dict(spike_depth=32), dict(frame_depth=16), dict(layer_depth=3),
    dict(current_width=18), dict(leak_shifts=(1,)), dict(deep=False), dict(stem=PAIRS.stem_core()),
], ids=list)
def test_a_stem_core_that_differs_in_more_is_refused(changes):
    with pytest.raises(EngineError, match="differs in more than pe, units and depths"):
        replace(CORES, stem=replace(CORES.stem, **changes))


def test_a_stem_core_must_hold_together_too():
    with pytest.raises(EngineError, match=r"pe must be at least 4 \* units, got pe=4 units=2"):
        PAIRS.stem_core(**STEM | dict(units=2))


@pytest.mark.parametrize("depth", [12, 15, 17, 24])
def test_sides_of_the_spike_memory_need_a_power_of_two(depth):
    engine = replace(PAIRS, spike_depth=depth)
    message = f"with a stem core, spike_depth must be a power of two, got {depth}"
    with pytest.raises(EngineError, match=message):
        replace(engine, stem=engine.stem_core(**STEM))


def test_a_stem_core_works_on_one_pixel():
    with pytest.raises(EngineError, match="a stem core needs pixels=1"):
        replace(CORES, pixels=2)
    strips = replace(PAIRS, pixels=2)
    with pytest.raises(EngineError, match="a stem core needs pixels=1"):
        replace(strips, stem=strips.stem_core(**STEM))
    with pytest.raises(EngineError, match="differs in more than pe, units and depths"):
        replace(CORES, stem=strips.stem_core(**STEM))


@pytest.mark.parametrize("lanes, pixels, steps, exact", [
    (4, 1, 4, True), (4, 2, 2, False), (4, 4, 1, False), (16, 1, 16, True), (16, 4, 4, False),
])
def test_lanes_are_pixels_and_steps(lanes, pixels, steps, exact):
    engine = Engine(**SHAPE | dict(lanes=lanes, pixels=pixels))
    assert (engine.steps, engine.exact_gain) == (steps, exact)
    assert engine.macs_per_cycle == 4 * 8 * lanes
    data = json.loads(json.dumps(engine.to_dict()))
    assert data["pixels"] == pixels and Engine.from_dict(data) == engine
    assert Engine.from_dict(data | dict(pixels=lanes // pixels)).steps == pixels


def test_one_pixel_is_the_default():
    assert Engine(**SHAPE) == Engine(**SHAPE, pixels=1)
    assert CORES.stem.pixels == 1


@pytest.mark.parametrize("shape, T_of_passes", [
    (dict(passes=4), {1: (1, 4), 2: (5, 8), 3: (9, 12), 4: (13, 16)}),
    (dict(lanes=8, pixels=4, passes=8), {1: (1, 2), 2: (3, 4), 7: (13, 14), 8: (15, 16)}),
    (dict(pixels=4, passes=16), {1: (1, 1), 2: (2, 2), 15: (15, 15), 16: (16, 16)}),
    # Whether an engine has so many is another matter.
    (dict(lanes=16), {1: (1, 16)}), (dict(lanes=8), {1: (1, 8), 2: (9, 16)}),
])
def test_passes_are_as_many_as_the_steps_need(shape, T_of_passes):
    engine = Engine(**SHAPE | shape)
    for passes, (fewest, most) in T_of_passes.items():
        assert [engine.passes_of(T) for T in (fewest, most)] == [passes, passes]


def test_passes_survive_json_and_leave_the_rest_alone():
    engine = Engine(**SHAPE, passes=4)
    assert (engine.steps, engine.groups, engine.exact_gain) == (4, 4, True)
    assert engine.macs_per_cycle == 4 * 8 * 4
    data = json.loads(json.dumps(engine.to_dict()))
    assert data["passes"] == 4 and Engine.from_dict(data) == engine
    assert Engine.from_dict(data | dict(passes=2)) == replace(engine, passes=2) != engine


def test_one_pass_is_the_default():
    assert Engine(**SHAPE) == Engine(**SHAPE, passes=1) != Engine(**SHAPE, passes=2)
    assert CORES.stem.passes == 1
    assert all(engine.passes == 1 for engine in ENGINES.values())


def test_both_cores_run_in_the_same_passes():
    engine = replace(PAIRS, passes=2)
    cores = replace(engine, stem=engine.stem_core(**STEM))
    assert cores.stem.passes == 2
    data = json.loads(json.dumps(cores.to_dict()))
    assert Engine.from_dict(data) == cores
    for passes in (1, 4):
        with pytest.raises(EngineError, match="differs in more than pe, units and depths"):
            replace(cores, stem=replace(cores.stem, passes=passes))
        data["stem"]["passes"] = passes
        with pytest.raises(EngineError, match="differs in more than pe, units and depths"):
            Engine.from_dict(data)
    # Each needs tiles as long as its steps: here 8 groups of the main core, and 4 of a stem's.
    engine = Engine(**SHAPE | dict(pe=8, simd=16, lanes=8, passes=2))
    replace(engine, stem=engine.stem_core(pe=16, units=2))
    message = "passes need pe / units to be at least lanes / pixels, got 4 and 8"
    for sizes in (dict(pe=4), dict(units=2)):
        with pytest.raises(EngineError, match=message):
            engine.stem_core(**sizes)


def test_macs_per_cycle():
    assert Engine(**SHAPE).macs_per_cycle == 4 * 8 * 4


@pytest.mark.parametrize("name", BOARD_ENGINES)
def test_boards_carry_engines_that_hold_together(name):
    engine = BOARD_ENGINES[name]
    assert engine.macs_per_cycle == engine.pe * engine.simd * engine.lanes
    # The weights of an UP5K come four 16-bit SPRAMs at a time.
    if name == "icebreaker":
        assert engine.pe * engine.simd == 64 and engine.weight_depth == 16384


def test_boards_of_an_engine():
    shared = boards_of(ENGINES["icesugar"])
    assert shared == ["icebreaker", "upduino-v3", "icesugar"]
    assert sum(len(boards_of(engine)) for engine in BOARD_ENGINES.values()) == len(ENGINES)
    assert boards_of(replace(ENGINES["icebreaker"], deep=True)) == []
