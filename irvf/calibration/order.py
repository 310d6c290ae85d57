"""Which end of the board is which: the same in both cameras, for boards that look the same when turned.

A chessboard turned by half has its colours swapped, and in a thermal image black may be warm or cold: the picture alone
does not say which corner is the first. All views together do. The two cameras stand still to each other, so the mapping
of one image onto the other in one view carries the corners of another view roughly to their places, and a board taken
the wrong way round lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.detection import Detection
from irvf.calibration.targets import Target
from irvf.calibration.views import SharedView

Array = NDArray[np.float64]

_REFERENCES = 12
_CLEAR = 1.5
"""Times by which another order must fit worse for the order to be certain."""


@dataclass(frozen=True)
class Ordered:
    """Views with their points in one order.

    Attributes:
        views: as given, the points of thermal detections reordered where needed.
        turned: how many were.
        certain: whether no other relative turn of the cameras explains the views nearly as well.
    """

    views: tuple[SharedView, ...]
    turned: int
    certain: bool


def settle_order(views: Sequence[SharedView], target: Target) -> Ordered:
    """Bring the points of both cameras into the same order.

    Args:
        views: that both cameras share.
        target: what was seen.
    """
    if len(target.symmetries) == 1:
        return Ordered(tuple(views), 0, certain=True)
    whole = [
        (number, view.thermal.points, view.rgb.points)
        for number, view in enumerate(views)
        if len(view.thermal.ids) == len(view.rgb.ids) == len(target.points)
    ]
    if not whole:
        return Ordered(tuple(views), 0, certain=True)
    scored: list[tuple[float, float, list[int]]] = []
    for index in np.linspace(0, len(whole) - 1, min(_REFERENCES, len(whole))).round().astype(int):
        _, thermal, rgb = whole[index]
        for order in target.symmetries:
            homography, _ = cv2.findHomography(thermal[order], rgb, 0)
            if homography is None or np.linalg.det(homography) <= 0:
                continue
            picks, errors = _fitting(whole, homography, target)
            scored.append((float(np.median(errors)), _roll(thermal[order], rgb), picks))
    if not scored:
        return Ordered(tuple(views), 0, certain=False)
    # Cameras beside each other are rarely turned by more than an eighth: of equal orders that is the likely one.
    best = min(scored, key=lambda score: score[0] * (1 if score[1] < 45 else _CLEAR))
    others = [score[0] for score in scored if abs(score[1] - best[1]) > 45]
    result = list(views)
    for (number, thermal, _), pick in zip(whole, best[2], strict=True):
        reordered = Detection(views[number].thermal.ids, thermal[target.symmetries[pick]])
        result[number] = replace(views[number], thermal=reordered)
    certain = min(others, default=np.inf) > _CLEAR * best[0]
    return Ordered(tuple(result), sum(pick != 0 for pick in best[2]), certain=bool(certain))


def _fitting(whole: list[tuple[int, Array, Array]], homography: Array, target: Target) -> tuple[list[int], list[float]]:
    """For each view the order that fits best, and by how much of the board's extent it is off."""
    picks, errors = [], []
    for _, thermal, rgb in whole:
        mapped = cv2.perspectiveTransform(np.ascontiguousarray(thermal).reshape(-1, 1, 2), homography)[:, 0]
        extent = max(float(np.linalg.norm(rgb.max(0) - rgb.min(0))), 1e-9)
        # A shift of the whole board is parallax; what tells the orders apart is how the points lie in it, and where.
        off = [float(np.median(np.linalg.norm(mapped[order] - rgb, axis=1))) / extent for order in target.symmetries]
        picks.append(int(np.argmin(off)))
        errors.append(min(off))
    return picks, errors


def _roll(thermal: Array, rgb: Array) -> float:
    """Angle in degrees by which the board is turned in one image against the other."""
    first, second = (points - points.mean(0) for points in (thermal, rgb))
    cross = float((first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum())
    return abs(float(np.degrees(np.arctan2(cross, (first * second).sum()))))
