import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch.nn import functional as F

from sw import modules
from sw.modules import AGMM, LIF, BatchNorm2d, BinaryConv2d, QuantConv2d, QuantLinear


def spikingjelly_lif(current, tau):
    lif = neuron.LIFNode(
        tau=1 / (1 - tau),
        decay_input=False,
        v_reset=0.0,
        detach_reset=False,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
        step_mode="m",
    )
    functional.reset_net(lif)
    return lif(current)


def run_lif(lif, current, upstream):
    current = current.clone().requires_grad_()
    spikes = lif(current)
    (spikes * upstream).sum().backward()
    return spikes.detach(), current.grad


def example(T, seed=0):
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn(T, 3, 4, 5, 5, generator=generator) + 0.5
    return current, torch.randn(current.shape, generator=generator)


@pytest.mark.parametrize("tau", [0.5, 0.75, 0.875])
@pytest.mark.parametrize("T", [1, 2, 4, 9])
def test_lif_equals_spikingjelly(T, tau):
    current, upstream = example(T)
    spikes, grad = run_lif(LIF(tau), current, upstream)
    expected, expected_grad = run_lif(lambda x: spikingjelly_lif(x, tau), current, upstream)
    assert spikes.mean() > 0.1
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-4, atol=1e-5)


def test_lif_without_memory_is_a_threshold():
    current, upstream = example(4)
    spikes, grad = run_lif(LIF(tau=0.0), current, upstream)
    assert torch.equal(spikes, (current >= 1).float())
    torch.testing.assert_close(grad, upstream * (1 - (current - 1).abs()).clamp(min=0))
    assert not torch.equal(LIF(tau=0.5)(current), spikes)


@pytest.mark.parametrize("wrong", [LIF(0.75), LIF(0.5, 1.1), LIF(0.5, 1.0, 0.9)])
def test_another_lif_does_not_equal_spikingjelly(wrong):
    current, upstream = example(4)
    spikes, grad = run_lif(wrong, current, upstream)
    expected, expected_grad = run_lif(lambda x: spikingjelly_lif(x, 0.5), current, upstream)
    assert not torch.allclose(grad, expected_grad, rtol=1e-4, atol=1e-5)
    assert torch.equal(spikes, expected) == (wrong.beta != 1.0)


def test_gradient_through_the_reset_matters_to_the_comparison():
    current, upstream = example(4)
    lif = neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_reset=0.0,
        detach_reset=True,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
        step_mode="m",
    )
    _, detached = run_lif(lif, current, upstream)
    _, grad = run_lif(LIF(), current, upstream)
    assert not torch.allclose(grad, detached, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_surrogate_is_a_triangle_of_half_width_beta(beta):
    membrane = torch.linspace(-2, 4, 61)[None].requires_grad_()
    LIF(beta=beta)(membrane).sum().backward()
    assert torch.allclose(membrane.grad, (beta - (membrane - 1).abs()).clamp(min=0))


def test_lif_fires_at_the_threshold_and_resets_to_zero():
    current = torch.tensor([1.0, 0.5, 0.75, 0.0, 1.0]).view(5, 1)
    assert LIF()(current).flatten().tolist() == [1, 0, 1, 0, 1]
    just_below = torch.nextafter(current, torch.tensor(0.0))
    assert LIF()(just_below).flatten().tolist()[0] == 0


def test_lif_of_a_static_current_adds_the_gradients_of_all_steps():
    current, upstream = example(1)
    upstream = upstream.repeat(4, 1, 1, 1, 1)
    leaf = current[0].clone().requires_grad_()
    (LIF()(leaf.expand(4, *leaf.shape)) * upstream).sum().backward()
    _, grad = run_lif(LIF(), current.repeat(4, 1, 1, 1, 1), upstream)
    torch.testing.assert_close(leaf.grad, grad.sum(0))


def test_binary_convolution_is_gamma_times_sign():
    torch.manual_seed(0)
    conv = BinaryConv2d(3, 4, 3, 2, 1)
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = 0.0
        conv.weight[1, 0, 0, 0] = -0.0
    assert conv.signs.dtype == torch.bool and conv.signs[0, 0, 0, 0] and conv.signs[1, 0, 0, 0]
    signs = torch.where(conv.signs, 1.0, -1.0)
    spikes = (torch.rand(2, 3, 7, 7) < 0.3).float()
    unscaled = F.conv2d(spikes, signs, stride=2, padding=1)
    expected = unscaled * conv.weight.abs().mean((1, 2, 3))[:, None, None]
    assert conv.bias is None
    torch.testing.assert_close(conv(spikes), expected)
    with torch.no_grad():
        conv.weight[2, 1, 1, 1] *= -1
    assert not torch.allclose(conv(spikes), expected)


def test_straight_through_gradient_stops_outside_one():
    conv = BinaryConv2d(1, 1, 1, 1, 0)
    for value, passes in ((0.3, True), (1.0, True), (-1.0, True), (1.5, False), (-1.01, False)):
        conv.weight.data.fill_(value)
        conv.weight.grad = None
        conv(torch.ones(1, 1, 1, 1)).sum().backward()
        # d(gamma * sign) = gamma * STE + sign * sign(w)
        expected = (abs(value) if passes else 0) + 1
        assert conv.weight.grad.item() == pytest.approx(expected)


def test_agmm_follows_equation_11():
    torch.manual_seed(0)
    current = torch.randn(3, 2, 4, 5, 6)
    agmm = AGMM(3)
    agmm.alpha.data = torch.tensor([-1.0, 0.5, 20.0])
    gained = agmm(current)
    for t in range(3):
        for n in range(2):
            gain = torch.sigmoid(agmm.alpha[t] * current[t, n].mean())
            torch.testing.assert_close(gained[t, n], gain * current[t, n])
            assert not torch.allclose(gained[t, n], current[t, n] / 2)
    assert AGMM(3).alpha.tolist() == [1, 1, 1]


def test_agmm_gradient_is_the_numerical_one():
    torch.manual_seed(0)
    agmm = AGMM(2).double()
    current = torch.randn(2, 2, 3, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, _: agmm(x), (current, agmm.alpha))
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda x: agmm.gain(x.detach()) * x, current)


