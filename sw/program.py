"""A network image laid out for one engine: the contents of every memory, word by word.

The image knows nothing of folding; here spike maps get their addresses, and each layer becomes a
record (``sw.record``) that the sequencer reads; ``sw.packing`` cuts weights and tables into words.
What does not fit is refused here, before anything reaches a device. All words are 16 bits, as the
host writes them; wider memory words are sent low part first.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np

from sw import formats
from sw.bounds import ExportError, check
from sw.engine import EngineError
from sw.layers import Conv, Network, Readout, Stem, projects
from sw.packing import (
    binary_words,
    byte_words,
    channel_slot_bits,
    channel_words,
    logit_words,
    pad_to,
    readout_planes,
    table_words,
    to_words,
)
from sw.positions import Axis
from sw.protocol import BLOCK_WORDS, Flags, encode_run, encode_write, encode_writes
from sw.record import MAP_LIMIT, Kind, field_words, fields, record_stride
from sw.stream import check_stream, projection_fields, stream_bases, stream_fields
from sw.strips import strips

__all__ = ["Program", "Region", "compile_program", "region_words"]


class Region(IntEnum):
    """Memories the host can write. A stem core has its own of some."""

    SPIKES = 0
    WEIGHTS = 1
    CHANNELS = 2
    MEANS = 3
    SIGMOID = 4
    PROGRAM = 5
    FRAME = 6
    STEM_WEIGHTS = 9
    STEM_CHANNELS = 10
    STEM_MEANS = 11
    STEM_PROGRAM = 13

    @property
    def of_stem(self):
        return Region(self + 8)


def _core_words(core, weight_bits):
    words = {
        Region.WEIGHTS: core.weight_depth * weight_bits // 16,
        Region.CHANNELS: core.channel_depth * channel_slot_bits(core) // 8,
        Region.PROGRAM: core.layer_depth * record_stride(core),
    }
    return words | {Region.MEANS: core.mean_depth} if core.exact_gain else words


def region_words(engine):
    """Region -> 16-bit words of it: the addresses that the host may write."""
    words = {
        Region.SPIKES: engine.spike_depth * engine.simd * engine.lanes // 16,
        Region.FRAME: engine.frame_depth,
    } | _core_words(engine, engine.pe * engine.simd)
    if engine.exact_gain:
        words[Region.SIGMOID] = 2 * formats.INDEX_LIMIT
    if engine.stem:
        stem = _core_words(engine.stem, 8 * engine.stem.pe)
        words |= {region.of_stem: count for region, count in stem.items()}
    return words


@dataclass(frozen=True)
class Program:
    """Everything the host writes, what it runs, and where it finds what it reads.

    regions: Region -> uint16 words to write from address 0. frame_region, frame_address: where the
    words of ``pack_frame`` go. boundaries: for each layer, the first spike word of its output.
    ahead: whether a stem core has room to work on the next frame while the other layers run; frames
    then take turns on the two sides of the spike memory, which are mirror images of each other:
    word a of one is word spike_depth - 1 - a of the other. Without a stem core there is one side
    only, whatever ``side`` says.
    """

    engine: object
    network: Network
    regions: dict
    boundaries: tuple
    ahead: bool

    @property
    def has_stem_core(self):
        """Whether the network's stem runs on a core of its own."""
        return _has_stem_core(self.network, self.engine)

    @property
    def frame_region(self):
        return Region.SPIKES if self.network.coded else Region.FRAME

    @property
    def frame_address(self):
        return self.boundary_words(0)[0] if self.network.coded else 0

    def pack_frame(self, frame):
        """A frame, uint8 ``network.frame_shape``, as uint16 words.

        The bytes in the order row, column, channel, and a zero if their number is odd; of Events
        and Pixels the spikes that they are, as a layer would leave them.
        """
        expected = self.network.frame_shape
        if frame.shape != expected or frame.dtype != np.uint8:
            raise EngineError(
                f"a frame of {self.network.name} is {expected} bytes, got {frame.shape}"
                f" {frame.dtype}"
            )
        if self.network.coded:
            thresholds = self.network.layers[0].thresholds
            spikes = np.concatenate([frame > threshold for threshold in thresholds], axis=-3)
            return self._pack_spikes(np.broadcast_to(spikes, (self.network.T, *spikes.shape[-3:])))
        data = np.transpose(frame, (1, 2, 0)).ravel()
        return np.pad(data, (0, len(data) % 2)).view("<u2")

    def _pack_spikes(self, spikes):
        """Spikes [T, C, H, W] of the first map: the inverse of ``unpack_boundary``."""
        engine, cut = self.engine, strips(self.network, self.engine)[0]
        passes, pixels = engine.passes_of(self.network.T), engine.pixels
        maps = np.transpose(spikes, (2, 3, 1, 0)).astype(np.uint8)
        maps = pad_to(pad_to(maps, 2, engine.simd, 0), 3, passes * engine.steps, 0)
        # Rows above and below, so that every strip can be cut out with its halos.
        short = pixels * cut.rows - len(maps)
        maps = np.pad(maps, ((cut.above, short + cut.below), (0, 0), (0, 0), (0, 0)))
        stored = np.stack([
            maps[pixel * cut.rows :][: cut.stored_rows] for pixel in range(pixels)
        ], axis=3)
        stored = stored.reshape(*stored.shape[:4], passes, engine.steps)
        # Pass, row, column, channel, strip, step.
        bits = np.transpose(stored, (4, 0, 1, 2, 3, 5))
        return np.packbits(bits, bitorder="little").view("<u2")

    def run_layer(self, index, side=0):
        """The command that runs one layer, of a frame on that side of the spike memory."""
        if index == 0 and self.network.coded:
            raise EngineError(f"{self.network.layer_name(0)} is written by the host, not run")
        if self.has_stem_core and index == 0:
            return encode_run(0, 0, Flags.STEM | (Flags.STEM_SIDE if side else 0))
        records = _records(self.network, self.engine)
        return encode_run(records.index(index), records.count(index), Flags(side))

    def run_network(self, side=0):
        """The command that runs all layers but a stem core's, and replies with the logits' words.

        Where the stem works ahead, it runs too, on the next frame and for the other side.
        """
        flags = Flags(side)
        if self.ahead:
            flags |= Flags.STEM | (0 if side else Flags.STEM_SIDE)
        return encode_run(
            0, len(_records(self.network, self.engine)), flags,
            *self.boundary_words(len(self.network.layers) - 1, side),
        )

    @property
    def stamp(self):
        """Two words that say what a device has loaded: the CRC-32 of all regions."""
        octets = b"".join(
            bytes([region]) + words.astype("<u2").tobytes()
            for region, words in self.regions.items()
        )
        return np.frombuffer(zlib.crc32(octets).to_bytes(4, "little"), "<u2")

    @property
    def contents(self):
        """Region -> uint16 words of the whole memory when all is loaded; not of the frame."""
        filled = {
            region: np.zeros(size, np.uint16)
            for region, size in region_words(self.engine).items() if region != Region.FRAME
        }
        for region, words in self.regions.items():
            filled[region][: len(words)] = words
        address = stamp_address(self.engine)
        filled[Region.SPIKES][address : address + len(self.stamp)] = self.stamp
        return filled

    def load_commands(self):
        """The WRITEs of a load.

        The stamp is 0 until all is there: who finds it knows that nothing is missing.
        """
        address, stamp = stamp_address(self.engine), self.stamp
        yield encode_write(Region.SPIKES, address, np.zeros_like(stamp))
        for region, words in self.regions.items():
            yield from encode_writes(region, 0, words, BLOCK_WORDS)
        yield encode_write(Region.SPIKES, address, stamp)

    def frame_commands(self):
        """The commands of a frame: its data, all zero, and the runs that take it to its logits.

        Where the stem works ahead, the frame that is sent is the next one.
        """
        words = self.pack_frame(np.zeros(self.network.frame_shape, np.uint8))
        stem_apart = self.has_stem_core and not self.ahead
        return [
            *encode_writes(self.frame_region, self.frame_address, words, BLOCK_WORDS),
            *([self.run_layer(0)] if stem_apart else []),
            self.run_network(),
        ]

    def boundary_words(self, index, side=0):
        """16-bit address and number of words of layer ``index``'s output in SPIKES."""
        bank = self.engine.simd * self.engine.lanes // 16
        words = _spike_words(self.network, self.engine)[index]
        first = self.boundaries[index]
        if side and self.engine.stem:
            first = self.engine.spike_depth - first - words
        return first * bank, words * bank

    def unpack_boundary(self, index, words, side=0):
        """Spikes uint8 [T, C, H, W] of a layer, or logits int32 [classes], from uint16 words."""
        engine = self.engine
        shape = self.network.shapes[index + 1]
        bank = engine.simd * engine.lanes // 16
        words = np.asarray(words, dtype="<u2").reshape(-1, bank)
        words = np.ascontiguousarray(words[::-1] if side and engine.stem else words)
        if isinstance(self.network.layers[index], Readout):
            logits = words[:, : 2 * engine.units].copy().view("<i4")
            return logits.ravel()[: shape.channels]
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        cut = strips(self.network, engine)[index]
        stored = bits.reshape(
            engine.passes_of(self.network.T), cut.stored_rows, shape.width, -1, engine.pixels,
            engine.steps,
        )
        # Rows of a strip, then the strips one after the other; the passes with their steps.
        rows = np.transpose(stored[:, cut.above :][:, : cut.rows], (4, 1, 2, 3, 0, 5))
        maps = rows.reshape(engine.pixels * cut.rows, shape.width, rows.shape[3], -1)
        real = maps[: shape.height, :, : shape.channels, : self.network.T]
        silent = maps.sum() - real.sum()
        if silent:
            raise EngineError(f"{silent} spikes where layer {index} has none")
        return np.ascontiguousarray(np.transpose(real, (3, 2, 0, 1)))


