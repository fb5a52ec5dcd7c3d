"""What the build needs to know of a board."""

import contextlib
from dataclasses import dataclass

from hw.clock import ClockError, ClockGenerator
from hw.uart import BaudError, divisor_for
from sw.engine import Engine
from sw.framing import BAUDS

__all__ = ["Board"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Board:
    """A board, its part and its pins, and what the tools are called with.

    platform: of amaranth-boards; its ``uart`` resource is the USB bridge. extra: resources that it
    lacks. led: resource of a LED, and which of its colours if it has some; empty: no LED is free.
    bauds: what the bridge does, the fastest first. clock: name of the crystal's resource, of
    crystal_hz. clock_hz: of the design, and seed: of placement, unless the user asks for others.
    pll: None if the crystal's clock is the only one. family: of nextpnr. script: of Yosys, before
    synthesis. synth_opts, nextpnr_opts: measured best for the popcount array. cells: report key ->
    nextpnr's names of the cells it counts, which all take the places of the first. bitstream:
    suffix. loader: openFPGALoader's arguments for the board; without any, by_hand: where the
    bitstream is copied. engine: what it carries; BOARDS has those of ENGINES.
    """

    name: str
    platform: type
    extra: tuple = ()
    led: tuple = ("led",)
    bauds: tuple = BAUDS
    clock: str
    crystal_hz: int
    clock_hz: int
    seed: int = 1
    pll: type | None
    family: str
    script: str
    synth_opts: str
    nextpnr_opts: str
    cells: dict
    bitstream: str
    loader: str = ""
    by_hand: str = ""
    engine: Engine | None = None

    def new_platform(self):
        """An Amaranth platform of the board, with all its resources."""
        platform = self.platform()
        platform.add_resources(self.extra)
        return platform

    def request_led(self, platform):
        """The port of the LED, which no other part of the design may request, or None."""
        if not self.led:
            return None
        resource, *colour = self.led
        port = platform.request(resource, 0, dir="-")
        for name in colour:
            port = getattr(port, name)
        return port

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
        if clock_hz == self.crystal_hz:
            pll = None
        elif self.pll is None:
            raise ClockError(f"the {self.name} runs at {self.crystal_hz / 1e6:g} MHz only")
        else:
            pll = self.pll.search(self.crystal_hz, clock_hz)
        frequency = clock_hz if pll is None else pll.frequency_hz
        self.baud(frequency)
        return ClockGenerator(self.clock, pll, frequency)
