"""What memories hold when power comes: what the host would have written, and nothing without."""

import random
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from hw.contents import Contents
from hw.memory import HostMemory, WeightMemory
from hw.spikes import SpikeMemory
from sw.program import Region

#: The spike memories are in one part and in two.
MEMORIES = {
    "sigmoid": lambda: HostMemory(Region.SIGMOID, 8, 20),
    "means": lambda: HostMemory(Region.MEANS, 16, 37),
    "weights": lambda: WeightMemory(Region.WEIGHTS, 128, 9),
    "spikes": lambda: SpikeMemory(64, 7),
    "spikes in two parts": lambda: SpikeMemory(32, 300),
}


def platform(words):
    return SimpleNamespace(contents=Contents(words))


def rows_at_power_up(dut, platform):
    """All rows, before anything is written."""
    rows = []

    async def testbench(ctx):
        ctx.set(dut.enable, 1)
        for row in range(dut.depth):
            ctx.set(dut.address, row)
            await ctx.tick()
            rows.append(ctx.get(dut.data))

    sim = Simulator(Fragment.get(dut, platform))
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    return rows


@pytest.mark.parametrize("name", MEMORIES)
def test_contents_are_what_the_host_would_have_written(name):
    make, rng = MEMORIES[name], random.Random(name)
    dut = make()
    words = [rng.getrandbits(16) for _ in range(dut.depth * max(dut.width // 16, 1))]
    with_contents = platform({dut.region: words})
    assert rows_at_power_up(dut, with_contents) == dut.model(words)
    # Of other contents, in the parts in which they lie.
    others = {dut.region: [word ^ 1 for word in words]}
    tables = with_contents.contents.tables(others)
    assert [row for *_, rows in tables for row in rows] == make().model(others[dut.region])
    assert {(region, width) for region, width, _ in tables} == {(dut.region, dut.width)}
    assert len(tables) == (2 if name == "spikes in two parts" else 1)
    assert dut.model(words) != dut.model(others[dut.region])


@pytest.mark.parametrize("name", MEMORIES)
def test_other_memories_are_as_ever(name):
    """Those of regions without contents, and all where there are none: byte for byte."""
    make = MEMORIES[name]
    assert rows_at_power_up(make(), platform({})) == [0] * make().depth
    plain, other, baked = (
        rtlil.convert(make(), platform=where, emit_src=False)
        for where in (None, platform({Region.FRAME: [1]}), platform({make().region: [1]}))
    )
    assert plain == other != baked
    assert "ram_style" in baked
