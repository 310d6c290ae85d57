"""Compares a calibration with the true geometry of the rig that was recorded.

``python -m simulated_rig.calibration_check calibration/fusion.yaml OUT.truth.json``
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from irvf.imaging.camera_geometry import CameraModel, as_nine, rotation_from_quaternion

from .calibration_board import Lens, project, undistorted
from .geometry import PinholeCamera

Array = NDArray[np.float64]

_GRID = 25


def errors(parameters: dict[str, Any], truth: dict[str, Any], distances_m: tuple[float, ...]) -> dict[str, Any]:
    """Measure a calibration.

    Args:
        parameters: of the node, ``registration.method`` and on.
        truth: of :func:`simulated_rig.calibration_target.write_target_bag`.
        distances_m: of planes parallel to the RGB image.

    Returns:
        ``rotation_deg``, ``translation_mm``, ``focal_percent`` (thermal, RGB), and ``mapping_px``: for each distance
        the median and the largest distance in the RGB image between where a thermal pixel is put and where it belongs.
    """
    rotation = np.array(truth["rotation"])
    found: dict[str, Any] = {}
    if parameters["registration.method"] == "camera_info":
        turn = np.array(rotation_from_quaternion(*parameters["registration.rotation"])).reshape(3, 3)
        angle = np.arccos(np.clip((np.trace(turn @ rotation.T) - 1) / 2, -1, 1))
        found["rotation_deg"] = float(np.degrees(angle))
        shift = np.array(parameters["registration.translation"]) - truth["translation"]
        found["translation_mm"] = float(1000 * np.linalg.norm(shift))
        focal = [
            parameters[f"registration.{name}.matrix"][0] / truth[name]["matrix"][0] - 1 for name in ("thermal", "rgb")
        ]
        found["focal_percent"] = [100 * value for value in focal]
    found["mapping_px"] = {}
    for distance in distances_m:
        misses = _mapping(parameters, truth, distance)
        found["mapping_px"][distance] = (float(np.median(misses)), float(misses.max()))
    return found


def _mapping(parameters: dict[str, Any], truth: dict[str, Any], distance: float) -> Array:
    """Distances in the RGB image over a grid of thermal pixels, those whose place is in the RGB image."""
    width, height = truth["thermal"]["size"]
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, _GRID), np.linspace(0, height - 1, _GRID)), -1).reshape(-1, 2)
    matrix = np.array(truth["thermal"]["matrix"]).reshape(3, 3)
    lens = {
        name: Lens(truth[name]["distortion_model"], tuple(truth[name]["distortion"])) for name in ("thermal", "rgb")
    }
    rays = np.column_stack((undistorted(grid, matrix, lens["thermal"]), np.ones(len(grid))))
    points = _on_plane(rays, np.array(truth["rotation"]), np.array(truth["translation"]), distance)
    size, rgb_matrix = truth["rgb"]["size"], np.array(truth["rgb"]["matrix"]).reshape(3, 3)
    camera = PinholeCamera(size[0], size[1], rgb_matrix, np.eye(3), np.zeros(3))
    expected = project(points, camera, lens["rgb"])
    if parameters["registration.method"] == "homography":
        mapped = (
            np.column_stack((grid, np.ones(len(grid))))
            @ np.array(parameters["registration.homography"]).reshape(3, 3).T
        )
        put = mapped[:, :2] / mapped[:, 2:]
    else:
        thermal, rgb = (_camera(parameters, name) for name in ("thermal", "rgb"))
        turn = np.array(rotation_from_quaternion(*parameters["registration.rotation"])).reshape(3, 3)
        shift = np.array(parameters["registration.translation"])
        put = rgb.project(_on_plane(thermal.rays(grid)[0], turn, shift, distance))[0]
    inside = (expected >= 0).all(1) & (expected <= np.array(size) - 1).all(1)
    return np.asarray(np.linalg.norm(put - expected, axis=1)[inside])


def _on_plane(rays: Array, rotation: Array, translation: Array, distance: float) -> Array:
    turned = rays @ rotation.T
    return np.asarray(translation + turned * ((distance - translation[2]) / turned[:, 2])[:, None])


def _camera(parameters: dict[str, Any], name: str) -> CameraModel:
    width, height = parameters[f"registration.{name}.size"]
    matrix = as_nine(parameters[f"registration.{name}.matrix"])
    model = parameters[f"registration.{name}.distortion_model"]
    return CameraModel(height, width, matrix, model, tuple(parameters[f"registration.{name}.distortion"]))


def main(arguments: list[str] | None = None) -> int:
    """Print the errors of a calibration; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulated_rig.calibration_check", description=__doc__)
    parser.add_argument("parameters", type=Path, help="fusion.yaml of irvf calibrate")
    parser.add_argument("truth", type=Path, help="OUT.truth.json of simulated_rig.calibration_target")
    parser.add_argument("--distances", type=float, nargs="+", default=[0.7, 1.0, 1.5, 5.0], help="metres")
    chosen = parser.parse_args(arguments)
    parameters = yaml.safe_load(chosen.parameters.read_text("utf-8"))["/**"]["ros__parameters"]
    truth = json.loads(chosen.truth.read_text("utf-8"))
    found = errors(parameters, truth, tuple(chosen.distances))
    if "rotation_deg" in found:
        focal = found["focal_percent"]
        sys.stdout.write(
            f"rotation {found['rotation_deg']:.3f} deg, translation {found['translation_mm']:.2f} mm, "
            f"focal length thermal {focal[0]:+.2f} %, RGB {focal[1]:+.2f} %\n"
        )
    for distance, (median, largest) in found["mapping_px"].items():
        sys.stdout.write(f"thermal on RGB at {distance:g} m: median {median:.3f} px, largest {largest:.3f} px\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
