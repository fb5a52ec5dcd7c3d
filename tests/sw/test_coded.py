"""Events and pixels as spikes: the float and the integer network, and words of memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sw import formats, image, train
from sw.bounds import ExportError, bounds
from sw.cycles import cycles_per_frame, layer_cycles
from sw.engine import Engine, EngineError
from sw.export import export
from sw.golden import IntegerNetwork, float_network
from sw.image import ImageError
from sw.layers import Conv, Events, LayerError, Network, Pixels, Readout, Shape, Stem
from sw.model import SpikingNetwork
from sw.program import Region, compile_program
from sw.protocol import encode_run
from tests.support import random_frames, random_image, random_model

NETWORK = Network(
    "events", Shape(2, 7, 6), [Events(3), Conv(5, pool=2), Conv(9), Readout(4)], T=3
)
ENGINE = Engine(
    pe=4, simd=8, lanes=4, weight_depth=256, spike_depth=256, channel_depth=128, mean_depth=512
)
STRIPS = replace(ENGINE, lanes=8, pixels=2)
PASSES = replace(ENGINE, lanes=4, pixels=2, passes=2)
CORES = replace(ENGINE, pe=8, stem=replace(ENGINE, pe=8).stem_core(pe=4))


def counts(network, frames=2):
    """Counts from 0 to more than any level."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 6, (frames, *network.frame_shape), generator=generator).byte()


def test_a_frame_has_all_steps_and_every_level_is_a_channel():
    assert NETWORK.frame_shape == (3, 2, 7, 6)
    assert NETWORK.shapes[1] == Shape(6, 7, 6)
    assert NETWORK.layer_name(0) == "events0"
    assert NETWORK.layer_macs()[:2] == [0, 3 * 5 * 6 * 6 * 6 * 9]
    assert Network.from_dict(NETWORK.to_dict()) == NETWORK


@pytest.mark.parametrize("kind", [Events, Pixels])
@pytest.mark.parametrize("levels", [0, 16, 1.0, True])
def test_levels_are_few(kind, levels):
    with pytest.raises(LayerError, match="levels must be 1 to 15, got"):
        kind(levels)


def test_events_come_first():
    with pytest.raises(LayerError, match="layers must be one Stem, Pixels or Events, then Conv"):
        NETWORK.replace(layers=[Stem(3), Events(), Readout(2)])


def test_spikes_are_the_count_in_thermometer_code():
    frames = counts(NETWORK)
    _, spikes = SpikingNetwork(NETWORK).eval()(frames, record=True)
    coded = spikes[0].unflatten(2, (3, 2))
    assert coded.shape == (3, 2, 3, 2, 7, 6)
    assert torch.equal(coded.sum(2), frames.transpose(0, 1).clamp(max=3).float())
    assert (coded[:, :, :-1] >= coded[:, :, 1:]).all()
    _, boundaries = IntegerNetwork(random_image(NETWORK))(frames, record=True)
    assert torch.equal(boundaries[0].spikes, spikes[0].byte())
    assert boundaries[0].gain is None and boundaries[0].mean is None


@pytest.mark.parametrize("levels, counts", [
    (1, {0: 0, 127: 0, 128: 1, 255: 1}), (2, {85: 0, 86: 1, 170: 1, 171: 2, 255: 2}),
    (15, {0: 0, 15: 0, 16: 1, 31: 1, 32: 2, 239: 14, 240: 15, 255: 15}),
])
def test_pixels_fall_into_equal_parts(levels, counts):
    """255 * level / (levels + 1), and what of it the float and the integer network make."""
    network = Network(
        "pixels", Shape(1, 1, len(counts)), [Pixels(levels), Conv(3), Readout(2)], T=2
    )
    frame = torch.tensor([*counts], dtype=torch.uint8).view(1, 1, 1, -1)
    _, spikes = SpikingNetwork(network).eval()(frame, record=True)
    assert spikes[0].shape == (2, 1, levels, 1, len(counts))
    assert spikes[0].sum(2).flatten().tolist() == [*counts.values()] * 2
    _, boundaries = IntegerNetwork(random_image(network))(frame, record=True)
    assert torch.equal(boundaries[0].spikes, spikes[0].byte())


