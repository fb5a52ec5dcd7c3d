"""The networks that ship with the project, and the way to bring your own."""

import importlib.machinery
import importlib.util
import sys
from functools import partial
from pathlib import Path

from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Conv,
    Events,
    EventStem,
    LayerError,
    Network,
    PooledStem,
    Readout,
    ResidualConv,
    Shape,
    Stem,
    Transformer,
    TransitionConv,
)

__all__ = [
    "BUILTIN", "cnv", "digit_saccades", "digits", "fashion_mnist", "fashion_mnist_fast",
    "fashion_mnist_residual", "fashion_mnist_resnet20", "fashion_mnist_transformer", "load",
    "resnet18", "resnet19", "resnet20", "tinbinn", "vggsnn", "vggsnn_strides", "without_shortcuts",
]


def digits():
    """The 8 x 8 digits of scikit-learn: small enough to train in a minute."""
    return Network(
        "digits",
        Shape(1, 8, 8),
        [Stem(32), Conv(64, pool=2), Conv(64, pool=2), Readout(10)],
    )


def digit_saccades():
    """The digits as an event camera sees them."""
    return Network(
        "digit-saccades",
        Shape(2, 16, 16),
        [Events(3), Conv(32, pool=2), Conv(64, pool=2), Readout(10)],
    )


def fashion_mnist():
    """Fashion-MNIST on an iCE40 UP5K: weights fill a third of its SPRAM."""
    return Network(
        "fashion-mnist",
        Shape(1, 28, 28),
        [Stem(32, stride=2), Conv(64, pool=2), Conv(128), Conv(128, pool=2), Readout(10)],
    )


def fashion_mnist_fast():
    """Fashion-MNIST at a quarter of the MACs, for speed on the same part."""
    return Network(
        "fashion-mnist-fast",
        Shape(1, 28, 28),
        [Stem(16, stride=2), Conv(32, pool=2), Conv(64, pool=2), Readout(10)],
    )


def fashion_mnist_residual():
    """Fashion-MNIST with a shortcut around every convolution, none of which has weights."""
    return Network(
        "fashion-mnist-residual",
        Shape(1, 28, 28),
        [
            Stem(32, stride=2), ResidualConv(32), ResidualConv(32), ResidualConv(64, stride=2),
            ResidualConv(64), ResidualConv(64), AveragedReadout(10),
        ],
    )


def resnet20():
    """The smallest ResNet for CIFAR of He et al., with averages where maps shrink."""
    layers = [
        ResidualConv(width, stride=1 + (width > 16 and unit == 0))
        for width in (16, 32, 64) for unit in range(6)
    ]
    return Network("resnet20", Shape(3, 32, 32), [Stem(16), *layers, AveragedReadout(10)])


def fashion_mnist_resnet20():
    """The same for Fashion-MNIST: the deepest that learns it in minutes on a GPU."""
    return resnet20().replace(name="fashion-mnist-resnet20", input=Shape(1, 28, 28))


def resnet19(classes=100, widths=(128, 256, 512), blocks=(3, 3, 2), size=32):
    """ResNet-19 of the AGMM paper for CIFAR, blocks of two convolutions, a shortcut around each."""
    layers = [Stem(widths[0])]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for unit in range(2 * count):
            down = stage > 0 and unit == 0
            layers.append(ResidualConv(width, stride=1 + down, projection=down))
    name = f"resnet19-{classes}"
    return Network(name, Shape(3, size, size), [*layers, AveragedReadout(classes)], T=2)


def fashion_mnist_transformer():
    """Fashion-MNIST by a spiking transformer with binary feed-forward layers."""
    patches = [Stem(32, stride=2), Conv(64, stride=2)]
    return Network(
        "fashion-mnist-transformer",
        Shape(1, 28, 28),
        [*patches, Transformer(), Transformer(), AveragedReadout(10)],
    )


