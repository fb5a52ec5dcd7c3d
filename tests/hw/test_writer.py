"""Spikes and logits packed into words of the spike memory."""

import itertools
import random

import pytest

from hw.writer import Writer
from tests.hw.support import (
    FLOWS,
    FOUR_STRIPS,
    FOUR_STRIPS_IN_PASSES,
    FOURS,
    LONG,
    PAIRS,
    PAIRS_IN_PASSES,
    PAIRS_OF_STRIPS,
    PASSES,
    SINGLE_STEPS,
    SMALL,
    STRIPS,
    STRIPS_IN_PASSES,
    WIDE,
    WIDE_IN_PASSES,
    arrivals,
    difference,
    in_groups,
    interleaved,
    play,
    shape,
    with_and_without_gaps,
    with_gaps,
)

OUTPUTS = ["write_banks", "write_address", "write_data"]
PASSED = ["passed", "passed_spikes", "last_group", "column", "row"]


def layer_of(engine, channels, height, width, base=17):
    return dict(
        channels=channels, tiles_last=-(-channels // engine.pe) - 1, out_base=base,
        out_height_last=height - 1, out_width_last=width - 1,
    )


def run(dut, layer, values, willing, logits=False, before=0):
    """Rows of all outputs after the clear, and the cycles of the groups of channels among them.

    Channels beyond the real ones get values too: they must not come through.
    """
    valid, value = ("logit_valid", "logit") if logits else ("valid", "spikes")
    items = [{valid: 1, value: group, "clear": 0} for group in in_groups(values, dut.engine.units)]
    lead = [{**items[0], "layer": layer}] * before
    # A layer starts when the last one's words are written.
    lead += [{valid: 0}] * dut.latency + [{valid: 0, "clear": 1, "layer": layer}]
    stimulus = with_gaps(items, willing, after=dut.latency + 2, **{valid: 0})
    sent = [cycle for cycle, given in enumerate(stimulus) if given[valid]]
    rows = play(dut, [*lead, *stimulus], [*OUTPUTS, "written", *PASSED])
    return sent, rows[len(lead) :]


def writes_of(rows):
    """(cycle, banks, address, word) of each write."""
    return [(cycle, *row[: len(OUTPUTS)]) for cycle, row in enumerate(rows) if row[0]]


def tile_channels(engine, layer):
    return (layer["tiles_last"] + 1) * engine.pe


def random_spikes(engine, layer, passes=1):
    rng = random.Random(11)
    pixels = passes * (layer["out_height_last"] + 1) * (layer["out_width_last"] + 1)
    return [
        rng.getrandbits(engine.lanes) for _ in range(pixels * tile_channels(engine, layer))
    ]


def expected_writes(dut, layer, values, sent):
    """(cycle, banks, address, word): a tile leaves after its last channel."""
    return expected_planes(dut, layer, [values], sent)


def expected_planes(dut, layer, planes, sent):
    """The same of values for each pass: a tile comes in each of them, then the next tile."""
    engine, per_pixel = dut.engine, tile_channels(dut.engine, layer)
    ends = sent[engine.groups - 1 :: engine.groups]
    writes, address = [], layer["out_base"] - 1
    for start in range(0, len(planes[0]), per_pixel):
        passes = [
            dut.model(values[start : start + per_pixel], layer["channels"]) for values in planes
        ]
        for number, tiles in enumerate(zip(*passes, strict=True)):
            address += number * engine.pe % engine.simd == 0
            for plane, (banks, word) in enumerate(tiles):
                cycle = ends[len(writes)] + dut.latency
                writes.append((cycle, banks, address + plane * layer.get("out_plane", 0), word))
    assert len(writes) == len(ends)
    return writes


def stored(writes, width):
    """Address -> word, after the writes, of a memory that was full of ones."""
    rows = {}
    for _, banks, address, word in writes:
        kept = sum(
            0xFFFF << shift for shift in range(0, width, 16) if not banks >> shift // 16 & 1
        )
        assert not word & kept, "only what is written may differ from 0"
        rows[address] = rows.get(address, (1 << width) - 1) & kept | word
    return rows


def packed(engine, layer, values):
    """Address -> word: each pixel's real channels in order, the rest of its words 0."""
    rows, per_pixel = [], tile_channels(engine, layer)
    for start in range(0, len(values), per_pixel):
        channels = values[start : start + layer["channels"]]
        for first in range(0, len(channels), engine.simd):
            word = channels[first : first + engine.simd]
            rows.append(sum(spikes << place * engine.lanes for place, spikes in enumerate(word)))
    return dict(enumerate(rows, layer["out_base"]))


SHAPES = [(5, 2, 3), (8, 1, 1), (3, 3, 2), (19, 2, 2), (16, 1, 4), (1, 1, 5)]


@with_and_without_gaps
@pytest.mark.parametrize("channels, height, width", SHAPES)
@pytest.mark.parametrize("engine", [SMALL, WIDE, LONG, PAIRS, FOURS], ids=shape)
def test_writes_equal_the_model_at_its_latency(engine, channels, height, width, willing):
    dut, layer = Writer(engine), layer_of(engine, channels, height, width)
    assert dut.latency == 2
    values = random_spikes(engine, layer)
    sent, rows = run(dut, layer, values, willing)
    assert difference(expected_writes(dut, layer, values, sent), writes_of(rows)) is None
    assert stored(writes_of(rows), engine.simd * engine.lanes) == packed(engine, layer, values)
    # The end of the layer is announced once, as its last word is written.
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + dut.latency]


