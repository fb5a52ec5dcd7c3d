"""Loads a network from the SPI flash that the bitstream came from, as a host would load it."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from sw.framing import NUMBERS, OPENING, frame_command

__all__ = [
    "LENGTH_BYTES",
    "MAGIC",
    "OFFSET",
    "PAUSE",
    "SIZE_BITS",
    "SPI",
    "Boot",
    "append",
    "blob",
]

#: Where the blob is in the flash, behind the 104,090 bytes of a UP5K's bitstream.
OFFSET = 0x20000

#: What the blob begins with; three bytes for the length of the frames behind it follow, the lowest
#: first. More than 2**SIZE_BITS bytes are not ours.
MAGIC = b"AGMN"
LENGTH_BYTES = 3
SIZE_BITS = 20

#: Cycles of rest before and after the flash is woken, and at the end, for the last reply: 42 us at
#: 48 MHz. The data sheets ask for 3 us (W25Q128JV, tRES1) to 35 us (MX25R6435F).
PAUSE = 2048

#: SPI mode 0. cs is 1 while the flash is selected.
SPI = wiring.Signature({"cs": Out(1), "clk": Out(1), "copi": Out(1), "cipo": In(1)})

_WAKE, _READ = 0xAB, 0x03


def blob(program):
    """The bytes at OFFSET that load a Program: all frames of a load, one after the other."""
    frames = b"".join(
        frame_command(number % NUMBERS | (0 if number else OPENING), command)
        for number, command in enumerate(program.load_commands())
    )
    return MAGIC + len(frames).to_bytes(LENGTH_BYTES, "little") + frames


def append(bitstream, program):
    """What to write to the flash: a bitstream, and the blob of a Program behind it."""
    if len(bitstream) > OFFSET:
        raise ValueError(f"a bitstream of {len(bitstream)} bytes reaches beyond {OFFSET:#x}")
    return bitstream.ljust(OFFSET, b"\xff") + blob(program)


class Boot(wiring.Component):
    """Plays the blob in the flash once after reset, if there is one.

    icepack's bitstreams leave the flash in deep power-down, so it is woken first. The clock of the
    flash is half of ours: 12 MHz on the boards (the W25Q128JV takes command 0x03 at up to 50). What
    the flash sends is sampled as its clock falls, a whole period after it was sent.

    Members
    -------
    octets : the frames of the blob; the flash waits where they do.
    busy : until all is over, the last reply included. Of a flash without a blob, until that is
        known.
    flash : its pins.
    """

    def __init__(self):
        super().__init__({
            "octets": Out(stream.Signature(8)), "busy": Out(1, init=1), "flash": Out(SPI),
        })

    def model(self, flash):
        """The bytes played, of a flash that holds the bytes ``flash``."""
        head = OFFSET + len(MAGIC) + LENGTH_BYTES
        size = int.from_bytes(flash[head - LENGTH_BYTES : head], "little")
        if flash[OFFSET : OFFSET + len(MAGIC)] != MAGIC or size >> SIZE_BITS:
            return b""
        return flash[head : head + size]

    def cycles(self, octets):
        """Cycles that playing so many bytes takes, where none has to wait; 0 is an empty blob."""
        return 3 * PAUSE + 18 * (5 + len(MAGIC) + LENGTH_BYTES) + 17 * octets + 1

    def elaborate(self, platform):
        m = Module()
        flash, octets = self.flash, self.octets
        # What is sent: wake up; read from OFFSET. What comes then, if it is ours.
        sent = bytes([_WAKE, _READ]) + OFFSET.to_bytes(3, "big")
        length, data = len(sent + MAGIC), len(sent + MAGIC) + LENGTH_BYTES
        table = Array([*sent, *MAGIC])
        step = Signal(range(data + 1))
        pause, over = Signal(range(PAUSE)), Signal()
        octet, bit = Signal(8), Signal(3)
        left = Signal(8 * LENGTH_BYTES)
        size = Cat(left[8:], octet)

        m.d.comb += [flash.copi.eq(octet[-1]), octets.payload.eq(octet)]
        with m.FSM():
            with m.State("Pause"):
                m.d.sync += [flash.cs.eq(0), pause.eq(pause + 1)]
                with m.If(pause == PAUSE - 1):
                    m.next = "Load"
                    with m.If(over):
                        m.next = "Done"

            with m.State("Load"):
                m.d.sync += [flash.cs.eq(1), octet.eq(table[step])]
                m.next = "Shift"

            with m.State("Shift"):
                m.d.sync += flash.clk.eq(~flash.clk)
                with m.If(flash.clk):
                    m.d.sync += [octet.eq(Cat(flash.cipo, octet[:-1])), bit.eq(bit + 1)]
                    with m.If(bit == 7):
                        m.next = "Taken"

            with m.State("Taken"):
                with m.If(step != data):
                    m.d.sync += step.eq(step + 1)
                m.next = "Load"
                with m.If(step == 0):
                    m.next = "Pause"
                with m.Elif(step < len(sent)):
                    pass
                with m.Elif(step < length):
                    with m.If(octet != table[step]):
                        m.d.sync += over.eq(1)
                        m.next = "Pause"
                with m.Elif(step < data):
                    m.d.sync += left.eq(size)
                    with m.If(step == data - 1):
                        m.next = "Shift"
                        with m.If((size == 0) | size[SIZE_BITS:].any()):
                            m.d.sync += over.eq(1)
                            m.next = "Pause"
                with m.Else():
                    m.d.comb += octets.valid.eq(1)
                    m.next = "Taken"
                    with m.If(octets.ready):
                        m.d.sync += left.eq(left - 1)
                        m.next = "Shift"
                        with m.If(left == 1):
                            m.d.sync += over.eq(1)
                            m.next = "Pause"

            with m.State("Done"):
                m.d.sync += self.busy.eq(0)
        return m
