"""The boards a bitstream is built for, and what surrounds the accelerator on them."""

import contextlib
from dataclasses import dataclass, replace

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from hw.clock import ClockGenerator, Ecp5Pll, Ice40Pll
from hw.device import Device
from hw.link import quiet_bits
from hw.uart import BaudError, divisor_for
from sw.engine import ENGINES, Engine
from sw.framing import BAUDS

__all__ = ["ANY_ENGINE", "BOARDS", "Board", "Top"]

#: Amaranth's read ports keep the old value when their row is being written, and Yosys adds bypass
#: logic for that. No memory of the accelerator reads the row that is written (hw.memory and the
#: tests of the accelerator see to it) and each has one write port: the mask says "do not care".
IGNORE_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"

#: Amaranth calls field i of an array x "x[i]", and so does abc9 bit i of x: it fails where it meets
#: both, as it does in one engine. Yosys then says: Assert `GetSize(conn.first) ==
#: GetSize(conn.second)' failed.
HIDE_FIELDS = "rename -hide w:*]"

#: The script for an engine that nobody has built before.
ANY_ENGINE = f"{IGNORE_COLLISIONS}\n{HIDE_FIELDS}"

#: For wide arrays: with 8,192 MACs a cycle, the default placer's wires were a quarter longer, and
#: router1, the default, was at a fifth of the way when router2 was through.
WIDE = "--placer static --router router2"


@dataclass(frozen=True, kw_only=True, eq=False)
class Board:
    """What the build needs to know of a board.

    platform: of amaranth-boards; its ``uart`` resource is the USB bridge. family: of nextpnr.
    clock: name of the crystal's resource, of crystal_hz. clock_hz: of the design, and seed: of
    placement, unless the user asks for others. bauds: what the bridge does, the fastest first.
    script: of Yosys, before synthesis. synth_opts, nextpnr_opts: measured best for the popcount
    array. cells: report key -> nextpnr's name of the cells it counts. bitstream: suffix. loader:
    openFPGALoader's name of the board. engine: what it carries; BOARDS has those of ENGINES.
    """

    name: str
    platform: type
    family: str
    clock: str
    crystal_hz: int
    clock_hz: int
    pll: type
    synth_opts: str
    nextpnr_opts: str
    cells: dict
    bitstream: str
    loader: str
    bauds: tuple = BAUDS
    seed: int = 1
    script: str = IGNORE_COLLISIONS
    engine: Engine | None = None

    def baud(self, frequency_hz):
        """The fastest of the bridge that ``frequency_hz`` divides to. Raises BaudError."""
        for baud in self.bauds:
            with contextlib.suppress(BaudError):
                divisor_for(frequency_hz, baud)
                return baud
        raise BaudError(
            f"{float(frequency_hz) / 1e6:g} MHz cannot be divided to any baud rate of the bridge:"
            f" {', '.join(map(str, self.bauds))}"
        )

    def clock_generator(self, clock_hz):
        """ClockGenerator of about ``clock_hz``. Raises ClockError, or BaudError."""
        pll = None if clock_hz == self.crystal_hz else self.pll.search(self.crystal_hz, clock_hz)
        frequency = clock_hz if pll is None else pll.frequency_hz
        self.baud(frequency)
        return ClockGenerator(self.clock, pll, frequency)


class Top(Elaboratable):
    """A whole design: a board's device, its clock and its pins.

    LED 0 comes on when the UART has lost a byte, and stays on until the next break.
    """

    def __init__(self, board, clock_generator, boot=False):
        self.clock_generator = clock_generator
        frequency = clock_generator.frequency_hz
        divisor = divisor_for(frequency, board.baud(frequency))
        self.device = Device(board.engine, divisor, quiet_bits(frequency), boot)

    def elaborate(self, platform):
        m = Module()
        m.submodules.clock = clock = self.clock_generator
        m.domains.sync = sync = ClockDomain()
        m.d.comb += [sync.clk.eq(clock.clk), sync.rst.eq(clock.reset)]

        m.submodules.device = device = self.device
        pins = platform.request("uart", dir="-")
        m.submodules.rx_buffer = rx_buffer = io.Buffer("i", pins.rx)
        m.submodules.tx_buffer = tx_buffer = io.Buffer("o", pins.tx)
        m.submodules.led_buffer = led_buffer = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.d.comb += [
            device.rx_line.eq(rx_buffer.i),
            tx_buffer.o.eq(device.tx_line),
            led_buffer.o.eq(device.lost),
        ]
        if device.boot:
            self._connect_flash(m, device.flash, platform.request("spi_flash_1x", dir="-"))
        return m

    def _connect_flash(self, m, flash, pins):
        for name in ("cs", "clk", "copi"):
            m.submodules[f"{name}_buffer"] = buffer = io.Buffer("o", getattr(pins, name))
            m.d.comb += buffer.o.eq(getattr(flash, name))
        m.submodules.cipo_buffer = buffer = io.Buffer("i", pins.cipo)
        m.d.comb += flash.cipo.eq(buffer.i)


_ICEBREAKER = Board(
    name="icebreaker",
    platform=ICEBreakerPlatform,
    family="ice40",
    clock="clk12",
    crystal_hz=12_000_000,
    clock_hz=24_000_000,
    pll=Ice40Pll,
    # Not -device u: it takes 42 cells more and gains nothing (seeds 1, 2: 25.0, 28.4 MHz against
    # 28.3, 27.4).
    synth_opts="-dsp",
    nextpnr_opts="",
    cells={
        "bram": "ICESTORM_RAM", "dsp": "ICESTORM_DSP", "spram": "ICESTORM_SPRAM",
        "logic_cells": "ICESTORM_LC",
    },
    bitstream=".bin",
    # Any board whose FT2232 is at the flash, as this one's is.
    loader="ice40_generic",
)

_ULX3S_85F = Board(
    name="ulx3s-85f",
    platform=ULX3S_85F_Platform,
    family="ecp5",
    clock="clk25",
    crystal_hz=25_000_000,
    clock_hz=50_000_000,
    pll=Ecp5Pll,
    synth_opts="-abc9 -nowidelut",
    nextpnr_opts=WIDE,
    cells={
        "lut4": "TRELLIS_COMB", "ff": "TRELLIS_FF", "bram": "DP16KD", "dsp": "MULT18X18D",
    },
    bitstream=".bit",
    loader="ulx3s",
)

#: What can be built. The same board with another engine counts as another.
BOARDS = {
    board.name: replace(board, engine=ENGINES[board.name])
    for board in (
        _ICEBREAKER, replace(_ICEBREAKER, name="icebreaker-t1", clock_hz=27_000_000),
        # The router goes back over slow paths: of seed 2's 43.1 MHz that makes 56.7. The two arrays
        # below gained nothing by it.
        replace(_ULX3S_85F, nextpnr_opts=f"{WIDE} --tmg-ripup"),
        # Seeds differ much in how closely they place so wide an array.
        replace(_ULX3S_85F, name="ulx3s-85f-wide", clock_hz=45_000_000, seed=2),
        replace(
            _ULX3S_85F, name="ulx3s-85f-residual", clock_hz=45_000_000,
            script=ANY_ENGINE,
        ),
    )
}
