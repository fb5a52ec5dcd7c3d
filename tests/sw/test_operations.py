"""Synaptic operations, against NeuroBench's and against counting by hand."""

import json

import pytest
import torch
from neurobench.metrics.utils.layers import single_layer_MACs
from torch import nn

from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Conv,
    Events,
    Network,
    Readout,
    ResidualConv,
    Shape,
    Stem,
)
from sw.operations import ENERGIES, Operations, energy, main, operations, step_accuracies
from sw.train import main as train
from tests.support import noise_frames, settled_model

STATIC = Network(
    "static", Shape(2, 8, 8),
    [Stem(6, stride=2), ResidualConv(6), ResidualConv(8, stride=2, projection=True),
     AveragedConv(5, kernel=1), AveragedReadout(3)], T=3,
)
EVENTS = Network("events", Shape(2, 6, 7), [Events(2), Conv(5, pool=2), Readout(3)], T=2)


@pytest.mark.parametrize("network", [STATIC, EVENTS])
def test_operations_are_those_of_neurobench(network):
    model, frames = settled_model(network), noise_frames(network, 7)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "integers"):
                # NeuroBench does not round.
                module.weight.copy_(module.integers * module._column(module.scale))
    inputs = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, arguments: inputs.__setitem__(module, arguments[0])
        )
        for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    model(frames)
    # NeuroBench copies the modules, and with them the hooks.
    for hook in hooks:
        hook.remove()
    assert sum(signal.any() for signal in inputs.values()) >= 3 or network is EVENTS
    # Two frames are not counted together with the other five.
    found = [
        layer for layer in operations(model, frames, batch=5) if not layer.name.endswith("gain")
    ]
    assert len(found) == len(inputs)
    for layer, (module, signal) in zip(found, inputs.items(), strict=True):
        effective, spiking = single_layer_MACs(signal, module)
        dense, _ = single_layer_MACs(signal, module, total=True)
        assert (layer.acs if spiking else layer.macs) == pytest.approx(effective / 7)
        assert (layer.macs if spiking else layer.acs) == 0
        assert layer.dense == pytest.approx(dense / 7)
        assert layer.rate == pytest.approx((signal != 0).double().mean().item())
        assert 0 <= effective <= dense


def test_kinds_of_operations_by_layer():
    found = operations(settled_model(STATIC), noise_frames(STATIC, 4))
    assert [(layer.name, layer.acs > 0) for layer in found] == [
        ("stem0", False), ("residualconv1", True), ("residualconv1 gain", False),
        ("residualconv2", True), ("residualconv2 gain", False), ("residualconv2 shortcut", False),
        ("averagedconv3", False), ("averagedconv3 gain", False), ("averagedreadout4", False),
    ]
    # A MAC for each of 6 x 4 x 4 currents, of three time steps.
    assert found[2].macs == found[2].dense == 3 * 6 * 4 * 4
    events = operations(settled_model(EVENTS), noise_frames(EVENTS, 4))
    assert [layer.acs > 0 for layer in events] == [True, True]


def test_a_weight_of_zero_does_nothing():
    """Of 8-bit weights: a binary one is never 0."""
    model, frames = settled_model(EVENTS), noise_frames(EVENTS, 4)
    with torch.no_grad():
        model.layers[2].linear.weight.fill_(1)
    before = operations(model, frames)
    with torch.no_grad():
        model.layers[2].linear.weight[0] = 0
    after = operations(model, frames)
    assert after[1].acs == pytest.approx(before[1].acs * 2 / 3) and after[1].acs > 0
    assert after[1].dense == before[1].dense
    with torch.no_grad():
        model.layers[1].conv.weight[0] = 0
    assert operations(model, frames)[0] == before[0]


def test_energy_is_a_sum_over_presets():
    layers = [Operations("a", 1000.0, 0.0, 2000.0, 0.5), Operations("b", 0.0, 4000.0, 9000.0, 0.4)]
    assert energy(layers, "45nm-fp32") == pytest.approx((1000 * 4.6 + 4000 * 0.9) * 1e-12)
    assert len({energy(layers, preset) for preset in ENERGIES}) == len(ENERGIES)


@pytest.mark.parametrize("macs, acs, millijoules", [
    (0.028e9, 0.045e9, "0.064"), (0.027e9, 0.056e9, "0.067"), (0.027e9, 0.750e9, "0.331"),
])
def test_a_preset_gives_the_energies_of_table_2(macs, acs, millijoules):
    """The paper prints 0.064, 0.066 and 0.330, from counts that it has rounded to three digits."""
    layers = [Operations("all", macs, acs, 0.0, 0.0)]
    assert f"{1e3 * energy(layers, 'agmm-table2'):.3f}" == millijoules


def test_more_steps_are_a_larger_ensemble():
    model, frames = settled_model(STATIC), noise_frames(STATIC, 40)
    with torch.no_grad():
        logits = model(frames)
    labels = logits[:2].mean(0).argmax(1)
    accuracies = step_accuracies(model, frames, labels, batch=16)
    assert len(accuracies) == 3 and accuracies[1] == 1
    assert accuracies[0] == pytest.approx((logits[0].argmax(1) == labels).float().mean().item())


def test_command_line(tmp_path, capsys):
    assert train(["--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    checkpoint = str(tmp_path / "run" / "checkpoint.safetensors")
    capsys.readouterr()
    assert main([checkpoint, "-n", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in result["layers"]] == [
        "stem0", "conv1", "conv1 gain", "conv2", "conv2 gain", "readout3"
    ]
    assert result["frames"] == 20 and len(result["step_accuracies"]) == result["T"] == 4
    assert main([checkpoint, "-n", "20"]) == 0
    text = capsys.readouterr().out
    assert all(preset in text for preset in ENERGIES) and "conv2" in text


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "nowhere: no such checkpoint"), ([__file__], "not a checkpoint"),
])
def test_bad_input_is_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
