"""What is known about the pairs of a set: boxes, masks grown from them, true masks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from irvf.evaluation.average_precision import Truth
from irvf.evaluation.information import LEAST_SIDE
from irvf.frames import Image8
from irvf.training.data import PairFiles
from irvf.training.pseudo_labels import saliency_mask, semantic_mask
from irvf.training.scenes import Annotation, read_objects

TASKS = ("detection", "segmentation", "saliency")
SALIENCY_FOLDER = "saliency"
"""Folder of true masks of salient objects, NAME.png, black and white."""


@dataclass(frozen=True)
class SetTruth:
    """Which truth the folder of a set holds.

    Attributes:
        annotation: its boxes; None without them.
        saliency: folder of true saliency masks; None without them.
    """

    annotation: Annotation | None
    saliency: Path | None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, of :data:`TASKS`, that something is known for."""
        return TASKS if self.annotation else TASKS[2:] if self.saliency else ()

    def describe(self, task: str) -> str:
        """Name what a task is compared with."""
        if task == "saliency" and self.saliency:
            return f"true masks (`{SALIENCY_FOLDER}`)"
        if self.annotation is None:
            return "nothing"
        boxes = f"boxes (`{self.annotation.boxes}`)"
        return boxes if task == "detection" else f"pseudo-labels, grown on the thermal image in the {boxes}"


@dataclass(frozen=True, eq=False)
class PairTruth:
    """What is known about one pair; None where nothing is.

    Attributes:
        objects: labelled boxes.
        semantic: pseudo-label of each pixel ``[H x W]``, see :func:`irvf.training.pseudo_labels.semantic_mask`.
        saliency: ``[H x W]``, 0 and 1 and ignored; a true mask or a pseudo-label.
    """

    objects: Truth | None = None
    semantic: Image8 | None = None
    saliency: Image8 | None = None


def find_truth(folder: Path, boxes: str, labels: tuple[str, ...]) -> SetTruth:
    """See which truth a set has.

    Args:
        folder: of the set.
        boxes: name of the folder of YOLO boxes.
        labels: class names in the order of the indices in the boxes.
    """
    masks = folder / SALIENCY_FOLDER
    annotation = Annotation(boxes=boxes, labels=labels) if (folder / boxes).is_dir() else None
    return SetTruth(annotation, masks if masks.is_dir() else None)


def load_truth(pair: PairFiles, thermal: Image8, truth: SetTruth, tasks: Collection[str]) -> PairTruth:
    """Read and grow what the tasks are compared with.

    Args:
        pair: on disk.
        thermal: its thermal image ``[H x W]``.
        truth: of its set.
        tasks: of :data:`TASKS`.

    Raises:
        ValueError: unusable boxes or masks.
    """
    objects = semantic = saliency = None
    if truth.annotation and any(task in tasks for task in TASKS):
        read = read_objects(pair, (thermal.shape[0], thermal.shape[1]), truth.annotation)
        objects = Truth(read.boxes, read.labels)
        if "segmentation" in tasks:
            semantic = semantic_mask(thermal, read.boxes, read.labels, read.doubtful)
        if "saliency" in tasks and not truth.saliency:
            saliency = saliency_mask(thermal, read.boxes, read.doubtful)
    if "saliency" in tasks and truth.saliency:
        saliency = _read_mask(truth.saliency / f"{pair.name}.png", thermal.shape)
    return PairTruth(objects, semantic, saliency)


def _read_mask(path: Path, shape: tuple[int, ...]) -> Image8:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(f"{path} is not a readable mask")
    if mask.shape != shape:
        raise ValueError(
            f"{path} is {mask.shape[1]}x{mask.shape[0]}, its thermal image {shape[1]}x{shape[0]}; they must be equal"
        )
    if 0 < mask.max() < 128:
        raise ValueError(f"{path} has levels up to {mask.max()}; what is salient must be bright (255), the rest 0")
    return np.asarray(mask > 127, np.uint8)


def check_pairs(pairs: Sequence[PairFiles], truths: dict[str, SetTruth], tasks: Collection[str]) -> None:
    """Read everything once, before hours are spent on it.

    Args:
        pairs: on disk.
        truths: of their sets, by name.
        tasks: of :data:`TASKS`.

    Raises:
        ValueError: unreadable images, sizes that differ or are too small, unusable boxes or masks; all of them in one
            message.
    """
    faults: list[str] = []
    for pair in pairs:
        try:
            _check_pair(pair, truths[pair.dataset], tasks)
        except ValueError as error:  # noqa: PERF203  (reading files takes far longer)
            faults.append(str(error))
    if faults:
        more = f"; and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise ValueError(f"{len(faults)} pairs cannot be used: " + "; ".join(faults[:20]) + more)


def _check_pair(pair: PairFiles, truth: SetTruth, tasks: Collection[str]) -> None:
    thermal, _ = pair.load()
    height, width = thermal.shape
    if min(height, width) < LEAST_SIDE:
        raise ValueError(
            f"{pair.dataset}/{pair.name} has {width}x{height} pixels; at least {LEAST_SIDE} a side are needed"
        )
    if truth.annotation and tasks:
        read_objects(pair, (height, width), truth.annotation)
    if truth.saliency and "saliency" in tasks:
        _read_mask(truth.saliency / f"{pair.name}.png", thermal.shape)
