"""The table of fusion metrics on 8-bit luma, and those of contrast, gradients and structure.

Papers give one name to different definitions: each docstring says what is computed here. What counts information is in
:mod:`irvf.evaluation.information`, what models the eye in :mod:`irvf.evaluation.perceptual`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.evaluation.information import (
    entropy,
    mean_cross_entropy,
    normalized_information,
    summed_fidelity,
    summed_information,
)
from irvf.evaluation.perceptual import contrast_preservation, regional_distortion
from irvf.frames import Image8

Floats = NDArray[np.float64]


def standard_deviation(fused: Image8) -> float:
    """SD: standard deviation of the population, in grey levels; ``fused [H x W]``. Larger is better."""
    return float(fused.std())


def spatial_frequency(fused: Image8) -> float:
    """SF of Eskicioglu and Fisher (IEEE Trans. Commun. 1995), in grey levels. Larger is better.

    Root of the mean squared differences along rows plus those along columns; ``fused [H x W]``.
    """
    plane = fused.astype(np.float64)
    return float(np.sqrt((np.diff(plane, axis=1) ** 2).mean() + (np.diff(plane, axis=0) ** 2).mean()))


def average_gradient(fused: Image8) -> float:
    """AG of Cui et al. (Optics Communications 2015), in grey levels. Larger is better.

    Mean over the pixels of sqrt((dx^2 + dy^2) / 2), with the differences to the next column and the next row;
    ``fused [H x W]``.
    """
    plane = fused.astype(np.float64)
    across, down = np.diff(plane, axis=1)[:-1], np.diff(plane, axis=0)[:, :-1]
    return float(np.sqrt((across**2 + down**2) / 2).mean())


def _correlation(first: Floats, second: Floats) -> float:
    """Pearson's r, -1..1; 0 where a plane is constant."""
    x, y = first - first.mean(), second - second.mean()
    power = float((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / np.sqrt(power)) if power > 0 else 0.0


def correlation_of_differences(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """SCD of Aslantas and Bendes (AEU 2015), -2..2. Larger is better.

    r(F - B, A) + r(F - A, B): what the fused plane adds to one source should look like the other. A difference or a
    source that is constant correlates with nothing.
    """
    f, a, b = (plane.astype(np.float64) for plane in (fused, thermal, luma))
    return _correlation(f - b, a) + _correlation(f - a, b)


def structural_similarity(first: Image8, second: Image8) -> float:
    """SSIM of Wang et al. (IEEE TIP 2004) of two planes ``[H x W]``, mean over the pixels, -1..1.

    Gaussian window of 11 x 11, sigma 1.5, L = 255.
    """

    def blur(plane: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101), np.float64)

    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((numerator / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))).mean())


def mean_similarity(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """SSIM: mean of :func:`structural_similarity` with each source. Larger is better."""
    return (structural_similarity(fused, thermal) + structural_similarity(fused, luma)) / 2


def _edges(plane: Image8) -> tuple[Floats, Floats]:
    """Strength and orientation (radians, -pi/2..pi/2) of the Sobel gradient."""
    x = cv2.Sobel(plane, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT_101)
    y = cv2.Sobel(plane, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REFLECT_101)
    with np.errstate(divide="ignore", invalid="ignore"):
        orientation = np.where(x == 0, np.pi / 2, np.arctan(y / x))
    return np.hypot(x, y), orientation


def edge_preservation(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """Q_AB/F of Xydeas and Petrovic (Electronics Letters 2000), 0..1. Larger is better.

    Share of the sources' Sobel edges that the fused plane keeps, weighted by their strength; sigmoids with
    0.9994 / -15 / 0.5 for strength and 0.9879 / -22 / 0.8 for orientation.
    """
    strength_fused, orientation_fused = _edges(fused)
    kept = np.zeros(fused.shape)
    total = np.zeros(fused.shape)
    for source in (thermal, luma):
        strength, orientation = _edges(source)
        larger, smaller = np.maximum(strength, strength_fused), np.minimum(strength, strength_fused)
        ratio = np.divide(smaller, larger, out=np.zeros_like(larger), where=larger > 0)
        alignment = 1 - np.abs(orientation - orientation_fused) / (np.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (alignment - 0.8)))
        kept += quality * strength
        total += strength
    return float(kept.sum() / max(total.sum(), 1e-12))


@dataclass(frozen=True)
class FusionMetric:
    """A row of the table.

    Attributes:
        measure: function of fused, thermal and luma, each ``[H x W]`` uint8 of one size.
        definition: in a line, for reports.
        larger_is_better: or smaller.
    """

    measure: Callable[[Image8, Image8, Image8], float]
    definition: str
    larger_is_better: bool = True


def _of_fused(measure: Callable[[Image8], float]) -> Callable[[Image8, Image8, Image8], float]:
    return lambda fused, thermal, luma: measure(fused)  # noqa: ARG005  (every metric takes all three)


METRICS = {
    "EN": FusionMetric(_of_fused(entropy), "entropy of the grey levels, bits"),
    "SD": FusionMetric(_of_fused(standard_deviation), "standard deviation, grey levels"),
    "SF": FusionMetric(_of_fused(spatial_frequency), "spatial frequency, grey levels"),
    "AG": FusionMetric(_of_fused(average_gradient), "average gradient, forward differences, grey levels"),
    "MI": FusionMetric(summed_information, "mutual information, sum over both sources, bits"),
    "SCD": FusionMetric(correlation_of_differences, "sum of the correlations of differences"),
    "VIF": FusionMetric(summed_fidelity, "pixel-domain visual information fidelity, sum over both sources"),
    "Q_AB/F": FusionMetric(edge_preservation, "edges kept, Xydeas and Petrovic"),
    "SSIM": FusionMetric(mean_similarity, "structural similarity, mean over both sources"),
    "Q_CE": FusionMetric(
        mean_cross_entropy, "cross entropy as in VIFB, mean over both sources, bits", larger_is_better=False
    ),
    "Q_MI": FusionMetric(normalized_information, "normalised mutual information, Hossny et al."),
    "Q_CB": FusionMetric(contrast_preservation, "contrast kept, Chen and Blum, planes stretched to 0..255"),
    "Q_CV": FusionMetric(
        regional_distortion,
        "distortion, Chen and Varshney, planes stretched to 0..255, Mannos-Sakrison with 0.114 (some have 0.144)",
        larger_is_better=False,
    ),
}
"""Name -> metric."""

RANKED = ("EN", "SD", "SF", "MI", "SCD", "VIF", "Q_AB/F", "SSIM")
"""The metrics that a mean rank is taken over."""


def measure_fusion(fused: Image8, thermal: Image8, luma: Image8) -> dict[str, float]:
    """Return every metric of :data:`METRICS`; the planes are ``[H x W]`` uint8, at least 41 pixels a side.

    Raises:
        ValueError: planes that are too small or not of one size.
    """
    if not fused.shape == thermal.shape == luma.shape:
        raise ValueError(f"planes of {fused.shape}, {thermal.shape} and {luma.shape} pixels; all must be of one size")
    return {name: metric.measure(fused, thermal, luma) for name, metric in METRICS.items()}
