"""Bundle adjustment of two cameras and a board: the geometry under which all points are where they were found.

Unknown are the pose of the board in each view, the pose of the cameras to each other, and those numbers of the lenses
that are not given. They are found together by Levenberg and Marquardt's method on the distances in the images, with
Huber's weights, so that a few badly found points have little say (Triggs et al., Bundle Adjustment, 1999). OpenCV's own
``stereoCalibrate`` does the same for two cameras of one model without weights; here a fisheye lens may stand beside
another one, views of one camera alone help its lens, and the covariance of everything is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.imaging.camera_geometry import CameraModel, as_nine

Array = NDArray[np.float64]

THERMAL, RGB = 0, 1
FISHEYE = ("equidistant", "fisheye")
_HUBER = 2.0
"""In standard deviations: residuals beyond count linearly."""
_LEAST_SIGMA = 0.02
"""Pixels; no detector is better, and weights must not grow without bound."""
_ITERATIONS = 60
_SETTLING = 5
_CONVERGED = 1e-7
_LARGEST_VARIANCE = 1e6


@dataclass(frozen=True, eq=False)
class Observation:
    """The board in one image.

    Attributes:
        view: which view, 0 to the number of views - 1.
        camera: :data:`THERMAL` or :data:`RGB`.
        board: points in the board's frame ``[N x 3]``, metres.
        pixels: where they were found ``[N x 2]``.
    """

    view: int
    camera: int
    board: Array
    pixels: Array


@dataclass(frozen=True, eq=False)
class Rig:
    """The geometry that is looked for.

    Attributes:
        cameras: thermal and RGB camera.
        turn: rotation vector of ``X_thermal = R X_rgb + t`` ``[3]``.
        shift: t ``[3]``, metres.
        poses: of the board in the RGB camera's optical frame, rotation vectors and translations ``[V x 6]``.
    """

    cameras: tuple[CameraModel, CameraModel]
    turn: Array
    shift: Array
    poses: Array


@dataclass(frozen=True, eq=False)
class Adjusted:
    """What the adjustment found.

    Attributes:
        rig: the geometry.
        residuals: found minus expected, ``[N x 2]`` pixels for each observation.
        lens_deviations: standard deviations of fx, fy, cx, cy and the distortion of each camera; 0 for what is given.
        pose_deviations: of ``turn`` (radians) and ``shift`` (metres) ``[6]``; 0 when there were not two cameras.
    """

    rig: Rig
    residuals: tuple[Array, ...]
    lens_deviations: tuple[Array, Array]
    pose_deviations: Array


def rms(residuals: Sequence[Array]) -> float:
    """Root mean square of the distances, pixels."""
    return float(np.sqrt(np.mean(np.concatenate(residuals) ** 2) * 2)) if residuals else float("nan")


def lens_numbers(camera: CameraModel) -> Array:
    """Return fx, fy, cx, cy and the distortion."""
    matrix = camera.matrix
    return np.array((matrix[0], matrix[4], matrix[2], matrix[5], *camera.distortion))


def with_lens(camera: CameraModel, numbers: Array) -> CameraModel:
    """Return a camera with other numbers; see :func:`lens_numbers`."""
    fx, fy, cx, cy, *distortion = (float(number) for number in numbers)
    return replace(camera, matrix=(fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0), distortion=tuple(distortion))


def project(camera: CameraModel, turn: Array, shift: Array, points: Array) -> tuple[Array, Array, Array]:
    """Project points, and say how the pixels follow from everything.

    Args:
        camera: with as many distortion numbers as its model takes.
        turn: rotation vector from the points' frame to the camera's.
        shift: translation, metres.
        points: ``[N x 3]``.

    Returns:
        Pixels ``[N x 2]``, and their derivatives by ``turn`` and ``shift`` ``[2N x 6]`` and by
        :func:`lens_numbers` ``[2N x 4 + D]``.
    """
    matrix, distortion = np.array(camera.matrix).reshape(3, 3), np.array(camera.distortion)
    pixels: Any
    if camera.distortion_model in FISHEYE:
        source = np.ascontiguousarray(points).reshape(-1, 1, 3)
        pixels, slopes = cv2.fisheye.projectPoints(source, turn, shift, matrix, distortion)
        return pixels.reshape(-1, 2), np.asarray(slopes[:, 8:14]), np.asarray(slopes[:, :8])
    pixels, slopes = cv2.projectPoints(points, turn, shift, matrix, distortion)
    return pixels.reshape(-1, 2), np.asarray(slopes[:, :6]), np.asarray(slopes[:, 6 : 10 + len(distortion)])


class Adjustment:
    """A set of observations and what is unknown about their rig.

    Args:
        observations: of any number of views.
        free: indices into :func:`lens_numbers` of the thermal and of the RGB camera that are looked for.
        link: whether the pose between the cameras is looked for; needs observations of both.
    """

    def __init__(
        self,
        observations: Sequence[Observation],
        free: tuple[Sequence[int], Sequence[int]] = ((), ()),
        *,
        link: bool = True,
    ) -> None:
        self._observations, self._free, self._link = list(observations), free, link
        self._views = 1 + max(observation.view for observation in self._observations)
        ends = np.cumsum([6 * self._views, 6 if link else 0, len(free[0]), len(free[1])]).tolist()
        self._poses, self._pair, *self._lenses = (slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))
        self._unknowns = ends[-1]

    def solve(self, rig: Rig) -> Adjusted:
        """Find the geometry.

        Args:
            rig: where to start; what is not looked for stays as it is.
        """
        damping, sigmas = 1e-3, self._sigmas(self._residuals(rig))
        cost, normal, gradient = self._linearised(rig, sigmas)
        for iteration in range(_ITERATIONS):
            damped = normal + np.diag(damping * np.diag(normal) + 1e-9)
            step = np.asarray(np.linalg.solve(damped, gradient), np.float64)
            moved = self._moved(rig, step)
            new_cost = self._cost(moved, sigmas)
            if np.isfinite(new_cost) and new_cost <= cost:
                gained = (cost - new_cost) / max(cost, 1e-12)
                rig, damping = moved, max(damping / 5, 1e-12)
                if iteration < _SETTLING:  # the spread of good points shows only when the geometry is about right
                    sigmas = self._sigmas(self._residuals(rig))
                    gained = 1.0
                cost, normal, gradient = self._linearised(rig, sigmas)
                if gained < _CONVERGED:
                    break
            else:
                damping *= 6
                if damping > 1e9:
                    break
        return self._finished(rig, normal)

    def _finished(self, rig: Rig, normal: Array) -> Adjusted:
        values, vectors = np.linalg.eigh(normal / np.outer(scale := np.sqrt(np.diag(normal) + 1e-12), scale))
        variances = (vectors**2 / np.maximum(values, 1e-12)).sum(1) / scale**2
        deviations = np.sqrt(np.minimum(variances, _LARGEST_VARIANCE))
        lenses = []
        for camera, (free, part) in enumerate(zip(self._free, self._lenses, strict=True)):
            spread = np.zeros(len(lens_numbers(rig.cameras[camera])))
            spread[list(free)] = deviations[part]
            lenses.append(spread)
        pair = deviations[self._pair] if self._link else np.zeros(6)
        return Adjusted(rig, tuple(self._residuals(rig)), (lenses[0], lenses[1]), pair)

    def _expected(self, rig: Rig, observation: Observation) -> tuple[Array, Array, Array, Array | None]:
        """Pixels, and their derivatives by the view's pose, by the lens, and by the pose between the cameras."""
        turn, shift = rig.poses[observation.view, :3], rig.poses[observation.view, 3:]
        camera = rig.cameras[observation.camera]
        if observation.camera == RGB or not self._link:
            pixels, by_pose, by_lens = project(camera, turn, shift, observation.board)
            return pixels, by_pose, by_lens, None
        both = cv2.composeRT(turn, shift, rig.turn, rig.shift)
        total_turn, total_shift = (np.asarray(part, np.float64).ravel() for part in both[:2])
        pixels, by_total, by_lens = project(camera, total_turn, total_shift, observation.board)
        # OpenCV returns the derivatives of the result (rows) by the first and the second pose (columns).
        turn_1, turn_1s, turn_2, turn_2s, shift_1, shift_1s, shift_2, shift_2s = both[2:]
        first = np.block([[turn_1, turn_1s], [shift_1, shift_1s]])
        second = np.block([[turn_2, turn_2s], [shift_2, shift_2s]])
        return pixels, by_total @ first, by_lens, by_total @ second

    def _residuals(self, rig: Rig) -> list[Array]:
        return [observation.pixels - self._expected(rig, observation)[0] for observation in self._observations]

    def _sigmas(self, residuals: list[Array]) -> Array:
        """Spread of good points in each camera: the median distance of a normal distribution in the plane is 1.18."""
        sigmas = np.ones(2)
        for camera in (THERMAL, RGB):
            own = [r for r, seen in zip(residuals, self._observations, strict=True) if seen.camera == camera]
            if own:
                sigmas[camera] = max(float(np.median(np.linalg.norm(np.concatenate(own), axis=1))) / 1.18, _LEAST_SIGMA)
        return sigmas

    def _cost(self, rig: Rig, sigmas: Array) -> float:
        total = 0.0
        for residual, observation in zip(self._residuals(rig), self._observations, strict=True):
            distance = np.linalg.norm(residual, axis=1) / sigmas[observation.camera]
            total += _huber(distance)
        return total

    def _linearised(self, rig: Rig, sigmas: Array) -> tuple[float, Array, Array]:
        normal, gradient, cost = np.zeros((self._unknowns, self._unknowns)), np.zeros(self._unknowns), 0.0
        for observation in self._observations:
            pixels, by_pose, by_lens, by_pair = self._expected(rig, observation)
            residual = observation.pixels - pixels
            sigma = sigmas[observation.camera]
            distance = np.linalg.norm(residual, axis=1) / sigma
            cost += _huber(distance)
            weights = np.repeat(np.minimum(1.0, _HUBER / np.maximum(distance, 1e-12)), 2) / sigma**2
            start = 6 * observation.view
            columns = [np.arange(start, start + 6)]
            slopes = [by_pose]
            if by_pair is not None:
                columns.append(np.arange(self._pair.start, self._pair.stop))
                slopes.append(by_pair)
            free, part = list(self._free[observation.camera]), self._lenses[observation.camera]
            columns.append(np.arange(part.start, part.stop))
            slopes.append(by_lens[:, free])
            where, slope = np.concatenate(columns), np.hstack(slopes)
            weighted = slope * weights[:, None]
            normal[np.ix_(where, where)] += slope.T @ weighted
            gradient[where] += weighted.T @ residual.ravel()
        return cost, normal, gradient

    def _moved(self, rig: Rig, step: Array) -> Rig:
        poses = rig.poses + step[self._poses].reshape(-1, 6)
        turn, shift = rig.turn, rig.shift
        if self._link:
            turn, shift = turn + step[self._pair][:3], shift + step[self._pair][3:]
        cameras = []
        for camera, free, part in zip(rig.cameras, self._free, self._lenses, strict=True):
            numbers = lens_numbers(camera)
            numbers[list(free)] += step[part]
            numbers[:2] = np.maximum(numbers[:2], 1.0)
            cameras.append(with_lens(camera, numbers))
        return Rig((cameras[0], cameras[1]), turn, shift, poses)


def _huber(distance: Array) -> float:
    return float(np.where(distance < _HUBER, distance**2, _HUBER * (2 * distance - _HUBER)).sum())


def board_pose(camera: CameraModel, board: Array, pixels: Array) -> Array | None:
    """Return the pose of a flat board in one image, rotation vector and translation ``[6]``; None if there is none."""
    rays, valid = camera.rays(pixels)
    if valid.sum() < 4:
        return None
    plane = np.ascontiguousarray(rays[valid, :2]).reshape(-1, 1, 2)
    found, turn, shift = cv2.solvePnP(
        np.ascontiguousarray(board[valid]).reshape(-1, 1, 3), plane, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE
    )
    if not found or not shift[2] > 0:
        return None
    return np.concatenate((turn.ravel(), shift.ravel()))


def uncalibrated(size: tuple[int, int], model: str, focal: float) -> CameraModel:
    """Return a camera without distortion, its axis through the middle of the image.

    Args:
        size: height and width.
        model: of the lens; decides how many distortion numbers there are.
        focal: pixels.
    """
    height, width = size
    matrix = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return CameraModel(height, width, as_nine(matrix), model, (0.0,) * (4 if model in FISHEYE else 5))
