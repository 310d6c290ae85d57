"""From the views of a board to the geometry of the rig, or to a homography where the views cannot tell more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.adjustment import RGB, THERMAL, Adjusted, Observation, rms
from irvf.calibration.lens import LensFit, fit_lens
from irvf.calibration.order import settle_order
from irvf.calibration.stereo import LEAST_VIEWS, ViewResult, adjust_rig, map_views
from irvf.calibration.targets import Target
from irvf.calibration.views import LEAST_COMMON, MOST_DRIFT, SharedView, View, choose_views, shared_views
from irvf.imaging.camera_geometry import CameraModel

Array = NDArray[np.float64]
Sizes = tuple[tuple[int, int], tuple[int, int]]

LEAST_VIEWS_HOMOGRAPHY = 3
LEAST_COVERAGE = 0.12
GOOD_COVERAGE = 0.5
MOST_ERROR = 1.5
GOOD_ERROR = 0.6
"""Pixels; beyond this the report warns."""
MOST_HOMOGRAPHY_ERROR = 8.0
_FOCAL_DOUBT = 0.02
"""Largest relative standard deviation of a focal length that is believed."""
_GRID = (6, 8)


class CalibrationError(ValueError):
    """The recording does not hold what a calibration needs; the message says what was found and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What is to be found.

    Attributes:
        cameras: given lenses, thermal and RGB; None to find them.
        models: of the lenses to find, ``plumb_bob`` or ``equidistant``.
        homography_only: do not look for the pose between the cameras.
    """

    cameras: tuple[CameraModel | None, CameraModel | None] = (None, None)
    models: tuple[str, str] = ("plumb_bob", "plumb_bob")
    homography_only: bool = False


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was found.

    Attributes:
        method: ``camera_info``, or ``homography`` where lenses or poses could not be told.
        reason: why it is a homography; else empty.
        sizes: height and width of thermal and RGB image.
        cameras: thermal and RGB camera; None where not known.
        views: all that were chosen, used and rejected.
        looked_at: pairs of frames that were searched.
        coverage: share of a grid over each image in which the board was seen.
        homography: thermal to RGB pixels ``[3 x 3]``, from the points of all views.
        homography_error: root mean square and 95th percentile of its misses, RGB pixels.
        distance: median of the board's, metres; None where not known.
        rotation: R ``[3 x 3]`` of ``X_rgb = R X_thermal + t``; None for a homography.
        translation: t ``[3]``, metres; likewise.
        lenses: how lenses were found; None for given ones.
        adjusted: deviations and residuals of the adjustment; None for a homography.
        warnings: what to know before it is used.
    """

    method: str
    reason: str
    sizes: Sizes
    cameras: tuple[CameraModel | None, CameraModel | None]
    views: tuple[ViewResult, ...]
    looked_at: int
    coverage: tuple[float, float]
    homography: Array
    homography_error: tuple[float, float]
    distance: float | None = None
    rotation: Array | None = None
    translation: Array | None = None
    lenses: tuple[LensFit | None, LensFit | None] = (None, None)
    adjusted: Adjusted | None = None
    warnings: tuple[str, ...] = ()

    @property
    def used(self) -> list[ViewResult]:
        """Views that decided."""
        return [result for result in self.views if not result.rejected]


