"""The golden model against plain Python loops, and against the network it was exported from."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from sw.bounds import position_table
from sw.golden import IntegerNetwork, float_network, main
from sw.image import ImageError, save
from sw.layers import Conv, Network, Readout, ResidualConv, Shape, Stem
from sw.networks import digits
from sw.positions import Axis
from tests.support import random_frames, random_image, random_model

TINY = Network(
    "tiny", Shape(2, 9, 8),
    [Stem(4, pool=2), Conv(5), Conv(6, kernel=5, stride=2), Conv(3, kernel=1), Readout(3)],
    T=3, tau=0.75,
)
POOLED = Network(
    "pooled", Shape(1, 7, 9), [Stem(3, kernel=5, stride=2), Conv(4, pool=2), Readout(2)], T=2
)


def convolve(layer, weights, pixels):
    """Sums of one frame, in loops: pixels [c][y][x] of int, weights [o][c][ky][kx] of int."""
    height, width = len(pixels[0]), len(pixels[0][0])
    out_height, out_width = (
        (side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in (height, width)
    )
    result = np.zeros((len(weights), out_height, out_width), int)
    for o, y, x in np.ndindex(result.shape):
        for c, ky, kx in product(range(len(pixels)), *[range(layer.kernel)] * 2):
            row = y * layer.stride + ky - layer.padding
            column = x * layer.stride + kx - layer.padding
            if 0 <= row < height and 0 <= column < width:
                result[o, y, x] += int(weights[o][c][ky][kx]) * int(pixels[c][row][column])
    return result


def sigmoid(index):
    return min(255, round(256 / (1 + np.exp(-(index + 0.5) / 32))))


def table_sum(layer, table, spikes):
    """Sum of the position table over the spikes [C, H, W]."""
    rows, columns = (
        Axis.of(size, layer.kernel, layer.stride, layer.padding) for size in spikes.shape[1:]
    )
    return sum(
        int(table[c, rows.class_of(y), columns.class_of(x)]) for c, y, x in np.argwhere(spikes)
    )


def saturated(value):
    return np.minimum(np.maximum(value, -32768), 32767)


def around(layer, stream, projection):
    """What is added to a step of a ResidualConv: the stream [c][y][x] before it."""
    side = layer.stride
    if projection is not None:
        sums = convolve(Conv(1, 1, side), projection.weights[..., None, None], stream)
        slope, bias = projection.slope[:, None, None], projection.bias[:, None, None]
        return saturated((saturated(sums // 64) * slope + 1024) // 2048 + bias)
    result = np.zeros((layer.channels, *(size // side for size in stream.shape[1:])), int)
    for c, y, x in np.ndindex(len(stream), *result.shape[1:]):
        square = stream[c, y * side : (y + 1) * side, x * side : (x + 1) * side]
        result[c, y, x] = square.sum() if side == 1 else (square.sum() + 2) // 4
    return result


def reference(image, frame):
    """By layer (spikes, means, gains, stream), and logits of a frame: sw.formats' rules in prose.

    The mean comes from the position table here, in the golden model from the sums; which layers
    have a stream, from the description.
    """
    network, found, signal, before = image.network, [], None, None
    if network.coded:
        levels = network.layers[0].levels
        spikes = np.concatenate([frame > 255 * n // (levels + 1) for n in range(1, levels + 1)])
        signal = np.stack([spikes.astype(int)] * network.T)
        found.append((signal, None, None, None))
    for index in range(network.coded, len(network.layers) - 1):
        layer, data = network.layers[index], image.layers[index]
        streamed = isinstance(layer, ResidualConv) or isinstance(
            network.layers[index + 1], ResidualConv
        )
        outputs, means, gains, stream, membrane = [], [], [], [], 0
        for t in range(network.T):
            if index == 0:
                current = convolve(layer, data.weights, frame) // 64
            else:
                current = 16 * convolve(layer, np.where(data.weights, 1, -1), signal[t])
            if streamed:
                current = (current * data.slope[:, None, None] + 1024) // 2048
            current = current + data.bias[:, None, None]
            gain = 256 if data.agmm is not None else int(data.gain[t])
            if data.agmm is not None:
                mean = table_sum(layer, data.agmm.table, signal[t]) + data.agmm.offset
                scaled = (mean // 2**data.agmm.shift * int(data.agmm.factor[t])) // 2**15
                gain = sigmoid(max(-256, min(255, scaled)))
                means.append(mean)
            gains.append(gain)
            drive, threshold = (current * gain + 128) // 256, 256
            if streamed:
                if isinstance(layer, ResidualConv):
                    drive = drive + around(layer, before[t], data.projection)
                drive = saturated(drive)
                stream.append(drive)
            else:
                threshold = data.threshold[:, None, None]
            membrane = membrane - membrane // 2**network.leak_shift + drive
            fired = membrane >= threshold
            membrane = np.where(fired, 0, membrane)
            height, width = (side // layer.pool for side in fired.shape[1:])
            fired = fired[:, : height * layer.pool, : width * layer.pool]
            blocks = fired.reshape(layer.channels, height, layer.pool, width, layer.pool)
            outputs.append(blocks.any((2, 4)).astype(int))
        signal, before = np.array(outputs), np.array(stream) if streamed else None
        found.append((signal, means or None, gains, before))
    readout = image.layers[-1]
    # An 8-bit weight w of the readout acts as 2w + 1, and its bias counts twice.
    total = signal.reshape(network.T, -1).sum(0)
    return found, (2 * readout.weights.astype(int) + 1) @ total + 2 * readout.bias


def differences(image, other, frames):
    """What differs between the golden model of ``image`` and the loops on ``other``."""
    logits, boundaries = IntegerNetwork(image)(frames, record=True)
    found = set()
    for n, frame in enumerate(frames.numpy()):
        expected, scores = reference(other, frame)
        for index, (ours, theirs) in enumerate(zip(boundaries, expected, strict=True)):
            for what, wanted in zip(("spikes", "mean", "gain", "stream"), theirs, strict=True):
                got = getattr(ours, what)
                if (got is None) != (wanted is None) or (
                    got is not None and not np.array_equal(got[:, n].numpy(), wanted)
                ):
                    found.add(f"{image.network.layer_name(index)} {what}")
        if not np.array_equal(logits[n].numpy(), scores):
            found.add("logits")
    return found


def changed(image, index, **changes):
    layers = list(image.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(image, layers=tuple(layers))


@pytest.mark.parametrize(
    "network", [TINY, POOLED, TINY.replace(tau=0.0, T=1)], ids=lambda network: network.name
)
@pytest.mark.parametrize("kind", ["exact", "frozen", "vanilla"])
def test_equals_plain_loops_at_every_boundary(network, kind):
    neuron = "vanilla" if kind == "vanilla" else "agmm"
    image = random_image(
        network.replace(neuron=neuron), seed=3, gain="frozen" if kind == "frozen" else "exact"
    )
    frames = random_frames(network, 4, seed=11)
    assert differences(image, image, frames) == set()
    _, boundaries = IntegerNetwork(image)(frames, record=True)
    assert all(0.02 < b.spikes.float().mean() < 0.7 for b in boundaries), "a comparison of nothing"
    assert all(b.spikes.dtype == torch.uint8 for b in boundaries)
    for boundary, shape in zip(boundaries, network.shapes[1:], strict=False):
        assert boundary.spikes.shape == (
            network.T, 4, shape.channels, shape.height, shape.width
        )


def test_a_flipped_weight_bit_is_noticed():
    image, frames = random_image(TINY, seed=3), random_frames(TINY, 2, seed=11)
    weights = image.layers[1].weights.copy()
    weights[2, 1, 1, 1] ^= True
    assert "conv1 mean" in differences(changed(image, 1, weights=weights), image, frames)


def test_a_threshold_off_by_one_is_noticed():
    """Where some membrane meets the threshold exactly, which the search below makes sure of."""
    image, frames = random_image(TINY, seed=3), random_frames(TINY, 60, seed=11)
    golden = IntegerNetwork(image)(frames, record=True)[1][1].spikes
    for channel in range(5):
        threshold = image.layers[1].threshold.copy()
        threshold[channel] += 1
        other = changed(image, 1, threshold=threshold)
        spikes = IntegerNetwork(other)(frames, record=True)[1][1].spikes
        hit = (spikes != golden).any(dim=(0, 2, 3, 4)).nonzero().flatten()
        if len(hit):
            assert "conv1 spikes" in differences(other, image, frames[hit[:1]])
            return
    raise AssertionError("no frame shows the difference")


def test_a_readout_weight_off_by_one_is_noticed():
    image, frames = random_image(TINY, seed=3), random_frames(TINY, 4, seed=11)
    weights = image.layers[-1].weights.copy()
    weights[1] += 1
    assert differences(changed(image, 4, weights=weights), image, frames) == {"logits"}
    bias = image.layers[-1].bias.copy()
    bias[2] += 1
    assert differences(changed(image, 4, bias=bias), image, frames) == {"logits"}


@pytest.mark.parametrize("network", [TINY, POOLED], ids=lambda network: network.name)
def test_logits_are_doubled_and_have_the_number_of_spikes_on_top(network):
    """The same spikes for every class, so the classes are those of the weights as stored."""
    image, frames = random_image(network, seed=3), random_frames(network, 40, seed=11)
    logits, boundaries = IntegerNetwork(image)(frames, record=True)
    spikes, readout = boundaries[-1].spikes, image.layers[-1]
    total = spikes.long().sum(0).flatten(1).numpy()
    assert len(set(total.sum(1))) > 5, "as many spikes in every frame"
    plain = total @ readout.weights.astype(int).T + readout.bias
    assert np.array_equal(logits.numpy(), 2 * plain + total.sum(1)[:, None])
    assert np.array_equal(logits.numpy().argmax(1), plain.argmax(1))


def test_a_wrong_position_table_entry_is_noticed():
    image, frames = random_image(TINY, seed=3), random_frames(TINY, 2, seed=11)
    agmm = image.layers[1].agmm
    table = agmm.table.copy()
    table[0, 1, 1] += 1
    wrong = changed(image, 1, agmm=replace(agmm, table=table))
    assert "conv1 mean" in differences(image, wrong, frames)


@pytest.mark.parametrize("size", [(6, 7), (5, 5), (2, 3)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pool", [1, 2])
def test_the_mean_is_linear_in_the_input_spikes(size, kernel, stride, pool):
    """Sum of A_c * P_c over all outputs, pooled away or not, equals the table's sum exactly."""
    rng = np.random.default_rng(kernel + 10 * stride)
    for padding in range(kernel // 2 + 1):
        layer, shape = Conv(4, kernel, stride, padding, pool), Shape(3, *size)
        out = layer.conv_shape(shape)
        if min(out.height, out.width) < 1:
            continue
        weights = rng.random((4, 3, kernel, kernel)) < 0.5
        scales = rng.integers(0, 256, 4)
        table = position_table(layer, shape, weights, scales)
        for density in (0.1, 0.5, 1):
            spikes = rng.random((3, *size)) < density
            sums = convolve(layer, np.where(weights, 1, -1), spikes)
            assert (sums.sum((1, 2)) * scales).sum() == table_sum(layer, table, spikes)


@pytest.mark.parametrize("neuron", ["agmm", "vanilla"])
def test_float_network_is_the_one_exported(neuron):
    network = digits().replace(neuron=neuron)
    model, frames = random_model(network), random_frames(network, 32, seed=5)
    with torch.no_grad():
        expected, theirs = model(frames, record=True)
        logits, ours = float_network(random_image(network))(frames, record=True)
    # A current that meets the threshold to the last bit may round to the other side of it.
    assert all((a != b).float().mean() < 1e-3 for a, b in zip(ours, theirs, strict=True))
    same = torch.stack([(a == b).all((0, 2, 3, 4)) for a, b in zip(ours, theirs, strict=True)])
    assert same.all(0).float().mean() > 0.8
    torch.testing.assert_close(logits[:, same.all(0)], expected[:, same.all(0)])


def test_layers_follow_the_float_network():
    """Fed with the float network's spikes, each integer layer fires where the float one does."""
    network = digits()
    frames = random_frames(network, 32, seed=5)
    integer = IntegerNetwork(random_image(network))
    with torch.no_grad():
        _, spikes = random_model(network)(frames, record=True)
    inputs = [frames, *(s.to(torch.uint8) for s in spikes[:-1])]
    for layer, signal, expected in zip(integer.layers, inputs, spikes, strict=False):
        wrong = (layer(signal).spikes != expected).float().mean()
        assert wrong < 0.02
    # Not so with another layer's thresholds.
    integer.layers[1].threshold += 40
    assert (integer.layers[1](inputs[1]).spikes != spikes[1]).float().mean() > 0.05


def test_frames_of_another_shape_or_type_are_refused():
    integer = IntegerNetwork(random_image(TINY))
    for frames in (torch.zeros(1, 1, 9, 8, dtype=torch.uint8), torch.zeros(1, 2, 9, 8)):
        with pytest.raises(ImageError, match=r"tiny takes frames of \(2, 9, 8\) bytes, got"):
            integer(frames)


def test_command_line(tmp_path, capsys):
    path = tmp_path / "digits.bsnn"
    save(random_image(digits()), path)
    assert main(["--model", str(path), "--data", "digits", "--images", "120"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert list(result) == [
        "model", "data", "split", "images", "float_accuracy", "integer_accuracy", "agreement",
        "seconds",
    ]
    assert result["images"] == 120
    assert 0 <= result["integer_accuracy"] <= 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "none.bsnn", "--data", "digits"], "none.bsnn: no such image"),
        (["--model", "MODEL", "--data", "digits"], "tiny takes frames of (2, 9, 8) bytes"),
        (["--model", "MODEL", "--data", "digits", "--images", "0"], "--images must be at least 1"),
    ],
)
def test_command_line_errors(tmp_path, capsys, arguments, message):
    path = tmp_path / "tiny.bsnn"
    save(random_image(TINY), path)
    assert main([str(path) if a == "MODEL" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
