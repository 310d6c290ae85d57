"""Convolution blocks shared by the fusion networks (IRVF paper, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAKY_SLOPE = 0.2
STATISTICS_MOMENTUM = 0.02
"""Share of a new batch in the running statistics: small, because night and day crops differ and batches are small."""


class ConvBlock(nn.Sequential):
    """Convolution with reflect padding, batch normalisation and leaky ReLU; keeps height and width.

    Args:
        in_channels: channels of the input ``[B x in x H x W]``.
        out_channels: channels of the output ``[B x out x H x W]``.
        kernel_size: odd side length of the kernel.
        dilation: spacing of the kernel's taps. Height and width must exceed ``dilation * (kernel_size - 1) / 2``.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                padding=dilation * (kernel_size - 1) // 2,
                dilation=dilation,
                padding_mode="reflect" if kernel_size > 1 else "zeros",
                bias=False,  # the batch normalisation that follows has one
            ),
            nn.BatchNorm2d(out_channels, momentum=STATISTICS_MOMENTUM),
            nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
        )


class ConvolutionalResidualBlock(nn.Module):
    """CRB: two dilated 3x3 convolutions and a 1x1, densely connected, with a residual (IRVF paper, Fig. 2).

    Maps ``[B x C x H x W]`` to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, dilation=2)
        self.second = ConvBlock(2 * channels, channels, dilation=2)
        self.merge = ConvBlock(3 * channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the refined features, shape unchanged."""
        first = self.first(features)
        second = self.second(torch.cat((features, first), dim=1))
        merged: Tensor = self.merge(torch.cat((features, first, second), dim=1))
        return features + merged
