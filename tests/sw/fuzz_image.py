"""Malformed network images: the loader refuses each in one line, or returns what the file says.

Three thousand run with the tests. A million, with a report: python -m tests.sw.fuzz_image
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import multiprocessing
import platform
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from tqdm import tqdm

from sw import bounds, files, formats, image, layers, positions
from sw.bounds import ExportError
from sw.engine import Engine, EngineError
from sw.files import replace_file
from sw.golden import IntegerNetwork
from sw.image import ImageError
from sw.layers import (
    AveragedConv,
    AveragedReadout,
    Conv,
    Events,
    Network,
    Pixels,
    Readout,
    ResidualConv,
    Shape,
    Stem,
)
from sw.positions import Axis
from sw.program import Program, compile_program
from tests.support import random_image

__all__ = ["LOADING", "MUTATIONS", "RESULTS", "main", "run", "sources"]

RESULTS = Path("results/fuzz-image.json")

#: Modules of sw that load an image.
LOADING = (bounds, files, formats, image, layers, positions)

#: Seconds that one case may take, and the memory that it may ask for.
PATIENCE_S, MEMORY = 5, 1 << 30

#: Cases of one piece of work, and failures that a report tells.
PIECE, TOLD = 500, 20

#: All that is in no board's engine at once.
ENGINE = Engine(
    pe=8, simd=32, units=2, lanes=2, passes=8, weight_depth=4096, spike_depth=16384,
    frame_depth=8192, channel_depth=512, mean_depth=4096, stream_depth=32768, layer_depth=16,
)

_GRAY = Shape(1, 6, 5)
_NETWORKS = (
    Network("stem", _GRAY, [Stem(3), Conv(5, pool=2), Conv(4, kernel=1), Readout(3)], T=3),
    Network("plain", _GRAY, [Stem(3, pool=2), Conv(4), Readout(2)], T=1, neuron="vanilla"),
    Network("events", Shape(2, 5, 5), [Events(2), Conv(3), Conv(4, stride=2), Readout(3)], T=5),
    Network("pixels", Shape(3, 4, 4), [Pixels(3), Conv(4), Conv(3), Readout(2)], tau=0.75),
    Network(
        "residual", Shape(1, 6, 6),
        [Stem(3), ResidualConv(3), ResidualConv(6, stride=2), ResidualConv(5, projection=True),
         Readout(2)], T=2,
    ),
    Network("averaged", Shape(1, 8, 8), [Stem(3), AveragedConv(4), AveragedReadout(3)], T=2).plain,
)


def bases():
    """The images that are made into malformed ones, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "base.bsnn")
        found = [Path("models/digits.bsnn").read_bytes()]
        for network in _NETWORKS:
            for gain in ("exact", "frozen")[: 2 if network.uses_agmm else 1]:
                image.save(random_image(network, gain=gain), path)
                found.append(path.read_bytes())
    return found


def sources():
    """Digest of all that loads an image."""
    text = "".join(Path(module.__file__).read_text() for module in LOADING)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# What is done to a file. Tensors are lists [name, dtype, shape, bytes].

_TYPES = {
    "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "F32": "<f4",
}
_ALL_TYPES = (
    *_TYPES, "BOOL", "F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F16", "BF16",
    "F64", "I64", "U64", "C64", "U128", "f32", "", 7, None,
)
_FLOATS = (
    0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, -3.4e38, float("nan"), float("inf"), float("-inf"),
)

#: Stand for text that no JSON writer writes.
_RAW = {
    "@nan": "NaN", "@infinite": "-Infinity", "@large": "1e99999", "@digits": "1" + "0" * 5000,
    "@deep": "[" * 5000 + "]" * 5000, "@nested": '{"a":' * 300 + "1" + "}" * 300,
    "@edge": "[" * 970 + "]" * 970, "@comment": "/* 1 */ 1", "@bare": "x",
}
_STRANGE = (
    None, True, False, 0, 1, 2, 3, -1, 255, 256, 4096, 4097, 65536, 2**31, 2**32, 2**63, 2**64,
    10**9, 10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-300, 1e300, "", "x", "1", "a b",
    "two\nlines", "\x1b[2Jm", "\x00", "\ud800", "\u00e9\u2028", "/", "..", "y" * 300, [], {}, [[]],
    {"a": 1}, [0] * 50, [["name", "x"]], *_RAW,
)


