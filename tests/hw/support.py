"""What the unit tests share: cycle-by-cycle stimulus, stalls, host writes, records, streams."""

import random
from dataclasses import replace

import pytest
from amaranth.lib import data
from amaranth.sim import Simulator

from hw.record import layer_layout
from sw.engine import Engine
from sw.program import Region
from sw.record import field_bits, field_words, record_stride, record_words
from tests.support import record_fields

#: Share of cycles in which a side is willing.
FLOWS, STALLS = 1.0, 0.5

#: Both kinds of input, as a decorator.
with_and_without_gaps = pytest.mark.parametrize("willing", [FLOWS, STALLS], ids=["flow", "gaps"])

DEPTHS = dict(weight_depth=1024, spike_depth=512, channel_depth=256, mean_depth=512)
SMALL = Engine(pe=4, simd=8, lanes=4, **DEPTHS)
WIDE = Engine(pe=8, simd=16, lanes=2, current_width=18, **DEPTHS)
LONG = Engine(pe=4, simd=8, lanes=16, **DEPTHS)
PAIRS = Engine(pe=8, simd=16, lanes=4, units=2, **DEPTHS)
FOURS = Engine(pe=16, simd=16, lanes=8, units=4, **DEPTHS)

#: Their lanes are of several strips.
STRIPS = replace(SMALL, pixels=2)
PAIRS_OF_STRIPS = replace(PAIRS, pixels=2)
FOUR_STRIPS = replace(FOURS, pixels=4)
SINGLE_STEPS = replace(SMALL, pixels=4)

#: Two cores: that of the stem has another folding and other memories.
_DEEP_PAIRS = replace(PAIRS, deep=True)
TWO = replace(
    _DEEP_PAIRS,
    stem=_DEEP_PAIRS.stem_core(pe=4, units=1, weight_depth=64, channel_depth=32, mean_depth=256),
)

#: For more time steps than lanes.
PASSES = replace(SMALL, passes=4)
WIDE_IN_PASSES = replace(WIDE, passes=8)
PAIRS_IN_PASSES = replace(PAIRS, passes=2)
STRIPS_IN_PASSES = replace(STRIPS, passes=4)
FOUR_STRIPS_IN_PASSES = replace(FOUR_STRIPS, passes=2)
TWO_IN_PASSES = replace(
    TWO, passes=4, stem=replace(_DEEP_PAIRS, passes=4).stem_core(**TWO.stem.sizes)
)


def shape(engine):
    """Short name of an engine in test names."""
    name = f"{engine.pe}x{engine.simd}x{engine.lanes}x{engine.units}"
    strips = f"-{engine.pixels}strips" * (engine.pixels > 1)
    passes = f"-{engine.passes}passes" * (engine.passes > 1)
    return f"{name}{strips}{passes}{'-deep' * engine.deep}{'-two' * (engine.stem is not None)}"


def simulate(design, *testbenches):
    """Run ``testbenches`` to their end, together."""
    sim = Simulator(design)
    sim.add_clock(1e-6)
    for testbench in testbenches:
        sim.add_testbench(testbench)
    sim.run()


def plain(value):
    """A sampled value as an integer, or as a list of them."""
    if isinstance(value, data.Const):
        return [plain(value[index]) for index in range(value.shape().length)]
    return int(value)


def play(dut, stimulus, outputs, prepare=None):
    """Apply one dict of input values in each cycle; return one tuple of ``outputs`` a cycle."""
    ports = [getattr(dut, name) for name in outputs]
    rows = []

    async def testbench(ctx):
        if prepare is not None:
            await prepare(ctx)
        for values in stimulus:
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            _, _, *row = await ctx.tick().sample(*ports)
            rows.append(tuple(map(plain, row)))

    simulate(dut, testbench)
    return rows


def with_gaps(items, willing, after=0, seed=0, **silent):
    """``items``, with cycles between and after them that repeat an item's values as noise.

    ``silent`` overrides the noise; by default it is ``valid=0``.
    """
    rng = random.Random(seed)
    silent = silent or dict(valid=0)
    stimulus = []
    for item in items:
        while rng.random() >= willing:
            stimulus.append({**rng.choice(items), **silent})
        stimulus.append(item)
    return stimulus + [{**rng.choice(items), **silent} for _ in range(after)]


