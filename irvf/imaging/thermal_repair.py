"""What is wrong with single pixels, rows and columns of a thermal image, and its repair.

A microbolometer has pixels that do not measure, and amplifiers of columns and rows whose offsets drift: the first stand
out as dots, the others as stripes that an equalised picture shows more than the scene. Images that come in are never
written to.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.imaging.errors import FrameError

MAX_NOT_FINITE = 0.01
"""Share of NaN or infinite pixels that is repaired; with more, the frame is refused."""

OUTLIER = 8.0
"""Standard deviations of the noise by which a dead pixel differs from its neighbourhood at least."""
SPREAD = 0.15
"""Share of its contrast that a dead pixel leaves to its neighbours at most, to all but one.

A real point is spread by the lens: the diffraction of 10 um light at f/1 alone is a pixel of 12 um wide, and the sides
of the brightest pixel get a fifth of its contrast or more.
"""
EVIDENCE = 6
"""Different neighbourhoods that a pixel has to stand out of until it is taken for dead."""
CHECK_EVERY_S = 0.2
"""Seconds between two searches for dead pixels."""
MAX_DEAD = 0.01
"""Share of the pixels that is repaired at most; more that stand out alone are a texture, or noise."""

MAX_STRIPE = 3.0
"""Offset of a row or column that is taken away at most, in standard deviations of a pixel's noise."""
STRIPE_MEMORY_S = 1.0
"""Time constant in seconds with which the offsets of columns are followed; those of rows differ in every frame."""

_REPAIR_RADIUS = 2
_MAX_EVIDENCE = 4 * EVIDENCE
_MAX_LOOKED_AT = 2000  # pixels that stand out, edges mostly, of which the strongest are looked at
_BLOCKS, _SHORTEST_BLOCK = 32, 4  # of a column, that are compared with those of the next; rows of one
_STRIPE_WINDOW = 9  # columns over which offsets are 0 on average: what is wider belongs to the scene
_MIN_SHARE = 0.4  # of the blocks that must agree
_FIFTH = 0.2533  # a fifth of normal noise is smaller than this, in standard deviations
_GAUSS = 1.4826  # standard deviation of normal noise over the median of its magnitude
_AROUND = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x)
_RING = tuple((y, x) for y in range(-2, 3) for x in range(-2, 3) if max(abs(y), abs(x)) == 2)

Thermal = NDArray[Any]
Indices = NDArray[np.intp]


class PixelRepair:
    """Finds dead, hot and stuck pixels over time, and shows the median of their neighbours instead.

    A pixel is taken for one when it stands out of its neighbourhood alone or in a pair, sharper than the lens can draw,
    and goes on to do so while what lies around it changes: in a parked camera before an unchanging scene nothing is
    found, and a distant lamp is not taken away. It is given up when it has stopped standing out.

    Args:
        known: pixels that are dead anyway, ``(x, y)``; those outside the image are left out.
    """

    def __init__(self, known: Iterable[tuple[int, int]] = ()) -> None:
        self._known = tuple(known)
        self._size: tuple[int, ...] = ()
        self._checked: int | None = None
        self._suspects: Indices = np.empty(0, np.intp)
        self._evidence: NDArray[np.int64] = np.empty(0, np.int64)
        self._around: NDArray[np.float32] = np.empty(0, np.float32)
        self._always: Indices = np.empty(0, np.intp)
        self._dead: Indices = np.empty(0, np.intp)
        self._sources: Indices = np.empty((0, 0), np.intp)

    @property
    def dead(self) -> tuple[tuple[int, int], ...]:
        """Pixels that are repaired now, ``(x, y)``."""
        rows, columns = np.divmod(self._dead, self._size[1]) if self._size else (self._dead, self._dead)
        return tuple(zip(columns.tolist(), rows.tolist(), strict=True))

    def __call__(self, image: Thermal, stamp: int) -> Thermal:
        """Return the image without its dead pixels, the same array where there are none.

        Args:
            image: ``[H x W]`` uint8, uint16, or float32 without NaN.
            stamp: capture time in nanoseconds.
        """
        if image.shape != self._size:
            self._start(image.shape)
        if self._checked is None or not 0 <= stamp - self._checked < CHECK_EVERY_S * 1e9:
            self._checked = stamp
            self._search(image)
        if not self._dead.size:
            return image
        repaired: Thermal = image.copy()
        values = image[np.divmod(self._sources, self._size[1])]
        repaired[np.divmod(self._dead, self._size[1])] = np.median(values, axis=1).astype(image.dtype)
        return repaired

    def _start(self, size: tuple[int, ...]) -> None:
        height, width = size
        self._size, self._checked = size, None
        self._suspects, self._evidence, self._around = (
            np.empty(0, np.intp),
            np.empty(0, np.int64),
            np.empty(0, np.float32),
        )
        inside = [y * width + x for x, y in self._known if 0 <= x < width and 0 <= y < height]
        self._always = np.array(inside, np.intp)
        self._dead, self._sources = np.empty(0, np.intp), np.empty((0, 0), np.intp)
        self._mark(self._always)

    def _search(self, image: Thermal) -> None:
        """Gather evidence from one frame."""
        if min(self._size) < 5:
            return
        contrast = cv2.absdiff(image, cast("Thermal", cv2.medianBlur(image, 3)))
        noise = max(_GAUSS * float(np.median(contrast[::4, ::4])), _quantum(image))
        found = np.flatnonzero(contrast > OUTLIER * noise)
        if found.size > _MAX_LOOKED_AT:
            found = found[np.argpartition(contrast.ravel()[found], -_MAX_LOOKED_AT)[-_MAX_LOOKED_AT:]]
        found = found[_alone(image, found, OUTLIER * noise)]
        if found.size > MAX_DEAD * image.size:
            return
        around = _background(image, self._suspects)
        still = np.isin(self._suspects, found, kind="sort")
        changed = np.abs(around - self._around) > 3 * noise
        self._around = np.where(changed, around, self._around)
        self._evidence = np.where(still, self._evidence + changed, self._evidence - 1).clip(max=_MAX_EVIDENCE)
        new = found[np.isin(found, self._suspects, invert=True, kind="sort")]
        keep = self._evidence >= 0
        self._suspects = np.concatenate((self._suspects[keep], new))
        self._evidence = np.concatenate((self._evidence[keep], np.zeros(new.size, np.int64)))
        self._around = np.concatenate((self._around[keep], _background(image, new)))
        # Once dead, a pixel stays it until all evidence is gone.
        dead = (self._evidence >= EVIDENCE) | (np.isin(self._suspects, self._dead, kind="sort") & (self._evidence > 0))
        self._mark(np.union1d(self._suspects[dead], self._always))

    def _mark(self, dead: Indices) -> None:
        """Take these pixels for dead."""
        if np.array_equal(dead, self._dead) and self._sources.shape[0] == dead.size:
            return
        self._dead = dead
        self._sources = _sources(dead, self._size)


