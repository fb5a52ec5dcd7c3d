"""The cycle model against figures counted by hand; the hardware tests hold it to the sequencer."""

from dataclasses import replace

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

#: Tiles, cycles of a tile's operands, and of a whole tile: at least pe.
BY_HAND = [(2 * 16, 27, 27), (2 * 4, 1, 4), (5 * 4, 1, 4), (1 * 4, 27, 27), (3, 32, 32)]
#: Last operand to last word: memory 1, sums 3 or 4, pe channels, bias 1, LIF 2 + lanes.
DRAINS = [16, 15, 15, 15, 10]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("index", range(5))
def test_layers_by_hand(index, exact):
    tiles, words, tile = BY_HAND[index]
    gain = 19 * 4 if exact and index in (1, 2, 3) else 0
    expected = record_words(ENGINE) + 4 + gain + (tiles - 1) * tile + words + DRAINS[index]
    assert layer_cycles(NETWORK, index, ENGINE, exact) == expected


def test_several_units_shorten_short_tiles_and_the_drain():
    one = replace(ENGINE, pe=8, simd=16)
    two = replace(one, units=2)
    # conv2: 4 pixels of 3 tiles of one word, each 8 cycles or 4; its last tile drains 4 sooner.
    saved = [layer_cycles(NETWORK, index, one) - layer_cycles(NETWORK, index, two)
             for index in range(5)]
    assert saved == [4, (1 * 4 - 1) * 4 + 4, (3 * 4 - 1) * 4 + 4, 4, 4]


@pytest.mark.parametrize("neuron", ["agmm", "vanilla"])
def test_a_frame_is_the_sum_of_its_layers(neuron):
    network = NETWORK.replace(neuron=neuron)
    exact = neuron == "agmm"
    layers = [layer_cycles(network, index, ENGINE, exact) for index in range(5)]
    assert cycles_per_frame(network, ENGINE) == sum(layers)
    assert cycles_per_frame(network, ENGINE, exact_gain=False) == sum(layers) - exact * 3 * 19 * 4


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
