"""How weights, biases and tables become the 16-bit words of an engine's memories."""

import numpy as np

from sw import formats

__all__ = [
    "binary_words", "byte_words", "channel_slot_bits", "channel_words", "logit_words", "pad_to",
    "readout_planes", "table_words", "to_words",
]


def to_words(values, bits):
    """Integers as little-endian groups of 16-bit words, two's complement."""
    count = -(-bits // 16)
    values = np.asarray(values, dtype=np.int64).reshape(-1, 1)
    shifts = 16 * np.arange(count)
    return ((values >> shifts) & 0xFFFF).astype(np.uint16).ravel()


def pad_to(array, axis, multiple, value):
    """``array`` made longer with ``value`` along an axis, up to a multiple."""
    short = -array.shape[axis] % multiple
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, short)
    return np.pad(array, widths, constant_values=value)


def binary_words(weights, engine):
    """Weight bits [cout, cin, k, k] as words: pe output by simd input channels each."""
    bits = pad_to(pad_to(weights, 0, engine.pe, True), 1, engine.simd, True)
    cout, cin, kernel, _ = bits.shape
    tiles, depth = cout // engine.pe, cin // engine.simd
    bits = bits.reshape(tiles, engine.pe, depth, engine.simd, kernel, kernel)
    # tile, ky, kx, input word, then pe and simd inside the word: a whole number of bytes
    return np.packbits(np.transpose(bits, (0, 4, 5, 2, 1, 3)), bitorder="little").view("<u2")


def byte_words(weights, engine, width):
    """8-bit weights [cout, k, k, cin] as words of ``width`` bits: pe output channels of a tap."""
    padded = pad_to(weights.reshape(len(weights), -1), 0, engine.pe, 0)
    tiles = padded.reshape(-1, engine.pe, padded.shape[1]).transpose(0, 2, 1)
    words = np.zeros((tiles.shape[0] * tiles.shape[1], width // 8), np.int8)
    words[:, : engine.pe] = tiles.reshape(-1, engine.pe)
    return words.ravel().view("<u2")


def readout_planes(weights, shape, rows, engine):
    """Weights int8 [classes, C*H*W] as binary ones: bool [channels, words * simd, 1, 1].

    The readout is a convolution whose only pixel holds the whole map, in the order of the spike
    memory: strip after strip of so many ``rows``. Channels are sets of ``units`` classes; in a set
    plane by plane, the heaviest first.
    """
    classes = pad_to(weights, 0, engine.units, 0)
    maps = classes.reshape(-1, engine.units, shape.channels, shape.height, shape.width)
    # 2w + 1 is the sum of 2**j * (+1 or -1) over the bits j of w + 128.
    offset = (maps.astype(np.int8).view(np.uint8) ^ 0x80)[:, None]
    planes = offset >> np.arange(formats.PLANES)[::-1].reshape(-1, 1, 1, 1, 1) & 1
    words = pad_to(np.transpose(planes, (0, 1, 2, 4, 5, 3)).astype(bool), 5, engine.simd, True)
    words = pad_to(words, 3, engine.pixels * rows, True)
    return words.reshape(-1, words[0, 0, 0].size, 1, 1)


def channel_slot_bits(engine):
    """Bits of the bias slot, and of the slot of threshold or slope, in the word of a channel."""
    return 16 if engine.current_width <= 16 and not engine.has_stream else 32


def channel_words(bias, threshold, engine):
    """Entries of a layer's channels: bias in the low slot, threshold or slope in the high one."""
    slot = channel_slot_bits(engine)
    parts = [to_words(part, slot).reshape(len(bias), -1) for part in (bias, threshold)]
    return pad_to(np.concatenate(parts, axis=1), 0, engine.pe, 0)


def logit_words(bias, planes, engine, passes):
    """Entries of a readout's channels: only those of the last plane hold their class's bias.

    planes: of ``readout_planes``; what their XNOR counts exceed their sums by is taken off here.
    """
    weight = 1 << np.arange(formats.PLANES)[::-1]
    negative = (~planes).reshape(-1, formats.PLANES, engine.units, planes.shape[1]).sum(3)
    excess = passes * engine.steps * np.einsum("spu,p->su", negative, weight).ravel()[: len(bias)]
    sets = len(planes) // engine.units // formats.PLANES
    last = np.zeros((sets, formats.PLANES, engine.units), np.int64)
    last[:, -1].flat[: len(bias)] = 2 * bias - excess
    words = to_words(last.ravel(), 2 * channel_slot_bits(engine))
    return pad_to(words.reshape(len(planes), -1), 0, engine.pe, 0)


def table_words(table, engine):
    """Position table [C, row classes, column classes]: of ``units`` channels, class by class."""
    table = pad_to(table.reshape(len(table), -1), 0, engine.pe, 0)
    # The entries of channels that are written together share a word.
    table = table.reshape(-1, engine.units, table.shape[1]).transpose(0, 2, 1)
    return to_words(table, formats.TABLE_BITS)
