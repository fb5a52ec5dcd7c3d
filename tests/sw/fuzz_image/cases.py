"""Malformed network images: each is known by its seed and its number."""

import contextlib
import json
import random
import struct
import tempfile
from functools import partial
from pathlib import Path

from safetensors import safe_open

from sw import image
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
from tests.support import random_image
from tests.sw.fuzz_image.mutations import MUTATIONS, WEIGHTS, text_of

__all__ = ["Caught", "bases", "make"]

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


class Caught(contextlib.AbstractContextManager):
    """Takes any error for what it is: the outcome. Panics of Rust are no Exception."""

    error = None

    def __exit__(self, kind, error, trace):
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return False
        self.error = error
        return True


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
    text = text_of(outer)
    for change in text_changes:
        text = change(text)
    octets = text.encode(errors="surrogatepass")
    octets += b" " * (-len(octets) % 8)
    return struct.pack("<Q", len(octets)) + octets + b"".join(data)


def _signed(raw, path):
    """The file with its checksum made right, if there is one to make."""
    path.write_bytes(raw)
    with Caught(), safe_open(path, framework="np") as file:
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
    kinds = rng.choices(list(MUTATIONS), WEIGHTS, k=rng.choices((1, 2, 3), (7, 2, 1))[0])
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
    text = text_of(header)
    for change in changes["inner text"]:
        text = change(text)
    try:
        raw = _join(text, tensors, changes["outer"], changes["outer text"])
    except (LookupError, TypeError, AttributeError, ValueError):
        raw = _join(text, tensors, [], [])
    for change in changes["raw"]:
        raw = change(raw) if raw else raw
    return kinds, _signed(raw, path) if rng.random() < 0.85 else raw
