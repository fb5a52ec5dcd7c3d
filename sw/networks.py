"""The networks that ship with the project, and the way to bring your own."""

import importlib.util
from pathlib import Path

from sw.layers import Conv, LayerError, Network, Readout, Shape, Stem

__all__ = ["BUILTIN", "digits", "fashion_mnist", "load"]


def digits():
    """The 8 x 8 digits of scikit-learn: small enough to train in a minute."""
    return Network(
        "digits",
        Shape(1, 8, 8),
        [Stem(32), Conv(64, pool=2), Conv(64, pool=2), Readout(10)],
    )


def fashion_mnist():
    """Fashion-MNIST on an iCE40 UP5K: weights fill a third of its SPRAM."""
    return Network(
        "fashion-mnist",
        Shape(1, 28, 28),
        [Stem(32, stride=2), Conv(64, pool=2), Conv(128), Conv(128, pool=2), Readout(10)],
    )


BUILTIN = {"digits": digits, "fashion-mnist": fashion_mnist}


def load(arch):
    """The network that ``arch`` names: a built-in name, or ``file.py:function`` of the user's own.

    The function takes no argument and returns a ``sw.layers.Network``.
    """
    if arch in BUILTIN:
        return BUILTIN[arch]()
    path, _, name = arch.rpartition(":")
    if not path or not name:
        raise LayerError(
            f"--arch {arch}: neither one of {', '.join(BUILTIN)} nor a file.py:function"
        )
    if not Path(path).is_file():
        raise LayerError(f"--arch {arch}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if function is None:
        raise LayerError(f"--arch {arch}: {path} defines no {name}")
    network = function()
    if not isinstance(network, Network):
        raise LayerError(f"--arch {arch}: {name}() must return a sw.layers.Network")
    return network
