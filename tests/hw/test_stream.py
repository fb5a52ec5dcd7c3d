"""The residual stream against its model and against averages of whole maps, layer after layer."""

import itertools
import random
from dataclasses import dataclass, replace

import numpy as np
import pytest
from amaranth.hdl import Signal

from hw.stream import Stream
from sw.engine import Engine
from sw.formats import STREAM_BITS
from tests.hw.support import (
    DEPTHS,
    FLOWS,
    FOURS,
    PAIRS,
    PAIRS_IN_PASSES,
    SMALL,
    difference,
    in_groups,
    play,
    shape,
    with_and_without_gaps,
)

LOW, HIGH = -(1 << STREAM_BITS - 1), (1 << STREAM_BITS - 1) - 1
#: Half of all values are such: sums of four then have every remainder, of either sign.
EDGES = [LOW, LOW + 1, -3, -2, -1, 0, 1, 2, 3, HIGH - 1, HIGH]

SINGLE = Engine(pe=16, simd=32, lanes=1, **DEPTHS)
ENGINES = [SMALL, SINGLE, PAIRS, FOURS, PAIRS_IN_PASSES]


@dataclass(frozen=True)
class Layer:
    """What a layer does with the stream; ``tiles`` of output channels, in ``passes`` each."""

    tiles: int
    average: bool = False
    shortcut: bool = True
    passes: int = 1


STEM = Layer(1, shortcut=False)
#: Rows and columns of the first map, and the layers.
STREAMS = {
    "one square": ((2, 2), [STEM, Layer(1), Layer(2, average=True), Layer(2)]),
    "twice the channels": ((4, 6), [STEM, Layer(1), Layer(2, average=True), Layer(2)]),
    "some more, and from anew": (
        (4, 6), [Layer(2, shortcut=False), Layer(3, average=True), Layer(3),
                 Layer(1, shortcut=False), Layer(1)],
    ),
    "two averages": ((8, 4), [STEM, Layer(1, average=True), Layer(1), Layer(2, average=True)]),
    "two averages at once": (
        (4, 4), [Layer(2, shortcut=False), Layer(2, average=True), Layer(3, average=True)],
    ),
}


class Watched(Stream):
    """Shows what its memory does."""

    def __init__(self, engine):
        super().__init__(engine)
        address = range(engine.stream_depth)
        self.reads, self.writes = Signal(), Signal()
        self.read_address, self.write_address = Signal(address), Signal(address)

    def elaborate(self, platform):
        m = super().elaborate(platform)
        (read,), (write,) = m.submodules.memory.read_ports, m.submodules.memory.write_ports
        m.d.comb += [
            self.reads.eq(read.en), self.read_address.eq(read.addr),
            self.writes.eq(write.en), self.write_address.eq(write.addr),
        ]
        return m


OUTPUTS = ["shortcut", "reads", "read_address", "writes", "write_address"]


def random_word(engine, rng):
    return [
        rng.choice(EDGES) if rng.getrandbits(1) else rng.randint(LOW, HIGH)
        for _ in range(engine.lanes * engine.units)
    ]


