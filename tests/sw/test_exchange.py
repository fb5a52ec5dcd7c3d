"""NIR files both ways, and networks of snnTorch and SpikingJelly, each run by the others."""

import json

import nir
import numpy as np
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, neuron, nir_exchange
from torch import nn

from sw import image
from sw.checkpoint import load_model, save_checkpoint
from sw.exchange import from_torch
from sw.exchange.__main__ import main
from sw.exchange.from_nir import parts_of
from sw.exchange.parts import ExchangeError, build
from sw.exchange.to_nir import DT, to_nir
from sw.export import main as export_main
from sw.layers import Conv, Network, Readout, ResidualConv, Shape, Stem
from tests.support import random_model

SHAPE, T = Shape(1, 8, 8), 4


def network(*layers, **more):
    return Network("x", SHAPE, [Stem(8), *layers, Readout(10)], **{"neuron": "vanilla", **more})


POOLED = network(Conv(16, pool=2), Conv(8, stride=2))
CHAIN = network(Conv(16, stride=2), Conv(8, kernel=4, padding=0), tau=0.75)


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def logits(model, frames):
    return model(frames).mean(0)


def back(graph):
    parts, shape = parts_of(graph, DT)
    return build(parts, Shape(*shape), T)


@pytest.mark.parametrize("described", [POOLED, CHAIN], ids=["pooled", "chain"])
def test_there_and_back_through_a_file(described, frames, tmp_path):
    model = random_model(described, 1)
    nir.write(tmp_path / "x.nir", to_nir(model, described))
    again, found = back(nir.read(tmp_path / "x.nir"))
    assert found == described.replace(name="imported")
    assert logits(again, frames).equal(logits(model, frames))
    with torch.no_grad():
        again.layers[1].conv.weight[0, 0, 0, 0] *= -1
    assert not logits(again, frames).equal(logits(model, frames))


@torch.no_grad()
def test_spikingjelly_runs_our_graph(frames):
    model = random_model(CHAIN, 2)
    graph = to_nir(model, CHAIN)
    theirs = nir_exchange.import_from_nir(graph, dt=DT)
    state, out = None, 0
    for _ in range(T):
        step, state = theirs(frames.float() / 255, state)
        out = out + step / T
    torch.testing.assert_close(out, logits(model, frames), atol=1e-4, rtol=1e-4)
    graph.nodes["conv1"].weight[0] *= -1
    changed, _ = back(graph)
    assert (out - logits(changed, frames)).abs().max() > 1e-3


def test_gains_are_frozen_at_their_means(frames):
    described = POOLED.replace(neuron="agmm")
    model = random_model(described, 3)
    with pytest.raises(ExchangeError, match="freeze them"):
        to_nir(model, described)
    gains = {1: np.array([0.25, 0.75, 0.5, 0.5]), 2: np.full(4, 0.375)}
    frozen, _ = back(to_nir(model, described, gains))
    for index, gain in ((1, 0.5), (2, 0.375)):
        model.layers[index].agmm.gain = lambda current, gain=gain: torch.tensor(gain)
    assert logits(frozen, frames).allclose(logits(model, frames), atol=1e-5)
    model.layers[1].agmm.gain = lambda current: torch.tensor(0.75)
    assert not logits(frozen, frames).allclose(logits(model, frames), atol=1e-3)


def binary(module, size):
    """``module`` with weights of +size and -size."""
    with torch.no_grad():
        module.weight.copy_(torch.where(module.weight >= 0, size, -size))
    return module


def eight_bit(module):
    """``module`` with weights that 8 bits hold exactly, as our first and last layer have."""
    with torch.no_grad():
        whole = torch.randint(-127, 128, module.weight.shape)
        whole.flatten(1)[:, 0] = 127
        module.weight.copy_(whole / 256)
    return module


def leaky(**more):
    return snntorch.Leaky(
        init_hidden=True, **{
            "beta": 0.5, "reset_mechanism": "zero", "reset_delay": False, "threshold": 0.75, **more,
        },
    )


