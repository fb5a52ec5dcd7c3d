"""Layers of the papers' networks that are trained, but have no hardware."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from sw import image
from sw.export import ExportError, export
from sw.image import ImageError
from sw.layers import (
    Conv,
    EventStem,
    LayerError,
    Network,
    PooledStem,
    Readout,
    ResidualConv,
    Shape,
    Stem,
    TransitionConv,
)
from sw.optimise import make_optimizer
from sw.recipe import Recipe
from tests.support import noise_frames, random_image, settled_model

EVENTS = Network("events", Shape(2, 6, 6), [EventStem(4), Conv(5), Readout(3)], T=3)
POOLED = Network(
    "pooled", Shape(3, 22, 22),
    [PooledStem(4, kernel=7, stride=2), ResidualConv(4), TransitionConv(10), Readout(3)],
    T=2,
)


def test_a_stem_of_events_has_a_current_for_each_frame():
    model, frames = settled_model(EVENTS), noise_frames(EVENTS, 4)
    assert frames.shape == (4, *EVENTS.frame_shape) == (4, 3, 2, 6, 6)
    stem = model.layers[0]
    current = stem.current(frames)
    assert current.shape == (3, 4, 4, 6, 6)
    for t in range(3):
        alone = stem.norm(stem.conv(frames[:, t].float() / 255))
        assert torch.allclose(current[t], alone, atol=1e-5)
    assert not torch.allclose(current[0], current[1])
    assert model(frames).shape == (3, 4, 3)
    # Its MACs are spent at every step; those of a static stem once.
    static = EVENTS.replace(layers=[Stem(4), *EVENTS.layers[1:]])
    assert EVENTS.layer_macs() == [3 * static.layer_macs()[0], *static.layer_macs()[1:]]


def test_currents_of_a_pooled_stem_are_the_largest_of_nine():
    model, frames = settled_model(POOLED), noise_frames(POOLED, 2)
    assert POOLED.shapes[1:] == [Shape(4, 6, 6), Shape(4, 6, 6), Shape(10, 3, 3), Shape(3, 1, 1)]
    stem = model.layers[0]
    each = stem.norm(stem.conv(frames.float() / 255))
    assert each.shape == (2, 4, 11, 11)
    padded = F.pad(each, [1] * 4, value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2)
    assert torch.equal(stem.current(frames)[0], padded.amax((4, 5)))
    assert POOLED.layer_macs()[0] == 4 * 11 * 11 * 3 * 49


def test_a_transition_averages_then_projects():
    model = settled_model(POOLED)
    shortcut, stream = model.layers[2].shortcut, torch.randn(2, 3, 4, 6, 6)
    squares = stream.unfold(3, 2, 2).unfold(4, 2, 2).mean((5, 6)).flatten(0, 1)
    expected = shortcut.norm(F.conv2d(squares, shortcut.conv.quantised_weight))
    assert torch.allclose(shortcut(stream), expected.unflatten(0, (2, 3)), atol=1e-5)
    projected = POOLED.replace(
        layers=[*POOLED.layers[:2], ResidualConv(10, stride=2, projection=True), Readout(3)]
    )
    other = settled_model(projected).layers[2].shortcut
    assert not torch.allclose(other(stream), shortcut(stream))
    assert POOLED.layer_macs() == projected.layer_macs()


@pytest.mark.parametrize("make, message", [
    (lambda: PooledStem(4, pool=2), "pool must be 1 behind pooled currents"),
    (lambda: TransitionConv(4, stride=1), "a transition has stride=2 and projection=True"),
    (lambda: TransitionConv(4, projection=False), "a transition has stride=2 and projection=True"),
    (lambda: POOLED.replace(input=Shape(3, 20, 20)), "but the map is 5 x 5"),
])
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(LayerError, match=message):
        make()


@pytest.mark.parametrize("network, layers", [
    (EVENTS, "eventstem0"), (POOLED, "pooledstem0, transitionconv2"),
])
def test_the_hardware_has_none_and_the_export_says_so(network, layers, tmp_path):
    assert Network.from_dict(network.to_dict()) == network
    with pytest.raises(ExportError, match=f"the hardware does not have {layers}$"):
        export(settled_model(network), network)
    # Nor does an image of somebody else's.
    plain = random_image(EVENTS.replace(layers=[Stem(4), *EVENTS.layers[1:]]))
    with pytest.raises(ImageError, match="a network that cannot be exported"):
        image.save(replace(plain, network=EVENTS), tmp_path / "wrong.bsnn")


def test_gains_to_compare_agmm_with(tmp_path):
    """Of the same layers, a half at first, learned or not, and without hardware."""
    agmm = Network("gains", Shape(1, 6, 6), [Stem(3), Conv(4), Readout(2)], T=3)
    frames = noise_frames(agmm, 4)
    for neuron, learned in (("half", False), ("scalar", True)):
        model = settled_model(agmm.replace(neuron=neuron))
        gain = model.layers[1].agmm
        assert gain.alpha.requires_grad == learned
        current = torch.randn(3, 4, 4, 6, 6)
        assert torch.equal(gain(current), 0.5 * current)
        model(frames).square().sum().backward()
        assert (gain.alpha.grad is not None) == learned
        with torch.no_grad():
            gain.alpha[1] = 2
        assert torch.allclose(gain(current)[1], current[1] * torch.tensor(2.0).sigmoid())
        with pytest.raises(ExportError, match=f"--neuron {neuron}: train with --neuron agmm or"):
            export(model, model.network)
        size = sum(p.numel() for p in make_optimizer(model, Recipe()).param_groups[1]["params"])
        assert size == 2 * 3 + 2 * 4 + 2 + 3 * learned