def shortcuts(before, layer, groups):
    """Of a map [row][column][group][channel and lane], in so many ``groups``."""
    more = max(groups - before.shape[2], 0)
    before = np.pad(before, [(0, 0), (0, 0), (0, more), (0, 0)])[:, :, :groups]
    if layer.average:
        squares = before.reshape(before.shape[0] // 2, 2, before.shape[1] // 2, 2, groups, -1)
        before = np.floor(squares.sum(axis=(1, 3)) / 4 + 0.5).astype(int)
    return before * layer.shortcut


def words_of(mapped):
    """The words of a map, as the memory holds them."""
    return mapped.reshape(-1, mapped.shape[-1]).tolist()


def stimulus_of(dut, fields, stores, apart, willing, rng, clear):
    """The inputs of a layer that stores such words, and the cycles of its groups among them.

    What is stored is there in its cycle alone, and noise at any other time.
    """
    due, rows = {}, [dict(valid=0, clear=clear, layer=fields)]
    for word in stores:
        while rng.random() >= willing:
            rows.append(dict(valid=0))
        due[len(rows) + dut.write_latency] = word
        rows += [dict(valid=1, clear=0), *[dict(valid=0)] * (apart - 1)]
    # A layer starts when the last one's words are written.
    rows += [dict(valid=0)] * (dut.write_latency + 1 - apart + rng.randrange(3))
    rows = [
        {"clear": 0, **row, "stored": in_groups(due.get(cycle) or random_word(dut.engine, rng),
                                                dut.engine.lanes)}
        for cycle, row in enumerate(rows)
    ]
    return rows, [cycle - dut.write_latency for cycle in due]


@dataclass
class Run:
    """Of a layer: the shape of the map that it found, its groups' cycles, and all until the next.

    wanted, got: shortcuts of its groups. reads, writes: (cycle, address).
    """

    layer: Layer
    found: tuple
    sent: list
    wanted: list
    got: list
    reads: list
    writes: list


def run(
    engine, size, layers, willing=FLOWS, first=None, cut=None, apart=4, clear=1, base=0, **wrong
):
    """The Run of each layer over maps that start with one of ``size``.

    first: what the first layer stores. cut: the last one starts anew after so many groups, if
    there is a ``clear``. apart: cycles from group to group of an average. base: where the stream
    lies; addresses count from there. wrong: fields of the last layer.
    """
    rng, dut, runs, stimulus = random.Random(12), Watched(engine), [], []
    before = np.zeros((*size, 1, engine.lanes * engine.units), int)
    for layer, only in [*((layer, None) for layer in layers[:-1]),
                        *([(layers[-1], cut)] if cut else []), (layers[-1], None)]:
        groups = layer.tiles * layer.passes * engine.groups
        around = shortcuts(before, layer, groups)
        if layer.shortcut:
            height, width, *_ = before.shape
            words = before.reshape(height * width, *before.shape[2:]).tolist()
            model = dut.model(words, groups, width, layer.average)
            assert [word for pixel in model for word in pixel] == words_of(around)
        added = np.array([random_word(engine, rng) for _ in words_of(around)])
        after = np.clip(around + added.reshape(around.shape) // rng.choice([1, 9]), LOW, HIGH)
        if not runs and first is not None:
            after = first
        stores, start = words_of(after)[:only], len(stimulus)
        fields = dict(
            shortcut=layer.shortcut, average=layer.average, shortcut_last=before.shape[2] - 1,
            stream_last=groups - 1, stream_row=before.shape[1] * before.shape[2],
            out_width_last=around.shape[1] - 1, stream_in=base, stream_out=base,
        ) | (wrong if layer is layers[-1] else {})
        rows, sent = stimulus_of(
            dut, fields, stores, apart if layer.average else 1, willing, rng,
            clear if runs and runs[-1].layer is layer else 1,
        )
        stimulus += rows
        runs.append(Run(
            layer, before.shape, [start + cycle for cycle in sent], words_of(around)[:only],
            [], [start], [len(stimulus)],
        ))
        # In place: the words of a layer that breaks off are what it finds next.
        before = np.array(stores + words_of(before)[len(stores) :]).reshape(
            before.shape) if only else after
    rows = play(dut, stimulus, OUTPUTS)
    for part in runs:
        during = range(part.reads.pop(), part.writes.pop())
        part.got = [
            [value for unit in rows[cycle + dut.latency][0] for value in unit]
            for cycle in part.sent
        ]
        part.reads = [(cycle, rows[cycle][2] - base) for cycle in during if rows[cycle][1]]
        part.writes = [(cycle, rows[cycle][4] - base) for cycle in during if rows[cycle][3]]
    return runs


def parted(runs):
    """Where shortcuts differ from those of the maps, or None."""
    return difference([word for part in runs for word in part.wanted],
                      [word for part in runs for word in part.got])


def check_memory(runs):
    """Each word is written once, in order, and not before or in the cycle of its last read.

    Only reads of words that are in the stream count: of others nothing is kept.
    """
    for part in runs:
        taps, count = 4 if part.layer.average else 1, len(part.sent)
        assert part.writes == [
            (cycle + Stream.write_latency, number) for number, cycle in enumerate(part.sent)
        ]
        assert len(part.reads) == taps * count * part.layer.shortcut
        height, width, groups, _ = part.found
        each = count * (4 if part.layer.average else 1) // (height * width)
        last_read = {
            address: cycle for number, (cycle, address) in enumerate(part.reads)
            if number // taps % each < groups
        }
        assert all(last_read.get(address, -1) < cycle for cycle, address in part.writes)
        if part.layer.shortcut:
            assert sorted(last_read) == list(range(height * width * groups))


def with_depth(engine, size, layers):
    """The engine with no more room than the stream needs."""
    words, (height, width) = [], size
    for layer in layers:
        height, width = height >> layer.average, width >> layer.average
        words.append(height * width * layer.tiles * layer.passes * engine.groups)
    return replace(engine, stream_depth=max(words))


def stream_of(name, engine):
    """The engine, the size of the first map, and the layers, in all passes that there are."""
    size, layers = STREAMS[name]
    layers = [replace(layer, passes=engine.passes) for layer in layers]
    return with_depth(engine, size, layers), size, layers


@with_and_without_gaps
@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("engine", ENGINES, ids=shape)
def test_equals_its_model_at_its_latencies(engine, name, willing):
    assert (Stream.latency, Stream.write_latency) == (5, 6)
    runs = run(*stream_of(name, engine), willing)
    assert parted(runs) is None
    check_memory(runs)
    apart = [
        {b - a for a, b in itertools.pairwise(part.sent)} - {4 if part.layer.average else 1}
        for part in runs if len(part.sent) > 1
    ]
    assert any(apart) == (willing < FLOWS)


@pytest.mark.parametrize("name", ["some more, and from anew", "two averages"])
def test_a_stream_may_lie_anywhere(name):
    engine, size, layers = stream_of(name, PAIRS)
    engine = replace(engine, stream_depth=engine.stream_depth + 37)
    runs = run(engine, size, layers, base=37)
    assert parted(runs) is None
    check_memory(runs)
    assert parted(run(engine, size, layers, base=37, stream_in=36)) is not None


@pytest.mark.parametrize("engine", [SINGLE, FOURS], ids=shape)
def test_a_projection_reads_any_word(engine):
    """While the groups that it makes are written elsewhere."""
    rng, dut = random.Random(6), Stream(replace(engine, stream_depth=64))
    words = [random_word(engine, rng) for _ in range(32)]
    filling, _ = stimulus_of(
        dut, dict(shortcut=0, stream_last=3), words, 1, FLOWS, rng, clear=1
    )
    rows, _ = stimulus_of(
        dut, dict(shortcut=0, stream_last=3, stream_out=32), words[:20], 1, FLOWS, rng, clear=1
    )
    asked = [rng.randrange(32) for _ in rows]
    rows = [
        {**row, "enable": rng.getrandbits(1), "address": address}
        for row, address in zip(rows, asked, strict=True)
    ]
    got = play(dut, [*filling, *rows], ["data", "shortcut"])[len(filling) :]
    for (read, _), row, address in zip(got[1:], rows, asked, strict=False):
        if row["enable"]:
            assert [value for unit in read for value in unit] == words[address]
    assert all(value == 0 for _, shortcut in got[6:] for unit in shortcut for value in unit)


#: 2 x 2 pixels, and their mean: halves go up. Every pixel counts alone.
SQUARES = [
    ((4, 0, 0, 0), 1), ((0, 4, 0, 0), 1), ((0, 0, 4, 0), 1), ((0, 0, 0, 4), 1),
    ((1, 0, 0, 0), 0), ((1, 1, 0, 0), 1), ((1, 1, 1, 0), 1), ((-1, 0, 0, 0), 0),
    ((-1, -1, 0, 0), 0), ((-1, -1, -1, 0), -1), ((-3, -3, 0, 0), -1), ((-3, -4, 0, 0), -2),
    ((HIGH, HIGH, HIGH, HIGH), HIGH), ((LOW, LOW, LOW, LOW), LOW), ((HIGH, HIGH, LOW, LOW), 0),
    ((LOW, LOW, LOW + 1, LOW), LOW),
]


def test_averages_written_out():
    """A channel and lane for each of them."""
    first = np.array([square for square, _ in SQUARES]).T.reshape(2, 2, 4, 4)
    runs = run(replace(SMALL, stream_depth=16), (2, 2), [STEM, Layer(1, average=True)], first=first)
    assert [mean for word in runs[1].got for mean in word] == [mean for _, mean in SQUARES]
    assert parted(runs) is None


@with_and_without_gaps
@pytest.mark.parametrize("cut", [1, 4, 7, 12])
@pytest.mark.parametrize("last", [Layer(2), Layer(2, shortcut=False)], ids=["same", "from anew"])
def test_clear_starts_over(last, cut, willing):
    """With what the layer had written by then in place of what it had read."""
    layers = [replace(last, shortcut=False), last]
    runs = run(with_depth(PAIRS, (4, 2), layers), (4, 2), layers, willing, cut=cut)
    assert parted(runs) is None
    check_memory(runs[-1:])


@with_and_without_gaps
@pytest.mark.parametrize("cut", [1, 4, 7, 13])
def test_clear_starts_an_average_over(cut, willing):
    """In either row of the map, 12 groups each."""
    layers = [STEM, Layer(1), Layer(1, average=True)]
    runs = run(replace(SMALL, stream_depth=96), (4, 6), layers, willing, cut=cut)
    assert parted(runs) is None
    check_memory(runs[-1:])


@pytest.mark.parametrize("last", [Layer(1), Layer(1, average=True)], ids=["same", "average"])
def test_a_missing_clear_is_noticed(last):
    runs = run(replace(SMALL, stream_depth=96), (4, 6), [STEM, last], cut=3, clear=0)
    assert parted(runs[:-1]) is None
    assert parted(runs[-1:])


@pytest.mark.parametrize("wrong", [
    dict(shortcut=0), dict(shortcut_last=6), dict(stream_last=6), dict(stream_row=47),
    dict(out_width_last=1), dict(average=0),
], ids=str)
def test_a_wrong_field_is_noticed(wrong):
    layers = [Layer(2, shortcut=False), Layer(3, average=True)]
    assert parted(run(replace(PAIRS, stream_depth=192), (4, 6), layers)) is None
    assert parted(run(replace(PAIRS, stream_depth=192), (4, 6), layers, **wrong))


def test_more_than_twice_the_channels_are_noticed():
    """The rule is needed: words are overwritten that are still to be read."""
    layers = [STEM, Layer(3, average=True)]
    runs = run(replace(SMALL, stream_depth=128), (4, 6), layers)
    assert parted(runs)
    with pytest.raises(AssertionError):
        check_memory(runs)


def test_averages_closer_than_four_cycles_are_noticed():
    layers = [STEM, Layer(1, average=True)]
    assert parted(run(replace(SMALL, stream_depth=96), (4, 6), layers, apart=3))
