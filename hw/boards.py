"""The boards a bitstream is built for. None of them was at hand.

Pins and crystals are those of amaranth-boards, but for the ``extra`` resources.
"""

from dataclasses import replace

from amaranth.build import Attrs, Pins, PinsN, Resource, Subsignal
from amaranth_boards.colorlight_5a75b_r7_0 import Colorlight_5A75B_R70Platform
from amaranth_boards.ecpix5 import ECPIX585Platform
from amaranth_boards.ice40_hx8k_b_evn import ICE40HX8KBEVNPlatform
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.icesugar import ICESugarPlatform
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
from amaranth_boards.resources import UARTResource
from amaranth_boards.ulx3s import ULX3S_25F_Platform, ULX3S_85F_Platform
from amaranth_boards.upduino_v3 import UpduinoV3Platform

from hw.board import Board
from hw.clock import Ecp5Pll, Ice40CorePll, Ice40Pll
from hw.gowin import TangNano9k
from hw.tools import BuildError
from hw.top import BOOT_FLASH
from sw.engine import ENGINES

__all__ = ["ANY_ENGINE", "BOARDS", "find_board"]

#: Amaranth's read ports keep the old value when their row is being written, and Yosys adds bypass
#: logic for that. No memory of the accelerator reads the row that is written (hw.memory and the
#: tests of the accelerator see to it) and each has one write port: the mask says "do not care".
IGNORE_COLLISIONS = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2"

#: Amaranth calls field i of an array x "x[i]", and so does abc9 bit i of x: it fails where it meets
#: both, as it does in some engines. Yosys then says: Assert `GetSize(conn.first) ==
#: GetSize(conn.second)' failed.
HIDE_FIELDS = "rename -hide w:*]"

#: The script for an engine that nobody has built before.
ANY_ENGINE = f"{IGNORE_COLLISIONS}\n{HIDE_FIELDS}"

#: For wide arrays: with 8,192 MACs a cycle, the default placer's wires were a quarter longer, and
#: router1, the default, was at a fifth of the way when router2 was through.
WIDE = "--placer static --router router2"

#: Of adapters that the user brings, over wires, and of bridges that are microcontrollers (the
#: iCELink of the iCESugar, the BL702 of the Tang Nano 9K): cautious, for none was at hand.
CAUTIOUS_BAUDS = (1_000_000, 500_000, 115_200)


class OrangeCrab(OrangeCrabR0_2_25FPlatform):
    """Without dfu-suffix, which the boot loader and openFPGALoader can do without."""

    @property
    def required_tools(self):
        return super().required_tools[:-1]

    @property
    def command_templates(self):
        return super().command_templates[:-1]


#: The flash that an iCE40 UP5K in its SG48 package is configured from.
_UP5K_FLASH = Resource(
    BOOT_FLASH, 0,
    Subsignal("cs", PinsN("16", dir="o")), Subsignal("clk", Pins("15", dir="o")),
    Subsignal("copi", Pins("14", dir="o")), Subsignal("cipo", Pins("17", dir="i")),
    Attrs(IO_STANDARD="SB_LVCMOS"),
)

_ICEBREAKER = Board(
    name="icebreaker",
    platform=ICEBreakerPlatform,
    extra=(_UP5K_FLASH,),
    family="ice40",
    clock="clk12",
    crystal_hz=12_000_000,
    clock_hz=24_000_000,
    pll=Ice40Pll,
    script=IGNORE_COLLISIONS,
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
    loader="--board ice40_generic",
)

_UPDUINO = replace(
    _ICEBREAKER,
    name="upduino-v3",
    platform=UpduinoV3Platform,
    # The oscillator reaches pin 20 once the jumper OSC is closed; the PLL's own pin is 35.
    pll=Ice40CorePll,
    # Its FT232H is at the flash alone. Places 17 and 18 of the right header, JP6 of the schematic,
    # are marked 45 and 47, as the pins of the part.
    extra=(_UP5K_FLASH, UARTResource(
        0, rx="17", tx="18", conn=("j", 1), attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1),
    )),
    bauds=CAUTIOUS_BAUDS,
    led=("rgb_led", "r"),
    loader="--board ice40_generic --cable ft232",
)

_ICESUGAR = replace(
    _ICEBREAKER,
    name="icesugar",
    platform=ICESugarPlatform,
    bauds=CAUTIOUS_BAUDS,
    loader="",
    by_hand="to the drive that its iCELink shows",
)

