"""Ways to look for a chessboard and for an asymmetric grid of circles: OpenCV's detectors, and what they need."""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.detection import (
    RGB_LOOKS,
    THERMAL_LOOKS,
    Detection,
    Look,
    Search,
    prepare,
    refine,
    rescaled,
    search_scale,
    unscaled,
)
from irvf.calibration.targets import Target
from irvf.frames import Image8

_WINDOW = 0.33
"""Half the side of the region that decides about a corner, as a share of the smallest square."""
_CIRCLE_WIDTH = 960
"""Width in pixels to which a small image is enlarged, so that a far circle has pixels enough to be a blob."""


def chessboard_searches(target: Target, *, thermal: bool) -> list[Search]:
    """Return the ways to look for a chessboard; which squares are dark matters only to the quick one.

    Args:
        target: a chessboard.
        thermal: whether the images are thermal.
    """
    if thermal:
        return [
            _Chessboard(target, scale=scale, look=look, quick=False) for scale, look in product((1, 2), THERMAL_LOOKS)
        ]
    quick = _Chessboard(target, scale=1, look="whole", quick=True)
    return [quick, *(_Chessboard(target, scale=1, look=look, quick=False) for look in RGB_LOOKS)]


class _Chessboard:
    def __init__(self, target: Target, *, scale: float, look: Look, quick: bool) -> None:
        self._size = (target.columns, target.rows)
        self._scale, self._look, self._quick = scale, look, quick

    def __call__(self, image: NDArray[Any]) -> Detection | None:
        grey = prepare(image, self._look)
        scale = search_scale(image.shape[1], self._scale)
        searched = rescaled(grey, scale)
        if self._quick:
            flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_FAST_CHECK
            found, corners = cv2.findChessboardCorners(searched, self._size, flags=flags)
        else:
            found, corners = cv2.findChessboardCornersSB(searched, self._size, flags=cv2.CALIB_CB_ACCURACY)
        if not found:
            return None
        columns, rows = self._size
        grid = unscaled(corners, scale).reshape(rows, columns, 2)
        across, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
        if across[0] * down[1] - across[1] * down[0] < 0:  # rows run right to left: a board is never seen from behind
            grid = grid[:, ::-1]
        steps = (np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1))
        smallest = float(min(steps))
        coarse = grid.reshape(-1, 2)
        fine = refine(grey, coarse, _WINDOW * smallest)
        if np.linalg.norm(fine - coarse, axis=1).max() > 0.5 * smallest:
            return None
        return Detection(np.arange(columns * rows), fine)


def circle_searches(target: Target, *, thermal: bool) -> list[Search]:
    """Return the ways to look for a grid of circles.

    Args:
        target: a grid of circles.
        thermal: whether the images are thermal: circles may be brighter than what is around them.
    """
    negatives = (True, False) if thermal else (False, True)
    return [
        _Circles(target, look=look, negative=negative, clustering=clustering)
        for look, negative, clustering in product(THERMAL_LOOKS if thermal else RGB_LOOKS, negatives, (False, True))
    ]


class _Circles:
    def __init__(self, target: Target, *, look: Look, negative: bool, clustering: bool) -> None:
        self._size = (target.columns, target.rows)
        self._look, self._negative = look, negative
        self._flags = cv2.CALIB_CB_ASYMMETRIC_GRID | (cv2.CALIB_CB_CLUSTERING if clustering else 0)
        opencv: Any = cv2  # its stubs lack the blob detector of some versions
        parameters = opencv.SimpleBlobDetector_Params()
        parameters.minThreshold, parameters.maxThreshold, parameters.thresholdStep = 10, 245, 10
        parameters.filterByArea, parameters.minArea, parameters.maxArea = True, 12, 20000
        parameters.filterByCircularity = False  # a tilted circle is a narrow ellipse
        parameters.filterByConvexity, parameters.minConvexity = True, 0.85
        parameters.filterByInertia, parameters.minInertiaRatio = True, 0.08
        parameters.minDistBetweenBlobs = 4
        parameters.filterByColor, parameters.blobColor = True, 0
        self._blobs = opencv.SimpleBlobDetector_create(parameters)

    def __call__(self, image: NDArray[Any]) -> Detection | None:
        grey = prepare(image, self._look)
        scale = search_scale(image.shape[1], min(4.0, max(1.0, _CIRCLE_WIDTH / image.shape[1])))
        searched = cast("Image8", rescaled(255 - grey if self._negative else grey, scale))
        found, centres = cv2.findCirclesGrid(searched, self._size, flags=self._flags, blobDetector=self._blobs)
        if not found:
            return None
        return Detection(np.arange(self._size[0] * self._size[1]), unscaled(centres, scale))
