"""The cycle model: how long the accelerator takes, exactly, known without running it."""

from sw.formats import FACTOR_BITS
from sw.layers import Conv, Readout, Stem
from sw.record import record_words

__all__ = ["GAIN_STEP_CYCLES", "cycles_per_frame", "layer_cycles"]

#: An exact gain, for each time step: load, a multiplication bit by bit, look-up, store.
GAIN_STEP_CYCLES = FACTOR_BITS + 3

#: Pipeline from the last operand of a layer to the cycle that sees its last word written, by unit:
#: memory, sums (array or MAC), bias; the LIF adds 2 and a cycle a lane, the writer one.
_DRAIN_CONV = 1 + 3 + 1
_DRAIN_BYTES = 1 + 4 + 1
_SETUP = 4  # last word of the record, start of the gain, reset of the walk, its first flags


def _tile_cycles(layer, shape, engine):
    """Cycles of one tile of pe output channels at one output pixel, before pooling."""
    if isinstance(layer, Readout):
        words = shape.height * shape.width * -(-shape.channels // engine.simd) * engine.simd
    elif isinstance(layer, Stem):
        words = layer.kernel**2 * shape.channels
    else:
        words = layer.kernel**2 * -(-shape.channels // engine.simd)
    return words, max(words, engine.groups)


def layer_cycles(network, index, engine, exact_gain=True):
    """Clock cycles of one layer, from the fetch of its record to its last word in memory."""
    layer, shape = network.layers[index], network.shapes[index]
    out = layer.output_shape(shape)
    windows = out.height * out.width * getattr(layer, "pool", 1) ** 2
    tiles = windows * -(-layer.channels // engine.pe)
    words, tile = _tile_cycles(layer, shape, engine)
    # The last tile does not wait for its channels: that wait is part of the drain.
    walk = (tiles - 1) * tile + words
    drain = (_DRAIN_CONV if isinstance(layer, Conv) else _DRAIN_BYTES) + engine.groups
    if not isinstance(layer, Readout):
        drain += 2 + engine.lanes
    exact = exact_gain and isinstance(layer, Conv) and network.neuron == "agmm"
    gain = GAIN_STEP_CYCLES * engine.lanes if exact else 0
    return record_words(engine) + _SETUP + gain + walk + drain


def cycles_per_frame(network, engine, exact_gain=True):
    """Clock cycles of a frame, all layers and all time steps."""
    return sum(layer_cycles(network, i, engine, exact_gain) for i in range(len(network.layers)))
