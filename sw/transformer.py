"""A block of a spiking transformer, as a PyTorch module.

Our reading of SEI-BWSNN's transformer, whose abstract says that its FFN layers are binary and no
more. Attention is that of Spikformer (Zhou et al., arXiv 2209.15425) without its softmax; shortcuts
carry currents, as those of our convolutions do.
"""

from torch import nn

from sw.modules import LIF, BatchNorm2d, conv_of, gain_of

__all__ = ["TransformerLayer"]


class _Projection(nn.Module):
    """1 x 1 convolution and batch norm of spikes ``[T, N, C, H, W]``, and a gain."""

    def __init__(self, conv, channels, gain=None):
        super().__init__()
        self.conv, self.norm, self.gain = conv, BatchNorm2d(channels), gain

    def forward(self, spikes):
        current = self.norm(self.conv(spikes.flatten(0, 1))).unflatten(0, spikes.shape[:2])
        return current if self.gain is None else self.gain(current)


class TransformerLayer(nn.Module):
    """Attention and two binary layers beside a stream of currents."""

    def __init__(self, network, index):
        super().__init__()
        layer, width = network.layers[index], network.shapes[index].channels
        hidden = layer.expansion * width
        self.heads = layer.heads

        def real(channels):
            return _Projection(nn.Conv2d(width, channels, 1, bias=False), channels)

        def binary(inputs, outputs):
            conv = conv_of(network.neuron, inputs, outputs, 1, 1, 0)
            return _Projection(conv, outputs, gain_of(network.neuron, network.T))

        self.queries_keys_values, self.out = real(3 * width), real(width)
        self.expand, self.contract = binary(width, hidden), binary(hidden, width)
        # Brings counts of coincidences near the threshold, of however many pixels and channels.
        self.norm = BatchNorm2d(width)
        self.lif = LIF(network.tau, network.v_threshold, network.beta)

    @property
    def weights(self):
        """Of the binary layers, those that flip."""
        return [self.expand.conv.weight, self.contract.conv.weight]

    def attention(self, spikes):
        """Spikes ``[T, N, C, H, W]``: queries times the sum over pixels of keys times values."""
        T, N, C, H, W = spikes.shape
        parts = self.lif(self.queries_keys_values(spikes)).view(T, N, 3, self.heads, -1, H * W)
        queries, keys, values = parts.unbind(2)
        found = ((values @ keys.mT) @ queries).reshape(T * N, C, H, W)
        return self.lif(self.norm(found).unflatten(0, (T, N)))

    def forward(self, signal, stream):
        """Spikes and the currents behind them, of the spikes and currents of the layer before."""
        stream = stream + self.out(self.attention(signal))
        stream = stream + self.contract(self.lif(self.expand(self.lif(stream))))
        return self.lif(stream), stream
