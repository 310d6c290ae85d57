"""How the picture of a camera moves from frame to frame, in a form that can be compared between cameras.

Two cameras on one mount see a thing look different, but move alike. What is compared is therefore never their
pictures: it is the shift and turn of each camera's own picture against its own picture before.

The shift is found by least squares on the grey levels (Lucas and Kanade, IJCAI 1981) from coarse to fine, with
weights that leave out what moves by itself. Phase correlation, which whitens the spectrum, would give the fixed pattern
of a microbolometer the weight of the scene, and that pattern does not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Frame, Plane
from irvf.imaging.color import to_rgb
from irvf.imaging.encodings import LAYOUTS, THERMAL_ENCODINGS
from irvf.imaging.errors import FrameError

THUMBNAIL_WIDTH = 160
"""Columns of the pictures that are compared; displacements are in its pixels."""

SHORTEST_INTERVAL = 20_000_000
"""Nanoseconds: faster streams are measured at a part of their frames."""
LONGEST_GAP = 3_000_000_000
"""Nanoseconds from one frame to the next beyond which a recording begins anew."""

_FINE, _COARSE = 1.0, 10.0  # standard deviations in pixels between which the structure lies that is compared
_LEVELS = 3
_ITERATIONS = 6
_CONVERGED = 0.005  # pixels
_OUTLIER = 2.0  # residuals beyond this many robust standard deviations count less and less

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MotionSignal:
    """The motion of one stream.

    Attributes:
        stamps: ``[n]`` capture times in seconds, increasing.
        path: ``[n x 3]``: how far the picture has come since the first frame, in thumbnail pixels: right, down, and
            turned (clockwise, in pixels of arc at a quarter of the width from the centre).
    """

    stamps: Vector
    path: Vector


class MotionRecording:
    """Measures the motion of one stream, frame by frame; keeps of each frame little more than where it was.

    A stamp that jumps, or a picture of another size, begins the recording anew.
    """

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._path: list[Vector] = []
        self._last: Plane | None = None

    def __len__(self) -> int:
        """Return the number of frames recorded."""
        return len(self._stamps)

    def add(self, frame: Frame) -> None:
        """Measure a frame; one that is not later than the last by :data:`SHORTEST_INTERVAL` is left out.

        Args:
            frame: of any encoding of :data:`irvf.imaging.encodings.LAYOUTS`.

        Raises:
            FrameError: as :func:`thumbnail`.
        """
        since = frame.stamp - self._stamps[-1] if self._stamps else 0
        if self._stamps and -LONGEST_GAP <= since < SHORTEST_INTERVAL:
            return
        picture = thumbnail(frame)
        if self._last is None or self._last.shape != picture.shape or not 0 < since <= LONGEST_GAP:
            self._stamps, self._path = [], [np.zeros(3)]
        else:
            self._path.append(self._path[-1] + displacement(self._last, picture))
        self._last = picture
        self._stamps.append(frame.stamp)

    def signal(self) -> MotionSignal:
        """Return what was recorded.

        Raises:
            ValueError: nothing was.
        """
        if not self._stamps:
            raise ValueError("no frame was recorded: add frames first")
        stamps = np.asarray(self._stamps, np.float64) / 1e9
        return MotionSignal(stamps, np.stack(self._path))


def thumbnail(frame: Frame) -> Plane:
    """Make the small picture that motion is measured on: structure only, whatever brightness and gain.

    Args:
        frame: of any encoding of :data:`irvf.imaging.encodings.LAYOUTS`.

    Returns:
        ``[h x 160]`` float32 with mean 0 and standard deviation 1; all 0 for a picture without structure.

    Raises:
        FrameError: an encoding that is not known, an array that does not fit it, or an image too small.
    """
    image = frame.image if frame.encoding in THERMAL_ENCODINGS else to_rgb(frame)
    if not LAYOUTS[frame.encoding].fits(frame.image) or min(image.shape[:2]) < 16:
        raise FrameError(
            "layout", f"{frame.encoding} image {image.dtype} {list(image.shape)}; 16 pixels a side are needed"
        )
    size = (THUMBNAIL_WIDTH, max(16, round(image.shape[0] * THUMBNAIL_WIDTH / image.shape[1])))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.ndim == 3:
        small = small.mean(axis=2)
    small = np.nan_to_num(small, copy=False, posinf=0.0, neginf=0.0)
    band = cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _COARSE)
    deviation = float(band.std())
    # A few hot or bright things must not be all that is seen.
    return cast("Plane", np.clip(band / deviation, -4, 4) if deviation > 1e-6 else np.zeros_like(band))


def displacement(before: Plane, after: Plane) -> Vector:
    """Return how the picture has moved: right, down and turned, as in :class:`MotionSignal`.

    Args:
        before: thumbnail, ``[h x w]``.
        after: the later one, of the same size.
    """
    motion = np.zeros(3)
    for level in reversed(range(_LEVELS)):
        factor = 0.5**level
        size = (round(before.shape[1] * factor), round(before.shape[0] * factor))
        if min(size) < 16:
            continue
        scaled = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (before, after)]
        motion = _refined(cast("Plane", scaled[0]), cast("Plane", scaled[1]), motion * factor) / factor
    limit = before.shape[1] / 2
    # What has lost its way says nothing: a picture that is another one, or has no structure.
    return motion if np.isfinite(motion).all() and np.abs(motion).max() < limit else np.zeros(3)


def _refined(before: Plane, after: Plane, motion: Vector) -> Vector:
    """Improve a displacement by Gauss-Newton steps, in pixels of these pictures."""
    height, width = before.shape
    x, y = _coordinates(height, width)
    arm = width / 4
    gradient_x = cv2.Scharr(before, cv2.CV_32F, 1, 0, scale=1 / 32)
    gradient_y = cv2.Scharr(before, cv2.CV_32F, 0, 1, scale=1 / 32)
    slopes = np.stack([gradient_x, gradient_y, (gradient_y * x - gradient_x * y) / np.float32(arm)]).reshape(3, -1)
    inner = _inner(height, width)
    for _ in range(_ITERATIONS):
        angle = motion[2] / arm
        cosine, sine = np.cos(angle), np.sin(angle)
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        turn = np.array(
            [
                [cosine, -sine, centre_x - cosine * centre_x + sine * centre_y + motion[0]],
                [sine, cosine, centre_y - sine * centre_x - cosine * centre_y + motion[1]],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(
            after, turn, (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=99.0
        )
        residual = (np.asarray(moved) - before).ravel()
        seen = inner & (residual < 20)
        if np.count_nonzero(seen) < seen.size // 8:
            break
        scale = _OUTLIER * 1.4826 * float(np.median(np.abs(residual[seen][::4]))) + 1e-6
        weight = np.where(seen, 1 / (1 + (residual / scale) ** 2), 0).astype(np.float32)
        weighted = slopes * weight
        normal = (weighted @ slopes.T).astype(np.float64)
        normal += np.eye(3) * (1e-6 * np.trace(normal) + 1e-9)
        step = np.linalg.solve(normal, -(weighted @ np.where(seen, residual, 0)).astype(np.float64))
        motion = motion + step
        if np.abs(step).max() < _CONVERGED:
            break
    return motion


@lru_cache(maxsize=16)
def _coordinates(height: int, width: int) -> tuple[Plane, Plane]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x - np.float32((width - 1) / 2), y - np.float32((height - 1) / 2)


@lru_cache(maxsize=16)
def _inner(height: int, width: int) -> NDArray[np.bool_]:
    inner = np.zeros((height, width), bool)
    inner[2:-2, 2:-2] = True
    return inner.ravel()
