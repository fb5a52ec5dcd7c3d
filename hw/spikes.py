"""The spike memory: spike maps of all layers, and logits, in block RAM."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostRead, HostWrite
from hw.contents import power_up, rows_of
from sw.program import Region

__all__ = ["BANK", "SpikeMemory", "parts"]

BANK = 16

#: Block RAM has no fewer rows.
ROWS = 256


def parts(depth):
    """Depths of the memories that one of ``depth`` words is made of."""
    power = 1 << (depth.bit_length() - 1)
    return [power, depth - power] if depth > max(power, ROWS) else [depth]


class SpikeMemory(wiring.Component):
    """``depth`` words of ``simd * lanes`` bits, written by the engine or the host.

    A layer reads one region and writes another, and the host only speaks while the engine is idle:
    no row is read in the cycle it is written.

    A depth that is no power of two is a memory that is one and a memory for the rest: left as it
    is, Yosys makes it of blocks of ``ROWS`` words, and a choice between all of them.

    Members
    -------
    address, enable, data : the engine's read, one cycle.
    write_banks, write_address, write_data : the engine's write, a bit for each bank of 16; the data
        are 0 while the host writes.
    host, host_read : writes and reads of 16-bit words.
    """

    latency = 1
    region = Region.SPIKES

    def __init__(self, width, depth):
        self.width, self.depth = width, depth
        self.banks = width // BANK
        super().__init__({
            "address": In(range(depth)),
            "enable": In(1),
            "data": Out(width),
            "write_banks": In(self.banks),
            "write_address": In(range(depth)),
            "write_data": In(width),
            "host": In(HostWrite),
            "host_read": In(HostRead),
        })

    def model(self, words):
        """Contents, one integer a word, after the host has written the uint16 ``words``."""
        return rows_of(words, self.width, self.depth)

    def elaborate(self, platform):
        m = Module()
        bits = self.banks.bit_length() - 1
        bank, selected = self.host_read.address[:bits], Signal(bits)
        read_address = Signal.like(self.address)
        read_enable = self.enable | self.host_read.enable
        m.d.comb += read_address.eq(
            Mux(self.host_read.enable, self.host_read.address[bits:], self.address)
        )
        m.d.sync += selected.eq(bank)
        m.d.comb += self.host_read.data.eq(self.data.word_select(selected, BANK))

        # One of the two is silent, so their data are joined, not chosen: that is half the LUTs.
        host_enable = self.host.enable & (self.host.region == self.region)
        host_data = Signal(self.width)
        with m.If(host_enable):
            m.d.comb += host_data.eq(self.host.data.replicate(self.banks))
        write_address, write_data = Signal.like(self.address), Signal(self.width)
        write_enable = Signal(self.banks)
        m.d.comb += [
            write_address.eq(
                Mux(self.write_banks.any(), self.write_address, self.host.address[bits:])
            ),
            write_data.eq(self.write_data | host_data),
            write_enable.eq(
                self.write_banks
                | (host_enable << self.host.address[:bits])[: self.banks]
            ),
        ]

        sizes = parts(self.depth)
        power = sizes[0]
        words = []
        for part, size in enumerate(sizes):
            m.submodules[f"memory{part}"] = mem = memory.Memory(
                shape=self.width, depth=size,
                **power_up(platform, self, slice(part * power, part * power + size)),
            )
            read, write = mem.read_port(), mem.write_port(granularity=BANK)
            reads = writes = 1
            if len(sizes) > 1:
                reads, writes = ((a >= power) == part for a in (read_address, write_address))
            m.d.comb += [
                read.addr.eq(read_address),
                read.en.eq(read_enable & reads),
                write.addr.eq(write_address),
                write.data.eq(write_data),
                write.en.eq(Mux(writes, write_enable, 0)),
            ]
            words.append(read.data)
        rest = Signal()
        with m.If(read_enable):
            m.d.sync += rest.eq(read_address >= power)
        m.d.comb += self.data.eq(Mux(rest, words[-1], words[0]))
        return m
