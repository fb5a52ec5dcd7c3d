"""Shapes of engines: what is built, and what is refused."""

import pytest

from sw.engine import ENGINES, Engine, EngineError

SHAPE = dict(
    pe=4, simd=8, lanes=4, weight_depth=16, spike_depth=16, channel_depth=16, mean_depth=16
)


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
    (dict(pe=2), "pe must be at least 4 \\* units, got pe=2 units=1"),
    (dict(units=2), "pe must be at least 4 \\* units, got pe=4 units=2"),
    (dict(units=0), "units must be a power of two, got 0"),
    (dict(pe=8, units=2), "simd \\* lanes must be at least 32 \\* units"),
    (dict(pe=8, simd=16, units=2, channel_depth=15), "channel_depth must be a multiple of units=2"),
    (dict(pe=8, simd=16, units=2, mean_depth=15), "mean_depth must be a multiple of units=2"),
    (dict(leak_shifts=()), "leak_shifts must be some of"),
    (dict(leak_shifts=(1, 4)), "leak_shifts must be some of"),
])
def test_what_cannot_be_built_is_refused_in_one_line(changes, message):
    with pytest.raises(EngineError, match=message) as raised:
        Engine(**{**SHAPE, **changes})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("changes", [
    {}, dict(simd=32, lanes=1), dict(lanes=16), dict(pe=8), dict(simd=64), dict(leak_shifts=[1]),
    dict(pe=8, simd=16, units=2),
])
def test_what_can_be_built_is_accepted(changes):
    engine = Engine(**{**SHAPE, **changes})
    assert Engine(**engine.to_dict()) == engine


def test_macs_per_cycle():
    assert Engine(**SHAPE).macs_per_cycle == 4 * 8 * 4


@pytest.mark.parametrize("name", ENGINES)
def test_boards_carry_engines_that_hold_together(name):
    engine = ENGINES[name]
    assert engine.macs_per_cycle == engine.pe * engine.simd * engine.lanes
    # The weights of an UP5K come four 16-bit SPRAMs at a time.
    if name == "icebreaker":
        assert engine.pe * engine.simd == 64 and engine.weight_depth == 16384
