"""Labelled scenes: a pair with its boxes and the masks that are grown from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from irvf.frames import Image8
from irvf.training.data import PairFiles
from irvf.training.detection_data import overlap, read_yolo_boxes
from irvf.training.pseudo_labels import saliency_mask, semantic_mask

DOUBTFUL_OVERLAP = 0.3
"""A box of another annotation pass that overlaps no labelled one by this much is a doubtful object."""


@dataclass(frozen=True)
class Annotation:
    """Which files label a data set.

    Attributes:
        boxes: folder of the annotation pass that is learned.
        doubtful_boxes: folders of other passes; objects that only they name are neither asked for nor punished.
        labels: class names in the order of the indices in the files.
    """

    boxes: str = "boxes_fusion"
    doubtful_boxes: tuple[str, ...] = ("boxes_infrared", "boxes_visible")
    labels: tuple[str, ...] = ("person", "bicycle", "car")


@dataclass(frozen=True, eq=False)
class Objects:
    """What is labelled in an image.

    Attributes:
        boxes: ``[G x 4]`` float32, x_min, y_min, x_max, y_max in pixels.
        labels: ``[G]`` class indices.
        doubtful: ``[I x 4]`` regions that only another annotation pass calls an object.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    doubtful: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scene:
    """A pair with all that is known of it.

    Attributes:
        name: data set and name of the pair.
        thermal: ``[H x W]`` uint8.
        rgb: ``[H x W x 3]`` uint8.
        objects: labelled in it.
        semantic: pseudo-label of each pixel ``[H x W]``, see :func:`irvf.training.pseudo_labels.semantic_mask`.
        saliency: pseudo-label ``[H x W]``, see :func:`irvf.training.pseudo_labels.saliency_mask`.
    """

    name: str
    thermal: Image8
    rgb: Image8
    objects: Objects
    semantic: Image8
    saliency: Image8


_NO_OBJECTS = Objects(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty((0, 4), np.float32))


def read_objects(pair: PairFiles, image_size: tuple[int, int], annotation: Annotation) -> Objects:
    """Read the boxes of a pair; a missing file means no objects.

    Args:
        pair: on disk.
        image_size: height and width in pixels.
        annotation: where the boxes are.

    Raises:
        ValueError: a malformed line or an unknown class.
    """
    height, width = image_size
    folder = pair.thermal.parent.parent

    def read(name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return read_yolo_boxes(folder / name / f"{pair.name}.txt", width, height, len(annotation.labels))

    boxes, labels = read(annotation.boxes)
    doubtful = np.concatenate([np.empty((0, 4), np.float32), *(read(name)[0] for name in annotation.doubtful_boxes)])
    alone = overlap(doubtful, boxes).max(axis=1, initial=0.0) < DOUBTFUL_OVERLAP
    return Objects(boxes, labels, doubtful[alone])


def read_pair(
    pair: PairFiles, annotation: Annotation, labelled: Collection[str] | None = None
) -> tuple[Image8, Image8, Objects]:
    """Read a pair with its boxes; arguments as :func:`read_labelled`.

    Raises:
        ValueError: unreadable images, sizes that differ, or unusable labels.
    """
    thermal, rgb = pair.load()
    if labelled is not None and pair.dataset not in labelled:
        return thermal, rgb, _NO_OBJECTS
    return thermal, rgb, read_objects(pair, (thermal.shape[0], thermal.shape[1]), annotation)


def read_labelled(
    pairs: Sequence[PairFiles], annotation: Annotation, labelled: Collection[str] | None = None
) -> list[tuple[Image8, Image8, Objects]]:
    """Read pairs with their boxes.

    Args:
        pairs: on disk.
        annotation: where the boxes are.
        labelled: data sets with boxes of these classes, None for all; pairs of others have no objects.

    Returns:
        For each pair thermal ``[H x W]`` and RGB ``[H x W x 3]`` uint8, and what is labelled in it.

    Raises:
        ValueError: unreadable images, sizes that differ, or unusable labels, all of them in one message; or not a
            single labelled object.
    """
    read: list[tuple[Image8, Image8, Objects]] = []
    faults: list[str] = []
    for pair in pairs:
        try:
            read.append(read_pair(pair, annotation, labelled))
        except ValueError as error:  # noqa: PERF203 - reading a file takes far longer
            faults.append(str(error))
    if faults:
        raise ValueError(f"{len(faults)} pairs cannot be used: " + "; ".join(faults[:20]))
    if not any(len(objects.boxes) for _, _, objects in read):
        sets = sorted({pair.dataset for pair in pairs if labelled is None or pair.dataset in labelled})
        raise ValueError(f"no object is labelled: expected SET/{annotation.boxes}/NAME.txt for {', '.join(sets)}")
    return read


def load_scenes(
    pairs: Sequence[PairFiles], annotation: Annotation, labelled: Collection[str] | None = None
) -> list[Scene]:
    """Read pairs with their boxes and grow their masks; arguments and errors as :func:`read_labelled`."""
    scenes: list[Scene] = []
    read = read_labelled(pairs, annotation, labelled)
    for pair, (thermal, rgb, objects) in zip(tqdm(pairs, desc="labels", unit="pair"), read, strict=True):
        semantic = semantic_mask(thermal, objects.boxes, objects.labels, objects.doubtful)
        salient = saliency_mask(thermal, objects.boxes, objects.doubtful)
        scenes.append(Scene(f"{pair.dataset}/{pair.name}", thermal, rgb, objects, semantic, salient))
    return scenes
