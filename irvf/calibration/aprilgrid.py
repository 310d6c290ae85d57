"""Ways to look for Kalibr's AprilGrid, also where its tags are too small and blurred to be read one by one.

One tag that was read tells where the whole board lies. From it the corners are followed outwards, each predicted by
those around it and accepted where the image shows what belongs there: the tag and the black square between the tags
meet in it, with white on both sides. What was followed is believed only if the pattern of all tags is the printed one.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.detection import (
    Array,
    Detection,
    Search,
    misfit,
    pixels_per_metre,
    prepare,
    refine,
    rescaled,
    unscaled,
)
from irvf.calibration.targets import Target
from irvf.frames import Image8

LEAST_TAGS = 4
_SHARPENING = 3.0
"""Times what the blur of one pixel takes away: a tag of 25 pixels is read that was not before."""
_SMALL = 500
"""Width of an image in pixels below which it is enlarged and sharpened."""
_AROUND = 16
"""Corners that predict their neighbours."""
_ASTRAY = 0.3
"""Of the gap between two tags: a corner that lies this far from where the others expect it is another one."""
_ROUNDS = 24
_LEAST_LIKENESS = 0.4
"""Correlation of the image with the printed bits of all tags; tags of other places reach 0.1."""
_INTO = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)], np.float64)
"""From each corner of a tag into the tag, in the board's axes; the black square lies on the other side."""


def aprilgrid_searches(target: Target, *, thermal: bool) -> list[Search]:
    """Return the ways to look for an AprilGrid.

    Args:
        target: an AprilGrid.
        thermal: whether the images are thermal: the tags may be brighter than the paper.

    Raises:
        RuntimeError: OpenCV lacks its aruco module.
    """
    reader = _TagReader()
    negatives = (True, False) if thermal else (False, True)
    # Kalibr prints borders of two bits, other generators of one.
    return [
        _AprilGrid(target, reader, negative=negative, border_bits=border_bits)
        for border_bits, negative in product((2, 1), negatives)
    ]


