"""A NIR graph as parts: a chain of convolutions, LIF neurons, OR pooling and linear layers."""

import nir
import numpy as np

from sw.exchange.parts import ExchangeError, Neuron, Pool, Weights, just_above

__all__ = ["parts_of"]


def _chain(graph):
    """``(name, node)`` from the input to the output. Raises ExchangeError if there are branches."""
    after, before = {}, {}
    for source, target in set(graph.edges):
        if source in after or target in before:
            raise ExchangeError(f"{source} to {target}: only chains are imported, no branches")
        after[source] = before[target] = target
    (name, *more) = graph.inputs or [None]
    if name is None or more:
        raise ExchangeError("a graph must have one input")
    chain = []
    while (name := after.pop(name, None)) is not None:
        chain.append((name, graph.nodes[name]))
    if after or not chain or not isinstance(chain[-1][1], nir.Output):
        raise ExchangeError("the graph is not one chain from its input to its output")
    return chain[:-1]


def _same(name, what, values):
    """The number that all of ``values`` are."""
    values = np.unique(np.asarray(values, float))
    if len(values) != 1 or not np.isfinite(values[0]):
        raise ExchangeError(f"{name}: {what} must be one number")
    return float(values[0])


def _convolution(name, node):
    if _same(name, "dilation", node.dilation) != 1 or node.groups != 1:
        raise ExchangeError(f"{name}: no dilation and no groups")
    if isinstance(node.padding, str | bytes):
        raise ExchangeError(f"{name}: padding must be a number")
    stride, padding = (
        int(_same(name, what, getattr(node, what))) for what in ("stride", "padding")
    )
    return Weights(name, np.asarray(node.weight), np.asarray(node.bias), stride, padding)


def _neuron(name, node, dt):
    for what in ("v_leak", "v_reset"):
        if np.any(getattr(node, what)):
            raise ExchangeError(f"{name}: {what} must be 0, the reset goes to exactly 0")
    tau = _same(name, "tau", node.tau)
    gain = _same(name, "r", node.r) * dt / tau
    return Neuron(name, 1 - dt / tau, gain, just_above(node.v_threshold))


def _is_or(pool, threshold):
    """Whether a SumPool2d and what follows it are an OR of 2 x 2 spikes."""
    window = (*np.ravel(pool.kernel_size), *np.ravel(pool.stride), *np.ravel(pool.padding))
    if tuple(int(side) for side in window) != (2, 2, 2, 2, 0, 0):
        return False
    return isinstance(threshold, nir.Threshold) and bool(
        np.all((threshold.threshold >= 0) & (threshold.threshold < 1))
    )


def parts_of(graph, dt):
    """``(parts, input shape)`` of a NIRGraph whose time step is ``dt`` seconds."""
    parts, chain = [], _chain(graph)
    while chain:
        name, node = chain.pop(0)
        if isinstance(node, nir.Flatten):
            continue
        if isinstance(node, nir.Conv2d):
            parts.append(_convolution(name, node))
        elif isinstance(node, nir.Affine):
            parts.append(Weights(name, np.asarray(node.weight), np.asarray(node.bias)))
        elif isinstance(node, nir.Linear):
            parts.append(Weights(name, np.asarray(node.weight), np.zeros(len(node.weight))))
        elif isinstance(node, nir.LIF):
            parts.append(_neuron(name, node, dt))
        elif isinstance(node, nir.SumPool2d) and chain and _is_or(node, chain[0][1]):
            parts.append(Pool(chain.pop(0)[0]))
        else:
            raise ExchangeError(
                f"{name}: {type(node).__name__} is not imported, only Conv2d, LIF, Flatten, Linear,"
                " Affine, and SumPool2d 2 x 2 with a Threshold of 0.5, which is an OR"
            )
    (shape,) = next(iter(graph.inputs.values())).input_type.values()
    return parts, [int(side) for side in shape]
