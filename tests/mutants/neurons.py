"""Errors of what comes behind the sums: currents, gains, membranes, pooling."""

from tests.mutants.mutation import mutations_of

__all__ = ["NEURONS"]

NEURONS = [
    *mutations_of(
        "hw/lif.py",
        (
            "product.eq(current * gain + GAIN_ONE // 2)",
            "product.eq(current * gain + GAIN_ONE // 2 - 1)",
            "halves are rounded down",
        ),
        (
            "spike.eq(potential >= thresholds[t])", "spike.eq(potential > thresholds[t])",
            "a membrane at the threshold does not fire",
        ),
        (
            "Cat(1, drive).as_signed() + membrane", "Cat(0, drive).as_signed() + membrane",
            "half of an odd membrane is rounded down",
        ),
        (
            "leaked.eq(leak(membrane, shift))",
            "leaked.eq(membrane - (membrane >> shift) - (membrane[0] & (shift > 1)))",
            "other leaks take one too much of an odd membrane",
        ),
        (
            "delayed(self.last, self.latency, \"last\")",
            "delayed(self.last, self.latency - 1, \"last\")",
            "the mask of steps comes a cycle early",
        ),
        (
            "total = Signal(signed(self.width + 1), name=",
            "total = Signal(signed(self.width), name=",
            "the carry of a shortcut is dropped before it saturates",
        ),
        (
            "        with m.If(resume):\n            m.d.comb += started.eq(kept[channel])",
            "        m.d.comb += started.eq(kept[channel])",
            "a first pass starts from the membranes of the tile before",
        ),
        (
            "signed(width + MEMBRANE_EXTRA_BITS), name=f\"membrane{lane}\"",
            "signed(width + MEMBRANE_EXTRA_BITS - 1), name=f\"membrane{lane}\"",
            "membranes are a bit too narrow",
        ),
    ),
    *mutations_of(
        "hw/scale.py",
        (
            "operand[t][-1] & ~self.counts", "operand[t][-1]",
            "counts beyond half the width are negative",
        ),
        (
            "signed(self.width + SLOPE_BITS + 1), name=", "signed(self.width + SLOPE_BITS), name=",
            "the top bit of a product is dropped",
            (),
            (
                "of a product and its bias, bits SLOPE_FRACTION to SLOPE_FRACTION + width - 1 go "
                "on: none of them depends on a bit above them"
            ),
        ),
        (
            "m.d.sync += product.eq(value * factor[:SLOPE_BITS])",
            "m.d.sync += product.eq(value * factor[: SLOPE_BITS - 1])",
            "the top bit of a slope is dropped",
        ),
    ),
    *mutations_of(
        "hw/channels.py",
        (
            "ends &= passes.last | (layer.kind == Kind.READOUT)", "ends &= passes.last",
            "a readout's biases repeat in every pass",
        ),
        (
            "            if engine.pixels > 1:\n                m.d.sync += strip.eq(0)",
            "            pass",
            "a strip is left from the layer before",
        ),
        (
            "(layer.kind == Kind.STEM) & (strip != engine.pixels - 1)",
            "strip != engine.pixels - 1",
            "a tile repeats for each strip where it is no stem's",
        ),
    ),
    *mutations_of(
        "hw/agmm.py",
        (
            "return Mux(following == high, middle,", "return Mux(following >= high, middle,",
            "behind the last border all positions are of one class",
        ),
        (
            "(following > low) & (following < high)", "(following >= low) & (following < high)",
            "the first position in the middle could start over",
            (),
            (
                "at following = low the class is low - 1, which is less than middle - 1: the "
                "classes of the middle, one at least, are low to middle - 1"
            ),
        ),
        (
            "spikes.eq(Mux(self.passed, self.passed_spikes, 0))", "spikes.eq(self.passed_spikes)",
            "spikes count where no group passes",
        ),
        (
            "m.d.sync += self.totals[p * lanes + t].eq(0)",
            "m.d.sync += self.totals[p * lanes + t].eq(self.totals[p * lanes + t])",
            "totals of passes are left from the layer before",
        ),
        (
            "signed(TABLE_BITS + engine.units.bit_length() - 1)", "signed(TABLE_BITS)",
            "the carry of several entries' sum is dropped",
        ),
        (
            "range(self.latency - 1)", "range(self.latency - 2)",
            "entries count in the pass a cycle early",
        ),
        (
            "with m.If(product > INDEX_LIMIT - 1)", "with m.If(product > INDEX_LIMIT)",
            "an index of 256 wraps to the smallest gain",
        ),
        (
            "with m.If(product > INDEX_LIMIT - 1)", "with m.If(product >= INDEX_LIMIT - 1)",
            "an index of 255 is taken for beyond the table",
            (),
            "it saturates to 255, which it is",
        ),
        (
            "with m.Elif(product < -INDEX_LIMIT)", "with m.Elif(product < -INDEX_LIMIT - 1)",
            "an index of -257 wraps to the largest gain",
        ),
        (
            "following.eq(product + addend + sign)", "following.eq(product + addend)",
            "the one of a two's complement is dropped with negative factors",
        ),
        (
            "range(0, MEAN_BITS - 15, 4)", "range(0, MEAN_BITS - 16, 4)",
            "means are not shifted by 16",
        ),
        (
            "with m.If(place == engine.lanes * engine.passes - 1)",
            "with m.If(step == engine.lanes * engine.passes - 1)",
            "with unused passes the next layer's gains take another's means",
        ),
    ),
    *mutations_of(
        "hw/passes.py",
        (
            "m.d.sync += [group.eq(0), self.number.eq(self.first_pass)]",
            "m.d.sync += self.number.eq(self.first_pass)",
            "a group is left from the layer before",
        ),
    ),
    *mutations_of(
        "hw/pool.py",
        (
            "m.d.sync += [group.eq(0), pixel.eq(0)]", "m.d.sync += group.eq(0)",
            "a window's pixel is left from the layer before",
        ),
        (
            "self.one_strip & (strip != 0)", "self.one_strip & (strip > 1)",
            "the second strip takes the first one's place",
        ),
        (
            "range(strip, self.width // self.steps, self.strips)",
            "range(strip, self.strips, self.strips)",
            "of several units, only the first has spikes of a strip",
        ),
        ("ends &= passes.last\n            place", "place", "a window ends after one pass"),
    ),
]
