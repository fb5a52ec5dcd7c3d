"""Memories that return rubbish for a row that is read in the cycle it is written.

So may block RAM, once synthesis has been told that no such word matters
(``hw.boards.IGNORE_COLLISIONS``). Amaranth's own memories return the row as it was.
"""

from amaranth.hdl import Cat, MemoryInstance, Module, Mux, Signal

__all__ = ["Rubbish"]


class Rubbish:
    """A platform for simulation: of such words, every bit is wrong."""

    def collision(self, read, write):
        """Of two ports, in this cycle; single bits of a row that are written count too."""
        return write.en.any() & (write.addr == read.addr)

    def get_memory(self, memory):
        """What Amaranth's Memory elaborates to."""
        m = Module()
        m.submodules.rows = rows = MemoryInstance(data=memory.data, attrs=memory.attrs)
        for port in memory.write_ports:
            rows.write_port(domain=port.domain, addr=port.addr, data=port.data, en=port.en)
        for number, port in enumerate(memory.read_ports):
            word = Signal.like(port.data, name=f"word{number}")
            collided = Signal(name=f"collided{number}")
            rows.read_port(
                domain=port.domain, addr=port.addr, data=word, en=port.en, transparent_for=()
            )
            with m.If(port.en):
                m.d[port.domain] += collided.eq(Cat(
                    self.collision(port, write) for write in memory.write_ports
                ).any())
            m.d.comb += port.data.eq(Mux(collided, ~word, word))
        return m