def calibrate(views: Sequence[View], looked_at: int, target: Target, sizes: Sizes, wanted: Wanted) -> Calibration:
    """Calibrate a rig.

    Args:
        views: moments at which a camera saw the board.
        looked_at: pairs of frames that were searched.
        target: the board.
        sizes: height and width of thermal and RGB image.
        wanted: what is given and what is to be found.

    Raises:
        CalibrationError: too few views, too little of the image seen, or points that do not fit together.
    """
    chosen, warnings = _choose(views, looked_at, target, sizes, least_views(wanted))
    coverage = (_coverage(chosen, THERMAL, sizes), _coverage(chosen, RGB, sizes))
    warnings += _check_coverage(coverage)
    homography, error = _common_homography(chosen)
    lenses: list[LensFit | None] = [None, None]
    reason = "asked for (--homography)" if wanted.homography_only else ""
    for camera, name in ((THERMAL, "thermal"), (RGB, "RGB")):
        if wanted.cameras[camera] is None and not wanted.homography_only:
            own = _own_observations(views, chosen, camera, target, sizes)
            lenses[camera] = fit_lens(own, sizes[camera], wanted.models[camera])
            reason = reason or _doubt(lenses[camera], name)
    thermal, rgb = (given or (fit.camera if fit else None) for given, fit in zip(wanted.cameras, lenses, strict=True))
    found = Calibration("homography", reason, sizes, wanted.cameras, (), looked_at, coverage, homography, error)
    found = replace(found, warnings=tuple(warnings))
    if reason or thermal is None or rgb is None:
        if error[0] > MOST_HOMOGRAPHY_ERROR:
            raise CalibrationError(
                f"a homography misses by {error[0]:.1f} px (root mean square; {MOST_HOMOGRAPHY_ERROR:g} is the most): "
                f"the board was not held in one plane. No pose of the cameras either: {reason}"
            )
        results = map_views(chosen, homography, wanted.cameras[RGB], target)
        known = wanted.cameras[RGB] is not None
        return replace(found, views=results, distance=_median_distance(results) if known else None)
    free = [fit.free if fit else () for fit in lenses]
    adjusted, results = adjust_rig(chosen, target, (thermal, rgb), (free[THERMAL], free[RGB]))
    warnings += _check_errors(adjusted, results, wanted, target)
    rotation = np.asarray(cv2.Rodrigues(adjusted.rig.turn)[0], np.float64).T
    return replace(
        found,
        method="camera_info",
        cameras=adjusted.rig.cameras,
        views=results,
        distance=_median_distance([result for result in results if not result.rejected]),
        rotation=rotation,
        translation=-rotation @ adjusted.rig.shift,
        lenses=(lenses[THERMAL], lenses[RGB]),
        adjusted=adjusted,
        warnings=tuple(warnings),
    )


def least_views(wanted: Wanted) -> int:
    """Return how many views are needed."""
    return LEAST_VIEWS_HOMOGRAPHY if wanted.homography_only else LEAST_VIEWS


def _choose(
    views: Sequence[View], looked_at: int, target: Target, sizes: Sizes, least: int
) -> tuple[list[SharedView], list[str]]:
    """Choose views that both cameras share, still ones if there are enough, and settle which point is which."""
    warnings = []
    shared = shared_views(views)
    if not shared:
        counts = [sum(found is not None for found in part) for part in zip(*((v.thermal, v.rgb) for v in views))]  # noqa: B905
        thermal, rgb = counts or (0, 0)
        raise CalibrationError(
            f"the {target} was never seen by both cameras: in {looked_at} pairs of frames thermal saw it {thermal} "
            f"times and RGB {rgb} times. Check --target and --size (inner corners of a chessboard, not squares), its "
            "contrast in the thermal image (warm it, or use foil), and that it is large enough there"
        )
    still = [view for view in shared if view.drift <= MOST_DRIFT]
    chosen = choose_views(still, sizes[RGB])
    if len(chosen) < least:
        warnings.append(
            f"only {len(still)} of {len(shared)} views stand still; moving ones were used too. Hold the board still "
            "for a second in each place, or put it on a stand"
        )
        chosen = choose_views(shared, sizes[RGB])
    if len(chosen) < least:
        raise CalibrationError(
            f"{len(chosen)} different views of the {target} by both cameras (of {len(shared)}); {least} are the least "
            "and 20 to 40 are good. Move the board through the image: near and far, tilted to all sides"
        )
    ordered = settle_order(chosen, target)
    if not ordered.certain:
        warnings.append(
            f"the {target} looks the same when turned, and the views do not tell for certain how the cameras are "
            "turned: taken as less than 90 degrees. Look at the picture; move the board to the borders of the image"
        )
    return list(ordered.views), warnings


def _coverage(views: Sequence[SharedView], camera: int, sizes: Sizes) -> float:
    height, width = sizes[camera]
    seen = np.zeros(_GRID, bool)
    for view in views:
        hull = cv2.convexHull(view.common()[camera].astype(np.float32))
        mask = np.zeros((_GRID[0] * 8, _GRID[1] * 8), np.uint8)
        scaled = (np.asarray(hull) + 0.5) * (mask.shape[1] / width, mask.shape[0] / height)
        cv2.fillConvexPoly(mask, scaled.round().astype(np.int32), (1,))
        seen |= mask.reshape(_GRID[0], 8, _GRID[1], 8).mean((1, 3)) > 0.4
    return float(seen.mean())


