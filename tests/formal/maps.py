"""What ``sw.program`` writes into records: where maps are, and steps that lead to their words.

Its functions are called with integers of z3.
"""

from contextlib import suppress
from functools import partial, reduce
from itertools import pairwise, product
from types import SimpleNamespace
from unittest.mock import patch

import z3

from sw import packing, program
from sw.engine import EngineError
from sw.layers import Conv, Readout, Stem
from sw.record import MAP_LIMIT
from sw.strips import Strips, strips
from tests.formal.proof import Claim
from tests.mutants.mutation import Mutation

__all__ = ["PROOFS"]


def _ways(function):
    """(conditions, result) of each way that a function of z3 integers may go, but to EngineError.

    A condition that it asks for is taken for true, and in another call for false.
    """
    results, open_ways = [], [[]]
    while open_ways:
        way, path = open_ways.pop(), []

        def decide(condition, way=way, path=path):
            if len(path) == len(way):
                open_ways.append([*way, False])
                way.append(True)
            path.append(condition if way[len(path)] else z3.Not(condition))
            return way[len(path) - 1]

        with patch.object(z3.BoolRef, "__bool__", decide), suppress(EngineError):
            results.append((path, function()))
    return results


def maps_apart():
    """What ``_allocate`` gives networks of up to 6 layers, on engines with a stem core or without.

    Maps of any sizes, at any depth of the memory. A map is read by the next layer, which writes the
    next one; a stem that works ahead writes its map on the other side while all the others are
    read and written.
    """
    depth = z3.Int("depth")
    claims = {}
    for stem, coded, layers in product((False, True), (False, True), range(2, 7)):
        sizes = [z3.Int(f"size_{index}") for index in range(layers)]
        engine = SimpleNamespace(stem=stem or None, spike_depth=depth)
        network = SimpleNamespace(coded=coded, name="", layer_name=str)
        with patch.object(program, "_spike_words", lambda network, engine, sizes=sizes: sizes):
            ways = _ways(partial(program._allocate, network, engine))
        for number, (conditions, (firsts, ahead)) in enumerate(ways):
            maps = [(first, first + size) for first, size in zip(firsts, sizes, strict=True)]
            # Neither word 0 nor that of the stamp, on any side.
            spared = 2 if stem else 1
            apart = [
                z3.And(first >= spared, end <= depth - spared) for first, end in maps
            ] + [z3.Or(a[1] <= b[0], b[1] <= a[0]) for a, b in pairwise(maps)]
            first, end = depth - maps[0][1], depth - maps[0][0]
            apart += [z3.Implies(ahead, z3.Or(end <= a[0], a[1] <= first)) for a in maps]
            given = [*conditions, *(size >= 1 for size in sizes)]
            name = f"{layers} layers{', stem core' * stem}{', coded' * coded}, way {number}"
            claims[name] = z3.Implies(z3.And(given), z3.And(apart))
    return claims