class _AprilGrid:
    def __init__(self, target: Target, reader: _TagReader, *, negative: bool, border_bits: int) -> None:
        self._target, self._reader = target, reader
        self._negative, self._border_bits = negative, border_bits
        self._flat = target.points[:, :2]
        self._side = float(np.linalg.norm(self._flat[1] - self._flat[0]))
        gap = float(np.linalg.norm(self._flat[4] - self._flat[1])) if target.columns > 1 else target.pitch
        self._gap = min(gap, 0.5 * self._side)

    def __call__(self, image: NDArray[Any]) -> Detection | None:
        small = image.shape[1] < _SMALL
        plain = prepare(image)
        grey = 255 - plain if self._negative else plain
        numbers, quads = self._read(image, small=small)
        inside = numbers < self._target.columns * self._target.rows
        numbers, quads = numbers[inside], quads[inside]
        if not len(numbers):
            return None
        numbers, first = np.unique(numbers, return_index=True)
        ids = (numbers[:, None] * 4 + np.arange(4)).ravel()
        # How a tag is turned in its place depends on who drew the board; all tags are turned alike.
        turned = [np.roll(quads[first], shift, axis=1).reshape(-1, 2) for shift in range(4)]
        if len(numbers) > 1:
            turned = [min(turned, key=lambda points: float(np.median(misfit(self._flat[ids], points))))]
        best = max((self._followed(grey, ids, points) for points in turned), key=lambda found: len(found.ids))
        if len(best.ids) < 4 * LEAST_TAGS or self._likeness(grey, best) < _LEAST_LIKENESS:
            return None
        return best

    def _read(self, image: NDArray[Any], *, small: bool) -> tuple[NDArray[np.intp], Array]:
        """Return numbers ``[T]`` and corners ``[T x 4 x 2]`` of the tags that can be read."""
        scale = 4.0 if small else 1.0
        values = rescaled(np.nan_to_num(np.asarray(image, np.float32)), scale)
        if small:
            values = values + _SHARPENING * (values - cv2.GaussianBlur(values, (0, 0), scale))
        searched = prepare(values)
        numbers, corners = self._reader(255 - searched if self._negative else searched, self._border_bits)
        return numbers, unscaled(corners, scale).reshape(-1, 4, 2)

    def _followed(self, grey: Image8, ids: NDArray[np.intp], corners: Array) -> Detection:
        """Refine the corners of the tags that were read, and find those of the others from there."""
        total = len(self._flat)
        points = np.full((total, 2), np.nan)
        known = np.zeros(total, bool)
        if len(ids) > 4:
            # The outline of a tag may have run around the black square at its corner, to the next tag.
            allowed = _ASTRAY * self._gap * pixels_per_metre(self._flat[ids], corners)
            _, kept = cv2.findHomography(self._flat[ids], corners, cv2.RANSAC, max(allowed, 1.0))
            if kept is None:
                return Detection(ids[:0], corners[:0])
            ids, corners = ids[kept.ravel() > 0], corners[kept.ravel() > 0]
        self._settle(grey, ids, corners, points, known)
        tried = np.zeros(total, np.intp)
        for _ in range(_ROUNDS):
            if known.sum() < 4:
                break
            distance = np.linalg.norm(self._flat[:, None] - self._flat[known], axis=2).min(1)
            near = np.flatnonzero(~known & (distance < 1.5 * self._side) & (tried < 2))
            if not len(near):
                break
            tried[near] += 1
            guesses = np.array([self._predicted(number, points, known) for number in near])
            self._settle(grey, near, guesses, points, known)
        found = np.flatnonzero(known)
        if len(found) <= _AROUND:
            return Detection(found[:0], points[found[:0]])
        scale = pixels_per_metre(self._flat[found], points[found])
        others = [self._predicted(number, points, known & (np.arange(total) != number)) for number in found]
        fits = np.linalg.norm(np.array(others) - points[found], axis=1) < max(_ASTRAY * self._gap * scale, 1.0)
        return Detection(found[fits], points[found[fits]])

    def _around(self, number: int | np.intp, known: NDArray[np.bool_]) -> NDArray[np.intp]:
        have = np.flatnonzero(known)
        distance = np.linalg.norm(self._flat[have] - self._flat[number], axis=1)
        return have[np.argsort(distance)[:_AROUND]]

    def _predicted(self, number: int | np.intp, points: Array, known: NDArray[np.bool_]) -> Array:
        near = self._around(number, known)
        allowed = max(_ASTRAY * self._gap * pixels_per_metre(self._flat[near], points[near]), 0.5)
        method = cv2.RANSAC if len(near) > 6 else 0  # one that was accepted wrongly must not mislead the next
        homography, _ = cv2.findHomography(self._flat[near], points[near], method, allowed, maxIters=100)
        if homography is None:
            return np.full(2, np.nan)
        mapped = homography @ np.append(self._flat[number], 1)
        return np.asarray(mapped[:2] / mapped[2])

    def _settle(
        self, grey: Image8, ids: NDArray[np.intp], guesses: Array, points: Array, known: NDArray[np.bool_]
    ) -> None:
        """Refine guessed corners, and note those that look like one in ``points`` and ``known``."""
        height, width = grey.shape
        usable = np.isfinite(guesses).all(1) & (guesses > 2).all(1) & (guesses < (width - 3, height - 3)).all(1)
        ids, guesses = ids[usable], guesses[usable]
        if not len(ids):
            return
        tentative = points.copy()
        tentative[ids] = guesses
        have = known.copy()
        have[ids] = True
        if have.sum() < 4:
            return
        local = have.nonzero()[0]
        scale = pixels_per_metre(self._flat[local], tentative[local])
        reach = 0.5 * self._gap * scale
        fine = refine(grey, guesses, 0.8 * reach)
        moved = np.linalg.norm(fine - guesses, axis=1)
        for number, point, step in zip(ids, fine, moved, strict=True):
            if step < max(1.2 * reach, 1.0) and self._looks_right(grey, number, point, tentative, have):
                points[number], known[number] = point, True

    def _looks_right(self, grey: Image8, number: int, point: Array, tentative: Array, have: NDArray[np.bool_]) -> bool:
        """Say whether black meets black across the corner, between white and white."""
        near = self._around(number, have)
        homography, _ = cv2.findHomography(self._flat[near], tentative[near], 0)
        if homography is None:
            return False
        into = _INTO[number % 4] * 0.4 * self._gap
        offsets = np.array([into, -into, into * (1, -1), into * (-1, 1), (0, 0)])
        mapped = cv2.perspectiveTransform((self._flat[number] + offsets).reshape(-1, 1, 2), homography)[:, 0]
        places = (mapped - mapped[4] + point).astype(np.float32)[:4].reshape(-1, 1, 2)
        values = _brightness(grey, places)
        return bool(values[2:].min() > values[:2].max())

    def _likeness(self, grey: Image8, found: Detection) -> float:
        """Correlation of the image with the printed bits, over the tags of which all corners were found."""
        have = np.zeros(len(self._flat), bool)
        have[found.ids] = True
        points = np.zeros((len(self._flat), 2))
        points[found.ids] = found.points
        whole = np.flatnonzero(have.reshape(-1, 4).all(1))
        if not len(whole):
            return 0.0
        cells = 6 + 2 * self._border_bits
        grid = (np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1) + self._border_bits + 0.5).reshape(
            -1, 1, 2
        ) / cells
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
        seen, printed = [], []
        for tag in whole:
            corners = points[4 * tag : 4 * tag + 4].astype(np.float32)
            turn = cv2.getPerspectiveTransform(square, corners)
            places = cv2.perspectiveTransform(grid, turn).astype(np.float32)
            values = _brightness(grey, places)
            seen.append(values - values.mean())
            printed.append(self._reader.bits(int(tag)))
        likenesses = []
        for shift in range(4):
            bits = [np.rot90(pattern, shift).ravel() - pattern.mean() for pattern in printed]
            likenesses.append(float(np.corrcoef(np.concatenate(seen), np.concatenate(bits))[0, 1]))
        return max(likenesses)


