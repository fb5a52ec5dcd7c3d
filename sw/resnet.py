"""ResNet-19 of the AGMM paper, for CIFAR: software only, the accelerator does not run it yet.

A real-valued shortcut goes around every binary convolution ("double skip", as in Bi-Real net), so
what passes from unit to unit is a current, and each unit turns it into spikes first.
"""

import torch
from torch import nn

from sw.modules import AGMM, LIF, BinaryConv2d

__all__ = ["ResNet19"]


class BinaryUnit(nn.Module):
    """current -> LIF -> binary 3x3 convolution -> batch norm -> AGMM, plus the shortcut.

    Currents ``[T, N, C, H, W]``. Where the shape changes the shortcut is a full-precision 1x1
    convolution of the current, with its batch norm.
    """

    def __init__(self, in_channels, out_channels, stride, T, agmm):
        super().__init__()
        self.lif = LIF()
        self.conv = BinaryConv2d(in_channels, out_channels, 3, stride)
        self.norm = nn.BatchNorm2d(out_channels)
        self.agmm = AGMM(T) if agmm else None
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, current):
        steps = current.shape[:2]
        spikes = self.lif(current)
        branch = self.norm(self.conv(spikes.flatten(0, 1))).unflatten(0, steps)
        if self.agmm is not None:
            branch = self.agmm(branch)
        if self.downsample is not None:
            current = self.downsample(current.flatten(0, 1)).unflatten(0, steps)
        return branch + current


class ResNet19(nn.Module):
    """Stem of 128 channels, stages of 128 / 256 / 512 with 3 / 3 / 2 blocks of two units, one FC.

    Images: floats ``[N, 3, H, W]``, static, H and W divisible by 4. Logits: ``[T, N, classes]``.
    """

    def __init__(self, classes=100, T=2, agmm=True, widths=(128, 256, 512), blocks=(3, 3, 2)):
        super().__init__()
        self.T = T
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])
        )
        units, channels = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for unit in range(2 * count):
                stride = 2 if stage > 0 and unit == 0 else 1
                units.append(BinaryUnit(channels, width, stride, T, agmm))
                channels = width
        self.units = nn.Sequential(*units)
        self.lif = LIF()
        self.linear = nn.Linear(channels, classes)

    def forward(self, images):
        current = self.stem(images)
        current = self.units(current.expand(self.T, *current.shape))
        return self.linear(torch.mean(self.lif(current), (3, 4)))
