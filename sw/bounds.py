"""Bounds that hold for every input, proved from the weights alone.

No sum, current, membrane or mean of an image that passes ``check`` can leave its width, whatever
the frame shows. The widths are those of ``sw.formats``; an engine's own are compared by
``sw.program``.
"""

from dataclasses import dataclass

import numpy as np

from sw import formats
from sw.layers import Readout, ResidualConv, Stem
from sw.positions import Axis

__all__ = ["ExportError", "LayerBounds", "bounds", "check", "mean_range", "membrane_range",
           "position_table", "sum_range"]

#: The widest currents that any engine of this project takes.
CURRENT_WIDTH = 18


class ExportError(ValueError):
    """A network that the number formats cannot hold, naming the layer and the channel."""


@dataclass(frozen=True, eq=False)
class LayerBounds:
    """Bits that one layer needs; arrays hold one entry for each output channel.

    current: signed bits of an engine's ``current_width``: for the currents, the bias with the
    count of -1 weights folded in, and the membrane, which is ``MEMBRANE_EXTRA_BITS`` wider; 0 for
    a Readout. membrane: signed. threshold: unsigned. accumulator: signed, of the sums of 8-bit
    weights; 0 for a Conv. projection: signed, of the sums of stream times weight; 0 without. slope:
    unsigned, that of a projection included; 0 without a stream. mean: signed, of the AGMM sum with
    and without its offset, 0 without AGMM. mean_scaled: the same after the shift. factor, table:
    signed, of the AGMM factors and of the position table's entries.
    """

    name: str
    current: np.ndarray
    membrane: np.ndarray
    threshold: np.ndarray
    accumulator: np.ndarray
    projection: np.ndarray
    slope: np.ndarray
    mean: int
    mean_scaled: int
    factor: int
    table: int

    @property
    def current_bits(self):
        return int(self.current.max())

    @property
    def membrane_bits(self):
        return int(self.membrane.max())

    @property
    def threshold_bits(self):
        return int(self.threshold.max())

    @property
    def accumulator_bits(self):
        return int(self.accumulator.max())

    @property
    def mean_bits(self):
        return self.mean


def _signed_bits(*values):
    """Bits of a two's complement number that holds every one of the integers."""
    return max((v if v >= 0 else ~v).bit_length() + 1 for v in map(int, values))


def _unsigned_bits(values):
    """Bits of each of the numbers, which are not negative."""
    return np.array([int(value).bit_length() for value in values])


def _channel_bits(low, high):
    return np.array([_signed_bits(*pair) for pair in zip(low, high, strict=True)])


def sum_range(layer, weights, T):
    """Smallest and largest sum over the weights of every channel, int64.

    P of a Conv, the accumulator of a Stem, and of a Readout its sum over the T steps, without the
    bias.
    """
    flat = weights.reshape(len(weights), -1)
    if weights.dtype == bool:
        return -(~flat).sum(1), flat.sum(1)
    flat, top = flat.astype(np.int64), 255
    if isinstance(layer, Readout):
        flat, top = formats.readout_weight(flat), T
    return top * np.minimum(flat, 0).sum(1), top * np.maximum(flat, 0).sum(1)


def current_range(layer, low, high, bias, slope=None):
    """Range of the currents from the range of the sums; in the unit of the stream with a slope."""
    rule = formats.stem_current if isinstance(layer, Stem) else formats.spike_current
    if slope is None:
        return rule(low, bias), rule(high, bias)
    return tuple(formats.stream_current(rule(end, 0), slope, bias) for end in (low, high))


def _driven(low, high, pair):
    """Range of the currents under gains of a (smallest, largest) ``pair``."""
    ends = [(formats.apply_gain(low, gain), formats.apply_gain(high, gain)) for gain in pair]
    return np.minimum(*(least for least, _ in ends)), np.maximum(*(most for _, most in ends))


def projection_range(projection, before):
    """Ranges of a projection, each (smallest, largest) int64 ``[C_out]``, over a stream in a range.

    Of its sums, of its currents, and of the stream that it makes.
    """
    weights = projection.weights
    least, most = (np.where(weights < 0, *ends) * weights for ends in (before[::-1], before))
    sums = least.sum(1), most.sum(1)
    currents = tuple(
        formats.stream_current(
            formats.projected(end, np.clip), projection.slope, projection.bias
        ) for end in sums
    )
    return sums, currents, tuple(formats.saturate(end, np.clip) for end in currents)


