"""Which moments of a recording are used: the board seen, held still, and each time somewhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.detection import Detection, prepare
from irvf.calibration.finder import board_finder
from irvf.calibration.recording import Stream, grey, match, read_images
from irvf.calibration.targets import Target
from irvf.frames import Image8

Array = NDArray[np.float64]
AnyView = TypeVar("AnyView", bound="View")

MOST_DRIFT = 0.4
"""Pixels of the RGB image that a still board moves between the two exposures."""
MOST_VIEWS = 50
_HOPELESS = 10 * MOST_DRIFT
"""Pixels beyond which a moving board is not even looked for in the thermal image."""
LEAST_COMMON = 8
"""Points of the board that both cameras must see."""
_CLOCK_ERROR = 0.02
"""Seconds by which stamps of two cameras may be wrong: exposure, read-out and transport that no driver subtracts."""
_FOLLOWED = 0.5
"""Seconds to the neighbouring frame up to which the board's motion can be told from it."""
_APART = 0.04
"""Views nearer to each other than this share of the image say the same twice."""


@dataclass(frozen=True, eq=False)
class View:
    """One moment.

    Attributes:
        stamp: of the RGB frame, nanoseconds.
        gap: thermal minus RGB stamp, seconds.
        thermal: the board in the thermal image, None where it was not found.
        rgb: likewise in the RGB image.
        drift: by how many RGB pixels the board may have moved between the two exposures; 0 where nothing tells.
        pictures: thermal and RGB image for the report, as JPEG: a hundred views as arrays would fill the memory.
    """

    stamp: int
    gap: float
    thermal: Detection | None
    rgb: Detection | None
    drift: float
    pictures: tuple[bytes, bytes]


@dataclass(frozen=True, eq=False)
class SharedView(View):
    """A moment at which both cameras saw enough of the same points."""

    thermal: Detection
    rgb: Detection

    def common(self) -> tuple[Array, Array]:
        """Return the points that both cameras saw, in the thermal and in the RGB image, each ``[N x 2]``."""
        _, first, second = np.intersect1d(self.thermal.ids, self.rgb.ids, return_indices=True)
        return self.thermal.points[first], self.rgb.points[second]


def shared_views(views: Iterable[View]) -> list[SharedView]:
    """Return those views that both cameras share, as such."""
    return [
        SharedView(view.stamp, view.gap, view.thermal, view.rgb, view.drift, view.pictures)
        for view in views
        if view.thermal is not None
        and view.rgb is not None
        and len(np.intersect1d(view.thermal.ids, view.rgb.ids)) >= LEAST_COMMON
    ]


def find_views(
    path: Path,
    streams: tuple[Stream, Stream],
    target: Target,
    *,
    most: int = 120,
    max_gap: float = 0.1,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda pairs, _: pairs,
) -> tuple[list[View], int]:
    """Look for the board in a recording.

    Args:
        path: of the recording.
        streams: thermal and RGB.
        target: what to look for.
        most: pairs of frames that are looked at, evenly over the recording.
        max_gap: largest distance of the stamps of a pair, seconds.
        progress: wraps the sequence of pairs, given their number.

    Returns:
        The moments at which a camera saw the board, and the number of pairs that were looked at.
    """
    pairs = match(streams[0].stamps, streams[1].stamps, max_gap)
    if len(pairs) > most:
        pairs = [pairs[index] for index in np.linspace(0, len(pairs) - 1, most).round().astype(int)]
    order = np.argsort(streams[1].stamps, kind="stable")
    place = {int(index): number for number, index in enumerate(order)}
    finders = [board_finder(target, thermal=True), board_finder(target, thermal=False)]
    needed: dict[int, list[int]] = {}
    for _, rgb in pairs:
        around = [place[rgb] + step for step in (-1, 1)]
        needed[rgb] = [int(order[number]) for number in around if 0 <= number < len(order)]
    loader = _Images(path, streams, pairs, needed)
    views = []
    for thermal_image, rgb_image, neighbours, (thermal, rgb) in progress(loader, len(pairs)):
        stamp = int(streams[1].stamps[rgb])
        gap = (int(streams[0].stamps[thermal]) - stamp) / 1e9
        in_rgb = finders[1](grey(rgb_image))
        times = [(int(streams[1].stamps[other]) - stamp) / 1e9 for other in needed[rgb]]
        drift = _speed(grey(rgb_image), list(zip(neighbours, times, strict=True)), in_rgb) * (abs(gap) + _CLOCK_ERROR)
        if drift > _HOPELESS:
            continue
        in_thermal = finders[0](thermal_image)
        if in_thermal is not None or in_rgb is not None:
            bgr = cv2.cvtColor(np.asarray(rgb_image, np.uint8), cv2.COLOR_RGB2BGR)
            pictures = (_compressed(prepare(thermal_image)), _compressed(bgr))
            views.append(View(stamp, gap, in_thermal, in_rgb, drift, pictures))
    return views, len(pairs)


