"""A small U-Net (Ronneberger et al., MICCAI 2015) for semantic segmentation of fused images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.residual_encoder import ResidualEncoder, convolution


class SegmentationNetwork(nn.Module):
    """RGB image in, class scores at half resolution out.

    Args:
        classes: number of classes, the background among them.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = ResidualEncoder()
        widths = self.encoder.widths
        self.decoder = nn.ModuleList(
            nn.Sequential(convolution(coarse + fine, fine), convolution(fine, fine))
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Segment.

        Args:
            image: ``[B x 3 x H x W]`` RGB in 0..1; H and W multiples of 32.

        Returns:
            Logits ``[B x classes x H/2 x W/2]``.
        """
        *finer, features = self.encoder(image)
        for join, skipped in zip(self.decoder, reversed(finer), strict=True):
            larger = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = join(torch.cat((larger, skipped), dim=1))
        logits: Tensor = self.head(features)
        return logits