def _strange(rng):
    if rng.random() < 0.1:
        depth = rng.randrange(880, 1010)
        return f"@{depth}"
    return rng.choice(_STRANGE)


def _text(value):
    """JSON, with the raw text of _RAW where its names stand, and "@<n>" for n nested lists."""
    text = json.dumps(value, sort_keys=True)
    for name, raw in _RAW.items():
        text = text.replace(f'"{name}"', raw)
    return re.sub(
        r'"@(\d+)"', lambda match: "[" * int(match[1]) + "]" * int(match[1]), text
    )


def _places(value, found):
    """Every (container, key) inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            _places(inner, found)
    return found


def _mutate_json(rng, value):
    """Changes a value, drops or doubles an entry or adds one, somewhere in a dict or list."""
    container, key = rng.choice(_places(value, []))
    match rng.randrange(6):
        case 0:
            del container[key]
        case 1 if isinstance(container, list):
            container.insert(key, json.loads(json.dumps(rng.choice(container))))
        case 1:
            container[rng.choice(("extra", "kind", "a\nb", "", "T", "\x1b[0m"))] = _strange(rng)
        case 2 if isinstance(container[key], int):
            container[key] += rng.choice((-1, 1))
        case 3:
            other, place = rng.choice(_places(value, []))
            container[key] = json.loads(json.dumps(other[place]))
        case _:
            container[key] = _strange(rng)


def _element(rng, dtype):
    """Bytes of one odd element."""
    size = np.dtype(_TYPES[dtype]).itemsize
    if dtype == "F32" and rng.random() < 0.7:
        return struct.pack("<f", rng.choice(_FLOATS))
    return rng.choice((
        bytes(size), b"\xff" * size, b"\xff" * (size - 1) + b"\x7f", bytes(size - 1) + b"\x80",
        b"\x01" + bytes(size - 1), rng.randbytes(size),
    ))


def change_values(rng, tensors):
    tensor = rng.choice(tensors)
    _, dtype, _, data = tensor
    size = np.dtype(_TYPES[dtype]).itemsize
    octets, place = bytearray(data), size * rng.randrange(len(data) // size)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.choice((1, 2, 8))):
                octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
        case 1:
            octets[place : place + size] = _element(rng, dtype)
        case 2:
            octets = _element(rng, dtype) * (len(octets) // size)
        case 3:
            values = np.frombuffer(data, _TYPES[dtype]).copy()
            rng.shuffle(values)
            octets = values.tobytes()
        case 4:
            octets[place] = (octets[place] + rng.choice((1, 255))) % 256
    tensor[3] = bytes(octets)


def change_tensors(rng, tensors):
    tensor, other = rng.choice(tensors), rng.choice(tensors)
    match rng.randrange(7):
        case 0:
            same = [one for one in tensors if one[1:3] == tensor[1:3]]
            other = rng.choice(same)
            tensor[3], other[3] = other[3], tensor[3]
        case 1:
            tensor[0], other[0] = other[0], tensor[0]
        case 2 if len(tensors) > 1:
            tensors.remove(tensor)
        case 3:
            tensor[0] = rng.choice((
                "", "sigmoid", "layers.0.bias", "layers.00.bias", "layers.9.agmm.table", "x\ny",
                "layers.1.agmm.weights", "layers.-1.bias", "l\u00e4yers", "__metadata__", "\x00",
                tensor[0].upper(), f"{tensor[0]}.", f" {tensor[0]}",
            ))
        case 4:
            tensors.append([f"{tensor[0]}{rng.choice(('2', '.x', ' '))}", *other[1:]])
        case 5:
            tensor[2] = rng.choice((
                [*tensor[2], 1], [1, *tensor[2]], tensor[2][::-1], [len(tensor[3])], [],
                tensor[2][1:], [0, *tensor[2]],
            ))
        case 6:
            tensor[1] = rng.choice(_ALL_TYPES)


#: Values of a network's fields that are, or could be taken for, legal.
_FIELDS = {
    "T": (1, 2, 3, 4, 16, 17, True, 2.0), "tau": (0, 0.0, 0.5, 0.75, 0.875, 1, False, "0.5"),
    "v_threshold": (0.5, 1, 2.0, True, 1e-30, 1e30), "beta": (0.5, 1, 2.0, True),
    "neuron": ("agmm", "vanilla", "fp", "half", "scalar"), "name": ("x", "a b", "\u00e9", "-x"),
    "channels": (1, 2, 3, 4096), "height": (1, 4, 5, 4096), "width": (1, 4, 5, 4096),
    "kernel": (1, 2, 3, 4, 8, True), "stride": (1, 2, True), "padding": (0, 1, 2, None, False),
    "pool": (1, 2, True), "levels": (1, 2, 3, 15), "projection": (True, False, 0, 1),
    "window": (0, 1, 2), "heads": (1, 0), "expansion": (1, 0),
    "kind": (
        "events", "pixels", "stem", "eventstem", "pooledstem", "conv", "averagedconv",
        "residualconv", "transitionconv", "transformer", "readout", "averagedreadout",
    ),
}


def change_description(rng, header):
    network = header["network"]
    stack = network["layers"]
    match rng.randrange(8):
        case 0:
            stack.insert(rng.randrange(len(stack) + 1), dict(rng.choice(stack)))
        case 1 if len(stack) > 1:
            stack.remove(rng.choice(stack))
        case 2:
            rng.shuffle(stack)
        case 3 if rng.random() < 0.2:
            stack[1:1] = [dict(stack[1])] * rng.choice((10, 300, 20_000))
        case _:
            owner = rng.choice((network, network, network["input"], *stack))
            key = rng.choice([*sorted({*owner} & {*_FIELDS}), rng.choice(list(_FIELDS))])
            owner[key] = rng.choice(_FIELDS[key])


def change_text(rng, text):
    """Of a JSON object: an entry twice, an odd value, white space, a character more or less."""
    entries = list(re.finditer(r'("[^"\\]*"): ', text))
    place = rng.randrange(len(text))
    match rng.randrange(5):
        case 0 if entries:
            entry = rng.choice(entries)
            twice = f"{entry[1]}: {_text(_strange(rng))}, "
            text = text[: entry.start()] + twice + text[entry.start() :]
        case 1 if entries:
            end = rng.choice(entries).end()
            text = text[:end] + _text(_strange(rng)) + text[text.find(",", end) :]
        case 2:
            text = rng.choice((" ", "\n", "\ufeff", "[", "")) + text + rng.choice((" ", "x", "]"))
        case 3:
            text = text[:place] + text[place + rng.choice((1, 1, 9)) :]
        case _:
            text = text[:place] + rng.choice('"\\{}[],:0e-\n\x00\u00e9') + text[place:]
    return text


def change_offsets(rng, outer):
    """The header of safetensors: types, shapes and places of the tensors, the metadata."""
    names = [name for name in outer if name != "__metadata__"]
    entry, other = outer[rng.choice(names)], outer[rng.choice(names)]
    match rng.randrange(8):
        case 0:
            entry["dtype"] = rng.choice(_ALL_TYPES)
        case 1:
            entry["shape"] = rng.choice((
                [2**63], [2**64], [-1], [2**32, 2**32], [0, 2**63 - 1], [1] * 70, [10**30], [1.0],
                "3", None, [], [1, *entry["shape"]],
            ))
        case 2:
            entry["data_offsets"] = list(other["data_offsets"])
        case 3:
            start, end = entry["data_offsets"]
            entry["data_offsets"] = rng.choice((
                [start, end + 1], [start + 1, end], [end, start], [start + 2**40, end + 2**40],
                [start, 2**64 - 1], [-1, end], [start], [start, end, end], None, [0, 0],
            ))
        case 4:
            outer["__metadata__"] = rng.choice((
                None, [], {}, {"agamemnon": 1}, {"agamemnon": None}, {"Agamemnon": "{}"},
                {**outer["__metadata__"], "format": "pt"}, {**outer["__metadata__"], "x": 1},
            ))
        case 5:
            entry["data_offsets"], other["data_offsets"] = (
                other["data_offsets"], entry["data_offsets"]
            )
        case _:
            _mutate_json(rng, outer)


def change_bits(rng, raw):
    octets = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 10, 100))):
        octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
    return bytes(octets)


def change_length(rng, raw):
    if rng.random() < 0.6:
        return raw[: rng.choice((rng.randrange(len(raw)), len(raw) - 1, rng.randrange(16)))]
    return raw + rng.choice((b"\0", b" ", rng.randbytes(rng.randrange(1, 200)), raw))


def change_pieces(rng, raw):
    start, other, count = rng.randrange(len(raw)), rng.randrange(len(raw)), rng.randrange(1, 65)
    piece = raw[other : other + count]
    match rng.randrange(5):
        case 0:
            return raw[:start] + piece + raw[start + len(piece) :]
        case 1:
            return raw[:start] + piece + raw[start:]
        case 2:
            return raw[:start] + raw[start + count :]
        case 3:
            filler = rng.choice((b"\0", b"\xff", b" ")) * count
            return raw[:start] + filler + raw[start + count :]
    length = rng.choice((
        0, 1, 2**63, 2**64 - 1, 10**8, 10**8 + 1, len(raw), max(len(raw) - 8, 0),
        rng.randrange(2 * len(raw)),
    ))
    return struct.pack("<Q", length) + raw[8:]


#: Kind of mutation -> what it changes, and how.
MUTATIONS = {
    "values of a tensor": ("tensors", change_values),
    "set of tensors": ("tensors", change_tensors),
    "description of the network": ("inner", change_description),
    "header": ("inner", _mutate_json),
    "text of the header": ("inner text", change_text),
    "header of safetensors": ("outer", change_offsets),
    "text of the header of safetensors": ("outer text", change_text),
    "bits": ("raw", change_bits),
    "length": ("raw", change_length),
    "pieces": ("raw", change_pieces),
}
_WEIGHTS = (20, 12, 16, 12, 10, 14, 4, 5, 5, 2)


def _split(raw):
    """Header of safetensors and the tensors of a file that is whole."""
    start = 8 + struct.unpack_from("<Q", raw)[0]
    outer = json.loads(raw[8:start])
    header = outer.pop("__metadata__")["agamemnon"]
    return header, [
        [name, entry["dtype"], entry["shape"], raw[start + first : start + end]]
        for name, entry in outer.items() for first, end in [entry["data_offsets"]]
    ]


def _join(header, tensors, outer_changes, text_changes):
    """The inverse of ``_split``, with changes to the header of safetensors and to its text."""
    outer, end, data = {"__metadata__": {"agamemnon": header}}, 0, []
    for name, dtype, shape, octets in tensors:
        outer[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(octets)]}
        end += len(octets)
        data.append(octets)
    for change in outer_changes:
        change(outer)
    text = _text(outer)
    for change in text_changes:
        text = change(text)
    octets = text.encode(errors="surrogatepass")
    octets += b" " * (-len(octets) % 8)
    return struct.pack("<Q", len(octets)) + octets + b"".join(data)


def _signed(raw, path):
    """The file with its checksum made right, if there is one to make."""
    path.write_bytes(raw)
    with _Caught(), safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["agamemnon"])
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        old = header.pop("checksum")
        if len(old) == 64:
            return raw.replace(old.encode(), image._checksum(header, tensors).encode())
    return raw


def make(bases, seed, number, path):
    """Case ``number``: its mutations and its bytes."""
    rng = random.Random(f"{seed}/{number}")
    raw = rng.choice(bases)
    kinds = rng.choices(list(MUTATIONS), _WEIGHTS, k=rng.choices((1, 2, 3), (7, 2, 1))[0])
    changes = {stage: [] for stage, _ in MUTATIONS.values()}
    for kind in kinds:
        stage, change = MUTATIONS[kind]
        changes[stage].append(partial(change, rng))
    text, tensors = _split(raw)
    header = json.loads(text)
    for stage, target in (("tensors", tensors), ("inner", header)):
        for change in changes[stage]:
            # Two mutations may meet: what the first has broken the second cannot change.
            with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):
                change(target)
    text = _text(header)
    for change in changes["inner text"]:
        text = change(text)
    try:
        raw = _join(text, tensors, changes["outer"], changes["outer text"])
    except (LookupError, TypeError, AttributeError, ValueError):
        raw = _join(text, tensors, [], [])
    for change in changes["raw"]:
        raw = change(raw) if raw else raw
    return kinds, _signed(raw, path) if rng.random() < 0.85 else raw


# What must come of it.


class _Caught(contextlib.AbstractContextManager):
    """Takes any error for what it is: the outcome. Panics of Rust are no Exception."""

    error = None

    def __exit__(self, kind, error, trace):
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return False
        self.error = error
        return True


class Wrong(AssertionError):
    """What the loader must not do."""


def _once(pairs):
    """Of JSON: a dict, or Wrong where a key stands twice."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise Wrong("loaded with a key that stands twice")
    return dict(pairs)


