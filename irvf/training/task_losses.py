"""What a step of a task is trained on: its network's loss, others beside it, and the distance to a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from irvf.training.detection_loss import detection_loss
from irvf.training.losses import signed_gradients
from irvf.training.mask_losses import saliency_loss, segmentation_loss
from irvf.training.pair_windows import PairBatch, merge_chroma
from irvf.training.task_networks import TaskNetworks
from irvf.training.viewing_loss import viewing_loss

TASKS = ("detection", "segmentation", "saliency", "viewing")
_EDGE_SHARE = 0.5
"""Of the edges in the distance to the reference."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms of one task's loss."""

    task: float
    # Of the distance to the reference, at the start and at the end. At the start, a task loss alone is too noisy a
    # teacher for batches of two windows; kept to the end, it makes the images of all tasks alike.
    reference: tuple[float, float]
    also: dict[str, float] = field(default_factory=dict)  # of the losses of other tasks, on the same windows


def check_weights(order: Sequence[str], weights: Mapping[str, TermWeights]) -> None:
    """Refuse an order or weights that name unknown tasks, and an order whose tasks have no weights.

    Raises:
        ValueError: says which.
    """
    others = [task for terms in weights.values() for task in terms.also]
    unknown = [task for task in (*order, *weights, *others) if task not in TASKS]
    if unknown or not order:
        raise ValueError(f"order and weights name {', '.join(unknown) or 'nothing'}; known: {', '.join(TASKS)}")
    if set(weights["viewing"].also if "viewing" in weights else ()) - {"viewing"}:
        raise ValueError("viewing is trained on sets without labels: no loss of another task can take part in it")
    lacking = sorted(set(order) - set(weights))
    if lacking:
        raise ValueError(f"weights lack {', '.join(lacking)}: every task of the order needs its own")


def task_loss(
    task: str,
    fused: Tensor,
    batch: PairBatch,
    networks: TaskNetworks,
    weights: TermWeights,
    *,
    brightness_weight: float,
    progress: float,
) -> Tensor:
    """Return what a step of a task is trained on, a scalar: Eq. 9, and for viewing a loss of the image.

    Args:
        task: one of :data:`TASKS`.
        fused: luma ``[B x 1 x H x W]`` in 0..1.
        batch: that ``fused`` was made from.
        networks: frozen.
        weights: of the terms.
        brightness_weight: lambda of Eq. 5, in the loss of viewing.
        progress: share of the training that is done, 0..1.
    """
    loss = weights.task * _loss_of(task, fused, batch, networks, brightness_weight)
    for other, weight in weights.also.items():
        loss = loss + weight * _loss_of(other, fused, batch, networks, brightness_weight)
    edges = signed_gradients(fused) - signed_gradients(batch.reference)
    distance = (fused - batch.reference).abs().mean() + _EDGE_SHARE * edges.abs().sum(1).mean()
    first, last = weights.reference
    return loss + (first + (last - first) * progress) * distance


def _loss_of(task: str, fused: Tensor, batch: PairBatch, networks: TaskNetworks, brightness_weight: float) -> Tensor:
    if task == "viewing":
        return viewing_loss(fused, batch.thermal, batch.luma, brightness_weight)
    rgb = merge_chroma(fused, batch.chroma)
    if task == "detection":
        return detection_loss(networks.detection(rgb), batch.targets)
    if task == "segmentation":
        return segmentation_loss(networks.segmentation(rgb), batch.semantic)
    return saliency_loss(networks.saliency(rgb), batch.saliency)
