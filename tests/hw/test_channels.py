"""Biases and thresholds, in the order in which channels leave the array."""

import random

import pytest

from hw.channels import Channels
from sw.packing import channel_slot_bits
from sw.program import Region
from sw.record import Kind
from tests.hw.support import (
    FLOWS,
    FOUR_STRIPS,
    FOURS,
    PAIRS,
    PAIRS_IN_PASSES,
    PASSES,
    SMALL,
    STRIPS,
    STRIPS_IN_PASSES,
    TWO,
    WIDE,
    arrivals,
    difference,
    host_write,
    one_by_one,
    play,
    shape,
    with_and_without_gaps,
    with_gaps,
)


def random_entries(engine):
    rng = random.Random(9)
    bits = 2 * channel_slot_bits(engine)
    return [rng.getrandbits(bits) for _ in range(engine.channel_depth)]


def repeats_of(engine, layer):
    """How often a tile comes: a stem's for each strip, and all but a readout's for each pass."""
    kind, passes = layer.get("kind"), engine.passes - layer.get("first_pass", 0)
    return (engine.pixels if kind == Kind.STEM else 1) * (1 if kind == Kind.READOUT else passes)


def run(engine, layer, pixels, willing, before=0):
    """(words the model expects, words that came)."""
    dut, entries = Channels(engine), random_entries(engine)
    bits = 2 * channel_slot_bits(engine)
    tiles, pool = layer["tiles_last"] + 1, layer["pool"]
    order = dut.model(tiles, pool, pixels, repeats_of(engine, layer))
    groups = len(order) // engine.units
    valid = dict(valid=1, clear=0)
    stimulus = [dict(valid=1, layer=layer)] * before
    stimulus += [dict(valid=0, clear=1, layer=layer)]
    start = len(stimulus)
    stimulus += with_gaps([valid] * groups, willing, after=dut.latency)

    async def prepare(ctx):
        words = [entry >> shift & 0xFFFF for entry in entries for shift in range(0, bits, 16)]
        await host_write(ctx, dut.host, Region.CHANNELS, words)

    rows = play(dut, stimulus, ["word"], prepare)[dut.latency :]
    valids = [values["valid"] and cycle >= start for cycle, values in enumerate(stimulus)]
    words = one_by_one(arrivals(list(zip(valids, (word for (word,) in rows), strict=False))))
    return [entries[layer["channel_base"] + entry] for entry in order], [w for _, w in words]


@with_and_without_gaps
@pytest.mark.parametrize("pool", [0, 1])
@pytest.mark.parametrize("tiles", [1, 2, 3])
@pytest.mark.parametrize("engine", [SMALL, WIDE, PAIRS, FOURS], ids=shape)
def test_equals_its_model_one_cycle_later(engine, tiles, pool, willing):
    layer = dict(tiles_last=tiles - 1, pool=pool, channel_base=16)
    expected, got = run(engine, layer, 3, willing)
    assert difference(expected, got) is None
    assert len(got) == 3 * tiles * (4 if pool else 1) * engine.pe


@with_and_without_gaps
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("pool", [0, 1])
@pytest.mark.parametrize("tiles", [1, 3])
@pytest.mark.parametrize("engine", [STRIPS, FOUR_STRIPS], ids=shape)
def test_a_tile_of_a_stem_repeats_for_each_strip(engine, tiles, pool, kind, willing):
    layer = dict(kind=kind, tiles_last=tiles - 1, pool=pool, channel_base=16)
    expected, got = run(engine, layer, 3, willing)
    assert difference(expected, got) is None
    repeats = (4 if pool else 1) * (engine.pixels if kind == Kind.STEM else 1)
    assert len(got) == 3 * tiles * repeats * engine.pe


