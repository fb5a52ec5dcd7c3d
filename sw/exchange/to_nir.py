"""A trained network as a NIR graph (neuroir.org), batch norm folded and gains frozen."""

from itertools import pairwise

import nir
import numpy as np

from sw.exchange.parts import ExchangeError
from sw.layers import Conv, Readout, Stem
from sw.modules import fold_norm, to_array

__all__ = ["DT", "to_nir"]

#: Seconds of a time step, where nothing says otherwise: that of snnTorch and SpikingJelly.
DT = 1e-4


def _folded(module, weight, gain):
    """Weights and bias of a convolution with its batch norm, float32."""
    scale, shift = (gain * part for part in fold_norm(module.norm))
    return (weight * scale[:, None, None, None]).astype(np.float32), shift.astype(np.float32)


def _neurons(network, shape):
    """LIF nodes that spike where the membrane is at the threshold, too, as ours do."""
    tau = DT / (1 - network.tau)
    full = (shape.channels, shape.height, shape.width)
    below = np.nextafter(np.float32(network.v_threshold), np.float32(0))
    return nir.LIF(
        tau=np.full(full, tau), r=np.full(full, tau / DT), v_leak=np.zeros(full),
        v_threshold=np.full(full, below), v_reset=np.zeros(full),
    )


def to_nir(model, network, gains=None):
    """The NIRGraph of a SpikingNetwork: a chain of Conv2d, LIF, Flatten and Affine.

    Its input is the frame divided by 255, the same at each step of ``DT``; the logits are the mean
    of its output. OR pooling is a SumPool2d and a Threshold. gains: of ``sw.export.calibrate``, for
    a network with AGMM; NIR has no gain that changes from step to step, so each layer's mean is
    folded into its weights. Raises ExchangeError.
    """
    if network.neuron not in ("agmm", "vanilla", "fp"):
        raise ExchangeError(f"NIR has no gain of --neuron {network.neuron}")
    if network.uses_agmm and gains is None:
        raise ExchangeError(
            f"{network.name} has gains that follow its currents, which NIR has not: freeze them"
            " (--gain frozen)"
        )
    for layer in network.layers:
        if type(layer) not in (Stem, Conv, Readout):
            raise ExchangeError(f"{network.name}: {type(layer).__name__} is not exported to NIR")
    nodes = {"input": nir.Input(np.array([*vars(network.input).values()]))}
    for index, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=False)):
        module = model.layers[index]
        if isinstance(layer, Readout):
            nodes["flatten"] = nir.Flatten(
                {"input": np.array([*vars(shape).values()])}, start_dim=0, end_dim=-1
            )
            nodes["readout"] = nir.Affine(
                to_array(module.linear.quantised_weight).astype(np.float32),
                to_array(module.linear.bias).astype(np.float32),
            )
            continue
        gain = 1.0 if gains is None or index not in gains else float(np.mean(gains[index]))
        real = isinstance(layer, Conv) and network.neuron == "fp"
        weight = to_array(module.conv.weight if real else module.conv.quantised_weight)
        weight, bias = _folded(module, weight, gain)
        name = f"{'conv' if index else 'stem'}{index}"
        nodes[name] = nir.Conv2d(
            input_shape=(shape.height, shape.width), weight=weight, bias=bias,
            stride=layer.stride, padding=layer.padding, dilation=1, groups=1,
        )
        found = layer.conv_shape(shape)
        nodes[f"lif{index}"] = _neurons(network, found)
        if layer.pool > 1:
            window = np.array([layer.pool, layer.pool])
            pooled = [found.channels, found.height // 2, found.width // 2]
            nodes[f"sum{index}"] = nir.SumPool2d(window, window, np.array([0, 0]))
            nodes[f"or{index}"] = nir.Threshold(np.full(pooled, 0.5))
    nodes["output"] = nir.Output(np.array([network.layers[-1].channels]))
    names = list(nodes)
    return nir.NIRGraph(
        nodes, list(pairwise(names)), metadata={"dt": DT, "T": network.T},
    )
