"""The cycle model: how long the accelerator takes, exactly, known without running it."""

from sw.formats import FACTOR_BITS, PLANES
from sw.layers import Conv, Readout, ResidualConv, Stem, averages, projects
from sw.record import record_words
from sw.strips import strips

__all__ = [
    "GAIN_STEP_CYCLES", "HALO_CYCLES", "STREAM_CYCLES", "cycles_per_frame", "layer_cycles",
]

#: What an exact gain adds, for each time step: its load, and a multiplication bit by bit.
GAIN_STEP_CYCLES = FACTOR_BITS + 1

#: Pipeline from the last operand of a layer to the cycle that sees its last word written: memory,
#: sums (array or MAC), bias; then the LIF and the Writer add 3 and a cycle a step, a logit two.
_DRAIN = {Stem: 1 + 4 + 1, Conv: 1 + 3 + 1, ResidualConv: 1 + 3 + 1, Readout: 1 + 3 + 1}
_SETUP = 3  # last word of the record, reset of the walk, its first flags


#: What a stream adds to the way of a channel: a multiplication by its slope, and the shortcut.
STREAM_CYCLES = 3

#: What halos add to the Writer: a copy to make them from, and one cycle above and below.
HALO_CYCLES = 3


def _tiles(network, index, core):
    """Words of a tile, tiles, and cycles that a tile is handed out in, and the last one."""
    layer, shape, maps = network.layers[index], network.shapes[index], strips(network, core)
    depth, passes = -(-shape.channels // core.simd), core.passes_of(network.T)
    if isinstance(layer, Readout):
        groups = PLANES * -(-layer.channels // core.units)
        tiles = -(-groups // core.groups)
        words = passes * core.pixels * maps[-1].rows * shape.width * depth
        return words, tiles, core.groups, groups - (tiles - 1) * core.groups
    words = layer.kernel**2 * (shape.channels if isinstance(layer, Stem) else depth)
    windows = maps[index].rows * layer.output_shape(shape).width * layer.pool**2
    tiles, groups = windows * -(-layer.channels // core.pe), core.groups
    if isinstance(layer, Stem):
        # One strip after the other; the sums are those of all passes.
        return words, tiles * core.pixels, groups * passes, groups * passes
    if averages(layer):
        # Four words of the stream for each group; the last is out with the first of them.
        return words, tiles * passes, 4 * groups, 4 * groups - 3
    return words, tiles * passes, groups, groups


def _walk(words, tiles, cycles):
    """Of all tiles. The last does not wait for its channels: that wait is part of the drain."""
    return (tiles - 1) * max(words, cycles) + words


def _neuron_cycles(core):
    """From the bias of a layer's last channels to the cycle that sees its last word written."""
    return 3 + core.steps + HALO_CYCLES * (core.pixels > 1) + STREAM_CYCLES * core.has_stream


def layer_cycles(network, index, engine, exact_gain=True):
    """Clock cycles of one layer, from the fetch of its record to its last word in memory.

    Events and Pixels take none: their spikes come from the host.
    """
    layer, core = network.layers[index], engine.core(index)
    if network.coded and index == 0:
        return 0
    words, tiles, groups, last_groups = _tiles(network, index, core)
    passes = core.passes_of(network.T)
    drain = _DRAIN[type(layer)] + last_groups
    projection = _projection_cycles(network, index, core) if projects(layer) else 0
    drain += 3 * core.deep * (not isinstance(layer, Stem))
    if isinstance(layer, Readout):
        drain += 2
    else:
        drain += _neuron_cycles(core)
    exact = exact_gain and core.exact_gain and network.has_agmm(index)
    gain = GAIN_STEP_CYCLES * core.lanes * passes if exact else 0
    walk = _walk(words, tiles, groups)
    return record_words(core, passes) + _SETUP + gain + walk + drain + projection


def _projection_cycles(network, index, core):
    """Of the record that runs before the convolution beside it: a channel of the stream a cycle."""
    inputs, out = network.shapes[index].channels, network.shapes[index + 1]
    passes = core.passes_of(network.T)
    tiles = passes * out.height * out.width * -(-out.channels // core.pe)
    drain = _DRAIN[Stem] + core.groups + _neuron_cycles(core)
    return record_words(core, passes) + _SETUP + _walk(inputs, tiles, core.groups) + drain


def cycles_per_frame(network, engine, exact_gain=True, ahead=False):
    """Clock cycles from a frame to the next, all layers and all time steps.

    ahead: the stem core works on the next frame while the other layers run (``Program.ahead``).
    """
    stem, *others = (
        layer_cycles(network, i, engine, exact_gain) for i in range(len(network.layers))
    )
    return max(stem, sum(others)) if ahead else stem + sum(others)
