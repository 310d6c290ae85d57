"""Carries boxes over the frames that the detector does not see, each at its own velocity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irvf.frames import Box, Detection

MIN_OVERLAP = 0.2
"""Least intersection over union of a new box with the carried one of the object that it is taken for."""
MAX_CARRY = 0.5
"""Seconds after which what was seen says nothing of where things are."""
_SMOOTHING = 0.6  # share of the newest motion in the velocity

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Track:
    """An object as the detector saw it last.

    Attributes:
        detection: of then.
        velocity: of x_min, y_min, x_max and y_max, pixels a second.
        known: whether the velocity was ever measured.
    """

    detection: Detection
    velocity: _Floats
    known: bool


class BoxTracker:
    """Knows the objects of the last detection and how they move.

    Each new box is taken for the carried one of its class that it overlaps most, the most certain first; both corners
    move at constant velocity (smoothed), so that a box also grows when its object comes nearer. Nothing is invented:
    an object lives from one detection to the next, and what the detector does not find again is gone.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._seen = 0

    def update(self, detections: tuple[Detection, ...], stamp: int) -> None:
        """Take what the detector found in the frame of this time, in nanoseconds."""
        elapsed = (stamp - self._seen) * 1e-9
        carried = list(self._tracks) if 0 < elapsed <= MAX_CARRY else []
        corners = [_corners(track.detection.box) + elapsed * track.velocity for track in carried]
        tracks = []
        for detection in sorted(detections, key=lambda found: -found.score):
            box = _corners(detection.box)
            overlaps = [
                overlap(box, old) if track.detection.label == detection.label else 0.0
                for track, old in zip(carried, corners, strict=True)
            ]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if best < 0 or overlaps[best] < MIN_OVERLAP:
                tracks.append(_Track(detection, np.zeros(4), known=False))
                continue
            track = carried.pop(best)
            del corners[best]
            measured = (box - _corners(track.detection.box)) / elapsed
            velocity = track.velocity + (_SMOOTHING if track.known else 1.0) * (measured - track.velocity)
            tracks.append(_Track(detection, velocity, known=True))
        self._tracks, self._seen = tracks, stamp

    def carry(self, stamp: int, image_size: tuple[int, int]) -> tuple[Detection, ...] | None:
        """Return the objects where they should be at a time.

        Args:
            stamp: of the frame, in nanoseconds.
            image_size: height and width of the frame in pixels; boxes end at its border.

        Returns:
            Detections with the scores they were seen with; None where the last detection is not of the last
            :data:`MAX_CARRY` seconds, and the detector has to look again.
        """
        elapsed = (stamp - self._seen) * 1e-9
        if not 0 <= elapsed <= MAX_CARRY:
            return None
        height, width = image_size
        carried = []
        for track in self._tracks:
            moved = _corners(track.detection.box) + elapsed * track.velocity
            x_min, y_min, x_max, y_max = map(float, np.clip(moved, 0, [width, height, width, height]))
            if x_max > x_min and y_max > y_min:
                carried.append(replace(track.detection, box=Box(x_min, y_min, x_max, y_max)))
        return tuple(carried)


class SparseDetection:
    """Decides which frames the detector sees, and what is said of the others."""

    def __init__(self) -> None:
        self._tracker = BoxTracker()
        self._carried = 0
        self._context: object = None

    def carry(
        self, every: int, stamp: int, image_size: tuple[int, int], context: object
    ) -> tuple[Detection, ...] | None:
        """Return the carried objects, or None where it is the detector's turn.

        Args:
            every: the detector sees every n-th frame.
            stamp: of the frame, in nanoseconds.
            image_size: height and width of the frame.
            context: what the detector looks for; it looks at once when that changes.
        """
        if self._carried + 1 >= every or context != self._context:
            return None
        carried = self._tracker.carry(stamp, image_size)
        if carried is not None:
            self._carried += 1
        return carried

    def found(self, detections: tuple[Detection, ...], stamp: int, context: object) -> None:
        """Take what the detector found."""
        if context != self._context:
            self._tracker = BoxTracker()
        self._tracker.update(detections, stamp)
        self._carried, self._context = 0, context


def overlap(first: _Floats, second: _Floats) -> float:
    """Return the intersection over union of two boxes ``x_min, y_min, x_max, y_max``."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    common = float(np.prod(np.maximum(high - low, 0)))
    total = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - common
    return common / total if total > 0 else 0.0


def _corners(box: Box) -> _Floats:
    return np.array([box.x_min, box.y_min, box.x_max, box.y_max], np.float64)
