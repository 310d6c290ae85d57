"""The pose between the cameras: adjusted over all views, without those that do not fit, and measured view by view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.adjustment import RGB, THERMAL, Adjusted, Adjustment, Observation, Rig, board_pose, project, rms
from irvf.calibration.targets import Target
from irvf.calibration.views import SharedView
from irvf.imaging.camera_geometry import CameraModel

Array = NDArray[np.float64]

LEAST_VIEWS = 6
_REJECTED = 2.5
"""Times the median error of a camera's views, beyond which a view is thrown out."""
_LEAST_REJECTED = 0.35
"""Pixels; a view below this is never thrown out."""
_ROUNDS = 6
_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class ViewResult:
    """One view after the adjustment.

    Attributes:
        view: as it was found.
        errors: root mean square of the distances in the thermal and the RGB image, pixels; nan where not used.
        transfer: found RGB points minus the thermal points carried there over the board's plane ``[N x 2]``, pixels.
        carried: the latter ``[N x 2]``.
        distance: of the board's middle from the RGB camera along its axis, metres; nan where not known.
        plane: of the board in the RGB camera's optical frame: its normal, and ``normal . X`` ``[4]``; nan likewise.
        rejected: why it was left out; empty if it was used.
    """

    view: SharedView
    errors: tuple[float, float]
    transfer: Array
    carried: Array
    distance: float
    plane: Array
    rejected: str = ""


def adjust_rig(
    views: Sequence[SharedView],
    target: Target,
    cameras: tuple[CameraModel, CameraModel],
    free: tuple[Sequence[int], Sequence[int]],
) -> tuple[Adjusted, tuple[ViewResult, ...]]:
    """Find the pose between the cameras.

    Args:
        views: of the board, its points in the same order in both cameras.
        target: the board.
        cameras: thermal and RGB.
        free: what of their lenses is improved, as indices into ``lens_numbers``.

    Returns:
        The geometry, and every view measured with it.

    Raises:
        ValueError: the lenses put the board nowhere.
    """
    kept = list(range(len(views)))
    rejected: dict[int, str] = {}
    for _ in range(_ROUNDS):
        own = [views[number] for number in kept]
        adjusted = Adjustment(_observations(own, target), free).solve(_start(own, target, cameras))
        errors = np.array([rms([residual]) for residual in adjusted.residuals]).reshape(-1, 2)
        limits = np.maximum(_REJECTED * np.median(errors, axis=0), _LEAST_REJECTED)
        bad = (errors > limits).any(1)
        if not bad.any() or len(kept) - bad.sum() < LEAST_VIEWS:
            break
        for number, error in zip(np.array(kept)[bad], errors[bad], strict=True):
            worst = "thermal" if error[0] / limits[0] > error[1] / limits[1] else "RGB"
            rejected[int(number)] = f"misses by {error.max():.2f} px in the {worst} image"
        kept = [number for number, out in zip(kept, bad, strict=True) if not out]
    place = {number: index for index, number in enumerate(kept)}
    results = [
        _measured(view, adjusted, place.get(number), target, rejected.get(number, ""))
        for number, view in enumerate(views)
    ]
    return adjusted, tuple(results)


def _observations(views: Sequence[SharedView], target: Target) -> list[Observation]:
    return [
        Observation(number, camera, target.points[found.ids], found.points)
        for number, view in enumerate(views)
        for camera, found in ((THERMAL, view.thermal), (RGB, view.rgb))
    ]


def _start(views: Sequence[SharedView], target: Target, cameras: tuple[CameraModel, CameraModel]) -> Rig:
    """Poses of the board by each camera alone, and of those between the cameras the one that suits all views best."""
    poses, links = [], []
    for view in views:
        in_thermal = board_pose(cameras[THERMAL], target.points[view.thermal.ids], view.thermal.points)
        in_rgb = board_pose(cameras[RGB], target.points[view.rgb.ids], view.rgb.points)
        if in_rgb is None or in_thermal is None:
            raise ValueError("the calibration of a camera does not fit the views of the board: use --recalibrate")
        poses.append(in_rgb)
        link = cv2.Rodrigues(in_thermal[:3])[0] @ cv2.Rodrigues(in_rgb[:3])[0].T
        links.append((np.ravel(cv2.Rodrigues(link)[0]), in_thermal[3:] - link @ in_rgb[3:]))

    def error(link: tuple[Array, Array]) -> float:
        misses = []
        for view, pose in zip(views, poses, strict=True):
            both = cv2.composeRT(pose[:3], pose[3:], link[0], link[1])
            turn, shift = (np.asarray(part, np.float64).ravel() for part in both[:2])
            expected, _, _ = project(cameras[THERMAL], turn, shift, target.points[view.thermal.ids])
            misses.append(np.median(np.linalg.norm(expected - view.thermal.points, axis=1)))
        return float(np.median(misses))

    turn, shift = min(links, key=error)
    return Rig(cameras, np.asarray(turn, np.float64), np.asarray(shift, np.float64), np.array(poses))


def _measured(view: SharedView, adjusted: Adjusted, place: int | None, target: Target, rejected: str) -> ViewResult:
    """Carry thermal points along their rays onto the plane in which the board lies by the RGB image."""
    rig = adjusted.rig
    errors, nothing = (_NAN, _NAN), np.empty((0, 2))
    if place is None:
        pose = board_pose(rig.cameras[RGB], target.points[view.rgb.ids], view.rgb.points)
    else:
        pose = rig.poses[place]
        errors = (rms([adjusted.residuals[2 * place]]), rms([adjusted.residuals[2 * place + 1]]))
    if pose is None:
        return ViewResult(view, errors, nothing, nothing, _NAN, np.full(4, np.nan), rejected)
    thermal, rgb = view.common()
    turn = np.asarray(cv2.Rodrigues(pose[:3])[0], np.float64)
    plane = np.concatenate((turn[:, 2], [turn[:, 2] @ pose[3:]]))
    rotation = np.asarray(cv2.Rodrigues(rig.turn)[0], np.float64).T
    rays = rig.cameras[THERMAL].rays(thermal)[0] @ rotation.T
    origin = -rotation @ rig.shift
    depth = (plane[3] - plane[:3] @ origin) / (rays @ plane[:3])
    carried = rig.cameras[RGB].project(origin + rays * depth[:, None])[0]
    middle = turn @ target.points.mean(0) + pose[3:]
    return ViewResult(view, errors, rgb - carried, carried, float(middle[2]), plane, rejected)


def map_views(
    views: Sequence[SharedView], homography: Array, rgb_camera: CameraModel | None, target: Target
) -> tuple[ViewResult, ...]:
    """Measure views under a homography from thermal to RGB pixels; their distance where the RGB lens is known."""
    results = []
    for view in views:
        thermal, rgb = view.common()
        carried = cv2.perspectiveTransform(thermal.reshape(-1, 1, 2), homography)[:, 0]
        distance = _NAN
        if rgb_camera is not None:
            pose = board_pose(rgb_camera, target.points[view.rgb.ids], view.rgb.points)
            if pose is not None:
                distance = float((cv2.Rodrigues(pose[:3])[0] @ target.points.mean(0) + pose[3:])[2])
        miss = np.asarray(rgb - carried)
        results.append(ViewResult(view, (_NAN, _NAN), miss, np.asarray(carried), distance, np.full(4, np.nan)))
    return tuple(results)
