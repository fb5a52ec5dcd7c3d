import pytest
import torch
import torchvision

from sw.model import SpikingNetwork
from sw.modules import AGMM
from sw.networks import digits, load, resnet19
from sw.size import Size, size_report


def test_resnet19_for_cifar100_has_the_size_of_the_paper():
    model = SpikingNetwork(resnet19())
    size = size_report(model)
    alphas = sum(m.alpha.numel() for m in model.modules() if isinstance(m, AGMM))
    assert alphas == 16 * 2
    size = Size(size.parameters - alphas, size.binary)
    assert size.parameters == 12_615_396
    assert f"{size.fp32_bytes / 1e6:.2f}" == "50.46"
    assert f"{size.packed_bytes / 1e6:.2f}" == "2.46"
    vanilla = SpikingNetwork(resnet19().replace(neuron="vanilla"))
    assert size == size_report(vanilla)
    assert size != size_report(SpikingNetwork(resnet19(classes=10).replace(neuron="vanilla")))


def test_resnet18_has_the_parameters_of_torchvisions():
    size = size_report(SpikingNetwork(load("resnet18").replace(neuron="vanilla")))
    assert size.parameters == sum(p.numel() for p in torchvision.models.resnet18().parameters())
    # All 3 x 3 kernels are binary: not the stem, the transitions and the readout.
    assert size.binary == 10_985_472


@pytest.mark.parametrize("name", ["vggsnn-10", "vggsnn-strides-10"])
def test_vggsnn_has_the_size_of_deng_et_al(name):
    network = load(name)
    assert network.frame_shape == (10, 2, 48, 48)
    size = size_report(SpikingNetwork(network.replace(neuron="vanilla")))
    assert size.binary == 9_216_000
    norms = 2 * sum(layer.channels for layer in network.layers[:-1])
    assert size.parameters == size.binary + 2 * 64 * 9 + 512 * 3 * 3 * 10 + 10 + norms


@pytest.mark.parametrize("neuron", ["agmm", "vanilla"])
def test_every_parameter_of_a_small_resnet_learns(neuron):
    torch.manual_seed(0)
    network = resnet19(10, widths=(16, 24, 32), blocks=(1, 1, 1), size=16).replace(neuron=neuron)
    model = SpikingNetwork(network)
    logits = model(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
    assert logits.shape == (2, 4, 10)
    logits.square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_real_weights_have_no_one_bit_part():
    network = digits()
    assert size_report(SpikingNetwork(network)).binary == 64 * 32 * 9 + 64 * 64 * 9
    size = size_report(SpikingNetwork(network.replace(neuron="fp")))
    assert size.binary == 0 and size.packed_bytes == size.fp32_bytes


def test_a_rest_of_bits_takes_a_byte():
    assert Size(9, 9).packed_bytes == 2
    assert Size(8, 8).packed_bytes == 1
    assert "0.00 MB" in str(Size(9, 9))
