"""The network image: round trip, and one clear line for every file that is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from sw import image as module
from sw.checkpoint import save_checkpoint
from sw.image import ImageError, load, save
from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.support import random_image, random_model

NETWORK = Network(
    "tiny", Shape(1, 6, 5), [Stem(3), Conv(5, pool=2), Conv(4, kernel=1), Readout(3)], T=3
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "tiny.bsnn"
    save(random_image(NETWORK), path)
    return path


def same(a, b):
    """Equality of two values that may be arrays, dataclasses or None."""
    if hasattr(a, "__dataclass_fields__") and not isinstance(a, Network):
        return all(same(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple) and a and hasattr(a[0], "__dataclass_fields__"):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    "neuron, gain, mode",
    [("agmm", "exact", "exact"), ("agmm", "frozen", "frozen"), ("vanilla", "exact", "none")],
)
def test_round_trip(tmp_path, neuron, gain, mode):
    image = random_image(NETWORK.replace(neuron=neuron), gain=gain)
    save(image, tmp_path / "a.bsnn")
    again = load(tmp_path / "a.bsnn")
    assert same(again, image)
    assert again.checksum == image.checksum
    assert again.gain_mode == image.gain_mode == mode
    assert [file.name for file in tmp_path.iterdir()] == ["a.bsnn"]


def test_checksum_covers_every_field():
    image = random_image(NETWORK)
    data = image.layers[1]
    checksums = {image.checksum, replace(image, info={"seed": 1}).checksum}
    changes = [
        replace(data, weights=data.weights ^ (np.arange(data.weights.size) == 7).reshape(
            data.weights.shape)),
        replace(data, bias=data.bias + 1), replace(data, threshold=data.threshold + 1),
        replace(data, scale=data.scale * 2), replace(data, alpha=-data.alpha),
        replace(data, agmm=replace(data.agmm, offset=data.agmm.offset + 1)),
        replace(data, agmm=replace(data.agmm, table=data.agmm.table + 1)),
    ]
    for change in changes:
        layers = (image.layers[0], change, *image.layers[2:])
        checksums.add(replace(image, layers=layers).checksum)
    assert len(checksums) == len(changes) + 2


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"none\.bsnn: no such image; make one with"):
        load(tmp_path / "none.bsnn")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_truncated(path, tmp_path_factory, data):
    raw = path.read_bytes()
    broken = tmp_path_factory.getbasetemp() / "short.bsnn"
    broken.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(ImageError) as caught:
        load(broken)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_flipped_byte(path, tmp_path_factory, data):
    raw = bytearray(path.read_bytes())
    where, mask = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 255))
    raw[where] ^= mask
    broken = tmp_path_factory.getbasetemp() / "flipped.bsnn"
    broken.write_bytes(raw)
    try:
        again = load(broken)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        # White space between header and tensors may change without changing anything.
        assert same(again, load(path))


def rewrite(path, target, header=None, checksum=True, **tensors):
    """A copy of an image with some header entries and tensors changed (None drops a tensor)."""
    with safe_open(path, framework="np") as file:
        old = json.loads(file.metadata()["agamemnon"])
        content = {name: file.get_tensor(name) for name in list(file.keys())}
    content |= {
        name if name == "sigmoid" else f"layers.{name.replace('__', '.')}": value
        for name, value in tensors.items()
    }
    content = {name: value for name, value in content.items() if value is not None}
    old |= header or {}
    if checksum:
        old.pop("checksum")
        old["checksum"] = module._checksum(old, content)
    save_file(content, target, {"agamemnon": json.dumps(old)})
    return target


def refusal(path):
    with pytest.raises(ImageError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_version(path, tmp_path):
    target = rewrite(path, tmp_path / "v.bsnn", {"version": 1})
    assert "image of version 1, this release reads 2; export it again" in refusal(target)


def test_other_safetensors(path, tmp_path):
    save_file({"w": np.zeros(3)}, tmp_path / "other.safetensors")
    assert "not a network image" in refusal(tmp_path / "other.safetensors")
    save_checkpoint(tmp_path / "checkpoint.safetensors", random_model(NETWORK))
    assert "'agamemnon checkpoint 1'; export it" in refusal(tmp_path / "checkpoint.safetensors")
    (tmp_path / "text").write_text("not at all")
    assert "damaged or no network image" in refusal(tmp_path / "text")


def test_wrong_checksum(path, tmp_path):
    target = rewrite(path, tmp_path / "c.bsnn", {"info": {"seed": 9}}, checksum=False)
    assert "the checksum does not match" in refusal(target)


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({"1__bias": None}, "missing tensor layers.1.bias"),
        ({"9__bias": np.zeros(2, np.int32)}, "unexpected tensor layers.9.bias"),
        ({"1__bias": np.zeros(4, np.int32)}, r"layers.1.bias is int32[4], the network needs"),
        ({"1__bias": np.zeros(5, np.int64)}, r"layers.1.bias is int64[5]"),
        ({"1__weights": np.zeros(3, np.uint8)}, "layers.1.weights is uint8[3]"),
        ({"0__gain": np.full(3, 257, np.uint16)}, "layers.0.gain exceeds 256"),
        ({"0__gain": np.array([256, 255, 256], np.uint16)}, "layers.0.gain is not 256"),
        ({"1__agmm__shift": np.array(5, np.uint8)}, "layers.1.agmm.shift is none of"),
        ({"1__scale": np.full(5, np.nan, np.float32)}, "not finite"),
        ({"1__agmm__table": np.zeros((3, 3, 2), np.int16)}, "layers.1.agmm.table is int16"),
        ({"2__agmm__factor": None}, "missing tensor layers.2.agmm.factor"),
        ({"sigmoid": None}, "missing tensor sigmoid"),
        ({"sigmoid": np.zeros(511, np.uint8)}, "sigmoid is uint8[511], the network needs"),
    ],
)
def test_tensors_that_do_not_belong(path, tmp_path, tensors, message):
    """A right checksum does not make a right image."""
    assert same(load(rewrite(path, tmp_path / "same.bsnn")), load(path))
    assert message in refusal(rewrite(path, tmp_path / "t.bsnn", **tensors))


@pytest.mark.parametrize(
    "change",
    [{"T": 40}, {"T": True}, {"T": "3"}, {"neuron": "fp"}, {"input": {"channels": 10**12}},
     {"input": {"channels": 10**12, "height": 6, "width": 5}}, {"extra": 1}, {"layers": []},
     {"v_threshold": 0}, {"v_threshold": "1"}, {"beta": None}, {"name": 3}, {"T": 2}],
)
def test_networks_that_cannot_be(path, tmp_path, change):
    network = NETWORK.to_dict() | change
    refusal(rewrite(path, tmp_path / "n.bsnn", {"network": network}))


@pytest.mark.parametrize("change", [{"network": None}, {"info": []}, {"more": 1}, {"format": {}}])
def test_headers_that_cannot_be(path, tmp_path, change):
    refusal(rewrite(path, tmp_path / "h.bsnn", change))


def test_nothing_is_overwritten_on_failure(tmp_path):
    image, target = random_image(NETWORK), tmp_path / "kept.bsnn"
    save(image, target)
    before = target.read_bytes()
    data = image.layers[1]
    for bad in (
        replace(data, bias=data.bias + 2**40), replace(data, threshold=-data.threshold),
        replace(data, bias=data.bias[:2]), replace(data, agmm=None),
        replace(data, agmm=replace(data.agmm, table=data.agmm.table + 2**15)),
        replace(data, shift=None),
        replace(data, agmm=replace(data.agmm, sigmoid=data.agmm.sigmoid[::-1])),
    ):
        layers = (image.layers[0], bad, *image.layers[2:])
        with pytest.raises(ImageError):
            save(replace(image, layers=layers), target)
    wide = [
        replace(layer, agmm=layer.agmm and replace(layer.agmm, sigmoid=layer.agmm.sigmoid + 200))
        for layer in image.layers
    ]
    with pytest.raises(ImageError, match="sigmoid table does not fit uint8"):
        save(replace(image, layers=wide), target)
    with pytest.raises(ImageError):
        save(replace(image, info={"x": object()}), target)
    assert target.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["kept.bsnn"]
    with pytest.raises(ImageError, match="cannot be written"):
        save(image, tmp_path / "no" / "such" / "folder.bsnn")


def with_text(path, target, inner=None, outer=None):
    """A copy of an image with the text of its header, or of that of safetensors, changed."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = raw[8:end].decode()
    if inner:
        text = json.loads(header)["__metadata__"]["agamemnon"]
        header = header.replace(json.dumps(text), json.dumps(inner(text)))
    header = (outer(header) if outer else header).encode()
    target.write_bytes(len(header).to_bytes(8, "little") + header + raw[end:])
    return target


