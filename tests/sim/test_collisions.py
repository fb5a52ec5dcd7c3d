"""Memories that return rubbish in collisions, and that the accelerator's are made of them."""

import re

from amaranth.hdl import Elaboratable, Fragment
from amaranth.lib.memory import Memory

from hw.verilog import accelerator_verilog
from sim import run
from sim.collisions import Rubbish
from sw.golden import IntegerNetwork
from tests.hw.support import SMALL, simulate
from tests.sim.test_accelerator import PLAIN
from tests.support import random_frames, random_image


class Touchy(Rubbish):
    """Any write spoils what is read at the same time, wherever: that does happen."""

    def collision(self, read, write):
        return write.en.any()


class Rows(Elaboratable):
    """Four rows, one read and one write port, as ``platform`` makes them."""

    def __init__(self, platform):
        self.memory = Memory(shape=8, depth=4, init=[1, 2, 3, 4])
        self.read, self.write = self.memory.read_port(), self.memory.write_port(granularity=4)
        self.platform = platform

    def elaborate(self, platform):
        return Fragment.get(self.memory, self.platform)


def play(platform, accesses):
    """What is read for each (row that is read or None, row that is written, its halves, value)."""
    rows, words = Rows(platform), []

    async def testbench(ctx):
        for row, written, halves, value in accesses:
            ctx.set(rows.read.en, row is not None)
            ctx.set(rows.read.addr, row or 0)
            ctx.set(rows.write.addr, written)
            ctx.set(rows.write.en, halves)
            ctx.set(rows.write.data, value)
            await ctx.tick()
            words.append(ctx.get(rows.read.data))

    simulate(rows, testbench)
    return words


def test_a_row_that_is_read_as_it_is_written_is_rubbish():
    accesses = [
        (1, 1, 0b11, 9),  # of both ports: the old row is 2
        (1, 2, 0b11, 8),  # another row
        (None, 1, 0b11, 7),  # no read: the word stays
        (1, 1, 0b00, 6),  # no write
        (1, 1, 0b10, 0x50),  # half a row: 7 was there
        (1, 0, 0b00, 0),
    ]
    assert play(Rubbish(), accesses) == [0xFF - 2, 9, 9, 7, 0xFF - 7, 0x57]
    assert play(None, accesses) == [2, 9, 9, 7, 7, 0x57]


def test_all_memories_of_an_accelerator_are_such():
    plain = accelerator_verilog(SMALL)
    rubbish = accelerator_verilog(SMALL, Rubbish())
    arrays = re.compile(r"^ *reg \[\d+:0\] \S+ \[\d+:0\];", re.MULTILINE)
    memories = len(arrays.findall(plain))
    assert memories > 5
    assert len(arrays.findall(rubbish)) == memories == len(re.findall(r"reg collided", rubbish))
    assert "collided" not in plain


def test_rubbish_in_the_accelerator_is_noticed():
    image = random_image(PLAIN)
    frames = random_frames(PLAIN, 1).numpy()
    plan = run.make_plan(image, IntegerNetwork(image), frames, SMALL)
    assert run.simulate(plan, platform=Rubbish())["differences"] == []
    assert run.simulate(plan, platform=Touchy())["differences"]
