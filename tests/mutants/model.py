"""Errors of the golden model, the export, and what lays a network out."""

from tests.mutants.mutation import mutations_of

__all__ = ["MODEL"]

_GOLDEN = ("tests/sw/test_golden.py", "tests/sw/test_residual_golden.py")

MODEL = [
    *mutations_of(
        "sw/golden.py",
        (
            "fired = membrane >= threshold", "fired = membrane > threshold",
            "a membrane at the threshold does not fire",
        ),
        (
            "\"bias\", 2 * _tensor(image.bias, \"int64\")",
            "\"bias\", _tensor(image.bias, \"int64\")",
            "logits are doubled, their biases are not",
        ),
        ("@ self.scales + self.agmm.offset", "@ self.scales", "means have no offset"),
        (
            "if not (gain[t] == formats.GAIN_ONE).all()",
            "if not (gain[t] == formats.GAIN_ONE).any()",
            "one gain of 1 stands for those of all frames",
            (),
            "a gain of 256 is constant, the same in all frames: that of a table is 255 at most",
        ),
        (
            "(side // size * size for side in spikes.shape[3:])",
            "(side for side in spikes.shape[3:])",
            "an odd last row is pooled",
        ),
        (
            "membrane.masked_fill_(fired, 0)", "membrane.sub_(fired * threshold)",
            "a spike takes the threshold off the membrane",
        ),
    ),
    *mutations_of(
        "sw/formats.py",
        (
            "(1 << (GAIN_FRACTION - 1))) >> GAIN_FRACTION",
            "(1 << (GAIN_FRACTION - 1)) - 1) >> GAIN_FRACTION",
            "halves of a gain are rounded down",
            _GOLDEN,
        ),
        (
            "(1 << (SLOPE_FRACTION - 1))) >> SLOPE_FRACTION",
            "(1 << (SLOPE_FRACTION - 1)) - 1) >> SLOPE_FRACTION",
            "halves of a slope are rounded down",
            ("tests/sw/test_residual_golden.py", "tests/hw/test_scale.py"),
        ),
        (
            "return membrane - (membrane >> shift)", "return membrane + (-membrane >> shift)",
            "what leaks away is rounded up",
            (*_GOLDEN, "tests/hw/test_lif.py"),
        ),
        (
            "clamp(value, -top, top - 1)", "clamp(value, -top + 1, top - 1)",
            "the smallest value of a stream is never reached",
            ("tests/sw/test_residual_golden.py", "tests/hw/test_lif.py"),
        ),
        (
            "clamp(scaled, -INDEX_LIMIT, INDEX_LIMIT - 1)",
            "clamp(scaled, -INDEX_LIMIT, INDEX_LIMIT - 2)",
            "the largest gain is never reached",
            ("tests/hw/test_agmm.py",),
        ),
        (
            "return (total + 2) >> 2", "return (total + 1) >> 2",
            "halves of an average are rounded down",
            ("tests/sw/test_residual_golden.py", "tests/hw/test_stream.py"),
        ),
        (
            "(index + 0.5) / INDEX_STEPS", "index / INDEX_STEPS",
            "gains are those of an interval's end",
            (*_GOLDEN, "tests/sw/test_export.py", "tests/hw/test_agmm.py"),
        ),
        (
            "return (accumulator >> STEM_SHIFT) + bias",
            "return (accumulator + 32 >> STEM_SHIFT) + bias",
            "the stem's currents are rounded",
            ("tests/sw/test_golden.py",),
        ),
    ),
    *mutations_of(
        "sw/bounds.py",
        (
            "may_fire = membrane_high >= threshold", "may_fire = membrane_high > threshold",
            "a membrane that just fires is not reset to 0",
        ),
        (
            "np.maximum(threshold - 1, 0)", "np.maximum(threshold, 0)",
            "a membrane at the threshold may stay",
        ),
        ("v if v >= 0 else ~v", "abs(v)", "the smallest number takes a bit more"),
        (
            "*ends, min(K, 0) + ends[0], max(K, 0) + ends[1])", "K + ends[0], K + ends[1])",
            "the sum before the offset is not looked at",
            ("tests/sw/test_bounds.py",),
        ),
        (
            "        current = _channel_bits(*current_range(layer, low, high, 0))\n", "",
            "currents before their slope may overflow",
            ("tests/sw/test_residual_bounds.py",),
        ),
        (
            "    current = np.maximum(current, membrane - formats.MEMBRANE_EXTRA_BITS)\n", "",
            "membranes may overflow",
            (
                "tests/sw/test_bounds.py",
                "tests/sw/test_export.py",
                "tests/sw/test_residual_bounds.py",
            ),
        ),
        (
            "if bits.max() > limit:", "if bits.max() >= limit:",
            "what just fits is refused",
            (
                "tests/sw/test_bounds.py",
                "tests/sw/test_residual_bounds.py",
                "tests/sw/test_export.py",
            ),
        ),
    ),
    *mutations_of(
        "sw/export.py",
        (
            "ROUNDING = (1 - 2.0**-formats.STEM_SHIFT) / 2", "ROUNDING = 0.0",
            "the stem's rounding is not given back",
        ),
        ("np.ceil(v_threshold / unit)", "np.floor(v_threshold / unit)", "thresholds are floored"),
        (
            "np.where(silent, reach(bias) + 1, threshold)",
            "np.where(silent, reach(bias), threshold)",
            "a silent channel may fire",
        ),
        (
            "enough = -(-formats.GAIN_ONE // 2 // weakest) - least",
            "enough = -(-formats.GAIN_ONE // 2 // weakest) - least - 1",
            "a channel that always fires has a bias that is one too small",
        ),
        (
            "to_array(module.conv.gamma) / side**2", "to_array(module.conv.gamma) / side",
            "averages are too large",
            ("tests/sw/test_averages.py",),
        ),
    ),
    *mutations_of(
        "sw/image.py",
        (
            "if name == \"layers.0.gain\" and tensor.min() != GAIN_ONE:", "if False:",
            "a stem may have a gain",
        ),
        ("        digest.update(tensor.tobytes())\n", "", "damaged weights are not noticed"),
    ),
    *mutations_of(
        "sw/packing.py",
        (
            "pad_to(pad_to(weights, 0, engine.pe, True), 1, engine.simd, True)",
            "pad_to(pad_to(weights, 0, engine.pe, True), 1, engine.simd, False)",
            "inputs that are not there count",
        ),
        (
            "excess = passes * engine.steps *", "excess = engine.steps *",
            "what silent weights count is taken off of one pass alone",
        ),
        (
            "engine.current_width <= 16 and", "engine.current_width < 16 and",
            "currents of 16 bits take slots of 32",
            ("tests/sw/test_packing.py", "tests/sw/test_program.py"),
        ),
        (
            "np.arange(formats.PLANES)[::-1].reshape(", "np.arange(formats.PLANES).reshape(",
            "the lightest plane comes first",
        ),
    ),
    *mutations_of(
        "sw/record.py",
        (
            "if used and used + bits > 16:", "if used and used + bits >= 16:",
            "a field that just fits takes another word",
            ("tests/sw/test_program.py", "tests/sw/test_passes.py"),
        ),
        (
            "channels=channel + 1, out_base", "channels=channel, out_base",
            "as many channels as the memory has are none",
            ("tests/sw/test_program.py", "tests/sw/test_passes.py"),
        ),
        (
            "max(engine.spike_depth, 2 * engine.frame_depth, stream)",
            "max(engine.spike_depth, engine.frame_depth, stream)",
            "the second half of a large frame is not reached",
            ("tests/sw/test_program.py",),
        ),
        (
            "1 << (record_words(engine, engine.passes) - 1).bit_length()",
            "1 << (record_words(engine, engine.passes) - 2).bit_length()",
            "records that are one word too long overlap",
            ("tests/sw/test_passes.py", "tests/sw/test_program.py"),
        ),
    ),
    *mutations_of(
        "sw/strips.py",
        (
            "max(0, reader.kernel - reader.padding - reader.stride)",
            "max(0, reader.kernel - reader.padding - 1)",
            "with stride 2 the halo is too large",
        ),
        (
            "if max(above, below) > last * scale:", "if max(above, below) >= last * scale:",
            "strips as low as their halo are refused",
        ),
    ),
    *mutations_of(
        "sw/positions.py",
        (
            "if position >= self.high:", "if position > self.high:",
            "the first position at the last border counts as one in the middle",
        ),
        (
            "0 <= (position + padding - tap) // stride < outputs",
            "0 <= (position + padding - tap) // stride <= outputs",
            "taps reach an output behind the last",
        ),
    ),
    *mutations_of(
        "sw/cycles.py",
        (
            "4 * groups, 4 * groups - 3", "4 * groups, 4 * groups",
            "the last group beside an average takes four cycles",
            ("tests/sw/test_residual_program.py", "tests/sw/test_cycles.py"),
        ),
        (
            "groups - (tiles - 1) * core.groups", "core.groups",
            "the last tile of a readout takes as long as all others",
        ),
        (
            "3 * core.deep * (not isinstance(layer, Stem))", "3 * core.deep",
            "a deep engine delays the stem",
        ),
        (
            "return max(stem, sum(others)) if ahead", "return sum(others) if ahead",
            "a stem that takes longer than all others costs nothing",
        ),
    ),
    *mutations_of(
        "sw/framing.py",
        (
            "(self.expected - sequence) % NUMBERS in (0, 1)", "self.expected - sequence in (0, 1)",
            "number 127 does not come again after itself",
            ("tests/sw/test_framing.py",),
        ),
        (
            "if len(octets) <= 1 + CRC_BYTES:", "if len(octets) < CRC_BYTES:",
            "an empty frame is a reply",
            ("tests/sw/test_framing.py",),
        ),
        (
            "if octets[0] != sequence:", "if False:",
            "the reply to another command is taken",
            ("tests/sw/test_host_link.py",),
        ),
        (
            "self.octets, self.refused = b\"\", False", "self.octets = b\"\"",
            "one damaged frame refuses all others",
            ("tests/sw/test_host_link.py", "tests/hw/test_link.py"),
        ),
    ),
    *mutations_of(
        "sw/protocol.py",
        (
            "after.get(command[0] & 0x0F, 0)", "after.get(command[0], 0)",
            "the reply to a run with flags is taken for a status",
        ),
        (
            "int.from_bytes(data[:4], \"little\")", "int.from_bytes(data[:3], \"little\")",
            "runs of 2**24 cycles seem short",
        ),
        ("1 << (form >> 1 & 7)", "1 << (form >> 1 & 3)", "sixteen strips are one"),
    ),
    *mutations_of(
        "sw/program.py",
        (
            "worst + sizes[0] <= room", "worst + sizes[0] < room",
            "a map that just fits does not work ahead",
            ("tests/sw/test_stem_core.py",),
        ),
        (
            "(engine.spike_depth - (2 if engine.stem else 1))", "(engine.spike_depth - 1)",
            "on two sides the stamp lies in the word of zeros",
            ("tests/sw/test_stem_core.py", "tests/sw/test_program.py"),
        ),
        (
            "last_pass_steps = network.T - (passes - 1) * engine.steps",
            "last_pass_steps = min(network.T, engine.steps)",
            "steps behind the last are not silent",
            ("tests/sw/test_passes.py",),
        ),
        (
            "offset = (bias << shift) + (1 << (shift - 1)) - slope * excess",
            "offset = (bias << shift) - slope * excess",
            "currents of a stream are floored",
            ("tests/sw/test_residual_program.py",),
        ),
        (
            "(0 if side else Flags.STEM_SIDE)", "(Flags.STEM_SIDE if side else 0)",
            "the stem works ahead on the side that is read",
            ("tests/sw/test_stem_core.py",),
        ),
        ("if inputs >= 1 << bits:", "if inputs > 1 << bits:", "counts of a readout may wrap"),
        (
            "first_pass=engine.passes - passes", "first_pass=0",
            "unused passes are run",
            ("tests/sw/test_passes.py",),
        ),
        (
            "excess = negative << formats.FRACTION", "excess = negative",
            "what silent weights count is taken off in another unit",
        ),
        (
            "bottom, top = (2, engine.spike_depth - 2) if engine.stem",
            "bottom, top = (1, engine.spike_depth - 1) if engine.stem",
            "a map covers the other side's stamp",
            ("tests/sw/test_stem_core.py",),
        ),
    ),
]
