"""Checkpoints: one safetensors file, so that reading one from a stranger runs no code.

Tensors are named ``model.*`` and ``optimizer.<parameter>.<name>``, and ``trained.*`` where the
model is an average of the one in training; the metadata holds one JSON object with the network
description, the training arguments, and the log so far.
"""

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from sw.files import replace_file
from sw.layers import Network
from sw.model import SpikingNetwork

__all__ = ["CheckpointError", "load_checkpoint", "load_model", "save_checkpoint"]

FORMAT = "agamemnon checkpoint 1"


class CheckpointError(ValueError):
    """A file that is missing or is not a checkpoint of this project, in one line."""


def save_checkpoint(path, model, optimizer=None, trained=None, **info):
    """Write a SpikingNetwork, its optimiser and any JSON-able ``info`` to ``path``.

    trained: state_dict of the model that the optimiser updates, if that is another.
    Never leaves a half-written file: the old checkpoint stays until the new one is complete.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"trained.{name}": tensor for name, tensor in (trained or {}).items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    # A plain layout in the file, whatever channels_last did in memory.
    tensors = {
        name: tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    header = {"format": FORMAT, "network": model.network.to_dict(), **info}
    replace_file(path, serialise(tensors, {"agamemnon": json.dumps(header)}))


def load_checkpoint(path):
    """``(network, state_dict, info)`` of a checkpoint.

    info: what ``save_checkpoint`` was given, and under ``optimizer`` the optimiser's state as
    ``{parameter: {name: tensor}}``. Raises CheckpointError.
    """
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads((file.metadata() or {}).get("agamemnon", "{}"))
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint ({_one_line(error)})") from error
    if not isinstance(info, dict) or info.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this project")
    states, optimizer = {"model": {}, "trained": {}}, {}
    try:
        network = Network.from_dict(info.pop("network"))
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind in states:
                states[kind][rest] = tensor
            else:
                index, _, field = rest.partition(".")
                optimizer.setdefault(int(index), {})[field] = tensor
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({_one_line(error)})") from error
    return network, states["model"], {
        **info, "optimizer": optimizer, "trained": states["trained"]
    }


def _one_line(error):
    """The message of an error, which may quote a stranger's file."""
    return "".join(one if one.isprintable() else "?" for one in str(error))


def load_model(path):
    """``(model, network, info)``: the SpikingNetwork of a checkpoint in eval mode."""
    network, state, info = load_checkpoint(path)
    model = SpikingNetwork(network)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit its network") from error
    return model.eval(), network, info
