"""What a network is: one frozen dataclass per layer, and the network that strings them together.

These descriptions are the single source for the trainer, the export, the golden model, the layer
program of the accelerator, the cycle model and the reports. Shapes are channels, height, width.
"""

from dataclasses import dataclass, field, fields, replace
from math import isfinite

__all__ = [
    "AveragedConv", "AveragedReadout", "Conv", "EventStem", "Events", "LayerError", "Network",
    "Pixels", "PooledStem", "Readout", "ResidualConv", "Shape", "Stem", "Transformer",
    "TransitionConv", "averages", "projects",
]

#: What drives a neuron: binary weights and the gain of eq. 11, the same without gain, real weights
#: without gain; and for comparison with eq. 11, a gain of a half, and one learned for each step.
NEURONS = ("agmm", "vanilla", "fp", "half", "scalar")

#: Those that the hardware computes.
EXPORTED = ("agmm", "vanilla")

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

    channels: output channels. kernel: side of the square kernel, 1 to 8. stride: 1 or 2. padding:
    zeros on each side (so many by default that an odd kernel keeps the map's size). pool: 2 applies
    a 2 x 2 OR (max) pooling to the spikes. A kernel of the map's own size makes the layer a fully
    connected one.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    pool: int = 1

    def __post_init__(self):
        if self.padding is None:
            object.__setattr__(self, "padding", (self.kernel - 1) // 2)
        if self.kernel not in range(1, 9):
            raise LayerError(f"kernel must be 1 to 8, got {self.kernel}")
        for name, legal in (("stride", (1, 2)), ("pool", (1, 2))):
            if getattr(self, name) not in legal:
                raise LayerError(f"{name} must be one of {legal}, got {getattr(self, name)}")
        most = min(self.kernel // 2, 3)
        if not 0 <= self.padding <= most:
            raise LayerError(f"padding must be 0 to {most}, got {self.padding}")
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
        """Multiply-accumulates of one step over an input of ``shape``, padding counted.

        An odd row or column that pooling drops is never computed, and not counted.
        """
        return self.output_shape(shape).size * self.pool**2 * self.fan_in(shape)


@dataclass(frozen=True)
class _Coded:
    """First layer that turns numbers into spikes, and computes nothing.

    levels: spikes that a number can become, 1 to 15, in thermometer code: spike channel
    l * channels + c is set where channel c of the frame exceeds ``thresholds[l]``. A binary
    convolution behind it has a weight for each level; where those are equal, it multiplies.
    """

    levels: int = 1

    def __post_init__(self):
        if type(self.levels) is not int or not 1 <= self.levels <= 15:
            raise LayerError(f"levels must be 1 to 15, got {self.levels!r}")

    def output_shape(self, shape):
        return Shape(self.levels * shape.channels, shape.height, shape.width)

    def macs(self, shape):
        return 0


@dataclass(frozen=True)
class Events(_Coded):
    """Counts of events, a frame for each time step: n of them are n spikes, at most ``levels``."""

    @property
    def thresholds(self):
        return list(range(self.levels))


@dataclass(frozen=True)
class Pixels(_Coded):
    """Pixels of a static image as spikes, the same at every time step.

    So the first weights are binary, where those of a Stem have 8 bits. The bytes fall into
    ``levels`` + 1 equal parts.
    """

    @property
    def thresholds(self):
        return [-(-256 * level // (self.levels + 1)) - 1 for level in range(1, self.levels + 1)]


@dataclass(frozen=True)
class Stem(_Window):
    """First layer: 8-bit weights on 8-bit pixels. Its current is the same at every time step."""


@dataclass(frozen=True)
class EventStem(Stem):
    """First layer: 8-bit weights on counts of events, a frame and a current for each time step.

    For the papers' networks; the hardware has none.
    """

    trained_only = True


@dataclass(frozen=True)
class PooledStem(Stem):
    """Stem whose currents are pooled before the neurons: the largest of 3 x 3, with stride 2.

    As in ResNets for ImageNet, where a shortcut follows. The hardware has none.
    """

    trained_only = True

    def __post_init__(self):
        super().__post_init__()
        if self.pool != 1:
            raise LayerError(f"pool must be 1 behind pooled currents, got {self.pool}")

    def conv_shape(self, shape):
        conv = super().conv_shape(shape)
        return Shape(conv.channels, (conv.height + 1) // 2, (conv.width + 1) // 2)

    def macs(self, shape):
        return super().conv_shape(shape).size * self.fan_in(shape)


@dataclass(frozen=True)
class Conv(_Window):
    """Binary convolution on spikes: batch norm, AGMM gain and LIF follow it."""


@dataclass(frozen=True)
class AveragedConv(Conv):
    """Conv behind an average pooling of 2 x 2 spikes, an odd last row and column left out.

    Averages are no spikes. But a kernel over them is one of twice the size over the spikes, with
    each weight four times: ``plain``, which the hardware computes, at four times the MACs. So the
    kernel is 1 to 4, the padding at most 1 and then for maps of even sides, and the stride 1.
    """

    def __post_init__(self):
        super().__post_init__()
        for name, most in (("kernel", 4), ("padding", 1), ("stride", 1)):
            if getattr(self, name) > most:
                raise LayerError(
                    f"{name} must be at most {most} behind an average pooling, got"
                    f" {getattr(self, name)}"
                )

    @property
    def plain(self):
        return Conv(self.channels, 2 * self.kernel, 2, 2 * self.padding, self.pool)

    def conv_shape(self, shape):
        return self.plain.conv_shape(shape)


@dataclass(frozen=True)
class ResidualConv(Conv):
    """Conv with a shortcut around it ("double skip"): it adds to the current of the layer before.

    That current is the one behind batch norm and gain, before the neuron. A layer of stride 1 keeps
    its shape. With stride 2 the shortcut is the average of every 2 x 2 square, and there may be up
    to twice as many channels: the new ones get 0. No weights, no multiplications.

    projection: the shortcut is an 8-bit convolution of that current instead, 1 x 1 with the layer's
    stride, and batch norm: for any change of shape.
    """

    projection: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.pool != 1:
            raise LayerError(f"pool must be 1 beside a shortcut, got {self.pool}")
        if not self.kernel % 2 or self.padding != self.kernel // 2:
            raise LayerError(
                f"a shortcut needs an odd kernel and padding={self.kernel // 2}, got"
                f" kernel={self.kernel}, padding={self.padding}"
            )

    def macs(self, shape):
        projected = self.output_shape(shape).size * shape.channels if self.projection else 0
        return super().macs(shape) + projected

    def check_shape(self, shape):
        """LayerError unless a shortcut can go around this layer over an input of ``shape``."""
        if self.projection:
            return
        most = self.stride * shape.channels
        if not shape.channels <= self.channels <= most:
            raise LayerError(
                f"channels={self.channels} beside a shortcut of {shape.channels}: it takes"
                + (f" {most}" if self.stride == 1 else f" {shape.channels} to {most}")
                + ", or projection=True"
            )
        if self.stride == 2 and (shape.height % 2 or shape.width % 2):
            raise LayerError(
                f"a shortcut averages 2 x 2 squares, but the map is {shape.height} x {shape.width}:"
                " it takes projection=True"
            )


@dataclass(frozen=True)
class TransitionConv(ResidualConv):
    """ResidualConv of stride 2 that averages 2 x 2 squares first, then projects their averages.

    So Bi-Real Net does for ImageNet, and the AGMM paper after it. The hardware has none.
    """

    stride: int = 2
    projection: bool = True

    trained_only = True

    def __post_init__(self):
        super().__post_init__()
        if (self.stride, self.projection) != (2, True):
            raise LayerError("a transition has stride=2 and projection=True")

    def check_shape(self, shape):
        if shape.height % 2 or shape.width % 2:
            raise LayerError(
                f"a transition averages 2 x 2 squares, but the map is {shape.height} x"
                f" {shape.width}"
            )


@dataclass(frozen=True)
class Transformer:
    """Block of a spiking transformer: attention between pixels, then two binary layers on each.

    Both add to the currents of the layer before. Attention has real weights, and spikes for
    queries, keys and values; without a softmax, the product of the latter two comes first.

    heads: of attention; they share the channels. expansion: times so many channels between the
    binary layers. The hardware has none.
    """

    heads: int = 4
    expansion: int = 4
    pool = 1
    trained_only = True

    def output_shape(self, shape):
        return shape

    def check_shape(self, shape):
        """LayerError unless the heads share the channels of an input of ``shape`` equally."""
        if shape.channels % self.heads:
            raise LayerError(f"{shape.channels} channels cannot be shared by {self.heads} heads")

    def macs(self, shape):
        pixels, width = shape.height * shape.width, shape.channels
        attention = 4 * width**2 + 2 * width**2 // self.heads
        return pixels * (attention + 2 * self.expansion * width**2)


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


@dataclass(frozen=True)
class AveragedReadout(Readout):
    """Readout behind an average pooling: the same weights for all pixels of a square.

    window: side of the squares, which tile the map; 0 for a global pooling.
    """

    window: int = 0

    @property
    def plain(self):
        return Readout(self.channels)

    def check_shape(self, shape):
        """LayerError unless the squares tile an input of ``shape``."""
        if self.window and (shape.height % self.window or shape.width % self.window):
            raise LayerError(
                f"window={self.window} does not divide a map of {shape.height} x {shape.width}"
            )

    def fan_in(self, shape):
        squares = 1
        if self.window:
            squares = (shape.height // self.window) * (shape.width // self.window)
        return shape.channels * squares

    def macs(self, shape):
        return self.channels * self.fan_in(shape)


def projects(layer):
    """Whether a layer has a shortcut with weights of its own."""
    return isinstance(layer, ResidualConv) and layer.projection


def averages(layer):
    """Whether a layer has a shortcut of averages, of 2 x 2 squares."""
    return isinstance(layer, ResidualConv) and layer.stride == 2 and not layer.projection


_KINDS = {
    cls.__name__.lower(): cls
    for cls in (
        Events, Pixels, Stem, EventStem, PooledStem, Conv, AveragedConv, ResidualConv,
        TransitionConv, Transformer, Readout, AveragedReadout,
    )
}


@dataclass(frozen=True)
class Network:
    """A whole network.

    name: used in messages and file names. input: shape of one frame of unsigned bytes. layers: one
    Stem, Pixels or Events, any number of Conv or Transformer, one Readout. T: time steps, 1 to 16.
    tau: leak factor of the membrane, one of 0, 0.5, 0.75, 0.875 (exact in hardware). v_threshold:
    firing threshold. beta: half width of the surrogate gradient (AGMM paper, eq. 7). neuron:
    ``agmm`` (gain of eq. 11), ``vanilla`` (binary weights, no gain), or of those that cannot be
    exported, ``fp`` (real weights), ``half`` (a gain of 1/2) or ``scalar`` (a gain learned for each
    time step).
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
        if type(self.tau) not in (int, float) or self.tau not in LEAKS:
            raise LayerError(f"{self.name}: tau must be one of {tuple(LEAKS)}, got {self.tau}")
        self._check_numbers()
        if type(self.T) is not int or not 1 <= self.T <= 16:
            raise LayerError(f"{self.name}: T must be 1 to 16, got {self.T}")
        middle = [(Conv, Transformer)] * (len(self.layers) - 2)
        expected = [(Stem, _Coded), *middle, Readout]
        if len(self.layers) < 2 or not all(map(isinstance, self.layers, expected)):
            raise LayerError(
                f"{self.name}: layers must be one Stem, Pixels or Events, then Conv, then one"
                " Readout"
            )
        for index, shape in enumerate(self.shapes):
            if min(shape.height, shape.width) < 1:
                raise LayerError(
                    f"{self.name}: layer {index} has an input of {shape.height} x {shape.width}:"
                    " too many strides or pools before it"
                )
        for index, (layer, shape) in enumerate(zip(self.layers, self.shapes, strict=False)):
            if isinstance(layer, AveragedConv) and layer.padding and (
                shape.height % 2 or shape.width % 2
            ):
                raise LayerError(
                    f"{self.name}: layer {index} pads the averages of a map of {shape.height} x"
                    f" {shape.width}: its sides must be even, or padding=0"
                )
            if isinstance(layer, (ResidualConv, Transformer)):
                self._check_shortcut(index)
            if isinstance(layer, (ResidualConv, Transformer, AveragedReadout)):
                try:
                    layer.check_shape(shape)
                except LayerError as error:
                    raise LayerError(f"{self.name}: layer {index}: {error}") from error

    def _check_shortcut(self, index):
        """LayerError unless the layer before ``index`` has a current for its shortcut."""
        before = self.layers[index - 1]
        if isinstance(before, _Coded) or before.pool != 1:
            raise LayerError(
                f"{self.name}: layer {index} has a shortcut, so the layer before it must be a Stem"
                " or a Conv with pool=1"
            )

    def _check_numbers(self):
        """Whole numbers where sizes are meant, finite positive ones for threshold and beta."""
        if not (
            isinstance(self.name, str) and self.name.isprintable() and 0 < len(self.name) <= 100
        ) or set(self.name) & set("/\\"):
            raise LayerError(f"name must be a word fit for a file name, got {self.name!r}")
        sizes = {f"input {key}": n for key, n in vars(self.input).items()}
        for index, layer in enumerate(self.layers):
            values = dict(vars(layer))
            if type(values.pop("projection", False)) is not bool:
                raise LayerError(f"{self.name}: layer {index} projection must be True or False")
            sizes |= {f"layer {index} {key}": n for key, n in values.items()}
        for name, value in sizes.items():
            low = 0 if name.endswith(("padding", "window")) else 1
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
    def frame_shape(self):
        """What the network takes, unsigned bytes: [C, H, W], or [T, C, H, W] of events."""
        shape = (self.input.channels, self.input.height, self.input.width)
        return (self.T, *shape) if isinstance(self.layers[0], (Events, EventStem)) else shape

    @property
    def coded(self):
        """Whether the first layer is no Stem: the host makes spikes of the frames."""
        return isinstance(self.layers[0], _Coded)

    def has_gain(self, index):
        """Whether a layer has a gain: a Conv, but not one that reads ``coded`` input.

        That comes from outside, and its mean with it: no layer could sum it up.
        """
        return (
            self.neuron in ("agmm", "half", "scalar") and isinstance(self.layers[index], Conv)
            and not (index == 1 and self.coded)
        )

    def has_agmm(self, index):
        """Whether that gain is the one of eq. 11."""
        return self.neuron == "agmm" and self.has_gain(index)

    def is_streamed(self, index):
        """Whether a layer's currents are those of a shortcut, or are read by one."""
        return any(isinstance(layer, ResidualConv) for layer in self.layers[index : index + 2])

    @property
    def plain(self):
        """The network that the hardware computes: averages as part of the kernels behind them."""
        return self.replace(layers=[getattr(layer, "plain", layer) for layer in self.layers])

    @property
    def trained_only(self):
        """What the hardware does not have: names of layers, or the neuron."""
        layers = [
            self.layer_name(index) for index, layer in enumerate(self.layers)
            if getattr(layer, "trained_only", False)
        ]
        return layers + ([] if self.neuron in EXPORTED else [f"--neuron {self.neuron}"])

    @property
    def uses_agmm(self):
        """Whether any layer has that gain."""
        return any(map(self.has_agmm, range(len(self.layers))))

    @property
    def leak_shift(self):
        return LEAKS[self.tau]

    def layer_name(self, index):
        """Name of a layer in messages and reports, such as ``conv2``."""
        return f"{type(self.layers[index]).__name__.lower()}{index}"

    def layer_macs(self):
        """MACs of every layer over all T steps; the stem of an image counts once, it runs once."""
        static = isinstance(self.layers[0], Stem) and len(self.frame_shape) == 3
        return [
            layer.macs(shape) * (1 if static and layer is self.layers[0] else self.T)
            for layer, shape in zip(self.layers, self.shapes, strict=False)
        ]

    def macs_per_frame(self):
        """MACs of one frame over all layers and all T steps."""
        return sum(self.layer_macs())

    def replace(self, **changes):
        return replace(self, **changes)

    def to_dict(self):
        layers = [{"kind": type(la).__name__.lower(), **vars(la)} for la in self.layers]
        return {**vars(self), "input": dict(vars(self.input)), "layers": layers}

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
        except LayerError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LayerError(f"not a network description: {error}") from error
