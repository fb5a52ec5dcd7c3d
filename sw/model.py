"""The network of a description, as a PyTorch module: one sub-module per layer description.

Every layer takes and gives spikes ``[T, N, C, H, W]``; one with neurons gives its currents, too,
for a shortcut around the next. Convolution and batch norm see the T steps folded into the batch.
"""

import torch
from torch import nn
from torch.nn import functional as F

from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Conv,
    Events,
    EventStem,
    Pixels,
    PooledStem,
    Readout,
    ResidualConv,
    Stem,
    Transformer,
    TransitionConv,
    averages,
)
from sw.modules import (
    LIF,
    BatchNorm2d,
    BinaryConv2d,
    QuantConv2d,
    QuantLinear,
    conv_of,
    gain_of,
)
from sw.transformer import TransformerLayer

__all__ = [
    "CodedLayer", "ConvLayer", "ReadoutLayer", "Shortcut", "SpikingNetwork", "StemLayer",
    "binary_weights",
]


def _pool(spikes, size):
    """OR of every size x size square of ``[T, N, C, H, W]`` spikes; an odd last row is dropped."""
    if size == 1:
        return spikes
    T, N = spikes.shape[:2]
    return F.max_pool2d(spikes.flatten(0, 1), size).unflatten(0, (T, N))


class CodedLayer(nn.Module):
    """Bytes to spikes, in thermometer code."""

    def __init__(self, network, index):
        super().__init__()
        self.T, self.thresholds = network.T, network.layers[index].thresholds

    def forward(self, frames):
        """Frames ``[N, T, C, H, W]``, or ``[N, C, H, W]`` that are the same at every step.

        Returns spikes ``[T, N, levels * C, H, W]``.
        """
        spikes = torch.cat([frames > threshold for threshold in self.thresholds], -3).float()
        return spikes.transpose(0, 1) if frames.dim() == 5 else spikes.expand(self.T, *spikes.shape)


class _NeuronLayer(nn.Module):
    """A layer whose currents drive neurons; their spikes are pooled."""

    def __init__(self, network, index):
        super().__init__()
        self.pool, self.shortcut = network.layers[index].pool, None
        self.lif = LIF(network.tau, network.v_threshold, network.beta)

    def forward(self, signal, stream=None):
        """Pooled spikes and the currents behind them; ``stream``: those of the layer before."""
        current = self.current(signal)
        if self.shortcut is not None:
            current = current + self.shortcut(stream)
        return _pool(self.lif(current), self.pool), current


class Shortcut(nn.Module):
    """What goes around a ResidualConv: currents ``[T, N, C, H, W]`` in the shape of its own."""

    def __init__(self, layer, shape):
        super().__init__()
        self.layer, self.conv = layer, None
        if layer.projection:
            stride = 1 if isinstance(layer, TransitionConv) else layer.stride
            self.conv = QuantConv2d(shape.channels, layer.channels, 1, stride, 0)
            self.norm = BatchNorm2d(layer.channels)

    def forward(self, stream):
        folded = stream.flatten(0, 1)
        if isinstance(self.layer, TransitionConv):
            folded = F.avg_pool2d(folded, 2)
        if self.conv is not None:
            folded = self.norm(self.conv(folded))
        elif averages(self.layer):
            folded = F.avg_pool2d(folded, 2)
        new = self.layer.channels - folded.shape[1]
        return F.pad(folded, (0, 0, 0, 0, 0, new)).unflatten(0, stream.shape[:2])


class StemLayer(_NeuronLayer):
    """8-bit convolution of a static image, computed once, then the neuron over T steps.

    Of event frames it is computed at every step.
    """

    def __init__(self, network, index):
        super().__init__(network, index)
        layer, shape = network.layers[index], network.shapes[index]
        self.T, self.pools_currents = network.T, isinstance(layer, PooledStem)
        self.conv = QuantConv2d(
            shape.channels, layer.channels, layer.kernel, layer.stride, layer.padding
        )
        self.norm = BatchNorm2d(layer.channels)

    def current(self, images):
        """Currents ``[T, N, C', H', W']`` of unsigned bytes: ``[N, C, H, W]``, or T of them each.

        The T frames of an event camera are ``[N, T, C, H, W]``.
        """
        folded = images.transpose(0, 1).flatten(0, 1) if images.dim() == 5 else images
        current = self.norm(self.conv(folded.to(self.conv.weight.dtype) / 255))
        if self.pools_currents:
            current = F.max_pool2d(current, 3, 2, 1)
        current = current.contiguous(memory_format=torch.channels_last)
        if images.dim() == 5:
            return current.unflatten(0, (self.T, -1))
        return current.expand(self.T, *current.shape)


