"""The cycle model against figures counted by hand; the hardware tests hold it to the sequencer."""

from dataclasses import replace
from itertools import pairwise

import pytest

from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import ENGINES, Engine
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.networks import digits, fashion_mnist
from sw.record import record_words

ENGINE = Engine(pe=4, simd=8, lanes=4, weight_depth=64, spike_depth=64, channel_depth=64,
                mean_depth=64)
NETWORK = Network("hand", Shape(3, 4, 4), [
    Stem(6, pool=2), Conv(5, kernel=1), Conv(20, kernel=1), Conv(4), Readout(10)], T=2)

#: Tiles, cycles of a tile's operands, and of a whole tile: at least pe. The readout has 8 channels
#: a class, and its only window is the map of 2 x 2.
BY_HAND = [(2 * 16, 27, 27), (2 * 4, 1, 4), (5 * 4, 1, 4), (1 * 4, 9 * 3, 27), (20, 4, 4)]
#: Last operand to last word: memory 1, sums 3 or 4, pe channels, bias 1; LIF and writer 3 + lanes,
#: or logit 2.
DRAINS = [17, 16, 16, 16, 11]

#: The stem on a core of its own, the other layers on one with two units.
PAIRS = replace(ENGINE, pe=8, simd=16, units=2)
CORES = replace(PAIRS, stem=PAIRS.stem_core(
    pe=4, units=1, weight_depth=64, channel_depth=64, mean_depth=64
))
#: Walk and drain; the drain as above, but of a tile's 4 groups.
CORES_BY_HAND = [
    31 * 27 + 27 + 17,
    (1 * 4 - 1) * 4 + 1 + 16, (3 * 4 - 1) * 4 + 1 + 16, (1 * 4 - 1) * 18 + 18 + 16,
    (5 * 8 // 4 - 1) * 4 + 4 + 11,
]

#: Maps of 3 x 2 behind the stem, in strips of two rows each or of one.
TALL = NETWORK.replace(input=Shape(3, 6, 4), T=1)
#: Tiles, cycles of a tile's operands, and of a whole tile. A stem does one strip after the other, a
#: readout has the words of all strips; all else is of one strip alone.
STRIPS_BY_HAND = {
    2: [(2 * (2 * 2 * 4) * 2, 27, 27), (2 * 4, 1, 4), (5 * 4, 1, 4), (4, 27, 27), (20, 8, 8)],
    4: [(2 * (1 * 2 * 4) * 4, 27, 27), (2 * 2, 1, 4), (5 * 2, 1, 4), (2, 27, 27), (20, 8, 8)],
}
#: The writer takes a cycle for each step, not for each lane, and three for the halos.
STRIPS_DRAINS = {2: [10 + 3 + 2 + 3, *[9 + 3 + 2 + 3] * 3, 11],
                 4: [10 + 3 + 1 + 3, *[9 + 3 + 1 + 3] * 3, 11]}

#: Layers of NETWORK for T = 9 and more, by engine: T, words of a record, and by layer the tiles,
#: cycles of a tile's operands, of a whole tile, and the drain. A stem runs once and hands its
#: channels out in each pass, a convolution does a tile for each, a readout has the words of all.
PASSES_BY_HAND = {
    "three passes": (
        replace(ENGINE, passes=4), NETWORK.replace(T=9), 25 + 3 * 4, [
            (2 * 16, 27, 27, 6 + 3 * 4 + 3 + 4), (2 * 4 * 3, 1, 4, 16), (5 * 4 * 3, 1, 4, 16),
            (1 * 4 * 3, 27, 27, 16), (20, 3 * 4, 12, 11),
        ],
    ),
    # As above, but for a last pass that is full.
    "three full passes": (
        replace(ENGINE, passes=4, deep=True), NETWORK.replace(T=12), 25 + 3 * 4, [
            (2 * 16, 27, 27, 6 + 3 * 4 + 3 + 4), (2 * 4 * 3, 1, 4, 19), (5 * 4 * 3, 1, 4, 19),
            (1 * 4 * 3, 27, 27, 19), (20, 3 * 4, 12, 14),
        ],
    ),
    # 7 passes of a tile's 8 groups are more than its 27 words; the readout's 80 are 10 tiles.
    "seven passes of two steps": (
        replace(ENGINE, pe=8, simd=16, lanes=2, passes=8), NETWORK.replace(T=14), 25 + 7 * 2, [
            (1 * 16, 27, 7 * 8, 6 + 7 * 8 + 3 + 2), (1 * 4 * 7, 1, 8, 5 + 8 + 3 + 2),
            (3 * 4 * 7, 1, 8, 18), (1 * 4 * 7, 18, 18, 18), (10, 7 * 4, 28, 5 + 8 + 2),
        ],
    ),
    # A stem does one strip after the other, a readout has the words of all strips and passes.
    "five passes of two strips": (
        replace(ENGINE, pixels=2, passes=8), TALL.replace(T=9), 22 + 5 * 4, [
            (2 * (2 * 2 * 4) * 2, 27, 27, 6 + 5 * 4 + 3 + 2 + 3),
            (2 * 4 * 5, 1, 4, 5 + 4 + 3 + 2 + 3), (5 * 4 * 5, 1, 4, 17), (4 * 5, 27, 27, 17),
            (20, 5 * 8, 40, 11),
        ],
    ),
    "nine passes of four strips": (
        replace(ENGINE, pixels=4, passes=16), TALL.replace(T=9), 22 + 9 * 4, [
            (2 * (1 * 2 * 4) * 4, 27, 9 * 4, 6 + 9 * 4 + 3 + 1 + 3),
            (2 * 2 * 9, 1, 4, 5 + 4 + 3 + 1 + 3), (5 * 2 * 9, 1, 4, 16), (2 * 9, 27, 27, 16),
            (20, 9 * 8, 72, 11),
        ],
    ),
    # The stem has groups of its own: 8 in each of 4 passes, where the other layers have 4.
    "two cores": (
        replace(PAIRS, passes=4, stem=replace(PAIRS, passes=4).stem_core(pe=8, units=1)),
        NETWORK.replace(T=13), 25 + 4 * 4, [
            (1 * 16, 27, 4 * 8, 6 + 4 * 8 + 3 + 4), (1 * 4 * 4, 1, 4, 16), (3 * 4 * 4, 1, 4, 16),
            (1 * 4 * 4, 18, 18, 16), (10, 4 * 4, 16, 11),
        ],
    ),
}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("index", range(5))
def test_layers_by_hand(index, exact):
    tiles, words, tile = BY_HAND[index]
    gain = 17 * 4 if exact and index in (1, 2, 3) else 0
    expected = record_words(ENGINE) + 3 + gain + (tiles - 1) * tile + words + DRAINS[index]
    assert layer_cycles(NETWORK, index, ENGINE, exact) == expected


@pytest.mark.parametrize("pixels", STRIPS_BY_HAND)
def test_layers_of_strips_by_hand(pixels):
    engine = replace(ENGINE, pixels=pixels)
    expected = [
        record_words(engine) + 3 + (tiles - 1) * tile + words + drain
        for (tiles, words, tile), drain in zip(
            STRIPS_BY_HAND[pixels], STRIPS_DRAINS[pixels], strict=True
        )
    ]
    cycles = [layer_cycles(TALL, index, engine, exact_gain=False) for index in range(5)]
    assert cycles == expected
    assert cycles_per_frame(TALL, engine, exact_gain=False) == sum(expected)


def test_rows_beyond_the_map_take_their_time():
    """7 rows of 4 windows: two strips of 4, four of 2; eight of 1 leave one idle."""
    network = NETWORK.replace(
        input=Shape(8, 7, 4), layers=[Stem(8), Conv(4), Readout(1)], T=1
    )
    whole = replace(ENGINE, lanes=8)
    tiles = {1: 7 * 4, 2: 4 * 4, 4: 2 * 4, 8: 4}
    for pixels, count in tiles.items():
        engine = replace(whole, pixels=pixels)
        steps = 8 // pixels + 3 * (pixels > 1)
        expected = record_words(engine) + 3 + count * 9 + 9 + 3 + steps
        assert layer_cycles(network, 1, engine, exact_gain=False) == expected


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", PASSES_BY_HAND)
def test_layers_in_several_passes_by_hand(name, exact):
    """An exact gain costs 17 cycles for each lane and pass. Strips have none."""
    engine, network, record, layers = PASSES_BY_HAND[name]
    # The record has a word for each lane and pass, behind its fields.
    gain = 17 * (record - (25 if engine.pixels == 1 else 22))
    expected = [
        record + 3 + (tiles - 1) * tile + words + drain
        + gain * (exact and engine.pixels == 1 and index in (1, 2, 3))
        for index, (tiles, words, tile, drain) in enumerate(layers)
    ]
    cycles = [layer_cycles(network, index, engine, exact) for index in range(5)]
    assert cycles == expected
    assert cycles_per_frame(network, engine, exact) == sum(expected)


def test_windows_that_are_pooled_come_in_every_pass():
    """16 windows of 2 tiles of 2 words, in 3 passes: 4 cycles each to hand a tile out."""
    network = NETWORK.replace(
        layers=[Stem(9), Conv(5, kernel=1, pool=2), Readout(1)], T=11, neuron="vanilla"
    )
    expected = 25 + 3 * 4 + 3 + (16 * 2 * 3 - 1) * 4 + 2 + 16
    assert layer_cycles(network, 1, replace(ENGINE, passes=4)) == expected


def test_a_single_pass_costs_no_more_than_its_longer_record():
    """Exact gains are there as well: three words of the record tell the passes."""
    passes = replace(ENGINE, passes=4)
    for exact in (True, False):
        more = [
            layer_cycles(NETWORK, index, passes, exact)
            - layer_cycles(NETWORK, index, ENGINE, exact) for index in range(5)
        ]
        assert more == [3] * 5
    gain = [
        layer_cycles(NETWORK, index, passes, True) - layer_cycles(NETWORK, index, passes, False)
        for index in range(5)
    ]
    assert gain == [0, 17 * 4, 17 * 4, 17 * 4, 0]
    strips = replace(ENGINE, pixels=2)
    for T in (1, 2):
        network = TALL.replace(T=T)
        more = [
            layer_cycles(network, index, replace(strips, passes=8))
            - layer_cycles(network, index, strips) for index in range(5)
        ]
        assert more == [2] * 5


def test_steps_cost_by_the_pass():
    """Those of a pass are computed at once: only the fifth, ninth and thirteenth cost."""
    engine = replace(ENGINE, passes=4)
    cycles = [
        cycles_per_frame(NETWORK.replace(T=T), engine, exact_gain=False) for T in range(1, 17)
    ]
    assert [len(set(cycles[first : first + 4])) for first in (0, 4, 8, 12)] == [1] * 4
    # Of each layer 4 gains. Stem: 4 groups in the drain. Tiles: 8 and 20 of 4, 4 of 27; 20 of 4.
    more = 5 * 4 + 4 + (8 + 20) * 4 + 4 * 27 + 20 * 4
    assert [after - before for before, after in pairwise(cycles[::4])] == [more] * 3


def test_several_units_shorten_short_tiles_and_the_drain():
    one = replace(ENGINE, pe=8, simd=16)
    two = replace(one, units=2)
    # conv2: 4 pixels of 3 tiles of one word, each 8 cycles or 4; its last tile drains 4 sooner.
    # readout: 80 or 5 * 16 channels are 10 tiles of 4 words.
    saved = [layer_cycles(NETWORK, index, one) - layer_cycles(NETWORK, index, two)
             for index in range(5)]
    assert saved == [4, (1 * 4 - 1) * 4 + 4, (3 * 4 - 1) * 4 + 4, 4, (10 - 1) * 4 + 4]


@pytest.mark.parametrize("classes, units, tiles, last", [
    (1, 1, 1, 8), (2, 1, 1, 16), (3, 1, 2, 8), (5, 1, 3, 8),
    (1, 2, 1, 8), (2, 2, 1, 8), (3, 2, 2, 8), (5, 2, 3, 8), (9, 4, 6, 4), (16, 4, 8, 4),
])
def test_the_last_tile_of_a_readout_drains_what_it_has(classes, units, tiles, last):
    """A tile of 16 channels hands out 16 / units groups, a set of ``units`` classes is 8 groups."""
    engine = replace(ENGINE, pe=16, simd=32, units=units)
    network = NETWORK.replace(layers=[Stem(6), Readout(classes)])
    walk = (tiles - 1) * 16 + 16  # 4 x 4 pixels
    expected = record_words(engine) + 3 + walk + 1 + 3 + 1 + last + 2
    assert layer_cycles(network, 1, engine) == expected


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("index", range(5))
def test_layers_of_two_cores_by_hand(index, exact):
    gain = 17 * 4 if exact and index in (1, 2, 3) else 0
    expected = record_words(CORES) + 3 + gain + CORES_BY_HAND[index]
    assert layer_cycles(NETWORK, index, CORES, exact) == expected


@pytest.mark.parametrize(
    "engine", [ENGINE, PAIRS, CORES, replace(ENGINE, pixels=2)],
    ids=["one", "pairs", "cores", "strips"],
)
def test_deep_arrays_take_three_cycles_more(engine):
    """Registers in front of the array and in the popcounts: a stem's MACs have none of them."""
    stem = engine.stem and replace(engine.stem, deep=True)
    deep = replace(engine, deep=True, stem=stem)
    more = [layer_cycles(NETWORK, index, deep) - layer_cycles(NETWORK, index, engine)
            for index in range(5)]
    assert more == [0, 3, 3, 3, 3]


def test_a_stem_core_works_on_the_next_frame_meanwhile():
    stem, *others = (layer_cycles(NETWORK, index, CORES) for index in range(5))
    assert stem > sum(others)
    assert cycles_per_frame(NETWORK, CORES) == stem + sum(others)
    assert cycles_per_frame(NETWORK, CORES, ahead=True) == stem
    # Without exact gains, the others take less: it is the stem that counts.
    assert cycles_per_frame(NETWORK, CORES, exact_gain=False, ahead=True) == stem
    fast = replace(CORES, stem=replace(CORES.stem, pe=16))
    stem = layer_cycles(NETWORK, 0, fast)
    assert stem < sum(others)
    assert cycles_per_frame(NETWORK, fast) == stem + sum(others)
    assert cycles_per_frame(NETWORK, fast, ahead=True) == sum(others)


@pytest.mark.parametrize("neuron", ["agmm", "vanilla"])
def test_a_frame_is_the_sum_of_its_layers(neuron):
    network = NETWORK.replace(neuron=neuron)
    exact = neuron == "agmm"
    layers = [layer_cycles(network, index, ENGINE, exact) for index in range(5)]
    assert cycles_per_frame(network, ENGINE) == sum(layers)
    assert cycles_per_frame(network, ENGINE, exact_gain=False) == sum(layers) - exact * 3 * 17 * 4


@pytest.mark.parametrize("make", [digits, fashion_mnist])
def test_wider_engines_are_faster(make):
    network, narrow = make(), ENGINES["icebreaker"]
    cycles = cycles_per_frame(network, narrow)
    for change in (dict(pe=8), dict(simd=32)):
        assert cycles_per_frame(network, replace(narrow, **change)) < cycles
    # Time steps run side by side: their number is not in the model.
    assert cycles_per_frame(network.replace(T=2), narrow) == cycles


def test_large_layers_keep_the_array_busy():
    """A convolution that fills its words takes its MACs over those of a cycle, and little more."""
    network, engine = fashion_mnist(), ENGINES["icebreaker"]
    ideal = network.layers[2].macs(network.shapes[2]) // (engine.pe * engine.simd)
    cycles = layer_cycles(network, 2, engine)
    assert ideal < cycles < 1.01 * ideal
