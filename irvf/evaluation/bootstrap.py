"""Percentile bootstrap over images: how far a figure on a small set can be trusted.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. A resample draws as many images as there are,
with replacement; it is kept as how often each image was drawn. Rows that are compared get the same resamples, so the
difference between two of them is a paired one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Draws = NDArray[np.int64]
"""How often each image is in each resample, ``[R x N]``."""

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Statistic:
    """A figure of a set of images.

    Attributes:
        value: of the images as they are.
        resampled: of each resample, ``[R]``; NaN where it is not defined.
    """

    value: float
    resampled: Floats

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the percentile interval of :data:`CONFIDENCE`."""
        if not np.isfinite(self.resampled).any():
            return float("nan"), float("nan")
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(self.resampled, (tail, 1 - tail))
        return float(low), float(high)

    def minus(self, other: Statistic) -> Statistic:
        """Return the paired difference; both must stand on the same images and resamples."""
        return Statistic(self.value - other.value, self.resampled - other.resampled)


def draw_resamples(images: int, resamples: int = 1000, seed: int = 0) -> Draws:
    """Draw with replacement.

    Args:
        images: number of images.
        resamples: number of resamples.
        seed: the same one gives the same resamples.

    Raises:
        ValueError: nothing to draw from, or no resample wanted.
    """
    if images < 1 or resamples < 1:
        raise ValueError(f"{resamples} resamples of {images} images; at least one of each is needed")
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.asarray(draws, np.int64)


def mean_statistic(values: Floats, draws: Draws) -> Statistic:
    """Return the mean over images, with its resamples.

    Args:
        values: of each image ``[N]``; NaN where an image has none: it is left out.
        draws: ``[R x N]``.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)

    def mean(counts: Draws) -> Floats:
        total = counts @ known
        means: Floats = np.divide(counts @ filled, total, out=np.full(len(counts), np.nan), where=total > 0)
        return means

    return Statistic(float(mean(np.ones((1, len(values)), np.int64))[0]), mean(draws))
