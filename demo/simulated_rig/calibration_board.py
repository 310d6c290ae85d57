"""The printed board of a calibration, and what a camera with a lens that distorts sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import PinholeCamera

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

TARGETS = ("chessboard", "circles", "aprilgrid")
DEFAULT_SIZES = {"chessboard": ((9, 6), 0.05), "circles": ((4, 11), 0.04), "aprilgrid": ((6, 6), 0.055)}
TEXEL_M = 0.0005
_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Lens:
    """Distortion as OpenCV defines it: ``plumb_bob`` (k1 k2 p1 p2 k3) or ``equidistant`` (its fisheye, k1 to k4)."""

    model: str = "plumb_bob"
    distortion: tuple[float, ...] = (0.0,) * 5


THERMAL_LENSES = {
    "none": Lens(),
    "plumb_bob": Lens("plumb_bob", (-0.24, 0.08, 0.0006, -0.0004, 0.0)),
    "equidistant": Lens("equidistant", (0.06, -0.02, 0.004, 0.0)),
}
RGB_LENSES = {
    "none": Lens(),
    "plumb_bob": Lens("plumb_bob", (-0.11, 0.04, -0.0003, 0.0005, 0.0)),
    "equidistant": Lens("equidistant", (0.03, -0.01, 0.002, 0.0)),
}


def board_texture(target: str, size: tuple[int, int], cell_m: float, spacing: float) -> tuple[Array32, Array]:
    """Draw the printed board, 0 black to 1 white, with a white margin.

    Args:
        target: one of :data:`TARGETS`.
        size: columns and rows: inner corners, circles or tags.
        cell_m: square, circle pitch or edge of a tag, metres.
        spacing: aprilgrid: gap between tags as a share of the tag.

    Returns:
        The texture ``[h x w]`` with texels of :data:`TEXEL_M`, and where its first texel's centre lies in the board's
        frame ``[2]``: x right, y down, metres; the origin is the first inner corner, the first circle's centre or the
        lower left corner of tag 0.
    """
    columns, rows = size
    cell = round(cell_m / TEXEL_M)
    if target == "chessboard":
        squares = (np.add.outer(np.arange(rows + 1), np.arange(columns + 1)) % 2).astype(np.float32)
        print_, margin, first = np.kron(squares, np.ones((cell, cell), np.float32)), cell // 2, (cell, cell)
    elif target == "circles":
        radius = 0.45 * cell
        y, x = np.mgrid[0 : (rows + 1) * cell, 0 : (2 * columns + 1) * cell].astype(np.float32) + 0.5
        print_ = np.ones(x.shape, np.float32)
        for row in range(rows):
            for column in range(columns):
                distance = np.hypot(x - (2 * column + row % 2 + 1) * cell, y - (row + 1) * cell)
                print_ = np.minimum(print_, np.clip(distance - radius + 0.5, 0, 1))
        margin, first = cell // 2, (cell, cell)
    else:
        print_, first = _aprilgrid(columns, rows, cell, round(cell * spacing))
        margin = cell // 4
    texture = np.pad(print_, margin, constant_values=1.0)
    return texture, (0.5 - margin - np.array(first, np.float64)) * TEXEL_M


def _aprilgrid(columns: int, rows: int, tag: int, gap: int) -> tuple[Array32, tuple[int, int]]:
    """Draw Kalibr's AprilGrid: tag36h11 with a border of two bits, ids along x from the lower left, black corners."""
    aruco: Any = cv2.aruco
    dictionary = aruco.getPredefinedDictionary(aruco.DICT_APRILTAG_36h11)
    draw = getattr(aruco, "generateImageMarker", None) or aruco.drawMarker  # OpenCV before 4.7
    pitch = tag + gap
    picture = np.ones((rows * pitch + gap, columns * pitch + gap), np.float32)
    for row in range(rows):
        for column in range(columns):
            number = row * columns + column
            bits = draw(dictionary, number, 10, borderBits=2)
            top, left = gap + (rows - 1 - row) * pitch, gap + column * pitch
            picture[top : top + tag, left : left + tag] = cv2.resize(bits, (tag, tag), interpolation=0) / 255
    for row in range(rows + 1):
        for column in range(columns + 1):
            picture[row * pitch : row * pitch + gap, column * pitch : column * pitch + gap] = 0
    return picture, (gap, rows * pitch)


