"""Finds the points of a calibration target in an RGB or a thermal image, to a fraction of a pixel.

In a thermal image black may be warmer or colder than white, the contrast a few counts of 16 bits under a fixed pattern
of noise, and the board a hundred pixels wide. An image is therefore looked at in several ways, the one that found the
board last before the others: its warm or cold part stretched, its brightness levelled, bright for dark, enlarged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.targets import Target
from irvf.frames import Image8

Array = NDArray[np.float64]

_WIDEST = 1300
"""A wider image is searched at a smaller scale; the points are refined at the full one."""
_MOST_MISFIT = 0.25
"""Of the distance of two points: by how much found points may leave a plane seen through a lens, as a median."""
_KNOWN = 5
"""Boards found, after which only the two ways that found one last are tried: an image without a board takes all."""
_NEIGHBOURHOOD = 64
"""Of the image's longer side: the radius in which brightness is levelled, about a square of the board."""
Look = Literal["whole", "bright", "dark", "levelled"]
THERMAL_LOOKS: tuple[Look, ...] = ("bright", "whole", "levelled", "dark")
RGB_LOOKS: tuple[Look, ...] = ("whole", "levelled", "bright")


@dataclass(frozen=True, eq=False)
class Detection:
    """A board in one image.

    Attributes:
        ids: which points of the target were found ``[N]``, rising.
        points: where, ``[N x 2]`` pixels; the centre of the first pixel is (0, 0).
    """

    ids: NDArray[np.intp]
    points: Array


class Search(Protocol):
    """One way to look for a board in an image ``[H x W]`` of any type."""

    def __call__(self, image: NDArray[Any]) -> Detection | None:
        """Return what was found."""


class BoardFinder:
    """Finds one target in the images of one camera.

    Args:
        target: what to look for.
        searches: ways to look for it, the quick and likely ones first.
    """

    def __init__(self, target: Target, searches: Iterable[Search]) -> None:
        self._target = target
        self._searches = list(searches)
        self._found = 0

    def __call__(self, image: NDArray[Any]) -> Detection | None:
        """Find the board.

        Args:
            image: ``[H x W]``, any type.

        Returns:
            The points, or None when the board, or enough of it, is not in the image.
        """
        # What black and white are, and how large, does not change much within a recording.
        worthwhile = self._searches[:2] if self._found >= _KNOWN else self._searches
        for number, search in enumerate(worthwhile):
            found = search(image)
            if found is not None and self._plausible(found, image.shape):
                self._searches.insert(0, self._searches.pop(number))
                self._found += 1
                return found
        return None

    def _plausible(self, found: Detection, shape: tuple[int, ...]) -> bool:
        """Say whether the points lie in the image as those of a plane do, up to what a lens bends."""
        points, flat = found.points, self._target.points[found.ids, :2]
        if not np.isfinite(points).all() or (points < -0.5).any() or (points > (shape[1] - 0.5, shape[0] - 0.5)).any():
            return False
        return (
            float(np.median(misfit(flat, points))) < _MOST_MISFIT * pixels_per_metre(flat, points) * self._target.pitch
        )


def misfit(flat: Array, points: Array) -> Array:
    """Return by how many pixels each point ``[N x 2]`` is off the best plane's image; infinity where there is none."""
    homography, _ = cv2.findHomography(flat, points, 0) if len(flat) >= 4 else (None, None)
    if homography is None or not np.isfinite(homography).all():
        return np.full(len(flat), np.inf)
    mapped = cv2.perspectiveTransform(np.ascontiguousarray(flat).reshape(-1, 1, 2), homography)[:, 0]
    return np.asarray(np.linalg.norm(mapped - points, axis=1))


def pixels_per_metre(flat: Array, points: Array) -> float:
    """Return the scale of an image of a board, as the root of the ratio of the areas."""
    areas = [max(float(np.linalg.det(np.cov(part.T))), 1e-18) for part in (points, flat)]
    return float((areas[0] / areas[1]) ** 0.25)


def prepare(image: NDArray[Any], look: Look = "whole") -> Image8:
    """Bring an image to 8 bits with its contrast spread out.

    Args:
        image: ``[H x W]``, any type.
        look: ``whole`` stretches by percentiles; ``bright`` and ``dark`` stretch the brighter or the darker of two
            classes (Otsu's), because a warm board before a cold wall has its contrast in few of all levels;
            ``levelled`` takes out the brightness around each pixel and makes the contrast even.
    """
    values = np.nan_to_num(np.asarray(image, np.float32))
    if look == "levelled":
        radius = max(values.shape) / _NEIGHBOURHOOD
        values = values - cv2.GaussianBlur(values, (0, 0), radius)
        contrast = cv2.sqrt(cv2.GaussianBlur(values * values, (0, 0), radius))
        values = values / (contrast + 0.2 * float(values.std()) + 1e-9)
    stretched = _stretched(values, values[::2, ::2], 0.5)
    if look not in ("bright", "dark"):
        return stretched
    level, _ = cv2.threshold(stretched, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    chosen = values[stretched > level] if look == "bright" else values[stretched <= level]
    return _stretched(values, chosen if chosen.size else values, 2.0)


def _stretched(values: NDArray[np.float32], deciding: NDArray[np.float32], percent: float) -> Image8:
    low, high = np.percentile(deciding, (percent, 100 - percent / 2))
    return np.asarray(np.clip((values - low) * (255 / max(float(high - low), 1e-6)), 0, 255), np.uint8)


def rescaled(image: NDArray[Any], scale: float) -> NDArray[Any]:
    """Return an image at another scale; see :func:`unscaled`."""
    if scale == 1:
        return image
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cast("NDArray[Any]", cv2.resize(image, None, fx=scale, fy=scale, interpolation=method))


def unscaled(points: NDArray[Any], scale: float) -> Array:
    """Return pixels ``[N x 2]`` of a rescaled image as pixels of the image itself: edges fall on edges, not centres."""
    return (np.asarray(points, np.float64).reshape(-1, 2) + 0.5) / scale - 0.5


def search_scale(width: int, factor: float) -> float:
    """Return the scale at which an image is searched: ``factor``, limited for images that are large already."""
    return min(factor, _WIDEST / width)


def refine(image: Image8, points: Array, window: float) -> Array:
    """Move points ``[N x 2]`` onto the saddles of brightness beside them.

    Args:
        image: 8 bits.
        points: approximate, pixels.
        window: half the side of the region that decides, pixels; a small one is looked at enlarged.
    """
    scale = 1 if window >= 4 else 2 if window >= 2 else 4
    enlarged = rescaled(image, scale)
    half = int(np.clip(round(window * scale), 2, 12))
    start = ((points + 0.5) * scale - 0.5).astype(np.float32).reshape(-1, 1, 2)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 0.002)
    return unscaled(cv2.cornerSubPix(enlarged, np.ascontiguousarray(start), (half, half), (-1, -1), criteria), scale)
