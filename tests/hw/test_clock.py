"""PLL dividers against the vendors' limits and the open tools' calculators; the first reset."""

import re
import subprocess
import sysconfig
from fractions import Fraction
from pathlib import Path

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from hw.clock import (
    MHZ,
    ClockError,
    ClockGenerator,
    Ecp5Pll,
    Ice40CorePll,
    Ice40Pll,
    StartupReset,
)

ICE40_TARGETS = [16_500_000, 18_000_000, 24_000_000, 30_000_000, 36_000_000, 48_000_000, 60_000_000]
ECP5_TARGETS = [12_500_000, 25_000_000, 40_000_000, 50_000_000, 60_000_000, 62_500_000, 90_000_000]


def calculator(name, *arguments):
    """What a PLL calculator of the installed tools prints."""
    script = Path(sysconfig.get_path("scripts")) / name
    run = subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, check=True)
    return run.stdout + run.stderr


@pytest.mark.parametrize("target", ICE40_TARGETS)
def test_ice40_dividers(target):
    pll = Ice40Pll.search(12_000_000, target)
    assert pll.is_legal
    expected = calculator("yowasp-icepll", "-i", 12, "-o", target / MHZ)
    best = float(re.search(r"F_PLLOUT: +([\d.]+) MHz \(achieved\)", expected)[1])
    assert float(pll.frequency_hz) / MHZ == pytest.approx(best, abs=1e-3)
    assert pll.filter_range == int(re.search(r"FILTER_RANGE: (\d)", expected)[1])
    # The formula of the guide, spelled out.
    assert pll.frequency_hz == Fraction(12_000_000 * (pll.divf + 1), (pll.divr + 1) * 2**pll.divq)


@pytest.mark.parametrize("target", ECP5_TARGETS)
def test_ecp5_dividers(target, tmp_path):
    pll = Ecp5Pll.search(25_000_000, target)
    assert pll.is_legal
    assert pll.frequency_hz == target
    assert pll.vco_hz == target * pll.output_div
    expected = calculator(
        "yowasp-ecppll", "-i", 25, "-o", target / MHZ, "--highres", "-f", tmp_path / "pll.v"
    )
    assert float(re.findall(r"clkout[01] frequency: ([\d.]+) MHz", expected)[-1]) == target / MHZ


@pytest.mark.parametrize("pll, reference, target, message", [
    (Ice40Pll, 12_000_000, 12_000_000, "iCE40 PLL makes 16 to 275 MHz, not 12 MHz"),
    (Ice40Pll, 5_000_000, 24_000_000, "iCE40 PLL takes 10 to 133 MHz, not 5 MHz"),
    (Ice40Pll, 12_000_000, 267_000_000, "cannot make 267 MHz of 12 MHz; the nearest is 2"),
    (Ecp5Pll, 25_000_000, 2_000_000, "ECP5 PLL makes 3.125 to 400 MHz, not 2 MHz"),
    (Ecp5Pll, 25_000_000, 303_125_000, "cannot make 303.125 MHz of 25 MHz; the nearest is 3"),
    (Ecp5Pll, 8_000_000, 50_000_000, "can do nothing with 8 MHz"),
])
def test_unreachable(pll, reference, target, message):
    with pytest.raises(ClockError, match=re.escape(message)):
        pll.search(reference, target)


def test_limits_are_checked():
    """Negative control: a VCO or a comparison out of range is not legal."""
    assert Ice40Pll(12_000_000, 0, 63, 5).is_legal
    assert not Ice40Pll(12_000_000, 0, 31, 4).is_legal
    assert not Ice40Pll(12_000_000, 1, 127, 5).is_legal
    assert Ecp5Pll(25_000_000, 1, 24, 12).is_legal
    assert not Ecp5Pll(25_000_000, 1, 12, 6).is_legal
    assert not Ecp5Pll(25_000_000, 5, 80, 8).is_legal


