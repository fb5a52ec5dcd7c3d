"""The trainings whose speed is compared are of the same network."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from sw.layers import Conv, Network, Readout, Shape, Stem
from tests.support import noise_frames, settled_model

sys.path.append(str(Path(__file__).parents[1] / "docs"))
throughput = importlib.import_module("throughput")

NETWORK = Network(
    "small", Shape(1, 10, 10), [Stem(8, stride=2), Conv(12, pool=2), Conv(16), Readout(4)],
    T=3, neuron="vanilla",
)


def same_state(model, own):
    """``model`` with the weights of ``own``, in the order in which both have them."""
    theirs, ours = model.state_dict(), own.state_dict()
    for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        # Weights of convolutions, norms and the readout come apart by their dimensions.
        for dimensions in (0, 1, 2, 4):
            targets = [n for n in theirs if n.endswith(kind) and theirs[n].dim() == dimensions]
            sources = [n for n in ours if n.endswith(kind) and ours[n].dim() == dimensions]
            assert len(targets) == len(sources)
            theirs |= {t: ours[s] for t, s in zip(targets, sources, strict=True)}
    model.load_state_dict(theirs)
    return model


@pytest.fixture(scope="module")
def ours():
    return settled_model(NETWORK)


@pytest.mark.parametrize("name", ["spikingjelly", "snntorch"])
def test_the_networks_compute_the_same(ours, name):
    images = noise_frames(NETWORK, 16)
    with torch.no_grad():
        logits, spikes = ours(images, record=True)
        assert all(0.02 < layer.mean() < 0.9 for layer in spikes)
        peer = same_state(throughput.PEERS[name](NETWORK), ours).eval()
        assert torch.allclose(peer(images), logits, atol=1e-4)
        other = same_state(throughput.PEERS[name](NETWORK.replace(tau=0.75)), ours).eval()
        assert not torch.allclose(other(images), logits, atol=1e-2)


def test_the_gradients_of_spikingjelly_are_ours(ours):
    """Those of snnTorch go through norms of each step's own."""
    peer = same_state(throughput.PEERS["spikingjelly"](NETWORK), ours)
    images, labels = noise_frames(NETWORK, 16), torch.randint(0, 4, (16,))
    twin = same_state(throughput.PEERS["ours"](NETWORK), ours)
    gradients = []
    other = same_state(throughput.PEERS["spikingjelly"](NETWORK.replace(tau=0.75)), ours)
    for model in (twin, peer, other):
        model.train()
        throughput.classification_loss(model(images), labels, throughput.Recipe()).backward()
        gradients.append([p.grad for p in model.parameters() if p.dim() == 4])
    found, peers, others = gradients
    for a, b, other in zip(found, peers, others, strict=True):
        assert torch.allclose(a, b, rtol=1e-2, atol=1e-4) and a.any()
        assert not torch.allclose(a, other, rtol=1e-2, atol=1e-4)


def test_a_measurement_names_the_best_setting(monkeypatch):
    monkeypatch.setattr(throughput, "BATCH", 4)
    monkeypatch.setattr(throughput, "STEPS", 1)
    # Compiling all of them takes minutes.
    monkeypatch.setattr(throughput, "SETTINGS", throughput.SETTINGS[::2])
    report = throughput.measure(NETWORK, rounds=1)
    for name in throughput.PEERS:
        every = report[f"{name}_all"]
        assert len(every) == 4
        assert report[f"{name}_images_per_s"] == max(one["images_per_s"] for one in every) > 0
        best = {**report[f"{name}_settings"], "images_per_s": report[f"{name}_images_per_s"]}
        assert best in every
