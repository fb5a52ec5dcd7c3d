"""Folding into integers, and what is refused."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch

from sw import formats
from sw.bounds import bounds, membrane_range, sum_range
from sw.checkpoint import save_checkpoint
from sw.export import ExportError, _fold_neuron, export, main, provenance
from sw.golden import IntegerNetwork
from sw.image import load
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.model import SpikingNetwork
from tests.support import random_frames, random_model

TINY = Network("tiny", Shape(1, 8, 8), [Stem(4), Conv(6, pool=2), Conv(5), Readout(3)], T=3)


@pytest.fixture
def model():
    """A model of TINY to spoil."""
    return deepcopy(random_model(TINY, 1))


def units(model, index):
    """Real value of one current unit of every channel, and the batch norm shift."""
    module = model.layers[index]
    norm = module.norm
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * gain
    if index == 0:
        return gain.abs() * module.conv.scale / 255 * 2**formats.STEM_SHIFT, shift
    return gain.abs() * module.conv.gamma / 2**formats.FRACTION, shift


@pytest.mark.parametrize("index", [0, 1, 2])
@torch.no_grad()
def test_currents_are_those_of_the_float_network(model, index):
    """Batch norm of either sign is folded: integer current times unit is the float current."""
    frames = random_frames(TINY, 16)
    spikes = [None, *model(frames, record=True)[1]]
    unit, _ = units(model, index)
    layer, module = IntegerNetwork(export(model, TINY)).layers[index], model.layers[index]
    if index == 0:
        total = torch.nn.functional.conv2d(frames.double(), layer.weights, padding=1).int()
        current = formats.stem_current(total, layer.bias)
        expected = module.norm(module.conv(frames / 255))
    else:
        folded = spikes[index].flatten(0, 1)
        current = formats.spike_current(layer.sums(spikes[index]), layer.bias).flatten(0, 1)
        expected = module.norm(module.conv(folded))
    error = current - expected / unit[:, None, None]
    # Half a unit of the bias; in the stem also what the shift drops.
    assert error.abs().max() <= (1.01 if index == 0 else 0.51)
    assert error.mean().abs() < 0.2
    assert (model.layers[index].norm.weight < 0).any()


def test_thresholds_round_up(model):
    image = export(model, TINY)
    for index in (0, 1, 2):
        unit, _ = units(model, index)
        exact = (TINY.v_threshold / unit.double()).detach().numpy()
        assert (np.abs(image.layers[index].threshold - exact - 0.5) <= 0.501).all()


def test_readout_is_the_sum_over_steps(model):
    readout = model.layers[-1].linear
    image = export(model, TINY).layers[-1]
    scale = readout.scale[0].item()
    assert readout.scale.unique().numel() == 1
    assert np.array_equal(image.weights, readout.integers.numpy())
    bias = readout.bias.detach().double().numpy()
    assert np.array_equal(image.bias, np.rint(TINY.T * bias / scale))


@torch.no_grad()
def test_exact_gains_follow_the_float_gains(model):
    frames = random_frames(TINY, 16)
    spikes = model(frames, record=True)[1]
    for index in (1, 2):
        module = model.layers[index]
        current = module.norm(module.conv(spikes[index - 1].flatten(0, 1)))
        gain = module.agmm.gain(current.unflatten(0, (TINY.T, 16))).flatten(1)
        ours = IntegerNetwork(export(model, TINY)).layers[index](spikes[index - 1].byte()).gain
        error = ours - 256 * gain
        assert error.abs().max() < 4
        # Half a step of the index, floored, would be 0.7 on average.
        assert error.mean().abs() < 0.4
        assert gain.std() > 0.02, "gains too much alike to compare"


@torch.no_grad()
def test_frozen_gains_are_the_mean_gains(model):
    frames = random_frames(TINY, 40)
    spikes = model(frames, record=True)[1]
    image = export(model, TINY, gain="frozen", calibration_images=frames)
    assert image.gain_mode == "frozen"
    for index in (1, 2):
        module = model.layers[index]
        current = module.norm(module.conv(spikes[index - 1].flatten(0, 1)))
        gain = module.agmm.gain(current.unflatten(0, (TINY.T, 40))).flatten(1).mean(1)
        assert np.abs(image.layers[index].gain - 256 * gain.numpy()).max() <= 0.51
        assert image.layers[index].agmm is None
        assert image.layers[index].alpha is not None
    assert all(hook == {} for hook in (m._forward_pre_hooks for m in model.modules()))


@torch.no_grad()
def test_a_channel_that_cannot_fire_stays_silent_in_narrow_numbers():
    """Far-off batch norm shifts, and gains of 0, need no wide biases or thresholds."""
    network = TINY.replace(neuron="vanilla")
    model = deepcopy(random_model(network, 1))
    norm = model.layers[2].norm
    norm.bias[0], norm.bias[1] = -1e4, 0.2
    norm.weight[1] = norm.weight[2] = 0
    norm.bias[2] = 0
    norm.weight[3], norm.bias[3] = 1e-5, 0.4
    image = export(model, network)
    _, boundaries = IntegerNetwork(image)(random_frames(TINY, 20), record=True)
    assert boundaries[2].spikes[:, :, :4].sum() == 0
    assert boundaries[2].spikes[:, :, 4:].sum() > 0
    assert bounds(image)[2].current_bits <= 12
    assert bounds(image)[2].threshold_bits <= 12


@torch.no_grad()
def test_a_channel_that_always_fires_does_so_in_narrow_numbers():
    """With a gain of 0 and a shift above the threshold, in the stem and behind it."""
    network = TINY.replace(neuron="vanilla")
    model = deepcopy(random_model(network, 1))
    for index in (0, 2):
        norm = model.layers[index].norm
        norm.weight[1], norm.bias[1] = 0, network.v_threshold + 0.1
        norm.weight[2], norm.bias[2] = 1e-7, 1e5
    frames = random_frames(network, 20)
    image = export(model, network)
    expected = model(frames, record=True)[1]
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    for index in (0, 2):
        spikes = boundaries[index].spikes
        assert spikes[:, :, 1:3].all() and expected[index][:, :, 1:3].all()
        assert not spikes[:, :, 3:].all()
        assert image.layers[index].threshold[1:3].tolist() == [1, 1]
        assert bounds(image)[index].current_bits <= 14


@torch.no_grad()
def test_frozen_gains_let_a_channel_fire_always(model):
    model.layers[1].norm.weight[4], model.layers[1].norm.bias[4] = 0, 50
    model.layers[1].agmm.alpha.mul_(0.01)
    with pytest.raises(ExportError, match=r"conv1 channel 4: currents .* --gain frozen"):
        export(model, TINY)
    frames = random_frames(TINY, 20)
    image = export(model, TINY, gain="frozen", calibration_images=frames)
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    assert boundaries[1].spikes[:, :, 4].all()


def fold(inputs, shift, unit, gain=formats.GAIN_ONE, **changes):
    """(threshold, lowest and highest current, leak shift) of a channel, half of its weights -1."""
    network = Network(
        "one", Shape(1, 4, 4), [Stem(inputs), Conv(1, kernel=1), Readout(2)], neuron="vanilla",
        **changes,
    )
    weights = (np.arange(inputs) % 2 == 0).reshape(1, -1, 1, 1)
    (bias,), (threshold,), slope = _fold_neuron(
        network, 1, weights, np.array([unit]), np.array([shift]), 0.0, [(gain, gain)] * network.T
    )
    assert slope is None
    low, high = sum_range(network.layers[1], weights, network.T)
    low, high = formats.spike_current(low, bias), formats.spike_current(high, bias)
    return threshold, low, high, network.leak_shift


@pytest.mark.parametrize("T, tau", [(1, 0.5), (4, 0.5), (16, 0.875)])
def test_a_silent_channel_of_many_inputs_stays_within_its_threshold(T, tau):
    lowered = set()
    for inputs in range(900, 9000, 7):
        threshold, low, high, leak_shift = fold(inputs, 0.0, 1e-9, T=T, tau=tau)
        gains = [(formats.GAIN_ONE, formats.GAIN_ONE)] * T
        assert membrane_range(low, high, gains, leak_shift)[1] < threshold
        assert threshold < 1 << formats.THRESHOLD_BITS
        # Currents as far above zero as below it, unless that takes too large a threshold.
        lowered.add(bool(abs(low + high) > 1))
    assert lowered == {False, True}


@pytest.mark.parametrize("gain", [256, 129, 77, 1])
def test_a_channel_that_always_fires_gets_just_enough_bias(gain):
    threshold, low, *_ = fold(500, 900.0, 1e-4, gain)
    assert (threshold, formats.apply_gain(low, gain)) == (1, 1)
    assert formats.apply_gain(low - 1, gain) == 0
    # One that some inputs keep from firing keeps its threshold.
    assert fold(500, 0.7 * 256 / gain, 1e-4, gain)[0] == 10_000


@pytest.mark.parametrize(
    "what, index, value, message",
    [
        (lambda m: m.norm.weight, 2, float("nan"), "conv2 channel 3: the batch norm gain is not"),
        (lambda m: m.norm.bias, 0, float("inf"), "stem0 channel 3: the batch norm shift is not"),
        (lambda m: m.conv.weight, 1, float("nan"), "conv1 channel 3: a weight is not finite"),
        (lambda m: m.norm.bias, 1, 1e6, "conv1 channel 3: currents may need"),
    ],
)
def test_refusals_name_layer_and_channel(model, what, index, value, message):
    with torch.no_grad():
        what(model.layers[index])[3] = value
    with pytest.raises(ExportError) as caught:
        export(model, TINY)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index, shift, name", [(0, 0.6, "stem0"), (1, 5, "conv1")])
@torch.no_grad()
def test_a_live_channel_of_hardly_any_gain_is_refused(model, index, shift, name):
    norm = model.layers[index].norm
    norm.weight[3], norm.bias[3] = 1e-7, shift * TINY.v_threshold
    with pytest.raises(ExportError, match=rf"{name} channel 3: .* it takes"):
        export(model, TINY)


@torch.no_grad()
def test_other_refusals(model):
    readout = model.layers[-1].linear
    readout.bias[1] = 1e9
    with pytest.raises(ExportError, match="readout3 channel 1: the accumulator may need"):
        export(model, TINY)
    readout.bias[1] = 0
    model.layers[1].agmm.alpha[2] = 1e6
    with pytest.raises(ExportError, match=r"conv1: the AGMM factor, .* may need .* use --gain"):
        export(model, TINY)
    with pytest.raises(ExportError, match="frozen gains need calibration images"):
        export(model, TINY, gain="frozen")
    with pytest.raises(ExportError, match="gain must be exact or frozen"):
        export(model, TINY, gain="none")
    network = TINY.replace(neuron="fp")
    with pytest.raises(ExportError, match="--neuron fp: train with"):
        export(SpikingNetwork(network).eval(), network)


@torch.no_grad()
def test_large_position_tables_get_coarser_scales(model):
    """Weights of one sign add up: A_c shrinks until the table fits, and the gain stays right."""
    network = Network("big", Shape(1, 4, 4), [Stem(8), Conv(64), Readout(2)])
    big = deepcopy(random_model(network))
    module = big.layers[1]
    module.conv.weight.copy_(module.conv.weight.abs())
    module.norm.weight.copy_(module.norm.weight.abs().clamp(min=1))
    agmm = export(big, network).layers[1].agmm
    assert agmm.weights.max() < 255
    assert np.abs(agmm.table).max() < 1 << (formats.TABLE_BITS - 1)
    spikes = big(random_frames(network, 8), record=True)[1][0]
    current = module.norm(module.conv(spikes.flatten(0, 1))).unflatten(0, spikes.shape[:2])
    ours = IntegerNetwork(export(big, network)).layers[1](spikes.byte()).gain
    assert (ours - 256 * module.agmm.gain(current).flatten(1)).abs().max() < 4


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    network = TINY.replace(name="digits")
    save_checkpoint(
        path, random_model(network, 1), args={"data": "digits", "seed": 4, "lr": 0.1, "arch": None},
        history=[{"test_accuracy": 0.25}, {"test_accuracy": 0.5}],
    )
    return path


@pytest.mark.parametrize("gain", ["exact", "frozen"])
def test_command_line(checkpoint, tmp_path, capsys, gain):
    target = tmp_path / "m.bsnn"
    assert main([str(checkpoint), "-o", str(target), "--gain", gain, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    image = load(target)
    assert result["checksum"] == image.checksum
    assert result["gain"] == image.gain_mode == gain
    assert [layer["name"] for layer in result["layers"]] == ["stem0", "conv1", "conv2", "readout3"]
    assert image.info["data"] == "digits"
    assert image.info["float_accuracy"] == 0.5
    assert image.info["epochs"] == 2
    assert image.info["command"] == "python sw/train.py --data digits --seed 4 --lr 0.1"
    assert main([str(checkpoint), "-o", str(target)]) == 0
    assert "conv1" in capsys.readouterr().out


def test_the_image_tells_of_a_run_resumed_with_other_options():
    info = {"args": {"data": "digits", "epochs": 3}, "history": [{}] * 3,
            "earlier": [{"epochs": 2, "args": {"data": "digits", "epochs": 4}}]}
    kept = provenance(info)
    assert kept["command"] == "python sw/train.py --data digits --epochs 3"
    assert kept["earlier"] == [
        {"epochs": 2, "command": "python sw/train.py --data digits --epochs 4"}
    ]
    assert "earlier" not in provenance({**info, "earlier": []})


def test_the_image_tells_of_switches_and_of_the_machine():
    args = {"data": "digits", "flip": True, "ema": 0.0, "no_shortcuts": None, "data_root": "/x"}
    info = {"args": args, "history": [{}], "machine": {"torch": "2", "processor": "CPU"}}
    assert provenance(info)["command"] == "python sw/train.py --data digits --flip --ema 0.0"
    assert provenance(info)["machine"] == {"torch": "2", "processor": "CPU"}
    args["flip"] = False
    assert provenance(info)["command"].endswith("--data digits --no-flip --ema 0.0")
    assert "machine" not in provenance({"args": args})


def test_command_line_errors_overwrite_nothing(checkpoint, tmp_path, capsys):
    target = tmp_path / "m.bsnn"
    target.write_text("precious")
    broken = deepcopy(random_model(TINY, 1))
    with torch.no_grad():
        broken.layers[1].norm.bias[0] = 1e6
    save_checkpoint(tmp_path / "broken.safetensors", broken)
    for path, message in (
        (tmp_path / "none.safetensors", "no such checkpoint"),
        (target, "not a checkpoint"),
        (tmp_path / "broken.safetensors", "conv1 channel 0: currents may need"),
    ):
        assert main([str(path), "-o", str(target)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
        assert target.read_text() == "precious"
    assert main([str(tmp_path / "broken.safetensors"), "--gain", "frozen"]) == 2
    assert "names no dataset" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.tmp"))
