"""What a network is: one frozen dataclass per layer, and the network that strings them together.

These descriptions are the single source for the trainer, the export, the golden model, the layer
program of the accelerator, the cycle model and the reports. Shapes are channels, height, width.
"""

from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite

__all__ = ["Conv", "LayerError", "Network", "Readout", "Shape", "Stem"]

NEURONS = ("agmm", "vanilla", "fp")

#: Leak factors the hardware can apply exactly: tau = 1 - 2**-leak_shift.
LEAKS = {0.0: 0, 0.5: 1, 0.75: 2, 0.875: 3}


class LayerError(ValueError):
    """A network description that cannot exist, with the layer and the reason in one line."""


@dataclass(frozen=True)
class Shape:
    channels: int
    height: int
    width: int

    @property
    def size(self):
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class _Window:
    """Fields shared by the layers that slide a kernel over a map.

    channels: output channels. kernel: side of the square kernel. stride: 1 or 2. padding: zeros on
    each side (half the kernel by default). pool: 2 applies a 2 x 2 OR (max) pooling to the spikes.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    pool: int = 1

    def __post_init__(self):
        if self.padding is None:
            object.__setattr__(self, "padding", self.kernel // 2)
        for name, legal in (("kernel", (1, 3, 5)), ("stride", (1, 2)), ("pool", (1, 2))):
            if getattr(self, name) not in legal:
                raise LayerError(f"{name} must be one of {legal}, got {getattr(self, name)}")
        if not 0 <= self.padding <= self.kernel // 2:
            raise LayerError(f"padding must be 0 to {self.kernel // 2}, got {self.padding}")
        if self.channels < 1:
            raise LayerError(f"channels must be positive, got {self.channels}")

    def conv_shape(self, shape):
        """Shape of the map before pooling, for an input of ``shape``."""
        height, width = (
            (side + 2 * self.padding - self.kernel) // self.stride + 1
            for side in (shape.height, shape.width)
        )
        return Shape(self.channels, height, width)

    def output_shape(self, shape):
        conv = self.conv_shape(shape)
        return Shape(self.channels, conv.height // self.pool, conv.width // self.pool)

    def fan_in(self, shape):
        return self.kernel**2 * shape.channels

    def macs(self, shape):
        """Multiply-accumulates of one pass over an input of ``shape``, padding counted.

        An odd row or column that pooling drops is never computed, and not counted.
        """
        return self.output_shape(shape).size * self.pool**2 * self.fan_in(shape)


@dataclass(frozen=True)
class Stem(_Window):
    """First layer: 8-bit weights on 8-bit pixels. Its current is the same at every time step."""


@dataclass(frozen=True)
class Conv(_Window):
    """Binary convolution on spikes: batch norm, AGMM gain and LIF follow it."""


@dataclass(frozen=True)
class Readout:
    """Last layer: 8-bit fully connected weights on spikes, summed over the time steps."""

    channels: int

    def output_shape(self, shape):
        return Shape(self.channels, 1, 1)

    def fan_in(self, shape):
        return shape.size

    def macs(self, shape):
        return self.channels * shape.size


_KINDS = {cls.__name__.lower(): cls for cls in (Stem, Conv, Readout)}


@dataclass(frozen=True)
class Network:
    """A whole network.

    name: used in messages and file names. input: shape of one frame of unsigned bytes. layers: one
    Stem, any number of Conv, one Readout. T: time steps, 1 to 16. tau: leak factor of the membrane,
    one of 0, 0.5, 0.75, 0.875 (those are exact in hardware). v_threshold: firing threshold.
    beta: half width of the surrogate gradient (AGMM paper, eq. 7). neuron: ``agmm`` (gain of
    eq. 11), ``vanilla`` (binary weights, no gain) or ``fp`` (real weights; cannot be exported).
    """

    name: str
    input: Shape
    layers: tuple = field(default_factory=tuple)
    T: int = 4
    tau: float = 0.5
    v_threshold: float = 1.0
    beta: float = 1.0
    neuron: str = "agmm"

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.neuron not in NEURONS:
            raise LayerError(f"{self.name}: neuron must be one of {NEURONS}, got {self.neuron!r}")
        if self.tau not in LEAKS:
            raise LayerError(f"{self.name}: tau must be one of {tuple(LEAKS)}, got {self.tau}")
        self._check_numbers()
        if type(self.T) is not int or not 1 <= self.T <= 16:
            raise LayerError(f"{self.name}: T must be 1 to 16, got {self.T}")
        kinds = [type(layer) for layer in self.layers]
        if len(kinds) < 2 or kinds != [Stem, *[Conv] * (len(kinds) - 2), Readout]:
            raise LayerError(f"{self.name}: layers must be one Stem, then Conv, then one Readout")
        for index, shape in enumerate(self.shapes):
            if min(shape.height, shape.width) < 1:
                raise LayerError(
                    f"{self.name}: layer {index} has an input of {shape.height} x {shape.width}:"
                    " too many strides or pools before it"
                )

    def _check_numbers(self):
        """Whole numbers where sizes are meant, finite positive ones for threshold and beta."""
        if not isinstance(self.name, str) or not self.name or set(self.name) & set("/\\\0"):
            raise LayerError(f"name must be a word fit for a file name, got {self.name!r}")
        sizes = {f"input {key}": n for key, n in asdict(self.input).items()}
        for index, layer in enumerate(self.layers):
            sizes |= {f"layer {index} {key}": n for key, n in asdict(layer).items()}
        for name, value in sizes.items():
            low = 0 if name.endswith("padding") else 1
            if type(value) is not int or value < low:
                raise LayerError(
                    f"{self.name}: {name} must be a whole number from {low} on, got {value!r}"
                )
        for name in ("v_threshold", "beta"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not (isfinite(value) and value > 0):
                raise LayerError(f"{self.name}: {name} must be a positive number, got {value!r}")

    @property
    def shapes(self):
        """Input shape of every layer, then the output shape of the last."""
        shapes = [self.input]
        for layer in self.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        return shapes

    @property
    def leak_shift(self):
        return LEAKS[self.tau]

    def layer_name(self, index):
        """Name of a layer in messages and reports, such as ``conv2``."""
        return f"{type(self.layers[index]).__name__.lower()}{index}"

    def layer_macs(self):
        """MACs of every layer over all T steps; the stem counts once, for it runs once."""
        return [
            layer.macs(shape) * (1 if isinstance(layer, Stem) else self.T)
            for layer, shape in zip(self.layers, self.shapes, strict=False)
        ]

    def macs_per_frame(self):
        """MACs of one frame over all layers and all T steps."""
        return sum(self.layer_macs())

    def replace(self, **changes):
        return replace(self, **changes)

    def to_dict(self):
        layers = [{"kind": type(la).__name__.lower(), **asdict(la)} for la in self.layers]
        return {**asdict(self), "layers": layers}

    @classmethod
    def from_dict(cls, data):
        """Inverse of ``to_dict``. Raises LayerError on unknown or missing fields."""
        try:
            data = dict(data)
            layers = []
            for entry in data.pop("layers"):
                entry = dict(entry)
                layers.append(_KINDS[entry.pop("kind")](**entry))
            unknown = set(data) - {f.name for f in fields(cls)}
            if unknown:
                raise LayerError(f"unknown network fields: {', '.join(sorted(unknown))}")
            return cls(**{**data, "input": Shape(**data["input"]), "layers": tuple(layers)})
        except (KeyError, TypeError) as error:
            raise LayerError(f"not a network description: {error}") from error
