"""AGMM: the gain of a layer, known before it starts because the mean is linear in its spikes."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.bus import HostWrite
from hw.memory import HostMemory
from hw.passes import follow_passes
from hw.record import layer_layout
from sw.cycles import GAIN_STEP_CYCLES
from sw.formats import (
    FACTOR_BITS,
    GAIN_FRACTION,
    INDEX_LIMIT,
    MEAN_BITS,
    TABLE_BITS,
    mean_index,
    sigmoid_table,
)
from sw.program import Region

__all__ = ["Gain", "Mean"]


class Mean(wiring.Component):
    """Sums the next layer's position table over the spikes that this layer writes.

    Total t is the sum, over all spikes of step t, of the table entry of their channel and position
    class: the sum over all outputs of the next convolution, without computing them. The totals of
    the last pass are always the last.

    Members
    -------
    layer, clear : record of the layer that writes, and its start, which starts the sums anew.
    passed, passed_spikes, last_group, column, row : from the Writer.
    totals : complete ``latency`` cycles after the last group.
    """

    def __init__(self, engine, region=Region.MEANS):
        self.engine, self.region = engine, region
        super().__init__({
            "layer": In(layer_layout(engine)),
            "clear": In(1),
            "passed": In(1),
            "passed_spikes": In(data.ArrayLayout(engine.lanes, engine.units)),
            "last_group": In(1),
            "column": In(7),
            "row": In(7),
            "host": In(HostWrite),
            "totals": Out(data.ArrayLayout(signed(MEAN_BITS), engine.lanes * engine.passes)),
        })

    @property
    def latency(self):
        """Cycles from the last group to the totals."""
        return 2 if self.engine.units == 1 else 4

    def model(self, spikes, table, axis_y, axis_x):
        """Totals [T] of spikes [T, C, H, W] under table [C, classes of y, classes of x]."""
        ys = [axis_y.class_of(y) for y in range(spikes.shape[2])]
        xs = [axis_x.class_of(x) for x in range(spikes.shape[3])]
        placed = table[:, ys][:, :, xs]
        return [int((step.astype(int) * placed).sum()) for step in spikes]

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        m.submodules.table = table = HostMemory(
            self.region, TABLE_BITS * engine.units, engine.mean_depth // engine.units
        )
        pointer = Signal(table.address.shape())
        wiring.connect(m, wiring.flipped(self.host), table.host)

        # Classes of the pixel now written, of the next one, and its table entry. A pixel lasts at
        # least pe / units >= 4 cycles: time for the two steps that compute the next start.
        class_x, class_y, next_class_x, next_class_y = (
            Signal(4, name=f"{name}class_{axis}") for name in ("", "next_") for axis in "xy"
        )
        next_start = Signal.like(pointer)

        def following_class(position, current, low, middle, high):
            following = position + 1
            wraps = (following > low) & (following < high) & (current == middle - 1)
            return Mux(following == high, middle, Mux(wraps, low, current + 1))

        m.d.sync += [
            next_class_x.eq(following_class(
                self.column, class_x, layer.mean_low_x, layer.mean_middle_x, layer.mean_high_x)),
            next_class_y.eq(class_y),
            next_start.eq(
                layer.mean_base + next_class_y * layer.mean_classes_x + next_class_x
            ),
        ]
        with m.If(self.column == layer.out_width_last):
            m.d.sync += [
                next_class_x.eq(0),
                next_class_y.eq(following_class(
                    self.row, class_y, layer.mean_low_y, layer.mean_middle_y, layer.mean_high_y)),
            ]
        with m.If(self.passed):
            m.d.sync += pointer.eq(pointer + layer.mean_classes)
            with m.If(self.last_group):
                m.d.sync += [
                    pointer.eq(next_start), class_x.eq(next_class_x), class_y.eq(next_class_y),
                ]
        with m.If(self.clear):
            m.d.sync += [
                pointer.eq(layer.mean_base), class_x.eq(0), class_y.eq(0),
            ]
        number = self._follow_passes(m, pointer) if engine.passes > 1 else None

        spikes = Signal(data.ArrayLayout(engine.lanes, engine.units))
        m.d.comb += [table.address.eq(pointer), table.enable.eq(self.passed)]
        m.d.sync += spikes.eq(Mux(self.passed, self.passed_spikes, 0))
        row = table.data
        if engine.units > 1:
            # The sum of several entries gets a cycle of its own, and the memory before it another.
            row, arrived, spikes = Signal.like(row), spikes, Signal.like(spikes, name="spikes_q")
            m.d.sync += [row.eq(table.data), spikes.eq(arrived)]
        entries = [row.word_select(u, TABLE_BITS).as_signed() for u in range(engine.units)]
        for t in range(engine.lanes):
            spiked, addend = spikes[0][t], entries[0]
            if engine.units > 1:
                spiked = 1
                addend = Signal(signed(TABLE_BITS + engine.units.bit_length() - 1), name=f"sum{t}")
                m.d.sync += addend.eq(
                    sum(Mux(spikes[u][t], entry, 0) for u, entry in enumerate(entries))
                )
            if number is not None:
                self._add_to_pass(m, number, t, spiked, addend)
                continue
            with m.If(self.clear):
                m.d.sync += self.totals[t].eq(0)
            with m.Elif(spiked):
                m.d.sync += self.totals[t].eq(self.totals[t] + addend)
        return m

    def _follow_passes(self, m, pointer):
        """Starts a tile's entries over for each pass. Returns the pass of what is being added."""
        engine, layer = self.engine, self.layer
        passes = follow_passes(
            m, engine.groups, engine.passes, layer.first_pass, self.clear, self.passed
        )
        # What the pointer was when the tile began.
        group, tile_start = Signal(range(engine.groups)), Signal.like(pointer)
        with m.If(self.passed):
            m.d.sync += group.eq(group + 1)
            with m.If(group == 0):
                m.d.sync += tile_start.eq(pointer)
            with m.If((group == engine.groups - 1) & ~passes.last):
                m.d.sync += pointer.eq(tile_start)
        number = passes.number
        for stage in range(self.latency - 1):
            following = Signal.like(number, name=f"pass{stage}")
            m.d.sync += following.eq(number)
            number = following
        return number

    def _add_to_pass(self, m, number, t, spiked, addend):
        lanes = self.engine.lanes
        total = Signal(signed(MEAN_BITS), name=f"total{t}")
        m.d.comb += total.eq(
            self.totals.as_value().word_select(number, MEAN_BITS * lanes)
            .word_select(t, MEAN_BITS).as_signed() + addend
        )
        for p in range(self.engine.passes):
            with m.If(self.clear):
                m.d.sync += self.totals[p * lanes + t].eq(0)
            with m.Elif(spiked & (number == p)):
                m.d.sync += self.totals[p * lanes + t].eq(total)


