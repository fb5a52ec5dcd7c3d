"""What lies between two cores: starts, sides, sums, and a spike memory that takes one word a cycle.

The cores are stubs here, driven by the tests; whole frames are for ``tests/sim``.
"""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

import hw.accelerator
from hw.core import Core
from hw.spikes import BANK
from sw import protocol
from sw.protocol import Flags
from tests.hw.support import FLOWS, TWO, difference, plain, simulate, sink, source

DEPTH, WIDTH = TWO.spike_depth, TWO.simd * TWO.lanes
BANKS = WIDTH // BANK
EVERY = (1 << BANKS) - 1

#: No core writes more often: a word takes as many cycles as the shortest tile.
APART = 4


class Stub(wiring.Component):
    """The ports of a core, left to the testbench."""

    def __init__(self, engine, *, array, mac):
        super().__init__(Core(engine, array=array, mac=mac).signature)

    def elaborate(self, platform):
        return Module()


@pytest.fixture
def accelerator(monkeypatch):
    """(the accelerator, its cores): the array's core first, then the stem's."""
    cores = [Stub(TWO, array=True, mac=False), Stub(TWO.stem, array=False, mac=True)]
    kinds = [(TWO, True, False), (TWO.stem, False, True)]
    monkeypatch.setattr(
        hw.accelerator, "Core",
        lambda engine, *, array, mac: cores[kinds.index((engine, array, mac))],
    )
    return hw.accelerator.Accelerator(TWO), cores


def bits_of(banks):
    """The bits of a word that lie in ``banks``."""
    return sum(0xFFFF << BANK * index for index in range(BANKS) if banks >> index & 1)