def fields_place_taps():
    """The steps that ``_windows`` gives a Conv or Stem lead to its taps, and those in the map.

    Of all sizes; a map begins at element 0, and ``compile_program`` adds where it does. With
    strips the height is that of the rows that are stored of one, but of a frame its own. Assumed is
    what ``Conv.conv_shape`` and ``sw.strips`` make of the sizes: that the last window ends in the
    padding, or in the last row that is stored.
    """
    names = "height width words kernel padding y x right below ky kx depth rows columns"
    v = SimpleNamespace(**{name: z3.Int(name) for name in names.split()})
    claims = {}
    for stride, pool, pixels, frame in product((1, 2), (1, 2), (1, 2), (False, True)):
        layer = SimpleNamespace(kernel=v.kernel, stride=stride, padding=v.padding)
        shape = SimpleNamespace(height=v.height, width=v.width, channels=None)
        cut, engine = SimpleNamespace(stored_rows=v.height), SimpleNamespace(pixels=pixels)
        with (
            patch.object(program, "_words_per_pixel", lambda channels, engine: v.words),
            patch.object(program, "strips", lambda network, engine, cut=cut: [cut]),
        ):
            record = program._windows(layer, shape, None if frame else cut, engine, 1)
            size, = program._plane_words(SimpleNamespace(shapes=[None, shape]), engine)
        above = v.padding if pixels == 1 or frame else 0
        row = (v.kernel - 1) * v.words + record["depth_last"] + record["row_jump"]
        element = (
            record["start"] + pool * (v.y * record["y_step"] + v.x * record["x_step"])
            + v.below * record["y_step"] + v.right * record["x_step"]
            + v.ky * row + v.kx * (record["depth_last"] + 1) + v.depth
        )
        tap_y = (v.y * pool + v.below) * stride + v.ky - above
        tap_x = (v.x * pool + v.right) * stride + v.kx - v.padding
        name = f"stride {stride}, pool {pool}{', strips' * (pixels > 1)}{', frame' * frame}"
        claims[f"{name}: address"] = element == (tap_y * v.width + tap_x) * v.words + v.depth
        counts = z3.And(
            v.kernel >= 1, v.kernel <= 8, v.padding >= 0, v.padding <= 3,
            *(z3.And(count >= 0, count < end) for count, end in (
                (v.y, v.rows), (v.x, v.columns), (v.below, pool), (v.right, pool),
                (v.ky, v.kernel), (v.kx, v.kernel),
            )),
            (v.rows * pool - 1) * stride + v.kernel <= v.height + 2 * above,
            (v.columns * pool - 1) * stride + v.kernel <= v.width + 2 * v.padding,
            v.height <= MAP_LIMIT, v.width <= MAP_LIMIT,
        )
        # Coordinates of 7 bits tell those in the map from those above and left of it.
        claims[f"{name}: coordinates"] = z3.Implies(counts, z3.And(*(
            ((tap % 128) < limit) == z3.And(tap >= 0, tap < side)
            for tap, limit, side in (
                (tap_y, record["in_height"], v.height), (tap_x, record["in_width"], v.width),
            )
        )))
    # Of a tap that is inside: the last of its pixel, of its row, of the map is no further.
    tap_y, tap_x, number, passes = z3.Ints("tap_y tap_x pass passes")
    inside = z3.And(*(z3.And(place >= 0, place < end) for place, end in (
        (tap_y, v.height), (tap_x, v.width), (v.depth, v.words), (number, passes),
    )))
    place = (tap_y * v.width + tap_x) * v.words + v.depth
    claims["inside"] = z3.Implies(inside, z3.And(place >= 0, place < size))
    # The planes of passes are as far apart as they are large.
    element = z3.Int("element")
    claims["inside, in passes"] = z3.Implies(
        z3.And(inside, element >= 0, element < size),
        z3.And(number * size + element >= 0, number * size + element < passes * size),
    )
    # A readout takes the words of a plane one after the other.
    cut = SimpleNamespace(rows=v.height)
    with patch.object(program, "_words_per_pixel", lambda channels, engine: v.words):
        record = program._windows(Readout(1), shape, cut, engine, 1)
    claims["readout"] = z3.And(record["start"] == 0, record["depth_last"] + 1 == size)
    return claims


#: What Python's integers have besides. That of z3 floors for a positive divisor.
_DIVISION = patch.multiple(
    z3.ArithRef, create=True, __floordiv__=lambda number, divisor: number / divisor,
    __divmod__=lambda number, divisor: (number / divisor, number % divisor),
)


def _largest(*values):
    first, *others = values if len(values) > 1 else values[0]
    return reduce(lambda one, other: z3.If(one >= other, one, other), others, first)