class BoardView:
    """Draws the board as one camera sees it, before its sensor.

    Args:
        camera: pinhole part.
        lens: distortion.
        rotation: from RGB optical axes to those of the camera ``[3 x 3]``.
        offset: ``X_camera = rotation X_rgb + offset``, metres.
    """

    def __init__(self, camera: PinholeCamera, lens: Lens, rotation: Array, offset: Array) -> None:
        self._camera, self._rotation, self._offset, self._lens = camera, rotation, offset, lens
        # Rays of whole pixels, one more on each side, and between them in proportion: lenses are smooth.
        pixels = np.stack(np.meshgrid(np.arange(-1.0, camera.width + 1), np.arange(-1.0, camera.height + 1)), -1)
        rays = undistorted(pixels.reshape(-1, 2), camera.matrix, lens).reshape(pixels.shape)
        fine = cv2.resize(rays, None, fx=_SUPERSAMPLING, fy=_SUPERSAMPLING, interpolation=cv2.INTER_LINEAR)
        self._rays = fine[_SUPERSAMPLING:-_SUPERSAMPLING, _SUPERSAMPLING:-_SUPERSAMPLING]

    def draw(self, texture: Array32, corner: Array, pose: tuple[Array, Array]) -> tuple[Array32, Array32]:
        """Return the board's brightness and its coverage, each ``[H x W]`` in 0..1.

        Args:
            texture: of :func:`board_texture`.
            corner: likewise.
            pose: rotation vector and translation of the board's frame in RGB optical axes.
        """
        turn = self._rotation @ cv2.Rodrigues(pose[0])[0]
        origin = self._rotation @ pose[1] + self._offset
        plane = np.linalg.inv(np.column_stack((turn[:, 0], turn[:, 1], origin)))
        x, y = self._rays[..., 0], self._rays[..., 1]
        hit = [row[0] * x + row[1] * y + row[2] for row in plane]
        with np.errstate(divide="ignore", invalid="ignore"):
            across = np.where(hit[2] > 0, (hit[0] / hit[2] - corner[0]) / TEXEL_M, -9)
            down = np.where(hit[2] > 0, (hit[1] / hit[2] - corner[1]) / TEXEL_M, -9)
        maps = [np.clip(part, -9, 30000).astype(np.float32) for part in (across, down)]
        seen = cv2.remap(texture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        height, width = texture.shape
        inside = (maps[0] > -0.5) & (maps[0] < width - 0.5) & (maps[1] > -0.5) & (maps[1] < height - 0.5)
        size = (self._camera.width, self._camera.height)
        cover = inside.astype(np.float32)
        brightness = cv2.resize(seen * cover, size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(cover, size, interpolation=cv2.INTER_AREA)
        return np.asarray(brightness / np.maximum(cover, 1e-6)), np.asarray(cover)


def undistorted(pixels: Array, matrix: Array, lens: Lens) -> Array:
    """Return normalised coordinates ``[N x 2]`` of distorted pixels, exact to a thousandth of a pixel where defined."""
    coefficients = np.array(lens.distortion)
    points = np.ascontiguousarray(pixels, np.float64)[:, None]
    if lens.model == "equidistant":
        return np.asarray(cv2.fisheye.undistortPoints(points, matrix, coefficients)).reshape(-1, 2)
    start = (pixels - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]
    guess = start.copy()
    for _ in range(25):  # fixed point: the radial factor changes slowly over the image
        guess += start - _distort(guess, coefficients)
    return guess


def _distort(points: Array, coefficients: Array) -> Array:
    k1, k2, p1, p2, k3 = coefficients
    x, y = points[:, 0], points[:, 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ),
        -1,
    )


def project(points: Array, camera: PinholeCamera, lens: Lens) -> Array:
    """Return the pixels ``[N x 2]`` of points ``[N x 3]`` in the camera's optical axes (OpenCV's definitions)."""
    normal = points[:, :2] / points[:, 2:]
    if lens.model == "equidistant":
        radius = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
        angle = np.arctan(radius)
        powers = angle[:, None] ** np.array([2, 4, 6, 8])
        normal = normal * (angle * (1 + powers @ np.array(lens.distortion)) / radius)[:, None]
    else:
        normal = _distort(normal, np.array(lens.distortion))
    return np.asarray(normal * camera.matrix[[0, 1], [0, 1]] + camera.matrix[:2, 2])
