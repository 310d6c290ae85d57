"""What a fused image for people is trained on: edges, structure and information of both images, and brightness."""

from __future__ import annotations

from torch import Tensor

from irvf.training.image_quality import (
    difference_correlations,
    edge_preservation,
    structural_similarity,
    visual_information_fidelity,
)
from irvf.training.losses import fusion_loss

EDGE_WEIGHT = 2.5
STRUCTURE_WEIGHT = 4.5
DIFFERENCE_WEIGHT = 0.5
INFORMATION_WEIGHT = 0.35
FUSION_WEIGHT = 5.0
"""Of Eq. 5, whose figures are small. Alone it washes out; without it, metrics are met by what does not look right."""


def viewing_loss(fused: Tensor, thermal: Tensor, luma: Tensor, brightness_weight: float) -> Tensor:
    """Return the loss of a fused image for people, a scalar.

    Args:
        fused: ``[B x 1 x H x W]`` in 0..1, at least :data:`irvf.training.image_quality.LEAST_SIDE` a side.
        thermal: as ``fused``.
        luma: as ``fused``.
        brightness_weight: lambda of Eq. 5.
    """
    similarity = (structural_similarity(fused, thermal) + structural_similarity(fused, luma)) / 2
    information = visual_information_fidelity(thermal, fused) + visual_information_fidelity(luma, fused)
    quality = (
        EDGE_WEIGHT * (1 - edge_preservation(fused, thermal, luma))
        + STRUCTURE_WEIGHT * (1 - similarity)
        + DIFFERENCE_WEIGHT * (2 - difference_correlations(fused, thermal, luma))
        + INFORMATION_WEIGHT * (2 - information)
    )
    return quality.mean() + FUSION_WEIGHT * fusion_loss(fused, thermal, luma, brightness_weight).total
