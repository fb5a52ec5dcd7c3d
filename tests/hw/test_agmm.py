"""The exact gain: means summed while spikes are written, against the convolution itself."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.agmm import Gain, Mean
from hw.bus import HostWrite
from hw.record import layer_layout
from hw.writer import Writer
from sw.engine import Engine
from sw.formats import INDEX_LIMIT, MEAN_BITS, sigmoid_table
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.positions import Axis
from sw.program import Region, compile_program
from tests.hw.support import (
    FLOWS,
    FOUR_STRIPS,
    FOUR_STRIPS_IN_PASSES,
    FOURS,
    PAIRS,
    PAIRS_IN_PASSES,
    PASSES,
    SMALL,
    STALLS,
    STRIPS,
    STRIPS_IN_PASSES,
    TWO,
    TWO_IN_PASSES,
    WIDE,
    WIDE_IN_PASSES,
    difference,
    host_write,
    in_groups,
    interleaved,
    plain,
    play,
    records,
    shape,
    shared_fields,
    simulate,
    with_and_without_gaps,
    with_gaps,
)
from tests.support import random_image

#: Of one unit, and of more: from a channel that the Writer passes, a cycle after it has come.
MEAN_LATENCY = 2, 4

KERNELS = [(kernel, stride) for kernel in (1, 3, 5) for stride in (1, 2)]


class WrittenMean(wiring.Component):
    """A Mean behind the Writer whose spikes it follows, as in the accelerator."""

    def __init__(self, engine, region=Region.MEANS):
        self.engine = engine
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "spikes": In(data.ArrayLayout(engine.lanes, engine.units)),
            "host": In(HostWrite),
            "totals": Out(data.ArrayLayout(signed(MEAN_BITS), engine.lanes * engine.passes)),
        })
        self.mean, self.writer = Mean(engine, region), Writer(engine)

    def elaborate(self, platform):
        m = Module()
        m.submodules.mean, m.submodules.writer = mean, writer = self.mean, self.writer
        wiring.connect(m, wiring.flipped(self.host), mean.host)
        for unit in (mean, writer):
            m.d.comb += [unit.layer.eq(self.layer), unit.clear.eq(self.clear)]
        m.d.comb += [
            writer.valid.eq(self.valid), writer.spikes.eq(self.spikes),
            mean.passed.eq(writer.passed & self.layer.mean_next),
            mean.passed_spikes.eq(writer.passed_spikes),
            mean.last_group.eq(writer.last_group),
            mean.column.eq(writer.column), mean.row.eq(writer.row),
            self.totals.eq(mean.totals),
        ]
        return m


def network(kernel, stride, height, width, channels=6, T=2, padding=None):
    """A stem that keeps the map's size, then the convolution whose mean is wanted."""
    conv = Conv(5, kernel=kernel, stride=stride, padding=padding)
    layers = [Stem(channels, kernel=1), conv, Readout(2)]
    return Network("mean", Shape(1, height, width), layers, T=T)


def direct(image, spikes):
    """Sum over all outputs of scale times convolution, for every step."""
    layer, entry = image.network.layers[1], image.layers[1]
    border = layer.padding
    padded = np.pad(spikes.astype(np.int64), ((0, 0), (0, 0), *[(border, border)] * 2))
    weights = np.where(entry.weights, 1, -1) * entry.agmm.weights[:, None, None, None]
    out = layer.conv_shape(image.network.shapes[1])
    totals = []
    for step in padded:
        total = 0
        for y in range(out.height):
            for x in range(out.width):
                top, left = y * layer.stride, x * layer.stride
                window = step[:, top : top + layer.kernel, left : left + layer.kernel]
                total += int((weights * window).sum())
        totals.append(total)
    return totals


