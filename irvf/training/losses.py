"""Fusion loss of stage 1 (IRVF paper, Eqs. 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class FusionLoss:
    """The three figures of one step, each a scalar tensor; ``total`` is the one to minimise."""

    total: Tensor
    gradient: Tensor
    brightness: Tensor


def signed_gradients(planes: Tensor) -> Tensor:
    """Return the Sobel gradients along x and y, scaled so that a ramp of 1 a pixel gives 2.

    Args:
        planes: ``[B x 1 x H x W]``.

    Returns:
        ``[B x 2 x H x W]``, reflect padding.
    """
    horizontal = planes.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    kernels = torch.stack((horizontal, horizontal.t())).unsqueeze(1)
    return functional.conv2d(functional.pad(planes, (1, 1, 1, 1), mode="reflect"), kernels)


def fusion_loss(fused: Tensor, thermal: Tensor, luma: Tensor, brightness_weight: float) -> FusionLoss:
    """Eq. 5: gradient loss plus lambda times brightness loss.

    The gradient to reach is, along each axis, that of the source where it is larger, with its sign. The magnitude
    alone, as Eq. 4 can also be read, is met by inverted contrast as well: trained on it, warm people came out dark.

    Args:
        fused: ``[B x 1 x H x W]`` in 0..1.
        thermal: as ``fused``.
        luma: as ``fused``.
        brightness_weight: lambda.
    """
    brightness = (fused - torch.maximum(thermal, luma)).abs().mean()
    of_thermal, of_luma = signed_gradients(thermal), signed_gradients(luma)
    strongest = torch.where(of_thermal.abs() > of_luma.abs(), of_thermal, of_luma)
    gradient = (signed_gradients(fused) - strongest).abs().sum(1).mean()
    return FusionLoss(gradient + brightness_weight * brightness, gradient, brightness)