def parameters(text):
    """Parameters of the PLL in RTLIL text, as integers where they are."""
    cell = re.search(r"cell \\(?:SB_PLL40_\w+|EHXPLLL).*?\n  end", text, re.S)[0]
    pairs = re.findall(r"parameter (?:signed )?\\(\w+) (?:\d+'([01]+)|(\S+))", cell)
    return {name: int(bits, 2) if bits else value.strip('"') for name, bits, value in pairs}


@pytest.mark.parametrize("platform, resource, pll, expected", [
    (ICEBreakerPlatform, "clk12", Ice40Pll.search(12_000_000, 24_000_000),
     {"DIVR": 0, "DIVF": 63, "DIVQ": 5, "FILTER_RANGE": 1, "FEEDBACK_PATH": "SIMPLE"}),
    (ULX3S_85F_Platform, "clk25", Ecp5Pll.search(25_000_000, 50_000_000),
     {"CLKI_DIV": "1", "CLKFB_DIV": "2", "CLKOP_DIV": "12", "FEEDBK_PATH": "CLKOP"}),
    (ULX3S_85F_Platform, "clk25", Ecp5Pll.search(25_000_000, 60_000_000),
     {"CLKI_DIV": "1", "CLKFB_DIV": "1", "CLKOP_DIV": "24", "CLKOS_DIV": "10"}),
])
def test_instance(platform, resource, pll, expected):
    design = Module()
    design.submodules.clock = ClockGenerator(resource, pll, int(pll.frequency_hz))
    plan = platform().prepare(design)
    found = parameters(plan.files["top.il"])
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize("pll, cell, reference", [
    (Ice40Pll, "SB_PLL40_PAD", "PACKAGEPIN"), (Ice40CorePll, "SB_PLL40_CORE", "REFERENCECLK"),
])
def test_the_crystal_comes_by_a_pad_or_by_fabric(pll, cell, reference):
    design = Module()
    design.submodules.clock = ClockGenerator(
        "clk12", pll.search(12_000_000, 24_000_000), 24_000_000
    )
    text = ICEBreakerPlatform().prepare(design).files["top.il"]
    instance = re.search(rf"cell \\{cell}.*?\n  end", text, re.S)[0]
    assert re.findall(r"connect \\(PACKAGEPIN|REFERENCECLK) ", instance) == [reference]
    assert parameters(text)["DIVF"] == 63


def test_reset_waits_for_lock_and_returns_when_it_is_lost():
    cycles = 20
    dut = StartupReset(cycles)
    m = Module()
    m.domains.startup = ClockDomain(reset_less=True)
    m.submodules.dut = dut
    resets = []
    locked = [0] * 10 + [1] * 15 + [0] * 3 + [1] * 60 + [0] * 5

    async def testbench(ctx):
        for level in locked:
            ctx.set(dut.locked, level)
            *_, reset = await ctx.tick("startup").sample(dut.reset)
            resets.append(reset)

    sim = Simulator(m)
    sim.add_clock(1e-6, domain="startup")
    sim.add_testbench(testbench)
    sim.run()
    # 15 cycles of lock are too few; the 60 that follow start the count anew.
    released = 10 + 15 + 3 + dut.latency
    fell = 10 + 15 + 3 + 60 + 3
    assert resets == [1] * released + [0] * (fell - released) + [1] * (len(locked) - fell)


def test_without_pll_the_crystal_drives_sync():
    design = Module()
    design.submodules.clock = ClockGenerator("clk12", None, 12_000_000)
    text = ICEBreakerPlatform().prepare(design).files["top.il"]
    assert "SB_PLL40" not in text
    assert "SB_GB_IO" in text


@pytest.mark.parametrize("frequency", [12_000_000, 24_000_000, 50_000_000])
def test_startup_reset_lasts_20_microseconds(frequency):
    cycles = ClockGenerator("clk", None, frequency).startup_cycles
    assert 20 <= cycles / (frequency / MHZ) < 21
