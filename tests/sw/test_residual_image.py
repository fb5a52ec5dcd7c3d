"""Networks with shortcuts: export and files."""

import numpy as np
import pytest
import torch

from sw.golden import IntegerNetwork
from sw.image import ImageError, load, save
from tests.support import random_frames, random_image, random_model
from tests.sw.residual import NETWORK, NETWORKS, PROJECTED, PROJECTIONS, SEED, remade
from tests.sw.test_golden import changed
from tests.sw.test_image import rewrite, same


def test_export_puts_the_threshold_at_one_whole():
    """A slope is the current's unit and a bias the shift, in 1/256 of the firing threshold."""
    network = NETWORK.replace(neuron="vanilla", v_threshold=0.5)
    image = random_image(network, SEED)
    for index, data in enumerate(image.layers[:4]):
        assert data.threshold is None
        # A unit of the stem is 64 pixels times weights, of a convolution 1/16 spike.
        unit, half = (64, 63 / 128) if index == 0 else (1 / 16, 0)
        real = data.scale.astype(float) * unit
        assert np.abs(data.slope - real * 512 * 2048).max() <= 1
        assert np.abs(data.bias - (data.shift + half * real) * 512).max() <= 0.51
    assert image.layers[4].slope is None and image.layers[4].threshold is not None


def test_export_of_projections_by_hand():
    """From stream to stream the threshold cancels; a bias is in 1/256 of it."""
    network = PROJECTED.replace(neuron="vanilla", v_threshold=0.5)
    model, image = random_model(network, SEED), random_image(network, SEED)
    assert [index for index, data in enumerate(image.layers) if data.projection] == [1, 2, 4]
    for index in PROJECTIONS:
        part, shortcut = image.layers[index].projection, model.layers[index].shortcut
        weight, mean, var, gain, shift = (
            value.detach().double().numpy() for value in (
                shortcut.conv.weight[..., 0, 0], shortcut.norm.running_mean,
                shortcut.norm.running_var, shortcut.norm.weight, shortcut.norm.bias,
            )
        )
        assert (gain < 0).any() and (part.slope > 0).all()
        # A negative gain is one of the opposite weights.
        unit = np.abs(weight).max(1) / 127
        whole = np.rint(weight / unit[:, None]) * np.sign(gain)[:, None]
        assert part.weights.dtype == np.int64 and np.abs(part.weights - whole).max() <= 1
        assert (part.weights != whole).mean() < 0.1
        gain = gain / np.sqrt(var + shortcut.norm.eps)
        assert np.allclose(part.scale, np.abs(gain) * unit, rtol=1e-5)
        assert np.abs(part.slope - np.abs(gain) * unit * 64 * 2048).max() <= 1
        shift = shift - mean * gain
        assert np.allclose(part.shift, shift, atol=1e-5)
        # 63/128 of a unit is what the shift by 6 bits takes away on average.
        bias = shift * 512 + 63 / 128 * 64 * np.abs(gain) * unit
        assert np.abs(part.bias - bias).max() <= 0.51


@pytest.mark.parametrize("gain", ["exact", "frozen"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_survives_its_file(tmp_path, name, gain):
    image = random_image(NETWORKS[name], SEED, gain)
    save(image, tmp_path / "a.bsnn")
    loaded = load(tmp_path / "a.bsnn")
    assert same(loaded, image) and loaded.checksum == image.checksum
    frames = random_frames(image.network, 3)
    assert torch.equal(IntegerNetwork(loaded)(frames), IntegerNetwork(image)(frames))
    other = changed(image, 2, slope=image.layers[2].slope + 1)
    assert other.checksum != image.checksum


@pytest.mark.parametrize("tensors, message", [
    (dict(slope=None), "missing tensor layers.1.slope"),
    (dict(threshold=np.ones(4, "u2")), "unexpected tensor layers.1.threshold"),
    (dict(slope=None, threshold=np.ones(4, "u2")), "missing tensor layers.1.slope"),
    (dict(slope=np.ones(4, "i4")), r"layers.1.slope is int32\[4\], the network needs uint32\[4\]"),
    (dict(slope=np.ones(5, "u4")), r"layers.1.slope is uint32\[5\], the network needs uint32\[4\]"),
])
def test_files_without_a_proper_slope_are_refused(tmp_path, tensors, message):
    save(random_image(NETWORK, SEED), tmp_path / "a.bsnn")
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{
        f"1__{name}": value for name, value in tensors.items()
    })
    with pytest.raises(ImageError, match=message):
        load(tmp_path / "b.bsnn")
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{"4__slope": np.ones(6, "u4")})
    with pytest.raises(ImageError, match=r"unexpected tensor layers\.4\.slope"):
        load(tmp_path / "b.bsnn")