class ConvLayer(_NeuronLayer):
    """Binary (or, for neuron ``fp``, real) convolution, batch norm, gain, neuron, pooling."""

    def __init__(self, network, index):
        super().__init__(network, index)
        layer, shape = network.layers[index], network.shapes[index]
        arguments = shape.channels, layer.channels, layer.kernel, layer.stride, layer.padding
        self.average = nn.AvgPool2d(2) if isinstance(layer, AveragedConv) else nn.Identity()
        self.conv = conv_of(network.neuron, *arguments)
        self.norm = BatchNorm2d(layer.channels)
        self.agmm = gain_of(network.neuron, network.T) if network.has_gain(index) else None
        if isinstance(layer, ResidualConv):
            self.shortcut = Shortcut(layer, shape)

    @property
    def weights(self):
        """Those that flip."""
        return [self.conv.weight]

    def current(self, spikes):
        """Currents ``[T, N, C', H', W']`` of spikes ``[T, N, C, H, W]``."""
        T, N = spikes.shape[:2]
        current = self.norm(self.conv(self.average(spikes.flatten(0, 1)))).unflatten(0, (T, N))
        return current if self.agmm is None else self.agmm(current)


class ReadoutLayer(nn.Module):
    """8-bit linear layer on the flattened spikes, in the order C, H, W, or on their averages."""

    def __init__(self, network, index):
        super().__init__()
        layer = network.layers[index]
        self.squares = None
        if isinstance(layer, AveragedReadout):
            shape = network.shapes[index]
            self.squares = [side // (layer.window or side) for side in (shape.height, shape.width)]
        self.linear = QuantLinear(layer.fan_in(network.shapes[index]), layer.channels)

    def forward(self, spikes):
        if self.squares is not None:
            T = len(spikes)
            averages = F.adaptive_avg_pool2d(spikes.flatten(0, 1), self.squares)
            spikes = averages.unflatten(0, (T, -1))
        return self.linear(spikes.flatten(2))

    def for_pixels(self, weights, shape):
        """Weights ``[classes, averages]`` as those of pixels, and how many an average is of.

        shape: of the map that is averaged.
        """
        if self.squares is None:
            return weights, 1
        height, width = (
            side // squares
            for side, squares in zip((shape.height, shape.width), self.squares, strict=True)
        )
        maps = weights.view(len(weights), shape.channels, *self.squares)
        maps = maps.repeat_interleave(height, 2).repeat_interleave(width, 3)
        return maps.flatten(1), height * width


_LAYERS = {
    Events: CodedLayer, Pixels: CodedLayer, Stem: StemLayer, EventStem: StemLayer,
    PooledStem: StemLayer, Conv: ConvLayer, AveragedConv: ConvLayer, ResidualConv: ConvLayer,
    TransitionConv: ConvLayer, Readout: ReadoutLayer, AveragedReadout: ReadoutLayer,
    Transformer: TransformerLayer,
}


class SpikingNetwork(nn.Module):
    """A ``sw.layers.Network`` to train: ``model.layers[i]`` belongs to ``network.layers[i]``."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(
            _LAYERS[type(layer)](network, index) for index, layer in enumerate(network.layers)
        )

    def forward(self, images, record=False):
        """Logits ``[T, N, classes]`` of frames, unsigned bytes ``[N, *network.frame_shape]``.

        The class is the largest mean over T. With ``record``, also the list of spikes
        ``[T, N, C, H, W]`` that leave every layer but the last, after pooling.
        """
        signal, spikes, stream = images, [], None
        for layer in self.layers:
            if isinstance(layer, (_NeuronLayer, TransformerLayer)):
                signal, stream = layer(signal, stream)
            else:
                signal = layer(signal)
            spikes.append(signal)
        return (signal, spikes[:-1]) if record else signal


def binary_weights(model):
    """The BinaryConv2d modules of a model, in order."""
    return [module for module in model.modules() if isinstance(module, BinaryConv2d)]
