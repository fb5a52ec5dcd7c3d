"""The accelerator: memories, array, neurons and sequencer behind a byte-stream command port.

    spike memory --+--> XNOR-popcount array --+
    weight memory -+--> 8-bit MACs -----------+--> bias, gain, LIF --> OR pool --> writer
         ^                                              ^                           |
         |                                              +-- AGMM gain <-- mean <----+
         +---------------------------------------------- spikes, logits <-----------+
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.agmm import Gain, Mean
from hw.array import Array
from hw.channels import Channels
from hw.lif import LIF
from hw.mac import Mac
from hw.memory import WeightMemory
from hw.operand import Operand
from hw.pool import Pool
from hw.port import Port
from hw.sequencer import Sequencer
from hw.spikes import SpikeMemory
from hw.writer import Writer
from sw.formats import FRACTION, STEM_SHIFT
from sw.program import Region, channel_slot_bits
from sw.record import Kind

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """A complete engine. Commands come in on ``rx``, replies leave on ``tx`` (``sw.protocol``)."""

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "rx": In(stream.Signature(8)),
            "tx": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        engine = self.engine
        m.submodules.port = port = Port(engine)
        m.submodules.sequencer = sequencer = Sequencer(engine)
        m.submodules.spikes = spikes = SpikeMemory(engine.simd * engine.lanes, engine.spike_depth)
        m.submodules.weights = weights = WeightMemory(
            Region.WEIGHTS, engine.pe * engine.simd, engine.weight_depth
        )
        m.submodules.array = array = Array(engine)
        m.submodules.operand = operand = Operand(engine)
        m.submodules.mac = mac = Mac(engine.pe, engine.units)
        m.submodules.channels = channels = Channels(engine)
        neurons = [
            LIF(engine.lanes, engine.current_width, engine.leak_shifts) for _ in range(engine.units)
        ]
        m.submodules.pool = pool = Pool(engine.groups, engine.lanes * engine.units)
        m.submodules.writer = writer = Writer(engine)
        m.submodules.mean = mean = Mean(engine)
        m.submodules.gain = gain = Gain(engine)
        layer = sequencer.layer

        # Host.
        wiring.connect(m, wiring.flipped(self.rx), port.rx)
        wiring.connect(m, wiring.flipped(self.tx), port.tx)
        wiring.connect(m, port.read, spikes.host_read)
        for listener in (spikes, weights, channels, mean, gain, sequencer):
            m.d.comb += [
                listener.host.enable.eq(port.write.enable),
                listener.host.region.eq(port.write.region),
                listener.host.address.eq(port.write.address),
                listener.host.data.eq(port.write.data),
            ]
        m.d.comb += [
            sequencer.start.eq(port.start),
            sequencer.first.eq(port.first),
            sequencer.count.eq(port.count),
            port.busy.eq(sequencer.busy),
            port.cycles.eq(sequencer.cycles),
        ]

        # A layer's record and its start, for all who need them.
        for listener in (operand, channels, writer, mean, gain):
            m.d.comb += listener.layer.eq(layer)
        for listener in (channels, pool, writer, mean):
            m.d.comb += listener.clear.eq(sequencer.clear)

        # Operands: addresses now, words in the next cycle.
        binary = Signal()
        valid, first, last, inside = (Signal(name=n) for n in ("valid", "first", "last", "inside"))
        m.d.comb += [
            binary.eq(layer.kind == Kind.CONV),
            operand.element.eq(sequencer.element),
            spikes.address.eq(operand.word_address),
            # Taps outside the map must not touch rows that are being written.
            spikes.enable.eq(sequencer.valid & sequencer.inside),
            weights.address.eq(sequencer.weight),
            weights.enable.eq(sequencer.valid),
            operand.word.eq(spikes.data),
        ]
        m.d.sync += [
            valid.eq(sequencer.valid), first.eq(sequencer.first_element),
            last.eq(sequencer.last_element), inside.eq(sequencer.inside),
        ]
        m.d.comb += [
            array.valid.eq(valid & binary), array.first.eq(first), array.last.eq(last),
            array.spikes.eq(Mux(inside, spikes.data, 0)), array.weights.eq(weights.data),
            mac.valid.eq(valid & ~binary), mac.first.eq(first), mac.last.eq(last),
            mac.operand.eq(Mux(inside, operand.value, 0)),
            mac.weights.eq(weights.data[: 8 * engine.pe]),
        ]

        # Channels: their sums meet their bias and threshold one cycle later.
        summed, accumulated = Signal(), Signal.like(mac.out)
        slot = channel_slot_bits(engine)
        m.d.comb += channels.valid.eq(array.out_valid | mac.out_valid)
        m.d.sync += [summed.eq(channels.valid), accumulated.eq(mac.out)]
        for u, lif in enumerate(neurons):
            m.submodules[f"lif{u}"] = lif
            for t in range(engine.lanes):
                m.d.sync += lif.current[t].eq(
                    Mux(binary, array.out[u][t] << FRACTION, mac.out[u] >> STEM_SHIFT)
                )
            m.d.comb += [
                lif.valid.eq(summed & (layer.kind != Kind.READOUT)),
                lif.bias.eq(channels.word[u]),
                lif.threshold.eq(channels.word[u][slot:]),
                lif.leak_shift.eq(layer.leak_shift),
                lif.step_mask.eq(layer.step_mask),
                lif.gain.eq(gain.gains),
                pool.spikes.word_select(u, engine.lanes).eq(lif.spikes),
                writer.spikes[u].eq(pool.out.word_select(u, engine.lanes)),
                writer.logit[u].eq(accumulated[u] + channels.word[u][:32].as_signed()),
            ]
        m.d.comb += [
            gain.load.eq(sequencer.gain_load),
            gain.data.eq(sequencer.gain_data),
            gain.start.eq(sequencer.gain_start),
            gain.totals.eq(mean.totals),
            sequencer.gain_busy.eq(gain.busy),
        ]

        # Spikes and logits: into memory, and the spikes into the next layer's mean.
        m.d.comb += [
            pool.enable.eq(layer.pool),
            pool.valid.eq(neurons[0].out_valid),
            writer.valid.eq(pool.out_valid),
            writer.logit_valid.eq(summed & (layer.kind == Kind.READOUT)),
            spikes.write_enable.eq(writer.write_enable),
            spikes.write_address.eq(writer.write_address),
            spikes.write_data.eq(writer.write_data),
            sequencer.written.eq(writer.written),
            mean.passed.eq(writer.passed & layer.mean_next),
            mean.passed_spikes.eq(writer.passed_spikes),
            mean.last_group.eq(writer.last_group),
            mean.last_column.eq(writer.last_column),
        ]
        return m
