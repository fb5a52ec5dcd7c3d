"""Errors of the accelerator, the walk over a layer, and what sums."""

from tests.mutants.mutation import mutations_of, simulated

__all__ = ["CORES"]

_TWO_CORES = simulated("test_two_cores_equal_golden[agmm]")
_STRIPS = simulated("test_strips_equal_golden[two strips-plain]")
_SATURATES = simulated("test_what_saturates_equals_golden[wrapping]")
_PROJECTIONS = simulated("test_shortcuts_equal_golden[two passes-projections]")

CORES = [
    *mutations_of(
        "hw/accelerator.py",
        (
            "with m.If(port.start):\n            # The stem's",
            "with m.If(stem.start):\n            # The stem's",
            "the stem's sums are handed over only when it runs again",
        ),
        (
            "m.d.sync += [waiting.eq(0), word.eq(0)]", "m.d.sync += waiting.eq(0)",
            "the stem's last word stays on the bus",
        ),
        (
            "port.busy.eq(core.busy | stem.busy)", "port.busy.eq(core.busy)",
            "a run does not wait for its stem",
        ),
        (
            "core.start.eq(port.start & (port.count != 0))", "core.start.eq(port.start)",
            "a run of the stem alone starts the other core",
        ),
        (
            "Mux(core_writes, core.write_address, address)",
            "Mux(core_writes, core.write_address, stem.write_address)",
            "a word of the stem that waited goes to where the next one belongs",
        ),
    ),
    *mutations_of(
        "hw/core.py",
        (
            "(sequencer.element ^ self.side.replicate(bits)) & sequencer.inside.replicate(bits)",
            "(sequencer.element & sequencer.inside.replicate(bits)) ^ self.side.replicate(bits)",
            "padding is read from the last word on side 1",
            ("tests/hw/test_memory.py::test_taps_outside_the_map_read_word_0_on_either_side",),
        ),
        (
            (
                "            with m.If(sequencer.opening):\n                "
                "m.d.comb += gain.totals.eq(self.before)"
            ),
            "            pass",
            "layer 0's mean is not the stem core's",
            _TWO_CORES,
        ),
        (
            "m.d.sync += strip.eq(sequencer.strip)", "m.d.comb += strip.eq(sequencer.strip)",
            "the strip of a readout's words comes a cycle early",
            _STRIPS,
        ),
        (
            "m.d.comb += mac.first_pass.eq(engine.passes - 1)",
            "m.d.comb += mac.first_pass.eq(layer.first_pass)",
            "a projection's tile is handed out in every pass",
            _PROJECTIONS,
        ),
        (
            "return Mux(projects, saturate(macs[t].out[u], clamp), macs[0].out[u])",
            "return Mux(projects, macs[t].out[u], macs[0].out[u])",
            "what a projection sums up wraps around",
            _SATURATES,
        ),
        (
            "odd.eq(sequencer.element[0])", "odd.eq(self.frame_address[0])",
            "the byte of a frame's word is chosen by another address bit",
            ("tests/hw/test_memory.py::test_no_row_is_read_in_the_cycle_in_which_it_is_written",),
        ),
    ),
    *mutations_of(
        "hw/neurons.py",
        (
            "m.d.sync += number.eq(passes.number)", "m.d.comb += number.eq(passes.number)",
            "a pass begins with the gain a cycle early",
            _PROJECTIONS,
        ),
        (
            "mean.passed.eq(writer.passed & layer.mean_next)", "mean.passed.eq(writer.passed)",
            "a projection's silent writes count in the mean of the layer beside it",
            _PROJECTIONS,
        ),
        (
            "starts = self.clear & (layer.kind != Kind.PROJECTION)", "starts = self.clear",
            "a projection clears the mean of the layer beside it",
            _PROJECTIONS,
        ),
        (
            "scale.counts.eq(self.layer.kind == Kind.CONV)",
            "scale.counts.eq(self.layer.kind != Kind.STEM)",
            "currents of a projection have no sign",
            _PROJECTIONS,
        ),
    ),
    *mutations_of(
        "hw/sequencer.py",
        (
            "corner_y = Mux(is_stem, corner, 0) if strips else corner", "corner_y = corner",
            "maps in strips begin above their halo",
            ("tests/hw/test_sequencer.py::test_strips",),
        ),
        (
            "step.eq(Mux(layer.pool, layer.stride << 1, layer.stride))", "step.eq(layer.stride)",
            "padding behind pooled windows is not where it is",
            ("tests/hw/test_sequencer.py::test_operands_records_and_cycles",),
        ),
        (
            "Mux(sub == 1, top + layer.stride, top)", "Mux(sub == 1, top + 1, top)",
            "the lower windows of a pooled pixel ignore stride 2",
            ("tests/hw/test_sequencer.py::test_operands_records_and_cycles",),
        ),
        (
            "(tap_x < layer.in_width)", "(tap_x <= layer.in_width)",
            "the tap right of a row is inside the map",
            ("tests/hw/test_sequencer.py::test_operands_records_and_cycles",),
        ),
        (
            "last_word -= layer.first_pass * engine.lanes", "last_word -= 0",
            "gains of passes that are not used are fetched",
            ("tests/hw/test_sequencer.py::test_fetches_the_gains_of_the_passes_in_use",),
        ),
        (
            "in_all = (engine.passes - layer.first_pass) * engine.groups",
            "in_all = engine.passes * engine.groups",
            "a short tile of a stem waits for passes that are not used",
            ("tests/hw/test_sequencer.py::test_a_short_tile_of_a_stem_waits_for_all_passes",),
        ),
        (
            "others = (engine.passes - 1 - layer.first_pass) << tile_bits",
            "others = (engine.passes - 1) << tile_bits",
            "a projection steps over too many channels where passes are unused",
            ("tests/hw/test_sequencer.py::test_projections_before_their_layers",),
        ),
        (
            "ky.eq(0), fresh.eq(opens_sums), strip.eq(strip + 1)",
            "ky.eq(0), fresh.eq(1), strip.eq(strip + 1)",
            "a readout's sums start over in each pass of a strip",
            ("tests/hw/test_sequencer.py::test_passes",),
        ),
        (
            "with m.State(\"Last word\"):\n                with m.If(~self.gain_busy):",
            "with m.State(\"Last word\"):\n                with m.If(1):",
            "a layer does not wait for its last gain",
            ("tests/hw/test_sequencer.py::test_waits_for_the_gain_and_for_the_last_word",),
        ),
    ),
    *mutations_of(
        "hw/array.py",
        (
            "flags.last.eq(self.valid & self.last)", "flags.last.eq(self.last)",
            "a tile is done where nothing is valid",
        ),
        (
            "flags.active[t // self.steps]", "flags.active[t % self.strips]",
            "lanes take part in another strip's turn",
        ),
        (" + (engine.passes - 1).bit_length()\n", "\n", "a readout's counts wrap over the passes"),
    ),
    *mutations_of(
        "hw/popcount.py",
        (
            "Signal(depth + 1, name=", "Signal(max(depth, 2), name=",
            "the carry of every sum but the first is dropped",
        ),
        (
            "        if self.deep:\n            parts = ",
            "        if False:\n            parts = ",
            "a deep count comes a cycle early",
        ),
    ),
    *mutations_of(
        "hw/carry.py",
        (
            "ones.append(~(spikes[-1] ^ weights[-1]))", "ones.append(spikes[-1] ^ weights[-1])",
            "the position that three do not divide counts where it differs",
        ),
        (
            "(RESTART, padded[bit], total[bit], restart, 1)",
            "(RESTART, total[bit], padded[bit], restart, 1)",
            "a restart keeps the old sum",
        ),
        ("        carry = following\n", "        carry = Const(0)\n", "no carry between cells"),
    ),
    *mutations_of(
        "hw/mac.py",
        (
            "signed(STREAM_BITS if self.of_stream else 9)",
            "signed(STREAM_BITS if self.of_stream else 8)",
            "pixels from 128 on are negative",
        ),
        (
            "passes = self.passes - self.first_pass", "passes = self.passes",
            "sums are handed out for passes that are not used",
        ),
        (
            "signed(self.width + STEM_SHIFT), reset_less",
            "signed(self.width + STEM_SHIFT - 1), reset_less",
            "the top bit of a sum is dropped",
        ),
    ),
    *mutations_of(
        "hw/tile.py",
        (
            "m.d.sync += turn.eq(Mux(done, 0, turn + 1))", "m.d.sync += turn.eq(turn + 1)",
            "slow groups leave out of step with their tile",
            ("tests/hw/test_array.py",),
        ),
        (
            "(p + unit.units) % unit.pe", "(p + 1) % unit.pe",
            "with several units the second pass has channels in another order",
            ("tests/hw/test_mac.py",),
        ),
    ),
    *mutations_of(
        "hw/readout.py",
        (
            (
                "        with m.If(self.clear):\n            "
                "m.d.sync += plane.eq(0)\n        "
                "with m.Elif("
            ),
            "        with m.If(",
            "a plane is left from the layer before",
        ),
        (
            "Signal(self.width + (self.lanes - 1).bit_length(), name=", "Signal(self.width, name=",
            "the carry of the lanes' sum is dropped",
        ),
    ),
]