def stream_range(layer, low, high, gains, shortcut):
    """Smallest and largest value of the stream behind a layer, int64 ``[C]``.

    low, high: range of its currents. gains: (smallest, largest) of every step. shortcut: range of
    what is added, or None.
    """
    lows, highs = zip(*(_driven(low, high, pair) for pair in gains), strict=True)
    around = (0, 0)
    if shortcut is not None:
        # An average lies between the smallest and the largest.
        around = (np.pad(end, (0, layer.channels - len(end))) for end in shortcut)
    return tuple(
        formats.saturate(end + other, np.clip)
        for end, other in zip((np.min(lows, 0), np.max(highs, 0)), around, strict=True)
    )


def membrane_range(low, high, gains, leak_shift, threshold=None):
    """Smallest and largest membrane before the reset, int64 ``[C]``, over all steps.

    low, high: range of the currents. gains: (smallest, largest) of every step. Without a threshold
    nothing is ever reset: the largest is then what the membrane could reach at all.
    """
    rest_low = rest_high = np.zeros_like(low)
    lowest, highest = np.zeros_like(low), np.zeros_like(low)
    for pair in gains:
        least, most = _driven(low, high, pair)
        membrane_low = formats.leak(rest_low, leak_shift) + least
        membrane_high = formats.leak(rest_high, leak_shift) + most
        lowest, highest = np.minimum(lowest, membrane_low), np.maximum(highest, membrane_high)
        rest_low, rest_high = membrane_low, membrane_high
        if threshold is not None:
            may_fire = membrane_high >= threshold
            rest_low = np.where(may_fire, np.minimum(membrane_low, 0), membrane_low)
            rest_high = np.where(may_fire, np.maximum(threshold - 1, 0), membrane_high)
    return lowest, highest


def gain_range(gain, agmm):
    """(smallest, largest) gain of every step, from a LayerImage's ``gain`` and ``agmm``."""
    if agmm is None:
        return [(int(constant), int(constant)) for constant in gain]
    table = agmm.sigmoid
    return [(int(table.min()), int(table.max()))] * len(agmm.factor)


def _axes(layer, shape):
    return [
        Axis.of(size, layer.kernel, layer.stride, layer.padding)
        for size in (shape.height, shape.width)
    ]


def position_table(layer, shape, weights, scales):
    """D of a Conv: int64 ``[C_in, row classes, column classes]``.

    What a spike of an input channel, at a position of each class, adds to the sum over all
    outputs of ``scales[c] * P_c``. weights: bool ``[C_out, C_in, k, k]``.
    """
    taps = np.einsum("o,oiyx->iyx", scales, np.where(weights, 1, -1))
    rows, columns = (
        np.array([[tap in reached for tap in range(layer.kernel)] for reached in axis.taps], int)
        for axis in _axes(layer, shape)
    )
    return np.einsum("ry,iyx,cx->irc", rows, taps, columns)


def mean_range(layer, shape, table):
    """Smallest and largest sum of the table's entries over any input spikes."""
    rows, columns = (
        np.bincount([axis.class_of(p) for p in range(axis.size)], minlength=axis.classes)
        for axis in _axes(layer, shape)
    )
    count = np.outer(rows, columns)
    return int((np.minimum(table, 0) * count).sum()), int((np.maximum(table, 0) * count).sum())


