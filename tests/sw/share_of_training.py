"""Trains a small network, in float64 so that rounding changes no spike: alone or under torchrun.

Arguments: where the first process puts the loss and the weights, and whether norms stay ``apart``.
"""

import sys
import weakref

import torch
from safetensors.torch import save_file
from torch import distributed, nn

from sw import model as modules
from sw import processes
from sw.data import Views, load
from sw.layers import Conv, Network, Readout, ResidualConv, Shape, Stem
from sw.optimise import make_optimizer
from sw.recipe import Recipe
from sw.training import evaluate, train_epoch

NETWORK = Network(
    "tiny", Shape(1, 8, 8),
    [Stem(8), Conv(8), ResidualConv(16, stride=2, projection=True), Readout(10)], T=2,
)
RECIPE = Recipe(epochs=1, batch=32, optimizer="sgd", lr=0.1, flip=True, cutout=2)


def train(target, device):
    torch.manual_seed(0)
    model = modules.SpikingNetwork(NETWORK).double()
    frames, labels = (tensor[:320] for tensor in load("digits", "train"))
    forward, optimizer = processes.parallel(model, device), make_optimizer(model, RECIPE)
    entry = train_epoch(model, forward, optimizer, Views(frames, labels, RECIPE, 0), RECIPE, 0)
    accuracy, rates = evaluate(model, frames, labels)
    if processes.is_first():
        numbers = [entry["loss"], entry["train_accuracy"], entry["flip_ratio"], accuracy, *rates]
        tensors = {"numbers": torch.tensor(numbers, dtype=torch.float64), **model.state_dict()}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target)


def main(target, norms="shared"):
    if norms == "apart":
        modules.BatchNorm2d = nn.BatchNorm2d
    train(target, processes.join())
    if distributed.is_initialized():
        group = weakref.ref(distributed.group.WORLD)
        processes.leave()
        # Or its threads go on, and abort the process when it ends.
        assert group() is None


if __name__ == "__main__":
    main(*sys.argv[1:])
