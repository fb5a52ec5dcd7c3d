"""The network image: everything right of the export reads this one file and nothing else.

A ``.bsnn`` file is a safetensors file. Its metadata holds one JSON object under ``agamemnon``:
format, version, the network description, provenance, and a checksum over all of it and every
tensor. Tensors are named ``layers.<index>.<field>``, and ``sigmoid``, the table of exact gains;
binary weights are packed eight to a byte.
Reading one runs no code, and nothing in it is believed before it was checked.
"""

import hashlib
import json
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from sw.bounds import position_table
from sw.files import replace_file
from sw.formats import GAIN_ONE, INDEX_LIMIT
from sw.layers import Conv, LayerError, Network, Readout, projects
from sw.positions import Axis

__all__ = ["Agmm", "ImageError", "LayerImage", "NetworkImage", "Projection", "load", "save"]

FORMAT, VERSION = "agamemnon image", 2

#: Stored type and shape of the table from AGMM index to gain.
SIGMOID = ("u1", (2 * INDEX_LIMIT,))

#: Shifts that bring the AGMM mean to 16 bits.
MEAN_SHIFTS = (0, 4, 8, 12, 16)

#: Layers that an engine's program can hold, and a nesting of JSON deeper than that of any header.
MOST_LAYERS, DEEPEST = 255, 32

#: Bytes of a header, and characters of an error.
LARGEST, LONGEST = 1 << 22, 300

#: What to do with a file that cannot be used.
REMEDY = "export it again with python sw/export.py"