def _has_stem_core(network, engine):
    return engine.stem is not None and not network.coded


def _first_layer(network, engine):
    """Number of the layer that is the first of the main core's program."""
    return 1 if engine.stem or network.coded else 0


def _records(network, engine):
    """The layer of each record of the main core's program."""
    first = _first_layer(network, engine)
    return [
        index for index, layer in enumerate(network.layers) if index >= first
        for _ in range(1 + projects(layer))
    ]


def _words_per_pixel(channels, engine):
    return -(-channels // engine.simd)


def _spike_words(network, engine):
    """Words of every layer's output, halos and all: a plane for each pass."""
    passes = engine.passes_of(network.T)
    return [passes * words for words in _plane_words(network, engine)] + [
        -(-network.shapes[-1].channels // engine.units)
    ]


def _plane_words(network, engine):
    """Words of one pass, of every layer's output but the logits."""
    maps = zip(strips(network, engine), network.shapes[1:], strict=False)
    return [
        cut.stored_rows * shape.width * _words_per_pixel(shape.channels, engine)
        for cut, shape in maps
    ]


def _allocate(network, engine):
    """First spike word of every layer's output, and whether a stem works ahead.

    Outputs lie at alternating ends. A stem works ahead if its next map fits beside all others.
    Word 0 stays zero, for taps outside a map; on the other side that is the last word. So does the
    word of the stamp (``stamp_address``), which is word 1 on the other side.
    """
    sizes = _spike_words(network, engine)
    needs = [before + after for before, after in pairwise(sizes)]
    bottom, top = (2, engine.spike_depth - 2) if engine.stem else (1, engine.spike_depth - 1)
    worst, room = max(needs), top - bottom
    if worst > room:
        raise EngineError(
            f"{network.name} does not fit: {network.layer_name(needs.index(worst) + 1)} needs"
            f" {worst} spike words for its input and output, the engine has {room}"
        )
    ahead = _has_stem_core(network, engine) and worst + sizes[0] <= room
    if ahead:
        top -= sizes[0]
    return [bottom if index % 2 == 0 else top - size for index, size in enumerate(sizes)], ahead


def _check_widths(image, engine):
    """Refuse an image whose proven bounds exceed the formats or the widths of this engine."""
    network = image.network
    try:
        proven = check(image)
    except ExportError as error:
        raise EngineError(f"{network.name} does not fit: {error}") from error
    passes = engine.passes_of(network.T)
    if passes > engine.passes:
        raise EngineError(
            f"{network.name} does not fit: T={network.T}, the engine has {engine.steps} lanes"
            f"{' for each pixel' if engine.pixels > 1 else ''} in {engine.passes}"
            f" {'passes' if engine.passes > 1 else 'pass'}"
        )
    if not engine.exact_gain and any(layer.agmm is not None for layer in image.layers):
        raise EngineError(
            f"{network.name} does not fit: the engine has no exact gains, export with --gain frozen"
        )
    for index, layer in enumerate(image.layers):
        if layer.agmm is None:
            continue
        classes = layer.agmm.table.shape[1:]
        if max(classes) > 15 or classes[0] * classes[1] > 127:
            raise EngineError(
                f"{network.name} does not fit: {network.layer_name(index)} has"
                f" {classes[0]} x {classes[1]} position classes for its exact gain, the engine"
                " walks 15 an axis and 127: a smaller kernel, more padding or --gain frozen"
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
    records = len(_records(network, engine))
    if records > engine.layer_depth:
        raise EngineError(
            f"{network.name} does not fit: {records} layers"
            f"{' and projections' if any(map(projects, network.layers)) else ''}, the engine's"
            f" program holds {engine.layer_depth}"
        )
    frame_words = -(-network.input.size // 2)
    if frame_words > engine.frame_depth and not network.coded:
        raise EngineError(
            f"{network.name} does not fit: a frame of {network.input.size} bytes, the engine holds"
            f" {2 * engine.frame_depth}"
        )
    check_stream(network, engine)
    # The array counts modulo 2**bits; what wraps around in a current comes back with the bias.
    # A readout counts over all passes, and has as many bits more.
    inputs, bits = network.shapes[-2].size, engine.current_width - formats.FRACTION
    if inputs >= 1 << bits:
        raise EngineError(
            f"{network.name} does not fit: {network.layer_name(len(network.layers) - 1)} has"
            f" {inputs} inputs, the engine counts to {(1 << bits) - 1}"
        )
    for index, bound in enumerate(proven):
        if bound.current_bits > engine.current_width:
            raise EngineError(
                f"{network.name} does not fit: {network.layer_name(index)} needs currents of"
                f" {bound.current_bits} bits, the engine has {engine.current_width}"
            )


def _windows(layer, shape, cut, core, passes):
    """The address walk of one layer over a map cut into strips, in its element addresses.

    Of the frame, ``cut`` is None.
    """
    if isinstance(layer, Readout):
        words = cut.rows * shape.width * _words_per_pixel(shape.channels, core)
        return dict(
            kernel_last=0, depth_last=words - 1, in_height=passes * core.pixels, in_width=1,
            stride=1, padding=0, row_jump=0, x_step=0, y_step=0, start=0,
        )
    depth = shape.channels if isinstance(layer, Stem) else _words_per_pixel(shape.channels, core)
    row = shape.width * depth
    # The rows above are stored where a strip has a halo; elsewhere the walk starts outside the map.
    above = layer.padding if cut is None or core.pixels == 1 else 0
    return dict(
        kernel_last=layer.kernel - 1,
        depth_last=depth - 1,
        in_height=shape.height if cut is None else cut.stored_rows,
        in_width=shape.width,
        stride=layer.stride,
        padding=layer.padding,
        row_jump=row - layer.kernel * depth + 1,
        x_step=layer.stride * depth,
        y_step=layer.stride * row,
        start=-(above * row + layer.padding * depth),
    )


def _strip_fields(layer, shape, out, cut, row_words):
    """Where the strips of a layer's output lie, and of a stem, those of the frame."""
    full, rest = divmod(out.height, cut.rows)
    rows = cut.rows * layer.stride * layer.pool
    return dict(
        strip_words=cut.rows * row_words, strip_rows=rows,
        strip_jump=rows * shape.width * shape.channels if isinstance(layer, Stem) else 0,
        full_strips=full, full_rows=rest, halo_above=cut.above, halo_below=cut.below,
    )


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


def _kind(layer):
    """What the sequencer takes a layer for."""
    return next(
        kind for cls, kind in (
            (Stem, Kind.STEM), (Conv, Kind.CONV), (Readout, Kind.READOUT),
        ) if isinstance(layer, cls)
    )


def _record(layer, values, gains, core):
    """One record, as 16-bit words. Raises EngineError for a value that its field cannot hold."""
    total = 0
    for field in fields(core):
        value = int(values.get(field.name, 0))
        # Only the row jump is signed; a start below zero wraps with the addresses.
        top = 1 << (field.bits - (field.name == "row_jump"))
        if not -(1 << (field.bits - 1)) <= value < top:
            raise EngineError(
                f"{layer} does not fit: its record would need {field.name} = {value}, and holds"
                f" {field.bits} bits"
            )
        total |= (value & ((1 << field.bits) - 1)) << (16 * field.word + field.shift)
    words = [total >> (16 * word) & 0xFFFF for word in range(field_words(core))]
    return np.concatenate([np.array(words, np.uint16), to_words(gains, 16)])


def stamp_address(engine):
    """16-bit address in SPIKES of the two words that say which network is loaded.

    No map lies there, on either side. The word of the memory is the last, or with two sides, where
    that is word 0 of the other, the one before.
    """
    return (engine.spike_depth - (2 if engine.stem else 1)) * engine.simd * engine.lanes // 16


class _CoreImage:
    """The memories of one core, filled layer by layer."""

    def __init__(self, core, weight_bits):
        self.core, self.weight_bits = core, weight_bits
        self.words = {region: [] for region in (Region.WEIGHTS, Region.CHANNELS, Region.MEANS)}
        self.records = []

    def used(self, region):
        """16-bit words so far."""
        return sum(len(words) for words in self.words[region])

    def add(self, layer, shape, data, rows, passes):
        """Weights and channels of a layer; the record's fields that place and count them.

        rows: of a strip of its input.
        """
        core = self.core
        if isinstance(layer, Readout):
            bits = readout_planes(data.weights, shape, rows, core)
            return self._place(
                binary_words(bits, core), logit_words(data.bias, bits, core, passes)
            )
        if isinstance(layer, Conv):
            words = binary_words(data.weights, core)
            negative = (~data.weights).reshape(layer.channels, -1).sum(axis=1)
            excess = negative << formats.FRACTION
        else:
            taps = np.transpose(data.weights, (0, 2, 3, 1))
            words, excess = byte_words(taps, core, self.weight_bits), 0
        return self._place(
            words, self._channels(data.bias, data.threshold, data.slope, excess)
        )

    def _place(self, words, channels):
        """Appends the weights of a layer, and an entry for each channel of its tiles."""
        values = dict(
            weight_base=self.used(Region.WEIGHTS) * 16 // self.weight_bits,
            channel_base=self.used(Region.CHANNELS) * 8 // channel_slot_bits(self.core),
            tiles_last=len(channels) // self.core.pe - 1,
        )
        self.words[Region.WEIGHTS].append(words)
        self.words[Region.CHANNELS].append(channels.ravel())
        return values

    def _channels(self, bias, threshold, slope, excess=0):
        """Entries of channels whose currents without bias come ``excess`` too large."""
        if slope is None:
            return channel_words(bias - excess, threshold, self.core)
        # Added before the fraction is dropped, half a unit included.
        shift = formats.SLOPE_FRACTION
        offset = (bias << shift) + (1 << (shift - 1)) - slope * excess
        return channel_words(offset, slope, self.core)

    def add_projection(self, data):
        """Weights and channels of a Projection; the record's fields that place and count them."""
        words = byte_words(data.weights, self.core, self.weight_bits)
        return self._place(words, self._channels(data.bias, None, data.slope))

    def add_table(self, layer, shape, table):
        """The position table of the layer that reads what the last one writes."""
        self.records[-1][0].update(
            mean_next=1, mean_base=self.used(Region.MEANS) // self.core.units,
            **_mean_fields(layer, shape),
        )
        self.words[Region.MEANS].append(table_words(table, self.core))

    def regions(self, network, layers, owner):
        """Region -> words, of records of these ``layers``; refused if they do not fit."""
        core, slot = self.core, channel_slot_bits(self.core)
        limits = (
            (Region.WEIGHTS, "weights", self.weight_bits // 16, core.weight_depth),
            (Region.CHANNELS, "biases and thresholds", slot // 8, core.channel_depth),
            (Region.MEANS, "AGMM position tables", 1, core.mean_depth),
        )
        for region, meaning, size, depth in limits:
            if self.used(region) > depth * size:
                raise EngineError(
                    f"{network.name} does not fit: {self.used(region) // size} words of {meaning},"
                    f" the {owner} has {depth}"
                )
        program = np.zeros((len(self.records), record_stride(core)), np.uint16)
        for index, (layer, (values, gains)) in enumerate(zip(layers, self.records, strict=True)):
            words = _record(f"{network.name}: {network.layer_name(layer)}", values, gains, core)
            program[index, : len(words)] = words
        return {
            region: np.concatenate([*words, np.zeros(0, np.uint16)])
            for region, words in self.words.items()
        } | {Region.PROGRAM: program.ravel()}


def compile_program(image, engine):
    """Lay ``image`` out for ``engine``. Raises EngineError with one line when it does not fit."""
    _check_widths(image, engine)
    network = image.network
    boundaries, ahead = _allocate(network, engine)
    bases = stream_bases(network, engine)
    main = stem = _CoreImage(engine, engine.pe * engine.simd)
    if engine.stem:
        stem = _CoreImage(engine.stem, 8 * engine.stem.pe)
    sigmoid, before = [], None
    maps = [None, *strips(network, engine), None]
    planes, passes = [0, *_plane_words(network, engine), 0], engine.passes_of(network.T)
    last_pass_steps = network.T - (passes - 1) * engine.steps

    for index, (layer, data) in enumerate(zip(network.layers, image.layers, strict=True)):
        if network.coded and index == 0:
            continue
        shape, out = network.shapes[index], network.shapes[index + 1]
        core, cut, out_cut = (stem if index == 0 else main), maps[index], maps[index + 1]
        values = dict(
            kind=_kind(layer),
            leak_shift=network.leak_shift,
            pool=int(getattr(layer, "pool", 1) == 2),
            exact_gain=int(data.agmm is not None),
            step_mask=sum(
                ((1 << last_pass_steps) - 1) << p * engine.steps for p in range(engine.pixels)
            ),
            channels=layer.channels,
            out_height_last=out.height - 1,
            out_width_last=out.width - 1,
            out_base=boundaries[index],
            first_pass=engine.passes - passes,
            in_plane=planes[index],
            out_plane=planes[index + 1],
            **_windows(layer, shape, cut, engine, passes),
            **stream_fields(network, index, engine, bases[index]),
            **core.add(layer, shape, data, cut and cut.rows, passes),
        )
        if out_cut is not None:
            row_words = out.width * _words_per_pixel(out.channels, engine)
            values["out_height_last"] = out_cut.rows - 1
            values["out_base"] += out_cut.above * row_words
            values |= _strip_fields(layer, shape, out, out_cut, row_words)
        if index:
            values["start"] += boundaries[index - 1]
        gains = np.full(
            (passes, engine.pixels, engine.steps), formats.GAIN_ONE, np.int64
        )
        if data.agmm is not None:
            sigmoid = data.agmm.sigmoid
            values |= dict(mean_offset=data.agmm.offset, mean_shift=data.agmm.shift)
            before.add_table(layer, shape, data.agmm.table)
        if data.gain is not None or data.agmm is not None:
            words = data.gain if data.agmm is None else data.agmm.factor
            for step, word in enumerate(words):
                gains[step // engine.steps, :, step % engine.steps] = word
        if projects(layer):
            projection = projection_fields(
                layer, shape, out, engine, bases[index], bases[index - 1], passes
            ) | core.add_projection(data.projection)
            ones = np.full(passes * engine.lanes, formats.GAIN_ONE, np.int64)
            core.records.append((projection, ones))
        core.records.append((values, gains.ravel()))
        before = core

    regions = main.regions(network, _records(network, engine), "engine")
    if stem is not main:
        words = stem.regions(network, range(len(stem.records)), "stem core")
        regions |= {region.of_stem: w for region, w in words.items()}
    regions |= {
        Region.SPIKES: np.zeros(engine.simd * engine.lanes // 16, np.uint16),
        Region.SIGMOID: np.array(sigmoid, np.uint16),
    }
    return Program(
        engine=engine,
        network=network,
        regions={region: regions[region] for region in region_words(engine) if region in regions},
        boundaries=tuple(boundaries),
        ahead=ahead,
    )
