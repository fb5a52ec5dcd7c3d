"""A network of snnTorch or SpikingJelly as parts: the modules of a Sequential, in their order."""

from dataclasses import replace

import numpy as np
from torch import nn

from sw.exchange.parts import ExchangeError, Neuron, Pool, Weights, just_above
from sw.modules import fold_norm, to_array

__all__ = ["parts_of"]


def _weights(name, module):
    bias = np.zeros(len(module.weight)) if module.bias is None else to_array(module.bias)
    if isinstance(module, nn.Linear):
        return Weights(name, to_array(module.weight), bias)
    if module.groups != 1 or set(module.dilation) != {1} or module.padding_mode != "zeros":
        raise ExchangeError(f"{name}: no groups, no dilation, and zeros for padding")
    if isinstance(module.padding, str) or len({*module.padding}) > 1 or len({*module.stride}) > 1:
        raise ExchangeError(f"{name}: stride and padding must be the same for rows and columns")
    return Weights(name, to_array(module.weight), bias, module.stride[0], module.padding[0])


def _normalised(part, norm):
    """Weights with the batch norm behind them folded in."""
    scale, shift = fold_norm(norm)
    rows = part.weight * scale.reshape(-1, *[1] * (part.weight.ndim - 1))
    return replace(part, weight=rows, bias=part.bias * scale + shift)


def _leaky(name, module):
    """Of snnTorch."""
    if module.reset_mechanism != "zero":
        raise ExchangeError(
            f"{name}: resets by {module.reset_mechanism!r}, the hardware to zero: train it with"
            " reset_mechanism='zero'"
        )
    if module.reset_delay:
        raise ExchangeError(
            f"{name}: resets a step late, the hardware at once: train it with reset_delay=False"
        )
    if module.inhibition or module.graded_spikes_factor != 1:
        raise ExchangeError(f"{name}: no inhibition, and spikes of 1")
    beta = np.unique(to_array(module.beta).clip(0, 1))
    if len(beta) != 1:
        raise ExchangeError(f"{name}: beta must be one number")
    return Neuron(name, float(beta[0]), 1.0, just_above(to_array(module.threshold)))


def _lif(name, module):
    """Of SpikingJelly."""
    if module.v_reset is None:
        raise ExchangeError(
            f"{name}: resets by subtraction, the hardware to zero: train it with v_reset=0.0"
        )
    if module.v_reset != 0:
        raise ExchangeError(f"{name}: resets to {module.v_reset}, the hardware to 0")
    gain = 1 / module.tau if module.decay_input else 1.0
    return Neuron(name, 1 - 1 / module.tau, gain, np.array(module.v_threshold))


#: Neurons by package and class, so that neither framework has to be there.
NEURONS = {("snntorch", "Leaky"): _leaky, ("spikingjelly", "LIFNode"): _lif}


def _neuron_of(module):
    package, *_ = type(module).__module__.split(".")
    return NEURONS.get((package, type(module).__name__))


def _leaves(net, prefix=""):
    for name, module in net.named_children():
        if isinstance(module, nn.Sequential):
            yield from _leaves(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module


def parts_of(net):
    """Parts of an ``nn.Sequential``, which may hold others, as it is in eval mode."""
    parts = []
    for name, module in _leaves(net):
        if isinstance(module, (nn.Flatten, nn.Dropout, nn.Identity)):
            continue
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            parts.append(_weights(name, module))
        elif isinstance(module, nn.BatchNorm2d) and parts and isinstance(parts[-1], Weights):
            parts.append(_normalised(parts.pop(), module))
        elif isinstance(module, nn.MaxPool2d) and parts and isinstance(parts[-1], Neuron):
            if (module.kernel_size, module.stride, module.padding) not in (
                (2, 2, 0), ((2, 2), (2, 2), (0, 0))
            ):
                raise ExchangeError(f"{name}: pooling must be of 2 x 2 spikes")
            parts.append(Pool(name))
        elif (neuron := _neuron_of(module)) is not None:
            parts.append(neuron(name, module))
        else:
            raise ExchangeError(
                f"{name}: {type(module).__name__} is not imported here, only Conv2d, BatchNorm2d,"
                " Linear, MaxPool2d of spikes, and snnTorch's Leaky or SpikingJelly's LIFNode"
            )
    return parts
