import json
import os

import pytest
import torch
from safetensors.torch import save_file

from sw import checkpoint
from sw.checkpoint import CheckpointError, load_checkpoint, load_model, save_checkpoint
from sw.layers import Conv, Network, Readout, Shape, Stem
from sw.model import SpikingNetwork

SMALL = Network("small", Shape(1, 8, 8), [Stem(4), Conv(8, pool=2), Readout(3)], T=2)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SpikingNetwork(SMALL).to(memory_format=torch.channels_last)
    model(torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8))
    return model


def test_a_checkpoint_brings_the_model_back(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, model, accuracy=0.5)
    loaded, network, info = load_model(path)
    assert network == SMALL and info == {"accuracy": 0.5, "optimizer": {}, "trained": {}}
    assert not loaded.training
    images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(loaded(images), model.eval()(images))
    assert not torch.equal(loaded(images), SpikingNetwork(SMALL).eval()(images))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_optimiser_comes_back(model, tmp_path):
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "a", model, optimizer)
    state = load_checkpoint(tmp_path / "a")[2]["optimizer"]
    expected = optimizer.state_dict()["state"]
    assert state.keys() == expected.keys()
    for index, entry in expected.items():
        for name, tensor in entry.items():
            assert torch.equal(state[index][name], tensor)


def test_the_old_checkpoint_survives_a_failed_write(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, model, epoch=1)
    before = path.read_bytes()
    # Nothing can be written where the new file would grow.
    (tmp_path / f"a.safetensors.{os.getpid()}.tmp").mkdir()
    with pytest.raises(OSError, match="tmp"):
        save_checkpoint(path, model, epoch=2)
    assert path.read_bytes() == before


def test_damaged_and_foreign_files_are_refused_in_one_line(model, tmp_path):
    good = tmp_path / "good"
    save_checkpoint(good, model)
    header = {"format": checkpoint.FORMAT, "network": SMALL.to_dict()}
    two_lines = {**header, "network": {**SMALL.to_dict(), "\x1b\n": 1}}
    files = {
        "missing": None,
        "empty": b"",
        "text": b"hello",
        "cut": good.read_bytes()[:-10],
        "pickle": b"\x80\x02}q\x00.",
    }
    foreign = {
        "other": {"a": "b"},
        "no-metadata": None,
        "not-json": {"agamemnon": "{"},
        "not-dict": {"agamemnon": "[]"},
        "no-network": {"agamemnon": json.dumps({"format": checkpoint.FORMAT})},
        "bad-network": {"agamemnon": json.dumps({**header, "network": {"name": "x"}})},
        "bad-tensor": {"agamemnon": json.dumps(header)},
        "deep": {"agamemnon": "[" * 5000 + "]" * 5000},
        "two-lines": {"agamemnon": json.dumps(two_lines)},
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    for name, metadata in foreign.items():
        save_file({"optimizer.x.y": torch.zeros(2)}, tmp_path / name, metadata)
    (tmp_path / "folder").mkdir()
    for name in [*files, *foreign, "folder"]:
        with pytest.raises(CheckpointError, match=name) as error:
            load_checkpoint(tmp_path / name)
        assert str(error.value).isprintable()


def test_weights_must_fit_the_network(model, tmp_path):
    model.network = SMALL.replace(layers=[Stem(4), Conv(16, pool=2), Readout(3)])
    save_checkpoint(tmp_path / "a", model)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path / "a")