@pytest.mark.parametrize("slope, message", [
    (None, "residualconv1: slope is missing"),
    (np.full(4, 1 << 32), "residualconv1: slope does not fit uint32"),
    (np.full(4, -1), "residualconv1: slope does not fit uint32"),
])
def test_images_without_a_proper_slope_are_not_saved(tmp_path, slope, message):
    with pytest.raises(ImageError, match=message):
        save(changed(random_image(NETWORK, SEED), 1, slope=slope), tmp_path / "a.bsnn")


#: Of a layer of 3 channels behind 5.
PARTS = dict(
    weights=np.ones((3, 5), "i1"), bias=np.ones(3, "i4"), slope=np.ones(3, "u4"),
    scale=np.ones(3, "f4"), shift=np.ones(3, "f4"),
)


@pytest.mark.parametrize("name, value, message", [
    *[(name, None, "missing tensor {}") for name in PARTS],
    *[(name, np.ones(4, part.dtype), "{} is .*4., the network needs ")
      for name, part in PARTS.items()],
    *[(name, part.astype("i2"), r"{} is int16\[3") for name, part in PARTS.items()],
    ("weights", np.ones((5, 3), "i1"), r"{} is int8\[5, 3\], the network needs int8\[3, 5\]"),
    ("weights", np.ones((3, 5, 1, 1), "i1"), r"{} is int8\[3, 5, 1, 1\]"),
    ("scale", np.array([1, np.nan, 1], "f4"), "{} holds numbers that are not finite"),
    ("gain", np.ones(3, "u2"), "unexpected tensor {}"),
])
def test_files_without_a_proper_projection_are_refused(tmp_path, name, value, message):
    save(random_image(PROJECTED, SEED), tmp_path / "a.bsnn")
    # What is right stays right.
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{
        f"1__projection__{key}": part for key, part in PARTS.items()
    })
    assert load(tmp_path / "b.bsnn").layers[1].projection.weights.tolist() == [[1] * 5] * 3
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{f"1__projection__{name}": value})
    with pytest.raises(ImageError, match=message.format(rf"layers\.1\.projection\.{name}")):
        load(tmp_path / "b.bsnn")


@pytest.mark.parametrize("index", [0, 3, 5])
@pytest.mark.parametrize("name", PARTS)
def test_projections_where_there_are_none_are_refused(tmp_path, index, name):
    save(random_image(PROJECTED, SEED), tmp_path / "a.bsnn")
    rewrite(tmp_path / "a.bsnn", tmp_path / "b.bsnn", **{
        f"{index}__projection__{name}": PARTS[name]
    })
    with pytest.raises(ImageError, match=rf"unexpected tensor layers\.{index}\.projection\.{name}"):
        load(tmp_path / "b.bsnn")


def test_images_without_a_proper_projection_are_not_saved(tmp_path):
    image, path = random_image(PROJECTED, SEED), tmp_path / "a.bsnn"
    with pytest.raises(ImageError, match=r"^residualconv2: projection\.weights is missing"):
        save(changed(image, 2, projection=None), path)
    for changes, message in (
        (dict(slope=None), "projection.slope is missing"),
        (dict(weights=np.full((9, 3), 128)), "projection.weights does not fit int8"),
        (dict(slope=np.full(9, -1)), "projection.slope does not fit uint32"),
        (dict(bias=np.full(9, 1 << 31)), "projection.bias does not fit int32"),
    ):
        with pytest.raises(ImageError, match=f"^residualconv2: {message}"):
            save(remade(image, 2, **changes), path)
    assert not path.exists()
    part = image.layers[2].projection
    sums = {image.checksum} | {
        remade(image, 2, **{name: getattr(part, name)[::-1]}).checksum for name in PARTS
    }
    assert len(sums) == 6
