"""What becomes of sums: bias, gain, LIF, pooling, into the spike memory and the next mean."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.agmm import Mean
from hw.bus import HostWrite
from hw.channels import Channels
from hw.lif import LIF
from hw.passes import follow_passes
from hw.pool import Pool
from hw.record import layer_layout
from hw.scale import Scale
from hw.spikes import BANK
from hw.stream import Stream, stream_word
from hw.writer import Writer
from sw.formats import GAIN_FRACTION, MEAN_BITS
from sw.packing import channel_slot_bits
from sw.record import Kind

__all__ = ["Neurons"]


class Neurons(wiring.Component):
    """``units`` channels a cycle from their sums to the spike memory.

    Members
    -------
    host, layer, clear : writes of the host; the running layer and its start.
    valid, fires : the next group of channels leaves the sums; it has neurons (a readout has none).
    current : of that group one cycle later, before the bias, for each lane.
    word : its entry of the Channels, then too.
    gains : of the layer. totals : the Mean's.
    logit_valid, logit : of a readout.
    write_banks, write_address, write_data, written : to the spike memory; ``written`` with the
        last word of the layer.
    stream_enable, stream_address, stream_data : reads of the stream, if there is one, for a
        projection.
    """

    def __init__(self, engine, channel_region, mean_region):
        self.engine = engine
        self.channel_region, self.mean_region = channel_region, mean_region
        lanes, units = engine.lanes, engine.units
        super().__init__({
            "host": In(HostWrite),
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "valid": In(1),
            "fires": In(1),
            "current": In(
                data.ArrayLayout(data.ArrayLayout(signed(engine.current_width), lanes), units)
            ),
            "word": Out(data.ArrayLayout(2 * channel_slot_bits(engine), units)),
            "gains": In(data.ArrayLayout(GAIN_FRACTION + 1, lanes * engine.passes)),
            "logit_valid": In(1),
            "logit": In(data.ArrayLayout(32, units)),
            "write_banks": Out(engine.simd * lanes // BANK),
            "write_address": Out(range(engine.spike_depth)),
            "write_data": Out(engine.simd * lanes),
            "written": Out(1),
            "totals": Out(data.ArrayLayout(signed(MEAN_BITS), lanes * engine.passes)),
            **({
                "stream_enable": In(1),
                "stream_address": In(range(engine.stream_depth)),
                "stream_data": Out(stream_word(engine)),
            } if engine.has_stream else {}),
        })

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        m.submodules.channels = channels = Channels(engine, self.channel_region)
        m.submodules.pool = pool = Pool(
            engine.groups, engine.lanes * engine.units, engine.pixels, engine.steps, engine.passes
        )
        m.submodules.writer = writer = Writer(engine)
        means = [Mean(engine, self.mean_region)] if engine.exact_gain else []
        for mean in means:
            m.submodules.mean = mean
        for listener in (channels, *means):
            wiring.connect(m, wiring.flipped(self.host), listener.host)
        for listener in (channels, writer, *means):
            m.d.comb += listener.layer.eq(layer)
        for listener in (channels, pool, writer):
            m.d.comb += listener.clear.eq(self.clear)
        starts = self.clear
        if engine.has_stream:
            # What a layer has summed up must outlast the projection beside the next.
            starts = self.clear & (layer.kind != Kind.PROJECTION)
        for mean in means:
            m.d.comb += mean.clear.eq(starts)
        if engine.pixels > 1:
            m.d.comb += pool.one_strip.eq(layer.kind == Kind.STEM)

        slot = channel_slot_bits(engine)
        fires = Signal()
        m.d.sync += fires.eq(self.valid & self.fires)
        m.d.comb += [channels.valid.eq(self.valid), self.word.eq(channels.word)]
        operands = [
            (self.current[u], channels.word[u][:slot], channels.word[u][slot:])
            for u in range(engine.units)
        ]
        if engine.has_stream:
            fires, operands = self._scaled(m, fires, operands)
            m.submodules.stream = stream = Stream(engine)
            m.d.comb += [
                stream.layer.eq(layer), stream.clear.eq(self.clear),
                stream.valid.eq(self.valid & self.fires & layer.streamed),
                stream.enable.eq(self.stream_enable), stream.address.eq(self.stream_address),
                self.stream_data.eq(stream.data),
            ]
        gains, passes = self.gains, None
        if engine.passes > 1:
            passes = follow_passes(
                m, engine.groups, engine.passes, layer.first_pass, self.clear, fires
            )
            number = Signal.like(passes.number)
            m.d.comb += pool.first_pass.eq(layer.first_pass)
            m.d.sync += number.eq(passes.number)
            gains = self.gains.as_value().word_select(number, (GAIN_FRACTION + 1) * engine.lanes)
        for u, (current, bias, threshold) in enumerate(operands):
            m.submodules[f"lif{u}"] = lif = LIF(
                engine.lanes, engine.current_width, engine.leak_shifts, engine.steps,
                engine.passes, engine.groups, engine.has_stream,
            )
            m.d.comb += [
                lif.valid.eq(fires),
                lif.current.eq(current),
                lif.bias.eq(bias),
                lif.threshold.eq(threshold),
                lif.leak_shift.eq(layer.leak_shift),
                lif.step_mask.eq(layer.step_mask),
                lif.gain.eq(gains),
                pool.spikes.word_select(u, engine.lanes).eq(lif.spikes),
                writer.spikes[u].eq(pool.out.word_select(u, engine.lanes)),
            ]
            if engine.has_stream:
                m.d.comb += [
                    lif.streamed.eq(layer.streamed), lif.shortcut.eq(stream.shortcut[u]),
                    stream.stored[u].eq(lif.stream),
                ]
            if passes is not None:
                m.d.comb += [lif.resume.eq(~passes.first), lif.last.eq(passes.last)]
            if u == 0:
                m.d.comb += pool.valid.eq(lif.out_valid)
        m.d.comb += [
            pool.enable.eq(layer.pool),
            writer.valid.eq(pool.out_valid),
            writer.logit_valid.eq(self.logit_valid),
            writer.logit.eq(self.logit),
            self.write_banks.eq(writer.write_banks),
            self.write_address.eq(writer.write_address),
            self.write_data.eq(writer.write_data),
            self.written.eq(writer.written),
        ]
        for mean in means:
            m.d.comb += [
                mean.passed.eq(writer.passed & layer.mean_next),
                mean.passed_spikes.eq(writer.passed_spikes),
                mean.last_group.eq(writer.last_group),
                mean.column.eq(writer.column),
                mean.row.eq(writer.row),
                self.totals.eq(mean.totals),
            ]
        return m

    def _scaled(self, m, valid, operands):
        """``valid`` and the operands of each LIF, behind a Scale."""
        scaled = []
        for u, (current, bias, limit) in enumerate(operands):
            m.submodules[f"scale{u}"] = scale = Scale(self.engine.lanes, self.engine.current_width)
            m.d.comb += [
                scale.streamed.eq(self.layer.streamed),
                scale.counts.eq(self.layer.kind == Kind.CONV),
                scale.current.eq(current), scale.bias.eq(bias), scale.limit.eq(limit),
            ]
            scaled.append((scale.out_current, scale.out_bias, scale.out_threshold))
        for stage in range(Scale.latency):
            following = Signal(name=f"fires{stage}")
            m.d.sync += following.eq(valid)
            valid = following
        return valid, scaled
