"""The spike memory: frame, spike maps of all layers and logits, in one block RAM."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostRead, HostWrite
from sw.program import Region

__all__ = ["SpikeMemory"]

BANK = 16


class SpikeMemory(wiring.Component):
    """``depth`` words of ``simd * lanes`` bits, written by the engine or the host.

    A layer reads one region and writes another, and the host only speaks while the engine is idle:
    no row is read in the cycle it is written.

    Members
    -------
    address, enable, data : the engine's read, one cycle.
    write_enable, write_address, write_data : the engine's write of a whole word; the data are 0
        while the host writes.
    host, host_read : writes and reads of 16-bit words.
    """

    latency = 1

    def __init__(self, width, depth):
        self.width, self.depth = width, depth
        self.banks = width // BANK
        super().__init__({
            "address": In(range(depth)),
            "enable": In(1),
            "data": Out(width),
            "write_enable": In(1),
            "write_address": In(range(depth)),
            "write_data": In(width),
            "host": In(HostWrite),
            "host_read": In(HostRead),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = mem = memory.Memory(shape=self.width, depth=self.depth, init=[])
        read = mem.read_port()
        write = mem.write_port(granularity=BANK)
        bits = self.banks.bit_length() - 1
        bank, selected = self.host_read.address[:bits], Signal(bits)
        m.d.comb += [
            read.addr.eq(Mux(self.host_read.enable, self.host_read.address[bits:], self.address)),
            read.en.eq(self.enable | self.host_read.enable),
            self.data.eq(read.data),
        ]
        m.d.sync += selected.eq(bank)
        m.d.comb += self.host_read.data.eq(read.data.word_select(selected, BANK))

        # One of the two is silent, so their data are joined, not chosen: that is half the LUTs.
        host_enable = self.host.enable & (self.host.region == Region.SPIKES)
        host_data = Signal(self.width)
        with m.If(host_enable):
            m.d.comb += host_data.eq(self.host.data.replicate(self.banks))
        m.d.comb += [
            write.addr.eq(Mux(self.write_enable, self.write_address, self.host.address[bits:])),
            write.data.eq(self.write_data | host_data),
            write.en.eq(
                self.write_enable.replicate(self.banks)
                | (host_enable << self.host.address[:bits])[: self.banks]
            ),
        ]
        return m