def test_a_key_that_stands_twice(path, tmp_path):
    """The last counts for the checksum; a reader of the file may see the first."""
    same_text = with_text(path, tmp_path / "same.bsnn", lambda text: text, lambda text: text)
    assert same(load(same_text), load(path))
    twice = with_text(
        path, tmp_path / "a.bsnn", lambda text: text.replace('"T": 3', '"T": 2, "T": 3')
    )
    assert "not a network image" in refusal(twice)
    for key in ('"agamemnon":', '"layers.0.bias":'):
        header = path.read_bytes()[8:].partition(b"\0")[0].decode(errors="ignore")
        value = '"x",' if key == '"agamemnon":' else (
            header.partition(key)[2].partition("}")[0] + "},"
        )
        twice = with_text(
            path, tmp_path / "b.bsnn",
            outer=lambda text, key=key, value=value: text.replace(key, f"{key}{value}{key}", 1),
        )
        assert "a key stands twice" in refusal(twice)


@pytest.mark.parametrize("depth", [31, 400, 960, 985, 100_000])
def test_a_header_nested_deeply(path, tmp_path, depth):
    """Near Python's limit, what can be read cannot be written or shown in a message."""
    text = f'"info": {{"deep": {"[" * depth}{"]" * depth}, '
    target = with_text(
        path, tmp_path / "deep.bsnn", lambda old: old.replace('"info": {', text, 1)
    )
    message = refusal(target)
    assert "nested more than 32 deep" in message or "not a network image" in message
    fits = json.loads("[" * 29 + "]" * 29)
    assert load(rewrite(path, tmp_path / "f.bsnn", {"info": {"deep": fits}})).info["deep"] == fits
    with pytest.raises(ImageError, match="nested more than 32 deep"):
        save(replace(load(path), info={"deep": [fits, [[fits]]]}), tmp_path / "s.bsnn")


