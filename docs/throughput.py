"""Measures training throughput beside SpikingJelly and snnTorch, on the same network and batch.

Each is tried in fp32 and bf16, with and without channels_last and torch.compile, and its best
counts; their turns alternate. The limit is what the convolutions alone allow. Run it on a machine
with nothing else to do: ``python docs/throughput.py``.
"""

import json
import os
import statistics
import time
from importlib import metadata
from itertools import product
from pathlib import Path

import snntorch
import torch
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from tqdm import tqdm

from sw import networks
from sw.layers import Readout, Stem
from sw.losses import classification_loss
from sw.model import SpikingNetwork
from sw.modules import BinaryConv2d, QuantConv2d, QuantLinear
from sw.optimise import make_optimizer
from sw.recipe import Recipe

__all__ = ["NETWORK", "PEERS", "Convolutions", "SnnTorch", "SpikingJelly", "measure"]

RESULTS = Path(__file__).parents[1] / "results" / "trainer_throughput.json"

#: Without AGMM, which the others do not have.
NETWORK = networks.load("fashion-mnist").replace(neuron="vanilla")
BATCH, STEPS, ROUNDS = 64, 3, 5

SETTINGS = [
    dict(zip(("bf16", "channels_last", "compiled"), values, strict=True))
    for values in product((False, True), repeat=3)
]


def _stages(network):
    """(convolution or linear layer, its norm or None, pool) of each layer: the modules of ours."""
    for entry, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(entry, Readout):
            yield QuantLinear(shape.size, entry.channels), None, 1
            continue
        kind = QuantConv2d if isinstance(entry, Stem) else BinaryConv2d
        conv = kind(shape.channels, entry.channels, entry.kernel, entry.stride, entry.padding)
        yield conv, nn.BatchNorm2d(entry.channels), entry.pool


class SpikingJelly(nn.Module):
    """As its tutorials have it: multi-step modules, images repeated at the input."""

    def __init__(self, network):
        super().__init__()
        self.T, stages = network.T, []
        for module, norm, pool in _stages(network):
            if norm is None:
                stages += [layer.Flatten(step_mode="m"), layer.SeqToANNContainer(module)]
                continue
            stages += [layer.SeqToANNContainer(module, norm), neuron.LIFNode(
                tau=1 / (1 - network.tau), decay_input=False, v_threshold=network.v_threshold,
                v_reset=0.0, step_mode="m", surrogate_function=surrogate.PiecewiseQuadratic(1.0),
            )]
            if pool > 1:
                stages.append(layer.MaxPool2d(pool, step_mode="m"))
        self.stages = nn.Sequential(*stages)

    def forward(self, images):
        functional.reset_net(self)
        return self.stages((images.float() / 255).unsqueeze(0).repeat(self.T, 1, 1, 1, 1))


class SnnTorch(nn.Module):
    """As its tutorials have it: a loop over time steps around all layers."""

    def __init__(self, network):
        super().__init__()
        self.T = network.T
        self.convs, self.norms, self.neurons = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.pools = []
        for module, norm, pool in _stages(network):
            if norm is None:
                self.readout = module
                continue
            self.convs.append(module)
            self.norms.append(norm)
            self.pools.append(nn.MaxPool2d(pool) if pool > 1 else nn.Identity())
            self.neurons.append(snntorch.Leaky(
                network.tau, network.v_threshold, spike_grad=snn_surrogate.triangular(1),
                reset_mechanism="zero", reset_delay=False,
            ))

    def forward(self, images):
        membranes = [neuron.init_leaky() for neuron in self.neurons]
        logits = []
        for _ in range(self.T):
            signal = images.float() / 255
            for index, lif in enumerate(self.neurons):
                current = self.norms[index](self.convs[index](signal))
                signal, membranes[index] = lif(current, membranes[index])
                signal = self.pools[index](signal)
            logits.append(self.readout(signal.flatten(1)))
        return torch.stack(logits)


class Convolutions(nn.Module):
    """The binary convolutions alone, of all T steps at once: no way around them is faster."""

    def __init__(self, network):
        super().__init__()
        self.T, self.classes = network.T, network.layers[-1].channels
        self.convs = nn.ModuleList(
            module for module, *_ in _stages(network) if isinstance(module, BinaryConv2d)
        )
        self.shapes = network.shapes[1:]

    def forward(self, images):
        signal, samples = 0.0, self.T * len(images)
        bf16 = torch.is_autocast_enabled("cpu")
        for conv, shape in zip(self.convs, self.shapes, strict=False):
            spikes = torch.ones(
                samples, shape.height, shape.width, shape.channels,
                dtype=torch.bfloat16 if bf16 else None, requires_grad=True,
            )
            signal = signal + conv(spikes.permute(0, 3, 1, 2)).mean()
        return signal.expand(self.T, len(images), self.classes)


PEERS = {
    "ours": SpikingNetwork, "spikingjelly": SpikingJelly, "snntorch": SnnTorch,
    "limit": Convolutions,
}


class Trainee:
    """One of them in one setting, with what a step of training takes."""

    def __init__(self, make, network, bf16, channels_last, compiled):
        torch.manual_seed(0)
        self.model, self.bf16, self.recipe = make(network).train(), bf16, Recipe()
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model, self.recipe)
        self.forward = torch.compile(self.model) if compiled else self.model
        shape = (BATCH, network.input.channels, network.input.height, network.input.width)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.labels = torch.randint(0, network.layers[-1].channels, (BATCH,))

    def step(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.forward(self.images)
        self.optimizer.zero_grad()
        classification_loss(logits.float(), self.labels, self.recipe).backward()
        self.optimizer.step()

    def images_per_s(self):
        self.step()
        start = time.perf_counter()
        for _ in range(STEPS):
            self.step()
        return BATCH * STEPS / (time.perf_counter() - start)


def measure(network=NETWORK, rounds=ROUNDS):
    """Medians over rounds of all in all settings, and the best of each."""
    trainees = {
        (name, index): Trainee(make, network, **setting)
        for name, make in PEERS.items() for index, setting in enumerate(SETTINGS)
    }
    rates = {key: [] for key in trainees}
    for _ in tqdm(range(rounds), unit="round", disable=None):
        for key, trainee in trainees.items():
            rates[key].append(trainee.images_per_s())
    medians = {key: statistics.median(values) for key, values in rates.items()}
    report = {}
    for name in PEERS:
        best = max(range(len(SETTINGS)), key=lambda index: medians[name, index])
        report[f"{name}_images_per_s"] = round(medians[name, best], 1)
        report[f"{name}_settings"] = SETTINGS[best]
        report[f"{name}_all"] = [
            {**setting, "images_per_s": round(medians[name, index], 1)}
            for index, setting in enumerate(SETTINGS)
        ]
    return report


def main():
    # Each setting compiles the same modules again.
    torch._dynamo.config.recompile_limit = 64
    report = {
        "command": "python docs/throughput.py", "network": NETWORK.name, "T": NETWORK.T,
        "neuron": NETWORK.neuron, "batch": BATCH, "rounds": ROUNDS,
        "threads": torch.get_num_threads(), "cores": os.cpu_count(),
        **{name: metadata.version(name) for name in ("torch", "spikingjelly", "snntorch")},
        **measure(),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    ours = report["ours_images_per_s"]
    for name in PEERS:
        rate = report[f"{name}_images_per_s"]
        print(f"{name:<14}{rate:8.1f} images/s, ours is {ours / rate:.2f} of it")


if __name__ == "__main__":
    main()
