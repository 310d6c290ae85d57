"""Fusion metrics on 8-bit luma; larger is better in all of them.

Definitions differ between papers. Here: EN in bits over 256 levels; SD the population standard deviation; SF of
Eskicioglu and Fisher (IEEE Trans. Commun. 1995); SSIM of Wang et al. (IEEE TIP 2004) with an 11x11 Gaussian window,
sigma 1.5, L = 255, the mean over both sources; Q_AB/F of Xydeas and Petrovic (Electronics Letters 2000) with the
constants 0.9994 / -15 / 0.5 and 0.9879 / -22 / 0.8.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8

Floats = NDArray[np.float64]


def entropy(fused: Image8) -> float:
    """EN: Shannon entropy of the grey levels in bits, 0..8; ``fused [H x W]``."""
    share = np.bincount(fused.ravel(), minlength=256) / fused.size
    present = share[share > 0]
    return float(-(present * np.log2(present)).sum())


def standard_deviation(fused: Image8) -> float:
    """SD in grey levels; ``fused [H x W]``."""
    return float(fused.std())


def spatial_frequency(fused: Image8) -> float:
    """SF in grey levels: root of the mean squared differences along rows plus those along columns."""
    plane = fused.astype(np.float64)
    return float(np.sqrt((np.diff(plane, axis=1) ** 2).mean() + (np.diff(plane, axis=0) ** 2).mean()))


def structural_similarity(first: Image8, second: Image8) -> float:
    """SSIM of two planes ``[H x W]``, mean over the pixels, -1..1."""

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
    """SSIM with each source, averaged."""
    return (structural_similarity(fused, thermal) + structural_similarity(fused, luma)) / 2


def _edges(plane: Image8) -> tuple[Floats, Floats]:
    """Strength and orientation (radians, -pi/2..pi/2) of the Sobel gradient."""
    x = cv2.Sobel(plane, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT_101)
    y = cv2.Sobel(plane, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REFLECT_101)
    with np.errstate(divide="ignore", invalid="ignore"):
        orientation = np.where(x == 0, np.pi / 2, np.arctan(y / x))
    return np.hypot(x, y), orientation


def edge_preservation(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """Q_AB/F: share of the sources' edges that the fused plane keeps, weighted by their strength, 0..1."""
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


METRICS: dict[str, Callable[[Image8, Image8, Image8], float]] = {
    "EN": lambda fused, thermal, luma: entropy(fused),  # noqa: ARG005  (every metric takes all three)
    "SD": lambda fused, thermal, luma: standard_deviation(fused),  # noqa: ARG005
    "SF": lambda fused, thermal, luma: spatial_frequency(fused),  # noqa: ARG005
    "SSIM": mean_similarity,
    "Q_AB/F": edge_preservation,
}
"""Name -> function of fused, thermal and luma, each ``[H x W]`` uint8."""
