"""Brings the thermal plane onto the pixels of the RGB image."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.imaging.alignment import Alignment, AlignmentConfig, AlignmentEstimator
from irvf.imaging.camera_geometry import RigGeometry, homography_points
from irvf.imaging.errors import FrameError

BASE_METHODS = ("none", "homography", "camera_info")
REGISTRATION_METHODS = (*BASE_METHODS, "auto")

FEATHER = 0.05
"""Width of the soft border of the thermal coverage, as a share of the RGB image's larger side."""

_MAX_CONDITION = 1e12
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

Size = tuple[int, int]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Registered:
    """A thermal plane on the RGB image's pixels.

    Attributes:
        thermal: ``[H x W]`` float32 in 0..1, the size of the RGB image.
        coverage: ``[H x W]`` float32: 1 where thermal pixels reach, falling to 0 at their border; None when they reach
            everywhere. Where it is 0, ``thermal`` means nothing and the RGB image should be shown.
    """

    thermal: Plane
    coverage: Plane | None


@dataclass(frozen=True, eq=False)
class _Residual:
    """What ``auto`` adds: a homography of RGB pixels, for one size of the RGB image."""

    size: Size
    homography: Array


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

    A call is made from one thread. Where the misalignment is measured, :meth:`observe` gives the pairs to a thread of
    its own, which also makes the lookup of a new correction; a call takes it up when it is complete.

    Args:
        method: ``none`` takes both fields of view as equal and resizes when the sizes differ; ``homography`` maps;
            ``camera_info`` goes by the calibration of both cameras; ``auto`` begins with one of these and adds the
            homography that the stream itself shows to be left.
        homography: 3x3, or its nine numbers row by row, from thermal pixel ``(x, y, 1)`` to RGB pixel up to scale;
            integer coordinates are pixel centres, as in OpenCV. Used by ``homography`` alone.
        geometry: of both cameras, for ``camera_info``; None while it is not known, and every call is refused then.
        initial: what ``auto`` begins with: one of :data:`BASE_METHODS`.
        measure: how the misalignment is measured; None does not, except for ``auto``. Methods other than ``auto`` only
            measure.
        background: False measures within :meth:`observe`, for tests and files.

    Raises:
        ValueError: unknown method, or a homography that is not finite, not invertible, mirrors the image or sends its
            first pixel to infinity.
    """

    def __init__(
        self,
        method: str = "none",
        homography: Sequence[float] | NDArray[Any] = _IDENTITY,
        *,
        geometry: RigGeometry | None = None,
        initial: str = "none",
        measure: AlignmentConfig | None = None,
        background: bool = True,
    ) -> None:
        if method not in REGISTRATION_METHODS:
            raise ValueError(f"registration method {method!r}; allowed: {', '.join(REGISTRATION_METHODS)}")
        if initial not in BASE_METHODS:
            raise ValueError(f"registration begins with {initial!r}; allowed: {', '.join(BASE_METHODS)}")
        self._base = initial if method == "auto" else method
        self._homography = _checked(homography) if self._base == "homography" else None
        self._geometry = geometry
        self._lookup: _Lookup | None = None
        self._residual: _Residual | None = None
        self._changes = threading.Lock()
        self._thermal_size: Size = (0, 0)
        self._views: dict[tuple[Size, Size, Size], _View] = {}
        self._estimator: AlignmentEstimator | None = None
        if method == "auto" or measure:
            config = replace(measure or AlignmentConfig(), correct=method == "auto")
            self._estimator = AlignmentEstimator(config, self._correct, background=background)

    @property
    def alignment(self) -> Alignment | None:
        """What is known of the misalignment; None where it is not measured."""
        return self._estimator.alignment if self._estimator else None

    def __call__(self, thermal: Plane, size: Size) -> Registered:
        """Resample a thermal plane, once.

        Args:
            thermal: ``[h x w]`` float32.
            size: height and width of the RGB image.

        Raises:
            FrameError: the mapping leaves nothing of the thermal image in an RGB image of this size, or sends part of
                it to infinity; or the cameras' geometry is missing, or does not fit the images.
        """
        thermal_size = (thermal.shape[0], thermal.shape[1])
        lookup = self._lookup
        if lookup is None or (lookup.thermal_size, lookup.size) != (thermal_size, size):
            with self._changes:
                residual = self._residual if self._residual and self._residual.size == size else None
                if self._base == "none" and residual is None:
                    return Registered(_resized(thermal, size), None)
                lookup = self._lookup = self._make_lookup(thermal_size, size, residual)
        plane = cv2.remap(
            thermal, lookup.positions, lookup.fractions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return Registered(cast("Plane", plane), lookup.coverage)

    def observe(self, thermal: Plane, luma: Plane) -> None:
        """Show a pair to the measurement of the misalignment; most pairs are let pass, none is waited for.

        Args:
            thermal: ``[h x w]`` as :meth:`__call__` takes it; must not be written to later.
            luma: ``[H x W]`` of the RGB image, float32 in 0..1; likewise.
        """
        if self._estimator is None:
            return
        size = (luma.shape[0], luma.shape[1])
        self._thermal_size = (thermal.shape[0], thermal.shape[1])

        def view(working: Size) -> tuple[Plane, Plane, Plane | None]:
            seen_thermal, seen = self._view(thermal, size, working)
            return seen_thermal, _resized(luma, working), seen

        self._estimator.offer(view, size)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no pair is being measured; return whether that is so."""
        return self._estimator is None or self._estimator.wait(timeout)

    def close(self) -> None:
        """End the thread that measures."""
        if self._estimator:
            self._estimator.close()

    def _correct(self, homography: Array, size: Size) -> None:
        """Make the lookup of a correction, in the estimator's thread; frames go on with the old one until then."""
        with self._changes:
            residual = _Residual(size, homography)
            self._lookup = self._make_lookup(self._thermal_size, size, residual)
            self._residual = residual

    def _view(self, thermal: Plane, size: Size, working: Size) -> tuple[Plane, Plane | None]:
        """Return the thermal plane as the base method registers it, at a lower resolution, and where there is one."""
        if self._base == "none":
            return _resized(thermal, working), None
        key = (thermal.shape[0], thermal.shape[1]), size, working
        if key not in self._views:
            self._views = {key: self._make_view(*key)}
        view = self._views[key]
        if view.blur:
            thermal = cast("Plane", cv2.GaussianBlur(thermal, (0, 0), view.blur))
        plane = cv2.remap(thermal, view.map_x, view.map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cast("Plane", plane), view.seen

    def _make_view(self, thermal_size: Size, size: Size, working: Size) -> _View:
        scale = np.array([size[1] / working[1], size[0] / working[0]])
        points, inside = self._positions((_pixels(working) + 0.5) * scale - 0.5, thermal_size, size)
        step = np.abs(np.diff(points[:, 0].reshape(working), axis=1))[inside.reshape(working)[:, 1:]]
        ratio = float(np.median(step)) if len(step) else 1.0
        map_x, map_y = _maps(points, inside, thermal_size, working)
        blur = 0.5 * float(np.sqrt(ratio**2 - 1)) if ratio > 1.2 else 0.0  # else finer detail would alias
        return _View(map_x, map_y, inside.reshape(working).astype(np.float32), blur)

    def _positions(self, points: Array, thermal_size: Size, size: Size) -> tuple[Array, Mask]:
        """Say where RGB pixels ``[N x 2]`` lie in the thermal image by the base method, and which do."""
        found: Array
        if self._base == "none":
            found = (points + 0.5) * (thermal_size[1] / size[1], thermal_size[0] / size[0]) - 0.5
            valid = np.ones(len(points), bool)
        elif self._homography is not None:
            _check_horizon(self._homography, thermal_size)
            found, valid = homography_points(_inverse(self._homography), points)
        else:
            if self._geometry is None:
                raise FrameError(
                    "camera_info",
                    "registration by camera_info needs the calibration of both cameras and the transform between them, "
                    "and not all of these have arrived: publish camera_info beside both images, or use another method",
                )
            try:
                found, valid = self._geometry.thermal_pixels(points, thermal_size, size)
            except ValueError as error:
                raise FrameError("camera_info", str(error)) from None
        low, high = np.array([-0.5, -0.5]), np.array([thermal_size[1] - 0.5, thermal_size[0] - 0.5])
        return found, valid & (found >= low).all(1) & (found <= high).all(1)

    def _make_lookup(self, thermal_size: Size, size: Size, residual: _Residual | None) -> _Lookup:
        points = _pixels(size)
        valid = np.ones(len(points), bool)
        if residual is not None:
            points, valid = homography_points(_inverse(residual.homography), points)
        found, inside = self._positions(points, thermal_size, size)
        inside &= valid
        if not inside.any():
            (thermal_height, thermal_width), (height, width) = thermal_size, size
            raise FrameError(
                "registration",
                f"{self._base} maps nothing of a {thermal_width} x {thermal_height} thermal image into the "
                f"{width} x {height} RGB image; it must map thermal pixels to RGB pixels of these sizes",
            )
        maps = _maps(found, inside, thermal_size, size)
        positions, fractions = cv2.convertMaps(*maps, cv2.CV_16SC2)
        coverage = _feathered(inside.reshape(size), FEATHER * max(size))
        return _Lookup(thermal_size, size, cast("Any", positions), cast("Any", fractions), coverage)


@dataclass(frozen=True, eq=False)
class _View:
    """The base registration at a lower resolution."""

    map_x: Plane
    map_y: Plane
    seen: Plane
    blur: float


def _inverse(homography: Array) -> Array:
    return np.asarray(np.linalg.inv(homography), np.float64)


def _pixels(size: Size) -> Array:
    """Return all pixels ``[H * W x 2]``, row by row."""
    x, y = np.meshgrid(np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64))
    return np.column_stack([x.ravel(), y.ravel()])


