"""The spike memory: engine and host see the same words."""

import random

import pytest

from hw.spikes import SpikeMemory
from sw.program import Region
from tests.hw.support import (
    FLOWS,
    arrivals,
    difference,
    host_write,
    play,
    simulate,
    with_and_without_gaps,
    with_gaps,
)

#: The deepest are a memory of 256 or 512 rows and one for the rest.
SHAPES = [(32, 12), (64, 7), (128, 5), (32, 300), (64, 768)]


def random_rows(width, depth):
    rng = random.Random(width)
    return [(1 << width) - 1, *(rng.getrandbits(width) for _ in range(depth - 1))]


def split(rows, width):
    return [row >> shift & 0xFFFF for row in rows for shift in range(0, width, 16)]


def engine_reads(dut, rows, willing, prepare):
    """(expected, got) of reading every row in random order: (cycle, row) pairs."""
    order = random.Random(2).sample(range(dut.depth), dut.depth)
    items = [dict(enable=1, address=row) for row in order]
    stimulus = with_gaps(items, willing, after=dut.latency, enable=0)
    enabled = [0] * dut.latency + [values["enable"] for values in stimulus[: -dut.latency]]
    got = play(dut, stimulus, ["data"], prepare)
    due = arrivals([(on, *row) for on, row in zip(enabled, got, strict=True)])
    return [(cycle, rows[row]) for (cycle, _), row in zip(due, order, strict=True)], due


async def host_read(ctx, dut, addresses):
    """Words at 16-bit ``addresses``; each stays as long as its address does, and a cycle longer."""
    words = []
    for address in addresses:
        ctx.set(dut.host_read.address, address)
        ctx.set(dut.host_read.enable, 1)
        await ctx.tick()
        ctx.set(dut.host_read.enable, 0)
        words.append(ctx.get(dut.host_read.data))
        # Nobody reads: whatever the addresses are, and whichever memory they are in.
        ctx.set(dut.address, random.Random(address).randrange(dut.depth))
        await ctx.tick()
        ctx.set(dut.host_read.address, address ^ 1)
        assert ctx.get(dut.host_read.data) == words[-1]
    return words


@with_and_without_gaps
@pytest.mark.parametrize("width, depth", SHAPES)
def test_engine_reads_what_the_host_wrote(width, depth, willing):
    dut, rows = SpikeMemory(width, depth), random_rows(width, depth)

    async def prepare(ctx):
        await host_write(ctx, dut.host, Region.SPIKES, split(rows, width))
        for region in set(range(16)) - {Region.SPIKES}:
            await host_write(ctx, dut.host, region, [0xDEAD] * 8)

    wanted, got = engine_reads(dut, rows, willing, prepare)
    assert difference(wanted, got) is None


@pytest.mark.parametrize("width, depth", SHAPES)
def test_host_and_engine_read_what_the_engine_wrote(width, depth):
    dut, rows = SpikeMemory(width, depth), random_rows(width, depth)
    words = split(rows, width)

    async def prepare(ctx):
        for address in random.Random(3).sample(range(depth), depth):
            ctx.set(dut.write_address, address)
            ctx.set(dut.write_data, rows[address])
            ctx.set(dut.write_banks, -1)
            await ctx.tick()
        ctx.set(dut.write_banks, 0)
        order = random.Random(4).sample(range(len(words)), len(words))
        got = await host_read(ctx, dut, order)
        assert difference([words[address] for address in order], got) is None
        words[0] ^= 1
        assert difference([words[a] for a in order], got).startswith(f"entry {order.index(0)}")

    wanted, got = engine_reads(dut, rows, FLOWS, prepare)
    assert difference(wanted, got) is None
    wanted[1] = wanted[1][0], wanted[1][1] ^ 1 << 17
    assert difference(wanted, got).startswith("entry 1")


def test_one_16_bit_word_changes_alone():
    dut = SpikeMemory(64, 4)

    async def testbench(ctx):
        await host_write(ctx, dut.host, Region.SPIKES, range(16))
        await host_write(ctx, dut.host, Region.SPIKES, [0xFFFF], address=6)
        wanted = [0xFFFF if n == 6 else n for n in range(16)]
        assert await host_read(ctx, dut, range(16)) == wanted

    simulate(dut, testbench)


def test_the_engine_writes_some_banks_alone():
    dut = SpikeMemory(64, 4)
    stimulus = [
        dict(write_banks=banks, write_address=2, write_data=0x0004_0003_0002_0001 << 4 * index)
        for index, banks in enumerate((0b1111, 0b0101, 0b1000, 0b0000))
    ] + [dict(write_banks=0, enable=1, address=2), dict(enable=0)]
    assert play(dut, stimulus, ["data"])[-1] == (0x0400_0030_0002_0010,)


def test_engine_may_read_one_row_while_it_writes_another():
    dut, rows = SpikeMemory(32, 8), random_rows(32, 8)

    async def prepare(ctx):
        await host_write(ctx, dut.host, Region.SPIKES, split(rows, 32))

    stimulus = [
        dict(enable=1, address=n, write_banks=3, write_address=(n + 4) % 8, write_data=n)
        for n in range(4)
    ] + [dict(enable=1, address=n, write_banks=0) for n in (4, 5, 6, 7, 0)]
    got = [value for (value,) in play(dut, stimulus, ["data"], prepare)]
    assert got[1:] == [*rows[:4], 0, 1, 2, 3]