_HX8K_EVN = replace(
    _ICEBREAKER,
    name="hx8k-evn",
    platform=ICE40HX8KBEVNPlatform,
    extra=(),
    clock_hz=60_000_000,
    # The crystal's pin is not the PLL's.
    pll=Ice40CorePll,
    # No DSPs, no SPRAM.
    synth_opts="",
    cells={"bram": "ICESTORM_RAM", "logic_cells": "ICESTORM_LC"},
)

_TANG_NANO_9K = Board(
    name="tang-nano-9k",
    platform=TangNano9k,
    family="himbaechel-gowin",
    clock="clk27",
    crystal_hz=27_000_000,
    clock_hz=27_000_000,
    pll=None,
    script=IGNORE_COLLISIONS,
    synth_opts="",
    nextpnr_opts="",
    # An adder takes the place of a LUT; two small multipliers at most that of a large one.
    cells={"lut4": "LUT4 ALU", "ff": "DFF", "bram": "BSRAM", "dsp": "MULT18X18 MULT9X9"},
    bitstream=".fs",
    bauds=CAUTIOUS_BAUDS,
    loader="--board tangnano9k",
)

_ULX3S_85F = Board(
    name="ulx3s-85f",
    platform=ULX3S_85F_Platform,
    family="ecp5",
    clock="clk25",
    crystal_hz=25_000_000,
    clock_hz=50_000_000,
    pll=Ecp5Pll,
    script=IGNORE_COLLISIONS,
    synth_opts="-abc9 -nowidelut",
    # The router goes back over slow paths: of seed 2's 43.1 MHz that makes 56.7. The two wider
    # arrays below gained nothing by it.
    nextpnr_opts=f"{WIDE} --tmg-ripup",
    cells={
        "lut4": "TRELLIS_COMB", "ff": "TRELLIS_FF", "bram": "DP16KD", "dsp": "MULT18X18D",
    },
    bitstream=".bit",
    loader="--board ulx3s",
)

_ULX3S_25F = replace(
    _ULX3S_85F,
    name="ulx3s-25f",
    platform=ULX3S_25F_Platform,
    script=ANY_ENGINE,
    nextpnr_opts="",
)

_ORANGECRAB = replace(
    _ULX3S_25F,
    name="orangecrab",
    platform=OrangeCrab,
    clock="clk",
    crystal_hz=48_000_000,
    clock_hz=48_000_000,
    # Its USB is at the FPGA itself. Pins 0 and 1 of the header are where a Feather has RX and TX.
    extra=(UARTResource(
        0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
    ),),
    bauds=CAUTIOUS_BAUDS,
    led=("rgb_led", "r"),
    # Over the DFU boot loader: hold the button while it is plugged in.
    loader="--board orangeCrab",
)

_COLORLIGHT = replace(
    _ULX3S_25F,
    name="colorlight-5a-75b",
    platform=Colorlight_5A75B_R70Platform,
    # On J19, the UART's transmitter has the pin of the LED, and its receiver that of the button.
    led=(),
    bauds=CAUTIOUS_BAUDS,
    # It has no USB: JTAG is on pads, for an adapter. amaranth-boards takes an FT232H.
    loader="--board colorlight --cable ft232",
)

_ECPIX5 = replace(
    _ULX3S_85F,
    name="ecpix5",
    platform=ECPIX585Platform,
    clock="clk100",
    crystal_hz=100_000_000,
    led=("rgb_led", "r"),
    # Of revision R02; R03 has another debugger: ecpix5_r03.
    loader="--board ecpix5",
)

#: What can be built. The same board with another engine counts as another.
BOARDS = {
    board.name: replace(board, engine=ENGINES[board.name])
    for board in (
        _ICEBREAKER,
        replace(_ICEBREAKER, name="icebreaker-t1", clock_hz=27_000_000),
        _UPDUINO,
        _ICESUGAR,
        _HX8K_EVN,
        _TANG_NANO_9K,
        _ULX3S_25F,
        _ORANGECRAB,
        _COLORLIGHT,
        _ULX3S_85F,
        # Seeds differ much in how closely they place so wide an array.
        replace(
            _ULX3S_85F, name="ulx3s-85f-wide", nextpnr_opts=WIDE, clock_hz=45_000_000, seed=2
        ),
        replace(
            _ULX3S_85F, name="ulx3s-85f-residual", nextpnr_opts=WIDE, clock_hz=45_000_000,
            script=ANY_ENGINE,
        ),
        _ECPIX5,
    )
}


def find_board(name):
    """The Board of that name. Raises BuildError."""
    if name not in BOARDS:
        raise BuildError(f"unknown board {name!r}: one of {', '.join(BOARDS)}")
    return BOARDS[name]
