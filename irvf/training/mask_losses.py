"""Losses of the task networks that answer with masks: semantic segmentation and saliency."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from irvf.networks.salient_object import SaliencyLogits
from irvf.training.pseudo_labels import IGNORED

BORDER_WEIGHT = 0.5
"""Weight of the boundary path's loss."""
_LARGEST_CLASS_WEIGHT = 2.0


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return cross entropy plus soft Dice loss, a scalar.

    Cross entropy alone (SegFormer's loss) is content with background where objects fill 2 % of the image; the
    Dice loss (Milletari et al., 3DV 2016), over the classes that the batch shows, is not.

    Args:
        logits: ``[B x K x h x w]``.
        truth: class indices ``[B x H x W]`` int64, :data:`IGNORED` where nothing is asked; any size.
    """
    logits = functional.interpolate(logits, size=truth.shape[1:], mode="bilinear", align_corners=False)
    counted = truth != IGNORED
    wanted = torch.where(counted, truth, torch.zeros_like(truth))
    shares = functional.one_hot(wanted, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype) * counted[:, None]
    pixels = shares.sum(dim=(0, 2, 3))
    weights = (pixels.sum() / pixels.clamp(min=1)).sqrt().clamp(max=_LARGEST_CLASS_WEIGHT)
    entropy = functional.cross_entropy(logits, wanted, weight=weights, reduction="none") * counted
    present = pixels > 0
    present[0] = False
    loss = entropy.sum() / (weights * pixels).sum().clamp(min=1)
    if present.any():
        found = logits.softmax(dim=1) * counted[:, None]
        shared = (found * shares).sum(dim=(0, 2, 3))
        dice = 1 - (2 * shared + 1) / (found.sum(dim=(0, 2, 3)) + pixels + 1)
        loss = loss + dice[present].mean()
    return loss


def saliency_loss(found: SaliencyLogits, truth: Tensor) -> Tensor:
    """Return binary cross entropy plus IoU loss of the objects and cross entropy of their borders, a scalar.

    The sum that CTDNet (ACM MM 2021) is trained with.

    Args:
        found: scores at half resolution or finer.
        truth: 0, 1 or :data:`IGNORED`, ``[B x H x W]`` int64.
    """
    size = truth.shape[1:]
    objects, borders = (
        functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, 0]
        for logits in (found.objects, found.borders)
    )
    counted = (truth != IGNORED).to(objects.dtype)
    wanted = (truth == 1).to(objects.dtype)
    pixels = counted.sum().clamp(min=1)
    entropy = functional.binary_cross_entropy_with_logits(objects, wanted, reduction="none")
    chance = objects.sigmoid() * counted
    shared = (chance * wanted).sum(dim=(1, 2))
    union = (chance + wanted - chance * wanted).sum(dim=(1, 2))
    shows = wanted.sum(dim=(1, 2)) > 0
    loss = (entropy * counted).sum() / pixels
    if shows.any():
        loss = loss + (1 - (shared + 1) / (union + 1))[shows].mean()
    edge = borders_of(wanted)
    border_entropy = functional.binary_cross_entropy_with_logits(borders, edge, reduction="none")
    return loss + BORDER_WEIGHT * (border_entropy * counted).sum() / pixels


def borders_of(masks: Tensor) -> Tensor:
    """Return the pixels of masks ``[B x H x W]`` (0 or 1) and around them that touch the other side, one a side."""
    planes = masks[:, None]
    grown = functional.max_pool2d(planes, 3, stride=1, padding=1)
    shrunk = -functional.max_pool2d(-planes, 3, stride=1, padding=1)
    return (grown - shrunk)[:, 0]
