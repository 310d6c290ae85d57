"""A small salient object detector with three paths: what, where exactly, and the border between.

In the manner of CTDNet (Zhao et al., "Complementary Trilateral Decoder for Fast and Accurate Salient Object
Detection", ACM MM 2021): a semantic path from the coarsest features and their global context, a spatial path from
fine features, and a boundary path that is trained on the borders of the masks; the first gates the other two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.residual_encoder import ResidualEncoder, convolution


@dataclass(frozen=True)
class SaliencyLogits:
    """Scores before the sigmoid, each ``[B x 1 x H/2 x W/2]``: of the salient objects, and of their borders."""

    objects: Tensor
    borders: Tensor


class SaliencyNetwork(nn.Module):
    """RGB image in, saliency at half resolution out.

    Args:
        path: channels of the three paths.
    """

    def __init__(self, path: int = 24) -> None:
        super().__init__()
        self.encoder = ResidualEncoder()
        widths = self.encoder.widths
        self.context = nn.Sequential(nn.Linear(widths[-1], widths[-1]), nn.Sigmoid())
        self.semantic = nn.ModuleList(convolution(width, path, kernel_size=1) for width in widths[2:])
        self.semantic_smooth = nn.ModuleList(convolution(path, path) for _ in widths[3:])
        self.spatial = convolution(widths[1], path)
        self.boundary = nn.Sequential(convolution(widths[0], path), convolution(path, path))
        self.join = convolution(2 * path, path)
        self.border_head = nn.Conv2d(path, 1, 1)
        self.object_head = nn.Sequential(convolution(2 * path, path), nn.Conv2d(path, 1, 1))

    def forward(self, image: Tensor) -> SaliencyLogits:
        """Detect what stands out.

        Args:
            image: ``[B x 3 x H x W]`` RGB in 0..1; H and W multiples of 32.
        """
        finest, fine, *coarse = self.encoder(image)
        weights = self.context(coarse[-1].mean(dim=(2, 3)))[:, :, None, None]
        levels = [
            lateral(level) for lateral, level in zip(self.semantic, (*coarse[:-1], coarse[-1] * weights), strict=True)
        ]
        meaning = levels.pop()
        for smooth in self.semantic_smooth:
            meaning = smooth(functional.interpolate(meaning, scale_factor=2.0, mode="nearest") + levels.pop())
        meaning = functional.interpolate(meaning, scale_factor=2.0, mode="nearest")
        place = self.join(torch.cat((meaning, self.spatial(fine) * meaning.sigmoid()), dim=1))
        place = functional.interpolate(place, scale_factor=2.0, mode="bilinear", align_corners=False)
        border = self.boundary(finest)
        return SaliencyLogits(
            self.object_head(torch.cat((place, border * place.sigmoid()), dim=1)), self.border_head(border + place)
        )


class DeployedSaliencyNetwork(nn.Module):
    """The network in the form in which it is exported: ``[B x 3 x H x W]`` to ``[B x 1 x H/2 x W/2]`` in 0..1."""

    def __init__(self, network: SaliencyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the saliency of every second pixel."""
        found: SaliencyLogits = self.network(image)
        return found.objects.sigmoid()
