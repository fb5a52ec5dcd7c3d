"""A network image laid out for one engine: the contents of every memory, word by word.

The image knows nothing of folding; here weights are cut into words of ``pe * simd`` bits, spike
maps get their addresses, and each layer becomes a record of ``FIELDS`` that the sequencer reads.
What does not fit is refused here, before anything reaches a device. All words are 16 bits, as the
host writes them; wider memory words are sent low part first.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sw import formats
from sw.bounds import ExportError, check
from sw.engine import EngineError
from sw.layers import Conv, Network, Readout, Stem
from sw.positions import Axis
from sw.record import FIELDS, MAP_LIMIT, Kind, field_words, record_stride

__all__ = ["Program", "Region", "channel_slot_bits", "compile_program", "region_words"]


class Region(IntEnum):
    """Memories the host can write."""

    SPIKES = 0
    WEIGHTS = 1
    CHANNELS = 2
    MEANS = 3
    SIGMOID = 4
    PROGRAM = 5


def region_words(engine, region):
    """16-bit words of a memory: the addresses that the host may write."""
    return {
        Region.SPIKES: engine.spike_depth * engine.simd * engine.lanes // 16,
        Region.WEIGHTS: engine.weight_depth * engine.pe * engine.simd // 16,
        Region.CHANNELS: engine.channel_depth * channel_slot_bits(engine) // 8,
        Region.MEANS: engine.mean_depth,
        Region.SIGMOID: 2 * formats.INDEX_LIMIT,
        Region.PROGRAM: engine.layer_depth * record_stride(engine),
    }[region]


@dataclass(frozen=True)
class Program:
    """Everything the host writes, and where it finds what it reads.

    regions: Region -> uint16 words to write from address 0. frame_words: 16-bit words of one frame,
    written to SPIKES at address 0 (even number of bytes; pad with one zero). boundaries: for each
    layer, the first spike word of its output. logits: number of classes.
    """

    engine: object
    network: Network
    regions: dict
    frame_words: int
    boundaries: tuple

    def pack_frame(self, frame):
        """A frame of uint8 [C, H, W] as the uint16 words of the SPIKES region."""
        shape = self.network.input
        expected = (shape.channels, shape.height, shape.width)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise EngineError(
                f"a frame of {self.network.name} is {expected} bytes, got {frame.shape}"
                f" {frame.dtype}"
            )
        data = np.transpose(frame, (1, 2, 0)).ravel()
        return np.pad(data, (0, len(data) % 2)).view("<u2")

    def boundary_words(self, index):
        """16-bit address and number of words of layer ``index``'s output in SPIKES."""
        bank = self.engine.simd * self.engine.lanes // 16
        shape = self.network.shapes[index + 1]
        words = _spike_words(self.network.layers[index], shape, self.engine)
        return self.boundaries[index] * bank, words * bank

    def unpack_boundary(self, index, words):
        """Spikes uint8 [T, C, H, W] of a layer, or logits int32 [classes], from uint16 words."""
        engine = self.engine
        shape = self.network.shapes[index + 1]
        words = np.asarray(words, dtype="<u2")
        if isinstance(self.network.layers[index], Readout):
            bank = engine.simd * engine.lanes // 16
            logits = words.reshape(-1, bank)[:, : 2 * engine.units].copy().view("<i4")
            return logits.ravel()[: shape.channels]
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        maps = bits.reshape(shape.height, shape.width, -1, engine.lanes)
        silent = maps.sum() - maps[:, :, : shape.channels, : self.network.T].sum()
        if silent:
            raise EngineError(f"{silent} spikes in channels or steps that layer {index} has not")
        maps = maps[:, :, : shape.channels, : self.network.T]
        return np.ascontiguousarray(np.transpose(maps, (3, 2, 0, 1)))


