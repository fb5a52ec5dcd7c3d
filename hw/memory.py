"""Memories that the host fills 16 bits at a time and the engine reads a whole word at a time."""

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostWrite
from hw.contents import HOST, power_up, rows_of

__all__ = ["SPRAM_DEPTH", "HostMemory", "WeightMemory", "bank_bits", "has_spram"]

#: Words wider than this are written 32 bits at a time: ECP5 block RAM is widest without single
#: 16-bit writes.
NARROW = 64

#: Words of an SPRAM of an iCE40 UP5K, of 16 bits each.
SPRAM_DEPTH = 1 << 14


def bank_bits(width):
    """Bits that are written at a time."""
    return HOST if width <= NARROW else 2 * HOST


def has_spram(platform):
    """Whether a platform's weights are in SPRAM."""
    return getattr(platform, "device", None) == "iCE40UP5K"


class HostMemory(wiring.Component):
    """A memory of ``depth`` words of ``width`` bits with one read port and one write port.

    The host writes 16 bits at a time, the lowest of a word first; ``width / 16`` is a power of two.
    A low half may wait for its high half. The reader must be idle while the host writes: no row is
    ever read in the cycle it is written, so memories need no bypass.

    Members
    -------
    address, enable : read request; data : the word, one cycle later, held while not enabled.
    host : writes; those for other regions are ignored.
    """

    latency = 1

    def __init__(self, region, width, depth):
        self.region, self.width, self.depth = region, width, depth
        self.bank = bank_bits(width)
        self.banks = max(width // self.bank, 1)
        super().__init__({
            "address": In(range(max(depth, 2))),
            "enable": In(1),
            "data": Out(width),
            "host": In(HostWrite),
        })

    def model(self, words):
        """Contents, one integer a word, after the host has written the uint16 ``words``."""
        return rows_of(words, self.width, self.depth)

    def _host_row(self, m):
        """Row and one-hot bank that the host addresses, and the data of a bank."""
        bits = self.banks.bit_length() - 1
        enable = self.host.enable & (self.host.region == self.region)
        address, word = self.host.address, self.host.data
        if self.bank > HOST:
            low = Signal(HOST)
            with m.If(enable):
                m.d.sync += low.eq(self.host.data)
            enable, address, word = enable & address[0], address[1:], Cat(low, word)
        if bits:
            enable = (enable << address[:bits])[: self.banks]
        return address[bits:], enable, word

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = mem = memory.Memory(
            shape=self.width, depth=self.depth, **power_up(platform, self)
        )
        read = mem.read_port()
        write = mem.write_port(granularity=self.bank if self.banks > 1 else None)
        row, enable, word = self._host_row(m)
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(self.enable),
            self.data.eq(read.data),
            write.addr.eq(row),
            write.data.eq(word.replicate(self.banks)[: self.width]),
            write.en.eq(enable),
        ]
        return m


class WeightMemory(HostMemory):
    """The weights: block RAM, or single-port SPRAM on an iCE40 UP5K where each bank is one SPRAM.

    SPRAM comes up with unknown contents and is never inferred (Amaranth memories have initial
    values), hence the instances: Lattice technical note FPGA-TN-02022, SB_SPRAM256KA.
    """

    def elaborate(self, platform):
        if not has_spram(platform):
            return super().elaborate(platform)
        m = Module()
        row, enable, word = self._host_row(m)
        address = Signal(range(SPRAM_DEPTH))
        m.d.comb += address.eq(Mux(self.host.enable, row, self.address))
        for bank in range(self.banks):
            m.submodules[f"spram{bank}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_ADDRESS=address,
                i_DATAIN=word,
                i_WREN=enable[bank],
                i_MASKWREN=0b1111,
                i_CHIPSELECT=enable[bank] | self.enable,
                i_STANDBY=0,
                i_SLEEP=0,
                i_POWEROFF=1,
                o_DATAOUT=self.data[HOST * bank : HOST * (bank + 1)],
            )
        return m
