"""The four ingredients of the network as PyTorch modules.

Binary convolution (paper eq. 5), LIF neuron (eq. 1-4, surrogate eq. 7), AGMM gain (eq. 11), and the
8-bit convolution and linear layer of the first and last layer. Tensors with time are
``[T, N, ...]``: T time steps of a batch of N.
"""

import numpy as np
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F

from sw.processes import number, summed

__all__ = [
    "AGMM", "LIF", "BatchNorm2d", "BinaryConv2d", "QuantConv2d", "QuantLinear", "StepGain",
    "conv_of", "fold_norm", "gain_of", "to_array",
]


class _Sign(Function):
    """+1 where w >= 0, else -1; straight-through gradient where |w| <= 1."""

    @staticmethod
    def forward(ctx, weight):
        ctx.save_for_backward(weight)
        return torch.where(weight >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return grad * (weight.abs() <= 1)


class BinaryConv2d(nn.Conv2d):
    """Convolution with weights ``gamma_c * sign(w)`` (eq. 5), sign(0) = +1, and no bias.

    w is a real-valued latent weight ``[C_out, C_in, k, k]``; gamma_c is the mean of |w| over output
    channel c. The gradient goes straight through sign where |w| <= 1, and through gamma by plain
    autograd (a batch norm after the convolution makes that second part nearly vanish).
    """

    def __init__(self, in_channels, out_channels, kernel=3, stride=1, padding=1):
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=False)

    @property
    def signs(self):
        """Bool tensor of the weight's shape: True is +1, False is -1."""
        return self.weight.detach() >= 0

    @property
    def gamma(self):
        """Mean magnitude of each output channel, ``[C_out]``, >= 0."""
        return self.weight.abs().mean((1, 2, 3))

    @property
    def quantised_weight(self):
        """gamma_c * sign(w), with its gradient."""
        return self.gamma[:, None, None, None] * _Sign.apply(self.weight)

    def forward(self, spikes):
        return self._conv_forward(spikes, self.quantised_weight, None)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the samples of all processes; PyTorch's own takes GPUs.

    All have as many samples.
    """

    def forward(self, folded):
        if not self.training or number() == 1:
            return super().forward(folded)
        # Not in bf16; float64 stays.
        exact = folded.to(torch.promote_types(folded.dtype, torch.float32))
        mean = summed(exact.mean((0, 2, 3))) / number()
        rest = exact - mean[:, None, None]
        variance = summed(rest.square().mean((0, 2, 3))) / number()
        samples = number() * folded[:, 0].numel()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * samples / (samples - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (rest * scale[:, None, None] + self.bias[:, None, None]).to(folded.dtype)


def to_array(tensor):
    """A float64 array of a tensor on any device."""
    return tensor.detach().cpu().double().numpy()


def fold_norm(norm):
    """What a batch norm does in eval mode: ``scale * x + shift``, float64 ``[C]`` each."""
    weight, bias = (to_array(norm.weight), to_array(norm.bias)) if norm.affine else (1.0, 0.0)
    scale = weight / np.sqrt(to_array(norm.running_var) + norm.eps)
    return scale, bias - to_array(norm.running_mean) * scale


class _UnrolledLIF(Function):
    """LIF over T. Keeps the membrane before the reset, and the spikes, as the next layer does."""

    @staticmethod
    def forward(ctx, current, tau, v_threshold, beta):
        membrane = torch.empty_like(current)
        spikes = torch.empty_like(current)
        for t, (u, s) in enumerate(zip(membrane, spikes, strict=True)):
            if t == 0:
                u.copy_(current[0])
            else:
                # A spike resets to exactly 0: U - U * S is U or 0, without rounding.
                rest = torch.addcmul(membrane[t - 1], membrane[t - 1], spikes[t - 1], value=-1)
                torch.add(current[t], rest, alpha=tau, out=u)
            torch.ge(u, v_threshold, out=s)
        ctx.save_for_backward(membrane, spikes)
        ctx.constants = tau, v_threshold, beta
        return spikes

    @staticmethod
    def backward(ctx, grad_spikes):
        membrane, spikes = ctx.saved_tensors
        tau, v_threshold, beta = ctx.constants
        grad_current, after = torch.empty_like(membrane), None
        surrogate = torch.empty_like(membrane[0])
        for t in reversed(range(len(membrane))):
            u, grad = membrane[t], grad_current[t]
            torch.sub(u, v_threshold, out=surrogate).abs_().neg_().add_(beta).relu_()
            if after is None:
                torch.mul(grad_spikes[t], surrogate, out=grad)
            else:
                # Rest V = U * (1 - S), hence dV/dU = (1 - S) - U * surrogate.
                torch.addcmul(grad_spikes[t], after, u, value=-tau, out=grad).mul_(surrogate)
                grad.add_(after, alpha=tau).addcmul_(after, spikes[t], value=-tau)
            after = grad
        return grad_current, None, None, None


class LIF(nn.Module):
    """Leaky integrate-and-fire with hard reset (eq. 1-4): currents to spikes, both ``[T, N, ...]``.

    U[t] = tau * V[t-1] + X[t]; spike when U >= v_threshold; V = 0 after a spike, else U. V starts
    at 0. The gradient of a spike is max(0, beta - |U - v_threshold|) (eq. 7), and flows through the
    reset too.
    """

    def __init__(self, tau=0.5, v_threshold=1.0, beta=1.0):
        super().__init__()
        self.tau, self.v_threshold, self.beta = tau, v_threshold, beta

    def forward(self, current):
        return _UnrolledLIF.apply(current, self.tau, self.v_threshold, self.beta)

    def extra_repr(self):
        return f"tau={self.tau}, v_threshold={self.v_threshold}, beta={self.beta}"


class AGMM(nn.Module):
    """Gain of the membrane input (eq. 11): X'[t] = sigmoid(alpha[t] * mean(X[t])) * X[t].

    The mean is over C, H, W, so there is one gain in (0, 1) per sample and time step. alpha ``[T]``
    is learned and starts at 1, where the sign of the mean already decides which way the gain moves.
    """

    def __init__(self, T):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(T))

    def gain(self, current):
        """sigmoid(E[t]) for currents ``[T, N, C, H, W]``: ``[T, N, 1, 1, 1]``."""
        # The gradient of a sum is a broadcast, that of mean() a whole tensor in the wrong layout.
        mean = current.sum((2, 3, 4), keepdim=True) / current[0, 0].numel()
        return torch.sigmoid(self.alpha[:, None, None, None, None] * mean).to(current.dtype)

    def forward(self, current):
        return self.gain(current) * current


class StepGain(nn.Module):
    """Gain of the membrane input that knows nothing of it: X'[t] = sigmoid(alpha[t]) * X[t].

    What AGMM is compared with. alpha ``[T]`` starts at 0, a gain of a half, and is learned or not.
    """

    def __init__(self, T, learned):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(T), requires_grad=learned)

    def forward(self, current):
        gain = torch.sigmoid(self.alpha[:, None, None, None, None])
        return gain.to(current.dtype) * current


def conv_of(neuron, *arguments):
    """The convolution of a neuron of ``sw.layers.NEURONS``: binary, or real for ``fp``."""
    return nn.Conv2d(*arguments, bias=False) if neuron == "fp" else BinaryConv2d(*arguments)


def gain_of(neuron, T):
    """The gain of a neuron of ``sw.layers.NEURONS``, or None."""
    if neuron == "agmm":
        return AGMM(T)
    return StepGain(T, learned=neuron == "scalar") if neuron in ("half", "scalar") else None


class _Quantised:
    """8-bit weights of a layer, symmetric, one scale per output channel (its largest |w| / 127)."""

    @property
    def scale(self):
        """Float tensor ``[C_out]``, > 0 (1 for a channel of zeros, whose integers are all 0)."""
        peak = self.weight.detach().flatten(1).abs().amax(1)
        return torch.where(peak > 0, peak / 127, 1.0)

    @property
    def integers(self):
        """Int8 tensor of the weight's shape, -127 to 127; weight used = integers * scale."""
        ratio = self.weight.detach() / self._column(self.scale)
        return ratio.round().clamp(-127, 127).to(torch.int8)

    def _column(self, scale):
        return scale.view(-1, *[1] * (self.weight.dim() - 1))

    @property
    def quantised_weight(self):
        """Weight after quantisation; its gradient goes straight to the latent weight."""
        error = self.integers * self._column(self.scale) - self.weight.detach()
        return self.weight + error


class QuantConv2d(_Quantised, nn.Conv2d):
    """Convolution with 8-bit weights, no bias."""

    def __init__(self, in_channels, out_channels, kernel=3, stride=1, padding=1):
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=False)

    def forward(self, images):
        return self._conv_forward(images, self.quantised_weight, None)


class QuantLinear(_Quantised, nn.Linear):
    """Fully connected layer with 8-bit weights and a real bias.

    All classes share one scale, so that their integer sums compare as the real logits do.
    """

    @property
    def scale(self):
        """Float tensor ``[classes]`` of equal values > 0: largest |w| of the layer / 127."""
        peak = self.weight.detach().abs().amax()
        return torch.where(peak > 0, peak / 127, 1.0).expand(self.out_features)

    def forward(self, spikes):
        return F.linear(spikes, self.quantised_weight, self.bias)
