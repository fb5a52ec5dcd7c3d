"""The whole accelerator, as Verilog, against the golden model: every boundary, every cycle."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from sim.run import make_plan, simulate
from sw.engine import Engine
from sw.golden import IntegerNetwork
from sw.layers import AveragedReadout, Conv, Network, Readout, ResidualConv, Shape, Stem
from sw.program import Region
from sw.record import fields, record_stride
from tests.support import random_frames, random_image
from tests.sw.test_residual_golden import overflowing, saturating

SMALL = Engine(
    pe=4, simd=16, lanes=4, weight_depth=1024, spike_depth=512, channel_depth=256, mean_depth=1024
)
#: Another folding, with wide words, more time steps and room for larger currents.
WIDE = Engine(
    pe=8, simd=32, lanes=8, weight_depth=1024, spike_depth=512, channel_depth=256, mean_depth=1024,
    current_width=18,
)
#: Two channels and four at once behind the array, the latter with its longer pipeline.
PAIRS = replace(SMALL, pe=8, units=2)
FOURS = replace(WIDE, pe=16, units=4, deep=True)
#: A core of its own for the stem, with another folding.
TWO = replace(PAIRS, simd=32, deep=True)
TWO = replace(
    TWO, stem=TWO.stem_core(pe=16, units=2, weight_depth=256, channel_depth=64, mean_depth=2048)
)
#: Maps cut into strips, of two time steps and of one.
STRIPS = replace(SMALL, pixels=2)
FOUR = replace(SMALL, pixels=4)
#: Shortcuts, of one pass and of two.
STREAM = replace(PAIRS, stream_depth=4096, layer_depth=16)
STREAM_IN_PASSES = replace(STREAM, spike_depth=1024, passes=2, deep=True)

PLAIN = Network("plain", Shape(1, 6, 6), [Stem(16), Conv(16, pool=2), Conv(20), Readout(10)])
NETWORKS = {
    "agmm": (PLAIN, "exact"),
    "frozen gain": (PLAIN, "frozen"),
    "vanilla": (PLAIN.replace(neuron="vanilla"), "exact"),
    "slow leak, two steps": (PLAIN.replace(tau=0.875, T=2), "exact"),
    "odd channels, colour, strides": (
        Network(
            "odd", Shape(3, 9, 7), [Stem(18, stride=2), Conv(21, stride=2), Readout(3)], T=3
        ),
        "exact",
    ),
    "large and small kernels": (
        Network(
            "kernels", Shape(1, 9, 9),
            [Stem(8, kernel=5, pool=2), Conv(17, kernel=5), Conv(6, kernel=1),
             Conv(4, padding=0), Readout(5)],
            tau=0.75,
        ),
        "exact",
    ),
    "no padding": (
        Network("bare", Shape(1, 10, 11), [Stem(8), Conv(6, kernel=5, padding=0), Readout(3)]),
        "exact",
    ),
    "no leak left": (PLAIN.replace(tau=0.0, T=1), "exact"),
}

#: For engines with strips: heights that these do not divide, and kernels that reach into others.
TALL = {
    "plain": PLAIN.replace(input=Shape(1, 7, 6)),
    "vanilla, slow leak": PLAIN.replace(input=Shape(1, 7, 5), neuron="vanilla", tau=0.875),
    "large and small kernels": Network(
        "kernels", Shape(1, 15, 9),
        [Stem(8, kernel=5, pool=2), Conv(17, kernel=5), Conv(6, kernel=1), Conv(4, padding=0),
         Readout(5)],
        tau=0.75,
    ),
    "strides, colour, several words a pixel": Network(
        "strides", Shape(3, 19, 5),
        [Stem(20, stride=2), Conv(18, kernel=5, stride=2, padding=1), Conv(40), Readout(7)],
    ),
    "no padding": Network(
        "bare", Shape(1, 17, 12),
        [Stem(8, padding=0), Conv(6, kernel=5, padding=0), Conv(9, kernel=5, padding=1),
         Readout(3)],
    ),
}

#: Same channels, some more and twice as many; streams that end and begin in mid-network.
RESIDUAL = {
    "average": Network(
        "residual", Shape(1, 12, 12),
        [Stem(8), ResidualConv(8), ResidualConv(14, stride=2), ResidualConv(14),
         AveragedReadout(10)],
    ),
    "among other layers, slow leak": Network(
        "mixed", Shape(1, 8, 8),
        [Stem(8, pool=2), Conv(8), ResidualConv(8), Conv(12, kernel=1), ResidualConv(12),
         Readout(3)],
        T=3, tau=0.75,
    ),
    "projections": Network(
        "projected", Shape(2, 7, 9),
        [Stem(10), ResidualConv(19, projection=True), ResidualConv(9, stride=2, projection=True),
         ResidualConv(9), ResidualConv(5, kernel=1, stride=2, projection=True), Readout(3)],
        T=3,
    ),
    "vanilla, colour, two averages": Network(
        "twice", Shape(3, 8, 12),
        [Stem(9), ResidualConv(18, kernel=1, stride=2), ResidualConv(18, kernel=5),
         ResidualConv(20, stride=2), Readout(5)],
        T=1, neuron="vanilla",
    ),
}


def run(image, golden_image, engine, frames=2, simulator="verilator"):
    """(plan, result)."""
    pictures = random_frames(image.network, frames).numpy()
    plan = make_plan(image, IntegerNetwork(golden_image), pictures, engine)
    result = simulate(plan, simulator)
    assert result["frames"] == frames
    return plan, result


def differences(*arguments, **options):
    return run(*arguments, **options)[1]["differences"]


@pytest.mark.parametrize("name", NETWORKS)
def test_verilog_equals_golden(name):
    network, gain = NETWORKS[name]
    image = random_image(network, gain=gain)
    assert differences(image, image, SMALL) == []


@pytest.mark.parametrize("engine", [WIDE, FOURS], ids=["wide", "fours"])
def test_another_folding_equals_golden(engine):
    image = random_image(PLAIN.replace(T=8))
    assert differences(image, image, engine) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_two_channels_at_once_equal_golden(name):
    network, gain = NETWORKS[name]
    image = random_image(network, gain=gain)
    assert differences(image, image, PAIRS) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_two_cores_equal_golden(name):
    """Layer by layer, then with the stem a frame ahead of the rest, on both sides in turn."""
    network, gain = NETWORKS[name]
    image = random_image(network, gain=gain)
    plan, result = run(image, image, TWO, frames=3)
    assert result["differences"] == []
    assert plan.program.ahead
    assert result["cycles_per_frame"] == max(plan.cycles[0], sum(plan.cycles[1:]))


def test_two_cores_take_turns_where_the_next_map_has_no_room():
    large = Network("large", Shape(1, 16, 17), [Stem(12), Conv(9, pool=2), Readout(3)])
    image = random_image(large)
    plan, result = run(image, image, TWO)
    assert result["differences"] == []
    assert not plan.program.ahead
    assert result["cycles_per_frame"] == sum(plan.cycles)


def tall_image(name, engine):
    return random_image(TALL[name].replace(T=engine.steps), gain="frozen")


@pytest.mark.parametrize("name", TALL)
@pytest.mark.parametrize("engine", [STRIPS, FOUR], ids=["two strips", "four strips"])
def test_strips_equal_golden(engine, name):
    image = tall_image(name, engine)
    assert differences(image, image, engine) == []


def test_fewer_steps_than_a_strip_has_lanes_equal_golden():
    image = random_image(TALL["plain"].replace(T=1), gain="frozen")
    assert differences(image, image, STRIPS) == []


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("more_steps, engine", [(0, STREAM), (4, STREAM_IN_PASSES)],
                         ids=["one pass", "two passes"])
def test_shortcuts_equal_golden(name, engine, more_steps):
    network = RESIDUAL[name]
    image = random_image(network.replace(T=network.T + more_steps))
    plan, result = run(image, image, engine)
    assert result["differences"] == []
    assert result["cycles_per_frame"] == sum(plan.cycles)


def wrapping():
    """Sums of a projection that are negative where they wrap around, in currents of 18 bits."""
    return with_layer(overflowing(), 0, bias=np.full(3, 30_000))


@pytest.mark.parametrize("make", [overflowing, wrapping, saturating])
def test_what_saturates_equals_golden(make):
    """Projections before their slope and behind their bias, either way; sums of currents."""
    image = make()
    assert differences(image, image, replace(STREAM, current_width=18)) == []


@pytest.mark.parametrize("engine", [STREAM, STREAM_IN_PASSES], ids=["one pass", "two passes"])
def test_an_engine_with_shortcuts_runs_networks_without(engine):
    image = random_image(NETWORKS["large and small kernels"][0])
    assert differences(image, image, engine) == []


def test_a_frozen_gain_beside_shortcuts_equals_golden():
    image = random_image(RESIDUAL["average"], gain="frozen")
    assert differences(image, image, STREAM) == []


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus is a system package")
@pytest.mark.parametrize("engine", [SMALL, TWO, FOUR], ids=["small", "two", "four strips"])
def test_icarus_equals_golden(engine):
    image = random_image(PLAIN) if engine.exact_gain else tall_image("plain", engine)
    assert differences(image, image, engine, frames=1, simulator="icarus") == []


def with_layer(image, index, **changes):
    layers = list(image.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(image, layers=tuple(layers))


def wrong_stem_weight(image):
    weights = image.layers[0].weights.copy()
    weights[5, 0, 1, 1] = -128 if weights[5, 0, 1, 1] > 0 else 127
    return with_layer(image, 0, weights=weights)


def flipped_weight(image):
    weights = image.layers[1].weights.copy()
    weights[0, 0, 1, 1] ^= True
    return with_layer(image, 1, weights=weights)


def shifted_threshold(image):
    """The threshold of every channel's neighbour is right; one channel's is one too high."""
    threshold = image.layers[1].threshold.copy()
    threshold[3] += 1
    return with_layer(image, 1, threshold=threshold)


def wrong_table_entry(image):
    agmm = image.layers[1].agmm
    table = agmm.table.copy()
    table[0, 1, 1] = np.iinfo(np.int16).max
    return with_layer(image, 1, agmm=replace(agmm, table=table))


@pytest.mark.parametrize("corrupt", [flipped_weight, shifted_threshold, wrong_table_entry])
def test_the_comparison_sees_one_wrong_value(corrupt):
    image = random_image(PLAIN)
    found = differences(corrupt(image), image, SMALL, frames=12)
    assert found, f"{corrupt.__name__} went unnoticed"
    # What lies before the corrupted layer still agrees.
    assert all("stem0" not in line for line in found)


def larger_slope(image):
    slope = image.layers[2].slope.copy()
    slope[9] += slope[9] // 64 + 1
    return with_layer(image, 2, slope=slope)


def shifted_bias(image):
    """By a 256th of the firing threshold."""
    bias = image.layers[2].bias.copy()
    bias[9] += 1
    return with_layer(image, 2, bias=bias)


def wrong_weight_of_a_projection(image):
    projection = image.layers[2].projection
    weights = projection.weights.copy()
    weights[3, 17] = -128 if weights[3, 17] > 0 else 127
    return with_layer(image, 2, projection=replace(projection, weights=weights))


@pytest.mark.parametrize("name, corrupt", [
    ("average", larger_slope), ("average", shifted_bias),
    ("projections", wrong_weight_of_a_projection),
])
@pytest.mark.parametrize("more_steps, engine", [(0, STREAM), (4, STREAM_IN_PASSES)],
                         ids=["one pass", "two passes"])
def test_the_comparison_sees_one_wrong_value_beside_a_shortcut(engine, more_steps, name, corrupt):
    network = RESIDUAL[name]
    image = random_image(network.replace(T=network.T + more_steps))
    found = differences(corrupt(image), image, engine, frames=12)
    assert found, f"{corrupt.__name__} went unnoticed"
    assert not any("stem0" in line or "conv1" in line for line in found)


@pytest.mark.parametrize("engine, name, corrupt", [
    (STRIPS, "plain", flipped_weight), (STRIPS, "plain", shifted_threshold),
    (FOUR, "plain", wrong_stem_weight), (FOUR, "large and small kernels", flipped_weight),
    (FOUR, "vanilla, slow leak", shifted_threshold),
])
def test_the_comparison_sees_one_wrong_value_in_strips(engine, name, corrupt):
    image = tall_image(name, engine)
    found = differences(corrupt(image), image, engine, frames=12)
    assert found, f"{corrupt.__name__} went unnoticed"
    assert any("stem0" in line for line in found) == (corrupt is wrong_stem_weight)


def with_field(plan, index, name, value):
    """The value of a field of a layer's record, and the plan with another."""
    engine = plan.program.engine
    field = next(field for field in fields(engine) if field.name == name)
    program = plan.program.regions[Region.PROGRAM].copy()
    record = program[index * record_stride(engine) :]
    before = int(record[field.word]) >> field.shift & (1 << field.bits) - 1
    record[field.word] ^= (before ^ value) << field.shift
    regions = plan.program.regions | {Region.PROGRAM: program}
    return before, replace(plan, program=replace(plan.program, regions=regions))