def resnet18(classes=1000, size=224):
    """ResNet-18 of the AGMM paper for ImageNet, a shortcut around each convolution: Bi-Real Net's.

    Liu et al. 2018, arXiv 1808.00278, figure 3.
    """
    layers = [PooledStem(64, kernel=7, stride=2)]
    for width in (64, 128, 256, 512):
        first = ResidualConv(64) if width == 64 else TransitionConv(width)
        layers += [first, *[ResidualConv(width)] * 3]
    return Network("resnet18", Shape(3, size, size), [*layers, AveragedReadout(classes)])


def vggsnn(classes=10, T=10):
    """VGGSNN of Deng et al. (arXiv 2202.11946) for event cameras, with average pooling."""
    return Network(
        f"vggsnn-{classes}",
        Shape(2, 48, 48),
        [
            EventStem(64), Conv(128), AveragedConv(256), Conv(256), AveragedConv(512), Conv(512),
            AveragedConv(512), Conv(512), AveragedReadout(classes, window=2),
        ],
        T=T,
    )


def vggsnn_strides(classes=10, T=10):
    """The same with strides of 2 in place of the pooling."""
    pairs = [
        layer for width in (256, 512, 512) for layer in (Conv(width), Conv(width, stride=2))
    ]
    return Network(
        f"vggsnn-strides-{classes}",
        Shape(2, 48, 48),
        [EventStem(64), Conv(128, stride=2), *pairs, Readout(classes)],
        T=T,
    )


def cnv():
    """The CNV shape of FINN's examples, 32 x 32 colour images: what engines are measured by."""
    return Network(
        "cnv",
        Shape(3, 32, 32),
        [
            Stem(64, padding=0), Conv(64, padding=0, pool=2),
            Conv(128, padding=0), Conv(128, padding=0, pool=2),
            Conv(256, padding=0), Conv(256, padding=0),
            Conv(512, kernel=1), Conv(512, kernel=1), Readout(10),
        ],
    )


def tinbinn():
    """As many MACs as TinBiNN (153 million), one time step, with weights that fit an UP5K."""
    wide = [Conv(48, kernel=5), Conv(64, kernel=5)]
    return Network(
        "tinbinn",
        Shape(3, 32, 32),
        [
            Stem(8), Conv(32), Conv(32, pool=2), Conv(64, kernel=5), *wide, *wide,
            Conv(48, kernel=5), Conv(48, kernel=5), Conv(112, pool=2), Conv(64, pool=2),
            Readout(10),
        ],
        T=1,
    )


BUILTIN = {
    network().name: network
    for network in (
        digits, digit_saccades, fashion_mnist, fashion_mnist_fast, fashion_mnist_residual,
        fashion_mnist_transformer, cnv, tinbinn, resnet18, partial(resnet19, 10), resnet19,
        resnet20, fashion_mnist_resnet20,
        *(partial(vgg, *size) for vgg in (vggsnn, vggsnn_strides) for size in ((10, 10), (11, 16))),
    )
}


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
    network = _call(path, name)
    if not isinstance(network, Network):
        raise LayerError(f"--arch {arch}: {name}() must return a sw.layers.Network")
    return network


def without_shortcuts(network):
    """``network`` with each convolution as it is, and nothing around it."""
    return network.replace(name=f"{network.name}-plain", layers=[
        Conv(layer.channels, layer.kernel, layer.stride, layer.padding)
        if isinstance(layer, ResidualConv) else layer
        for layer in network.layers
    ])


def _call(path, name):
    """Result of function ``name`` of the Python file ``path``; all that goes wrong is one line."""
    module_name = f"agamemnon_arch_{Path(path).stem}"
    loader = importlib.machinery.SourceFileLoader(module_name, path)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(module_name, loader)
    )
    # As for a script: dataclasses look their module up, and its neighbours can be imported.
    sys.modules[module_name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        loader.exec_module(module)
        function = getattr(module, name, None)
        if not callable(function):
            raise LayerError(f"{path} defines no function {name}")
        return function()
    except LayerError:
        raise
    except Exception as error:
        raise LayerError(f"{path}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
