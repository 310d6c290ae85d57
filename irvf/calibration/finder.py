"""Chooses how a target is looked for."""

from __future__ import annotations

from irvf.calibration.aprilgrid import aprilgrid_searches
from irvf.calibration.detection import BoardFinder
from irvf.calibration.grids import chessboard_searches, circle_searches
from irvf.calibration.targets import Target

_SEARCHES = {"chessboard": chessboard_searches, "circles": circle_searches, "aprilgrid": aprilgrid_searches}


def board_finder(target: Target, *, thermal: bool) -> BoardFinder:
    """Return what finds a target in the images of one camera.

    Args:
        target: what to look for.
        thermal: whether the camera is the thermal one.

    Raises:
        RuntimeError: the target needs a part of OpenCV that is not installed.
    """
    return BoardFinder(target, _SEARCHES[target.name](target, thermal=thermal))
