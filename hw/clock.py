"""The clock of the design: a PLL between the board's crystal and ``sync``, and the first reset."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from amaranth.hdl import ClockDomain, Const, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = [
    "ClockError", "ClockGenerator", "Ecp5Pll", "Ice40CorePll", "Ice40Pll", "StartupReset",
]

MHZ = 1_000_000

#: iCE40 block RAM reads zeros for some microseconds after configuration (icestorm issue 76).
STARTUP_SECONDS = 20e-6


class ClockError(ValueError):
    """A clock frequency that a board cannot make, in one line."""


def _within(limits, frequency):
    low, high = limits
    return low * MHZ <= frequency <= high * MHZ


def _search(cls, reference_hz, frequency_hz):
    """The legal PLL nearest to ``frequency_hz``.

    Of equals the one that compares phases most often, for little jitter, and then the one with its
    VCO nearest to the middle of its range.
    """
    if not _within(cls.REFERENCE, reference_hz):
        raise ClockError(
            f"{cls.name} PLL takes {cls.REFERENCE[0]} to {cls.REFERENCE[1]} MHz,"
            f" not {reference_hz / MHZ:g} MHz"
        )
    if not _within(cls.OUTPUT, frequency_hz):
        raise ClockError(
            f"{cls.name} PLL makes {cls.OUTPUT[0]:g} to {cls.OUTPUT[1]:g} MHz,"
            f" not {frequency_hz / MHZ:g} MHz"
        )
    best = min(
        (pll for pll in cls.candidates(reference_hz, frequency_hz) if pll.is_legal),
        key=lambda pll: (
            abs(pll.frequency_hz - frequency_hz),
            -pll.comparison_hz,
            abs(2 * pll.vco_hz - sum(cls.VCO) * MHZ),
        ),
        default=None,
    )
    if best is None:
        raise ClockError(f"{cls.name} PLL can do nothing with {reference_hz / MHZ:g} MHz")
    if abs(best.frequency_hz / frequency_hz - 1) > cls.TOLERANCE:
        raise ClockError(
            f"{cls.name} PLL cannot make {frequency_hz / MHZ:g} MHz of {reference_hz / MHZ:g} MHz;"
            f" the nearest is {float(best.frequency_hz / MHZ):.4g} MHz"
        )
    return best


class _Pll:
    """What the PLLs share. Frequencies are in MHz where they are limits, in Hz elsewhere."""

    #: Largest relative distance from the frequency asked for.
    TOLERANCE = Fraction(1, 100)

    @property
    def is_legal(self):
        return (
            _within(self.COMPARISON, self.comparison_hz)
            and _within(self.VCO, self.vco_hz)
            and _within(self.OUTPUT, self.frequency_hz)
        )

    @classmethod
    def search(cls, reference_hz, frequency_hz):
        """The PLL nearest to ``frequency_hz``. Raises ClockError if none is within 1 %."""
        return _search(cls, reference_hz, frequency_hz)


@dataclass(frozen=True)
class Ice40Pll(_Pll):
    """SB_PLL40_PAD with SIMPLE feedback: reference * (divf + 1) / (divr + 1) / 2**divq.

    Limits: iCE40 UltraPlus Family Data Sheet (FPGA-DS-02008), sysCLOCK PLL Timing; those of the
    iCE40 LP/HX Family Data Sheet (FPGA-DS-02029) are the same. Parameters and filter ranges: iCE40
    sysCLOCK PLL Design and User Guide (FPGA-TN-02052).
    """

    reference_hz: int
    divr: int
    divf: int
    divq: int

    name = "iCE40"
    REFERENCE = COMPARISON = (10, 133)
    VCO = (533, 1066)
    OUTPUT = (16, 275)
    #: Upper end of each filter range, in MHz of the phase comparison; the ranges count from 1.
    FILTER_RANGES = (17, 26, 44, 66, 101, 133)

    @classmethod
    def candidates(cls, reference_hz, frequency_hz):
        for divr in range(16):
            for divq in range(1, 7):
                ideal = Fraction(frequency_hz) * (divr + 1) * 2**divq / reference_hz - 1
                for divf in {int(ideal), ceil(ideal)} & set(range(128)):
                    yield cls(reference_hz, divr, divf, divq)

    @property
    def comparison_hz(self):
        return Fraction(self.reference_hz, self.divr + 1)

    @property
    def vco_hz(self):
        return self.comparison_hz * (self.divf + 1)

    @property
    def frequency_hz(self):
        return self.vco_hz / 2**self.divq

    @property
    def filter_range(self):
        return 1 + sum(self.comparison_hz >= limit * MHZ for limit in self.FILTER_RANGES[:-1])

    def connect(self, m, port, clk, locked):
        """Adds the PLL between the crystal's pin and ``clk``, which is a global net."""
        self._instantiate(m, "SB_PLL40_PAD", {"io_PACKAGEPIN": port.io}, clk, locked)

    def _instantiate(self, m, cell, reference, clk, locked):
        m.submodules.pll = Instance(
            cell,
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(self.divr, 4),
            p_DIVF=Const(self.divf, 7),
            p_DIVQ=Const(self.divq, 3),
            p_FILTER_RANGE=Const(self.filter_range, 3),
            **reference,
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clk,
            o_LOCK=locked,
        )


class Ice40CorePll(Ice40Pll):
    """SB_PLL40_CORE, for a crystal at another pin than the PLL's: its clock comes by fabric."""

    def connect(self, m, port, clk, locked):
        """Adds the input buffer, and the PLL between it and ``clk``, which is a global net."""
        m.submodules.clk_buffer = buffer = io.Buffer("i", port)
        self._instantiate(m, "SB_PLL40_CORE", {"i_REFERENCECLK": buffer.i}, clk, locked)


