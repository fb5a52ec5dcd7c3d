"""Distillation from other networks, and weights to start from."""

import json

import pytest
import torch
import torchvision
from torchvision.transforms import v2

from sw.checkpoint import CheckpointError, load_model, save_checkpoint
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.model import SpikingNetwork
from sw.teacher import load_teacher, start_from
from sw.train import main
from sw.training import TrainingError

CPU = torch.device("cpu")
NETWORK = Network("tiny", Shape(1, 8, 8), [Stem(4), Conv(4), Readout(10)], T=2)
ARCH = """
from sw.layers import *

def net():
    return Network("tiny", Shape(1, 8, 8), [Stem(8), Conv(8, pool=2), Readout(10)], T=2)
"""


def saved(tmp_path, network=NETWORK, seed=0):
    torch.manual_seed(seed)
    model = SpikingNetwork(network)
    for layer in model.layers[1:-1]:
        if layer.agmm is not None:
            torch.nn.init.normal_(layer.agmm.alpha)
    save_checkpoint(tmp_path / "it.safetensors", model)
    return model.eval(), f"{tmp_path / 'it.safetensors'}"


def test_a_teacher_says_the_mean_logits_of_its_steps(tmp_path):
    model, path = saved(tmp_path, NETWORK.replace(T=3, neuron="fp"))
    frames = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    taught = load_teacher(path, NETWORK, CPU)(frames)
    assert torch.equal(taught, model(frames).mean(0)) and not taught.requires_grad


@pytest.mark.parametrize("other", [
    NETWORK.replace(input=Shape(1, 9, 8)),
    NETWORK.replace(layers=[Stem(4), Readout(9)]),
])
def test_a_teacher_of_something_else_is_refused(tmp_path, other):
    _, path = saved(tmp_path)
    with pytest.raises(TrainingError, match="knows 10 classes: tiny needs"):
        load_teacher(path, other, CPU)


def test_torchvision_teaches_imagenet(monkeypatch):
    class Weights:
        DEFAULT = torchvision.models.ResNet18_Weights.DEFAULT

    network = Network("big", Shape(3, 224, 224), [Stem(2, stride=2), Readout(1000)], T=1)
    model = torchvision.models.resnet18()
    seen = []

    def get_model(name, weights):
        seen.append((name, weights))
        return model

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    teach = load_teacher("torchvision:resnet18", network, CPU)
    assert seen == [("resnet18", Weights.DEFAULT)]
    frames = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    scaled = v2.functional.normalize(
        frames / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        assert torch.allclose(teach(frames), model.eval()(scaled), atol=1e-4)
    with pytest.raises(TrainingError, match="knows the 1000 classes of ImageNet, tiny has 10"):
        load_teacher("torchvision:resnet18", NETWORK, CPU)
    seen.clear()
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: torch.nn.Flatten())
    with pytest.raises(TrainingError, match="--teacher torchvision:resnet18: it tells no classes"):
        load_teacher("torchvision:resnet18", network, CPU)
    with pytest.raises(TrainingError, match="--teacher torchvision:nonsense: "):
        load_teacher("torchvision:nonsense", network, CPU)


def test_more_steps_start_from_fewer(tmp_path):
    before, path = saved(tmp_path, NETWORK.replace(T=2))
    model = SpikingNetwork(NETWORK.replace(T=4))
    start_from(model, path)
    first, last = before.layers[1].agmm.alpha.tolist()
    assert model.layers[1].agmm.alpha.tolist() == [first, last, last, last]
    for name, tensor in before.state_dict().items():
        if not name.endswith("alpha"):
            assert torch.equal(model.state_dict()[name], tensor)
    frames = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(model.eval()(frames)[:2], before(frames))
    fewer = SpikingNetwork(NETWORK.replace(T=1))
    start_from(fewer, path)
    assert fewer.layers[1].agmm.alpha.tolist() == [first]


@pytest.mark.parametrize("layers", [
    [Stem(4), Readout(10)], [Stem(4), Conv(5), Readout(10)],
])
def test_other_layers_are_no_start(tmp_path, layers):
    _, path = saved(tmp_path)
    message = r"it\.safetensors: tiny has other layers, or another neuron"
    with pytest.raises(CheckpointError, match=message):
        start_from(SpikingNetwork(NETWORK.replace(layers=layers)), path)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_distilled_and_started_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ARCH)

    def run(out, *options):
        assert main(["--arch", "mine.py:net", "--out", out, "--epochs", "1", *options]) == 0

    run("teacher", "--neuron", "fp", "--T", "1")
    teacher = "teacher/checkpoint.safetensors"
    run("alone")
    run("taught", "--teacher", teacher)
    run("other", "--teacher", teacher, "--temperature", "4")
    run("unheard", "--teacher", teacher, "--distill", "0")
    assert losses(tmp_path / "unheard") == losses(tmp_path / "alone")
    found = {*losses(tmp_path / "alone"), *losses(tmp_path / "taught"), *losses(tmp_path / "other")}
    assert len(found) == 3
    assert load_model("taught/checkpoint.safetensors")[2]["args"]["teacher"] == teacher
    # A resumed run keeps its teacher.
    assert main(["--resume", "taught/checkpoint.safetensors", "--epochs", "2"]) == 0
    assert main(["--resume", "taught/checkpoint.safetensors", "--teacher", "x"]) == 2
    run("started", "--init", "alone/checkpoint.safetensors", "--T", "4")
    assert losses(tmp_path / "started")[0] < losses(tmp_path / "alone")[0]
