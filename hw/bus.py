"""The host's way into the memories: 16-bit words, one a cycle, and single-word reads of spikes."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ADDRESS_BITS", "HostRead", "HostWrite"]

#: Addresses count 16-bit words inside a region.
ADDRESS_BITS = 24

#: A write: ``region`` is a ``sw.program.Region``. Memories listen while the engine is idle.
HostWrite = wiring.Signature({
    "enable": Out(1),
    "region": Out(4),
    "address": Out(ADDRESS_BITS),
    "data": Out(16),
})

#: A read of the spike memory: ``data`` follows ``address`` by one cycle.
HostRead = wiring.Signature({
    "enable": Out(1),
    "address": Out(ADDRESS_BITS),
    "data": In(16),
})
