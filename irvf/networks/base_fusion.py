"""Base fusion network (BFN) of the IRVF paper, section 3.2, Figs. 2 and 3, Eqs. 1 and 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.blocks import ConvBlock, ConvolutionalResidualBlock

Adjustment = Callable[[Tensor], Tensor]
"""Changes the features of an encoder between two blocks, ``[B x C x H x W]`` in and out."""

MIN_SIDE = 8
"""Smallest height and width that the reflect padding and the receptive field make sense for, in pixels."""


def sobel_magnitude(planes: Tensor) -> Tensor:
    """Return ``|Gx| + |Gy|`` of each channel, by 3x3 Sobel kernels with reflect padding.

    Args:
        planes: ``[B x C x H x W]``.

    Returns:
        ``[B x C x H x W]``, not negative.
    """
    channels = planes.shape[1]
    horizontal = planes.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack((horizontal, horizontal.t())).unsqueeze(1).repeat(channels, 1, 1, 1)
    padded = functional.pad(planes, (1, 1, 1, 1), mode="reflect")
    gradients = functional.conv2d(padded, kernels, groups=channels).abs()
    return gradients[:, 0::2] + gradients[:, 1::2]


class FeatureEncoder(nn.Module):
    """IR-E or VI-E: a head 1 -> C/2 -> C, then M convolutional residual blocks.

    The blocks are a list, so that a later stage can adjust the features between two of them (T-OAR).
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Sequential(ConvBlock(1, channels // 2), ConvBlock(channels // 2, channels))
        self.blocks = nn.ModuleList(ConvolutionalResidualBlock(channels) for _ in range(blocks))

    def forward(self, plane: Tensor, adjustments: Sequence[Adjustment] = ()) -> Tensor:
        """Map ``[B x 1 x H x W]`` to features ``[B x C x H x W]``; adjustment i changes what block i returns."""
        features: Tensor = self.head(plane)
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index < len(adjustments):
                features = adjustments[index](features)
        return features


class FeatureFusion(nn.Module):
    """FF: weighs the concatenated features by what their gradients show (Eqs. 1 and 2).

    Args:
        channels: ``n = 2C``, channels of the concatenated features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_max, self.global_mean = self._linear_branch(channels), self._linear_branch(channels)
        self.local_max, self.local_mean = self._convolutional_branch(channels), self._convolutional_branch(channels)

    @staticmethod
    def _linear_branch(channels: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels))

    @staticmethod
    def _convolutional_branch(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1, padding_mode="reflect"),
            nn.ReLU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1, padding_mode="reflect"),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return ``sigmoid(F) * features`` with F of Eq. 1; ``[B x n x H x W]`` in and out."""
        gradients = sobel_magnitude(features)
        of_image = self.global_max(gradients.amax(dim=(2, 3))) + self.global_mean(gradients.mean(dim=(2, 3)))
        of_pixel = self.local_max(functional.max_pool2d(gradients, 3, stride=1, padding=1)) + self.local_mean(
            functional.avg_pool2d(gradients, 3, stride=1, padding=1, count_include_pad=False)
        )
        return features * torch.sigmoid(of_image[:, :, None, None] * of_pixel)


class BaseFusionNetwork(nn.Module):
    """BFN: thermal and luma planes in, fused luma plane out.

    Args:
        channels: C, width of each encoder (even).
        blocks: M, residual blocks of each encoder and of the decoder.
        feature_fusion: without, the concatenated features go to the decoder as they are (the paper's model I).
    """

    def __init__(self, channels: int = 8, blocks: int = 4, *, feature_fusion: bool = True) -> None:
        super().__init__()
        self.thermal_encoder = FeatureEncoder(channels, blocks)
        self.luma_encoder = FeatureEncoder(channels, blocks)
        self.fusion = FeatureFusion(2 * channels) if feature_fusion else nn.Identity()
        self.decoder = nn.Sequential(*(ConvolutionalResidualBlock(2 * channels) for _ in range(blocks)))
        self.reconstruction = nn.Sequential(
            ConvBlock(2 * channels, channels),
            ConvBlock(channels, channels // 2),
            nn.Conv2d(channels // 2, 1, 3, padding=1, padding_mode="reflect"),
        )

    def forward(
        self,
        thermal: Tensor,
        luma: Tensor,
        thermal_adjustments: Sequence[Adjustment] = (),
        luma_adjustments: Sequence[Adjustment] = (),
    ) -> Tensor:
        """Fuse.

        Args:
            thermal: ``[B x 1 x H x W]`` in 0..1, warm is bright; H and W at least :data:`MIN_SIDE`.
            luma: ``[B x 1 x H x W]`` in 0..1, luma of the RGB image.
            thermal_adjustments: what task-oriented regulation makes of the first blocks' features; none by default.
            luma_adjustments: as before, in the other encoder.

        Returns:
            Fused luma ``[B x 1 x H x W]`` in 0..1.
        """
        encoded = (self.thermal_encoder(thermal, thermal_adjustments), self.luma_encoder(luma, luma_adjustments))
        features = torch.cat(encoded, dim=1)
        fused: Tensor = self.reconstruction(self.decoder(self.fusion(features)))
        return (torch.tanh(fused) + 1) / 2
