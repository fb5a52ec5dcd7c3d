"""The golden model: what the hardware must produce, at every layer boundary, in integers only.

An ``IntegerNetwork`` is built from a network image and obeys ``sw.formats``; spikes are uint8,
everything else int32 or int64. Sums over binary weights run as float32 convolutions, which are
exact because no partial sum reaches 2**24.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from sw import data, formats
from sw.bounds import ExportError, check
from sw.image import ImageError, load
from sw.layers import Conv, Events, Pixels, Readout, ResidualConv, Stem, averages
from sw.model import CodedLayer, SpikingNetwork

__all__ = ["Boundary", "IntegerNetwork", "evaluate", "float_network", "main"]

EPILOG = """examples:
  python -m sw.golden --model models/digits.bsnn --data digits
  python -m sw.golden --model models/fashion-mnist.bsnn --data fashion-mnist --split test

One line of JSON: float_accuracy is that of the trained network, rebuilt from the image;
integer_accuracy that of the integers the hardware computes; agreement the share of images to which
both give the same class."""


@dataclass(frozen=True, eq=False)
class Boundary:
    """What leaves a layer but the Readout.

    spikes: uint8 ``[T, N, C, H, W]`` after pooling. mean: S[t] of the AGMM, int64 ``[T, N]``, or
    None where the gain is constant. gain: int64 ``[T, N]``, None of Events and Pixels. stream:
    int32 ``[T, N, C, H, W]``, None but where a shortcut goes around this layer or the next.
    """

    spikes: torch.Tensor
    mean: torch.Tensor | None
    gain: torch.Tensor | None
    stream: torch.Tensor | None = None


def _tensor(array, dtype):
    return torch.from_numpy(array.astype(dtype))


def _pool(spikes, size):
    """OR of every size x size square of ``[T, N, C, H, W]`` spikes; an odd last row is dropped."""
    height, width = (side // size * size for side in spikes.shape[3:])
    corners = (
        spikes[..., y:height:size, x:width:size] for y in range(size) for x in range(size)
    )
    return reduce(torch.bitwise_or, corners)


class IntegerShortcut(nn.Module):
    """What goes around a ResidualConv: the stream, int32 ``[T, N, C, H, W]``, in its shape."""

    def __init__(self, layer, projection):
        super().__init__()
        self.layer = layer
        if layer.projection:
            self.register_buffer("weights", _tensor(projection.weights, "float64")[..., None, None])
            for name in ("bias", "slope"):
                value = _tensor(getattr(projection, name), "int64")[:, None, None]
                self.register_buffer(name, value)

    def forward(self, stream):
        if self.layer.projection:
            # Exact in float64, like the stem.
            folded = stream.flatten(0, 1).double()
            total = F.conv2d(folded, self.weights, stride=self.layer.stride).long()
            current = formats.stream_current(
                formats.projected(total, torch.clamp), self.slope, self.bias
            )
            return formats.saturate(current, torch.clamp).int().unflatten(0, stream.shape[:2])
        if averages(self.layer):
            stream = formats.average(stream.unfold(3, 2, 2).unfold(4, 2, 2).sum((5, 6))).int()
        return F.pad(stream, (0, 0, 0, 0, 0, self.layer.channels - stream.shape[2]))


class _Neurons(nn.Module):
    """Bias, threshold and LIF of one layer, the pooling after it."""

    def __init__(self, network, layer, image):
        super().__init__()
        self.layer, self.T, self.leak_shift = layer, network.T, network.leak_shift
        for name in ("bias", "threshold", "slope"):
            value = getattr(image, name)
            column = None if value is None else _tensor(value, "int32")[:, None, None]
            self.register_buffer(name, column)
        gain = None if image.gain is None else _tensor(image.gain, "int64")
        self.register_buffer("constant_gain", gain)
        self.shortcut = None
        if isinstance(layer, ResidualConv):
            self.shortcut = IntegerShortcut(layer, image.projection)

    def biased(self, rule, total):
        """Currents int32 from sums over weights, with the bias; ``rule`` makes them without."""
        if self.slope is None:
            return rule(total, self.bias)
        return formats.stream_current(rule(total, 0).long(), self.slope, self.bias).int()

    def fire(self, current, gain, stream=None):
        """Pooled spikes, and the stream or None.

        Of currents int32 ``[T or 1, N, C, H, W]``, gains ``[T, N]``, and the stream of the layer
        before.
        """
        current = current.expand(self.T, *current.shape[1:])
        membrane = torch.zeros_like(current[0])
        spikes = torch.empty_like(current, dtype=torch.uint8)
        threshold, around, after = self.threshold, torch.zeros(self.T, dtype=torch.int32), None
        if self.slope is not None:
            threshold, after = formats.STREAM_THRESHOLD, torch.empty_like(current)
        if self.shortcut is not None:
            around = self.shortcut(stream)
        for t in range(self.T):
            drive = current[t]
            if not (gain[t] == formats.GAIN_ONE).all():
                drive = formats.apply_gain(drive, gain[t].int()[:, None, None, None])
            if after is not None:
                drive = after[t] = formats.saturate(drive + around[t], torch.clamp)
            membrane = formats.leak(membrane, self.leak_shift) + drive
            fired = membrane >= threshold
            spikes[t] = fired
            membrane.masked_fill_(fired, 0)
        return _pool(spikes, self.layer.pool), after


class IntegerCoded(CodedLayer):
    """Bytes to spikes: the trained network has integers here, too."""

    def __init__(self, network, layer, shape, image):
        super().__init__(network, 0)

    def forward(self, frames, _=None):
        return Boundary(super().forward(frames).to(torch.uint8), None, None)


class IntegerStem(_Neurons):
    """8-bit convolution of a frame of bytes, the same current at every step."""

    def __init__(self, network, layer, shape, image):
        super().__init__(network, layer, image)
        self.register_buffer("weights", _tensor(image.weights, "float64"))

    def forward(self, frames, _=None):
        # float64 is exact up to 2**53, far above 24 bits, and this layer runs once per frame.
        total = F.conv2d(
            frames.double(), self.weights, stride=self.layer.stride, padding=self.layer.padding
        )
        current = self.biased(formats.stem_current, total.int())
        gain = self.constant_gain[:, None].expand(self.T, len(frames))
        spikes, stream = self.fire(current[None], gain)
        return Boundary(spikes, None, gain, stream)


class IntegerConv(_Neurons):
    """Binary convolution on spikes, AGMM or constant gain, LIF, pooling."""

    def __init__(self, network, layer, shape, image):
        super().__init__(network, layer, image)
        assert layer.fan_in(shape) < 1 << 24, "a float32 convolution would not be exact"
        weights = _tensor(image.weights, "float32") * 2 - 1
        self.register_buffer("weights", weights.contiguous(memory_format=torch.channels_last))
        self.agmm = image.agmm
        if image.agmm is not None:
            self.register_buffer("scales", _tensor(image.agmm.weights, "int64"))
            self.register_buffer("factor", _tensor(image.agmm.factor, "int64")[:, None])
            self.register_buffer("sigmoid", _tensor(image.agmm.sigmoid, "int64"))

    def sums(self, spikes):
        """P, int32 ``[T, N, C, H, W]``."""
        folded = spikes.flatten(0, 1).float().contiguous(memory_format=torch.channels_last)
        layer = self.layer
        total = F.conv2d(folded, self.weights, stride=layer.stride, padding=layer.padding)
        # A backend with a Winograd kernel would leave tiny fractions.
        return total.round_().int().unflatten(0, spikes.shape[:2])

    def mean(self, sums):
        """S[t] of the AGMM, int64 ``[T, N]``, straight from the sums (no position table)."""
        return sums.sum((3, 4), dtype=torch.int64) @ self.scales + self.agmm.offset

    def forward(self, spikes, stream=None):
        """Of spikes uint8 ``[T, N, C, H, W]`` and, beside a shortcut, the stream before."""
        sums, mean = self.sums(spikes), None
        if self.agmm is None:
            gain = self.constant_gain[:, None].expand(spikes.shape[:2])
        else:
            mean = self.mean(sums)
            index = formats.mean_index(mean, self.agmm.shift, self.factor, torch.clamp)
            gain = self.sigmoid[index + formats.INDEX_LIMIT]
        current = self.biased(formats.spike_current, sums)
        fired, stream = self.fire(current, gain, stream)
        return Boundary(fired, mean, gain, stream)


class IntegerReadout(nn.Module):
    """8-bit linear layer on the spikes, summed over the T steps."""

    def __init__(self, network, layer, shape, image):
        super().__init__()
        weights = formats.readout_weight(_tensor(image.weights, "int64"))
        self.register_buffer("weights", weights)
        self.register_buffer("bias", 2 * _tensor(image.bias, "int64"))

    def forward(self, spikes):
        return spikes.sum(0, dtype=torch.int64).flatten(1) @ self.weights.T + self.bias


class IntegerNetwork(nn.Module):
    """A NetworkImage as a PyTorch module: ``layers[i]`` belongs to ``network.layers[i]``.

    Raises ExportError for an image that some input could drive out of the formats' widths.
    """

    def __init__(self, image):
        super().__init__()
        check(image)
        self.network = network = image.network
        kinds = {
            Events: IntegerCoded, Pixels: IntegerCoded, Stem: IntegerStem, Conv: IntegerConv,
            ResidualConv: IntegerConv, Readout: IntegerReadout,
        }
        self.layers = nn.ModuleList(
            kinds[type(layer)](network, layer, shape, entry)
            for layer, shape, entry in zip(
                network.layers, network.shapes[:-1], image.layers, strict=True
            )
        )

    @torch.no_grad()
    def forward(self, frames, record=False):
        """Logits int64 ``[N, classes]`` of uint8 ``[N, *network.frame_shape]``.

        The class is the largest one.

        With ``record``, also the list of Boundary of every layer but the last.
        """
        expected = self.network.frame_shape
        if frames.dtype != torch.uint8 or frames.shape[1:] != expected:
            raise ImageError(
                f"{self.network.name} takes frames of {expected} bytes, got"
                f" {tuple(frames.shape[1:])} {str(frames.dtype).removeprefix('torch.')}"
            )
        signal, boundaries, stream = frames, [], None
        for layer in self.layers[:-1]:
            boundary = layer(signal, stream)
            signal, stream = boundary.spikes, boundary.stream
            if record:
                boundaries.append(boundary)
        logits = self.layers[-1](signal)
        return (logits, boundaries) if record else logits


def float_network(image):
    """The trained SpikingNetwork of an image, in eval mode: equal to it but for float rounding."""
    network = image.network
    model = SpikingNetwork(network)
    for layer, entry, module in zip(network.layers, image.layers, model.layers, strict=True):
        if isinstance(layer, (Events, Pixels)):
            continue
        weights, scale = _tensor(entry.weights, "float32"), torch.from_numpy(entry.scale)
        if isinstance(layer, Readout):
            # Plain layers: the weights have been quantised already.
            module.linear = nn.Linear(weights.shape[1], weights.shape[0])
            _assign(module.linear, weight=weights * scale[:, None], bias=entry.shift)
            continue
        if isinstance(layer, Stem):
            module.conv = nn.Conv2d(
                weights.shape[1], weights.shape[0], layer.kernel, layer.stride, layer.padding,
                bias=False,
            )
            scale = 255 * scale
        else:
            weights = weights * 2 - 1
        _assign(module.conv, weight=weights)
        _assign_norm(module.norm, scale, entry.shift)
        if entry.alpha is not None:
            _assign(module.agmm, alpha=entry.alpha)
        if entry.projection is not None:
            _restore_projection(module.shortcut, entry.projection)
    return model.to(memory_format=torch.channels_last).eval()


def _restore_projection(shortcut, entry):
    weights = _tensor(entry.weights, "float32")[..., None, None]
    conv, stride = shortcut.conv, shortcut.layer.stride
    shortcut.conv = nn.Conv2d(conv.in_channels, conv.out_channels, 1, stride, bias=False)
    _assign(shortcut.conv, weight=weights)
    _assign_norm(shortcut.norm, entry.scale, entry.shift)


def _assign_norm(norm, gain, shift):
    # The variance starts at 1, to which batch norm adds eps.
    _assign(norm, weight=gain * (1 + norm.eps) ** 0.5, bias=shift)


def _assign(module, **values):
    for name, value in values.items():
        getattr(module, name).data.copy_(torch.as_tensor(value))


def evaluate(image, images, labels, batch=50):
    """Accuracies (0 to 1) of the float and the integer network, and their agreement."""
    integer, real = IntegerNetwork(image), float_network(image)

    @torch.no_grad()
    def count(x, y):
        ours, theirs = integer(x).argmax(1), real(x).mean(0).argmax(1)
        return torch.stack([(a == b).sum() for a, b in ((theirs, y), (ours, y), (ours, theirs))])

    # One thread a batch: many small operations spend longer meeting up than computing.
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        counts = pool.map(count, images.split(batch), labels.split(batch))
        total = sum(tqdm(counts, "golden", -(-len(labels) // batch), leave=False, disable=None))
    torch.set_num_threads(threads)
    keys = ("float_accuracy", "integer_accuracy", "agreement")
    return dict(zip(keys, (total.double() / len(labels)).tolist(), strict=True))


def main(argv=None):
    """Command line. Returns the exit status: 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m sw.golden", description=__doc__.split("\n\n")[0], epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="MODEL.bsnn", help="network image")
    add("--data", required=True, choices=data.DATASETS, help="dataset")
    add("--split", choices=("train", "test"), default="test", help="default: test")
    add("-n", "--images", type=int, metavar="N", help="only the first N images")
    add("--data-root", metavar="DIR", help="folder of the dataset's files, if not found by itself")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    try:
        if args.images is not None and args.images < 1:
            raise ImageError(f"--images must be at least 1, got {args.images}")
        image = load(args.model)
        images, labels = data.load(args.data, args.split, args.data_root, image.network.T)
        images, labels = images[: args.images], labels[: args.images]
        result = evaluate(image, images, labels)
    except (data.DataError, ExportError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps({
        "model": args.model, "data": args.data, "split": args.split, "images": len(labels),
        **result, "seconds": round(time.perf_counter() - start, 2),
    }))
    return 0


if __name__ == "__main__":
    sys.exit(main())
