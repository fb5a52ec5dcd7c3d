"""What several tests share: networks with realistic activity that need no training."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from sw.engine import ENGINES, boards_of
from sw.export import export
from sw.layers import Conv, Events, Pixels, Readout, ResidualConv
from sw.model import SpikingNetwork
from sw.record import fields

#: The boards' engines, each under the first board that carries it.
BOARD_ENGINES = {
    name: engine for name, engine in ENGINES.items() if boards_of(engine)[0] == name
}

#: Share of spikes that every layer of a random network sends on, after pooling.
FIRING_RATES = (0.1, 0.3)


def loaded_modules(*names):
    """name -> file of the modules of sw that importing ``names`` loads."""
    program = (
        f"import json, sys, {', '.join(names)};"
        "print(json.dumps({n: m.__file__ for n, m in sys.modules.items() if n.startswith('sw.')}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {name: Path(file) for name, file in json.loads(done.stdout).items()}


def record_fields(engine, row):
    """Fields of a layer record by name, from its 16-bit words."""
    bits = sum(int(word) << (16 * place) for place, word in enumerate(row))
    return {
        field.name: bits >> (16 * field.word + field.shift) & ((1 << field.bits) - 1)
        for field in fields(engine)
    }


def random_frames(network, count, seed=0):
    """Frames uint8: dark and bright regions, noise, contrast, as pictures have. Or few events."""
    generator = torch.Generator().manual_seed(seed)
    shape = network.input
    if isinstance(network.layers[0], Events):
        rates = 0.4 * torch.rand(count, 1, 1, 1, 1, generator=generator)
        rates = rates.expand(count, *network.frame_shape)
        return torch.poisson(rates, generator).to(torch.uint8)
    size = (shape.height, shape.width)
    coarse = torch.rand(count, shape.channels, 3, 3, generator=generator)
    smooth = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    noise = torch.rand(count, shape.channels, *size, generator=generator)
    contrast = 0.2 + 0.8 * torch.rand(count, 1, 1, 1, generator=generator)
    return (contrast * (0.7 * smooth + 0.3 * noise) * 255).round().to(torch.uint8)


def noise_frames(network, count):
    """Frames uint8 of noise, without regions; nearly half of the pixels are 0."""
    noise = torch.randint(-200, 256, (count, *network.frame_shape))
    return noise.clamp(min=0).to(torch.uint8)


def settled_model(network, seed=0):
    """An untrained SpikingNetwork in eval mode whose norms have seen noise, so that it fires."""
    torch.manual_seed(seed)
    model = SpikingNetwork(network)
    for _ in range(40):
        model(noise_frames(network, 16))
    return model.eval()


@torch.no_grad()
def random_model(network, seed=0):
    """A SpikingNetwork in eval mode whose every layer fires at one of FIRING_RATES.

    Batch norm has the statistics of real activity and gains of either sign; the AGMM gains differ
    between time steps and between frames.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator)

    def signs(*shape):
        """-1 and +1 at random, at least one of them -1."""
        values = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1
        values[0] = -1
        return values

    model = SpikingNetwork(network).eval()
    signal, stream = random_frames(network, 12, seed + 1), None
    for layer, module in zip(network.layers, model.layers, strict=True):
        if isinstance(layer, (Events, Pixels)):
            signal = module(signal)
            continue
        if isinstance(layer, Readout):
            module.linear.weight.copy_(uniform(-0.1, 0.1, *module.linear.weight.shape))
            module.linear.bias.copy_(uniform(-0.1, 0.1, layer.channels))
            continue
        module.conv.weight.copy_(uniform(-0.5, 0.5, *module.conv.weight.shape))
        is_conv = isinstance(layer, Conv)
        sums = module.conv(
            module.average(signal.flatten(0, 1)) if is_conv else signal.float() / 255
        )
        norm, agmm = module.norm, getattr(module, "agmm", None)
        around = None
        if isinstance(layer, ResidualConv):
            if layer.projection:
                _set_projection(module.shortcut, stream, uniform, signs)
            around = module.shortcut(stream)
        norm.running_mean.copy_(sums.mean((0, 2, 3)))
        norm.running_var.copy_(sums.var((0, 2, 3)) + 1e-6)
        norm.weight.copy_(uniform(0.5, 1.5, layer.channels) * signs(layer.channels))
        norm.bias.copy_(uniform(-0.5, 0.5, layer.channels))
        scaled = norm(sums)
        scaled = scaled.unflatten(0, signal.shape[:2]) if is_conv else scaled.expand(
            network.T, *scaled.shape
        )
        target = uniform(*FIRING_RATES, 1).item()
        strength = uniform(0.3, 1.2, network.T) * signs(network.T)
        low, high = -8.0, 8.0
        for _ in range(8):
            middle = (low + high) / 2
            current = scaled + middle
            if agmm:
                means = current.mean((2, 3, 4))
                scale = torch.maximum(means.mean(1).abs() / 2, means.std(1)).clamp(min=0.2)
                agmm.alpha.copy_(strength / scale)
                current = agmm(current)
            if around is not None:
                current = current + around
            rate = _pool(module.lif(current), layer.pool).mean()
            low, high = (middle, high) if rate < target else (low, middle)
        norm.bias.add_(middle)
        signal, stream = module(signal, stream)
    return model


def _set_projection(shortcut, stream, uniform, signs):
    """Weights at random, and batch norm that leaves currents of about 1."""
    conv, norm = shortcut.conv, shortcut.norm
    conv.weight.copy_(uniform(-0.5, 0.5, *conv.weight.shape))
    sums = conv(stream.flatten(0, 1))
    norm.running_mean.copy_(sums.mean((0, 2, 3)))
    norm.running_var.copy_(sums.var((0, 2, 3)) + 1e-6)
    norm.weight.copy_(uniform(0.3, 0.9, len(norm.weight)) * signs(len(norm.weight)))
    norm.bias.copy_(uniform(-0.5, 0.5, len(norm.bias)))


def _pool(spikes, size):
    return F.max_pool2d(spikes.flatten(0, 1), size)


@cache
def random_image(network, seed=0, gain="exact"):
    """The exported image of ``random_model``: same network and seed, same image."""
    model = random_model(network, seed)
    return export(model, network, {"seed": seed}, gain, random_frames(network, 32, seed + 1))