class Destriping:
    """Takes away the offsets of rows and columns.

    Blocks of neighbouring columns are compared: what most of them agree on, up to the noise, is a step between two
    offsets; an edge of the scene is in some of them, and is left alone. What the offsets have in common over some
    columns belongs to the scene as well. In a parked camera a structure of the scene that runs along a whole column is
    no different from a stripe; it is changed by :data:`MAX_STRIPE` at most.
    """

    def __init__(self) -> None:
        self._columns: Plane | None = None
        self._stamp = 0

    def restart(self) -> None:
        """Forget the offsets, as after the camera has corrected itself."""
        self._columns = None

    def __call__(self, image: Thermal, stamp: int, lines: Collection[str]) -> Thermal:
        """Return the image without its stripes.

        Args:
            image: ``[H x W]`` uint8, uint16, or float32 without NaN.
            stamp: capture time in nanoseconds.
            lines: ``rows``, ``columns``, both or none.

        Returns:
            ``[H x W]`` float32 where stripes were looked for: they are finer than a count.
        """
        if "columns" in lines:
            found = _offsets(image, "columns")
            elapsed = stamp - self._stamp
            if self._columns is None or self._columns.shape != found.shape or elapsed < 0:
                self._columns = found
            else:
                self._columns = self._columns + (found - self._columns) * np.float32(
                    -math.expm1(-elapsed * 1e-9 / STRIPE_MEMORY_S)
                )
            self._stamp = stamp
            image = np.subtract(image, self._columns, dtype=np.float32)
        if "rows" in lines:
            image = np.subtract(image, _offsets(image, "rows")[:, None], dtype=np.float32)
        return image


def repair_not_finite(image: Plane) -> Plane:
    """Replace single pixels that are NaN or infinite by the mean of their finite neighbours.

    Raises:
        FrameError: they are more than :data:`MAX_NOT_FINITE` of all.
    """
    finite = np.isfinite(image)
    missing = image.size - int(np.count_nonzero(finite))
    if missing == 0:
        return image
    if missing > MAX_NOT_FINITE * image.size:
        raise FrameError(
            "not_finite",
            f"{missing} of {image.size} thermal pixels are NaN or infinite; up to {MAX_NOT_FINITE:.0%} are repaired",
        )
    rows, columns = np.nonzero(~finite)
    offsets = np.arange(-_REPAIR_RADIUS, _REPAIR_RADIUS + 1)
    near_rows = np.clip(rows[:, None, None] + offsets[:, None], 0, image.shape[0] - 1)
    near_columns = np.clip(columns[:, None, None] + offsets, 0, image.shape[1] - 1)
    known = finite[near_rows, near_columns]
    counts = known.sum(axis=(1, 2))
    sums = np.where(known, image[near_rows, near_columns], 0.0).sum(axis=(1, 2), dtype=np.float64)
    alone = counts == 0
    repaired: Plane = image.copy()
    repaired[rows, columns] = sums / np.maximum(counts, 1)
    if alone.any():
        repaired[rows[alone], columns[alone]] = np.median(image[finite])
    return repaired