@pytest.mark.parametrize("layer", [QuantConv2d(2, 3, 3), QuantLinear(7, 3)])
def test_quantised_weight_is_integers_times_scale(layer):
    with torch.no_grad():
        layer.weight[0] = -layer.weight.abs().max()
        layer.weight[1] = 0
    integers, scale = layer.integers, layer.scale
    assert integers.dtype == torch.int8 and scale.shape == (3,) and (scale > 0).all()
    peaks = integers.flatten(1).int().abs().amax(1)
    if isinstance(layer, QuantConv2d):
        assert peaks.tolist() == [127, 0, 127] and scale[1] == 1
    else:
        assert peaks[:2].tolist() == [127, 0] and (scale == scale[0]).all()
    column = scale.view(-1, *[1] * (layer.weight.dim() - 1))
    torch.testing.assert_close(layer.quantised_weight, integers * column)
    assert ((layer.quantised_weight - layer.weight).abs() <= 0.5001 * column).all()
    assert not torch.equal(layer.quantised_weight, layer.weight)
    layer.quantised_weight.sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))


@pytest.mark.parametrize("layer", [QuantConv2d(2, 3, 3), QuantLinear(7, 3)])
def test_weights_of_zero_stay_zero(layer):
    with torch.no_grad():
        layer.weight.zero_()
    assert not layer.integers.any() and (layer.scale == 1).all()
    assert not layer.quantised_weight.any()


def test_quantised_layers_compute_with_quantised_weights():
    torch.manual_seed(0)
    conv, linear = QuantConv2d(2, 3, 3, 1, 1), QuantLinear(7, 3)
    images, spikes = torch.rand(2, 2, 5, 5), torch.rand(2, 7)
    expected = F.conv2d(images, conv.integers * conv.scale[:, None, None, None], padding=1)
    torch.testing.assert_close(conv(images), expected)
    assert not torch.allclose(F.conv2d(images, conv.weight, padding=1), expected)
    expected = spikes @ (linear.integers * linear.scale[:, None]).T + linear.bias
    torch.testing.assert_close(linear(spikes), expected)
    assert not torch.allclose(F.linear(spikes, linear.weight, linear.bias), expected)


@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_norms_over_processes_are_norms_over_all_samples(monkeypatch, dtype, close):
    """Of two processes with the same samples, which is as of one with them."""
    monkeypatch.setattr(modules, "number", lambda: 2)
    monkeypatch.setattr(modules, "summed", lambda tensor: 2 * tensor)
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    # Far from 0, where squares would leave nothing of the variance.
    folded = (100 + 0.5 * torch.randn(16, 3, 5, 5)).to(dtype)
    found, expected = ours(folded), theirs(folded)
    assert found.dtype == dtype and torch.allclose(found, expected, atol=4 * close)
    assert torch.allclose(ours.running_mean, theirs.running_mean, rtol=close)
    rest = theirs.running_var - 0.9
    assert torch.allclose(ours.running_var - 0.9, rest, rtol=2e-2)
    assert torch.isfinite(ours(torch.full((4, 3, 2, 2), 37.3, dtype=dtype))).all()