#: Engines, and the first pass that a layer uses.
PASSES_OF = [(PASSES, 0), (PASSES, 1), (PASSES, 3), (WIDE_IN_PASSES, 5), (PAIRS_IN_PASSES, 0)]


def with_planes(engine, layer, first_pass, words, apart=3):
    """The layer in passes, so many ``words`` and some more from plane to plane; their number."""
    layer |= dict(first_pass=first_pass, out_plane=words + apart)
    return layer, engine.passes - first_pass


@with_and_without_gaps
@pytest.mark.parametrize("channels, height, width", SHAPES[:4])
@pytest.mark.parametrize(
    "engine, first_pass", PASSES_OF,
    ids=lambda value: value if isinstance(value, int) else shape(value),
)
def test_each_pass_has_a_plane(engine, first_pass, channels, height, width, willing):
    dut, words = Writer(engine), height * width * -(-channels // engine.simd)
    assert dut.latency == 2
    layer, passes = with_planes(
        engine, layer_of(engine, channels, height, width), first_pass, words
    )
    values = random_spikes(engine, layer, passes)
    planes = [values[number::passes] for number in range(passes)]
    sent, rows = run(dut, layer, interleaved(planes, engine.pe), willing)
    writes = writes_of(rows)
    assert difference(expected_planes(dut, layer, planes, sent), writes) is None
    memory = {}
    for number, plane in enumerate(planes):
        base = layer["out_base"] + number * layer["out_plane"]
        memory |= packed(engine, {**layer, "out_base": base}, plane)
    assert len(memory) == passes * words
    assert stored(writes, engine.simd * engine.lanes) == memory
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + dut.latency]