def _told(raw):
    """The header and the tensors, as (dtype, shape, bytes), that a file tells of, all its bytes."""
    start = 8 + struct.unpack_from("<Q", raw)[0]
    outer = json.loads(raw[8:start], object_pairs_hook=_once)
    more = outer.pop("__metadata__")
    header = json.loads(more.pop("agamemnon"), object_pairs_hook=_once)
    if more:
        raise Wrong("loaded with more metadata")
    tensors, end = {}, start
    for name, entry in sorted(outer.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = (start + n for n in entry["data_offsets"])
        if first != end:
            raise Wrong("loaded with bytes that are no tensor's, or two tensors'")
        dtype, end = np.dtype(_TYPES[entry["dtype"]]), last
        tensors[name] = (dtype.str, tuple(entry["shape"]), raw[first:last])
    if end != len(raw):
        raise Wrong("loaded with bytes behind the last tensor")
    return header, tensors


def _check_told(found, raw):
    """Wrong unless the NetworkImage ``found`` is all that the file says."""
    header, told = _told(raw)
    kept = {
        name: (tensor.dtype.str, tensor.shape, tensor.tobytes())
        for name, tensor in image._tensors(found).items()
    }
    if kept != told:
        odd = sorted(name for name in {*kept, *told} if kept.get(name) != told.get(name))
        raise Wrong(f"{odd[0]} is not what the file says")
    ours = {**image._header(found), "checksum": found.checksum}
    if json.dumps(ours, sort_keys=True) != json.dumps(header, sort_keys=True):
        raise Wrong("the header is not what the file says")


def _check_means(found, golden, boundaries):
    """Wrong unless the golden model's means are the hardware's, from spikes and tables."""
    spikes = None
    for index, (layer, boundary) in enumerate(
        zip(golden.network.layers, boundaries, strict=False)
    ):
        agmm = found.layers[index].agmm
        if agmm is not None:
            shape = golden.network.shapes[index]
            rows, columns = (
                [axis.class_of(place) for place in range(axis.size)] for axis in (
                    Axis.of(size, layer.kernel, layer.stride, layer.padding)
                    for size in (shape.height, shape.width)
                )
            )
            # For every position, then: [C, H, W].
            table = torch.from_numpy(agmm.table[:, rows][:, :, columns])
            mean = (spikes.long() * table).sum((2, 3, 4)) + agmm.offset
            if not torch.equal(mean, boundary.mean):
                raise Wrong(f"the table of layer {index} is not of its weights")
        spikes = boundary.spikes


def _check_image(found, raw, path):
    """What there is to say of an image that was loaded; Wrong if it is not correct."""
    _check_told(found, raw)
    image.save(found, path)
    again = image.load(path)
    if again.checksum != found.checksum:
        raise Wrong("saved and loaded, it is another one")
    with contextlib.suppress(EngineError):
        if not isinstance(compile_program(found, ENGINE), Program):
            raise Wrong("no program")
    try:
        golden = IntegerNetwork(found)
    except ExportError as error:
        if "\n" in str(error):
            raise Wrong("a refusal of several lines") from error
        return "loaded, and refused by the bounds"
    frame = np.random.default_rng(0).integers(0, 256, found.network.frame_shape, np.uint8)
    logits, boundaries = golden(torch.from_numpy(frame)[None], record=True)
    last = len(found.layers) - 1
    low, high = bounds.sum_range(
        found.network.layers[last], found.layers[last].weights, found.network.T
    )
    sums = logits.numpy()[0] - 2 * found.layers[last].bias
    if not ((low <= sums) & (sums <= high)).all():
        raise Wrong("logits beyond their bounds")
    _check_means(found, golden, boundaries)
    return "loaded, and runs"


def _kind(message):
    """An error message without what differs from case to case."""
    message = message.replace(f"; {image.REMEDY}", "")
    message = re.sub(r"; copy it.*|,? got\b.*|fields:.*", "", message)
    message = re.sub(r"(?<=not a network description): .*", "", message)
    message = re.sub(r"^[\w -]+: (?=[a-zT])", "", message)
    message = re.sub(r"""['"`].*['"`]|\[.*\]|\{.*\}""", "...", message)
    message = re.sub(r"tensor .*|layers\.\S+|^.+(?= is u?int\d| is float\d)", "...", message)
    return re.sub(r"-?\d[\d.e+]*|[^ -~]+", "N", message)[:100]


def _late(*_):
    raise Wrong(f"it takes more than {PATIENCE_S} s")


def judge(raw, path):
    """What came of a file: (outcome, None) or ("failure", what is wrong)."""
    path.write_bytes(raw)
    # Of the processor's time: other work on the machine is no hang.
    signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE_S)
    try:
        with _Caught() as caught, warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = image.load(path)
            except ImageError as error:
                told = str(error).removeprefix(f"{path}: ")
                if not told.isprintable() or len(told) > 500 or told == str(error):
                    raise Wrong(f"not one line about the file: {str(error)[:300]!r}") from error
                return _kind(told), None
            return _check_image(found, raw, path), None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "failure", f"{type(caught.error).__name__}: {caught.error}"[:300]