def _brightness(grey: Image8, places: NDArray[Any]) -> Array:
    x, y = (np.ascontiguousarray(part, np.float32) for part in places.reshape(-1, 2).T)
    seen = cv2.remap(grey, x[:, None], y[:, None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.float64).ravel()


class _TagReader:
    """Reads AprilTags 36h11 with whichever interface the installed OpenCV has."""

    def __init__(self) -> None:
        aruco: Any = getattr(cv2, "aruco", None)
        if aruco is None:
            raise RuntimeError(
                f"OpenCV {cv2.__version__} here has no aruco module, which aprilgrid needs: use a chessboard or "
                "circles, or install opencv-python-headless 4.7 or newer (older: opencv-contrib-python-headless)"
            )
        self._aruco = aruco
        lookup = getattr(aruco, "getPredefinedDictionary", None) or aruco.Dictionary_get
        self._dictionary = lookup(aruco.DICT_APRILTAG_36h11)
        create = getattr(aruco, "DetectorParameters_create", None) or aruco.DetectorParameters
        self._parameters = create()
        self._parameters.adaptiveThreshWinSizeMin = 5
        self._parameters.adaptiveThreshWinSizeMax = 45
        self._parameters.adaptiveThreshWinSizeStep = 8
        self._parameters.minMarkerPerimeterRate = 0.02
        self._parameters.polygonalApproxAccuracyRate = 0.06
        self._parameters.minOtsuStdDev = 2.0
        self._parameters.perspectiveRemovePixelPerCell = 6
        self._parameters.perspectiveRemoveIgnoredMarginPerCell = 0.25

    def __call__(self, image: Image8, border_bits: int) -> tuple[NDArray[np.intp], Array]:
        """Return numbers ``[T]`` and corners ``[T x 4 x 2]``, clockwise from the tag's own upper left."""
        self._parameters.markerBorderBits = border_bits
        if hasattr(self._aruco, "ArucoDetector"):
            corners, numbers, _ = self._aruco.ArucoDetector(self._dictionary, self._parameters).detectMarkers(image)
        else:
            corners, numbers, _ = self._aruco.detectMarkers(image, self._dictionary, parameters=self._parameters)
        if numbers is None or not len(numbers):
            return np.empty(0, np.intp), np.empty((0, 4, 2))
        return np.asarray(numbers, np.intp).ravel(), np.asarray(corners, np.float64).reshape(-1, 4, 2)

    def bits(self, number: int) -> Array:
        """Return the pattern ``[6 x 6]`` of a tag, 1 for white."""
        draw = getattr(self._aruco, "generateImageMarker", None) or self._aruco.drawMarker
        return np.asarray(draw(self._dictionary, number, 8), np.float64)[1:-1, 1:-1] / 255