def strips_layer(engine, channels, width, rows, missing, above, below):
    """Strips of so many ``rows``, of which the last ``missing`` are beyond the map."""
    full, rest = divmod(engine.pixels * rows - missing, rows)
    return layer_of(engine, channels, rows, width, base=57) | dict(
        strip_words=rows * width * -(-channels // engine.simd), full_strips=full, full_rows=rest,
        halo_above=above, halo_below=below,
    )


def random_map(engine, layer, seed=11):
    """Spikes [row][column][channel], one bit a step, in all rows and channels there are or not."""
    rng = random.Random(seed)
    return [
        [[rng.getrandbits(engine.steps) for _ in range(tile_channels(engine, layer))]
         for _ in range(layer["out_width_last"] + 1)]
        for _ in range(engine.pixels * (layer["out_height_last"] + 1))
    ]


def strip_by_strip(engine, layer, spikes):
    """All strips' spikes in the order of their channels: strip p from lane p * steps on."""
    height = layer["out_height_last"] + 1
    return [
        sum(spikes[p * height + y][x][c] << p * engine.steps for p in range(engine.pixels))
        for y in range(height) for x in range(len(spikes[0])) for c in range(len(spikes[0][0]))
    ]


def in_the_map(layer, spikes):
    """The spikes without those of rows beyond the map."""
    height = layer["full_strips"] * (layer["out_height_last"] + 1) + layer["full_rows"]
    return [
        row if y < height else [[0] * len(pixel) for pixel in row] for y, row in enumerate(spikes)
    ]


def stored_map(engine, layer, spikes):
    """Address -> word of a map and its halos: stored row r holds row p * rows + r for strip p."""
    rows, channels, memory = layer["out_height_last"] + 1, layer["channels"], {}
    spikes, words = in_the_map(layer, spikes), -(-channels // engine.simd)
    for r in range(-layer["halo_above"], rows + layer["halo_below"]):
        for x, first in itertools.product(range(len(spikes[0])), range(0, channels, engine.simd)):
            word = 0
            for p, c in itertools.product(range(engine.pixels), range(engine.simd)):
                if 0 <= p * rows + r < len(spikes) and first + c < channels:
                    value = spikes[p * rows + r][x][first + c]
                    word |= value << c * engine.lanes + p * engine.steps
            address = layer["out_base"] + (r * len(spikes[0]) + x) * words + first // engine.simd
            memory[address] = word
    return memory


def expected_copies(layer, places):
    """(cycle, banks, address) of each copy for a halo, before its write into place."""
    row_words = layer["strip_words"] // (layer["out_height_last"] + 1)
    copies = []
    for cycle, banks, address, _ in places:
        row = (address - layer["out_base"]) // row_words
        if row < layer["halo_below"]:
            copies.append((cycle - 2, banks, address + layer["strip_words"]))
        if row > layer["out_height_last"] - layer["halo_above"]:
            copies.append((cycle - 1, banks, address - layer["strip_words"]))
    return copies


#: Channels, width, rows of a strip, rows beyond the map, halos above and below.
STRIP_SHAPES = [
    (5, 2, 3, 0, 1, 1), (8, 3, 2, 1, 2, 0), (19, 1, 3, 4, 2, 2), (3, 4, 1, 0, 1, 1),
    (16, 1, 4, 5, 0, 4), (1, 5, 2, 2, 0, 0),
]


@with_and_without_gaps
@pytest.mark.parametrize("form", STRIP_SHAPES, ids=str)
@pytest.mark.parametrize(
    "engine", [STRIPS, PAIRS_OF_STRIPS, FOUR_STRIPS, SINGLE_STEPS], ids=shape
)
def test_strips_are_stored_with_their_halos(engine, form, willing):
    dut, layer = Writer(engine), strips_layer(engine, *form)
    assert dut.latency == 5
    spikes = random_map(engine, layer)
    sent, rows = run(dut, layer, strip_by_strip(engine, layer, spikes), willing)
    writes, memory = writes_of(rows), stored_map(engine, layer, spikes)
    assert stored(writes, engine.simd * engine.lanes) == memory
    silenced = strip_by_strip(engine, layer, in_the_map(layer, spikes))
    places = expected_writes(dut, layer, silenced, sent)
    copies = expected_copies(layer, places)
    assert len(memory) == len({address for *_, address in copies}) + layer["strip_words"]
    assert sorted([place[:3] for place in places] + copies) == [write[:3] for write in writes]
    at = {place[0] for place in places}
    assert difference(places, [write for write in writes if write[0] in at]) is None
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + dut.latency]
    # Those that read them as they pass see no row beyond the map either.
    real = [
        value if i % tile_channels(engine, layer) < layer["channels"] else 0
        for i, value in enumerate(silenced)
    ]
    passed = [(cycle + 1, group) for cycle, group in zip(
        sent, in_groups(real, engine.units), strict=True)]
    assert difference(passed, [row[:2] for row in arrivals([row[4:] for row in rows])]) is None


@with_and_without_gaps
@pytest.mark.parametrize("form", STRIP_SHAPES[:5], ids=str)
@pytest.mark.parametrize(
    "engine, first_pass",
    [(STRIPS_IN_PASSES, 0), (STRIPS_IN_PASSES, 2), (STRIPS_IN_PASSES, 3),
     (FOUR_STRIPS_IN_PASSES, 0)],
    ids=lambda value: value if isinstance(value, int) else shape(value),
)
def test_each_pass_has_a_plane_with_halos(engine, first_pass, form, willing):
    dut, layer = Writer(engine), strips_layer(engine, *form)
    assert dut.latency == 5
    # As many words as the halos have.
    row_words = layer["strip_words"] // (layer["out_height_last"] + 1)
    words = layer["strip_words"] + (layer["halo_above"] + layer["halo_below"]) * row_words
    layer, passes = with_planes(engine, layer, first_pass, words, apart=0)
    maps = [random_map(engine, layer, number) for number in range(passes)]
    planes = [strip_by_strip(engine, layer, spikes) for spikes in maps]
    sent, rows = run(dut, layer, interleaved(planes, engine.pe), willing)
    memory, writes = {}, writes_of(rows)
    for number, spikes in enumerate(maps):
        base = layer["out_base"] + number * layer["out_plane"]
        memory |= stored_map(engine, {**layer, "out_base": base}, spikes)
    assert len(memory) == passes * words
    assert stored(writes, engine.simd * engine.lanes) == memory
    silenced = [strip_by_strip(engine, layer, in_the_map(layer, spikes)) for spikes in maps]
    places = expected_planes(dut, layer, silenced, sent)
    at = {place[0] for place in places}
    assert difference(places, [write for write in writes if write[0] in at]) is None
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + dut.latency]