def _limit_memory():
    """What the process has, and MEMORY more."""
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _work(bases, seed, folder, numbers):
    """Counters of mutations and of outcomes, and the failures, of the cases ``numbers``."""
    mutations, outcomes, failures = Counter(), Counter(), []
    # Where no signal is heard, inside a library, or nothing is computed, the worker ends.
    faulthandler.dump_traceback_later(60 + PATIENCE_S * len(numbers), exit=True)
    for number in numbers:
        path = Path(folder, f"{number}.bsnn")
        kinds, raw = make(bases, seed, number, path)
        outcome, wrong = judge(raw, path)
        mutations.update(kinds)
        outcomes[outcome] += 1
        if wrong:
            failures.append({"case": number, "mutations": kinds, "what": wrong})
        # A worker that dies leaves its case behind.
        path.unlink()
    faulthandler.cancel_dump_traceback_later()
    return mutations, outcomes, failures


def run(cases, seed=1, jobs=1, before=None, quiet=True):
    """Yields a report every so often, the last one of all ``cases``. Goes on after ``before``.

    Without jobs, all is done in this process, and no limit of memory holds.
    """
    started = time.monotonic()
    before = before or {"cases": 0, "mutations": {}, "outcomes": {}, "failures": [], "seconds": 0}
    done, failures = before["cases"], list(before["failures"])
    mutations, outcomes = Counter(before["mutations"]), Counter(before["outcomes"])
    pieces = [range(first, min(first + PIECE, cases)) for first in range(done, cases, PIECE)]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        work, spread = partial(_work, bases(), seed, folder), map
        if jobs:
            pool = ProcessPoolExecutor(
                jobs, multiprocessing.get_context("spawn"), _limit_memory
            )
            spread = stack.enter_context(pool).map
        bar = stack.enter_context(
            tqdm(total=cases, initial=done, unit="case", disable=quiet or None)
        )
        results = spread(work, pieces)
        for piece in pieces:
            try:
                found = next(results)
            except BrokenProcessPool:
                left = sorted(path.stem for path in Path(folder).glob("*.bsnn"))
                failures.append({"case": left, "what": "one of them ended the process"})
                found = Counter(), Counter({"failure": 1}), []
                cases = done + len(piece)
            mutations += found[0]
            outcomes += found[1]
            failures += found[2]
            done = piece.stop
            bar.update(len(piece))
            yield {
                "command": f"python -m tests.sw.fuzz_image --cases {cases} --seed {seed}",
                "versions": {
                    "python": platform.python_version(),
                    **{name: metadata.version(name) for name in ("numpy", "safetensors", "torch")},
                },
                "source": sources(), "cases": done, "seed": seed,
                "mutations": dict(sorted(mutations.items())),
                "outcomes": dict(outcomes.most_common()),
                "failures": failures[:TOLD],
                "seconds": round(before["seconds"] + time.monotonic() - started, 1),
            }
            if done == cases:
                return


