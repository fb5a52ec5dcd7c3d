"""An epoch of training, and evaluation: alone, or with a share of the work of several processes."""

import math

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from sw import processes
from sw.data import Views
from sw.losses import classification_loss, distillation_loss
from sw.optimise import learning_rate

__all__ = ["TrainingError", "evaluate", "flip_ratio", "train_epoch", "weight_signs"]


class TrainingError(ValueError):
    """A training that cannot start or go on, in one line."""


def _loader(views, batches, workers):
    """A DataLoader of batches, lists of numbers of samples."""
    return DataLoader(
        views, batch_sampler=batches, num_workers=workers, collate_fn=tuple,
        pin_memory=torch.cuda.is_available(),
    )


@torch.no_grad()
def evaluate(model, frames, labels, batch=100, workers=0):
    """Accuracy (0 to 1) and the firing rate of every layer but the last, in fp32."""
    model.eval()
    device = next(model.parameters()).device
    numbers = processes.share(torch.arange(len(labels)))
    batches = [chosen.tolist() for chosen in numbers.split(batch)]
    # Of correct answers, and of samples times the share of spikes that leave a layer.
    sums = torch.zeros(len(model.layers), dtype=torch.float64, device=device)

    def count(number):
        def hook(module, arguments, out):
            spikes = out[0] if isinstance(out, tuple) else out
            sums[number] += spikes.mean() * spikes.shape[1]
        return hook

    hooks = [
        layer.register_forward_hook(count(number))
        for number, layer in enumerate(model.layers[:-1], 1)
    ]
    try:
        for seen, classes in _loader(Views(frames, labels), batches, workers):
            right = model(seen.to(device)).mean(0).argmax(1) == classes.to(device)
            sums[0] += right.sum()
    finally:
        for hook in hooks:
            hook.remove()
    accuracy, *rates = (total / len(labels) for total in processes.total(sums.tolist(), device))
    return accuracy, rates


def weight_signs(model):
    """Signs of the weights between stem and readout, binary or not, True for +1; no shortcuts'."""
    return [weight.detach() >= 0 for layer in model.layers[1:-1] for weight in layer.weights]


def flip_ratio(before, after):
    """Share of weights whose sign differs (eq. 8); 0 for a network without a Conv."""
    flips = sum((a != b).sum().item() for a, b in zip(before, after, strict=True))
    return flips / max(1, sum(a.numel() for a in before))


def _moments(model):
    """Magnitude of the mean, and variance, of the gradient to each of those weights, ``[2, n]``."""
    gradients = [weight.grad for layer in model.layers[1:-1] for weight in layer.weights]
    moments = [torch.stack([gradient.mean().abs(), gradient.var()]) for gradient in gradients]
    return torch.stack(moments, 1) if moments else torch.zeros(2, 0)


def _batches(views, recipe, seed, workers):
    """A DataLoader of this process's share of every batch; what does not fill one is left out."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + views.epoch)
    order = torch.randperm(len(views), generator=generator)
    whole = order[: len(order) // recipe.batch * recipe.batch].split(recipe.batch)
    return _loader(views, [processes.share(batch.tolist()) for batch in whole], workers)


def train_epoch(
    model, forward, optimizer, views, recipe, seed, workers=0, average=None, teacher=None
):
    """One pass over the training frames. Returns a dict of loss, accuracy, flip ratios, lr.

    And of the gradients to the weights of each layer between stem and readout: mean and variance
    over the weights, as in the AGMM paper's proposition 1, averaged over the updates.
    forward: ``model``, or what calls it with gradients shared between processes, or compiled.
    average: of ``sw.optimise.make_average``, or None. teacher: of ``sw.teacher``, or None.
    """
    model.train()
    device, epoch = next(model.parameters()).device, views.epoch
    batches = _batches(views, recipe, seed, workers)
    first = signs = weight_signs(model)
    count = loss_sum = correct = flips = moments = 0
    progress = tqdm(
        batches, f"epoch {epoch + 1}/{recipe.epochs}", leave=False,
        disable=None if processes.is_first() else True,
    )
    for step, (frames, labels) in enumerate(progress):
        lr = learning_rate(recipe, epoch + step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = lr
        frames = frames.to(device, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = forward(frames)
            taught = None if teacher is None else teacher(frames)
        logits = logits.float()
        loss = classification_loss(logits, labels, recipe)
        if taught is not None:
            loss = loss.lerp(distillation_loss(logits, taught, recipe), recipe.distill)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss is {loss.item()} in epoch {epoch + 1}: try a smaller --lr than"
                f" {recipe.lr}"
            )
        optimizer.zero_grad()
        loss.backward()
        moments = moments + _moments(model)
        optimizer.step()
        if average is not None:
            average.update_parameters(model)

        count += len(labels)
        loss_sum += loss.item() * len(labels)
        correct += (logits.mean(0).argmax(1) == labels).sum().item()
        signs, before = weight_signs(model), signs
        flips += flip_ratio(before, signs)
        progress.set_postfix(loss=f"{loss.item():.3f}")
    count, loss_sum, correct = processes.total([count, loss_sum, correct], device)
    return {
        "loss": loss_sum / count,
        "train_accuracy": correct / count,
        "flip_ratio": flip_ratio(first, signs),
        "flip_ratio_per_update": flips / len(batches),
        "gradient_mean": (moments[0] / len(batches)).tolist(),
        "gradient_variance": (moments[1] / len(batches)).tolist(),
        "lr": lr,
    }
