"""Number formats and integer rules: the one place where rounding and saturation are written down.

Every function works alike on Python integers and on integer tensors; ``>>`` floors. The hardware
components implement these rules, the golden model calls them, the export proves that nothing they
produce leaves its width. Symbols follow the AGMM paper: P is the sum of +-1 weights over spikes, X
the current, U the membrane, E the scaled mean of eq. 11.

=============  ====================================================================================
current        signed, ``FRACTION`` fraction bits, in units of one spike times one weight; of the
               stem, in units of 2**``STEM_SHIFT`` pixels times weights
bias           signed, as the current (batch norm shift divided by batch norm gain)
threshold      unsigned, as the current, at most ``THRESHOLD_BITS``
membrane       signed, as the current, two bits wider
readout        its 8-bit weight w acts as 2w + 1, an odd number from -255 to 255: what ``PLANES``
               weights of +-1 add up to, times powers of two. That doubles every logit and adds the
               number of spikes to all of them: the largest stays the largest
gain           unsigned, ``GAIN_FRACTION`` fraction bits, 256 is one; the sigmoid gives 0 to 255
stream         signed, ``STREAM_BITS``, saturated: the current that shortcuts carry from layer to
               layer, in units of 2**-``STREAM_FRACTION`` of the firing threshold. Bias, membrane
               and threshold of a layer that has one are in the same unit
projection     sum of stream times 8-bit weight, signed, ``PROJECTION_BITS``; then saturated
slope          unsigned, ``SLOPE_BITS`` with ``SLOPE_FRACTION`` fraction bits: what one unit of a
               current without bias is in the unit of the stream
mean           signed, ``MEAN_BITS``
accumulator    of 8-bit layers: signed, ``ACCUMULATOR_BITS``
=============  ====================================================================================
"""

import math

__all__ = [
    "ACCUMULATOR_BITS", "FACTOR_BITS", "FACTOR_FRACTION", "FRACTION", "GAIN_FRACTION", "GAIN_ONE",
    "INDEX_LIMIT", "INDEX_STEPS", "MEAN_BITS", "MEMBRANE_EXTRA_BITS", "PLANES", "PROJECTION_BITS",
    "SLOPE_BITS", "SLOPE_FRACTION", "STEM_SHIFT", "STREAM_BITS", "STREAM_FRACTION",
    "STREAM_THRESHOLD", "TABLE_BITS", "THRESHOLD_BITS", "apply_gain", "average", "fits_signed",
    "leak", "mean_index", "projected", "readout_weight", "saturate", "sigmoid_table",
    "spike_current", "stem_current", "stream_current",
]

FRACTION = 4
MEMBRANE_EXTRA_BITS = 2
THRESHOLD_BITS = 16
GAIN_FRACTION = 8
GAIN_ONE = 1 << GAIN_FRACTION
#: The stem's sums of 8-bit products are far finer than a current needs.
STEM_SHIFT = 6
ACCUMULATOR_BITS = 24
#: Binary planes of an 8-bit weight of the readout.
PLANES = 8

#: The residual stream: 128 thresholds either way.
STREAM_BITS = 16
STREAM_FRACTION = 8
STREAM_THRESHOLD = 1 << STREAM_FRACTION
PROJECTION_BITS = 32
SLOPE_BITS = 17
SLOPE_FRACTION = 11

#: AGMM: entries of the position tables, accumulated mean, and its scaled value.
TABLE_BITS = 16
MEAN_BITS = 32
FACTOR_BITS = 16
FACTOR_FRACTION = 15
#: Sigmoid table: one entry each 1/32 of E, for E in [-8, 8).
INDEX_STEPS = 32
INDEX_LIMIT = 256


def fits_signed(value, bits):
    return -(1 << (bits - 1)) <= value < (1 << (bits - 1))


def spike_current(total, bias):
    """Current of a binary layer from the sum P of its weights over the spikes."""
    return (total << FRACTION) + bias


def stem_current(accumulator, bias):
    """Current of the stem from its sum of pixel times weight."""
    return (accumulator >> STEM_SHIFT) + bias


def readout_weight(weight):
    """What a stored 8-bit weight of the readout is multiplied by."""
    return 2 * weight + 1


def apply_gain(current, gain):
    """Gain times current, rounded to nearest, halves up."""
    return (current * gain + (1 << (GAIN_FRACTION - 1))) >> GAIN_FRACTION


def stream_current(current, slope, bias):
    """Current in the unit of the stream, from one without bias: rounded to nearest, halves up."""
    return ((current * slope + (1 << (SLOPE_FRACTION - 1))) >> SLOPE_FRACTION) + bias


def saturate(value, clamp):
    """The nearest value of a stream. ``clamp`` as for ``mean_index``."""
    top = 1 << (STREAM_BITS - 1)
    return clamp(value, -top, top - 1)


def projected(accumulator, clamp):
    """What the slope of a projection multiplies, from its sum of stream times weight."""
    return saturate(accumulator >> STEM_SHIFT, clamp)


def average(total):
    """Mean of four, from their sum: rounded to nearest, halves up."""
    return (total + 2) >> 2


def leak(membrane, shift):
    """tau * U with tau = 1 - 2**-shift: what leaks away is floored."""
    return membrane - (membrane >> shift)


def mean_index(mean, mean_shift, factor, clamp):
    """Index into the sigmoid table: E in steps of 1/32, saturated to [-256, 255].

    ``mean_shift`` brings the mean to 16 bits, ``factor`` holds alpha[t] / (C*H*W) and all scales.
    ``clamp(value, low, high)`` saturates the caller's number type.
    """
    scaled = ((mean >> mean_shift) * factor) >> FACTOR_FRACTION
    return clamp(scaled, -INDEX_LIMIT, INDEX_LIMIT - 1)


def sigmoid_table():
    """Gains in 1/256, at most 255, for the indices -256 to 255: the sigmoid mid-step.

    An index is floored: E lies between index / 32 and (index + 1) / 32.
    """
    return [
        min(GAIN_ONE - 1, round(GAIN_ONE / (1 + math.exp(-(index + 0.5) / INDEX_STEPS))))
        for index in range(-INDEX_LIMIT, INDEX_LIMIT)
    ]