class ImageError(ValueError):
    """A file or an object that is not a usable network image: what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class Agmm:
    """Exact gain of one layer (eq. 11), in integers.

    weights: A_c, int64 ``[C_out]``, 0 to 255. table: D, int64 ``[C_in, row classes, column
    classes]`` of this layer's input positions. offset: K. shift: of the mean, one of
    ``MEAN_SHIFTS``. factor: int64 ``[T]``. sigmoid: gains of the indices from -``INDEX_LIMIT`` on,
    int64 ``[2 * INDEX_LIMIT]``; all layers share one table.
    """

    weights: np.ndarray
    table: np.ndarray
    offset: int
    shift: int
    factor: np.ndarray
    sigmoid: np.ndarray


@dataclass(frozen=True, eq=False)
class Projection:
    """A projecting shortcut, in integers, and the float32 values it came from.

    weights: int64 ``[C_out, C_in]``, -127 to 127. bias, slope: int64 ``[C_out]``. scale, shift: as
    of a LayerImage.
    """

    weights: np.ndarray
    bias: np.ndarray
    slope: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerImage:
    """One layer in integers, and the float32 values that rebuild the layer it came from.

    weights: bool ``[C_out, C_in, k, k]`` of a Conv (True is +1), int8 of a Stem, int8 ``[classes,
    features]`` of a Readout in the order C, H, W. bias, threshold, slope: int64 ``[C_out]``; a
    layer with a stream has a slope, others a threshold, a Readout neither. gain: int64 ``[T]`` of
    constant gains, 256 is one; None for a Readout and where ``agmm`` computes it. scale: real value
    of one unit of the sum over weights, per channel. shift: what is added to it (batch norm, or the
    readout's bias). alpha: learned alpha[t] or None. All are None for Events and Pixels.
    """

    weights: np.ndarray
    bias: np.ndarray
    threshold: np.ndarray | None
    gain: np.ndarray | None
    agmm: Agmm | None
    scale: np.ndarray
    shift: np.ndarray
    alpha: np.ndarray | None
    slope: np.ndarray | None = None
    projection: Projection | None = None


@dataclass(frozen=True, eq=False)
class NetworkImage:
    """A network description, its layers in integers, and where they come from (JSON-able)."""

    network: Network
    layers: tuple
    info: dict = field(default_factory=dict)

    @property
    def gain_mode(self):
        """``exact`` or ``frozen`` AGMM, or ``none`` where the network has no AGMM."""
        modes = {
            "frozen" if data.agmm is None else "exact"
            for index, data in enumerate(self.layers) if self.network.has_agmm(index)
        }
        return max(modes, default="none")

    @property
    def checksum(self):
        """SHA-256, in hex, of the metadata and of all tensors. Equal images have equal ones."""
        return _checksum(_header(self), _tensors(self))


def save(image, path):
    """Write ``image`` to ``path``. The old file stays whole until the new one is complete."""
    path = Path(path)
    _check_network(image.network)
    header, tensors = _header(image), _tensors(image)
    _check_depth(header)
    _check_tensors(image.network, tensors, image.gain_mode == "exact")
    _check_tables(image)
    header["checksum"] = _checksum(header, tensors)
    data = serialise(tensors, {"agamemnon": json.dumps(header, sort_keys=True)})
    try:
        replace_file(path, data)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror})") from error


def load(path):
    """The NetworkImage in the file ``path``. Raises ImageError with one line."""
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: no such image; make one with python sw/export.py")
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > LARGEST:
                raise ValueError(f"a header of {size} bytes, at most {LARGEST} can be")
            header = file.read(size)
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            # The names first: a tensor of an unknown type fails only when it is read.
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        # Of two entries of one name the library took the last.
        json.loads(header, object_pairs_hook=_once)
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise ImageError(
            f"{path}: damaged or no network image ({_one_line(error)}); {REMEDY}"
        ) from error
    try:
        return _unpack(metadata, tensors)
    except (ImageError, LayerError) as error:
        raise ImageError(f"{path}: {_one_line(error)}") from error


def _one_line(error):
    """The message of an error, which may quote a stranger's file."""
    text = "".join(one if one.isprintable() else "?" for one in str(error).strip())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _once(pairs):
    """Of JSON: a dict. ValueError where a key stands twice: which one counts is anyone's guess."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _check_depth(value, room=DEEPEST):
    """ImageError where lists and dicts are nested so deeply that walking them could fail."""
    if isinstance(value, (dict, list)):
        if not room:
            raise ImageError(f"metadata is nested more than {DEEPEST} deep; {REMEDY}")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, room - 1)


def _unpack(metadata, tensors):
    try:
        header = json.loads(metadata["agamemnon"], object_pairs_hook=_once)
        form, version = header["format"], header.get("version")
        checksum = header.pop("checksum", None)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise ImageError(f"not a network image; {REMEDY}") from error
    _check_depth(header)
    if form != FORMAT:
        raise ImageError(f"not a network image but {str(form)[:40]!r}; {REMEDY}")
    if version != VERSION:
        raise ImageError(f"image of version {version!r}, this release reads {VERSION}; {REMEDY}")
    if checksum != _checksum(header, tensors):
        raise ImageError(f"damaged: the checksum does not match; copy it anew or {REMEDY}")
    network, info = _network(header.get("network")), header.get("info")
    if not isinstance(info, dict) or set(metadata) != {"agamemnon"}:
        raise ImageError(f"unexpected metadata; {REMEDY}")
    exact = any(".agmm." in name for name in tensors)
    _check_tensors(network, tensors, exact)
    layers = tuple(_layer(network, index, tensors) for index in range(len(network.layers)))
    image = NetworkImage(network, layers, info)
    _check_tables(image)
    # Nothing was left out, filled in or taken for something else.
    if _text(_header(image)) != _text(header):
        raise ImageError(f"unexpected metadata; {REMEDY}")
    return image


def _network(data):
    """The network of a header. LayerError or ImageError on anything that no export writes."""
    network = Network.from_dict(data)
    parts = (network.input, *network.layers)
    numbers = [number for part in parts for number in vars(part).values()]
    # More and larger ones than any hardware's would only make the checks below slow.
    if len(network.layers) > MOST_LAYERS:
        raise ImageError(f"{len(network.layers)} layers, at most {MOST_LAYERS} can run; {REMEDY}")
    if max(numbers) > 4096:
        raise ImageError(f"sizes of the network must be integers from 1 to 4096; {REMEDY}")
    _check_network(network)
    return network


def _check_network(network):
    if network.trained_only or network != network.plain:
        raise ImageError(f"a network that cannot be exported; {REMEDY}")


def _header(image):
    return {
        "format": FORMAT, "version": VERSION, "network": image.network.to_dict(),
        "info": image.info,
    }


def _text(header):
    """One text for equal headers."""
    try:
        return json.dumps(header, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ImageError(f"metadata is no plain JSON: {error}") from error


def _checksum(header, tensors):
    digest = hashlib.sha256(_text(header).encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensors[name].shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _fields(network, index, exact):
    """Stored type and shape of every tensor of a layer, by field name."""
    layer, shape, T = network.layers[index], network.shapes[index], (network.T,)
    if network.coded and index == 0:
        return {}
    channels = (layer.channels,)
    common = {"bias": ("i4", channels), "scale": ("f4", channels), "shift": ("f4", channels)}
    if isinstance(layer, Readout):
        return common | {"weights": ("i1", (layer.channels, shape.size))}
    kernel = (layer.channels, shape.channels, layer.kernel, layer.kernel)
    if network.is_streamed(index):
        common |= {"slope": ("u4", channels)}
    else:
        common |= {"threshold": ("u2", channels)}
    if not isinstance(layer, Conv):
        return common | {"weights": ("i1", kernel), "gain": ("u2", T)}
    common |= {"weights": ("u1", (-(-prod(kernel) // 8),))}
    if projects(layer):
        common |= {
            "projection.weights": ("i1", (layer.channels, shape.channels)),
            "projection.bias": ("i4", channels), "projection.slope": ("u4", channels),
            "projection.scale": ("f4", channels), "projection.shift": ("f4", channels),
        }
    if not network.has_agmm(index):
        return common | {"gain": ("u2", T)}
    common |= {"alpha": ("f4", T)}
    if not exact:
        return common | {"gain": ("u2", T)}
    classes = (
        Axis.of(size, layer.kernel, layer.stride, layer.padding).classes
        for size in (shape.height, shape.width)
    )
    return common | {
        "agmm.weights": ("u1", channels), "agmm.table": ("i2", (shape.channels, *classes)),
        "agmm.offset": ("i4", ()), "agmm.shift": ("u1", ()), "agmm.factor": ("i2", T),
    }


def _check_tensors(network, tensors, exact):
    """ImageError unless ``tensors`` are exactly those of ``network``, each with legal values."""
    if exact and network.neuron != "agmm":
        raise ImageError(f"AGMM tensors in a {network.neuron} network; {REMEDY}")
    expected = {
        f"layers.{index}.{name}": kind
        for index in range(len(network.layers))
        for name, kind in _fields(network, index, exact).items()
    } | ({"sigmoid": SIGMOID} if exact else {})
    if odd := sorted(set(expected) ^ set(tensors)):
        state = "missing" if odd[0] in expected else "unexpected"
        raise ImageError(f"{state} tensor {odd[0]}; {REMEDY}")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != np.dtype(dtype) or tensor.shape != shape:
            raise ImageError(
                f"{name} is {tensor.dtype}{list(tensor.shape)}, the network needs"
                f" {np.dtype(dtype)}{list(shape)}; {REMEDY}"
            )
        field_name = name.split(".", 2)[-1]
        if dtype == "f4" and not np.isfinite(tensor).all():
            raise ImageError(f"{name} holds numbers that are not finite; {REMEDY}")
        if field_name == "gain" and tensor.max() > GAIN_ONE:
            raise ImageError(f"{name} exceeds {GAIN_ONE}; {REMEDY}")
        if name == "layers.0.gain" and tensor.min() != GAIN_ONE:
            raise ImageError(f"{name} is not {GAIN_ONE}, a stem has no gain; {REMEDY}")
        if field_name == "agmm.shift" and int(tensor) not in MEAN_SHIFTS:
            raise ImageError(f"{name} is none of {MEAN_SHIFTS}; {REMEDY}")


def _check_tables(image):
    """ImageError unless the AGMM's tables are of the weights: the means would be others."""
    for index, data in enumerate(image.layers):
        if data.agmm is not None:
            layer, shape = image.network.layers[index], image.network.shapes[index]
            table = position_table(layer, shape, data.weights, data.agmm.weights)
            if not np.array_equal(table, data.agmm.table):
                raise ImageError(f"layers.{index}.agmm.table is not of these weights; {REMEDY}")


def _tensors(image):
    """The stored form of an image. ImageError where a value does not fit its stored type."""
    network, tensors = image.network, {}
    if len(image.layers) != len(network.layers):
        raise ImageError(f"{len(image.layers)} layers for a network of {len(network.layers)}")
    for index, data in enumerate(image.layers):
        for name, (dtype, _) in _fields(network, index, image.gain_mode == "exact").items():
            part, _, key = name.rpartition(".")
            owner = getattr(data, part) if part else data
            value = getattr(owner, key, None)
            where = f"{network.layer_name(index)}: {name}"
            if value is None:
                raise ImageError(f"{where} is missing")
            if key == "weights" and isinstance(network.layers[index], Conv) and owner is data:
                value = np.packbits(value, bitorder="little")
            value = np.asarray(value)
            stored = value.astype(dtype)
            if dtype != "f4" and not np.array_equal(stored, value):
                raise ImageError(f"{where} does not fit {np.dtype(dtype)}")
            tensors[f"layers.{index}.{name}"] = stored
    tables = [data.agmm.sigmoid for data in image.layers if data.agmm is not None]
    if tables:
        if any(not np.array_equal(table, tables[0]) for table in tables):
            raise ImageError("the layers' sigmoid tables differ, an image holds one")
        tensors["sigmoid"] = tables[0].astype(SIGMOID[0])
        if not np.array_equal(tensors["sigmoid"], tables[0]):
            raise ImageError(f"the sigmoid table does not fit {np.dtype(SIGMOID[0])}")
    return tensors


def _layer(network, index, tensors):
    """The LayerImage of checked tensors: integers as int64, weights unpacked."""
    def get(name):
        tensor = tensors.get(f"layers.{index}.{name}")
        integers = tensor is not None and name != "weights" and tensor.dtype.kind in "iu"
        return tensor.astype(np.int64) if integers else tensor

    layer, weights, agmm, projection = network.layers[index], get("weights"), None, None
    if isinstance(layer, Conv):
        shape = (layer.channels, network.shapes[index].channels, layer.kernel, layer.kernel)
        bits = np.unpackbits(weights, bitorder="little").astype(bool)
        weights, rest = bits[: prod(shape)].reshape(shape), bits[prod(shape) :]
        if rest.any():
            raise ImageError(f"layers.{index}.weights has bits behind the last weight; {REMEDY}")
    if get("agmm.weights") is not None:
        agmm = Agmm(
            get("agmm.weights"), get("agmm.table"), int(get("agmm.offset")),
            int(get("agmm.shift")), get("agmm.factor"), tensors["sigmoid"].astype(np.int64),
        )
    if get("projection.weights") is not None:
        names = ("weights", "bias", "slope", "scale", "shift")
        projection = Projection(*(get(f"projection.{name}") for name in names))
    return LayerImage(
        weights, get("bias"), get("threshold"), get("gain"), agmm,
        get("scale"), get("shift"), get("alpha"), get("slope"),
        projection,
    )