def _report_before(cases, seed):
    """A report that ``cases`` can go on after, or None."""
    if not RESULTS.exists():
        return None
    report = json.loads(RESULTS.read_text())
    same = report["source"] == sources() and report["seed"] == seed and not report["failures"]
    return report if same and report["cases"] <= cases and report["cases"] % PIECE == 0 else None


def main(argv=None):
    """Exit status 0, or 1 when a case failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.sw.fuzz_image",
        description=f"{__doc__.splitlines()[0]} Writes {RESULTS}, and goes on after what it holds.",
    )
    add = parser.add_argument
    add("--cases", type=int, default=1_000_000, help="default: a million")
    add("--seed", type=int, default=1)
    add("--jobs", type=int, default=2, help="processes (default: 2)")
    add("--case", type=int, metavar="N", help="only this one, and what came of it")
    add("--keep", metavar="FILE.bsnn", help="with --case: where to leave the file")
    args = parser.parse_args(argv)
    if args.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "case.bsnn")
            kinds, raw = make(bases(), args.seed, args.case, path)
            if args.keep:
                Path(args.keep).write_bytes(raw)
            outcome, wrong = judge(raw, path)
        print(f"{', '.join(kinds)}: {wrong or outcome}")
        return 1 if wrong else 0
    written, before = 0.0, _report_before(args.cases, args.seed)
    report = before
    for report in run(args.cases, args.seed, args.jobs, before, quiet=False):
        if report["cases"] == args.cases or time.monotonic() - written > 30:
            replace_file(RESULTS, json.dumps(report, indent=2) + "\n")
            written = time.monotonic()
    for failure in report["failures"]:
        print(f"case {failure['case']}: {failure['what']}")
    loaded = sum(n for name, n in report["outcomes"].items() if name.startswith("loaded"))
    print(
        f"{report['cases']:,} files: {len(report['failures'])} failures; {loaded:,} loaded,"
        f" {len(report['outcomes'])} kinds of outcomes, {report['seconds']:.0f} s"
    )
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