def test_pixels_are_the_same_at_every_step():
    network = NETWORK.replace(layers=[Pixels(3), *NETWORK.layers[1:]])
    assert network.frame_shape == (2, 7, 6) and network.coded
    exported, frames = random_image(network), random_frames(network, 40, 7)
    model = random_model(network)
    _, spikes = model(frames, record=True)
    assert torch.equal(spikes[0][0], spikes[0][2])
    _, boundaries = IntegerNetwork(exported)(frames, record=True)
    for real, integer in zip(spikes, boundaries, strict=True):
        assert (real != integer.spikes).float().mean() < 0.02
    program = compile_program(exported, ENGINE)
    words = program.pack_frame(frames[0].numpy())
    assert np.array_equal(program.unpack_boundary(0, words), boundaries[0].spikes[:, 0].numpy())
    with pytest.raises(EngineError, match=r"a frame of events is \(2, 7, 6\) bytes"):
        program.pack_frame(counts(NETWORK)[0].numpy())


def test_equal_weights_for_all_levels_multiply_the_count():
    """So a binary convolution on small integers is one on their spikes."""
    data = random_image(NETWORK).layers[1]
    one = data.weights[:, :2]
    same = replace(data, weights=np.concatenate([one] * 3, axis=1))
    whole = random_image(NETWORK)
    golden = IntegerNetwork(replace(whole, layers=(whole.layers[0], same, *whole.layers[2:])))
    frames = counts(NETWORK)
    spikes = golden.layers[0](frames).spikes
    integers = frames.transpose(0, 1).clamp(max=3).flatten(0, 1).double()
    expected = F.conv2d(integers, torch.from_numpy(one * 2.0 - 1), padding=1)
    assert torch.equal(golden.layers[1].sums(spikes).flatten(0, 1), expected.int())


def test_the_first_convolution_has_no_agmm():
    """Its input comes from outside: nothing could sum up its mean before it runs."""
    assert [NETWORK.has_agmm(index) for index in range(4)] == [False, False, True, False]
    model, exported = SpikingNetwork(NETWORK), random_image(NETWORK)
    assert model.layers[1].agmm is None and model.layers[2].agmm is not None
    assert exported.layers[1].gain.tolist() == [formats.GAIN_ONE] * 3
    assert exported.layers[1].alpha is None and exported.layers[2].agmm is not None
    assert exported.gain_mode == "exact"
    assert random_image(NETWORK, gain="frozen").gain_mode == "frozen"
    short = NETWORK.replace(layers=[Events(), Conv(3), Readout(2)])
    assert random_image(short).gain_mode == "none"


def test_integers_follow_the_float_network():
    exported, frames = random_image(NETWORK), random_frames(NETWORK, 40, 7)
    _, spikes = float_network(exported)(frames, record=True)
    _, boundaries = IntegerNetwork(exported)(frames, record=True)
    for real, integer in zip(spikes, boundaries, strict=True):
        differing = (real != integer.spikes).float().mean()
        assert differing < 0.02
    assert 0.02 < boundaries[-1].spikes.float().mean() < 0.6


def test_an_image_survives_its_file(tmp_path):
    exported = random_image(NETWORK)
    image.save(exported, tmp_path / "events.bsnn")
    loaded = image.load(tmp_path / "events.bsnn")
    assert loaded.checksum == exported.checksum and loaded.network == NETWORK
    assert all(value is None for value in vars(loaded.layers[0]).values())
    frames = counts(NETWORK)
    assert torch.equal(IntegerNetwork(loaded)(frames), IntegerNetwork(exported)(frames))


def test_frames_of_another_shape_are_refused():
    exported = random_image(NETWORK)
    with pytest.raises(ImageError, match=r"events takes frames of \(3, 2, 7, 6\) bytes"):
        IntegerNetwork(exported)(counts(NETWORK)[:, :2])
    with pytest.raises(EngineError, match=r"a frame of events is \(3, 2, 7, 6\) bytes"):
        compile_program(exported, ENGINE).pack_frame(np.zeros((2, 7, 6), np.uint8))


def test_events_need_no_bits_and_no_cycles():
    assert bounds(random_image(NETWORK))[0].current_bits == 0
    cycles = [layer_cycles(NETWORK, index, ENGINE) for index in range(4)]
    assert cycles[0] == 0 and min(cycles[1:]) > 0
    # One exact gain, of the second convolution: 17 cycles for each lane.
    assert cycles_per_frame(NETWORK, ENGINE, exact_gain=False) == sum(cycles) - 17 * 4
    assert layer_cycles(NETWORK, 1, ENGINE, exact_gain=False) == cycles[1]


