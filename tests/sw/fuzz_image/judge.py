"""What must come of a malformed image: a refusal in one line, or what the file says."""

import contextlib
import json
import re
import signal
import struct
import warnings

import numpy as np
import torch

from sw import bounds, image
from sw.bounds import ExportError
from sw.engine import Engine, EngineError
from sw.golden import IntegerNetwork
from sw.image import ImageError
from sw.positions import Axis
from sw.program import Program, compile_program
from tests.sw.fuzz_image.cases import Caught
from tests.sw.fuzz_image.mutations import TYPES

__all__ = ["PATIENCE_S", "judge"]

#: Seconds of the processor that one case may take.
PATIENCE_S = 5

#: All that is in no board's engine at once.
ENGINE = Engine(
    pe=8, simd=32, units=2, lanes=2, passes=8, weight_depth=4096, spike_depth=16384,
    frame_depth=8192, channel_depth=512, mean_depth=4096, stream_depth=32768, layer_depth=16,
)


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
        dtype, end = np.dtype(TYPES[entry["dtype"]]), last
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
        with Caught() as caught, warnings.catch_warnings():
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
