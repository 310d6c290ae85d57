"""Fusion metrics that a network can be trained on: as in ``irvf/evaluation``, of batches, with a gradient.

All planes are ``[B x 1 x H x W]`` in 0..1, results ``[B]``, larger is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from irvf.training.losses import signed_gradients

_LEVELS = 255.0
_SIMILARITY_WINDOW, _SIMILARITY_SIGMA = 11, 1.5
_SCALES = 4
_NOISE_VARIANCE = 2.0
_LEAST = 1e-10
LEAST_SIDE = 41
"""Height and width below which a plane has no fourth scale."""


def _blur(planes: Tensor, side: int, sigma: float) -> Tensor:
    """Weigh with a Gaussian window where it lies inside; planes get smaller by ``side - 1``."""
    offsets = torch.arange(side, dtype=planes.dtype, device=planes.device) - side // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    rows = functional.conv2d(planes, weights.reshape(1, 1, 1, -1))
    return functional.conv2d(rows, weights.reshape(1, 1, -1, 1))


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return SSIM (Wang et al., IEEE TIP 2004), Gaussian window of 11 x 11, sigma 1.5; -1..1."""

    def blur(planes: Tensor) -> Tensor:
        return _blur(planes, _SIMILARITY_WINDOW, _SIMILARITY_SIGMA)

    mean_first, mean_second = blur(first), blur(second)
    variances = blur(first * first) - mean_first**2 + blur(second * second) - mean_second**2
    covariance = blur(first * second) - mean_first * mean_second
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_first * mean_second + c1) * (2 * covariance + c2)
    return (numerator / ((mean_first**2 + mean_second**2 + c1) * (variances + c2))).flatten(1).mean(1)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation coefficient of the pixels of each sample, ``[B]``."""
    first, second = (plane.flatten(1) - plane.flatten(1).mean(1, keepdim=True) for plane in (first, second))
    norms = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    correlations: Tensor = (first * second).sum(1) / norms.clamp(min=1e-6)
    return correlations


def difference_correlations(fused: Tensor, thermal: Tensor, luma: Tensor) -> Tensor:
    """Return SCD (Aslantas and Bendes, AEU 2015): what each image adds must look like that image; -2..2."""
    return _correlation(fused - luma, thermal) + _correlation(fused - thermal, luma)


def visual_information_fidelity(source: Tensor, fused: Tensor) -> Tensor:
    """Return VIFP (Sheikh and Bovik, IEEE TIP 2006): share of a source's visual information that is kept; from 0.

    Args:
        source: at least :data:`LEAST_SIDE` pixels a side.
        fused: of the same size.
    """
    x, y = source * _LEVELS, fused * _LEVELS
    kept = available = torch.zeros(len(source), dtype=source.dtype, device=source.device)
    for scale in range(_SCALES):
        side = 2 ** (_SCALES - scale) + 1
        sigma = side / 5
        if scale:
            x, y = (_blur(plane, side, sigma)[..., ::2, ::2] for plane in (x, y))
        mean_x, mean_y = _blur(x, side, sigma), _blur(y, side, sigma)
        variance_x = (_blur(x * x, side, sigma) - mean_x**2).clamp(min=0)
        variance_y = (_blur(y * y, side, sigma) - mean_y**2).clamp(min=0)
        covariance = _blur(x * y, side, sigma) - mean_x * mean_y
        gain = torch.where((variance_x > _LEAST) & (variance_y > _LEAST), covariance / (variance_x + _LEAST), 0.0)
        gain = gain.clamp(min=0)  # what is inverted keeps nothing
        distortion = (variance_y - gain * covariance).clamp(min=_LEAST)
        kept = kept + torch.log1p(gain**2 * variance_x / (distortion + _NOISE_VARIANCE)).flatten(1).sum(1)
        available = available + torch.log1p(variance_x / _NOISE_VARIANCE).flatten(1).sum(1)
    return kept / available.clamp(min=1e-3)


def _edges(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return strength and orientation (radians, -pi/2..pi/2) of the Sobel gradient, ``[B x 1 x H x W]`` each."""
    gradients = signed_gradients(planes) * (4 * _LEVELS)  # as Sobel's kernels have it
    x, y = gradients.chunk(2, dim=1)
    strength = torch.sqrt(x * x + y * y + 1e-4)
    upright = x.abs() < 1e-3  # no gradient through a division by next to nothing
    return strength, torch.atan(y / torch.where(upright, torch.full_like(x, 1e-3), x))


def edge_preservation(fused: Tensor, thermal: Tensor, luma: Tensor) -> Tensor:
    """Return Q_AB/F (Xydeas and Petrovic, Electronics Letters 2000), 0..1."""
    strength_fused, orientation_fused = _edges(fused)
    kept = total = torch.zeros(len(fused), dtype=fused.dtype, device=fused.device)
    for source in (thermal, luma):
        strength, orientation = _edges(source)
        ratio = torch.minimum(strength, strength_fused) / torch.maximum(strength, strength_fused)
        alignment = 1 - (orientation - orientation_fused).abs() / (math.pi / 2)
        quality = 0.9994 * torch.sigmoid(15 * (ratio - 0.5)) * 0.9879 * torch.sigmoid(22 * (alignment - 0.8))
        kept = kept + (quality * strength).flatten(1).sum(1)
        total = total + strength.flatten(1).sum(1)
    return kept / total
