"""Nothing unpickles when an image or a checkpoint is loaded: a pickle can run any code."""

import ast
import io
import pickle

import numpy as np
import pytest
import torch

from sw import checkpoint, image
from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.support import loaded_modules, random_image, random_model

NETWORK = Network("tiny", Shape(1, 6, 5), [Stem(3), Conv(5, pool=2), Readout(3)], T=3)


class UnpickledError(Exception):
    """What every unpickler raises here."""


@pytest.fixture
def no_pickle(monkeypatch):
    def refuse(*arguments, **options):
        raise UnpickledError

    class Refused(pickle.Unpickler):
        __init__ = refuse

    for module, name in (
        (pickle, "load"), (pickle, "loads"), (torch, "load"), (np, "load"),
        (np.lib.format, "read_array"),
    ):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "Unpickler", Refused)


def test_loading_unpickles_nothing(tmp_path, no_pickle):
    image.save(random_image(NETWORK), tmp_path / "a.bsnn")
    assert image.load(tmp_path / "a.bsnn").network == NETWORK
    model = random_model(NETWORK)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.save_checkpoint(tmp_path / "a.safetensors", model, optimizer, epoch=1)
    assert checkpoint.load_model(tmp_path / "a.safetensors")[1] == NETWORK


def test_an_unpickler_is_noticed(tmp_path, no_pickle):
    torch.save({"w": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(UnpickledError):
        torch.load(tmp_path / "a.pt")
    with pytest.raises(UnpickledError):
        pickle.loads(pickle.dumps(1))
    with pytest.raises(UnpickledError):
        pickle.Unpickler(io.BytesIO(pickle.dumps(1)))


def test_a_pickle_is_no_image_and_no_checkpoint(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(image.ImageError):
        image.load(tmp_path / "a.pt")
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.load_checkpoint(tmp_path / "a.pt")


def unpicklers(source):
    """Names in a module's source that unpickle, or may."""
    modules = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in modules]
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in modules:
            found.append(node.module)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "np.load"):
            found.append(ast.unparse(node))
    return found


def test_no_module_that_loads_can_unpickle():
    """Of every module of sw that the loaders import."""
    files = loaded_modules("sw.image", "sw.checkpoint").values()
    assert {"image.py", "checkpoint.py", "layers.py"} <= {file.name for file in files}
    assert {file.name: found for file in files if (found := unpicklers(file.read_text()))} == {}
    for source in ("import pickle", "from pickle import loads", "import torch\ntorch.load(f)",
                   "import joblib.numpy_pickle", "x = np.load(f, allow_pickle=False)"):
        assert unpicklers(source)