def random_writes(count, apart, seed, half):
    """Cycle -> (address, banks, word) of one core, at random distances of at least ``apart``.

    Whole words, then some banks of each once more.
    """
    rng, cycle, writes = random.Random(seed), 0, {}
    addresses = rng.sample(range(1 + half * DEPTH // 2, (1 + half) * DEPTH // 2 - 1), count)
    for place, address in enumerate([*addresses, *addresses]):
        cycle += apart + rng.choice([0, 0, 0, 1, 2, 7])
        banks = EVERY if place < count else rng.randrange(1, EVERY)
        writes[cycle] = address, banks, rng.getrandbits(WIDTH) & bits_of(banks)
    return writes


async def write_words(ctx, cores, schedules, cycles):
    """What the cores write; then they are silent."""
    for cycle in range(cycles):
        for core, schedule in zip(cores, schedules, strict=True):
            address, banks, word = schedule.get(cycle, (0, 0, 0))
            ctx.set(core.write_banks, banks)
            ctx.set(core.write_address, address)
            ctx.set(core.write_data, word)
        await ctx.tick()


async def read_words(ctx, core, addresses):
    """Words of the spike memory, as the array's core reads them."""
    words = []
    for address in addresses:
        ctx.set(core.spike_address, address)
        ctx.set(core.spike_enable, 1)
        await ctx.tick()
        words.append(ctx.get(core.spike_data))
    ctx.set(core.spike_enable, 0)
    return words


def written(dut, cores, schedules, after):
    """What lies at all addresses of the schedules, ``after`` cycles after the last write."""
    got = {}
    end = max(max(schedule) for schedule in schedules) + after

    async def testbench(ctx):
        await write_words(ctx, cores, schedules, end)
        addresses = [address for schedule in schedules for address, *_ in schedule.values()]
        words = await read_words(ctx, cores[0], addresses)
        got.update(zip(addresses, words, strict=True))

    simulate(dut, testbench)
    return got


def expected(schedules):
    words = {}
    for schedule in schedules:
        for address, banks, word in schedule.values():
            words[address] = words.get(address, 0) & ~bits_of(banks) | word
    return words


@pytest.mark.parametrize("seed", range(3))
def test_words_of_both_cores_arrive(accelerator, seed):
    dut, cores = accelerator
    schedules = [random_writes(60, APART, seed + 10 * half, half) for half in (0, 1)]
    array, stem = (set(schedule) for schedule in schedules)
    # The array's core writes with the stem's, and when the stem's word would go.
    assert array & stem and array & {cycle + 1 for cycle in stem}
    # A word goes in the next cycle, or in the one after.
    got = written(dut, cores, schedules, after=3)
    assert got == expected(schedules)


def test_words_that_come_too_fast_are_noticed(accelerator):
    """The rule that a core has cycles between its words is needed, and breaking it shows."""
    dut, cores = accelerator
    schedules = [random_writes(60, 1, half, half) for half in (0, 1)]
    assert written(dut, cores, schedules, after=3) != expected(schedules)


def test_no_word_of_a_core_stays_in_the_way_of_the_host(accelerator):
    """What the host writes is joined with what the cores write, which must be nothing then."""
    dut, cores = accelerator
    reply = []
    full = EVERY, 2**WIDTH - 1
    schedules = [{2: (9, *full), 30: (8, *full)}, {3: (300, *full)}]
    command = protocol.encode_write(0, 40, [0x1234, 0x0F0F, 0, 0x8001])
    command += protocol.encode_read(40, 4)

    async def testbench(ctx):
        await write_words(ctx, cores, schedules, 32)
        await source(dut.rx, command, FLOWS)(ctx)

    simulate(dut, testbench, sink(dut.tx, reply, 120, FLOWS))
    assert protocol.decode_words(bytes(reply[1:])).tolist() == [0x1234, 0x0F0F, 0, 0x8001]


#: (first, count, flags), cycles that the array's core and the stem's are busy.
RUNS = [
    ((1, 3, Flags(0)), (50, 0)),
    ((0, 0, Flags.STEM), (0, 33)),
    ((0, 0, Flags.STEM | Flags.STEM_SIDE), (0, 20)),
    ((0, 2, Flags.STEM | Flags.STEM_SIDE), (60, 25)),
    ((0, 2, Flags.STEM | Flags.SIDE), (25, 60)),
    ((2, 4, Flags.SIDE), (41, 0)),
    ((0, 1, Flags.STEM | Flags.SIDE | Flags.STEM_SIDE), (30, 30)),
]


def test_runs_start_the_cores_they_name_and_last_as_long_as_both(accelerator):
    dut, (core, stem) = accelerator
    starts, reply = [], []
    octets = b"".join(protocol.encode_run(*run) for run, _ in RUNS)
    total = sum(max(busy) for _, busy in RUNS) + 60 * len(RUNS)

    async def testbench(ctx):
        left, number = [0, 0], 0
        for cycle in range(total):
            # The stem's sums change all the time; the array's core sees those of the start.
            sums = [cycle * 1000 + t - 70_000 for t in range(TWO.lanes)]
            ctx.set(stem.totals, sums)
            _, _, *begin = await ctx.tick().sample(
                core.start, core.first, core.count, stem.start, stem.first, stem.count
            )
            if begin[0] or begin[3]:
                assert left == [0, 0]
                starts.append((begin, sums))
                left = list(RUNS[number][1])
                number += 1
            ctx.set(core.busy, left[0] > 0)
            ctx.set(stem.busy, left[1] > 0)
            if any(left):
                (_, _, flags), _ = RUNS[number - 1]
                if left[0]:
                    assert ctx.get(core.side) == bool(flags & Flags.SIDE)
                    assert plain(ctx.get(core.before)) == starts[-1][1]
                if left[1]:
                    assert ctx.get(stem.side) == bool(flags & Flags.STEM_SIDE)
            left = [max(cycles - 1, 0) for cycles in left]

    simulate(dut, testbench, source(dut.rx, octets, FLOWS), sink(dut.tx, reply, total, FLOWS))
    assert len(starts) == len(RUNS)
    for (begin, _), ((first, count, flags), _) in zip(starts, RUNS, strict=True):
        if count:
            assert begin[:3] == [1, first, count]
        assert (begin[0], begin[3]) == (count > 0, bool(flags & Flags.STEM))
        if begin[3]:
            # Its program has one layer.
            assert begin[4:] == [0, 1]
    cycles = [max(busy) for _, busy in RUNS]
    got = [protocol.decode_run(bytes(reply[5 * n : 5 * n + 5]))[0] for n in range(len(RUNS))]
    assert difference(cycles, got) is None
