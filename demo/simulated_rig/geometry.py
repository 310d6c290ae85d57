"""Cameras of the rig and the exact mapping between them.

Frames: the world is x forward, y left, z up (REP 103), ground at z = 0; cameras are optical frames, x right, y down,
z forward. Pixel coordinates have the centre of the first pixel at (0, 0), as OpenCV and ``sensor_msgs/CameraInfo``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .config import RigConfig

Array = NDArray[np.float64]

CAMERA_HEIGHT_M = 1.6
CAMERA_PITCH_DEG = 2.0  # downwards: more road, less sky
CAMERA_YAW_DEG = 4.0  # to the left: the rig stands in the right-hand parking lane and looks into the street
OPTICAL_FROM_WORLD = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """An ideal camera: no distortion.

    Attributes:
        width: pixels.
        height: pixels.
        matrix: intrinsic matrix K ``[3 x 3]``.
        rotation: from world to optical axes ``[3 x 3]``.
        position: optical centre in the world ``[3]``, metres.
    """

    width: int
    height: int
    matrix: Array
    rotation: Array
    position: Array

    def project(self, points: NDArray[np.floating]) -> tuple[Array, Array]:
        """Project world points.

        Args:
            points: ``[... x 3]``, metres.

        Returns:
            Pixels ``[... x 2]`` and depths along the optical axis ``[...]``, metres. Pixels are meaningless where the
            depth is not positive.
        """
        optical = (points - self.position) @ self.rotation.T
        depth = optical[..., 2]
        safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        focal, centre = self.matrix[[0, 1], [0, 1]], self.matrix[:2, 2]
        return optical[..., :2] / safe[..., None] * focal + centre, depth

    def rays(self, supersampling: int) -> NDArray[np.float32]:
        """Directions through the sub-pixels, in the world, scaled so that a step of 1 is a depth of 1 metre.

        Args:
            supersampling: sub-pixels along each axis of a pixel.

        Returns:
            ``[supersampling * height x supersampling * width x 3]``.
        """
        column = (np.arange(self.width * supersampling) + 0.5) / supersampling - 0.5
        row = (np.arange(self.height * supersampling) + 0.5) / supersampling - 0.5
        across = (column - self.matrix[0, 2]) / self.matrix[0, 0]
        down = (row - self.matrix[1, 2]) / self.matrix[1, 1]
        to_world = self.rotation.T
        rays = across[None, :, None] * to_world[:, 0] + down[:, None, None] * to_world[:, 1] + to_world[:, 2]
        return np.asarray(rays, dtype=np.float32)


def _intrinsics(width: int, height: int, view_deg: float) -> Array:
    focal = width / (2 * math.tan(math.radians(view_deg) / 2))
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def _rotation(degrees: tuple[float, float, float]) -> Array:
    """Rotation ``Rz Ry Rx`` of the given angles about fixed x, y, z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: Array = about_z @ about_y @ about_x
    return rotation


def rgb_camera(config: RigConfig) -> PinholeCamera:
    """Return the RGB camera: it looks along the street from the right-hand parking lane."""
    yaw, pitch = math.radians(CAMERA_YAW_DEG), math.radians(CAMERA_PITCH_DEG)
    turn = np.array([[math.cos(yaw), math.sin(yaw), 0], [-math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return PinholeCamera(
        width=config.rgb_width,
        height=config.rgb_height,
        matrix=_intrinsics(config.rgb_width, config.rgb_height, config.rgb_view_deg),
        rotation=tilt @ OPTICAL_FROM_WORLD @ turn,
        position=np.array([0.0, 0.0, CAMERA_HEIGHT_M]),
    )


def thermal_camera(config: RigConfig) -> PinholeCamera:
    """Return the thermal camera, beside the RGB camera and turned a little against it."""
    rgb = rgb_camera(config)
    return PinholeCamera(
        width=config.thermal_width,
        height=config.thermal_height,
        matrix=_intrinsics(config.thermal_width, config.thermal_height, config.thermal_view_deg),
        rotation=_rotation(config.thermal_rotation_deg).T @ rgb.rotation,
        position=rgb.position + rgb.rotation.T @ np.array(config.thermal_offset_m),
    )


def thermal_to_rgb(config: RigConfig) -> tuple[Array, Array]:
    """Return R ``[3 x 3]`` and t ``[3]`` (metres) with ``X_rgb = R X_thermal + t``, both in optical axes."""
    return _rotation(config.thermal_rotation_deg), np.array(config.thermal_offset_m)


def homography_thermal_to_rgb(config: RigConfig, distance_m: float) -> Array:
    """Homography that a plane induces between the two cameras.

    The plane is parallel to the RGB image plane (fronto-parallel) at depth ``distance_m``. With ``X_rgb = R X_thermal
    + t`` and the plane ``n^T X_rgb = d``, ``n = (0, 0, 1)``: ``x_thermal ~ K_t R^T (I - t n^T / d) K_r^-1 x_rgb``
    (Hartley and Zisserman, Multiple View Geometry, section 13.1), of which this is the inverse.

    Args:
        config: the rig.
        distance_m: depth of the plane in front of the RGB camera; points off the plane show parallax.

    Returns:
        ``[3 x 3]``, from thermal to RGB pixels, the centre of the first pixel of each at (0, 0), element (2, 2) is 1.
        It is the matrix that ``cv2.warpPerspective(thermal, H, rgb_size)`` takes without ``WARP_INVERSE_MAP``.

    Raises:
        ValueError: the distance is not positive.
    """
    if distance_m <= 0:
        raise ValueError(f"distance_m is {distance_m}; a plane in front of the camera has a distance greater than 0")
    rotation, offset = thermal_to_rgb(config)
    plane = np.eye(3) - np.outer(offset, [0.0, 0.0, 1.0]) / distance_m
    rgb_to_thermal = thermal_camera(config).matrix @ rotation.T @ plane @ np.linalg.inv(rgb_camera(config).matrix)
    homography = np.linalg.inv(rgb_to_thermal)
    return np.asarray(homography / homography[2, 2], dtype=np.float64)


def convex_hull(pixels: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the corners ``[M x 2]`` of the convex hull of pixels ``[N x 2]``."""
    return np.asarray(cv2.convexHull(pixels.astype(np.float32)), dtype=np.float32).reshape(-1, 2)
