"""Networks of the user's own, and what can be wrong with their files."""

import pytest

from sw.layers import Conv, LayerError, Network, ResidualConv
from sw.networks import BUILTIN, load, without_shortcuts

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from neighbour import WIDTH
from sw.layers import *

@dataclass
class Sizes:
    classes: ClassVar[int] = 10

def net():
    return Network("mine", Shape(1, 8, 8), [Stem(WIDTH), Readout(Sizes.classes)])
"""


def write(folder, text):
    (folder / "neighbour.py").write_text("WIDTH = 16\n")
    (folder / "mine.py").write_text(text)
    return folder / "mine.py"


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_networks_load_by_name(name):
    assert load(name).name == name


def test_a_file_may_import_its_neighbours_and_hold_dataclasses(tmp_path):
    network = load(f"{write(tmp_path, GOOD)}:net")
    assert isinstance(network, Network) and network.layers[0].channels == 16


@pytest.mark.parametrize("text, name, message", [
    ("def net(:", "net", "SyntaxError"),
    ("import nothing_of_that_name", "net", "ModuleNotFoundError"),
    ("def net():\n    return undefined", "net", "NameError"),
    ("net = 3", "net", "defines no function net"),
    ("def other(): pass", "net", "defines no function net"),
    ("def net():\n    return 3", "net", "must return a sw.layers.Network"),
])
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, text, name, message):
    with pytest.raises(LayerError, match=message) as raised:
        load(f"{write(tmp_path, text)}:{name}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("arch", ["nonsense", "missing.py:net", ":net", "file.py:"])
def test_names_that_lead_nowhere(arch):
    with pytest.raises(LayerError, match="--arch"):
        load(arch)


@pytest.mark.parametrize("name", ["fashion-mnist-residual", "resnet19-10", "resnet18"])
def test_without_shortcuts_shapes_and_binary_weights_stay(name):
    network = load(name)
    plain = without_shortcuts(network)
    assert plain.shapes == network.shapes and plain.name == f"{name}-plain"
    assert any(isinstance(layer, ResidualConv) for layer in network.layers)
    pairs = list(zip(plain.layers, network.layers, strict=True))
    assert all(type(a) is Conv for a, b in pairs if isinstance(b, ResidualConv))
    assert all(a == b for a, b in pairs if not isinstance(b, ResidualConv))
