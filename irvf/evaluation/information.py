"""Fusion metrics that count information: histograms of 8-bit luma, and the visual information of its neighbourhoods.

Definitions differ between papers: some take MI in nats, halve VIF or average what is summed here. The docstrings name
what is computed; all logarithms of histograms are to the base 2.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8

Floats = NDArray[np.float64]

_SCALES = 4
_NOISE_VARIANCE = 2.0
_LEAST_VARIANCE = 1e-10
LEAST_SIDE = 41
"""Smallest side of an image in pixels that VIF's windows fit in on all scales."""


def _shares(plane: Image8) -> Floats:
    """Share of each grey level, ``[256]``."""
    return np.asarray(np.bincount(plane.ravel(), minlength=256) / plane.size, np.float64)


def _joint_shares(first: Image8, second: Image8) -> Floats:
    """Share of each pair of grey levels at the same pixel, ``[256 x 256]``."""
    pairs = first.ravel().astype(np.int64) * 256 + second.ravel()
    return np.asarray(np.bincount(pairs, minlength=65536).reshape(256, 256) / first.size, np.float64)


def _bits(shares: Floats) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())


def entropy(fused: Image8) -> float:
    """EN: Shannon entropy of the grey levels in bits, 0..8; ``fused [H x W]``. Larger is better."""
    return _bits(_shares(fused))


def mutual_information(first: Image8, second: Image8) -> float:
    """Information that the grey levels of two planes ``[H x W]`` have in common, in bits, 0..8."""
    joint = _joint_shares(first, second)
    return max(0.0, _bits(joint.sum(axis=1)) + _bits(joint.sum(axis=0)) - _bits(joint))


def summed_information(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """MI of Qu, Zhang and Yan (Electronics Letters 2002): sum of the information shared with each source, in bits.

    Larger is better.
    """
    return mutual_information(fused, thermal) + mutual_information(fused, luma)


def normalized_information(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """Q_MI of Hossny, Nahavandi and Creighton (Electronics Letters 2008), 0..2. Larger is better.

    2 (MI(A, F) / (H(A) + H(F)) + MI(B, F) / (H(B) + H(F))). A constant source with a constant fused plane shares
    nothing and counts 0.
    """
    own = entropy(fused)
    total = 0.0
    for source in (thermal, luma):
        most = entropy(source) + own
        total += 2 * mutual_information(source, fused) / most if most > 0 else 0.0
    return total


def cross_entropy(source: Image8, fused: Image8) -> float:
    """Sum of p log2(p / q) over the grey levels that occur in both planes: p of the source, q of the fused one.

    Levels that only one plane has are skipped, as VIFB does; the sum can be negative then.
    """
    p, q = _shares(source), _shares(fused)
    both = (p > 0) & (q > 0)
    return float((p[both] * np.log2(p[both] / q[both])).sum())


def mean_cross_entropy(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """Q_CE as in VIFB (Zhang, Ye and Xiao, CVPRW 2020): mean over both sources, in bits. Smaller is better."""
    return (cross_entropy(thermal, fused) + cross_entropy(luma, fused)) / 2


def _window(plane: Floats, side: int) -> Floats:
    """Gaussian mean in ``side x side`` pixels where the window lies inside the plane."""
    blurred = cv2.GaussianBlur(plane, (side, side), side / 5)
    half = side // 2
    return np.asarray(blurred[half:-half, half:-half], np.float64)


def visual_information_fidelity(source: Image8, fused: Image8) -> float:
    """VIFP: share of a source's visual information that a plane keeps; 1 for the source itself, more with its contrast.

    Sheikh and Bovik (IEEE TIP 2006) in the pixel domain: four scales, Gaussian windows of 17, 9, 5 and 3 pixels with a
    standard deviation of a fifth of that, noise of variance 2. A source without any structure counts 0.

    Args:
        source: ``[H x W]``, at least :data:`LEAST_SIDE` a side.
        fused: the same size.

    Raises:
        ValueError: planes that are too small.
    """
    if min(source.shape) < LEAST_SIDE:
        raise ValueError(
            f"planes of {source.shape[1]} x {source.shape[0]} pixels are too small for VIF; "
            f"at least {LEAST_SIDE} a side are needed"
        )
    x, y = source.astype(np.float64), fused.astype(np.float64)
    kept = available = 0.0
    for scale in range(_SCALES):
        side = 2 ** (_SCALES - scale) + 1
        if scale:
            x, y = _window(x, side)[::2, ::2], _window(y, side)[::2, ::2]
        mean_x, mean_y = _window(x, side), _window(y, side)
        variance_x = np.maximum(_window(x * x, side) - mean_x**2, 0)
        variance_y = np.maximum(_window(y * y, side) - mean_y**2, 0)
        covariance = _window(x * y, side) - mean_x * mean_y
        structured = variance_x >= _LEAST_VARIANCE
        variance_x = np.where(structured, variance_x, 0)
        gain = np.where(structured & (variance_y >= _LEAST_VARIANCE), covariance, 0) / (variance_x + _LEAST_VARIANCE)
        gain = np.maximum(gain, 0)  # what is inverted keeps nothing
        distortion = np.maximum(variance_y - gain * covariance, _LEAST_VARIANCE)
        kept += float(np.log1p(gain**2 * variance_x / (distortion + _NOISE_VARIANCE)).sum())
        available += float(np.log1p(variance_x / _NOISE_VARIANCE).sum())
    return kept / available if available > 0 else 0.0


def summed_fidelity(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """VIF: sum of :func:`visual_information_fidelity` over both sources. Larger is better."""
    return visual_information_fidelity(thermal, fused) + visual_information_fidelity(luma, fused)
