"""Brings the thermal plane onto the pixels of the RGB image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.imaging.errors import FrameError

REGISTRATION_METHODS = ("none", "homography")

FEATHER = 0.05
"""Width of the soft border of the thermal coverage, as a share of the RGB image's larger side."""

_MAX_CONDITION = 1e12
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Registered:
    """A thermal plane on the RGB image's pixels.

    Attributes:
        thermal: ``[H x W]`` float32 in 0..1, the size of the RGB image.
        coverage: ``[H x W]`` float32: 1 where thermal pixels reach, falling to 0 at their border; None when they reach
            everywhere. Where it is 0, ``thermal`` only repeats its border and the RGB image should be shown.
    """

    thermal: Plane
    coverage: Plane | None


@dataclass(frozen=True, eq=False)
class _Lookup:
    """Where each RGB pixel lies in the thermal image, for one pair of sizes."""

    thermal_size: Size
    size: Size
    positions: NDArray[np.int16]
    fractions: NDArray[np.uint16]
    coverage: Plane | None


class Registration:
    """Registers thermal planes to the RGB image.

    Args:
        method: ``none`` takes both fields of view as equal and resizes when the sizes differ; ``homography`` maps.
        homography: 3x3, or its nine numbers row by row, from thermal pixel ``(x, y, 1)`` to RGB pixel up to scale;
            integer coordinates are pixel centres, as in OpenCV. Used by ``homography`` alone.

    Raises:
        ValueError: unknown method, or a homography that is not finite, not invertible, mirrors the image or sends its
            first pixel to infinity.
    """

    def __init__(self, method: str = "none", homography: Sequence[float] | NDArray[Any] = _IDENTITY) -> None:
        if method not in REGISTRATION_METHODS:
            raise ValueError(f"registration method {method!r}; allowed: {', '.join(REGISTRATION_METHODS)}")
        self._homography = _checked(homography) if method == "homography" else None
        self._lookup: _Lookup | None = None

    def __call__(self, thermal: Plane, size: Size) -> Registered:
        """Resample a thermal plane, once.

        Args:
            thermal: ``[h x w]`` float32.
            size: height and width of the RGB image.

        Raises:
            FrameError: the homography leaves nothing of the thermal image in an RGB image of this size, or sends part
                of it to infinity.
        """
        if self._homography is None:
            return Registered(_resized(thermal, size), None)
        thermal_size = (thermal.shape[0], thermal.shape[1])
        lookup = self._lookup
        if lookup is None or (lookup.thermal_size, lookup.size) != (thermal_size, size):
            lookup = self._lookup = _make_lookup(self._homography, thermal_size, size)
        plane = cv2.remap(
            thermal, lookup.positions, lookup.fractions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return Registered(cast("Plane", plane), lookup.coverage)


def _resized(thermal: Plane, size: Size) -> Plane:
    if thermal.shape == size:
        return thermal
    shrinks = thermal.shape[0] > size[0] or thermal.shape[1] > size[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast("Plane", cv2.resize(thermal, (size[1], size[0]), interpolation=interpolation))


def _checked(homography: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """Return the matrix with its last element 1, or say what is wrong with it."""
    matrix = np.array(homography, dtype=np.float64)
    if matrix.shape not in ((3, 3), (9,)):
        raise ValueError(f"homography has shape {list(matrix.shape)}; it must be 3x3 or its nine numbers, row by row")
    matrix = matrix.reshape(3, 3)
    named = f"homography {matrix.tolist()}"
    if not np.isfinite(matrix).all():
        raise ValueError(f"{named} must have finite numbers")
    if np.linalg.cond(matrix) > _MAX_CONDITION:
        raise ValueError(f"{named} is not invertible: it maps the thermal image to a line or a point")
    # The thermal image never reaches the horizon (see _make_lookup), so that the third coordinate of its first pixel
    # has the sign of all others, and the determinant then that of the mapping's area.
    if abs(matrix[2, 2]) < 1e-9 * np.abs(matrix[2]).max():
        raise ValueError(f"{named} maps the first thermal pixel to infinity: its last number must not be 0")
    matrix /= matrix[2, 2]
    if np.linalg.det(matrix) < 0:
        raise ValueError(f"{named} mirrors the thermal image: check the order of its rows and the flips of the camera")
    return matrix


def _make_lookup(homography: NDArray[np.float64], thermal_size: Size, size: Size) -> _Lookup:
    (thermal_height, thermal_width), (height, width) = thermal_size, size
    right, bottom = thermal_width - 0.5, thermal_height - 0.5
    corners = np.array([(-0.5, -0.5, 1), (right, -0.5, 1), (right, bottom, 1), (-0.5, bottom, 1)])
    if (corners @ homography[2] <= 1e-6).any():
        raise FrameError(
            "registration",
            f"homography sends part of a {thermal_width} x {thermal_height} thermal image to infinity; "
            "check its last row and for which thermal size it was calibrated",
        )
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    inverse = np.linalg.inv(homography)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = inverse[2, 0] * x + inverse[2, 1] * y + inverse[2, 2]
        map_x = (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]) / scale
        map_y = (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]) / scale
    inside = (scale > 0) & (map_x >= -0.5) & (map_x <= right) & (map_y >= -0.5) & (map_y <= bottom)
    if not inside.any():
        raise FrameError(
            "registration",
            f"homography maps nothing of a {thermal_width} x {thermal_height} thermal image into the "
            f"{width} x {height} RGB image; it must map thermal pixels to RGB pixels of these sizes",
        )
    # Beyond the border the border repeats: positions one pixel outside show the same, and fit OpenCV's fixed point.
    map_x = np.where(inside, np.clip(map_x, -1, thermal_width), -1).astype(np.float32)
    map_y = np.where(inside, np.clip(map_y, -1, thermal_height), -1).astype(np.float32)
    positions, fractions = cv2.convertMaps(map_x, map_y, cv2.CV_16SC2)
    return _Lookup(
        thermal_size, size, cast("Any", positions), cast("Any", fractions), _feathered(inside, FEATHER * max(size))
    )


def _feathered(inside: NDArray[np.bool_], width: float) -> Plane | None:
    if inside.all():
        return None
    # To the centre of the nearest pixel outside, which is half a pixel beyond the border.
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return cast("Plane", np.clip((distance - 0.5) / max(width, 1.0), 0.0, 1.0).astype(np.float32))
