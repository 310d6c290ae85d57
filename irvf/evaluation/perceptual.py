"""Fusion metrics that look through a model of the eye: Q_CB and Q_CV, on 8-bit luma stretched to 0..255 per image.

Both filter in the frequency domain by a contrast sensitivity; frequencies are in cycles per degree. As in the
authors' benchmarks, the image spans 15 degrees a side for Q_CB and 4 for Q_CV. Borders are mirrored: an edge that is
not in the picture counts for nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8

Floats = NDArray[np.float64]

_BLOCK = 16
_SALIENCY_POWER = 5.0


def stretch(plane: Image8) -> Floats:
    """Map the range of a plane ``[H x W]`` to 0..255, in whole levels; a constant plane becomes 0."""
    low, high = int(plane.min()), int(plane.max())
    return np.round((plane.astype(np.float64) - low) * 255 / max(high - low, 1))


def _radial_frequency(shape: tuple[int, ...], degrees: float) -> Floats:
    """Frequency of each coefficient of a real Fourier transform, in cycles per degree, ``[H x (W // 2 + 1)]``."""
    height, width = shape
    down, across = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width
    return np.asarray(np.hypot(down, across) / degrees, np.float64)


def _filtered(plane: Floats, response: Floats) -> Floats:
    return np.asarray(np.fft.irfft2(np.fft.rfft2(plane) * response, plane.shape), np.float64)


def _masked_contrast(plane: Floats, sensitivity: Floats) -> Floats:
    """Local band contrast as the eye perceives it: |C|^3 / (|C|^2 + 0.0001)."""
    seen = _filtered(plane, sensitivity)
    near, wide = (cv2.GaussianBlur(seen, (31, 31), sigma) for sigma in (2, 4))
    contrast = np.abs(np.divide(near, wide, out=np.ones_like(near), where=wide != 0) - 1)
    return np.asarray(contrast**3 / (contrast**2 + 1e-4), np.float64)


def contrast_preservation(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """Q_CB of Chen and Blum (Image and Vision Computing 2009), 0..1. Larger is better.

    Sensitivity exp(-(f / 15.387)^2) - 0.7622 exp(-(f / 1.3456)^2); contrast between Gaussians of 2 and 4 pixels;
    masking with p = 3, q = 2, Z = 1e-4. At each pixel the ratio of the smaller to the larger contrast of source and
    fused plane, weighted over the sources by the square of their contrast; the mean over the pixels. Where neither
    plane has contrast, all of it is preserved.
    """
    frequency = _radial_frequency(fused.shape, 15.0)
    sensitivity = np.exp(-((frequency / 15.3870) ** 2)) - 0.7622 * np.exp(-((frequency / 1.3456) ** 2))
    first, second, own = (_masked_contrast(stretch(plane), sensitivity) for plane in (thermal, luma, fused))
    power = first**2 + second**2
    weight = np.divide(first**2, power, out=np.full_like(power, 0.5), where=power > 0)
    return float((weight * _smaller_share(first, own) + (1 - weight) * _smaller_share(second, own)).mean())


def _smaller_share(first: Floats, second: Floats) -> Floats:
    larger = np.maximum(first, second)
    return np.divide(np.minimum(first, second), larger, out=np.ones_like(larger), where=larger > 0)


def _block_means(plane: Floats) -> Floats:
    """Mean of each whole block, ``[H // 16 x W // 16]``; a plane that is smaller than a block is one block."""
    height, width = (min(_BLOCK, side) for side in plane.shape)
    rows, columns = plane.shape[0] // height, plane.shape[1] // width
    whole = plane[: rows * height, : columns * width]
    return np.asarray(whole.reshape(rows, height, columns, width).mean(axis=(1, 3)), np.float64)


def _block_saliency(plane: Floats) -> Floats:
    """Mean over each block of the fifth power of the Sobel gradient."""
    x = cv2.Sobel(plane, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT_101)
    y = cv2.Sobel(plane, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REFLECT_101)
    return _block_means(np.asarray(np.hypot(x, y) ** _SALIENCY_POWER, np.float64))


def regional_distortion(fused: Image8, thermal: Image8, luma: Image8) -> float:
    """Q_CV of Chen and Varshney (Information Fusion 2007), squared grey levels. Smaller is better.

    Mean squared difference of each source to the fused plane in blocks of 16 x 16, seen through the sensitivity of
    Mannos and Sakrison, 2.6 (0.0192 + 0.114 f) exp(-(0.114 f)^1.1), and weighted by the block's saliency in that
    source (alpha = 5). Sources without any gradient weigh the same everywhere.
    """
    frequency = _radial_frequency(fused.shape, 4.0)
    sensitivity = 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))
    own = stretch(fused)
    sources = [stretch(thermal), stretch(luma)]
    saliency = np.stack([_block_saliency(source) for source in sources])
    distortion = np.stack([_block_means(_filtered(source - own, sensitivity) ** 2) for source in sources])
    if not saliency.any():
        return float(distortion.mean())
    return float((saliency * distortion).sum() / saliency.sum())
