"""A core: a sequencer, the weights, what sums them, and the neurons behind."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.agmm import Gain
from hw.array import Array
from hw.bus import HostWrite
from hw.mac import Mac
from hw.memory import WeightMemory
from hw.neurons import Neurons
from hw.readout import Readout
from hw.sequencer import Sequencer
from hw.spikes import BANK
from hw.stream import clamp
from sw.formats import FRACTION, GAIN_ONE, MEAN_BITS, saturate
from sw.program import Region
from sw.record import Kind

__all__ = ["Core"]


class Core(wiring.Component):
    """Runs layers: those on spikes if it has an array, the stem if it has 8-bit MACs.

    Members
    -------
    host : writes, to this core's memories.
    start, first, count, busy : runs ``count`` layers of its program from number ``first``.
    side : of the spike memory, constant while busy: addresses are complemented on side 1.
    spike_address, spike_enable, spike_data : reads of the spike memory, one cycle.
    frame_address, frame_enable, frame_data : of the frame, 16 bits.
    write_banks, write_address, write_data : to the spike memory.
    totals : sums of what the last layer wrote, for the gain of the next.
    before : the same of another core, for layer 0.
    """

    def __init__(self, engine, *, array, mac):
        self.engine, self.array, self.mac = engine, array, mac
        lanes = engine.lanes
        super().__init__({
            "host": In(HostWrite),
            "start": In(1),
            "first": In(8),
            "count": In(8),
            "busy": Out(1),
            "side": In(1),
            "spike_address": Out(range(engine.spike_depth)),
            "spike_enable": Out(1),
            "spike_data": In(engine.simd * lanes),
            "frame_address": Out(range(engine.frame_depth)),
            "frame_enable": Out(1),
            "frame_data": In(16),
            "write_banks": Out(engine.simd * lanes // BANK),
            "write_address": Out(range(engine.spike_depth)),
            "write_data": Out(engine.simd * lanes),
            "totals": Out(data.ArrayLayout(signed(MEAN_BITS), lanes * engine.passes)),
            "before": In(data.ArrayLayout(signed(MEAN_BITS), lanes * engine.passes)),
        })

    def _region(self, region):
        return region if self.array else region.of_stem

    def elaborate(self, platform):
        m = Module()
        engine = self.engine
        m.submodules.sequencer = sequencer = Sequencer(engine, self._region(Region.PROGRAM))
        m.submodules.weights = weights = WeightMemory(
            self._region(Region.WEIGHTS), engine.pe * (engine.simd if self.array else 8),
            engine.weight_depth,
        )
        m.submodules.neurons = neurons = Neurons(
            engine, self._region(Region.CHANNELS), self._region(Region.MEANS)
        )
        layer = sequencer.layer
        # What sums: the array, or the MACs.
        on_spikes, on_bytes = layer.kind != Kind.STEM, layer.kind == Kind.STEM
        if engine.has_stream:
            projects = layer.kind == Kind.PROJECTION
            on_spikes, on_bytes = on_spikes & ~projects, on_bytes | projects
        for listener in (sequencer, weights, neurons):
            wiring.connect(m, wiring.flipped(self.host), listener.host)
        m.d.comb += [
            sequencer.start.eq(self.start),
            sequencer.first.eq(self.first),
            sequencer.count.eq(self.count),
            self.busy.eq(sequencer.busy),
            sequencer.written.eq(neurons.written),
            neurons.layer.eq(layer),
            neurons.clear.eq(sequencer.clear),
            neurons.fires.eq(layer.kind != Kind.READOUT),
            self.write_banks.eq(neurons.write_banks),
            self.write_address.eq(
                neurons.write_address ^ self.side.replicate(len(self.write_address))
            ),
            self.write_data.eq(neurons.write_data),
            self.totals.eq(neurons.totals),
        ]
        if engine.has_stream:
            # A projection writes no spikes: those of the layer before are still to be read.
            with m.If(projects):
                m.d.comb += self.write_banks.eq(0)

        # Operands: addresses now, words in the next cycle. Taps outside the map read word 0, which
        # is zero and never written.
        bits = len(self.spike_address)
        m.d.comb += [
            self.spike_address.eq(
                (sequencer.element ^ self.side.replicate(bits)) & sequencer.inside.replicate(bits)
            ),
            self.spike_enable.eq(sequencer.valid & on_spikes),
            self.frame_address.eq(sequencer.element >> 1),
            self.frame_enable.eq(sequencer.valid & sequencer.inside),
        ]
        # A deep engine reads weights a cycle later, when they are due: far more of them than of
        # spikes would have to wait in registers.
        domain = m.d.sync if engine.deep else m.d.comb
        domain += [weights.address.eq(sequencer.weight), weights.enable.eq(sequencer.valid)]
        valid, first, last, inside, odd = (
            Signal(name=name) for name in ("valid", "first", "last", "inside", "odd")
        )
        m.d.sync += [
            valid.eq(sequencer.valid), first.eq(sequencer.first_element),
            last.eq(sequencer.last_element), inside.eq(sequencer.inside),
            odd.eq(sequencer.element[0]),
        ]
        sums, currents = [], []
        strip = Signal(range(engine.pixels))
        if engine.pixels > 1:
            m.d.sync += strip.eq(sequencer.strip)
        if self.array:
            array = self._array(m, neurons, layer, sequencer.clear)
            m.d.comb += [
                array.valid.eq(valid & on_spikes),
                array.first.eq(first), array.last.eq(last),
                array.spikes.eq(self.spike_data),
                array.weights.eq(weights.data),
            ]
            if engine.has_stream:
                m.d.comb += array.slow.eq(layer.average)
            if engine.pixels > 1:
                # A readout's weights are another's for each strip: they take turns.
                every = layer.kind != Kind.READOUT
                m.d.comb += array.active.eq(
                    Cat(every | (strip == number) for number in range(engine.pixels))
                )
            sums.append(array)
            currents.append(lambda u, t: array.out[u][t] << FRACTION)
            self._gain(m, sequencer, neurons)
        else:
            m.d.comb += [
                neurons.gains[t].eq(GAIN_ONE) for t in range(engine.lanes * engine.passes)
            ]
        if self.mac:
            pixel = Mux(inside, self.frame_data.word_select(odd, 8), 0)
            operands = [pixel]
            if engine.has_stream:
                # A lane each; a stem does with the first.
                channel = self._stream_channel(m, sequencer, neurons)
                operands = [Mux(projects, value, pixel) for value in channel]
            macs = []
            for lane, operand in enumerate(operands):
                m.submodules[f"mac{lane or ''}"] = mac = Mac(
                    engine.pe, engine.units, engine.current_width, engine.passes,
                    engine.has_stream, engine.deep,
                )
                if engine.passes > 1:
                    m.d.comb += mac.first_pass.eq(layer.first_pass)
                    if engine.has_stream:
                        # A tile is of one pass, not of all.
                        with m.If(projects):
                            m.d.comb += mac.first_pass.eq(engine.passes - 1)
                m.d.comb += [
                    mac.valid.eq(valid & on_bytes),
                    mac.first.eq(first), mac.last.eq(last),
                    mac.operand.eq(operand),
                    mac.weights.eq(weights.data),
                ]
                macs.append(mac)
            sums.append(macs[0])

            def of_mac(u, t):
                if engine.has_stream:
                    return Mux(projects, saturate(macs[t].out[u], clamp), macs[0].out[u])
                return macs[0].out[u]

            currents.append(of_mac)

        m.d.comb += neurons.valid.eq(Mux(on_bytes, sums[-1].out_valid, sums[0].out_valid))
        for u in range(engine.units):
            for t in range(engine.lanes):
                m.d.sync += neurons.current[u][t].eq(
                    Mux(on_bytes, currents[-1](u, t), currents[0](u, t))
                )
        return m

    def _stream_channel(self, m, sequencer, neurons):
        """All lanes of the channel of the stream that the sequencer asks for, a cycle later."""
        engine = self.engine
        bits = engine.units.bit_length() - 1
        unit = Signal(range(engine.units))
        m.d.comb += [
            neurons.stream_enable.eq(sequencer.valid & (sequencer.layer.kind == Kind.PROJECTION)),
            neurons.stream_address.eq(sequencer.element >> bits),
        ]
        m.d.sync += unit.eq(sequencer.element[:bits])
        return neurons.stream_data[unit]

    def _array(self, m, neurons, layer, clear):
        """The array, and the logits of a readout from its counts."""
        engine = self.engine
        m.submodules.array = array = Array(engine)
        m.submodules.readout = readout = Readout(engine.units, engine.lanes, array.width)
        m.d.comb += [
            readout.clear.eq(clear),
            readout.valid.eq(array.out_valid & (layer.kind == Kind.READOUT)),
            readout.counts.eq(array.out),
            neurons.logit_valid.eq(readout.out_valid),
        ]
        for u in range(engine.units):
            m.d.comb += [
                readout.bias[u].eq(neurons.word[u]), neurons.logit[u].eq(readout.out[u]),
            ]
        return array

    def _gain(self, m, sequencer, neurons):
        m.submodules.gain = gain = Gain(self.engine)
        wiring.connect(m, wiring.flipped(self.host), gain.host)
        m.d.comb += [
            gain.layer.eq(sequencer.layer),
            gain.load.eq(sequencer.gain_load),
            gain.data.eq(sequencer.gain_data),
            gain.totals.eq(neurons.totals),
            sequencer.gain_busy.eq(gain.busy),
            neurons.gains.eq(gain.gains),
        ]
        if not self.mac:
            with m.If(sequencer.opening):
                m.d.comb += gain.totals.eq(self.before)