@with_and_without_gaps
@pytest.mark.parametrize("first_pass", [0, 2, 3])
def test_the_place_moves_on_after_the_last_pass_alone(first_pass, willing):
    dut, layer = Writer(PASSES), layer_of(PASSES, 6, 2, 3)
    layer, passes = with_planes(PASSES, layer, first_pass, 6)
    values = random_spikes(PASSES, layer, passes)
    sent, rows = run(dut, layer, values, willing)
    got = arrivals([row[4:] for row in rows])
    # Two tiles of four channels, of which the last two only fill it.
    pixel, expected = 8 * passes, []
    for i, (cycle, spikes) in enumerate(zip(sent, values, strict=True)):
        real = i % pixel < 4 * passes or i % 4 < 2
        following = (i + 1) // pixel
        expected.append((
            cycle + 1, [spikes if real else 0], i % pixel == pixel - 1, following % 3,
            following // 3,
        ))
    assert difference(expected, got) is None


def test_planes_written_out():
    """Two tiles to a word, three passes: a word's parts in all planes, then its other parts."""
    layer, passes = with_planes(PASSES, layer_of(PASSES, 12, 1, 1), 1, 2, apart=5)
    values = random_spikes(PASSES, layer, passes)
    _, rows = run(Writer(PASSES), layer, values, FLOWS)
    assert [(banks, address) for _, banks, address, _ in writes_of(rows)] == [
        (0b11, 17), (0b11, 24), (0b11, 31), (0b10, 17), (0b10, 24), (0b10, 31),
        (0b11, 18), (0b11, 25), (0b11, 32),
    ]