def _check_coverage(coverage: tuple[float, float]) -> list[str]:
    seen = f"the board was seen in {coverage[THERMAL]:.0%} of the thermal image"
    if coverage[THERMAL] < LEAST_COVERAGE:
        raise CalibrationError(
            f"{seen}; {LEAST_COVERAGE:.0%} is the least and {GOOD_COVERAGE:.0%} or more is good. "
            "Carry it to the middle, the borders and the corners, near and far"
        )
    return [f"{seen}: elsewhere the mapping is a guess"] if coverage[THERMAL] < GOOD_COVERAGE else []


def _common_homography(views: Sequence[SharedView]) -> tuple[Array, tuple[float, float]]:
    thermal, rgb = (np.concatenate([view.common()[camera] for view in views]) for camera in (THERMAL, RGB))
    homography, _ = cv2.findHomography(thermal, rgb, cv2.RANSAC, 5.0, maxIters=5000, confidence=0.999)
    if homography is None or not np.isfinite(homography).all():
        raise CalibrationError("no homography maps the thermal points to the RGB points: was one camera moved?")
    mapped = cv2.perspectiveTransform(thermal.reshape(-1, 1, 2), homography)[:, 0]
    distance = np.linalg.norm(mapped - rgb, axis=1)
    error = (float(np.sqrt(np.mean(distance**2))), float(np.quantile(distance, 0.95)))
    return np.asarray(homography / homography[2, 2], np.float64), error


def _own_observations(
    views: Sequence[View], chosen: Sequence[SharedView], camera: int, target: Target, sizes: Sizes
) -> list[Observation]:
    """Return what a camera saw in the chosen views, and in those that only it saw."""
    alone = [
        view
        for view in views
        if view.drift <= MOST_DRIFT and (view.thermal is None if camera == RGB else view.rgb is None)
    ]
    observations: list[Observation] = []
    for view in (*chosen, *choose_views(alone, sizes[camera], most=20)):
        found = view.rgb if camera == RGB else view.thermal
        if found is not None and len(found.ids) >= LEAST_COMMON:
            observations.append(Observation(len(observations), camera, target.points[found.ids], found.points))
    return observations


def _doubt(fit: LensFit | None, name: str) -> str:
    """Say why a lens is not to be believed; empty if it is."""
    if fit is None:
        return f"no focal length of the {name} camera explains the views"
    doubt = float((fit.deviations[:2] / (fit.camera.matrix[0], fit.camera.matrix[4])).max())
    if doubt > _FOCAL_DOUBT:
        return (
            f"the focal length of the {name} camera is uncertain by {min(doubt, 1):.0%}: the board was always seen "
            "from the front, at one distance or in too few places. Tilt it by 30 degrees and more, to all sides"
        )
    if fit.error > 2 * MOST_ERROR:
        return f"the lens of the {name} camera misses its points by {fit.error:.1f} px: try the other model of it"
    return ""


def _median_distance(results: Sequence[ViewResult]) -> float | None:
    known = [result.distance for result in results if np.isfinite(result.distance)]
    return float(np.median(known)) if known else None


def _check_errors(adjusted: Adjusted, results: Sequence[ViewResult], wanted: Wanted, target: Target) -> list[str]:
    warnings = []
    for camera, name in ((THERMAL, "thermal"), (RGB, "RGB")):
        error = rms(adjusted.residuals[camera::2])
        hint = "try the other lens model (fisheye), a flatter board, or hold it stiller"
        if wanted.cameras[camera] is not None:
            hint = "its camera_info may be of another lens, focus or size: use --recalibrate"
        if error > MOST_ERROR:
            raise CalibrationError(
                f"the points of the {target} are missed by {error:.1f} px in the {name} image ({MOST_ERROR} is the "
                f"most): {hint}. A wrong --size does the same"
            )
        if error > GOOD_ERROR:
            warnings.append(f"the points are missed by {error:.2f} px in the {name} image: {hint}")
    out = sum(bool(result.rejected) for result in results)
    if out > len(results) / 2:
        raise CalibrationError(
            f"{out} of {len(results)} views do not fit the others: the board moved between the exposures, a camera "
            "moved, or the board was taken the wrong way round. Hold it still; use a board with an odd and an even side"
        )
    return warnings
