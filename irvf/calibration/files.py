"""Writes a calibration: parameters for the node, ``camera_info`` files, and a report to judge it by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from irvf.calibration.adjustment import FISHEYE, RGB, THERMAL, rms
from irvf.calibration.lens import LensFit
from irvf.calibration.solve import Calibration
from irvf.calibration.stereo import ViewResult
from irvf.imaging.camera_geometry import CameraModel

Array = NDArray[np.float64]

NAMES = ("thermal", "rgb")


def quaternion(rotation: Array) -> tuple[float, float, float, float]:
    """Return x, y, z, w of a rotation ``[3 x 3]``, w not negative (Shepperd's method)."""
    trace = float(np.trace(rotation))
    squares = np.array((*(2 * np.diag(rotation) - trace), trace)) + 1  # four times x², y², z², w²
    largest = int(np.argmax(squares))
    x, y, z, w = 0, 1, 2, 3
    products = np.zeros((4, 4))
    for a, b, i, j in ((x, y, 0, 1), (x, z, 0, 2), (y, z, 1, 2)):
        products[a, b] = products[b, a] = rotation[i, j] + rotation[j, i]
    for a, i, j in ((x, 2, 1), (y, 0, 2), (z, 1, 0)):
        products[a, w] = products[w, a] = rotation[i, j] - rotation[j, i]
    np.fill_diagonal(products, squares)
    values = products[largest] / np.linalg.norm(products[largest])
    values = values if values[w] >= 0 else -values
    return float(values[x]), float(values[y]), float(values[z]), float(values[w])


def node_parameters(calibration: Calibration, distance: float | None = None) -> dict[str, Any]:
    """Return the node's parameters.

    Args:
        calibration: what was found.
        distance: of the scene, metres; None takes the median of the board's.
    """
    parameters: dict[str, Any] = {
        "registration.method": calibration.method,
        "registration.homography": _floats(calibration.homography),
    }
    distance = distance if distance is not None else calibration.distance
    if distance is not None:
        parameters["registration.distance"] = float(distance)
    if calibration.rotation is None or calibration.translation is None:
        return parameters
    parameters["registration.translation"] = _floats(calibration.translation)
    parameters["registration.rotation"] = list(quaternion(calibration.rotation))
    for name, camera in zip(NAMES, calibration.cameras, strict=True):
        assert camera is not None  # noqa: S101  (with a rotation both are known)
        start = f"registration.{name}"
        parameters[f"{start}.size"] = [camera.width, camera.height]
        parameters[f"{start}.matrix"] = _floats(camera.matrix)
        parameters[f"{start}.distortion_model"] = _ros_model(camera)
        parameters[f"{start}.distortion"] = _floats(camera.distortion)
    return parameters


def camera_info_file(camera: CameraModel, name: str) -> dict[str, Any]:
    """Return a camera's calibration as ``camera_info_manager`` and ``camera_calibration`` have it."""
    matrix = np.array(camera.matrix).reshape(3, 3)
    projection = np.column_stack((matrix, np.zeros(3)))
    distortion = camera.distortion or (0.0,) * 5
    return {
        "image_width": camera.width,
        "image_height": camera.height,
        "camera_name": name,
        "camera_matrix": {"rows": 3, "cols": 3, "data": _floats(matrix)},
        "distortion_model": _ros_model(camera),
        "distortion_coefficients": {"rows": 1, "cols": len(distortion), "data": _floats(distortion)},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": _floats(np.eye(3))},
        "projection_matrix": {"rows": 3, "cols": 4, "data": _floats(projection)},
    }


def write_files(calibration: Calibration, folder: Path, command: str, distance: float | None = None) -> list[Path]:
    """Write ``fusion.yaml``, ``report.md`` and, for known lenses, ``thermal.yaml`` and ``rgb.yaml``.

    Args:
        calibration: what was found.
        folder: made if it is not there.
        command: that made it, for the report.
        distance: as :func:`node_parameters` takes it.

    Returns:
        The files, the parameters first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"/**": {"ros__parameters": node_parameters(calibration, distance)}}
    written = [folder / "fusion.yaml", folder / "report.md"]
    head = "# Made by irvf calibrate; report.md beside it says how good it is.\n"
    written[0].write_text(head + _yaml(parameters), encoding="utf-8")
    written[1].write_text(report(calibration, command, distance), encoding="utf-8")
    for name, camera in zip(NAMES, calibration.cameras, strict=True):
        if camera is not None:
            written.append(folder / f"{name}.yaml")
            written[-1].write_text(_yaml(camera_info_file(camera, name)), encoding="utf-8")
    return written


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, default_flow_style=None, sort_keys=False, width=120)


def _floats(values: Any) -> list[float]:
    return [float(value) + 0.0 for value in np.ravel(values)]  # + 0.0: no negative zero


def _ros_model(camera: CameraModel) -> str:
    return "equidistant" if camera.distortion_model in FISHEYE else camera.distortion_model


def report(calibration: Calibration, command: str, distance: float | None = None) -> str:
    """Return the report as Markdown."""
    used, rejected = calibration.used, [result for result in calibration.views if result.rejected]
    lines = ["# Calibration of the thermal and the RGB camera", "", f"`{command}`", ""]
    method = {"camera_info": "both lenses and the pose between the cameras", "homography": "a homography"}
    lines += [
        f"Found: {method[calibration.method]}." + (f" Why no more: {calibration.reason}." if calibration.reason else "")
    ]
    lines += [
        f"Views: {len(used)} used, {len(rejected)} rejected, of {calibration.looked_at} pairs of frames looked at.",
        "",
    ]
    lines += [f"**Warning**: {warning}.\n" for warning in calibration.warnings]
    lines += _table(("", "thermal", "RGB"), _errors(calibration))
    lines += ["", "## Thermal on RGB", "", *_transfer(calibration, used, distance), ""]
    lines += _lenses(calibration) + _pose(calibration)
    lines += ["## Views", ""]
    lines += _table(
        ("stamp", "gap ms", "drift px", "distance m", "thermal px", "RGB px", "thermal on RGB px", ""),
        [_view(result) for result in calibration.views],
    )
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _errors(calibration: Calibration) -> list[tuple[str, str, str]]:
    rows = [("image seen by the board", *(f"{share:.0%}" for share in calibration.coverage))]
    if calibration.adjusted is not None:
        residuals = [calibration.adjusted.residuals[camera::2] for camera in (THERMAL, RGB)]
        longest = [max(float(np.linalg.norm(part, axis=1).max()) for part in own) for own in residuals]
        rows.append(("reprojection error, root mean square, px", *(f"{rms(own):.3f}" for own in residuals)))
        rows.append(("largest, px", *(f"{value:.2f}" for value in longest)))
    return [(row[0], row[1], row[2]) for row in rows]


def _transfer(calibration: Calibration, used: list[ViewResult], distance: float | None) -> list[str]:
    """Say by how much points of the thermal image miss those of the RGB image, and what depth does to it."""
    near_far = [result.distance for result in used if np.isfinite(result.distance)]
    lines = []
    if calibration.method == "camera_info" and calibration.translation is not None:
        misses = np.concatenate([np.linalg.norm(result.transfer, axis=1) for result in used])
        lines.append(
            f"Thermal points carried to RGB over the board's own plane miss by {np.sqrt(np.mean(misses**2)):.3f} px "
            f"(root mean square), {np.quantile(misses, 0.95):.2f} px (95 %), {misses.max():.2f} px (largest)."
        )
        camera = calibration.cameras[RGB]
        plane = distance or calibration.distance
        if camera is not None and plane:
            baseline = float(np.linalg.norm(calibration.translation[:2]))
            parallax = camera.matrix[0] * baseline
            lines.append(
                f"The node takes the scene to lie at {plane:.2f} m (`registration.distance`). What lies elsewhere is "
                f"displaced by parallax: {parallax:.0f} px x |1/z - 1/{plane:.2f}|, so {parallax / plane:.1f} px far "
                "away. Set the distance to that of what matters to you, or `.inf` for outdoors."
            )
    error, high = calibration.homography_error
    lines.append(f"One homography for all views misses by {error:.2f} px (root mean square), {high:.2f} px (95 %).")
    if near_far:
        lines.append(f"The board was at {min(near_far):.2f} to {max(near_far):.2f} m.")
    if calibration.method == "homography":
        place = "the plane in which the board was held"
        if near_far:
            place += f", on average {np.median(near_far):.2f} m away"
        lines.append(
            f"It holds for {place}; nearer and farther things are displaced by parallax, and lens distortion stays."
        )
    return lines


def _lenses(calibration: Calibration) -> list[str]:
    lines = []
    for camera, name, fit in zip(calibration.cameras, ("thermal", "RGB"), calibration.lenses, strict=True):
        if camera is None:
            continue
        lines += [f"## Lens of the {name} camera", "", _lens_story(camera, fit), ""]
        names = (
            "fx",
            "fy",
            "cx",
            "cy",
            *(("k1", "k2", "k3", "k4") if camera.distortion_model in FISHEYE else ("k1", "k2", "p1", "p2", "k3")),
        )
        values = (camera.matrix[0], camera.matrix[4], camera.matrix[2], camera.matrix[5], *camera.distortion)
        if fit is not None and calibration.adjusted is not None:
            number = THERMAL if name == "thermal" else RGB
            spread = calibration.adjusted.lens_deviations[number]
            rows = [
                (label, f"{value:.5g}", f"{deviation:.2g}" if deviation else "fixed")
                for label, value, deviation in zip(names, values, spread, strict=True)
            ]
            lines += [*_table(("", "value", "standard deviation"), rows), ""]
    return lines


def _lens_story(camera: CameraModel, fit: LensFit | None) -> str:
    view = math.degrees(2 * math.atan(camera.width / 2 / camera.matrix[0]))
    if fit is None:
        return f"Taken from camera_info: {camera.distortion_model}, fx {camera.matrix[0]:.2f} px. Not changed."
    angle = f", about {view:.0f} degrees wide" if camera.distortion_model not in FISHEYE else ""
    return (
        f"Found: {camera.distortion_model}{angle}. Distortion with {fit.terms}: more numbers did not explain the views "
        f"better, or the board was not seen far enough out for them ({fit.reach:.0%} of the way to the corners)."
    )


def _pose(calibration: Calibration) -> list[str]:
    if calibration.translation is None or calibration.rotation is None or calibration.adjusted is None:
        return []
    angle = np.degrees(np.arccos(np.clip((np.trace(calibration.rotation) - 1) / 2, -1, 1)))
    spread = calibration.adjusted.pose_deviations
    x, y, z = 1000 * calibration.translation
    shifts = ", ".join(f"{1000 * value:.3f}" for value in spread[3:])
    turns = ", ".join(f"{np.degrees(value):.3f}" for value in spread[:3])
    pose = (
        f"Translation {x:.1f}, {y:.1f}, {z:.1f} mm (x right, y down, z forward), standard deviations "
        f"{shifts} mm. Turned by {angle:.2f} degrees, standard deviations {turns} degrees about x, y, z."
    )
    note = (
        "The deviations are those of noise in the points alone. A bent board or a wrong printed length is not in them: "
        "the translation is as wrong as that length."
    )
    return ["## Pose of the thermal camera in the RGB camera's optical frame", "", pose, "", note, ""]


def _view(result: ViewResult) -> tuple[str, ...]:
    transfer = float(np.sqrt(np.mean(result.transfer**2) * 2)) if len(result.transfer) else float("nan")
    seconds = f"{result.view.stamp // 10**9}.{result.view.stamp % 10**9 // 10**6:03d}"
    numbers = (result.distance, *result.errors, transfer)
    shown = [f"{number:.2f}" if np.isfinite(number) else "" for number in numbers]
    return (seconds, f"{1000 * result.view.gap:.0f}", f"{result.view.drift:.2f}", *shown, result.rejected or "used")
