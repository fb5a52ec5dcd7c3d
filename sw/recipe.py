"""How a network is trained: every hyper-parameter, and named sets of them."""

import argparse
from dataclasses import asdict, dataclass, field, fields, replace

__all__ = ["PRESETS", "Preset", "Recipe", "RecipeError", "add_options"]


class RecipeError(ValueError):
    """Hyper-parameters that cannot be, in one line."""


def _option(default, text, least=0, **more):
    """A hyper-parameter: its default, what it is, and its least value or its ``choices``."""
    return field(default=default, metadata={"text": text, "least": least, **more})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters, with what they mean; the command line has an option for each."""

    epochs: int = _option(20, "passes over the training data", 1)
    batch: int = _option(64, "samples of an update, of all processes together", 1)
    optimizer: str = _option("adamw", "what makes updates of gradients", choices=("adamw", "sgd"))
    lr: float = _option(2e-3, "highest learning rate; it ends at 0, along a cosine")
    warmup: float = _option(0.0, "epochs in which the learning rate grows from 0")
    momentum: float = _option(0.9, "of sgd, and the first beta of adamw")
    weight_decay: float = _option(1e-4, "of weights; norms, gains and biases do not decay")
    loss: str = _option(
        "tet", "cross-entropy of each time step, averaged (TET), or of the mean logits",
        choices=("tet", "mean"),
    )
    label_smoothing: float = _option(0.0, "share of the target given to all classes alike")
    distill: float = _option(0.5, "share of the loss that compares with a teacher, if there is one")
    temperature: float = _option(2.0, "that softens the teacher's and the own classes, to compare")
    crop: int = _option(1, "pixels by which a frame moves at most, zeros come in")
    flip: bool = _option(False, "mirror every second frame left to right")
    roll: int = _option(0, "pixels by which a frame moves at most, what leaves comes in again")
    auto_augment: str = _option(
        "none", "policy of AutoAugment, for colour images",
        choices=("none", "cifar10", "imagenet"),
    )
    cutout: int = _option(0, "side of a square of zeros, anywhere in the frame")
    ema: float = _option(0.0, "decay of a moving average of the weights, which is then evaluated")
    precision: str = _option(
        "fp32", "of training, evaluation is fp32; bf16 is twice as fast on CPUs with AMX",
        choices=("fp32", "bf16"),
    )

    def __post_init__(self):
        for entry in fields(self):
            value, least = getattr(self, entry.name), entry.metadata["least"]
            choices = entry.metadata.get("choices")
            if choices and value not in choices:
                raise RecipeError(f"{entry.name} must be one of {', '.join(choices)}, got {value}")
            if not choices and not (value >= least and value < float("inf")):
                raise RecipeError(f"{entry.name} must be at least {least}, got {value}")
        for name in ("label_smoothing", "ema", "momentum"):
            if getattr(self, name) >= 1:
                raise RecipeError(f"{name} must be below 1, got {getattr(self, name)}")
        for name in ("lr", "temperature"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} must be positive, got {getattr(self, name)}")
        if self.warmup > self.epochs:
            raise RecipeError(f"warmup must be at most the {self.epochs} epochs, got {self.warmup}")
        if self.distill > 1:
            raise RecipeError(f"distill must be at most 1, got {self.distill}")

    def to_dict(self):
        return asdict(self)

    def replace(self, **changes):
        return replace(self, **changes)


def add_options(parser):
    """An option for each hyper-parameter; what is not given is not in the parsed arguments."""
    group = parser.add_argument_group("hyper-parameters", "of the preset, unless given")
    for entry in fields(Recipe):
        choices = entry.metadata.get("choices")
        group.add_argument(
            f"--{entry.name.replace('_', '-')}", choices=choices, default=argparse.SUPPRESS,
            help=f"{entry.metadata['text']} (default: {entry.default})",
            **(
                {"action": argparse.BooleanOptionalAction} if entry.type is bool
                else {"type": entry.type} if choices is None else {}
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A training with a name: what is learned by what, and how. about: for --help.

    T, neuron: None for the network's own.
    """

    data: str
    arch: str
    recipe: Recipe
    about: str
    T: int | None = None
    neuron: str | None = None


#: Of Q-SNN, by authors of the AGMM paper, whose own hyper-parameters are not published:
#: github.com/Wenjie-Wei/Q-SNN. The paper gives SGD, the cosine and the epochs.
_AGMM = Recipe(
    epochs=400, batch=64, optimizer="sgd", lr=0.1, crop=4, flip=True, auto_augment="cifar10",
    cutout=16,
)
#: Of ImageNet each view is a part of its image anyway.
_IMAGENET = _AGMM.replace(epochs=300, batch=256, crop=0, auto_augment="none", cutout=0)
#: Views and epochs of Deng et al., arXiv 2202.11946.
_DVS = _AGMM.replace(epochs=150, crop=0, roll=5, auto_augment="none", cutout=0)

PRESETS = {
    "digits": Preset(
        data="digits", arch="digits", recipe=Recipe(),
        about="8 x 8 images, a minute on a laptop",
    ),
    "digit-saccades": Preset(
        data="digit-saccades", arch="digit-saccades", recipe=Recipe(epochs=30),
        about="events made from the digits, a minute",
    ),
    "fashion-mnist": Preset(
        data="fashion-mnist", arch="fashion-mnist",
        recipe=Recipe(epochs=24, flip=True),
        about="the network of the iCE40 demo",
    ),
    "agmm-cifar10": Preset(
        data="cifar10", arch="resnet19-10", T=2, neuron="agmm", recipe=_AGMM,
        about="the AGMM paper's; 96.13 % there",
    ),
    "agmm-cifar100": Preset(
        data="cifar100", arch="resnet19-100", T=2, neuron="agmm", recipe=_AGMM,
        about="the AGMM paper's; 80.25 % there",
    ),
    "agmm-imagenet": Preset(
        data="imagenet", arch="resnet18", T=4, neuron="agmm", recipe=_IMAGENET,
        about="the AGMM paper's; 64.67 % there",
    ),
    "agmm-dvs-gesture": Preset(
        data="dvs-gesture", arch="vggsnn-11", T=16, neuron="agmm", recipe=_DVS.replace(flip=False),
        about="the AGMM paper's; 97.92 % there",
    ),
    "agmm-cifar10-dvs": Preset(
        data="cifar10-dvs", arch="vggsnn-10", T=10, neuron="agmm", recipe=_DVS,
        about="the AGMM paper's; 82.40 % there",
    ),
}