def stimulus_of(engine, layer, spikes, willing):
    """A clear, then the channels in the Writer's order; those beyond the real ones all spike."""
    steps, channels, height, width = spikes.shape
    lanes, words = engine.lanes, []
    for y in range(height):
        for x in range(width):
            passes = [[] for _ in range(engine.passes_of(steps))]
            for c in range(-(-channels // engine.pe) * engine.pe):
                word = 2**steps - 1
                if c < channels:
                    word = sum(int(spikes[t, c, y, x]) << t for t in range(steps))
                for number, stream in enumerate(passes):
                    stream.append(word >> number * lanes & (1 << lanes) - 1)
            words += interleaved(passes, engine.pe)
    items = [dict(valid=1, spikes=group, clear=0) for group in in_groups(words, engine.units)]
    clear = [dict(valid=0, clear=1, layer=layer)] * 2
    return clear + with_gaps(items, willing, after=MEAN_LATENCY[engine.units > 1] + 1)


def run(engine, image, maps, willing, table=None):
    """Totals after each of several maps, ``latency`` cycles after its last channel passed."""
    program, core = compile_program(image, engine), engine.core(0)
    region = Region.STEM_MEANS if engine.stem else Region.MEANS
    (fields, _), *_ = records(program)
    layer = shared_fields(core, fields)
    stimulus, ends = [], []
    for spikes in maps:
        stimulus += stimulus_of(core, layer, spikes, willing)
        ends.append(len(stimulus) - 1)
    dut = WrittenMean(core, region)
    assert dut.mean.latency == MEAN_LATENCY[core.units > 1]

    async def prepare(ctx):
        words = program.regions[region] if table is None else table
        await host_write(ctx, dut.host, region, words)
        if engine.stem:
            # The other core has a table too.
            await host_write(ctx, dut.host, Region.MEANS, [0x5555] * len(words))

    rows = play(dut, stimulus, ["totals"], prepare)
    used = core.lanes * core.passes_of(image.network.T)
    return dut, [rows[end][0][-used:][: image.network.T] for end in ends]


def random_maps(image, seed=0):
    """Spikes of the stem, some and all of them."""
    rng, shape = np.random.default_rng(seed), image.network.shapes[1]
    size = (image.network.T, shape.channels, shape.height, shape.width)
    return [rng.random(size) < 0.4, np.ones(size, bool)]


@pytest.mark.parametrize(
    "height, width, willing", [(1, 1, FLOWS), (6, 5, STALLS), (4, 8, FLOWS), (9, 2, FLOWS)]
)
@pytest.mark.parametrize("kernel, stride", KERNELS)
def test_totals_are_the_sum_of_the_convolution(kernel, stride, height, width, willing):
    image = random_image(network(kernel, stride, height, width))
    maps = random_maps(image)
    dut, got = run(SMALL, image, maps, willing)
    assert difference([direct(image, spikes) for spikes in maps], got) is None
    layer, entry = image.network.layers[1], image.layers[1].agmm
    axes = [Axis.of(size, kernel, stride, layer.padding) for size in (height, width)]
    assert got == [dut.mean.model(spikes, entry.table, *axes) for spikes in maps]


def test_the_most_position_classes_there_are():
    """5 x 5 without padding: four classes at either end of an axis, one between, 81 in all."""
    image = random_image(network(5, 1, 10, 11, channels=4, padding=0))
    assert image.layers[1].agmm.table.shape == (4, 9, 9)
    maps = random_maps(image)
    _, got = run(SMALL, image, maps, FLOWS)
    assert difference([direct(image, spikes) for spikes in maps], got) is None


@pytest.mark.parametrize("channels", [1, 4, 11])
@pytest.mark.parametrize(
    "engine", [SMALL, WIDE, PAIRS, FOURS, TWO, PASSES, TWO_IN_PASSES], ids=shape
)
def test_channels_fill_tiles_or_not(engine, channels):
    image = random_image(network(3, 2, 6, 7, channels))
    maps = random_maps(image)
    _, got = run(engine, image, maps, FLOWS)
    assert difference([direct(image, spikes) for spikes in maps], got) is None


@with_and_without_gaps
@pytest.mark.parametrize("engine, T", [
    (PASSES, 5), (PASSES, 16), (PAIRS_IN_PASSES, 7), (WIDE_IN_PASSES, 9), (TWO_IN_PASSES, 8),
], ids=lambda value: shape(value) if isinstance(value, Engine) else str(value))
def test_every_pass_has_totals_of_its_own(engine, T, willing):
    image = random_image(network(3, 1, 3, 4, 11, T))
    maps = random_maps(image)
    dut, got = run(engine, image, maps, willing)
    assert difference([direct(image, spikes) for spikes in maps], got) is None
    table, axes = image.layers[1].agmm.table, [Axis.of(size, 3, 1, 1) for size in (3, 4)]
    assert got == [dut.mean.model(spikes, table, *axes) for spikes in maps]
    # Steps of different passes must not look alike here.
    assert len(set(got[0])) == T


def test_totals_of_fewer_passes_are_the_last():
    """Before them nothing is summed up, whatever the layers before left there."""
    image, long = (random_image(network(3, 1, 3, 4, T=T)) for T in (3, 13))
    program = compile_program(long, PASSES)
    layers = [shared_fields(PASSES, records(compile_program(i, PASSES))[0][0])
              for i in (long, image)]
    stimulus = stimulus_of(PASSES, layers[0], random_maps(long)[0], FLOWS)
    stimulus += stimulus_of(PASSES, layers[1], random_maps(image)[0], FLOWS)
    dut = WrittenMean(PASSES)

    async def prepare(ctx):
        await host_write(ctx, dut.host, Region.MEANS, program.regions[Region.MEANS])

    rows = play(dut, stimulus, ["totals"], prepare)
    assert rows[-1][0][:12] == [0] * 12 and all(rows[-1][0][12:15])


@pytest.mark.parametrize("entry", [-(1 << 15), (1 << 15) - 1])
@pytest.mark.parametrize("engine", [SMALL, PAIRS, FOURS], ids=shape)
def test_the_largest_entries_add_up(engine, entry):
    """All channels of a group spike, and their entries are as large as they can be."""
    image = random_image(network(3, 1, 2, 3, channels=engine.pe))
    words = compile_program(image, engine).regions[Region.MEANS]
    maps = random_maps(image)
    _, got = run(engine, image, maps, FLOWS, [entry & 0xFFFF] * len(words))
    assert got == [[int(step.sum()) * entry for step in spikes] for spikes in maps]
    assert set(got[1]) == {6 * engine.pe * entry}


def test_without_a_successor_that_asks_there_is_no_sum():
    image = random_image(network(3, 1, 4, 4).replace(neuron="vanilla"))
    _, got = run(SMALL, image, random_maps(image), FLOWS)
    assert got == [[0, 0]] * 2


@pytest.mark.parametrize("place", [0, 3, 17, 40, 53])
def test_a_wrong_table_entry_is_noticed(place):
    image = random_image(network(3, 1, 5, 6))
    table = compile_program(image, SMALL).regions[Region.MEANS].copy()
    table[place] ^= 1
    maps = random_maps(image)[1:]
    _, got = run(SMALL, image, maps, FLOWS, table)
    assert difference([direct(image, spikes) for spikes in maps], got)


def test_a_moved_spike_is_noticed():
    image = random_image(network(3, 2, 5, 6))
    maps = random_maps(image)[:1]
    _, got = run(SMALL, image, maps, FLOWS)
    moved = [np.roll(spikes, 1, axis=3) for spikes in maps]
    assert difference([direct(image, spikes) for spikes in moved], got)


def gains_of(engine, cases, table=None, exact=1):
    """(gains, cycles busy) for each (totals, offset, shift, factors) of so many passes.

    Factors come as soon as they may, and one cycle later. Totals of other passes are noise.
    """
    dut, results, places = Gain(engine), [], engine.lanes * engine.passes

    async def testbench(ctx):
        await host_write(ctx, dut.host, Region.SIGMOID, table or sigmoid_table())
        for totals, offset, shift, factors in cases:
            layer = dict(mean_shift=shift, mean_offset=offset & 0xFFFFFFFF, exact_gain=exact)
            if engine.passes > 1:
                layer["first_pass"] = engine.passes - len(factors) // engine.lanes
            ctx.set(dut.layer, layer)
            ctx.set(dut.totals, [*[-12345] * places, *totals][-places:])
            busy = late = 0
            for factor in factors:
                ctx.set(dut.load, 1)
                ctx.set(dut.data, factor & 0xFFFF)
                while ctx.get(dut.busy):
                    busy += 1
                    await ctx.tick()
                    ctx.set(dut.load, 0)
                    ctx.set(dut.data, 0xBEEF)
                # The next is fetched in the cycle in which busy has fallen; without, it is at hand.
                for _ in range(exact + late):
                    await ctx.tick()
                if not exact:
                    await ctx.tick()
                late = exact - late
            ctx.set(dut.load, 0)
            await ctx.tick()
            results.append((plain(ctx.get(dut.gains)), busy))

    simulate(dut, testbench)
    return dut, results


def gain_cases(lanes):
    """Means that fit 16 bits after their shift, to both ends, times factors to both ends."""
    rng = random.Random(13)
    extremes, factors = [-(1 << 15), (1 << 15) - 1, 0, -1], [-(1 << 15), (1 << 15) - 1, 1, 0]
    cases = [([extremes[t % 4] for t in range(lanes)], 0, 0, [f] * lanes) for f in factors]
    for shift in (0, 4, 8, 12, 16):
        ends = [-(1 << 15 + shift), (1 << 15 + shift) - 1]
        cases.append(([ends[t % 2] for t in range(lanes)], 0, shift, [1000] * lanes))
        for scale in (300, 2000, 1 << 15):
            offset = rng.randrange(-scale << shift, scale << shift)
            means = [rng.randrange(-scale << shift, scale << shift) for _ in range(lanes)]
            factors = [rng.randrange(-scale, scale) for _ in range(lanes)]
            totals = [max(-(1 << 31), min(mean - offset, (1 << 31) - 1)) for mean in means]
            cases.append((totals, offset, shift, factors))
    return cases


@pytest.mark.parametrize("engine, passes", [
    (SMALL, [1]), (WIDE, [1]), (PASSES, [1]), (PASSES, [4, 1, 3]), (WIDE_IN_PASSES, [2, 8]),
], ids=lambda value: shape(value) if isinstance(value, Engine) else str(value))
def test_gains_equal_the_model_after_its_cycles(engine, passes):
    """Those of fewer passes are the last: before them are those of the layers before."""
    cases, places = [], engine.lanes * engine.passes
    for used in passes:
        cases += gain_cases(used * engine.lanes)
    dut, results = gains_of(engine, cases)
    expected, gains = [], [0] * places
    for case in cases:
        gains = [*gains, *dut.model(*case)][-places:]
        used = len(case[0]) // engine.lanes
        assert dut.cycles(True, used) == 17 * engine.lanes * used
        expected.append((gains, dut.cycles(True, used)))
    assert dut.cycles(exact=True) == 17 * engine.lanes
    assert difference(expected, results) is None
    assert {0, 255} < {gain for gains, _ in expected for gain in gains}


@pytest.mark.parametrize("ends", [(-258, -257, -256, -255), (254, 255, 256, 257)])
def test_an_index_just_beyond_the_table_is_the_last_of_it(ends):
    """Which lie next to each other where it wraps around."""
    table = [index % 251 for index in range(2 * INDEX_LIMIT)]
    _, [(gains, _)] = gains_of(SMALL, [([2 * end for end in ends], 0, 0, [1 << 14] * 4)], table)
    assert gains == [table[max(0, min(end + INDEX_LIMIT, 2 * INDEX_LIMIT - 1))] for end in ends]
    assert gains == Gain(SMALL).model([2 * end for end in ends], 0, 0, [1 << 14] * 4, table)
    assert len(set(gains)) == 2


def test_gains_are_the_sigmoid_of_the_scaled_mean():
    """Equation 11 in floating point: half a step of 1/256 and one step of the index away."""
    factors, offset = [30000, -30000, 900, 5000], 40
    totals = [60, 60, 2960, -740]
    _, [(gains, _)] = gains_of(SMALL, [(totals, offset, 0, factors)])
    for gain, total, factor in zip(gains, totals, factors, strict=True):
        exact = 256 / (1 + np.exp(-(total + offset) * factor / 2**15 / 32))
        assert abs(gain - exact) <= 0.5 + 256 / 4 / 32


def test_constant_gains_stay_as_they_were_loaded():
    gains = [0, 255, 256, 17]
    _, [(got, busy)] = gains_of(SMALL, [([1, 2, 3, 4], 0, 0, gains)], exact=0)
    assert (got, busy) == (gains, Gain(SMALL).cycles(exact=False))


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_constant_gains_of_fewer_passes_are_in_the_last_places(passes):
    """What was there before moves on."""
    rng = random.Random(15)
    before, gains = ([rng.randrange(257) for _ in range(count)] for count in (16, 4 * passes))
    totals = [1, 2, 3, 4]
    _, results = gains_of(PASSES, [(totals, 0, 0, before), (totals, 0, 0, gains)], exact=0)
    assert results == [(before, 0), ([*before, *gains][-16:], 0)]
    assert results[1][0][-4 * passes :] == gains


@with_and_without_gaps
@pytest.mark.parametrize(
    "engine", [STRIPS, FOUR_STRIPS, STRIPS_IN_PASSES, FOUR_STRIPS_IN_PASSES], ids=shape
)
def test_an_engine_without_exact_gains_keeps_those_it_is_loaded_with(engine, willing):
    """Those of a pass after those of the pass before it."""
    dut, lanes, rng = Gain(engine), engine.lanes * engine.passes, random.Random(14)
    assert not engine.exact_gain
    loads = [256, 0, 255, 1, *(rng.randrange(257) for _ in range(3 * lanes - 4))]
    stimulus = with_gaps([dict(load=1, data=gain) for gain in loads], willing, after=5, load=0)
    rows = play(dut, stimulus, ["gains", "busy"])
    expected, gains = [], [0] * lanes
    for values in stimulus:
        expected.append((gains, 0))
        # Step 0 comes first: it has moved down when all steps have come.
        gains = [*gains[1:], values["data"]] if values["load"] else gains
    assert difference(expected, rows) is None
    assert rows[-1] == (loads[-lanes:], 0)
    # A gain more shows.
    assert difference([expected[0], *expected], rows).startswith("entry")


@pytest.mark.parametrize("change", ["table", "factor", "total", "offset"])
def test_an_error_is_noticed(change):
    totals, offset, factors, table = [40, -90, 11, 60], 7, [30000] * 4, sigmoid_table()
    if change == "table":
        table[INDEX_LIMIT + (67 * 30000 >> 15)] ^= 1
    dut, [(got, _)] = gains_of(SMALL, [(totals, offset, 0, factors)], table)
    if change == "factor":
        factors = [30000, 30000, 30000, 26000]
    elif change == "total":
        totals = [41, -90, 11, 64]
    elif change == "offset":
        offset = 10
    assert difference(dut.model(totals, offset, 0, factors), got).startswith("entry")
