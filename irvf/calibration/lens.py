"""The lens of one camera from its views of the board, with no more distortion numbers than the views can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irvf.calibration.adjustment import (
    FISHEYE,
    RGB,
    THERMAL,
    Adjusted,
    Adjustment,
    Observation,
    Rig,
    board_pose,
    project,
    rms,
    uncalibrated,
)
from irvf.imaging.camera_geometry import CameraModel

Array = NDArray[np.float64]

_STEPS = {
    False: (
        ("no distortion", ()),
        ("k1", (4,)),
        ("k1 k2", (4, 5)),
        ("k1 k2 p1 p2", (4, 5, 6, 7)),
        ("k1 k2 p1 p2 k3", (4, 5, 6, 7, 8)),
    ),
    True: (
        ("no distortion", ()),
        ("k1", (4,)),
        ("k1 k2", (4, 5)),
        ("k1 k2 k3", (4, 5, 6)),
        ("k1 k2 k3 k4", (4, 5, 6, 7)),
    ),
}
"""Distortion numbers that are looked for, more and more, as indices into ``lens_numbers``; True: of a fisheye."""
_REACH = {False: (0.0, 0.35, 0.5, 0.5, 0.75), True: (0.0, 0.35, 0.5, 0.75, 0.9)}
"""For each step: how far from the centre the board must have been seen, as a share of the half diagonal.

Higher powers of the radius say nothing in the middle of the image, and anything beyond where points were.
"""
_PLAIN = {False: 3, True: 1}
"""The step that is taken without asking where the views are good. A lens that is decentred by a little looks like one
whose axis meets the image elsewhere: the choice between them must not be left to noise."""
_GOOD_VIEWS = 10
_PRICE = 2.0
"""Of a number, by Akaike's criterion."""
_FOCALS = (0.35, 0.45, 0.6, 0.75, 0.95, 1.2, 1.6, 2.2, 3.2, 5.0)
"""Focal lengths that are tried first, in widths of the image."""


@dataclass(frozen=True, eq=False)
class LensFit:
    """The lens of one camera.

    Attributes:
        camera: as found.
        free: indices into ``lens_numbers`` of what was looked for.
        terms: the same in words.
        deviations: standard deviations of ``lens_numbers``.
        error: root mean square of the distances, pixels.
        reach: how far from the centre the board was seen, as a share of the half diagonal.
    """

    camera: CameraModel
    free: tuple[int, ...]
    terms: str
    deviations: Array
    error: float
    reach: float


def fit_lens(observations: Sequence[Observation], size: tuple[int, int], model: str) -> LensFit | None:
    """Find the lens of one camera.

    Args:
        observations: of this camera alone, one a view.
        size: height and width of the image.
        model: ``plumb_bob`` or ``equidistant``.

    Returns:
        The lens, or None when no focal length explains the views.
    """
    own = [replace(seen, view=number) for number, seen in enumerate(observations)]
    start = _first_guess(own, size, model)
    if start is None:
        return None
    camera, poses = start
    reach = _reach(own, size)
    focal, fisheye = (0, 1, 2, 3), model in FISHEYE
    best: tuple[float, LensFit] | None = None
    steps = [step for step, needed in zip(_STEPS[fisheye], _REACH[fisheye], strict=True) if reach >= needed]
    if len(own) >= _GOOD_VIEWS and len(steps) > _PLAIN[fisheye]:
        steps = steps[_PLAIN[fisheye] :]
    for terms, distortion in steps:
        free = (*focal, *distortion)
        adjusted = _solve(own, camera, poses, free)
        points = sum(len(seen.pixels) for seen in own)
        criterion = 2 * points * np.log(max(_robust_variance(adjusted), 1e-6)) + _PRICE * len(free)
        fitted = adjusted.rig.cameras[own[0].camera]
        fit = LensFit(fitted, free, terms, adjusted.lens_deviations[own[0].camera], rms(adjusted.residuals), reach)
        if best is None or criterion < best[0]:
            best = (criterion, fit)
            camera, poses = fitted, adjusted.rig.poses
    return best[1] if best else None


def _robust_variance(adjusted: Adjusted) -> float:
    """Mean square of the residuals without the worst twentieth."""
    squares = np.sort((np.concatenate(adjusted.residuals) ** 2).sum(1))
    return float(squares[: max(1, round(0.95 * len(squares)))].mean())


def _solve(own: list[Observation], camera: CameraModel, poses: Array, free: tuple[int, ...]) -> Adjusted:
    both = (free, ()) if own[0].camera == THERMAL else ((), free)
    rig = Rig((camera, camera), np.zeros(3), np.zeros(3), poses)
    return Adjustment(own, both, link=False).solve(rig)


def _first_guess(own: list[Observation], size: tuple[int, int], model: str) -> tuple[CameraModel, Array] | None:
    best: tuple[float, CameraModel, Array] | None = None
    for focal in _FOCALS:
        camera = uncalibrated(size, model, focal * size[1])
        poses = [board_pose(camera, seen.board, seen.pixels) for seen in own]
        if any(pose is None for pose in poses):
            continue
        known = np.array(poses)
        errors = [
            np.median(np.linalg.norm(project(camera, pose[:3], pose[3:], seen.board)[0] - seen.pixels, axis=1))
            for pose, seen in zip(known, own, strict=True)
        ]
        error = float(np.mean(errors))
        if best is None or error < best[0]:
            best = (error, camera, known)
    return best[1:] if best else None


def _reach(own: list[Observation], size: tuple[int, int]) -> float:
    centre = (np.array((size[1], size[0])) - 1) / 2
    distances = np.linalg.norm(np.concatenate([seen.pixels for seen in own]) - centre, axis=1)
    return float(np.quantile(distances, 0.99) / np.linalg.norm(centre))


__all__ = ["RGB", "THERMAL", "LensFit", "fit_lens"]