def of_snntorch(**more):
    torch.manual_seed(0)
    return nn.Sequential(
        eight_bit(nn.Conv2d(1, 8, 3, padding=1)), leaky(**more),
        binary(nn.Conv2d(8, 8, 3, 2, 1), 0.25), leaky(**more), nn.Flatten(),
        eight_bit(nn.Linear(128, 10)),
    ).eval()


def of_spikingjelly(**more):
    torch.manual_seed(0)
    neurons = [neuron.LIFNode(tau=2.0, detach_reset=True, **more) for _ in range(3)]
    norm = nn.BatchNorm2d(8)
    with torch.no_grad():
        norm.running_mean.fill_(0.125)
        norm.running_var.fill_(0.5)
        norm.bias.fill_(0.25)
    return nn.Sequential(
        eight_bit(nn.Conv2d(1, 8, 3, padding=1, bias=False)), norm, neurons[0],
        nn.MaxPool2d(2), nn.Dropout(0.5), binary(nn.Conv2d(8, 8, 3, padding=1), 0.25), neurons[1],
        nn.Flatten(), binary(nn.Linear(128, 16), 0.125), neurons[2], eight_bit(nn.Linear(16, 10)),
    ).eval()


@torch.no_grad()
def run(net, frames):
    """Mean of the outputs over T steps of the same frames."""
    for module in net:
        if isinstance(module, snntorch.Leaky):
            module.reset_hidden()
    functional.reset_net(net)
    return sum(net(frames.float() / 255) for _ in range(T)) / T


def imported(net, name="imported"):
    return build(from_torch.parts_of(net), SHAPE, T, name)


@pytest.mark.parametrize("make", [
    of_snntorch, lambda: of_spikingjelly(decay_input=False),
    lambda: of_spikingjelly(v_threshold=0.25),
], ids=["snntorch", "spikingjelly", "decaying input"])
def test_networks_of_others_give_the_same_here(make, frames):
    net = make()
    model, described = imported(net)
    assert described.tau == 0.5 and described.neuron == "vanilla"
    out = run(net, frames)
    assert out.std(0).min() > 0.01 and logits(model, frames).allclose(out, atol=1e-5)
    with torch.no_grad():
        model.layers[1].conv.weight[0] *= -1
    assert not logits(model, frames).allclose(out, atol=1e-3)


def test_a_sequential_may_hold_others():
    net = of_snntorch()
    nested, _ = imported(nn.Sequential(nn.Sequential(net[:2], net[2:4]), net[4:]))
    flat, _ = imported(net)
    assert all(
        a.equal(b) for a, b in zip(nested.parameters(), flat.parameters(), strict=True)
    )


def test_a_reset_of_another_kind_would_give_something_else(frames):
    other = of_snntorch(reset_mechanism="subtract")
    assert not run(other, frames).allclose(run(of_snntorch(), frames), atol=1e-3)


