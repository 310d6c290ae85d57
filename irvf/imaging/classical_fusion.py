"""The plain fusions that a network must beat, and fusing at a smaller scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np

from irvf.frames import Plane

Fusion = Callable[[Plane, Plane], Plane]
"""Maps thermal and luma, each ``[H x W]`` float32 in 0..1, to the fused plane of the same kind."""

PYRAMID_LEVELS = 5
MIN_SIDE = 16
"""Smallest side of a plane after scaling, in pixels."""


def fuse_max(thermal: Plane, luma: Plane) -> Plane:
    """Take the brighter of both at each pixel."""
    return cast("Plane", cv2.max(thermal, luma))


def fuse_average(thermal: Plane, luma: Plane) -> Plane:
    """Take the mean of both at each pixel."""
    return cast("Plane", cv2.addWeighted(thermal, 0.5, luma, 0.5, 0.0))


def fuse_laplacian(thermal: Plane, luma: Plane) -> Plane:
    """Take the stronger detail on each level of a Laplacian pyramid, over the mean of the bases.

    Source of the pyramid: Burt and Adelson, The Laplacian Pyramid as a Compact Image Code, 1983.
    """
    details = []
    for _ in range(PYRAMID_LEVELS - 1):
        if min(thermal.shape) < 2:
            break
        size = (thermal.shape[1], thermal.shape[0])
        smaller = cv2.pyrDown(thermal), cv2.pyrDown(luma)
        details.append(
            _stronger(
                cv2.subtract(thermal, cv2.pyrUp(smaller[0], dstsize=size)),
                cv2.subtract(luma, cv2.pyrUp(smaller[1], dstsize=size)),
            )
        )
        thermal, luma = cast("Plane", smaller[0]), cast("Plane", smaller[1])
    fused = fuse_average(thermal, luma)
    for detail in reversed(details):
        size = (detail.shape[1], detail.shape[0])
        fused = cast("Plane", cv2.add(cv2.pyrUp(fused, dstsize=size), detail))
    return _clipped(fused)


FUSION_METHODS: dict[str, Fusion] = {"max": fuse_max, "average": fuse_average, "laplacian": fuse_laplacian}


def fuse_at_scale(fuse: Fusion, thermal: Plane, luma: Plane, scale: float) -> Plane:
    """Fuse smaller planes and give the result back the detail that they lost.

    The detail that a source loses by scaling is what it differs from its smaller self. At each pixel that of the source
    with the larger difference is added.

    Args:
        fuse: run on the scaled planes.
        thermal: ``[H x W]`` float32 in 0..1.
        luma: the same.
        scale: of each side, more than 0 and at most 1, which runs ``fuse`` as it is. No side is scaled below
            :data:`MIN_SIDE`.

    Returns:
        ``[H x W]`` float32 in 0..1.

    Raises:
        ValueError: scale out of range.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"processing scale {scale}; it must be more than 0 and at most 1")
    height, width = luma.shape
    small = tuple(min(side, max(MIN_SIDE, round(side * scale))) for side in (width, height))
    if small == (width, height):
        return fuse(thermal, luma)
    small_thermal, small_luma = (cv2.resize(plane, small, interpolation=cv2.INTER_AREA) for plane in (thermal, luma))
    small_fused = fuse(cast("Plane", small_thermal), cast("Plane", small_luma))
    up_thermal, up_luma, fused = (
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
        for plane in (small_thermal, small_luma, small_fused)
    )
    detail = _stronger(cv2.subtract(thermal, up_thermal), cv2.subtract(luma, up_luma))
    return _clipped(cv2.add(fused, detail))


def _clipped(plane: cv2.typing.MatLike) -> Plane:
    fused = cast("Plane", plane)
    clipped: Plane = np.clip(fused, 0.0, 1.0, out=fused)
    return clipped


def _stronger(first: cv2.typing.MatLike, second: cv2.typing.MatLike) -> cv2.typing.MatLike:
    """Return the value of the larger magnitude, with its sign, at each pixel."""
    return np.where(np.abs(first) > np.abs(second), first, second)
