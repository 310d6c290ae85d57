"""Mean average precision of detections, by the COCO definition, through pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from irvf.frames import Detection


@dataclass(frozen=True, eq=False)
class Truth:
    """Labelled objects of one image: ``boxes [G x 4]`` as x_min, y_min, x_max, y_max in pixels, ``labels [G]``."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class AveragePrecision:
    """Averages over the classes that have objects, each in 0..1.

    Attributes:
        at_50: at an IoU of 0.5.
        at_50_95: mean over the IoU thresholds 0.5, 0.55 .. 0.95.
        by_class: class -> average precision at 0.5.
    """

    at_50: float
    at_50_95: float
    by_class: dict[str, float]


def average_precision(
    found: Sequence[Sequence[Detection]], truth: Sequence[Truth], labels: Sequence[str]
) -> AveragePrecision:
    """Compare detections with labelled objects.

    Args:
        found: detections of each image; all of them, also the uncertain ones.
        truth: objects of each image.
        labels: class names in the order of the indices in ``truth``.

    Raises:
        ValueError: nothing is labelled.
    """
    annotations = [
        _annotation(index, int(label), box)
        for index, image in enumerate(truth)
        for box, label in zip(image.boxes.tolist(), image.labels, strict=True)
    ]
    if not annotations:
        raise ValueError("no labelled objects: there is nothing to compare the detections with")
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    results = [
        {**_annotation(index, labels.index(entry.label), _corners(entry)), "score": entry.score}
        for index, image in enumerate(found)
        for entry in image
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # it reports to the terminal
        coco = COCO()
        coco.dataset = {
            "images": [{"id": index} for index in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": index, "name": name} for index, name in enumerate(labels)],
        }
        coco.createIndex()
        if not results:
            return AveragePrecision(0.0, 0.0, {labels[a["category_id"]]: 0.0 for a in annotations})
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU x recall x class; all areas, 100 detections
    present = [index for index in range(len(labels)) if (precision[:, :, index] > -1).any()]
    return AveragePrecision(
        at_50=float(precision[0][:, present].mean()),
        at_50_95=float(precision[:, :, present].mean()),
        by_class={labels[index]: float(precision[0, :, index].mean()) for index in present},
    )


def _corners(detection: Detection) -> list[float]:
    box = detection.box
    return [box.x_min, box.y_min, box.x_max, box.y_max]


def _annotation(image: int, category: int, corners: list[float]) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = corners
    width, height = x_max - x_min, y_max - y_min
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x_min, y_min, width, height],
        "area": width * height,
        "iscrowd": 0,
    }
