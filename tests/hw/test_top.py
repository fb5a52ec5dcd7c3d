"""What lies between the pins and the device: reset, serial line, LED, flash."""

from types import SimpleNamespace

import pytest
from amaranth.hdl import Fragment, Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator

import hw.device
from hw.boot import PAUSE
from hw.top import Top
from tests.hw.test_build import Echo
from tests.hw.test_uart import frames

DIVISOR = 4


class Clock(wiring.Component):
    """Stands in for a ClockGenerator: the testbench makes its clock and its reset."""

    clk: Out(1)
    reset: Out(1)

    frequency_hz = 4_000_000

    def elaborate(self, platform):
        return Module()


def pins(**directions):
    return SimpleNamespace(**{
        name: io.SimulationPort(direction, 1) for name, direction in directions.items()
    })


def run(levels, boot=False, reset=0):
    """What is on the pins in each cycle, by name, for ``levels`` of the receiver's line."""
    ports = {
        "uart": pins(rx="i", tx="o"), "led": pins(led="o"),
        "boot_flash": pins(cs="o", clk="o", copi="o", cipo="i"),
    }
    board = SimpleNamespace(
        engine=None, baud=lambda frequency: frequency // DIVISOR,
        request_led=lambda platform: platform.request("led", "-").led,
    )
    platform = SimpleNamespace(request=lambda name, dir: ports[name])
    top, rows = Top(board, Clock(), boot), []
    watched = {
        "tx": ports["uart"].tx.o, "led": ports["led"].led.o,
        **({name: getattr(ports["boot_flash"], name).o for name in ("cs", "clk", "copi")}
           if boot else {}),
    }

    async def testbench(ctx):
        clock = top.clock_generator
        ctx.set(clock.reset, reset)
        for number, level in enumerate(levels):
            ctx.set(ports["uart"].rx.i, level)
            ctx.set(ports["boot_flash"].cipo.i, number % 3 == 0)
            ctx.set(clock.clk, 1)
            await ctx.delay(1e-7)
            row = {name: ctx.get(signal) for name, signal in watched.items()}
            if boot:
                for name in ("cs", "clk", "copi"):
                    assert row[name] == ctx.get(getattr(top.device.flash, name)), name
                assert ctx.get(top.device.flash.cipo) == (number % 3 == 0)
            rows.append(row)
            ctx.set(clock.clk, 0)
            await ctx.delay(1e-7)

    sim = Simulator(Fragment.get(top, platform))
    sim.add_testbench(testbench)
    sim.run()
    return {name: [row[name] for row in rows] for name in rows[0]}


def line(bits, idle=80):
    """Levels of a line in each cycle, high before and behind ``bits``."""
    return [1] * 8 + [bit for bit in bits for _ in range(DIVISOR)] + [1] * idle


@pytest.fixture(autouse=True)
def echo(monkeypatch):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)


def test_a_byte_comes_back_over_the_pins_of_the_line():
    sent = line(frames([0xA5]))
    seen = run(sent)
    start = seen["tx"].index(0)
    assert seen["tx"][start : start + 10 * DIVISOR] == sent[8 : 8 + 10 * DIVISOR]
    assert seen["tx"].count(0) == sent.count(0)
    assert set(seen["led"]) == {0}


def test_the_reset_of_the_clock_holds_the_device():
    assert set(run(line(frames([0xA5])), reset=1)["tx"]) == {1}


def test_the_led_shows_a_lost_byte_until_a_break():
    """A byte with a bad stop bit is lost."""
    led = run(line(frames([0xFF], stop=0)) + line([0] * 20))["led"]
    lit = led.index(1)
    assert set(led[:lit]) == {0} and lit < 8 + 10 * DIVISOR + 4
    dark = led.index(0, lit)
    assert dark > 8 + 10 * DIVISOR + 80 and set(led[dark:]) == {0}


def test_the_flash_is_on_its_pins():
    seen = run([1] * (PAUSE + 60), boot=True)
    assert {name: set(seen[name]) for name in ("cs", "clk", "copi")} == {
        "cs": {0, 1}, "clk": {0, 1}, "copi": {0, 1},
    }
    assert seen["cs"] != seen["clk"] != seen["copi"] != seen["cs"]