def _layer_bounds(network, index, data, stream):
    """LayerBounds, and the range of the layer's stream or None, from that of the layer before."""
    name, layer, shape = network.layer_name(index), network.layers[index], network.shapes[index]
    if network.coded and index == 0:
        nothing = np.zeros(1, np.int64)
        return LayerBounds(name, *[nothing] * 6, 0, 0, 0, 0), None
    low, high = sum_range(layer, data.weights, network.T)
    nothing = np.zeros(layer.channels, np.int64)
    if isinstance(layer, Readout):
        accumulator = _channel_bits(low + 2 * data.bias, high + 2 * data.bias)
        return LayerBounds(
            name, nothing, nothing, nothing, accumulator, nothing, nothing, 0, 0, 0, 0
        ), None
    accumulator = _channel_bits(low, high) if isinstance(layer, Stem) else nothing
    gains, limit, slope, after = gain_range(data.gain, data.agmm), data.threshold, nothing, None
    current = projection = nothing
    if data.slope is not None:
        slope = _unsigned_bits(data.slope)
        # The sums are multiplied as they are.
        current = _channel_bits(*current_range(layer, low, high, 0))
    low, high = current_range(layer, low, high, data.bias, data.slope)
    current = np.maximum(current, _channel_bits(low, high))
    if data.slope is not None:
        if data.projection is not None:
            sums, currents, stream = projection_range(data.projection, stream)
            projection = _channel_bits(*sums)
            current = np.maximum(current, _channel_bits(*currents))
            slope = np.maximum(slope, _unsigned_bits(data.projection.slope))
        shortcut = stream if isinstance(layer, ResidualConv) else None
        low, high = after = stream_range(layer, low, high, gains, shortcut)
        gains = [(formats.GAIN_ONE, formats.GAIN_ONE)] * network.T
        limit = np.full(layer.channels, formats.STREAM_THRESHOLD)
    membrane = _channel_bits(*membrane_range(low, high, gains, network.leak_shift, limit))
    current = np.maximum(current, membrane - formats.MEMBRANE_EXTRA_BITS)
    threshold = _unsigned_bits(limit)
    mean = mean_scaled = factor = table = 0
    if data.agmm is not None:
        K, shift = data.agmm.offset, data.agmm.shift
        ends = mean_range(layer, shape, data.agmm.table)
        # Spikes come in any order and the offset first or last: every partial sum must fit.
        mean = _signed_bits(*ends, min(K, 0) + ends[0], max(K, 0) + ends[1])
        mean_scaled = _signed_bits(*((K + end) >> shift for end in ends))
        factor = _signed_bits(*data.agmm.factor)
        table = _signed_bits(data.agmm.table.min(), data.agmm.table.max())
    return LayerBounds(
        name, current, membrane, threshold, accumulator, projection, slope, mean, mean_scaled,
        factor, table,
    ), after


def bounds(image):
    """The LayerBounds of every layer of a NetworkImage."""
    proven, stream = [], None
    for index, data in enumerate(image.layers):
        bound, stream = _layer_bounds(image.network, index, data, stream)
        proven.append(bound)
    return proven


def check(image, current_width=CURRENT_WIDTH):
    """The bounds of an image; refuses, with an ExportError, one that some input could overflow."""
    proven = bounds(image)
    for index, bound in enumerate(proven):
        streamed = image.layers[index].slope is not None
        wider = f"fewer inputs or a {'smaller' if streamed else 'larger'} batch norm gain"
        if image.layers[index].agmm is not None and not streamed:
            wider += ", or --gain frozen if it fires in every step"
        for what, bits, limit, why in (
            ("currents", bound.current, current_width, wider),
            ("the threshold", bound.threshold, formats.THRESHOLD_BITS, "a larger batch norm gain"),
            ("the accumulator", bound.accumulator, formats.ACCUMULATOR_BITS, "fewer inputs"),
            ("the projection", bound.projection, formats.PROJECTION_BITS, "fewer inputs"),
            ("the slope", bound.slope, formats.SLOPE_BITS, "a smaller batch norm gain"),
        ):
            if bits.max() > limit:
                raise ExportError(
                    f"{bound.name} channel {int(bits.argmax())}: {what} may need {bits.max()} bits,"
                    f" the format has {limit}; it takes {why}"
                )
        for what, bits, limit in (
            ("the AGMM mean", bound.mean, formats.MEAN_BITS),
            ("the scaled AGMM mean", bound.mean_scaled, 16),
            ("the AGMM factor, for alpha and batch norm,", bound.factor, formats.FACTOR_BITS),
        ):
            if bits > limit:
                raise ExportError(
                    f"{bound.name}: {what} may need {bits} bits, the format has {limit};"
                    " use --gain frozen"
                )
        if bound.table > formats.TABLE_BITS:
            table = np.abs(image.layers[index].agmm.table)
            raise ExportError(
                f"{bound.name} input channel {int(table.max((1, 2)).argmax())}: the AGMM position"
                f" table needs {bound.table} bits, the format has {formats.TABLE_BITS};"
                " use --gain frozen or fewer channels"
            )
    return proven
