"""The accelerator: cores around a spike memory, behind a byte-stream command port.

    frame --> 8-bit MACs --+
                           +--> bias, gain, LIF --> OR pool --> spike memory --+
        +--> XNOR array ---+                    --> AGMM mean                  |
        +----------------------------------------------------------------------+

One core does it all, or a stem core has the MACs and works a frame ahead of the array's.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostWrite
from hw.core import Core
from hw.memory import HostMemory
from hw.port import Check, Port
from hw.spikes import SpikeMemory
from sw.program import Region
from sw.protocol import Flags

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """A complete engine. Commands come in on ``rx``, replies leave on ``tx`` (``sw.protocol``).

    checked : whether it has the member ``check``, for a line that may err; else all that comes in
        on ``rx`` is taken for intact.
    """

    def __init__(self, engine, checked=False):
        self.engine, self.checked = engine, checked
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
            **({"check": In(Check)} if checked else {}),
        })

    def elaborate(self, platform):
        m = Module()
        engine = self.engine
        m.submodules.port = port = Port(engine)
        m.submodules.spikes = spikes = SpikeMemory(engine.simd * engine.lanes, engine.spike_depth)
        m.submodules.frame = frame = HostMemory(Region.FRAME, 16, engine.frame_depth)
        m.submodules.core = core = Core(engine, array=True, mac=engine.stem is None)
        wiring.connect(m, wiring.flipped(self.rx), port.rx)
        wiring.connect(m, wiring.flipped(self.tx), port.tx)
        if self.checked:
            wiring.connect(m, wiring.flipped(self.check), port.check)
        else:
            m.d.comb += port.check.intact.eq(1)
        wiring.connect(m, port.read, spikes.host_read)
        m.d.comb += [
            core.start.eq(port.start & (port.count != 0)),
            core.first.eq(port.first),
            core.count.eq(port.count),
            spikes.address.eq(core.spike_address),
            spikes.enable.eq(core.spike_enable),
            core.spike_data.eq(spikes.data),
        ]
        if engine.stem is None:
            self._connect_frame(m, frame, core)
            listeners = (spikes, frame, core)
            m.d.comb += [
                port.busy.eq(core.busy),
                spikes.write_banks.eq(core.write_banks),
                spikes.write_address.eq(core.write_address),
                spikes.write_data.eq(core.write_data),
            ]
        else:
            m.submodules.stem = stem = Core(engine.stem, array=False, mac=True)
            self._connect_frame(m, frame, stem)
            listeners = (spikes, frame, core, stem)
            self._work_ahead(m, port, spikes, core, stem)
        write = HostWrite.create()
        for name in HostWrite.members:
            # Where there are many memories, they lie far apart.
            domain = m.d.sync if engine.deep else m.d.comb
            domain += getattr(write, name).eq(getattr(port.write, name))
            for listener in listeners:
                m.d.comb += getattr(listener.host, name).eq(getattr(write, name))
        return m

    def _connect_frame(self, m, frame, core):
        m.d.comb += [
            frame.address.eq(core.frame_address),
            frame.enable.eq(core.frame_enable),
            core.frame_data.eq(frame.data),
        ]

    def _work_ahead(self, m, port, spikes, core, stem):
        """Two cores that write: each on its side, a word of the stem waits while the other's goes.

        The sides are mirror images, so what one core uses of a side grows from the end where
        the other has the least.
        """
        waiting = Signal.like(spikes.write_banks)
        address, word = Signal.like(spikes.write_address), Signal.like(spikes.write_data)
        core_writes = core.write_banks.any()
        with m.If(port.start):
            # The stem's sums are for the next run: this one's stem starts over.
            m.d.sync += core.before.eq(stem.totals)
        with m.If(stem.write_banks.any()):
            m.d.sync += [
                waiting.eq(stem.write_banks), word.eq(stem.write_data),
                address.eq(stem.write_address),
            ]
        with m.Elif(~core_writes):
            m.d.sync += [waiting.eq(0), word.eq(0)]
        m.d.comb += [
            stem.start.eq(port.start & ((port.flags & Flags.STEM).any())),
            stem.first.eq(0),
            stem.count.eq(1),
            port.busy.eq(core.busy | stem.busy),
            core.side.eq((port.flags & Flags.SIDE).any()),
            stem.side.eq((port.flags & Flags.STEM_SIDE).any()),
            spikes.write_banks.eq(Mux(core_writes, core.write_banks, waiting)),
            spikes.write_address.eq(
                Mux(core_writes, core.write_address, address)
            ),
            spikes.write_data.eq(Mux(core_writes, core.write_data, word)),
        ]