def tiles_with_gaps(tiles, apart, willing, after, seed=0):
    """Stimulus for tiles given as lists of operand dicts, and the cycle of each tile's last word.

    Last words are at least ``apart`` cycles apart, no more than needed where nothing stalls. The
    first word of a tile is its first, unless an operand says otherwise.
    """
    rng = random.Random(seed)
    noise = [word for tile in tiles for word in tile]
    stimulus, lasts = [], []

    def wait():
        stimulus.append({
            **rng.choice(noise), "valid": 0, "first": rng.getrandbits(1), "last": rng.getrandbits(1)
        })

    for tile in tiles:
        for index, word in enumerate(tile):
            last = index == len(tile) - 1
            while rng.random() >= willing:
                wait()
            while last and lasts and len(stimulus) < lasts[-1] + apart:
                wait()
            if last:
                lasts.append(len(stimulus))
            stimulus.append({"first": index == 0, **word, "valid": 1, "last": last})
    for _ in range(after):
        wait()
    return stimulus, lasts


def a_cycle_late(stimulus, name):
    """``stimulus`` with the operands ``name`` a cycle later than the others."""
    values = [stimulus[-1][name], *(row[name] for row in stimulus[:-1])]
    return [{**row, name: value} for row, value in zip(stimulus, values, strict=True)]


def arrivals(rows):
    """(cycle, value) wherever the first entry of a row says that the second is valid."""
    return [(cycle, *row[1:]) for cycle, row in enumerate(rows) if row[0]]


def one_by_one(groups):
    """(cycle, value) of every channel, of arrivals that are lists of channels."""
    return [(cycle, value) for cycle, group in groups for value in group]


def in_groups(values, units):
    """``values``, ``units`` at a time, in lists."""
    return [values[start : start + units] for start in range(0, len(values), units)]


def interleaved(lists, size):
    """``size`` entries of each of the lists in turn, all as long as the first."""
    return [
        value for start in range(0, len(lists[0]), size)
        for values in lists for value in values[start : start + size]
    ]


def difference(expected, got):
    """None for equal lists, else one line that says where they part."""
    for place, (ours, theirs) in enumerate(zip(expected, got, strict=False)):
        if ours != theirs:
            return f"entry {place}: expected {ours}, got {theirs}"
    if len(expected) != len(got):
        return f"expected {len(expected)} entries, got {len(got)}"
    return None


async def host_write(ctx, host, region, words, address=0):
    """Write 16-bit words from ``address`` on, one a cycle."""
    ctx.set(host.region, region)
    ctx.set(host.enable, 1)
    for offset, word in enumerate(words):
        ctx.set(host.address, address + offset)
        ctx.set(host.data, int(word))
        await ctx.tick()
    ctx.set(host.enable, 0)


def records(program):
    """The layer records of a Program, read back from its words: (fields, gains) of each layer."""
    cores, layers = [(program.engine, Region.PROGRAM)], []
    if program.engine.stem:
        cores.insert(0, (program.engine.stem, Region.STEM_PROGRAM))
    for core, region in cores:
        widths = field_bits(core)
        for row in program.regions[region].reshape(-1, record_stride(core)).tolist():
            values = {
                name: value & ((1 << widths[name]) - 1)
                for name, value in record_fields(core, row).items()
            }
            passes = core.passes - values.get("first_pass", 0)
            layers.append((values, row[field_words(core) : record_words(core, passes)]))
    return layers


def shared_fields(core, fields):
    """Those ``fields`` of a record that all units of a core know."""
    return {name: fields[name] for name in layer_layout(core).members}


def source(stream, octets, willing, seed=1):
    """A testbench that offers ``octets``, each after a random wait."""
    rng = random.Random(seed)

    async def testbench(ctx):
        for octet in octets:
            while rng.random() >= willing:
                await ctx.tick()
            ctx.set(stream.payload, octet)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    return testbench


def sink(stream, received, cycles, willing, seed=2):
    """A testbench that takes bytes for ``cycles`` cycles; what is offered may not change."""
    rng = random.Random(seed)

    async def testbench(ctx):
        offered = None
        for _ in range(cycles):
            ready = rng.random() < willing
            ctx.set(stream.ready, ready)
            *_, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            if offered is not None:
                assert (valid, payload) == (1, offered)
            offered = payload if valid and not ready else None
            if valid and ready:
                received.append(payload)

    return testbench
