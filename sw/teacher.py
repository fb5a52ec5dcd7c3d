"""Teachers of knowledge distillation, and weights to start from."""

import torch

from sw.checkpoint import CheckpointError, load_checkpoint, load_model
from sw.training import TrainingError

__all__ = ["load_teacher", "start_from"]

TORCHVISION = "torchvision:"


def load_teacher(name, network, device):
    """A function from frames, unsigned bytes ``[N, *network.frame_shape]``, to logits ``[N, C]``.

    name: a checkpoint of this project, or ``torchvision:MODEL`` with weights trained on ImageNet,
    as ``torchvision:resnet34``. Raises TrainingError or CheckpointError.
    """
    if name.startswith(TORCHVISION):
        return _of_torchvision(name.removeprefix(TORCHVISION), network, device)
    model, taught, _ = load_model(name)
    if (taught.frame_shape, taught.layers[-1].channels) != (
        network.frame_shape, network.layers[-1].channels
    ):
        raise TrainingError(
            f"--teacher {name} takes frames of {taught.frame_shape} and knows"
            f" {taught.layers[-1].channels} classes: {network.name} needs {network.frame_shape} and"
            f" {network.layers[-1].channels}"
        )
    model.to(device, memory_format=torch.channels_last)
    return torch.no_grad()(lambda frames: model(frames).float().mean(0))


def _of_torchvision(name, network, device):
    from torchvision import models
    from torchvision.transforms.v2.functional import normalize

    if network.layers[-1].channels != 1000:
        raise TrainingError(
            f"--teacher {TORCHVISION}{name} knows the 1000 classes of ImageNet,"
            f" {network.name} has {network.layers[-1].channels}"
        )
    try:
        weights = models.get_model_weights(name).DEFAULT
        model = models.get_model(name, weights=weights)
        model.eval().to(device, memory_format=torch.channels_last)
        norm = weights.transforms()

        @torch.no_grad()
        def teach(frames):
            return model(normalize(frames.float() / 255, norm.mean, norm.std)).float()

        # Not all that torchvision has are classifiers of such frames.
        empty = torch.zeros((1, *network.frame_shape), dtype=torch.uint8, device=device)
        if teach(empty).shape != (1, 1000):
            raise ValueError("it tells no classes of ImageNet")
    except Exception as error:
        raise TrainingError(f"--teacher {TORCHVISION}{name}: {error}") from error
    return teach


def start_from(model, path):
    """Copy the weights of a checkpoint of the same layers into ``model``; T may be another.

    Gains of steps that the checkpoint has not are those of its last. Raises CheckpointError.
    """
    network, state, _ = load_checkpoint(path)
    own = model.state_dict()
    for name, tensor in state.items():
        if name.endswith(".alpha") and name in own:
            steps = torch.arange(len(own[name])).clamp(max=len(tensor) - 1)
            state[name] = tensor[steps]
    same = own.keys() == state.keys() and all(own[n].shape == state[n].shape for n in own)
    if not same:
        raise CheckpointError(f"--init {path}: {network.name} has other layers, or another neuron")
    model.load_state_dict(state)