@pytest.mark.parametrize("engine", [ENGINE, STRIPS, PASSES, CORES],
                         ids=["one", "strips", "passes", "two cores"])
def test_packed_events_are_a_map_as_a_layer_leaves_it(engine):
    program = compile_program(random_image(NETWORK, gain="frozen"), engine)
    frame = counts(NETWORK)[0].numpy()
    words = program.pack_frame(frame)
    assert program.frame_region == Region.SPIKES
    assert (program.frame_address, len(words)) == program.boundary_words(0)
    expected = np.concatenate([frame > level for level in range(3)], axis=1)
    assert np.array_equal(program.unpack_boundary(0, words), expected)


def test_words_by_hand():
    """Step 1, column 2, two events in channel 0: spikes of channels 0 and 2."""
    network = NETWORK.replace(input=Shape(2, 2, 3), layers=[Events(2), Readout(2)], T=2)
    program = compile_program(random_image(network), ENGINE)
    frame = np.zeros((2, 2, 2, 3), np.uint8)
    frame[1, 0, 0, 2] = 2
    words = program.pack_frame(frame)
    assert len(words) == 6 * 2
    assert words[2 * 2] == 1 << 1 | 1 << 2 * 4 + 1 and words.sum() == words[4]


def test_halos_by_hand():
    """Two strips of two rows: row 1 also lies above strip 1, row 2 also below strip 0."""
    network = NETWORK.replace(
        input=Shape(1, 4, 1), layers=[Events(), Conv(4), Readout(2)], T=4
    )
    program = compile_program(random_image(network, gain="frozen"), STRIPS)
    frame = np.zeros((4, 1, 4, 1), np.uint8)
    frame[0, 0, 1] = frame[0, 0, 2] = 1
    # A word of 8 channels and 8 lanes: channel 0 has step 0 of strip 0 in bit 0, of 1 in bit 4.
    rows = program.pack_frame(frame).reshape(4, 4)
    assert rows[:, 0].tolist() == [1 << 4, 1 << 4, 1 << 0, 1 << 0]
    assert not rows[:, 1:].any()


@pytest.mark.parametrize("engine", [ENGINE, CORES], ids=["one", "two cores"])
def test_the_host_runs_no_events(engine):
    program = compile_program(random_image(NETWORK), engine)
    with pytest.raises(EngineError, match="events0 is written by the host, not run"):
        program.run_layer(0)


def test_frozen_gains_need_images_only_where_there_are_gains():
    short = NETWORK.replace(layers=[Events(), Conv(3), Readout(2)])
    assert not short.uses_agmm and NETWORK.uses_agmm
    export(random_model(short), short, gain="frozen")
    with pytest.raises(ExportError, match="frozen gains need calibration"):
        export(random_model(NETWORK), NETWORK, gain="frozen")
    images = torch.zeros(4, 2, 7, 6, dtype=torch.uint8)
    message = r"events takes frames of \(3, 2, 7, 6\), those to calibrate with are \(2, 7, 6\)"
    with pytest.raises(ExportError, match=message):
        export(random_model(NETWORK), NETWORK, gain="frozen", calibration_images=images)


def test_training_on_images_is_refused(tmp_path, capsys):
    arch = tmp_path / "arch.py"
    arch.write_text(
        "from sw.layers import *\n"
        "def net():\n"
        "    return Network('ev', Shape(1, 8, 8), [Events(2), Conv(8), Readout(10)])\n"
    )
    out = tmp_path / "run"
    assert train.main(["--arch", f"{arch}:net", "--data", "digits", "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ev takes frames of (4, 1, 8, 8), digits has (1, 8, 8): choose")


@pytest.mark.parametrize("engine", [ENGINE, CORES], ids=["one", "two cores"])
def test_the_program_starts_behind_the_events(engine):
    program = compile_program(random_image(NETWORK), engine)
    assert program.run_layer(1) == encode_run(0, 1, 0)
    address, words = program.boundary_words(3)
    assert program.run_network() == encode_run(0, 3, 0, address, words)
    assert not program.ahead


def test_the_frame_memory_does_not_matter():
    compile_program(random_image(NETWORK), replace(ENGINE, frame_depth=2))
    with pytest.raises(EngineError, match=r"conv1 needs \d+ spike words for its input and output"):
        compile_program(random_image(NETWORK), replace(ENGINE, spike_depth=32))
