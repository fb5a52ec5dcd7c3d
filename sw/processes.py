"""Training as one of several processes, each with its share of every batch: ``torchrun``.

Every function here does nothing in a process that is alone.
"""

import contextlib
import importlib
import os
import warnings

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "first_alone", "is_first", "join", "leave", "number", "parallel", "share", "summed", "total",
]


CPU = torch.device("cpu")


def join():
    """Meet the other processes, if torchrun has started any; the device of this one.

    Raises RuntimeError, in one line.
    """
    gpu, place = torch.cuda.is_available(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpu and place >= torch.cuda.device_count():
        raise RuntimeError(
            f"process {place} has no GPU of its own: torchrun --nproc-per-node"
            f" {torch.cuda.device_count()} at most"
        )
    if distributed.is_torchelastic_launched() and not distributed.is_initialized():
        # What imports it later, as torch.optim does, keeps the group alive (torch 2.14), whose
        # threads then abort one exit in ten.
        importlib.import_module("torch._dynamo")
        distributed.init_process_group("nccl" if gpu else "gloo")
    if not gpu:
        return CPU
    # Evaluation is fp32, and repeats itself.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


@contextlib.contextmanager
def first_alone():
    """The first process goes ahead through the block, then all others together."""
    if not is_first():
        distributed.barrier()
    yield
    if distributed.is_initialized() and is_first():
        distributed.barrier()


def parallel(model, device):
    """``model``, or what calls it and averages its gradients over all processes."""
    if number() == 1:
        return model
    # Of layouts that are the same, where a weight has one input channel.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def leave():
    """Part from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def number():
    """Of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first():
    """Whether this process writes files and talks to the user."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def share(items):
    """This process's items of a list or tensor that all of them have."""
    return items[distributed.get_rank() :: number()] if distributed.is_initialized() else items


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(ctx, grad):
        return _Sum.forward(ctx, grad)


def summed(tensor):
    """Sum of each one's ``tensor``, through which gradients flow to all of them."""
    return _Sum.apply(tensor) if distributed.is_initialized() else tensor


def total(values, device):
    """Sums of numbers over all processes, a list."""
    values = torch.tensor(values, dtype=torch.float64, device=device)
    if distributed.is_initialized():
        distributed.all_reduce(values)
    return values.tolist()
