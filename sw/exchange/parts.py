"""A feedforward spiking network as a list of parts, and the network of ours that does the same."""

from dataclasses import dataclass

import numpy as np
import torch

from sw.layers import Conv, LayerError, Network, Readout, Stem
from sw.model import SpikingNetwork

__all__ = ["ExchangeError", "Neuron", "Pool", "Weights", "build", "just_above"]

#: By how much, of the largest, the weights of a binary channel may differ in size.
EQUAL = 1e-5


class ExchangeError(ValueError):
    """What one side has and the other has not, in one line."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A convolution ``[C_out, C_in, k, k]``, or a linear layer ``[C_out, C_in]`` on a whole map.

    Currents are what it sums, plus ``bias`` ``[C_out]``. Of the first, inputs are 0 to 1.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1
    padding: int = 0

    def __post_init__(self):
        if self.weight.ndim not in (2, 4) or self.bias.shape != self.weight.shape[:1]:
            raise ExchangeError(
                f"{self.name}: weights {self.weight.shape} and biases {self.bias.shape} are of no"
                " layer"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise ExchangeError(f"{self.name}: weights and biases must be finite")


@dataclass(frozen=True, eq=False)
class Neuron:
    """Leaky integrate-and-fire with hard reset to 0: U[t] = leak * V[t-1] + gain * current.

    It spikes where U >= threshold > 0, a number for all, or an array that broadcasts to its map.
    """

    name: str
    leak: float
    gain: float
    threshold: np.ndarray

    def __post_init__(self):
        # Or dividing by it would turn the comparison round.
        if not np.all((self.threshold > 0) & np.isfinite(self.threshold)):
            raise ExchangeError(f"{self.name}: thresholds must be positive")


@dataclass(frozen=True)
class Pool:
    """OR of 2 x 2 spikes."""

    name: str


def just_above(threshold):
    """The least float32 above: where a neuron spikes that does so only beyond its threshold."""
    return np.nextafter(np.asarray(threshold, np.float32), np.float32(np.inf))


def _per_channel(neuron, channels):
    """Thresholds ``[channels]`` of a neuron."""
    threshold = np.asarray(neuron.threshold, float)
    if threshold.size == 1:
        return np.full(channels, threshold.item())
    rows = threshold.reshape(channels, -1) if threshold.size % channels == 0 else None
    if rows is None or (rows != rows[:, :1]).any():
        raise ExchangeError(f"{neuron.name}: thresholds must be one for each channel, or for all")
    return rows[:, 0]


def _binary(part):
    """Raises ExchangeError unless every channel's weights are of one size."""
    sizes = np.abs(part.weight.reshape(len(part.weight), -1))
    largest = sizes.max(1)
    uneven = (largest - sizes.min(1) > EQUAL * largest) | (largest == 0)
    if uneven.any():
        raise ExchangeError(
            f"{part.name}: channel {int(uneven.argmax())} has weights of several sizes, the"
            " hardware's are +a or -a: train it with binary weights"
        )


def _as_convolution(part, shape):
    """The weights of a linear layer as those of a kernel of the map's size."""
    if part.weight.ndim == 4:
        return part.weight
    if part.weight.shape[1] != shape.size or shape.height != shape.width:
        raise ExchangeError(
            f"{part.name}: a linear layer of {part.weight.shape[1]} inputs between convolutions"
            f" must be on a whole square map, here {shape.channels} x {shape.height} x"
            f" {shape.width}"
        )
    return part.weight.reshape(-1, shape.channels, shape.height, shape.width)


def _stages(parts):
    """``(weights, neuron, pool)`` of each layer but the last, and the last one's weights."""
    stages, rest = [], list(parts)
    while rest:
        part = rest.pop(0)
        if not isinstance(part, Weights):
            raise ExchangeError(f"{part.name}: stands where a layer with weights must be")
        if not rest:
            if not stages:
                raise ExchangeError("a network must have neurons")
            return stages, part
        neuron = rest.pop(0)
        if not isinstance(neuron, Neuron):
            raise ExchangeError(f"{neuron.name}: stands where the neurons of {part.name} must be")
        pool = rest.pop(0) if rest and isinstance(rest[0], Pool) else None
        stages.append((part, neuron, pool))
    raise ExchangeError(
        "the last layer must be linear and have no neurons: its sums over time are the logits"
    )


def _leak(stages):
    """Of all neurons."""
    leaks = [neuron.leak for _, neuron, _ in stages]
    if max(leaks) - min(leaks) > 1e-6:
        raise ExchangeError(
            f"the leak must be the same for all neurons, found {sorted(set(leaks))}"
        )
    return round(leaks[0], 6)


@torch.no_grad()
def _set(module, part, weight, scale):
    module.conv.weight.copy_(torch.as_tensor(weight))
    norm = module.norm
    norm.weight.copy_(torch.as_tensor(scale * np.sqrt(1 + norm.eps)))
    norm.bias.copy_(torch.as_tensor(scale * part.bias))


@torch.no_grad()
def build(parts, shape, T, name="imported"):
    """``(model, network)`` in eval mode that computes what ``parts`` do on frames of ``shape``.

    Thresholds become 1, and weights and biases smaller by as much. Raises ExchangeError.
    """
    stages, last = _stages(parts)
    layers, found = [], shape
    try:
        for index, (part, _, pool) in enumerate(stages):
            weight = _as_convolution(part, found)
            if weight.shape[2] != weight.shape[3]:
                raise ExchangeError(f"{part.name}: kernels must be square")
            if index:
                _binary(part)
            layer = (Conv if index else Stem)(
                len(weight), weight.shape[2], part.stride, part.padding, 2 if pool else 1
            )
            if weight.shape[1] != found.channels:
                raise ExchangeError(
                    f"{part.name}: is for {weight.shape[1]} channels, gets {found.channels}"
                )
            layers.append((layer, weight))
            found = layer.output_shape(found)
        if last.weight.shape[1:] not in ((found.size,), tuple(vars(found).values())):
            raise ExchangeError(f"{last.name}: must take the whole map, {found.size} spikes")
        network = Network(
            name, shape, [*(layer for layer, _ in layers), Readout(len(last.weight))], T=T,
            tau=_leak(stages), neuron="vanilla",
        )
    except LayerError as error:
        raise ExchangeError(f"{error}") from error
    model = SpikingNetwork(network).eval()
    for module, (_, weight), (part, neuron, _) in zip(
        model.layers[:-1], layers, stages, strict=True
    ):
        _set(module, part, weight, neuron.gain / _per_channel(neuron, len(weight)))
    readout = model.layers[-1].linear
    readout.weight.copy_(torch.as_tensor(last.weight.reshape(len(last.weight), -1)))
    readout.bias.copy_(torch.as_tensor(last.bias))
    return model, network