@pytest.mark.parametrize("net, message", [
    (of_snntorch(reset_mechanism="subtract"), "resets by 'subtract', the hardware to zero"),
    (of_snntorch(reset_delay=True), "resets a step late"),
    (of_spikingjelly(v_reset=None), "resets by subtraction"),
    (of_spikingjelly(v_reset=-0.5), "resets to -0.5"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), leaky(), nn.Conv2d(8, 8, 3), leaky(), nn.Linear(128, 10)),
     "2: channel 0 has weights of several sizes"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU()), "1: ReLU is not imported"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), leaky()), "the last layer must be linear"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(8, 10)), "must be"),
    (nn.Sequential(nn.Linear(64, 10)), "must have neurons"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), leaky(), nn.Linear(8, 10)), "must take the whole map"),
    (nn.Sequential(nn.Conv2d(3, 8, 3), leaky(), nn.Linear(288, 10)), "is for 3 channels, gets 1"),
    (nn.Sequential(nn.Conv2d(1, 8, 3, stride=3), leaky(), nn.Linear(32, 10)), "stride must be"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), leaky(beta=0.3), nn.Linear(288, 10)), "tau"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), leaky(threshold=-0.5)), "1: thresholds must be positive"),
    (nn.Sequential(nn.Conv2d(1, 8, 3), leaky(), nn.MaxPool2d(3)), "pooling must be of 2 x 2"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_map_is_refused(net, message):
    with pytest.raises(ExchangeError, match=message):
        imported(net)


def with_node(name, **changes):
    """The graph of CHAIN with other values in one node."""
    graph = to_nir(random_model(CHAIN, 1), CHAIN)
    for key, value in changes.items():
        setattr(graph.nodes[name], key, value)
    return graph


@pytest.mark.parametrize("graph, message", [
    (with_node("lif1", v_reset=np.full((16, 4, 4), -1.0)), "lif1: v_reset must be 0"),
    (with_node("lif1", v_leak=np.full((16, 4, 4), 0.5)), "lif1: v_leak must be 0"),
    (with_node("lif1", tau=np.full((16, 4, 4), 3 * DT)), "the leak must be the same"),
    (with_node("conv1", weight=np.ones((16, 8, 3))), "conv1: weights .* are of no layer"),
    (with_node("conv1", bias=np.ones(3)), "are of no layer"),
    (with_node("conv1", bias=np.full(16, np.nan)), "conv1: weights and biases must be finite"),
    (with_node("conv1", groups=2), "conv1: no dilation and no groups"),
    (with_node("conv1", padding="same"), "conv1: padding must be a number"),
    (nir.NIRGraph.from_list(nir.Input({"input": np.array([1, 8, 8])}), nir.AvgPool2d(
        np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Output({"output": np.array([1, 4, 4])})), "AvgPool2d is not imported"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_graphs_that_do_not_map_are_refused(graph, message):
    with pytest.raises(ExchangeError, match=message):
        back(graph)


def test_branches_are_refused():
    graph = to_nir(random_model(CHAIN, 1), CHAIN)
    graph.edges.append(("stem0", "lif1"))
    with pytest.raises(ExchangeError, match="no branches"):
        back(graph)


@pytest.mark.parametrize("described, message", [
    (network(ResidualConv(8)), "ResidualConv is not exported"),
    (POOLED.replace(neuron="half"), "NIR has no gain of --neuron half"),
])
def test_what_nir_has_not_is_refused(described, message):
    with pytest.raises(ExchangeError, match=message):
        to_nir(random_model(described, 1), described)


def test_command_line(tmp_path, capsys, frames):
    model = random_model(POOLED.replace(T=2), 1)
    save_checkpoint(tmp_path / "a.safetensors", model)
    assert main(["export", f"{tmp_path / 'a.safetensors'}"]) == 0
    assert "nodes 12" in capsys.readouterr().out
    words = ["import", f"{tmp_path / 'a.nir'}", "-o", f"{tmp_path / 'b.safetensors'}", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["T"], result["layers"]) == (2, 4)
    again, described, _ = load_model(result["checkpoint"])
    assert described.name == "a" and logits(again, frames).equal(logits(model, frames))
    assert export_main([result["checkpoint"], "-o", f"{tmp_path / 'b.bsnn'}"]) == 0
    assert image.load(tmp_path / "b.bsnn").network.T == 2
    assert main([*words[:-1], "--T", "3"]) == 0
    assert load_model(result["checkpoint"])[1].T == 3


def test_command_line_freezes_gains(tmp_path, capsys):
    described = POOLED.replace(neuron="agmm")
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, random_model(described, 1), args={"data": "digits"}, history=[{}])
    assert main(["export", f"{path}"]) == 2
    assert "--gain frozen" in capsys.readouterr().err
    assert main(["export", f"{path}", "--gain", "frozen"]) == 0
    assert "conv1" in nir.read(tmp_path / "a.nir").nodes


@pytest.mark.parametrize("words, message", [
    (["import", "missing.nir"], "no such file"),
    (["import", "text.nir"], "not a NIR file"),
    (["export", "missing.safetensors"], "no such checkpoint"),
    (["import", "good.nir", "--T", "17"], "T must be"),
])
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.nir").write_text("no graph")
    nir.write("good.nir", to_nir(random_model(POOLED, 1), POOLED))
    before = sorted(tmp_path.iterdir())
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
