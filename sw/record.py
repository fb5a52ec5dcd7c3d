"""The layer record: what the sequencer reads about a layer, field by field.

A record is a few 16-bit words of the program memory, then a gain or factor for each lane. Some of
its fields depend on the engine: with strips there are no exact gains.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

__all__ = [
    "EVERY_FIELD", "MAP_LIMIT", "Field", "Kind", "element_bits", "field_bits", "field_words",
    "fields", "record_stride", "record_words",
]


class Kind(IntEnum):
    STEM = 0
    CONV = 1
    READOUT = 2
    PROJECTION = 3  # of a stream, before the convolution beside it


@dataclass(frozen=True)
class Field:
    """One entry of a layer record: ``bits`` of it from bit ``shift`` of word ``word`` on."""

    name: str
    bits: int
    word: int
    shift: int


def _pack(**widths):
    """Place fields in order into 16-bit words; only those wider than a word cross a boundary."""
    fields, word, used = [], 0, 0
    for name, bits in widths.items():
        if used and used + bits > 16:
            word, used = word + 1, 0
        fields.append(Field(name, bits, word, used))
        used += bits
        word, used = word + used // 16, used % 16
    return tuple(fields)


#: Counts are stored as the last index (count - 1). An element is a byte of the frame for the stem,
#: a channel of the stream for a projection, else a spike word.
_LAYER = dict(
    kind=2,
    leak_shift=2,
    pool=1,
    exact_gain=1,
    mean_next=1,  # the next layer needs the mean of what this one writes
    stride=2,
    padding=2,
    kernel_last=3,
    step_mask=16,  # one bit for each time step in use, of the last pass
    start=32,  # element address of the first window's corner, padding included
    row_jump=16,  # from the last element of a kernel row to the first of the next, signed
    x_step=16,  # from one window to the next in x and in y
    y_step=16,
    in_height=7,
    in_width=7,
    depth_last=16,  # elements of one input pixel
    tiles_last=16,  # tiles of pe output channels
    channels=16,  # output channels; those beyond, up to a multiple of pe, stay silent
    out_height_last=7,
    out_width_last=7,
    out_base=16,
    weight_base=32,
    channel_base=16,
)

#: Of an engine with exact gains.
_MEAN = dict(
    mean_base=16,
    mean_classes=7,  # position classes of the next layer: all, and along x
    mean_classes_x=4,
    mean_shift=5,  # of this layer's own mean, like the offset below
    mean_low_y=4,
    mean_middle_y=4,
    mean_high_y=7,
    mean_low_x=4,
    mean_middle_x=4,
    mean_high_x=7,
    mean_offset=32,
)

#: Of an engine with strips (``sw.strips``).
_STRIPS = dict(
    strip_jump=16,  # elements of the frame from a strip to the next
    strip_words=16,  # spike words of a strip of the output, halos not counted
    strip_rows=7,  # rows of the frame from a strip to the next
    full_rows=7,  # so many rows of strip number ``full_strips`` are in the map
    full_strips=5,  # so many strips are all in the map; the rest of a strip stays silent
    halo_above=2,
    halo_below=3,
)

#: Of an engine with a residual stream.
_STREAM = dict(
    streamed=1,  # currents have a slope; the threshold is that of the stream
    shortcut=1,  # the stream is added
    average=1,  # and it is that of 2 x 2 pixels
    shortcut_last=16,  # groups of channels, in all passes, of a pixel of the stream that is read
    stream_last=16,  # and of a pixel of that which is written
    stream_row=16,  # from a row of the stream that is read to the next
    stream_in=16,  # first word of the stream that is read
    stream_out=16,  # and of that which is written
)

#: Of an engine with several passes.
_PASSES = dict(
    first_pass=4,  # the last pass is number passes - 1, however many there are
    in_plane=16,  # elements from a pass to the next, of the input
    out_plane=16,  # and spike words of the output
)


@cache
def _fields(exact_gain, stream, passes):
    return _pack(
        **_LAYER, **(_MEAN if exact_gain else _STRIPS), **(_STREAM if stream else {}),
        **(_PASSES if passes else {}),
    )


#: Those of all engines.
EVERY_FIELD = (*_fields(True, True, False), *_fields(False, False, True)[len(_LAYER) :])


def fields(engine):
    """The Fields of a layer record."""
    return _fields(engine.exact_gain, engine.has_stream, engine.passes > 1)


#: Maps have at most this many rows and columns: coordinates of kernel taps take 7 bits.
MAP_LIMIT = 120


def field_bits(engine):
    """Bits of each field that an engine keeps: addresses are no wider than its memories."""
    element = element_bits(engine)
    channel = (engine.channel_depth - 1).bit_length()
    limits = dict(
        step_mask=engine.lanes, start=element, row_jump=element, x_step=element, y_step=element,
        depth_last=element, tiles_last=(max(engine.channel_depth // engine.pe, 2) - 1).bit_length(),
        channels=channel + 1, out_base=(engine.spike_depth - 1).bit_length(),
        weight_base=(engine.weight_depth - 1).bit_length(), channel_base=channel,
        mean_base=(engine.mean_depth - 1).bit_length(), strip_jump=element,
        first_pass=(engine.passes - 1).bit_length(),
        **dict.fromkeys(
            ("shortcut_last", "stream_last", "stream_row", "stream_in", "stream_out"),
            (engine.stream_depth - 1).bit_length(),
        ),
        **dict.fromkeys(
            ("strip_words", "in_plane", "out_plane"), (engine.spike_depth - 1).bit_length()
        ),
    )
    return {field.name: min(field.bits, limits.get(field.name, 32)) for field in fields(engine)}


def element_bits(engine):
    """Bits of an element address: of a byte of the frame, a spike word, a channel of the stream."""
    stream = engine.stream_depth * engine.units
    return (max(engine.spike_depth, 2 * engine.frame_depth, stream) - 1).bit_length()


def field_words(engine):
    """16-bit words of the fields of a layer record."""
    last = fields(engine)[-1]
    return last.word + -(-(last.shift + last.bits) // 16)


def record_words(engine, passes=1):
    """16-bit words of a layer record: the fields, then a gain or factor for each lane and pass."""
    return field_words(engine) + engine.lanes * passes


def record_stride(engine):
    """16-bit words from one layer record to the next in the program memory."""
    return 1 << (record_words(engine, engine.passes) - 1).bit_length()