def _words_per_pixel(channels, engine):
    return -(-channels // engine.simd)


def _spike_words(layer, shape, engine):
    if isinstance(layer, Readout):
        return -(-shape.channels // engine.units)
    return shape.height * shape.width * _words_per_pixel(shape.channels, engine)


def _to_words(values, bits):
    """Integers as little-endian groups of 16-bit words, two's complement."""
    count = -(-bits // 16)
    values = np.asarray(values, dtype=np.int64).reshape(-1, 1)
    shifts = 16 * np.arange(count)
    return ((values >> shifts) & 0xFFFF).astype(np.uint16).ravel()


def channel_slot_bits(engine):
    """Bits of the bias slot, and of the threshold slot, in the word of a channel."""
    return 16 if engine.current_width <= 16 else 32


def _pad_to(array, axis, multiple, value):
    short = -array.shape[axis] % multiple
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, short)
    return np.pad(array, widths, constant_values=value)


def _binary_words(weights, engine):
    """Weight bits [cout, cin, k, k] as words: pe output by simd input channels each."""
    bits = _pad_to(_pad_to(weights, 0, engine.pe, True), 1, engine.simd, True)
    cout, cin, kernel, _ = bits.shape
    tiles, depth = cout // engine.pe, cin // engine.simd
    bits = bits.reshape(tiles, engine.pe, depth, engine.simd, kernel, kernel)
    # tile, ky, kx, input word, then pe and simd inside the word: a whole number of bytes
    return np.packbits(np.transpose(bits, (0, 4, 5, 2, 1, 3)), bitorder="little").view("<u2")


def _byte_words(weights, engine):
    """8-bit weights [cout, elements] as words: pe output channels of one element each."""
    padded = _pad_to(weights, 0, engine.pe, 0)
    tiles = padded.reshape(-1, engine.pe, padded.shape[1]).transpose(0, 2, 1)
    words = np.zeros((tiles.shape[0] * tiles.shape[1], engine.pe * engine.simd // 8), np.int8)
    words[:, : engine.pe] = tiles.reshape(-1, engine.pe)
    return words.ravel().view("<u2")


def _readout_weights(weights, shape, engine):
    """Readout weights [classes, C*H*W] in the order of the spike memory, [classes, elements]."""
    maps = weights.reshape(-1, shape.channels, shape.height, shape.width)
    maps = np.transpose(maps, (0, 2, 3, 1))
    return _pad_to(maps, 3, engine.simd, 0).reshape(len(weights), -1)


def _allocate(network, engine):
    """First spike word of the frame and of every layer's output, from alternating ends."""
    frame_words = -(-network.input.size * 8 // (engine.simd * engine.lanes))
    sizes = [frame_words] + [
        _spike_words(layer, shape, engine)
        for layer, shape in zip(network.layers, network.shapes[1:], strict=True)
    ]
    for index in range(len(network.layers)):
        need = sizes[index] + sizes[index + 1]
        if need > engine.spike_depth:
            raise EngineError(
                f"{network.name} does not fit: {network.layer_name(index)} needs {need} spike words"
                f" for its input and output, the engine has {engine.spike_depth}"
            )
    return [
        0 if index % 2 == 0 else engine.spike_depth - size for index, size in enumerate(sizes)
    ]


def _check_widths(image, engine):
    """Refuse an image whose proven bounds exceed the formats or the widths of this engine."""
    network = image.network
    try:
        proven = check(image)
    except ExportError as error:
        raise EngineError(f"{network.name} does not fit: {error}") from error
    if engine.lanes < network.T:
        raise EngineError(
            f"{network.name} does not fit: T={network.T} needs as many lanes, the engine has"
            f" {engine.lanes}"
        )
    if network.leak_shift not in engine.leak_shifts:
        raise EngineError(
            f"{network.name} does not fit: tau={network.tau} is not built in, the engine has"
            f" {', '.join(str(1 - 2.0**-shift) for shift in engine.leak_shifts)}"
        )
    largest = max(max(shape.height, shape.width) for shape in network.shapes)
    if largest > MAP_LIMIT:
        raise EngineError(
            f"{network.name} does not fit: a map of {largest} rows or columns, the engine walks up"
            f" to {MAP_LIMIT}"
        )
    if len(network.layers) > engine.layer_depth:
        raise EngineError(
            f"{network.name} does not fit: {len(network.layers)} layers, the engine's program holds"
            f" {engine.layer_depth}"
        )
    for index, bound in enumerate(proven):
        if bound.current_bits > engine.current_width:
            raise EngineError(
                f"{network.name} does not fit: {network.layer_name(index)} needs currents of"
                f" {bound.current_bits} bits, the engine has {engine.current_width}"
            )


def _windows(layer, shape, engine):
    """The address walk of one layer, in its element addresses."""
    if isinstance(layer, Readout):
        words = shape.height * shape.width * _words_per_pixel(shape.channels, engine)
        return dict(
            kernel_last=0, depth_last=words * engine.simd - 1, in_height=1, in_width=1, stride=1,
            padding=0, row_jump=0, x_step=0, y_step=0, start=0,
        )
    depth = shape.channels if isinstance(layer, Stem) else _words_per_pixel(shape.channels, engine)
    row = shape.width * depth
    return dict(
        kernel_last=layer.kernel - 1,
        depth_last=depth - 1,
        in_height=shape.height,
        in_width=shape.width,
        stride=layer.stride,
        padding=layer.padding,
        row_jump=row - layer.kernel * depth + 1,
        x_step=layer.stride * depth,
        y_step=layer.stride * row,
        start=-layer.padding * (row + depth),
    )


def _elements_per_word(layer, engine):
    if isinstance(layer, Stem):
        return engine.simd * engine.lanes // 8
    return engine.simd if isinstance(layer, Readout) else 1


def _mean_fields(layer, shape):
    """How the previous layer walks this layer's position classes while it writes."""
    y, x = (
        Axis.of(size, layer.kernel, layer.stride, layer.padding)
        for size in (shape.height, shape.width)
    )
    return dict(
        mean_classes=y.classes * x.classes, mean_classes_x=x.classes,
        mean_low_y=y.low, mean_middle_y=y.low + y.period, mean_high_y=y.high,
        mean_low_x=x.low, mean_middle_x=x.low + x.period, mean_high_x=x.high,
    )


def _record(layer, values, gains):
    """One record, as 16-bit words. Raises EngineError for a value that its field cannot hold."""
    total = 0
    for field in FIELDS:
        value = int(values.get(field.name, 0))
        # Only the row jump is signed; a start below zero wraps with the addresses.
        top = 1 << (field.bits - (field.name == "row_jump"))
        if not -(1 << (field.bits - 1)) <= value < top:
            raise EngineError(
                f"{layer} does not fit: its record would need {field.name} = {value}, and holds"
                f" {field.bits} bits"
            )
        total |= (value & ((1 << field.bits) - 1)) << (16 * field.word + field.shift)
    words = [total >> (16 * word) & 0xFFFF for word in range(field_words())]
    return np.concatenate([np.array(words, np.uint16), _to_words(gains, 16)])


def compile_program(image, engine):
    """Lay ``image`` out for ``engine``. Raises EngineError with one line when it does not fit."""
    _check_widths(image, engine)
    network = image.network
    addresses = _allocate(network, engine)
    weights, channels, means, records, sigmoid = [], [], [], [], []
    used = dict.fromkeys(("weights", "channels", "means"), 0)
    slot = channel_slot_bits(engine)

    for index, (layer, data) in enumerate(zip(network.layers, image.layers, strict=True)):
        shape, out = network.shapes[index], network.shapes[index + 1]
        tiles = -(-layer.channels // engine.pe)
        exact = data.agmm is not None
        values = dict(
            kind=Kind[type(layer).__name__.upper()],
            leak_shift=network.leak_shift,
            pool=int(getattr(layer, "pool", 1) == 2),
            exact_gain=int(exact),
            step_mask=(1 << network.T) - 1,
            tiles_last=tiles - 1,
            channels=layer.channels,
            out_height_last=out.height - 1,
            out_width_last=out.width - 1,
            out_base=addresses[index + 1],
            weight_base=used["weights"],
            channel_base=used["channels"],
        )
        if exact:
            sigmoid = data.agmm.sigmoid
        walk = _windows(layer, shape, engine)
        walk["start"] += addresses[index] * _elements_per_word(layer, engine)
        values |= walk

        if isinstance(layer, Conv):
            words = _binary_words(data.weights, engine)
            negative = (~data.weights).reshape(layer.channels, -1).sum(axis=1)
            bias = data.bias - (negative << formats.FRACTION)
        elif isinstance(layer, Stem):
            by_element = np.transpose(data.weights, (0, 2, 3, 1)).reshape(layer.channels, -1)
            words, bias = _byte_words(by_element, engine), data.bias
        else:
            by_element = _readout_weights(data.weights, shape, engine)
            words, bias = _byte_words(by_element, engine), data.bias
        weights.append(words)
        used["weights"] += len(words) * 16 // (engine.pe * engine.simd)

        if isinstance(layer, Readout):
            entries = _to_words(bias, 2 * slot).reshape(layer.channels, -1)
        else:
            parts = [
                _to_words(part, slot).reshape(layer.channels, -1) for part in (bias, data.threshold)
            ]
            entries = np.concatenate(parts, axis=1)
        entries = _pad_to(entries, 0, engine.pe, 0)
        channels.append(entries.ravel())
        used["channels"] += len(entries)

        gains = np.full(engine.lanes, formats.GAIN_ONE, np.int64)
        if exact:
            gains[: network.T] = data.agmm.factor
            values |= dict(mean_offset=data.agmm.offset, mean_shift=data.agmm.shift)
            records[-1][0].update(
                mean_next=1, mean_base=used["means"] // engine.units, **_mean_fields(layer, shape)
            )
            table = data.agmm.table.reshape(shape.channels, -1)
            table = _pad_to(table, 0, engine.pe, 0)
            # The entries of channels that are written together share a word.
            table = table.reshape(-1, engine.units, table.shape[1]).transpose(0, 2, 1)
            means.append(_to_words(table, formats.TABLE_BITS))
            used["means"] += table.size
        elif data.gain is not None:
            gains[: network.T] = data.gain
        records.append((values, gains))

    limits = (
        ("weights", "weights", engine.weight_depth),
        ("channels", "biases and thresholds", engine.channel_depth),
        ("means", "AGMM position tables", engine.mean_depth),
    )
    for name, meaning, depth in limits:
        if used[name] > depth:
            raise EngineError(
                f"{network.name} does not fit: {used[name]} words of {meaning}, the engine has"
                f" {depth}"
            )
    program = np.zeros((len(records), record_stride(engine)), np.uint16)
    for index, (values, gains) in enumerate(records):
        words = _record(f"{network.name}: {network.layer_name(index)}", values, gains)
        program[index, : len(words)] = words
    return Program(
        engine=engine,
        network=network,
        regions={
            Region.WEIGHTS: np.concatenate(weights),
            Region.CHANNELS: np.concatenate(channels),
            Region.MEANS: np.concatenate([*means, np.zeros(0, np.uint16)]),
            Region.SIGMOID: np.array(sigmoid, np.uint16),
            Region.PROGRAM: program.ravel(),
        },
        frame_words=-(-network.input.size // 2),
        boundaries=tuple(addresses[1:]),
    )
