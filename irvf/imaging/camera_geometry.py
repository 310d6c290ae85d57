"""Where each RGB pixel lies in the thermal image, from the calibration of both cameras and an assumed distance.

Frames are optical frames: x right, y down, z forward (REP 103). Pixel coordinates have the centre of the first pixel at
(0, 0), as OpenCV and ``sensor_msgs/CameraInfo`` have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Size = tuple[int, int]
Nine = tuple[float, float, float, float, float, float, float, float, float]

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,), "fisheye": (4,)}
"""Distortion models, as ``sensor_msgs/distortion_models`` and drivers name them, and how many numbers each takes."""

_FISHEYE = ("equidistant", "fisheye")
_ASPECT_TOLERANCE = 0.01
_WIDEST = math.radians(88.0)  # a plane in front of the camera ends at 90 degrees
_INVERSION_ERROR = 0.05  # pixels by which an undistorted pixel may come back elsewhere
_ITERATIONS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-7)


@dataclass(frozen=True)
class CameraModel:
    """A calibrated camera, as ``sensor_msgs/CameraInfo`` describes it.

    Attributes:
        height: of the image that was calibrated, pixels.
        width: likewise.
        matrix: K, 3x3 row by row.
        distortion_model: one of :data:`COEFFICIENTS`; ``equidistant`` and ``fisheye`` are the same.
        distortion: D of that model; empty for none.

    Raises:
        ValueError: the calibration cannot be used; says what to do.
    """

    height: int
    width: int
    matrix: Nine
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a calibration that is none."""
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"camera_info is of a {self.width} x {self.height} image; its height and width must be those of the "
                "image that was calibrated"
            )
        if len(self.matrix) != 9 or not np.isfinite(self.matrix).all():
            raise ValueError(f"K {list(self.matrix)} must be nine finite numbers, row by row")
        if self.matrix[0] == 0:
            raise ValueError("K[0] is 0, which marks an uncalibrated camera: calibrate it, or use another registration")
        others = (self.matrix[1], self.matrix[3], *self.matrix[6:])
        if self.matrix[0] < 0 or self.matrix[4] <= 0 or others != (0, 0, 0, 0, 1):
            raise ValueError(f"K {list(self.matrix)} must be fx, 0, cx, 0, fy, cy, 0, 0, 1 with fx and fy above 0")
        if self.distortion and self.distortion_model not in COEFFICIENTS:
            raise ValueError(
                f"distortion_model {self.distortion_model!r}; allowed: {', '.join(COEFFICIENTS)}, or an empty D"
            )
        allowed = COEFFICIENTS.get(self.distortion_model, ())
        if self.distortion and len(self.distortion) not in allowed:
            raise ValueError(
                f"D has {len(self.distortion)} numbers; {self.distortion_model} takes {' or '.join(map(str, allowed))}"
            )
        if not np.isfinite(self.distortion).all():
            raise ValueError(f"D {list(self.distortion)} must be finite numbers")

    def scaled(self, size: Size) -> CameraModel:
        """Return the same camera with its whole image at another resolution, as binning makes it.

        Args:
            size: height and width of the image.

        Raises:
            ValueError: the image has another aspect, so it is no scaled version of what was calibrated.
        """
        height, width = size
        if (height, width) == (self.height, self.width):
            return self
        x_scale, y_scale = width / self.width, height / self.height
        if abs(x_scale / y_scale - 1) > _ASPECT_TOLERANCE:
            raise ValueError(
                f"camera_info is of a {self.width} x {self.height} image, the image is {width} x {height}, which is "
                "not the same at another scale: calibrate the camera at the size that it publishes"
            )
        fx, _, cx, _, fy, cy = self.matrix[:6]
        # Edges of the image fall on edges, so that centres of pixels are scaled about (-0.5, -0.5).
        across, down = (fx * x_scale, 0.0, (cx + 0.5) * x_scale - 0.5), (0.0, fy * y_scale, (cy + 0.5) * y_scale - 0.5)
        return replace(self, height=height, width=width, matrix=(*across, *down, 0.0, 0.0, 1.0))

    def project(self, points: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Project points in the camera's optical frame.

        Args:
            points: ``[N x 3]`` in any unit.

        Returns:
            Pixels ``[N x 2]``, and ``[N]`` where these hold: in front of the camera, and within the field in which the
            distortion model is single-valued (a polynomial fitted to the image folds back outside of it).
        """
        z = points[:, 2]
        in_front = z > 1e-9
        normalized = points[:, :2] / np.where(in_front, z, 1.0)[:, None]
        valid = in_front & (np.hypot(*normalized.T) < self._valid_radius())
        return self._distort(np.where(valid[:, None], normalized, 0.0)), valid

    def rays(self, pixels: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the directions that pixels look in.

        Args:
            pixels: ``[N x 2]``.

        Returns:
            Directions ``[N x 3]`` with z = 1 in the optical frame, and ``[N]`` where these hold: pixels that the
            distortion model reaches.
        """
        matrix, distortion = self._arrays()
        source = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
        if not any(self.distortion):
            normalized = (source[:, 0] - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]
            return np.column_stack([normalized, np.ones(len(normalized))]), np.ones(len(normalized), bool)
        undistorted: Any
        if self.distortion_model in _FISHEYE:
            undistorted = cv2.fisheye.undistortPoints(source, matrix, distortion, criteria=_ITERATIONS)
        elif hasattr(cv2, "undistortPointsIter"):  # OpenCV 4: undistortPoints stops after 5 steps
            undistorted = cv2.undistortPointsIter(source, matrix, distortion, np.eye(3), np.eye(3), _ITERATIONS)
        else:
            undistorted = cv2.undistortPoints(source, matrix, distortion, criteria=_ITERATIONS)
        normalized = np.asarray(undistorted, np.float64).reshape(-1, 2)
        with np.errstate(invalid="ignore", over="ignore"):
            radius = np.hypot(*normalized.T)
            valid = np.isfinite(radius) & (radius < self._valid_radius())
        normalized = np.where(valid[:, None], normalized, 0.0)
        # The inverse is iterative, and need not converge where nothing of the scene falls.
        missed = np.hypot(*(self._distort(normalized) - source[:, 0]).T)
        valid &= missed < _INVERSION_ERROR
        return np.column_stack([normalized, np.ones(len(normalized))]), valid

    def _arrays(self) -> tuple[Array, Array]:
        return np.array(self.matrix).reshape(3, 3), np.array(self.distortion or (0.0,) * 4)

    def _distort(self, normalized: Array) -> Array:
        """Return the pixels of points ``[N x 2]`` of the plane z = 1.

        Brown and Conrady's model with a rational radius, as ``cv2.projectPoints`` has it, which from Python computes
        the Jacobian with it, at ten times the cost; Kannala and Brandt's by OpenCV.
        """
        matrix, distortion = self._arrays()
        if not any(self.distortion):
            return normalized * matrix[[0, 1], [0, 1]] + matrix[:2, 2]
        if self.distortion_model in _FISHEYE:
            source = np.ascontiguousarray(normalized).reshape(-1, 1, 2)
            return np.asarray(cv2.fisheye.distortPoints(source, matrix, distortion), np.float64).reshape(-1, 2)
        x, y = normalized.T
        square, product = x * x + y * y, x * y
        k = self._brown()
        radial = _radial(k, square)
        p1, p2 = k[2], k[3]
        x_distorted = x * radial + 2 * p1 * product + p2 * (square + 2 * x * x)
        y_distorted = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * product
        return np.column_stack([matrix[0, 0] * x_distorted + matrix[0, 2], matrix[1, 1] * y_distorted + matrix[1, 2]])

    def _brown(self) -> Array:
        """Return k1, k2, p1, p2, k3, k4, k5, k6."""
        return np.pad(np.array(self.distortion, np.float64), (0, 8 - len(self.distortion)))

    def _valid_radius(self) -> float:
        """Return the tangent of the angle from the axis up to which a larger angle is farther from the centre."""
        angle = np.linspace(0.0, _WIDEST, 8801)
        radius = np.tan(angle)
        if not any(self.distortion):
            return float(radius[-1])
        with np.errstate(all="ignore"):
            if self.distortion_model in _FISHEYE:
                square = angle**2
                distorted = angle * (1 + square * np.polyval(self.distortion[::-1], square))
            else:
                distorted = radius * _radial(self._brown(), radius**2)
            folds = ~(np.diff(distorted) > 0)
        return float(radius[np.argmax(folds)] if folds.any() else radius[-1])


@dataclass(frozen=True)
class RigGeometry:
    """Both cameras and how they stand to each other: ``X_rgb = R X_thermal + t``.

    Attributes:
        thermal: the thermal camera.
        rgb: the RGB camera.
        rotation: R, 3x3 row by row, from the thermal to the RGB optical frame.
        translation: t, the thermal camera's centre in the RGB optical frame, metres.
        distance: of the plane that the scene is taken to lie in, from the RGB camera along its axis, metres; infinity
            is allowed. The plane is parallel to the RGB image; what lies off it is displaced by parallax.

    Raises:
        ValueError: R is no rotation, or a number is not finite or not positive.
    """

    thermal: CameraModel
    rgb: CameraModel
    rotation: Nine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    distance: float = math.inf

    def __post_init__(self) -> None:
        """Refuse what is no rigid transform."""
        if len(self.rotation) != 9 or not np.isfinite(self.rotation).all():
            raise ValueError(f"rotation {list(self.rotation)} must be nine finite numbers, row by row")
        rotation = np.array(self.rotation).reshape(3, 3)
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise ValueError(
                f"rotation {rotation.tolist()} is no rotation: its rows must be a right-handed set of axes"
            )
        if len(self.translation) != 3 or not np.isfinite(self.translation).all():
            raise ValueError(f"translation {list(self.translation)} must be three finite numbers, in metres")
        if not self.distance > 0:
            raise ValueError(
                f"distance {self.distance} m; the assumed plane lies in front of the camera, so above 0 (.inf for far)"
            )

    def thermal_pixels(self, pixels: Array, thermal_size: Size, size: Size) -> tuple[Array, NDArray[np.bool_]]:
        """Say where RGB pixels lie in the thermal image: the RGB camera's distortion out, the thermal camera's in.

        Args:
            pixels: ``[N x 2]`` of the RGB image as it arrives, distorted; they may lie outside of it.
            thermal_size: height and width of the thermal image.
            size: height and width of the RGB image.

        Returns:
            Thermal pixels ``[N x 2]``, and ``[N]`` where there are such; they may lie outside of the thermal image.

        Raises:
            ValueError: an image has another aspect than its calibration.
        """
        thermal, rgb = self.thermal.scaled(thermal_size), self.rgb.scaled(size)
        rays, seen = rgb.rays(pixels)
        # The point on the plane is distance * ray; dividing by the distance lets that be infinite.
        towards = rays - np.array(self.translation) / self.distance
        points = towards @ np.array(self.rotation).reshape(3, 3)
        found, valid = thermal.project(points)
        return found, valid & seen


def _radial(k: Array, square: Array) -> Array:
    """Return by what a point is moved away from the axis, at squared distances; NaN beyond a pole."""
    numerator = 1 + square * (k[0] + square * (k[1] + square * k[4]))
    denominator = 1 + square * (k[5] + square * (k[6] + square * k[7]))
    return cast("Array", numerator / np.where(denominator > 0, denominator, np.nan))


def rotation_from_quaternion(x: float, y: float, z: float, w: float) -> Nine:
    """Return the 3x3 rotation, row by row, of a quaternion as ``geometry_msgs/Quaternion`` has it.

    Raises:
        ValueError: it is zero or not finite.
    """
    quaternion = np.array([x, y, z, w], np.float64)
    norm = float(np.linalg.norm(quaternion))
    if not math.isfinite(norm) or norm < 1e-6:
        raise ValueError(f"quaternion {quaternion.tolist()} is no rotation; no rotation at all is 0, 0, 0, 1")
    x, y, z, w = (quaternion / norm).tolist()
    return (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )


def homography_points(homography: Array, points: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Map points ``[N x 2]`` by a 3x3 homography; also ``[N]``: which of them stay this side of its horizon."""
    mapped = points @ homography[:, :2].T + homography[:, 2]
    valid = mapped[:, 2] > 1e-9
    return mapped[:, :2] / np.where(valid, mapped[:, 2], 1.0)[:, None], valid


def corner_pixels(size: Size) -> Array:
    """Return the centres of the four corner pixels ``[4 x 2]``, clockwise from the first."""
    height, width = size
    return np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float64)


def as_nine(matrix: Sequence[float] | NDArray[Any]) -> Nine:
    """Return a 3x3 matrix, or nine numbers, as a tuple row by row.

    Raises:
        ValueError: there are not nine.
    """
    values = np.asarray(matrix, np.float64).ravel().tolist()
    if len(values) != 9:
        raise ValueError(f"{len(values)} numbers; a 3x3 matrix has nine, row by row")
    return cast("Nine", tuple(values))
