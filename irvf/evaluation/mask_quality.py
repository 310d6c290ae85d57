"""How well masks are found: mean IoU of classes; MAE, F-measure and E-measure of saliency.

Pixels whose truth is :data:`irvf.training.pseudo_labels.IGNORED` are left out everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irvf.evaluation.bootstrap import Draws, Floats, Statistic
from irvf.frames import Image8
from irvf.training.pseudo_labels import IGNORED

Counts = NDArray[np.int64]

_BETA_SQUARED = 0.3
LEVELS = 256


def confusion(found: Image8, truth: Image8, classes: int) -> Counts:
    """Count the pixels of each pair of classes.

    Args:
        found: class of each pixel ``[H x W]``.
        truth: the same, with ignored pixels.
        classes: number of classes, background too.

    Returns:
        ``[classes x classes]``, rows by truth, columns by what was found.

    Raises:
        ValueError: planes of two sizes, or a class out of range.
    """
    if found.shape != truth.shape:
        raise ValueError(f"a mask of {found.shape} pixels does not fit one of {truth.shape}")
    asked = truth != IGNORED
    expected, got = truth[asked].astype(np.int64), found[asked]
    for name, plane in (("truth", expected), ("found mask", got)):
        if plane.size and plane.max() >= classes:
            raise ValueError(f"class {plane.max()} in the {name}; there are {classes}, from 0")
    return np.bincount(expected * classes + got, minlength=classes**2).reshape(classes, classes)


def class_iou(counts: Counts) -> Floats:
    """Return the intersection over union of each class over all pixels that are counted.

    Args:
        counts: ``[... x K x K]``, as :func:`confusion`, summed over images.

    Returns:
        ``[... x K]`` in 0..1; NaN for a class that the truth does not have.
    """
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    expected = counts.sum(-1)
    union = expected + counts.sum(-2) - hit
    shares: Floats = np.divide(hit, union, out=np.full(union.shape, np.nan), where=expected > 0)
    return shares


def mean_iou(counts: Counts) -> float:
    """Return the mean of :func:`class_iou` over the classes that the truth has, background counted; NaN without any."""
    return float(_known_mean(class_iou(counts)))


def iou_statistics(counts: Counts, draws: Draws) -> tuple[Statistic, list[Statistic]]:
    """Return mIoU (the mean over the classes that the truth has, background counted) and the IoU of each class.

    Args:
        counts: of each image, ``[N x K x K]``.
        draws: ``[R x N]``.
    """
    images, classes, _ = counts.shape
    plain = class_iou(counts.sum(0))
    resampled = class_iou((draws @ counts.reshape(images, -1)).reshape(-1, classes, classes))
    by_class = [Statistic(float(plain[k]), resampled[:, k]) for k in range(classes)]
    return Statistic(mean_iou(counts.sum(0)), _known_mean(resampled)), by_class


def _known_mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    total = known.sum(-1)
    means: Floats = np.divide(
        np.where(known, values, 0).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0
    )
    return means


@dataclass(frozen=True)
class SaliencyQuality:
    """Figures of one image.

    Attributes:
        mae: mean absolute error against the mask, 0..1. Smaller is better.
        mean_f: F-measure of Achanta et al. (CVPR 2009), 1.3 P R / (0.3 P + R), mean over the masks that the thresholds
            0..255 cut out of the map (``level >= threshold``). Larger is better. NaN where nothing is salient.
        mean_e: E-measure of Fan et al. (IJCAI 2018), mean over the same masks. Larger is better.
    """

    mae: float
    mean_f: float
    mean_e: float


def saliency_quality(found: Image8, truth: Image8) -> SaliencyQuality:
    """Compare a saliency map with a mask.

    Args:
        found: ``[H x W]``, 0..255; taken as it is, not stretched.
        truth: ``[H x W]``, 0 and 1, with ignored pixels.

    Raises:
        ValueError: planes of two sizes, other values in the truth, or all of it ignored.
    """
    if found.shape != truth.shape:
        raise ValueError(f"a saliency map of {found.shape} pixels does not fit a mask of {truth.shape}")
    asked = truth != IGNORED
    if not asked.any() or truth[asked].max() > 1:
        raise ValueError("a saliency mask must have pixels of 0 and 1 that are not all ignored")
    salient = truth[asked] == 1
    levels = found[asked]
    inside, outside = (np.bincount(levels[part], minlength=LEVELS) for part in (salient, ~salient))
    error = (inside * (255 - np.arange(LEVELS)) + outside * np.arange(LEVELS)).sum() / (255 * levels.size)
    # Pixels at or above each threshold: that is all that both curves need.
    true_positive, false_positive = (np.cumsum(part[::-1])[::-1].astype(np.float64) for part in (inside, outside))
    return SaliencyQuality(
        float(error),
        _mean_f(true_positive, false_positive, inside.sum()),
        _mean_e(true_positive, false_positive, float(inside.sum()), float(levels.size)),
    )


def _mean_f(true_positive: Floats, false_positive: Floats, salient: float) -> float:
    if not salient:
        return float("nan")
    # (1 + b) P R / (b P + R) with P = TP / found and R = TP / salient, free of 0 / 0.
    found = true_positive + false_positive
    curve = (1 + _BETA_SQUARED) * true_positive / (_BETA_SQUARED * salient + found)
    return float(curve.mean())


def _mean_e(true_positive: Floats, false_positive: Floats, salient: float, size: float) -> float:
    found = true_positive + false_positive
    if salient in (0, size):
        share = found / size
        return float((1 - share if salient == 0 else share).mean())
    counts = (true_positive, salient - true_positive, false_positive, size - salient - false_positive)
    bias_truth, bias_found = salient / size, found / size
    total = np.zeros(LEVELS)
    for count, (in_truth, in_found) in zip(counts, ((1, 1), (1, 0), (0, 1), (0, 0)), strict=True):
        a, b = in_truth - bias_truth, in_found - bias_found
        alignment = 2 * a * b / (a * a + b * b)  # the truth is not constant, so a is never 0
        total += count * (alignment + 1) ** 2 / 4
    return float((total / size).mean())
