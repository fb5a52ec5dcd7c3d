"""A whole design: a board's device, its clock and its pins."""

from amaranth.hdl import ClockDomain, Elaboratable, Module
from amaranth.lib import io

from hw.device import Device
from hw.link import quiet_bits
from hw.uart import divisor_for

__all__ = ["BOOT_FLASH", "Top"]

#: Resource of the flash that a device boots from: those of amaranth-boards request pins for write
#: protection and hold too, of which the UPduino uses one for its crystal.
BOOT_FLASH = "boot_flash"


class Top(Elaboratable):
    """A whole design: a board's device, its clock and its pins.

    The LED, if the board has one, comes on when the UART has lost a byte, and stays on until the
    next break.
    """

    def __init__(self, board, clock_generator, boot=False):
        self.board, self.clock_generator = board, clock_generator
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
        m.d.comb += [device.rx_line.eq(rx_buffer.i), tx_buffer.o.eq(device.tx_line)]
        led = self.board.request_led(platform)
        if led is not None:
            m.submodules.led_buffer = led_buffer = io.Buffer("o", led)
            m.d.comb += led_buffer.o.eq(device.lost)
        if device.boot:
            self._connect_flash(m, device.flash, platform.request(BOOT_FLASH, dir="-"))
        return m

    def _connect_flash(self, m, flash, pins):
        for name in ("cs", "clk", "copi"):
            m.submodules[f"{name}_buffer"] = buffer = io.Buffer("o", getattr(pins, name))
            m.d.comb += buffer.o.eq(getattr(flash, name))
        m.submodules.cipo_buffer = buffer = io.Buffer("i", pins.cipo)
        m.d.comb += flash.cipo.eq(buffer.i)