@with_and_without_gaps
def test_channels_pass_a_cycle_later_with_their_place(willing):
    dut, layer = Writer(SMALL), layer_of(SMALL, 6, 2, 3)
    values = random_spikes(SMALL, layer)
    sent, rows = run(dut, layer, values, willing)
    got = arrivals([row[4:] for row in rows])
    # With the last group of a pixel already comes the place of the next.
    expected = [
        (cycle + 1, [spikes if i % 8 < 6 else 0], i % 8 == 7, (i + 1) // 8 % 3, (i + 1) // 24)
        for i, (cycle, spikes) in enumerate(zip(sent, values, strict=True))
    ]
    assert difference(expected, got) is None


#: Of those with passes, readouts of all of them.
LOGIT_ENGINES = [
    SMALL, PAIRS, FOURS, STRIPS, FOUR_STRIPS, PASSES, PAIRS_IN_PASSES, STRIPS_IN_PASSES,
]


def random_logits(groups, units):
    """Of both signs, as far as 32 bits go."""
    rng = random.Random(12)
    values = [-1, -(1 << 31), (1 << 31) - 1, *(rng.randint(-9999, 9999) for _ in range(90))]
    return [value & 0xFFFFFFFF for value in values][: groups * units]


@with_and_without_gaps
@pytest.mark.parametrize("classes", [1, 3, 4, 10, 19])
@pytest.mark.parametrize("engine", LOGIT_ENGINES, ids=shape)
def test_logits_of_a_cycle_take_a_word(engine, classes, willing):
    dut, layer = Writer(engine), layer_of(engine, classes, 1, 1)
    groups = -(-classes // engine.units)
    values = random_logits(groups, engine.units)
    sent, rows = run(dut, layer, values, willing, logits=True)
    every = (1 << len(dut.write_banks)) - 1
    words = [
        (every, sum(value << 32 * u for u, value in enumerate(group)))
        for group in in_groups(values[:classes], engine.units)
    ]
    assert words == dut.model(values, classes, logits=True)
    expected = [(sent[i] + 1, every, 17 + i, word) for i, (_, word) in enumerate(words)]
    assert difference(expected, writes_of(rows)) is None
    # The end of the layer is announced once, a cycle after the last logits are written.
    assert [cycle for cycle, row in enumerate(rows) if row[3]] == [sent[-1] + 2]
    assert not any(row[4] for row in rows), "logits are no spikes"


@with_and_without_gaps
@pytest.mark.parametrize("engine", LOGIT_ENGINES, ids=shape)
def test_sets_of_classes_that_only_fill_the_last_tile_write_nothing(engine, willing):
    dut, layer = Writer(engine), layer_of(engine, 6, 1, 1)
    groups = -(-6 // engine.units)
    values = random_logits(groups + 3, engine.units)
    sent, rows = run(dut, layer, values, willing, logits=True)
    words = dut.model(values, 6, logits=True)
    expected = [(sent[i] + 1, banks, 17 + i, word) for i, (banks, word) in enumerate(words)]
    assert len(words) == groups
    assert difference(expected, writes_of(rows)) is None
    # Nobody listens after the first announcement: the layer is over.
    first = next(cycle for cycle, row in enumerate(rows) if row[3])
    assert first == sent[groups - 1] + 2
    # The host's writes are joined with these data.
    assert not any(row[2] for row in rows[first + 1 :])


@pytest.mark.parametrize("before", [1, 6, 11])
def test_clear_starts_a_layer_anew(before):
    dut, layer = Writer(SMALL), layer_of(SMALL, 5, 2, 2)
    values = random_spikes(SMALL, layer)
    sent, rows = run(dut, layer, values, FLOWS, before=before)
    assert difference(expected_writes(dut, layer, values, sent), writes_of(rows)) is None


@pytest.mark.parametrize("before", [1, 6, 11])
def test_clear_starts_strips_anew(before):
    dut, layer = Writer(STRIPS), strips_layer(STRIPS, 5, 2, 2, 1, 1, 1)
    spikes = random_map(STRIPS, layer)
    _, rows = run(dut, layer, strip_by_strip(STRIPS, layer, spikes), FLOWS, before=before)
    assert stored(writes_of(rows), 32) == stored_map(STRIPS, layer, spikes)


@pytest.mark.parametrize("first_pass", [0, 2])
@pytest.mark.parametrize("before", [1, 6, 11, 30])
def test_clear_starts_the_planes_anew(before, first_pass):
    layer, passes = with_planes(PASSES, layer_of(PASSES, 5, 2, 2), first_pass, 4)
    dut, values = Writer(PASSES), random_spikes(PASSES, layer, passes)
    planes = [values[number::passes] for number in range(passes)]
    sent, rows = run(dut, layer, interleaved(planes, 4), FLOWS, before=before)
    assert difference(expected_planes(dut, layer, planes, sent), writes_of(rows)) is None


@pytest.mark.parametrize("before", [1, 6, 11, 30])
def test_clear_starts_the_planes_of_strips_anew(before):
    layer = strips_layer(STRIPS_IN_PASSES, 5, 2, 2, 1, 1, 1)
    layer, passes = with_planes(STRIPS_IN_PASSES, layer, 1, 8)
    dut, values = Writer(STRIPS_IN_PASSES), random_spikes(STRIPS_IN_PASSES, layer, passes)
    (_, once), (_, again) = (run(dut, layer, values, FLOWS, before=b) for b in (0, before))
    assert writes_of(once)
    assert difference(writes_of(once), writes_of(again)) is None


@pytest.mark.parametrize("change", ["out_plane", "first_pass", "spike"])
def test_an_error_of_planes_is_noticed(change):
    layer, passes = with_planes(PASSES, layer_of(PASSES, 5, 2, 2), 1, 4)
    dut, values = Writer(PASSES), random_spikes(PASSES, layer, passes)
    planes = [values[number::passes] for number in range(passes)]
    changed = {**layer, change: 2} if change != "spike" else layer
    sent, rows = run(dut, changed, interleaved(planes, 4), FLOWS)
    if change == "spike":
        planes[2][4] ^= 0b10
    wrong = difference(expected_planes(dut, layer, planes, sent), writes_of(rows))
    # The last plane of the second tile.
    assert wrong.startswith("entry 5" if change == "spike" else "entry")


@pytest.mark.parametrize("change", ["halo_above", "halo_below", "full_rows", "spike"])
def test_an_error_of_strips_is_noticed(change):
    """One row more or less, or a spike that is in a halo."""
    dut, layer = Writer(STRIPS), strips_layer(STRIPS, 5, 2, 3, 2, 1, 1)
    spikes = random_map(STRIPS, layer)
    _, rows = run(dut, layer, strip_by_strip(STRIPS, layer, spikes), FLOWS)
    got, right = stored(writes_of(rows), 32), stored_map(STRIPS, layer, spikes)
    assert got == right
    if change == "spike":
        spikes[2][1][4] ^= 0b10
    else:
        layer[change] += 1
    wrong = stored_map(STRIPS, layer, spikes)
    assert got != wrong
    # In its place and in the halo above the next strip.
    assert change != "spike" or sum(right[address] != wrong[address] for address in right) == 2


def test_a_changed_spike_is_noticed():
    dut, layer = Writer(SMALL), layer_of(SMALL, 8, 2, 2)
    values = random_spikes(SMALL, layer)
    sent, rows = run(dut, layer, values, FLOWS)
    values[21] ^= 0b0100
    assert difference(expected_writes(dut, layer, values, sent), writes_of(rows)).startswith(
        "entry 5"
    )


def test_an_unsilenced_channel_is_noticed():
    dut, layer = Writer(SMALL), layer_of(SMALL, 5, 1, 1)
    values = [0b1111] * 8
    sent, rows = run(dut, layer, values, FLOWS)
    wrong = expected_writes(dut, {**layer, "channels": 6}, values, sent)
    assert difference(wrong, writes_of(rows))