def _compressed(picture: NDArray[Any]) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class _Images:
    """Goes through the recording once and hands out each pair when all that belongs to it has been read."""

    def __init__(
        self,
        path: Path,
        streams: tuple[Stream, Stream],
        pairs: list[tuple[int, int]],
        needed: dict[int, list[int]],
    ) -> None:
        self._path, self._streams, self._pairs, self._needed = path, streams, pairs, needed

    def __iter__(self) -> Any:
        waiting = list(self._pairs)
        wanted = (
            {thermal for thermal, _ in waiting},
            {index for _, rgb in waiting for index in (rgb, *self._needed[rgb])},
        )
        held: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
        for number, index, image in read_images(self._path, self._streams, wanted):
            held[number][index] = image
            ready = [
                pair
                for pair in waiting
                if pair[0] in held[0] and all(index in held[1] for index in (pair[1], *self._needed[pair[1]]))
            ]
            for thermal, rgb in ready:
                waiting.remove((thermal, rgb))
                neighbours = [grey(held[1][other]) for other in self._needed[rgb]]
                yield held[0].pop(thermal), held[1][rgb], neighbours, (thermal, rgb)
            if ready:
                still = {index for _, rgb in waiting for index in (rgb, *self._needed[rgb])}
                for past in [index for index in held[1] if index not in still]:
                    del held[1][past]


def _speed(image: Image8, neighbours: list[tuple[Image8, float]], found: Detection | None) -> float:
    """Speed of the board in the RGB image, pixels a second, from the frames before and after; 0 where nothing tells."""
    if found is None:
        return 0.0
    start = found.points.astype(np.float32).reshape(-1, 1, 2)
    speeds = []
    for other, seconds in neighbours:
        if not 1e-4 < abs(seconds) < _FOLLOWED:
            continue
        moved, tracked, _ = cv2.calcOpticalFlowPyrLK(image, other, start, start.copy(), winSize=(21, 21), maxLevel=4)
        kept = tracked.ravel() > 0
        # A board that left the neighbouring frame, or moved too far to be followed, is not still.
        distance = np.median(np.linalg.norm((moved - start)[kept], axis=2)) if kept.mean() > 0.5 else 50.0
        speeds.append(float(distance) / abs(seconds))
    return max(speeds, default=0.0)


def choose_views(views: Sequence[AnyView], size: tuple[int, int], most: int = MOST_VIEWS) -> list[AnyView]:
    """Choose views that differ: each time the one farthest from all chosen, in place, size, tilt and turn.

    Args:
        views: of which both cameras saw the board, or all of which one camera did.
        size: height and width of the RGB image.
        most: views to choose.

    Returns:
        The chosen views in the order of their stamps.
    """
    if not views:
        return []
    features = np.array([_features(view, size) for view in views])
    drift = np.array([view.drift for view in views])
    chosen = [int(np.argmin(drift))]
    distance = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < most:
        score = distance / (1 + 0.5 * drift / MOST_DRIFT)
        farthest = int(np.argmax(score))
        if distance[farthest] < _APART:
            break
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(features - features[farthest], axis=1))
    return [views[index] for index in sorted(chosen, key=lambda index: views[index].stamp)]


def _features(view: View, size: tuple[int, int]) -> Array:
    """Place, size, slant and turn of the board in an image, each about 0 to 1."""
    found = view.rgb or view.thermal
    assert found is not None  # noqa: S101  (a view without a detection is none)
    points = found.points / max(size)
    centre = points.mean(0)
    first, last = points[: len(points) // 2].mean(0), points[len(points) // 2 :].mean(0)
    turn = 2 * np.arctan2(*(last - first)[::-1])  # twice: a board turned by half is the same
    covariance = np.cov(points.T)
    slant = covariance / max(float(np.trace(covariance)), 1e-12)
    return np.array(
        (*centre, np.sqrt(np.trace(covariance)), *(0.15 * np.array((np.cos(turn), np.sin(turn)))), *(0.5 * slant[0]))
    )