def without(network, key):
    return {name: value for name, value in network.items() if name != key}


@pytest.mark.parametrize("network", [
    "abc", [["name", "x"]], {**NETWORK.to_dict(), "layers": "abc"},
    # What Python would fill in or take for the same.
    list(NETWORK.to_dict().items()), without(NETWORK.to_dict(), "beta"),
    {**NETWORK.to_dict(), "tau": False}, {**NETWORK.to_dict(), "v_threshold": 10**400},
    {**NETWORK.to_dict(), "name": "two\nlines"}, {**NETWORK.to_dict(), "name": "y" * 101},
    {**NETWORK.to_dict(), "name": "\ud800"}, {**NETWORK.to_dict(), "two\nlines": 1},
    {**NETWORK.to_dict(), "neuron": "y" * 10**6}, {**NETWORK.to_dict(), "neuron": "\x1b[2J"},
])
def test_descriptions_that_no_export_writes(path, tmp_path, network):
    message = refusal(rewrite(path, tmp_path / "n.bsnn", {"network": network}))
    assert message.isprintable() and len(message) < 500


def test_too_many_layers(path, tmp_path):
    network = NETWORK.to_dict()
    network["layers"][2:2] = [network["layers"][2]] * 20_000
    message = refusal(rewrite(path, tmp_path / "n.bsnn", {"network": network}))
    assert "20004 layers, at most 255 can run" in message


def test_a_header_too_large(path, tmp_path):
    """Lists in lists, megabytes of them, took many seconds."""
    info = {"lists": ["x" * 100] * 50_000}
    message = refusal(rewrite(path, tmp_path / "h.bsnn", {"info": info}))
    assert "a header of 5" in message and "bytes, at most 4194304 can be" in message
    info["lists"] = info["lists"][::2]
    assert load(rewrite(path, tmp_path / "f.bsnn", {"info": info})).info == info


def test_nothing_is_taken_for_something_else(path, tmp_path):
    assert "unexpected metadata" in refusal(rewrite(path, tmp_path / "v.bsnn", {"version": 2.0}))
    with safe_open(path, framework="np") as file:
        content = {name: file.get_tensor(name) for name in list(file.keys())}
        save_file(content, tmp_path / "m.bsnn", {**file.metadata(), "more": "unsigned"})
    assert "unexpected metadata" in refusal(tmp_path / "m.bsnn")


def test_bits_behind_the_last_weight(path, tmp_path):
    with safe_open(path, framework="np") as file:
        weights = file.get_tensor("layers.1.weights")
    weights[-1] |= 128
    target = rewrite(path, tmp_path / "w.bsnn", **{"1__weights": weights})
    assert "layers.1.weights has bits behind the last weight" in refusal(target)


def test_a_table_of_other_weights(path, tmp_path):
    """The golden model sums up weights, the hardware the table: they would differ."""
    with safe_open(path, framework="np") as file:
        table = file.get_tensor("layers.1.agmm.table")
    table[0, 0, 0] += 1
    target = rewrite(path, tmp_path / "t.bsnn", **{"1__agmm__table": table})
    assert "layers.1.agmm.table is not of these weights" in refusal(target)
    image = load(path)
    agmm = replace(image.layers[1].agmm, table=table.astype(np.int64))
    layers = (image.layers[0], replace(image.layers[1], agmm=agmm), *image.layers[2:])
    with pytest.raises(ImageError, match="not of these weights"):
        save(replace(image, layers=layers), tmp_path / "s.bsnn")
