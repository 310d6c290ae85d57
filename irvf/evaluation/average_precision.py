"""Mean average precision of detections, by the COCO definition: pycocotools matches, numpy adds up.

The matching of an image does not depend on the others. It is done once; any resample of the images is then added up
without it, which makes a bootstrap affordable.
"""

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

from irvf.evaluation.bootstrap import Draws, Floats, Statistic
from irvf.frames import Detection

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_LEVELS = np.linspace(0, 1, 101)
MOST_DETECTIONS = 100
"""Detections of an image that count, best first, of each class."""


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
        at_75: at an IoU of 0.75.
        at_50_95: mean over the IoU thresholds 0.5, 0.55 .. 0.95.
        by_class: class -> average precision at 0.5.
    """

    at_50: float
    at_75: float
    at_50_95: float
    by_class: dict[str, float]


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """What became of the detections of one class, best score first.

    Attributes:
        images: index of the image of each detection, ``[D]``.
        hits: whether it is matched with an object at each IoU threshold, ``[10 x D]``.
        objects: labelled objects in each image, ``[N]``.
    """

    images: NDArray[np.int64]
    hits: NDArray[np.bool_]
    objects: NDArray[np.int64]

    def precision(self, counts: NDArray[np.int64]) -> Floats:
        """Return the interpolated precision at each IoU threshold and recall level.

        Args:
            counts: how often each image counts, ``[N]``.

        Returns:
            ``[10 x 101]``; NaN without objects.
        """
        objects = int(counts @ self.objects)
        if not objects:
            return np.full((len(IOU_THRESHOLDS), len(RECALL_LEVELS)), np.nan)
        weights = counts[self.images]
        kept = weights > 0
        weights = weights[kept]
        found = np.cumsum(weights)
        curve = np.zeros((len(IOU_THRESHOLDS), len(RECALL_LEVELS)))
        for row, hits in zip(curve, self.hits[:, kept], strict=True):
            right = np.cumsum(weights * hits)
            envelope = np.maximum.accumulate((right / found)[::-1])[::-1]
            first = np.searchsorted(right / objects, RECALL_LEVELS, side="left")
            reached = first < len(envelope)
            row[reached] = envelope[first[reached]]
        return curve


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of a set of images, matched with its objects; ``by_class`` in the order of ``labels``."""

    labels: tuple[str, ...]
    by_class: tuple[ClassMatches, ...]

    def precision(self, counts: NDArray[np.int64]) -> Floats:
        """Return :meth:`ClassMatches.precision` of all classes, ``[K x 10 x 101]``."""
        return np.stack([matches.precision(counts) for matches in self.by_class])

    def everything(self) -> NDArray[np.int64]:
        """Return the counts ``[N]`` that take each image once."""
        return np.ones(len(self.by_class[0].objects), np.int64)


def match_detections(found: Sequence[Sequence[Detection]], truth: Sequence[Truth], labels: Sequence[str]) -> Matches:
    """Match detections with labelled objects, image by image.

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
    evaluated = _evaluate(annotations, results, len(truth), labels)
    by_class = []
    for index in range(len(labels)):
        entries = evaluated[index * len(truth) : (index + 1) * len(truth)]
        objects = [sum(int(label) == index for label in image.labels) for image in truth]
        by_class.append(_class_matches(entries, np.array(objects, np.int64)))
    return Matches(tuple(labels), tuple(by_class))


def _evaluate(
    annotations: list[dict[str, Any]], results: list[dict[str, Any]], images: int, labels: Sequence[str]
) -> list[dict[str, Any] | None]:
    """Run pycocotools' matching; an entry for each class and image, class by class."""
    if not results:  # it cannot read an empty list
        return [None] * (images * len(labels))
    with contextlib.redirect_stdout(io.StringIO()):  # it reports to the terminal
        coco = COCO()
        coco.dataset = {
            "images": [{"id": index} for index in range(images)],
            "annotations": annotations,
            "categories": [{"id": index, "name": name} for index, name in enumerate(labels)],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.evaluate()
    entries: list[dict[str, Any] | None] = evaluation.evalImgs
    return entries


def _class_matches(entries: Sequence[dict[str, Any] | None], objects: NDArray[np.int64]) -> ClassMatches:
    scores, images, hits = [], [], []
    for index, entry in enumerate(entries):
        if entry is not None:
            scores += list(entry["dtScores"])
            images += [index] * len(entry["dtScores"])
            hits.append(np.asarray(entry["dtMatches"]) > 0)
    order = np.argsort(-np.array(scores), kind="stable")
    joined = np.concatenate(hits, axis=1) if hits else np.zeros((len(IOU_THRESHOLDS), 0), bool)
    return ClassMatches(np.array(images, np.int64)[order], joined[:, order], objects)


def average_precision(
    found: Sequence[Sequence[Detection]], truth: Sequence[Truth], labels: Sequence[str]
) -> AveragePrecision:
    """Compare detections with labelled objects; arguments and errors as :func:`match_detections`."""
    matches = match_detections(found, truth, labels)
    by_class = matches.precision(matches.everything()).mean(axis=2)
    present = np.isfinite(by_class[:, 0])
    mean = by_class[present].mean(axis=0)
    return AveragePrecision(
        at_50=float(mean[0]),
        at_75=float(mean[5]),
        at_50_95=float(mean.mean()),
        by_class={label: float(by_class[k, 0]) for k, label in enumerate(matches.labels) if present[k]},
    )


def precision_statistics(matches: Matches, draws: Draws) -> dict[str, Statistic]:
    """Return ``mAP50-95``, ``mAP50`` and ``mAP75``, and ``AP50-95 CLASS`` of each class that has objects.

    Args:
        matches: of the set.
        draws: ``[R x N]``.
    """
    plain = matches.precision(matches.everything()).mean(axis=2)
    resampled = np.stack([matches.precision(counts).mean(axis=2) for counts in draws])  # R x K x 10

    def statistic(pick: slice | int, label: int | None = None) -> Statistic:
        classes = slice(None) if label is None else slice(label, label + 1)
        value = _known_mean(plain[None, classes, pick])[0]
        return Statistic(float(value), _known_mean(resampled[:, classes, pick]))

    result = {"mAP50-95": statistic(slice(0, 10)), "mAP50": statistic(slice(0, 1)), "mAP75": statistic(slice(5, 6))}
    for index, label in enumerate(matches.labels):
        if matches.by_class[index].objects.any():
            result[f"AP50-95 {label}"] = statistic(slice(0, 10), index)
    return result


def _known_mean(values: Floats) -> Floats:
    """Mean over the last two axes of what is not NaN; NaN where nothing is known."""
    known = np.isfinite(values)
    total = known.sum(axis=(1, 2))
    summed = np.where(known, values, 0).sum(axis=(1, 2))
    means: Floats = np.divide(summed, total, out=np.full(len(values), np.nan), where=total > 0)
    return means


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
