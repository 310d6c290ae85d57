"""The residual encoder that the task networks share (He et al., CVPR 2016), small enough for two CPU cores."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


def convolution(in_channels: int, out_channels: int, stride: int = 1, kernel_size: int = 3) -> nn.Sequential:
    """Return convolution, batch normalisation and SiLU; ``[B x in x H x W]`` to ``[B x out x H/stride x W/stride]``."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.SiLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a residual, ``[B x C x H x W]`` in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the refined features."""
        refined: Tensor = self.body(features)
        return features + refined


def downsampling_stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    """Return a convolution of stride 2 and residual blocks after it."""
    return nn.Sequential(
        convolution(in_channels, out_channels, stride=2), *(ResidualBlock(out_channels) for _ in range(blocks))
    )


class ResidualEncoder(nn.Module):
    """Features of an RGB image at strides 2, 4, 8, 16 and 32.

    Args:
        widths: channels at each stride.
        blocks: residual blocks at each stride after the first.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128),
        blocks: tuple[int, int, int, int] = (1, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.widths = widths
        self.stem = convolution(3, widths[0], stride=2)
        self.stages = nn.ModuleList(
            downsampling_stage(*pair, count) for pair, count in zip(pairwise(widths), blocks, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``[B x 3 x H x W]`` to one ``[B x width x H/stride x W/stride]`` for each stride, finest first."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features
