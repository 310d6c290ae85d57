"""The calibration targets: where their points lie on the board, and which boards look the same when turned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TARGET_NAMES = ("chessboard", "circles", "aprilgrid")
DEFAULT_SIZES = {"chessboard": (9, 6), "circles": (4, 11), "aprilgrid": (6, 6)}
_MOST_POINTS = 2000
_TAGS = 587
"""In the family 36h11."""


@dataclass(frozen=True, eq=False)
class Target:
    """A flat board with points that can be found in an image.

    Attributes:
        name: one of :data:`TARGET_NAMES`.
        columns: inner corners, circles or tags in a row.
        rows: likewise in a column.
        points: ``[N x 3]`` metres in the board's frame: x right, y down, z away from the viewer.
        symmetries: orders ``[N]`` of the points in which the same board would be found if it were turned; the first is
            the order as it is.
        pitch: smallest distance between two points, metres.
    """

    name: str
    columns: int
    rows: int
    points: Array
    symmetries: tuple[NDArray[np.intp], ...]
    pitch: float

    def __str__(self) -> str:
        return f"{self.name} {self.columns}x{self.rows}"


def make_target(
    name: str, size: tuple[int, int] | None = None, square: float = 0.0, tag: float = 0.0, spacing: float = 0.3
) -> Target:
    """Describe a target.

    Args:
        name: ``chessboard``; ``circles``, OpenCV's asymmetric grid of dark circles; or ``aprilgrid``, Kalibr's grid of
            AprilTags 36h11 with tag 0 at the lower left and numbers that rise along the row.
        size: columns and rows: inner corners, circles (``4x11``: eleven rows of four), tags; None for the usual one.
        square: chessboard: side of a square; circles: half the distance of two circles in a row, which is the distance
            of two rows. Metres.
        tag: aprilgrid: outer side of a tag's black border, metres.
        spacing: aprilgrid: gap between two tags as a share of ``tag``.

    Raises:
        ValueError: an unknown target, a size or a length that no board has.
    """
    if name not in TARGET_NAMES:
        raise ValueError(f"target {name!r}; allowed: {', '.join(TARGET_NAMES)}")
    columns, rows = size or DEFAULT_SIZES[name]
    least = 3 if name == "chessboard" else 2
    if not (min(columns, rows) >= least and columns * rows <= (_TAGS if name == "aprilgrid" else _MOST_POINTS)):
        what = {"chessboard": "inner corners", "circles": "circles", "aprilgrid": "tags"}[name]
        raise ValueError(f"size {columns}x{rows} of {name}: {what}, COLUMNSxROWS, at least {least} each way")
    option, length = ("--tag", tag) if name == "aprilgrid" else ("--square", square)
    if not (math.isfinite(length) and 0.001 <= length <= 10):
        raise ValueError(f"{option} {length} of {name}: give the printed length in metres, 0.001 to 10")
    if name == "aprilgrid" and not 0.02 <= spacing <= 2:
        raise ValueError(f"--spacing {spacing}: the gap between tags as a share of the tag's side, 0.02 to 2")
    if name == "aprilgrid":
        flat = _tag_corners(columns, rows, length, spacing)
        return Target(name, columns, rows, _in_space(flat), (np.arange(len(flat)),), min(1.0, spacing) * length)
    row, column = (part.ravel() for part in np.mgrid[0:rows, 0:columns])
    across = column if name == "chessboard" else 2 * column + row % 2
    flat = np.column_stack((across, row)) * float(length)
    pitch = length if name == "chessboard" else length * math.sqrt(2)
    return Target(name, columns, rows, _in_space(flat), _symmetries(flat), pitch)


def _in_space(flat: Array) -> Array:
    return np.column_stack((flat, np.zeros(len(flat))))


def _tag_corners(columns: int, rows: int, tag: float, spacing: float) -> Array:
    """Corners of all tags, four a tag, clockwise from the upper left, as they stand on the board."""
    number = np.arange(columns * rows)
    step = tag * (1 + spacing)
    left, bottom = (number % columns) * step, -(number // columns) * step
    corners = np.array([(0, -tag), (tag, -tag), (tag, 0), (0, 0)])
    return np.asarray((np.column_stack((left, bottom))[:, None] + corners).reshape(-1, 2))


def _symmetries(flat: Array) -> tuple[NDArray[np.intp], ...]:
    """Orders in which the points fall on each other when the board is turned by quarter turns."""
    centred = flat - (flat.min(0) + flat.max(0)) / 2
    found = []
    for cosine, sine in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        turned = centred @ np.array([[cosine, sine], [-sine, cosine]])
        distance = np.linalg.norm(turned[:, None] - centred, axis=2)
        nearest = distance.argmin(1)
        if distance.min(1).max() < 1e-6:
            found.append(nearest)
    return tuple(found)
