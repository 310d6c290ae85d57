"""Draws a calibration, so that a wrong one is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.calibration.adjustment import RGB, THERMAL
from irvf.calibration.solve import Calibration
from irvf.calibration.stereo import ViewResult
from irvf.calibration.views import choose_views
from irvf.frames import Image8

Array = NDArray[np.float64]

_ROWS = 5
_CELL = 480
_GAP = 8
_TITLE = 24
_BACKGROUND = (24, 24, 24)
_TEXT = (235, 235, 235)
_FOUND = (90, 230, 90)
_CARRIED = (255, 80, 200)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MAGNIFIED = 20.0
_FAR = 100.0


def draw_calibration(calibration: Calibration) -> Image8:
    """Draw views with the points of both cameras, thermal laid over RGB, coverage and residuals.

    Args:
        calibration: what was found.

    Returns:
        ``[H x W x 3]`` uint8 RGB.
    """
    used = calibration.used
    shown = choose_views([result.view for result in used], calibration.sizes[RGB], most=_ROWS)
    results = [next(result for result in used if result.view is view) for view in shown]
    rows = [_view_row(calibration, result) for result in results]
    everything = [*rows, _summary_row(calibration, used)]
    width = max(row.shape[1] for row in everything)
    padded = [_padded(row, width) for row in everything]
    return np.asarray(np.vstack([_legend(calibration, width), *padded]), np.uint8)


def _legend(calibration: Calibration, width: int) -> Image8:
    bar = np.full((2 * _TITLE + _GAP, width, 3), _BACKGROUND, np.uint8)
    used = len(calibration.used)
    lines = (
        f"irvf calibrate: {calibration.method}, {used} views used, {len(calibration.views) - used} rejected",
        "green: points found in RGB; magenta: points found in thermal, carried to RGB. They must lie on each other.",
    )
    for number, line in enumerate(lines):
        _write(bar, line, (_GAP, (number + 1) * _TITLE - 4))
    return bar


def _view_row(calibration: Calibration, result: ViewResult) -> Image8:
    thermal, rgb = _pictures(result)
    found = result.carried + result.transfer
    warped, seen = _warped(calibration, result, thermal)
    blend = rgb.astype(np.float32)
    colours = cv2.cvtColor(cv2.applyColorMap(warped, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    blend = np.where(seen[..., None], 0.45 * blend + 0.55 * colours, blend).astype(np.uint8)
    scale = _CELL / rgb.shape[1]
    marked = _marked(_fitted(rgb), *((points + 0.5) * scale - 0.5 for points in (found, result.carried)))
    cells = (
        ("RGB", marked),
        ("thermal", _thermal_cell(result, thermal)),
        ("thermal on RGB, over the board's plane", _fitted(blend)),
        ("where it misses most, x 10", _detail(rgb, found, result.carried)),
    )
    return _row(cells)


def _pictures(result: ViewResult) -> tuple[Image8, Image8]:
    thermal, rgb = (np.frombuffer(file, np.uint8) for file in result.view.pictures)
    bgr: Any = cv2.imdecode(rgb, cv2.IMREAD_COLOR)
    colour = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return cast("Image8", cv2.imdecode(thermal, cv2.IMREAD_GRAYSCALE)), cast("Image8", colour)


def _warped(calibration: Calibration, result: ViewResult, thermal: Image8) -> tuple[Image8, NDArray[np.bool_]]:
    """Thermal on the pixels of RGB, over the plane in which the board lies."""
    height, width = calibration.sizes[RGB]
    if calibration.rotation is None or calibration.translation is None:
        warped = cv2.warpPerspective(thermal, calibration.homography, (width, height))
        inside = cv2.warpPerspective(np.full_like(thermal, 255), calibration.homography, (width, height))
        return cast("Image8", warped), inside > 127
    thermal_camera, rgb_camera = calibration.cameras
    assert thermal_camera is not None  # noqa: S101  (with a rotation both are known)
    assert rgb_camera is not None  # noqa: S101
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    rays, seen = rgb_camera.rays(np.column_stack((x.ravel(), y.ravel())))
    with np.errstate(divide="ignore"):
        depth = result.plane[3] / (rays @ result.plane[:3])
    depth = np.where((depth > 0) & (depth < _FAR), depth, _FAR)
    points = (rays * depth[:, None] - calibration.translation) @ calibration.rotation
    pixels, valid = thermal_camera.project(points)
    where = np.where((valid & seen)[:, None], pixels, -9).astype(np.float32).reshape(height, width, 2)
    warped = cv2.remap(thermal, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
    covered = (where > -0.5).all(2) & (where < np.array(thermal.shape[::-1]) - 0.5).all(2)
    return cast("Image8", warped), np.asarray(covered)


def _marked(picture: Image8, found: Array, carried: Array, radius: int = 4, thickness: int = 1) -> Image8:
    canvas = np.array(picture, np.uint8)
    for x, y in found:
        cv2.circle(canvas, (round(x * 16), round(y * 16)), radius * 16, _FOUND, thickness, cv2.LINE_AA, 4)
    for x, y in carried:
        for across, down in ((radius, 0), (0, radius)):
            ends = [(round((x + sign * across) * 16), round((y + sign * down) * 16)) for sign in (-1, 1)]
            cv2.line(canvas, ends[0], ends[1], _CARRIED, thickness, cv2.LINE_AA, 4)
    return canvas


def _thermal_cell(result: ViewResult, thermal: Image8) -> Image8:
    picture = _fitted(cv2.cvtColor(thermal, cv2.COLOR_GRAY2RGB))
    scale = picture.shape[1] / thermal.shape[1]
    points = (result.view.thermal.points + 0.5) * scale - 0.5
    return _marked(picture, points[:0], points)


def _detail(rgb: Image8, found: Array, carried: Array) -> Image8:
    """Enlarge the part of the board where the points are farthest apart."""
    height = _cell_height(rgb)
    worst = found[int(np.argmax(np.linalg.norm(found - carried, axis=1)))]
    zoom = 10
    half = (_CELL / zoom / 2, height / zoom / 2)
    matrix = np.array([[zoom, 0, -zoom * (worst[0] - half[0])], [0, zoom, -zoom * (worst[1] - half[1])]])
    enlarged = cast("Image8", cv2.warpAffine(rgb, matrix, (_CELL, height), flags=cv2.INTER_CUBIC))
    first, second = (points @ matrix[:, :2].T + matrix[:, 2] for points in (found, carried))
    return _marked(enlarged, first, second, 14, 2)


def _summary_row(calibration: Calibration, used: Sequence[ViewResult]) -> Image8:
    cells: list[tuple[str, Image8]] = []
    for camera, name in ((RGB, "RGB"), (THERMAL, "thermal")):
        share = calibration.coverage[camera]
        cells.append((f"points in {name}: {share:.0%} of the image seen", _coverage_cell(calibration, used, camera)))
    cells.append((f"thermal on RGB: misses x {_MAGNIFIED:.0f}", _arrows_cell(calibration, used)))
    cells.append(("thermal on RGB: misses, px", _scatter_cell(used)))
    return _row(cells)


def _points(result: ViewResult, camera: int) -> Array:
    return result.view.rgb.points if camera == RGB else result.view.thermal.points


def _coverage_cell(calibration: Calibration, used: Sequence[ViewResult], camera: int) -> Image8:
    height, width = calibration.sizes[camera]
    scale = _CELL / width
    canvas = np.full((round(height * scale), _CELL, 3), 60, np.uint8)
    for number, result in enumerate(used):
        hue = np.array([[[number * 180 // max(len(used), 1), 170, 250]]], np.uint8)
        colour = tuple(int(value) for value in cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0])
        for x, y in _points(result, camera):
            cv2.circle(canvas, (round(x * scale), round(y * scale)), 2, colour, cv2.FILLED, cv2.LINE_AA)
    return canvas


def _arrows_cell(calibration: Calibration, used: Sequence[ViewResult]) -> Image8:
    height, width = calibration.sizes[RGB]
    scale = _CELL / width
    canvas = np.full((round(height * scale), _CELL, 3), 60, np.uint8)
    for result in used:
        for point, miss in zip(result.carried, result.transfer, strict=True):
            start, end = point * scale, (point + _MAGNIFIED * miss) * scale
            cv2.line(canvas, _place(start), _place(end), _CARRIED, 1, cv2.LINE_AA)
            cv2.circle(canvas, _place(start), 1, _TEXT, cv2.FILLED)
    return canvas


def _scatter_cell(used: Sequence[ViewResult]) -> Image8:
    height = round(_CELL * 0.75)
    canvas = np.full((height, _CELL, 3), 60, np.uint8)
    misses = np.concatenate([result.transfer for result in used]) if used else np.zeros((1, 2))
    limit = max(0.25, float(np.quantile(np.abs(misses), 0.995)))
    step = next(value for value in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 1000) if limit / value <= 3)
    middle, unit = np.array((_CELL, height)) / 2, (height / 2 - 14) / (limit * 1.05)
    for ring in (1, 2, 3):
        if ring * step <= limit * 1.05:
            cv2.circle(canvas, _place(middle), round(ring * step * unit), (120, 120, 120), 1, cv2.LINE_AA)
            _write(canvas, f"{ring * step:g}", _place((middle[0] + 3, middle[1] - ring * step * unit - 3)), 0.4)
    for miss in misses:
        cv2.circle(canvas, _place(middle + np.clip(miss, -limit, limit) * unit), 1, _CARRIED, cv2.FILLED, cv2.LINE_AA)
    error = float(np.sqrt((misses**2).sum(1).mean()))
    _write(canvas, f"root mean square {error:.2f}", (8, height - 8), 0.45)
    return canvas


def _place(point: Array | tuple[float, float]) -> tuple[int, int]:
    x, y = np.clip(point, -30000, 30000)
    return round(float(x)), round(float(y))


def _cell_height(picture: NDArray[Any]) -> int:
    return max(1, round(_CELL * int(picture.shape[0]) / int(picture.shape[1])))


def _fitted(picture: NDArray[Any]) -> Image8:
    method = cv2.INTER_AREA if picture.shape[1] > _CELL else cv2.INTER_CUBIC
    return cast("Image8", cv2.resize(picture, (_CELL, _cell_height(picture)), interpolation=method))


def _row(cells: Sequence[tuple[str, Image8]]) -> Image8:
    height = max(cell.shape[0] for _, cell in cells) + _TITLE + _GAP
    row = np.full((height, len(cells) * (_CELL + _GAP) + _GAP, 3), _BACKGROUND, np.uint8)
    for number, (title, cell) in enumerate(cells):
        left = _GAP + number * (_CELL + _GAP)
        _write(row, title, (left, _TITLE - 7))
        row[_TITLE : _TITLE + cell.shape[0], left : left + cell.shape[1]] = cell
    return row


def _padded(picture: Image8, width: int) -> Image8:
    if picture.shape[1] == width:
        return picture
    canvas = np.full((picture.shape[0], width, 3), _BACKGROUND, np.uint8)
    canvas[:, : picture.shape[1]] = picture
    return canvas


def _write(canvas: Image8, text: str, corner: tuple[int, int], size: float = 0.5) -> None:
    cv2.putText(canvas, text, corner, _FONT, size, _TEXT, 1, cv2.LINE_AA)