@pytest.mark.parametrize("name, value", [("halo_above", 0), ("halo_below", 0), ("full_rows", 6)])
def test_the_comparison_sees_a_wrong_halo_and_spikes_beyond_the_map(name, value):
    """Of 15 rows the last of the stem's strips has 7; a wrong one is seen in the stem or after."""
    network = Network("rows", Shape(1, 15, 6), [Stem(16), Conv(12), Readout(5)], T=STRIPS.steps)
    image = random_image(network, gain="frozen")
    plan = make_plan(image, IntegerNetwork(image), random_frames(network, 4).numpy(), STRIPS)
    before, changed = with_field(plan, 0, name, value)
    assert before == {"halo_above": 1, "halo_below": 1, "full_rows": 7}[name]
    found = simulate(changed)["differences"]
    layers = {re.match(r"frame \d (\w+)", line)[1] for line in found}
    assert ("stem0" in layers) == (name == "full_rows") and "conv1" in layers


@pytest.mark.parametrize("name, right, wrong", [
    ("streamed", 1, 0), ("shortcut", 1, 0), ("shortcut_last", 3, 2), ("stream_last", 7, 8),
    ("stream_row", 48, 47),
])
def test_the_comparison_sees_a_wrong_field_beside_a_shortcut(name, right, wrong):
    """In the record of the layer that averages 8 channels of 12 x 12 pixels for its 14."""
    image = random_image(RESIDUAL["average"])
    frames = random_frames(image.network, 2).numpy()
    before, changed = with_field(
        make_plan(image, IntegerNetwork(image), frames, STREAM), 2, name, wrong
    )
    assert before == right
    found = simulate(changed)["differences"]
    assert any(re.match(r"frame \d residualconv2", line) for line in found)


def test_the_comparison_sees_one_wrong_value_in_a_stem_that_works_ahead():
    image = random_image(PLAIN)
    found = differences(wrong_stem_weight(image), image, TWO, frames=3)
    alone = [line for line in found if re.match(r"frame \d stem0: \d+ of", line)]
    ahead = [line for line in found if "in one go: the next frame's stem: " in line]
    assert len(alone) == len(ahead) == 3


def test_the_comparison_sees_a_stem_that_works_on_another_frame():
    image = random_image(PLAIN)
    frames = random_frames(PLAIN, 3).numpy()
    plan = make_plan(image, IntegerNetwork(image), frames, TWO)
    mixed = [np.roll(boundary, 1, axis=0) for boundary in plan.boundaries]
    found = simulate(replace(plan, boundaries=mixed))["differences"]
    assert sum("the next frame's stem: " in line for line in found) == 3