def halos_fit():
    """What ``strips`` gives networks with two or three maps: a halo is of one neighbour's rows.

    Of maps and kernels of any sizes, with strides and pooling.
    """
    claims = {}
    for scales in (*product((1, 2, 4), repeat=1), *product((1, 2, 4), repeat=2)):
        count = len(scales) + 1
        heights = z3.Ints(" ".join(f"height_{index}" for index in range(count)))
        kernels, paddings = (
            z3.Ints(" ".join(f"{name}_{index}" for index in range(count)))
            for name in ("kernel", "padding")
        )
        convs = []
        for scale, kernel, padding in zip(scales, kernels, paddings, strict=False):
            convs.append(Conv(1, stride=min(scale, 2), pool=scale // min(scale, 2)))
            vars(convs[-1]).update(kernel=kernel, padding=padding)
        network = SimpleNamespace(
            layers=[Stem(1), *convs, Readout(1)], name="", layer_name=str,
            shapes=[None, *(SimpleNamespace(height=height) for height in heights), None],
        )
        given = z3.And(*(value >= 1 for value in heights), *(value >= 0 for value in paddings))
        for pixels in (1, 2, 4, 8, 16):
            with _DIVISION, patch("sw.strips.max", _largest):
                ways = _ways(partial(strips, network, SimpleNamespace(pixels=pixels)))
            for number, (conditions, cuts) in enumerate(ways):
                claims[f"{pixels} strips, strides {scales}, way {number}"] = z3.Implies(
                    z3.And(given, *conditions), z3.And(*(
                        z3.And(
                            cut.rows >= 1, pixels * cut.rows >= height,
                            cut.above >= 0, cut.above <= cut.rows,
                            cut.below >= 0, cut.below <= cut.rows,
                        ) for cut, height in zip(cuts, heights, strict=True)
                    )),
                )
    return claims


class _Records:
    """The memories of a core of which only what ``compile_program`` says itself is kept."""

    def __init__(self, core, weight_bits):
        self.records = []

    def add(self, *args):
        return {}

    def regions(self, *args):
        return {}


def _tiles_last(channels, pe):
    """The record's field for so many channels, whose entries are padded, then counted."""
    entries = SimpleNamespace(shape=[channels], ndim=1)
    image = SimpleNamespace(
        core=SimpleNamespace(pe=pe), weight_bits=16, used=lambda region: 0,
        words={program.Region.WEIGHTS: [], program.Region.CHANNELS: []},
    )

    def pad(entries, widths, **_):
        return SimpleNamespace(count=entries.shape[0] + sum(widths[0]), ravel=lambda: None)

    with (
        patch.object(packing, "np", SimpleNamespace(pad=pad)),
        patch("sw.program.len", lambda padded: padded.count),
        patch.object(program, "channel_slot_bits", lambda core: 8),
    ):
        padded = packing.pad_to(entries, 0, pe, 0)
        return program._CoreImage._place(image, None, padded)["tiles_last"]


def writes_in_map():
    """Words that the Writer writes for the records of ``compile_program`` are those of the map.

    Of any widths and channels; ``channels`` stands for the words of a pixel, as many as the Writer
    makes of its tiles. What it writes is asserted with ``writer-places``: pixel after pixel from
    ``out_base`` on, in each pass ``out_plane`` further, and ``strip_words`` higher and lower what
    is in a halo; and with ``writer-logits``. Each is the word of its row as ``strips`` stores rows:
    those of the halo above, of the strip, of the halo below. The map begins where ``_allocate``
    says, any number here, and is as large as ``_spike_words`` says, on which ``maps-apart`` rests.
    Of strips all is assumed that ``halos-fit`` states.
    """
    maps, claims = 3, {}
    first = z3.Ints(" ".join(f"first_{index}" for index in range(maps + 1)))
    names = "rows above below width channels y x word number group"
    v = SimpleNamespace(**{name: z3.Int(name) for name in names.split()})
    shape = SimpleNamespace(height=z3.Int("height"), width=v.width, channels=v.channels)
    cut = Strips(v.rows, v.above, v.below)
    classes, units = z3.Int("classes"), 4
    network = SimpleNamespace(
        layers=[Stem(1), Conv(1), Conv(1), Readout(classes)], T=16, coded=False, leak_shift=1,
        shapes=[shape] * (maps + 1) + [SimpleNamespace(channels=classes, height=1, width=1)],
    )
    data = SimpleNamespace(agmm=None, gain=None)
    image = SimpleNamespace(network=network, layers=[data] * len(network.layers))
    for passes in range(1, 17):
        engine = SimpleNamespace(
            pe=4, simd=16, lanes=2, units=units, pixels=2, steps=1, passes=16, stem=None,
            passes_of=lambda T, passes=passes: passes,
        )
        made = []
        with _DIVISION, patch.multiple(
            program, _check_widths=lambda *args: None, strips=lambda *args: [cut] * maps,
            _allocate=lambda *args: (first, False), region_words=lambda engine: {},
            _words_per_pixel=lambda channels, engine: channels,
            stream_bases=lambda *args: first, stream_fields=lambda *args: {},
            _CoreImage=lambda *args, made=made: made.append(_Records(*args)) or made[-1],
        ):
            program.compile_program(image, engine)
            sizes = program._spike_words(network, engine)
            planes = program._plane_words(network, engine)
        records = [values for values, _ in made[0].records]
        for index, record in enumerate(records[:-1]):
            place = (
                record["out_base"] + v.number * record["out_plane"]
                + (v.y * (record["out_width_last"] + 1) + v.x) * v.channels + v.word
            )
            given = z3.And(
                v.rows >= 1, v.above >= 0, v.above <= v.rows, v.below >= 0, v.below <= v.rows,
                *(z3.And(value >= 0, value < end) for value, end in (
                    (v.y, record["out_height_last"] + 1), (v.x, record["out_width_last"] + 1),
                    (v.word, v.channels), (v.number, engine.passes - record["first_pass"]),
                )),
            )
            for name, written, moved, strip in (
                ("place", True, 0, 0),
                ("halo below", v.y < record["halo_below"], record["strip_words"], 1),
                ("halo above", v.y + record["halo_above"] > record["out_height_last"],
                 -record["strip_words"], -1),
            ):
                word, row = place + moved - first[index], v.above + v.y + strip * v.rows
                stored = (row * v.width + v.x) * v.channels + v.word
                claims[f"layer {index}, {passes} passes: {name}"] = z3.Implies(
                    z3.And(given, written), z3.And(
                        row >= 0, row < cut.stored_rows, word == v.number * planes[index] + stored,
                        word >= 0, word < sizes[index],
                    )
                )
        record = records[-1]
        word = record["out_base"] + v.group - first[-1]
        claims[f"logits, {passes} passes"] = z3.Implies(
            z3.And(v.group >= 0, v.group * units < record["channels"]),
            z3.And(word >= 0, word < sizes[-1]),
        )
    for pe, simd in product((4, 8, 16, 32, 64, 128), repeat=2):
        if pe <= simd:
            engine = SimpleNamespace(pe=pe, simd=simd)
            with _DIVISION:
                words = program._words_per_pixel(v.channels, engine)
                counted = _tiles_last(v.channels, pe) // (simd // pe) + 1
            claims[f"words of {simd} channels, tiles of {pe}"] = z3.Implies(
                v.channels >= 1, counted == words
            )
    return claims


PROOFS = [
    Claim(
        "walk-fields", "the steps of a record lead to the words of the taps, which are in the map",
        fields_place_taps, Mutation(
            "sw/program.py", "row_jump=row - layer.kernel * depth + 1",
            "row_jump=row - layer.kernel * depth", "a kernel's next row is a word too near",
        ),
    ),
    Claim(
        "maps-apart", "the maps that a layer reads and writes have no word in common",
        maps_apart, Mutation(
            "sw/program.py", "if worst > room:", "if worst > room + 1:",
            "two maps may be a word too large",
        ),
    ),
    Claim(
        "halos-fit", "no halo has more rows than a strip, and strips cover their map",
        halos_fit, Mutation(
            "sw/strips.py", "if max(above, below) > last * scale:", "if above > last * scale:",
            "a halo below may be higher than a strip",
        ),
    ),
    Claim(
        "writes-in-map", "all words of a layer's output, halos and logits, are those of its map",
        writes_in_map, Mutation(
            "sw/program.py", 'values["out_base"] += out_cut.above * row_words\n', "pass\n",
            "a map begins in its halo",
        ),
    ),
]
