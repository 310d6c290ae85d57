"""Parts an image into a base with its borders and the detail on it, on a coarse grid, without asking for memory.

Source: He and Sun, Fast Guided Filter, 2015, with the image as its own guide.
"""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np

from irvf.frames import Plane

Line = tuple[Plane, Plane]
"""Slope and offset by which a pixel becomes one of the base, ``[h x w]`` float32 on the coarse grid."""


class Scratch:
    """Planes to compute in, kept from frame to frame: new memory of their size costs more than computing in it.

    Used by one thread at a time. ``with`` takes back what was asked for within it.
    """

    def __init__(self) -> None:
        self._block = np.empty(0, np.float32)
        self._used = self._most = 0
        self._marks: list[int] = []

    def plane(self, shape: tuple[int, ...]) -> Plane:
        """Return a plane with anything in it."""
        size = math.prod(shape)
        start, self._used = self._used, self._used + -(-size // 16) * 16
        self._most = max(self._most, self._used)
        if self._used > self._block.size:
            return np.empty(shape, np.float32)
        return self._block[start : start + size].reshape(shape)

    def clear(self) -> None:
        """Take back everything."""
        if self._most > self._block.size:
            self._block = np.empty(self._most, np.float32)
        self._used = 0

    def __enter__(self) -> None:
        """Remember what is in use."""
        self._marks.append(self._used)

    def __exit__(self, *_: object) -> None:
        """Take back the rest."""
        self._used = self._marks.pop()


def find_base(coarse: Plane, deviation: float, side: int) -> Line:
    """Find the base of an image.

    Args:
        coarse: ``[h x w]`` float32, the image on the grid; see :func:`reduced`.
        deviation: standard deviation within a window from which on contrast is a border and stays in the base.
        side: of the windows, in cells; odd.
    """
    window = side, side
    mean = cv2.blur(coarse, window)
    variance = cv2.blur(coarse * coarse, window) - mean * mean
    slope = variance / (variance + np.float32(deviation**2))
    offset = mean - slope * mean
    return cast("Plane", cv2.blur(slope, window)), cast("Plane", cv2.blur(offset, window))


def evaluate_base(line: Line, plane: Plane, base: Plane, part: Plane) -> None:
    """Write the base of a plane, ``[H x W]`` as all but the line; ``part`` is computed in."""
    enlarge(line[0], base)
    cv2.multiply(base, plane, base)
    enlarge(line[1], part)
    cv2.add(base, part, base)


def cells(shape: tuple[int, ...], cell: int) -> tuple[int, int]:
    """Return the size of a grid with cells of ``cell`` pixels a side, or slightly less so that whole ones fit."""
    return -(-shape[0] // cell), -(-shape[1] // cell)


def reduced(plane: Plane, cell: int, scratch: Scratch) -> Plane:
    """Return the mean of each cell; ``cell`` is a power of 2. At 1 it is the plane, else it lies in the scratch."""
    while cell > 1:
        half = scratch.plane(cells(plane.shape, 2))
        halve(plane, half)
        plane, cell = half, cell // 2
    return plane


def halve(plane: Plane, half: Plane) -> None:
    """Write the mean of each 2 x 2 pixels."""
    cv2.resize(plane, half.shape[::-1], half, interpolation=cv2.INTER_AREA)


def enlarge(coarse: Plane, plane: Plane) -> None:
    """Write a coarse plane at the size of another, linearly between the middles of its cells."""
    cv2.resize(coarse, plane.shape[::-1], plane, interpolation=cv2.INTER_LINEAR)