@dataclass(frozen=True)
class Ecp5Pll(_Pll):
    """EHXPLLL, feedback from CLKOP: reference / input_div * multiplier / output_div.

    Limits: ECP5 and ECP5-5G Family Data Sheet (FPGA-DS-02012), sysCLOCK PLL Timing; it specifies
    jitter from a comparison frequency of 10 MHz on. Parameters: ECP5 and ECP5-5G sysCLOCK PLL/DLL
    Design and User Guide (FPGA-TN-02200).
    """

    reference_hz: int
    input_div: int
    multiplier: int
    output_div: int

    name = "ECP5"
    REFERENCE = (8, 400)
    COMPARISON = (10, 400)
    VCO = (400, 800)
    OUTPUT = (3.125, 400)

    @classmethod
    def candidates(cls, reference_hz, frequency_hz):
        # No comparison is slower than 10 MHz and no VCO faster than 800 MHz: 80 is the largest.
        for input_div in range(1, 129):
            for multiplier in range(1, 81):
                ideal = Fraction(reference_hz * multiplier, input_div) / frequency_hz
                for output_div in {int(ideal), ceil(ideal)} & set(range(1, 129)):
                    yield cls(reference_hz, input_div, multiplier, output_div)

    @property
    def comparison_hz(self):
        return Fraction(self.reference_hz, self.input_div)

    @property
    def vco_hz(self):
        return self.comparison_hz * self.multiplier

    @property
    def frequency_hz(self):
        return self.vco_hz / self.output_div

    def connect(self, m, port, clk, locked):
        """Adds the input buffer and the PLL between the crystal's pin and ``clk``."""
        m.submodules.clk_buffer = buffer = io.Buffer("i", port)
        if self.multiplier % self.output_div == 0:
            feedback, dividers = clk, {"CLKOP": self.output_div}
        else:
            # CLKOP only closes the loop, at the frequency of the comparison.
            feedback, dividers = Signal(), {"CLKOP": self.multiplier, "CLKOS": self.output_div}
        outputs = {}
        for output, divider in dividers.items():
            outputs |= {
                f"a_FREQUENCY_PIN_{output}": f"{float(self.vco_hz / divider / MHZ):.6f}",
                f"p_{output}_ENABLE": "ENABLED",
                f"p_{output}_DIV": divider,
                # Half a period, as ecppll has it; no other clock relates to this one.
                f"p_{output}_CPHASE": max(divider // 2 - 1, 0),
                f"p_{output}_FPHASE": 0,
                f"o_{output}": clk,
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Charge pump and filter as Project Trellis's ecppll sets them for every frequency.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            a_FREQUENCY_PIN_CLKI=f"{self.reference_hz / MHZ:.6f}",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=self.input_div,
            p_CLKFB_DIV=self.multiplier // dividers["CLKOP"],
            i_CLKI=buffer.i,
            i_CLKFB=feedback,
            i_RST=Const(0),
            i_STDBY=Const(0),
            o_LOCK=locked,
            **(outputs | {"o_CLKOP": feedback}),
        )


class StartupReset(wiring.Component):
    """Holds ``reset`` until ``locked`` has been high for ``cycles`` cycles without a break.

    It runs in the domain ``startup``, which has the clock of ``sync`` and no reset: its registers
    rely on their configuration values.

    Members
    -------
    locked : of the PLL, asynchronous. reset : for the domain ``sync``.
    """

    def __init__(self, cycles):
        self.cycles = cycles
        super().__init__({"locked": In(1), "reset": Out(1, init=1)})

    @property
    def latency(self):
        """Cycles from the rise of ``locked`` to the fall of ``reset``."""
        return 2 + self.cycles + 1

    def elaborate(self, platform):
        m = Module()
        locked = Signal()
        count = Signal(range(self.cycles + 1))
        m.submodules.synchroniser = FFSynchronizer(self.locked, locked, o_domain="startup")
        with m.If(~locked):
            m.d.startup += [count.eq(0), self.reset.eq(1)]
        with m.Elif(count == self.cycles):
            m.d.startup += self.reset.eq(0)
        with m.Else():
            m.d.startup += count.eq(count + 1)
        return m


class ClockGenerator(wiring.Component):
    """Makes clock and reset of the domain ``sync`` from a clock resource of the platform.

    Parameters
    ----------
    resource : str
        Name of the platform's clock, such as ``clk12``.
    pll : a PLL as above, or None
        None: the crystal's own frequency.
    frequency_hz : int
        Of ``sync``; the time that the reset lasts depends on it.

    Members
    -------
    clk, reset : for the domain ``sync``, which the top level defines.
    """

    def __init__(self, resource, pll, frequency_hz):
        self.resource, self.pll, self.frequency_hz = resource, pll, frequency_hz
        super().__init__({"clk": Out(1), "reset": Out(1, init=1)})

    @property
    def startup_cycles(self):
        """Cycles of reset after the PLL has locked."""
        return ceil(STARTUP_SECONDS * self.frequency_hz)

    def elaborate(self, platform):
        m = Module()
        m.domains.startup = domain = ClockDomain(reset_less=True, local=True)
        m.submodules.startup = startup = StartupReset(self.startup_cycles)
        port = platform.request(self.resource, dir="-")
        if self.pll is None:
            m.submodules.clk_buffer = buffer = io.Buffer("i", port)
            m.d.comb += [self.clk.eq(buffer.i), startup.locked.eq(1)]
        else:
            self.pll.connect(m, port, self.clk, startup.locked)
        m.d.comb += [domain.clk.eq(self.clk), self.reset.eq(startup.reset)]
        return m
