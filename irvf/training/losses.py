"""Fusion loss of stage 1 (IRVF paper, Eqs. 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irvf.networks.base_fusion import sobel_magnitude


@dataclass(frozen=True)
class FusionLoss:
    """The three figures of one step, each a scalar tensor; ``total`` is the one to minimise."""

    total: Tensor
    gradient: Tensor
    brightness: Tensor


def fusion_loss(fused: Tensor, thermal: Tensor, luma: Tensor, brightness_weight: float) -> FusionLoss:
    """Eq. 5: gradient loss plus lambda times brightness loss.

    Args:
        fused: ``[B x 1 x H x W]`` in 0..1.
        thermal: as ``fused``.
        luma: as ``fused``.
        brightness_weight: lambda.

    Returns:
        ``mean |grad F - max(grad T, grad V)| + lambda * mean |F - max(T, V)|``, gradients as Sobel magnitudes.
    """
    brightness = (fused - torch.maximum(thermal, luma)).abs().mean()
    strongest = torch.maximum(sobel_magnitude(thermal), sobel_magnitude(luma))
    gradient = (sobel_magnitude(fused) - strongest).abs().mean()
    return FusionLoss(gradient + brightness_weight * brightness, gradient, brightness)
