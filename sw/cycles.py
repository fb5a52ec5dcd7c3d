"""The cycle model: how long the accelerator takes, exactly, known without running it."""

from sw.formats import FACTOR_BITS, PLANES
from sw.layers import Conv, Readout, Stem
from sw.record import record_words
from sw.strips import strips

__all__ = ["GAIN_STEP_CYCLES", "HALO_CYCLES", "cycles_per_frame", "layer_cycles"]

#: What an exact gain adds, for each time step: its load, and a multiplication bit by bit.
GAIN_STEP_CYCLES = FACTOR_BITS + 1

#: Pipeline from the last operand of a layer to the cycle that sees its last word written: memory,
#: sums (array or MAC), bias; then the LIF and the Writer add 3 and a cycle a step, a logit two.
_DRAIN = {Stem: 1 + 4 + 1, Conv: 1 + 3 + 1, Readout: 1 + 3 + 1}
_SETUP = 3  # last word of the record, reset of the walk, its first flags


#: What halos add to the Writer: a copy to make them from, and one cycle above and below.
HALO_CYCLES = 3


def _tiles(network, index, core):
    """Words of a tile, number of tiles, and groups of channels that the last one hands out."""
    layer, shape, maps = network.layers[index], network.shapes[index], strips(network, core)
    depth = -(-shape.channels // core.simd)
    if isinstance(layer, Readout):
        groups = PLANES * -(-layer.channels // core.units)
        tiles = -(-groups // core.groups)
        words = core.pixels * maps[-1].rows * shape.width * depth
        return words, tiles, groups - (tiles - 1) * core.groups
    words = layer.kernel**2 * (shape.channels if isinstance(layer, Stem) else depth)
    windows = maps[index].rows * layer.output_shape(shape).width * layer.pool**2
    if isinstance(layer, Stem):
        # One strip after the other.
        windows *= core.pixels
    return words, windows * -(-layer.channels // core.pe), core.groups


def layer_cycles(network, index, engine, exact_gain=True):
    """Clock cycles of one layer, from the fetch of its record to its last word in memory."""
    layer, core = network.layers[index], engine.core(index)
    words, tiles, last_groups = _tiles(network, index, core)
    # The last tile does not wait for its channels: that wait is part of the drain.
    walk = (tiles - 1) * max(words, core.groups) + words
    drain = _DRAIN[type(layer)] + last_groups
    drain += 3 * core.deep * (not isinstance(layer, Stem))
    if isinstance(layer, Readout):
        drain += 2
    else:
        drain += 3 + core.steps + HALO_CYCLES * (core.pixels > 1)
    exact = exact_gain and core.exact_gain
    exact = exact and isinstance(layer, Conv) and network.neuron == "agmm"
    gain = GAIN_STEP_CYCLES * core.lanes if exact else 0
    return record_words(core) + _SETUP + gain + walk + drain


def cycles_per_frame(network, engine, exact_gain=True, ahead=False):
    """Clock cycles from a frame to the next, all layers and all time steps.

    ahead: the stem core works on the next frame while the other layers run (``Program.ahead``).
    """
    stem, *others = (
        layer_cycles(network, i, engine, exact_gain) for i in range(len(network.layers))
    )
    return max(stem, sum(others)) if ahead else stem + sum(others)