def _quantum(image: Thermal) -> float:
    """Smallest noise that is believed: half a count of integers, a thousandth of floats."""
    return 0.5 if image.dtype.kind == "u" else 1e-3


def _near(pixels: Indices, size: tuple[int, ...]) -> Indices:
    """Return the neighbours of pixels, ``[n x 8]``; beyond the border, those on it."""
    rows, columns = np.divmod(pixels, size[1])
    return np.stack(
        [np.clip(rows + y, 0, size[0] - 1) * size[1] + np.clip(columns + x, 0, size[1] - 1) for y, x in _AROUND], axis=1
    )


def _gather(image: Thermal, pixels: Indices, steps: Sequence[tuple[int, int]]) -> Plane:
    """Return the values beside pixels, ``[n x steps]``, up to two away; beyond the border, those that it mirrors."""
    width = image.shape[1] + 4
    bordered = cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_REFLECT_101).ravel()
    rows, columns = np.divmod(pixels, image.shape[1])
    places = (rows + 2) * width + columns + 2
    beside: Plane = bordered[places[:, None] + np.array([y * width + x for y, x in steps])].astype(np.float32)
    return beside


def _background(image: Thermal, pixels: Indices) -> NDArray[np.float32]:
    """Return the median of the ring around each pixel's neighbours: a lens spreads no point as far."""
    ring = np.sort(_gather(image, pixels, _RING), axis=1)
    return cast("NDArray[np.float32]", ring[:, len(_RING) // 2 - 1 : len(_RING) // 2 + 1].mean(axis=1))


def _alone(image: Thermal, pixels: Indices, least: float) -> NDArray[np.bool_]:
    """Say which pixels leave less of their contrast to what surrounds them than a lens would, but for one neighbour."""
    level = _background(image, pixels)
    contrast = _gather(image, pixels, ((0, 0),))[:, 0] - level
    around = (_gather(image, pixels, _AROUND) - level[:, None]) * np.sign(contrast)[:, None]
    second = np.sort(around, axis=1)[:, -2]
    alone: NDArray[np.bool_] = (np.abs(contrast) > least) & (second < SPREAD * np.abs(contrast))
    return alone


def _sources(dead: Indices, size: tuple[int, ...]) -> Indices:
    """Return for each dead pixel the neighbours to repair it from; where all are dead too, it keeps its value."""
    if not dead.size:
        return np.empty((0, 0), np.intp)
    near = _near(dead, size)
    good = np.isin(near, dead, invert=True, kind="sort")
    # The median of neighbours, each taken as often as it fits into the row, is that of the good ones or next to it.
    order = np.argsort(~good, axis=1, kind="stable")
    near = np.take_along_axis(near, order, axis=1)
    count = np.maximum(good.sum(axis=1), 1)
    near = np.take_along_axis(near, np.arange(near.shape[1]) % count[:, None], axis=1)
    return np.where(good.any(axis=1, keepdims=True), near, dead[:, None])


def _offsets(image: Thermal, lines: str) -> Plane:
    """Measure the offset of each row or column against those around it, float32 ``[H]`` or ``[W]``."""
    length, count = image.shape if lines == "columns" else image.shape[::-1]
    blocks = min(_BLOCKS, length // _SHORTEST_BLOCK)
    if count < 3 or blocks < 2:
        return np.zeros(count, np.float32)
    plane = image.astype(np.float32)
    if lines == "columns":
        means = cv2.resize(plane, (count, blocks), interpolation=cv2.INTER_AREA).T
        along = np.abs(plane[1::4, ::4] - plane[: length - 1 : 4, ::4])  # there an offset is the same
    else:
        means = cv2.resize(plane, (blocks, count), interpolation=cv2.INTER_AREA)
        along = np.abs(plane[::4, 1::4] - plane[::4, : length - 1 : 4])
    fifth = float(np.partition(along.ravel(), along.size // 5)[along.size // 5])
    noise = max(fifth / _FIFTH / math.sqrt(2), _quantum(image) / 2)
    steps = np.sort(np.diff(means, axis=0), axis=1)
    # The middle of the densest half: what most blocks agree on, wherever edges of the scene pull the others.
    half = blocks // 2
    densest = np.argmin(steps[:, half:] - steps[:, : blocks - half], axis=1)
    agreed = np.take_along_axis(steps, (densest + half // 2)[:, None], axis=1)
    alike = np.abs(steps - agreed) <= 2 * noise * math.sqrt(2 * blocks / length)
    counts = np.count_nonzero(alike, axis=1)
    sums = np.einsum("ij,ij->i", steps, alike.astype(np.float32))
    step = np.where(counts >= _MIN_SHARE * blocks, sums / np.maximum(counts, 1), 0.0)
    profile = np.concatenate(([0.0], np.cumsum(step))).astype(np.float32)
    scene = cv2.blur(profile[None], (_STRIPE_WINDOW, 1), borderType=cv2.BORDER_REFLECT)[0]
    bound = MAX_STRIPE * noise
    offsets: Plane = np.clip(profile - scene, -bound, bound).astype(np.float32)
    return offsets
