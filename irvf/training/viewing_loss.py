"""What a fused image for people is trained on: edges, brightness, structure, contrast, and both images' shares."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from irvf.training.losses import fusion_loss

EDGE_WEIGHT = 10.0
"""Of the fusion loss, whose figures are small."""
STRUCTURE_WEIGHT = 1.0
CORRELATION_WEIGHT = 0.5
CONTRAST_WEIGHT = 2.0
EDGE_GAIN = 1.08
"""Edges a little stronger than in the sources: batch by batch, the network falls short of what it is asked for."""
_WINDOW, _SIGMA = 11, 1.5


def _gaussian(plane: Tensor) -> Tensor:
    offsets = torch.arange(_WINDOW, dtype=plane.dtype, device=plane.device) - _WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    rows = functional.conv2d(plane, weights.reshape(1, 1, 1, -1))
    return functional.conv2d(rows, weights.reshape(1, 1, -1, 1))


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean SSIM (Wang et al., IEEE TIP 2004) of planes ``[B x 1 x H x W]`` in 0..1, 11x11 window."""
    mean_first, mean_second = _gaussian(first), _gaussian(second)
    variances = _gaussian(first * first) - mean_first**2 + _gaussian(second * second) - mean_second**2
    covariance = _gaussian(first * second) - mean_first * mean_second
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_first * mean_second + c1) * (2 * covariance + c2)
    return (numerator / ((mean_first**2 + mean_second**2 + c1) * (variances + c2))).mean()


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation coefficient of the pixels of each sample, ``[B]``."""
    first, second = (plane.flatten(1) - plane.flatten(1).mean(1, keepdim=True) for plane in (first, second))
    norms = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    correlations: Tensor = (first * second).sum(1) / norms.clamp(min=1e-6)
    return correlations


def difference_correlations(fused: Tensor, thermal: Tensor, luma: Tensor) -> Tensor:
    """Return SCD (Aslantas and Bendes, AEU 2015), mean of the batch: what each image adds must look like that image."""
    return (_correlation(fused - luma, thermal) + _correlation(fused - thermal, luma)).mean()


def viewing_loss(fused: Tensor, thermal: Tensor, luma: Tensor, brightness_weight: float) -> Tensor:
    """Return the loss of a fused image for people, a scalar.

    Args:
        fused: ``[B x 1 x H x W]`` in 0..1.
        thermal: as ``fused``.
        luma: as ``fused``.
        brightness_weight: lambda of Eq. 5.
    """
    similarity = (structural_similarity(fused, thermal) + structural_similarity(fused, luma)) / 2
    return (
        EDGE_WEIGHT * fusion_loss(fused, thermal, luma, brightness_weight, edge_gain=EDGE_GAIN).total
        + STRUCTURE_WEIGHT * (1 - similarity)
        + CORRELATION_WEIGHT * (2 - difference_correlations(fused, thermal, luma)) / 2
        - CONTRAST_WEIGHT * fused.flatten(1).std(dim=1).mean()
    )