class Gain(wiring.Component):
    """Holds a layer's gains, and makes them where they depend on the mean.

    The record's words come in one a step, pass after pass. The gains of the last pass are always
    the last. A constant gain is kept as it is. A factor of eq. 11 becomes its gain: a serial
    multiplication with the mean, ``FACTOR_BITS`` cycles, and a look-up in the sigmoid table.

    Members
    -------
    layer : record of the layer whose gains are wanted.
    load, data : a gain or factor, step 0 first. All steps come, in each layer, of its passes.
    busy : from the cycle of ``load`` on: the next may come a cycle after it falls. Two cycles after
        it falls all gains stand.
    totals : of a Mean, held until then.

    An engine without exact gains has only the first half: it is never busy.
    """

    def __init__(self, engine):
        self.engine = engine
        super().__init__({
            "layer": In(layer_layout(engine)),
            "load": In(1),
            "data": In(16),
            "busy": Out(1),
            "totals": In(data.ArrayLayout(signed(MEAN_BITS), engine.lanes * engine.passes)),
            "host": In(HostWrite),
            "gains": Out(data.ArrayLayout(GAIN_FRACTION + 1, engine.lanes * engine.passes)),
        })

    def cycles(self, exact, passes=1):
        """Cycles that the steps of a layer wait."""
        return self.engine.lanes * passes * GAIN_STEP_CYCLES * exact

    def model(self, totals, offset, shift, factors, table=None):
        """Gains of the given totals; ``table`` defaults to the sigmoid."""
        table = table or sigmoid_table()

        def clamp(value, low, high):
            return max(low, min(high, value))

        return [
            table[mean_index(total + offset, shift, factor, clamp) + INDEX_LIMIT]
            for total, factor in zip(totals, factors, strict=True)
        ]

    def elaborate(self, platform):
        m = Module()
        engine, layer = self.engine, self.layer
        if not engine.exact_gain:
            with m.If(self.load):
                kept = self.gains.as_value()[GAIN_FRACTION + 1 :]
                m.d.sync += self.gains.eq(Cat(kept, self.data[: GAIN_FRACTION + 1]))
            return m
        index_bits = (2 * INDEX_LIMIT - 1).bit_length()
        m.submodules.sigmoid = sigmoid = HostMemory(
            Region.SIGMOID, GAIN_FRACTION, 2 * INDEX_LIMIT
        )
        wiring.connect(m, wiring.flipped(self.host), sigmoid.host)
        step = place = Signal(range(engine.lanes * engine.passes))
        if engine.passes > 1:
            place = Signal.like(step)
            m.d.comb += place.eq(step + layer.first_pass * engine.lanes)
        # Bits of the factor are multiplied from phase 1 on; then come look-up and gain.
        look_up, done = FACTOR_BITS + 1, FACTOR_BITS + 2
        phase = Signal(range(done + 1))
        factor = Signal(FACTOR_BITS)
        product = Signal(signed(18))
        m.d.comb += self.busy.eq(
            (self.load & layer.exact_gain) | ((phase != 0) & (phase <= FACTOR_BITS))
        )

        # The first step's gain comes first, and moves down as the others follow.
        entry = Signal(GAIN_FRACTION + 1)
        m.d.comb += entry.eq(Mux(layer.exact_gain, sigmoid.data, self.data))
        with m.If(Mux(layer.exact_gain, phase == done, self.load)):
            m.d.sync += self.gains.eq(Cat(self.gains.as_value()[GAIN_FRACTION + 1 :], entry))

        # A cycle ahead of the step in work, and stable while its product is made.
        mean = Signal(MEAN_BITS)
        scaled = Signal(signed(16))
        m.d.sync += mean.eq(self.totals[place] + layer.mean_offset.as_signed())
        with m.Switch(layer.mean_shift):
            for shift in range(0, MEAN_BITS - 15, 4):
                with m.Case(shift):
                    m.d.comb += scaled.eq(mean[shift:])

        # Least significant bit first: what leaves the product on the right is its fraction,
        # floored. The last bit of the factor is its sign, and subtracts.
        sign = Signal()
        following = Signal(signed(18))
        addend = Signal(signed(17))
        m.d.comb += [
            sign.eq(phase == FACTOR_BITS),
            addend.eq(Mux(factor[0], scaled, 0) ^ sign.replicate(17).as_signed()),
            following.eq(product + addend + sign),
            sigmoid.enable.eq(phase == look_up),
        ]
        with m.If(product > INDEX_LIMIT - 1):
            m.d.comb += sigmoid.address.eq(2 * INDEX_LIMIT - 1)
        with m.Elif(product < -INDEX_LIMIT):
            m.d.comb += sigmoid.address.eq(0)
        with m.Else():
            m.d.comb += sigmoid.address.eq((product + INDEX_LIMIT)[:index_bits])

        with m.If(phase != 0):
            m.d.sync += [
                phase.eq(phase + 1), factor.eq(factor >> 1),
                product.eq(Mux(sign, following, following >> 1)),
            ]
            with m.If(phase == look_up):
                m.d.sync += step.eq(step + 1)
                if engine.passes > 1:
                    with m.If(place == engine.lanes * engine.passes - 1):
                        m.d.sync += step.eq(0)
            with m.If(phase == done):
                m.d.sync += phase.eq(0)
        with m.If(self.load & layer.exact_gain):
            m.d.sync += [phase.eq(1), factor.eq(self.data), product.eq(0)]
        return m