def _maps(points: Array, inside: Mask, thermal_size: Size, size: Size) -> tuple[Plane, Plane]:
    # Beyond the border the border repeats: positions one pixel outside show the same, and fit OpenCV's fixed point.
    clipped = np.where(inside[:, None], np.clip(points, -1, (thermal_size[1], thermal_size[0])), -1)
    map_x, map_y = clipped.astype(np.float32).T.reshape(2, *size)
    return np.ascontiguousarray(map_x), np.ascontiguousarray(map_y)


def _resized(thermal: Plane, size: Size) -> Plane:
    if thermal.shape == size:
        return thermal
    shrinks = thermal.shape[0] > size[0] or thermal.shape[1] > size[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast("Plane", cv2.resize(thermal, (size[1], size[0]), interpolation=interpolation))


def _checked(homography: Sequence[float] | NDArray[Any]) -> Array:
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
    # The thermal image never reaches the horizon (see _check_horizon), so that the third coordinate of its first pixel
    # has the sign of all others, and the determinant then that of the mapping's area.
    if abs(matrix[2, 2]) < 1e-9 * np.abs(matrix[2]).max():
        raise ValueError(f"{named} maps the first thermal pixel to infinity: its last number must not be 0")
    matrix /= matrix[2, 2]
    if np.linalg.det(matrix) < 0:
        raise ValueError(f"{named} mirrors the thermal image: check the order of its rows and the flips of the camera")
    return matrix


def _check_horizon(homography: Array, thermal_size: Size) -> None:
    """Refuse a homography that sends part of a thermal image of this size to infinity."""
    height, width = thermal_size
    right, bottom = width - 0.5, height - 0.5
    corners = np.array([(-0.5, -0.5, 1), (right, -0.5, 1), (right, bottom, 1), (-0.5, bottom, 1)])
    if (corners @ homography[2] <= 1e-6).any():
        raise FrameError(
            "registration",
            f"homography sends part of a {width} x {height} thermal image to infinity; "
            "check its last row and for which thermal size it was calibrated",
        )


def _feathered(inside: Mask, width: float) -> Plane | None:
    if inside.all():
        return None
    # To the centre of the nearest pixel outside, which is half a pixel beyond the border.
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return cast("Plane", np.clip((distance - 0.5) / max(width, 1.0), 0.0, 1.0).astype(np.float32))
