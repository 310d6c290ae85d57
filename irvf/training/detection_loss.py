"""Loss of the box detector: task-aligned assignment (TOOD, Feng et al., ICCV 2021), BCE and generalised IoU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from irvf.networks.box_detector import Predictions

SCORE_POWER, OVERLAP_POWER = 0.5, 6.0  # alpha and beta of the alignment metric (TOOD, Eq. 2)
POINTS_PER_OBJECT = 10
BOX_WEIGHT = 3.0


@dataclass(frozen=True)
class Targets:
    """Objects of one image.

    Attributes:
        boxes: ``[G x 4]`` as x_min, y_min, x_max, y_max in pixels.
        labels: ``[G]`` class indices.
        ignored: ``[I x 4]`` regions in which nothing is held against the detector: annotators disagree there.
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


def pairwise_overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU (Rezatofighi et al., CVPR 2019) of boxes that broadcast against each other.

    Args:
        first: ``[... x 4]`` as x_min, y_min, x_max, y_max.
        second: as ``first``.

    Returns:
        IoU in 0..1 and generalised IoU in -1..1, each ``[...]``.
    """
    inner = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    outer = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    intersection, hull = inner.prod(-1), outer.prod(-1)
    areas = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    union = (areas - intersection).clamp(min=1e-6)
    overlap = intersection / union
    return overlap, overlap - (hull - union) / hull.clamp(min=1e-6)


def _points_in(boxes: Tensor, points: Tensor, margin: Tensor) -> Tensor:
    """Say which points lie in which boxes, boxes smaller than a cell grown to ``margin`` pixels: ``[G x N]``."""
    center, half = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    reach = torch.maximum(half, margin[None, :, None])
    return ((points[None] - center).abs() <= reach).all(-1)


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Choose the points that answer for each object.

    Args:
        scores: ``[N x classes]`` in 0..1.
        boxes: predicted, ``[N x 4]``.
        points: ``[N x 2]``.
        strides: ``[N]``.
        targets: objects of the image, at least one.

    Returns:
        Soft class targets ``[N x classes]``, and the index of each point's object ``[N]`` (-1 for none).
    """
    candidate = _points_in(targets.boxes, points, strides / 2)
    overlap = pairwise_overlap(targets.boxes[:, None], boxes[None])[0]
    alignment = scores[:, targets.labels].T ** SCORE_POWER * overlap**OVERLAP_POWER * candidate
    # Before anything overlaps, the nearest points stand in for the aligned ones.
    distance = (points[None] - (targets.boxes[:, None, :2] + targets.boxes[:, None, 2:]) / 2).norm(dim=-1)
    ranking = torch.where(candidate, alignment - 1e-9 * distance, torch.full_like(alignment, -torch.inf))
    chosen = torch.zeros_like(candidate)
    best = ranking.topk(min(POINTS_PER_OBJECT, ranking.shape[1]), dim=1).indices
    chosen.scatter_(1, best, value=True)
    chosen &= candidate
    owner = torch.where(chosen, overlap, torch.full_like(overlap, -1.0)).argmax(0)
    assigned = torch.where(chosen.any(0), owner, torch.full_like(owner, -1))
    mine = chosen & (torch.arange(len(chosen), device=owner.device)[:, None] == assigned[None])
    alignment = alignment * mine
    scale = (overlap * mine).amax(1) / alignment.amax(1).clamp(min=1e-12)
    soft = torch.zeros_like(scores)
    positive = assigned >= 0
    index = assigned[positive]
    soft[positive, targets.labels[index]] = (alignment * scale[:, None])[index, positive].clamp(0, 1)
    return soft, assigned


def detection_loss(found: Predictions, batch: list[Targets]) -> Tensor:
    """Return the loss of a batch: a scalar to minimise.

    Args:
        found: predictions of ``B`` images.
        batch: the objects of each image.
    """
    class_loss = found.logits.new_zeros(())
    box_loss = found.logits.new_zeros(())
    weight = found.logits.new_zeros(())
    for logits, boxes, targets in zip(found.logits, found.boxes, batch, strict=True):
        soft = torch.zeros_like(logits)
        counted = torch.ones_like(logits[:, 0], dtype=torch.bool)
        if len(targets.ignored):
            counted = ~_points_in(targets.ignored, found.points, torch.zeros_like(found.strides)).any(0)
        if len(targets.boxes):
            soft, assigned = assign(logits.sigmoid(), boxes, found.points, found.strides, targets)
            positive = assigned >= 0
            counted = counted | positive
            share = soft[positive].sum(-1)
            overlap = pairwise_overlap(boxes[positive], targets.boxes[assigned[positive]])[1]
            # Early on the alignment is next to nothing: a floor keeps the boxes learning from the start.
            share = share.clamp(min=0.1)
            box_loss = box_loss + ((1 - overlap) * share).sum()
            weight = weight + share.sum()
        losses = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none").sum(-1)
        class_loss = class_loss + losses[counted].sum()
    return (class_loss + BOX_WEIGHT * box_loss) / weight.clamp(min=1.0)
