"""What ``sw.program`` writes into records: where maps are, and steps that lead to their words.

Its functions are called with integers of z3.
"""

from contextlib import suppress
from functools import partial
from itertools import pairwise, product
from types import SimpleNamespace
from unittest.mock import patch

import z3

from sw import program
from sw.engine import EngineError
from sw.layers import Readout
from sw.record import MAP_LIMIT
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
]