@with_and_without_gaps
@pytest.mark.parametrize("kind", [Kind.STEM, Kind.CONV, Kind.READOUT])
@pytest.mark.parametrize("pool", [0, 1])
@pytest.mark.parametrize(
    "engine, first_pass",
    [(PASSES, 0), (PASSES, 2), (PASSES, 3), (PAIRS_IN_PASSES, 0), (STRIPS_IN_PASSES, 1)],
    ids=lambda value: value if isinstance(value, int) else shape(value),
)
def test_a_tile_repeats_in_every_pass_but_not_in_a_readout(
    engine, first_pass, pool, kind, willing
):
    tiles = 3
    layer = dict(
        kind=kind, tiles_last=tiles - 1, pool=pool, channel_base=16, first_pass=first_pass
    )
    expected, got = run(engine, layer, 2, willing)
    assert difference(expected, got) is None
    repeats = {
        Kind.STEM: engine.pixels * (engine.passes - first_pass),
        Kind.CONV: engine.passes - first_pass, Kind.READOUT: 1,
    }[kind]
    assert len(got) == 2 * tiles * (4 if pool else 1) * repeats * engine.pe


@pytest.mark.parametrize("before", [1, 5, 18, 37])
@pytest.mark.parametrize("engine", [SMALL, STRIPS, PASSES, STRIPS_IN_PASSES], ids=shape)
def test_clear_starts_a_layer_anew(engine, before):
    layer = dict(kind=Kind.STEM, tiles_last=1, pool=1, channel_base=0)
    expected, got = run(engine, layer, 2, FLOWS, before)
    assert difference(expected, got) is None


def test_order_written_out():
    """Two tiles of a pooled layer: each tile four times, then the next pixel."""
    entries, pixel = random_entries(SMALL), [0, 1, 2, 3] * 4 + [4, 5, 6, 7] * 4
    _, got = run(SMALL, dict(tiles_last=1, pool=1, channel_base=0), 2, FLOWS)
    assert got == [entries[entry] for entry in pixel * 2]


def test_order_of_strips_written_out():
    """Two tiles of a pooled stem, two strips: each tile four times a strip."""
    entries, pixel = random_entries(STRIPS), [0, 1, 2, 3] * 8 + [4, 5, 6, 7] * 8
    layer = dict(kind=Kind.STEM, tiles_last=1, pool=1, channel_base=0)
    _, got = run(STRIPS, layer, 2, FLOWS)
    assert got == [entries[entry] for entry in pixel * 2]
    # Of any other layer, a tile has its channels once.
    _, other = run(STRIPS, {**layer, "kind": Kind.CONV}, 4, FLOWS)
    assert difference(got, other).startswith("entry 16")


def test_order_of_passes_written_out():
    """Two tiles of three passes: each tile three times, then the next pixel."""
    entries, pixel = random_entries(PASSES), [0, 1, 2, 3] * 3 + [4, 5, 6, 7] * 3
    layer = dict(kind=Kind.CONV, tiles_last=1, pool=0, channel_base=0, first_pass=1)
    _, got = run(PASSES, layer, 2, FLOWS)
    assert got == [entries[entry] for entry in pixel * 2]
    assert Channels(PASSES).model(2, 0, 2, repeats=3) == pixel * 2
    # A readout's sums are those of all passes.
    _, other = run(PASSES, {**layer, "kind": Kind.READOUT}, 2, FLOWS)
    assert other == [entries[entry] for entry in range(8)] * 2


def test_a_stem_core_has_its_own():
    """What the host writes for one core does not reach the other."""
    dut, entries = Channels(TWO.stem, Region.STEM_CHANNELS), random_entries(TWO.stem)

    async def prepare(ctx):
        words = [entry >> shift & 0xFFFF for entry in entries for shift in (0, 16)]
        await host_write(ctx, dut.host, Region.STEM_CHANNELS, words)
        await host_write(ctx, dut.host, Region.CHANNELS, [0x5555] * len(words))

    layer = dict(tiles_last=1, pool=0, channel_base=0)
    stimulus = [dict(clear=1, layer=layer)] + [dict(valid=1, clear=0)] * 8 + [dict(valid=0)]
    rows = play(dut, stimulus, ["word"], prepare)
    assert [word for ((word,),) in rows[1 + dut.latency :]] == entries[:8]


def test_a_wrong_base_is_noticed():
    layer = dict(tiles_last=1, pool=0, channel_base=3)
    expected, _ = run(SMALL, layer, 2, FLOWS)
    _, got = run(SMALL, {**layer, "channel_base": 4}, 2, FLOWS)
    assert difference(expected, got).startswith("entry 0")
