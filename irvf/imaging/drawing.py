"""Draws what was found on images, and sheets of images to compare."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Box, Detection, Image8

Color = tuple[int, int, int]

_COLORS: dict[str, Color] = {"person": (255, 80, 60), "bicycle": (60, 220, 90), "car": (70, 160, 255)}
_OTHER_COLORS: tuple[Color, ...] = ((255, 200, 40), (230, 90, 230), (60, 220, 220), (255, 140, 40), (170, 130, 255))
_BLACK: Color = (0, 0, 0)
_WHITE: Color = (255, 255, 255)

_TINT = 0.45
"""How much of a class's colour covers the image."""
_WARM: Color = (255, 150, 30)
_GLOW = 0.5
_DIMMED = 0.7
"""What is left of the image where nothing stands out."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL_HEIGHT = 22
"""Height of a capital letter of the font at scale 1, in pixels."""
_GAP = 6
_SHEET_GREY = 24
_TITLE_HEIGHT = 26


def color_of(label: str) -> Color:
    """Return the RGB colour that a class is drawn in, always the same."""
    other = _OTHER_COLORS[zlib.crc32(label.encode("utf-8", "replace")) % len(_OTHER_COLORS)]
    return _COLORS.get(label, other)


def draw_detections(rgb: Image8, detections: Sequence[Detection], caption: str | None = None) -> Image8:
    """Draw boxes with their labels and scores.

    Args:
        rgb: ``[H x W x 3]`` uint8; not changed.
        detections: in pixels of ``rgb``.
        caption: a line in the lower left corner, ASCII.

    Returns:
        A copy of ``rgb`` with the drawing on it.
    """
    canvas: Image8 = np.array(rgb, order="C")
    thickness = max(1, round(min(canvas.shape[:2]) / 320))
    letters = max(8, min(canvas.shape[:2]) // 48)
    for detection in reversed(detections):  # the best last, on top
        color = color_of(detection.label)
        corners = _corners(detection.box, canvas)
        # A dark line around the bright one keeps the box visible on any background.
        cv2.rectangle(canvas, *corners, _BLACK, thickness + 2)
        cv2.rectangle(canvas, *corners, color, thickness)
        left, top = corners[0]
        _write_on(canvas, f"{detection.label} {detection.score:.2f}", (left, top), color, letters)
    if caption:
        _write_on(canvas, caption, (0, canvas.shape[0]), _WHITE, letters)
    return canvas


def draw_segmentation(rgb: Image8, segmentation: Image8, labels: Sequence[str]) -> Image8:
    """Tint every class but the background, and write its name at the largest region of it.

    Args:
        rgb: ``[H x W x 3]`` uint8; not changed.
        segmentation: class of each pixel, ``[H x W]`` uint8, 0 the background.
        labels: names of the classes by their number, ASCII; numbers above them are left out.

    Returns:
        A copy of ``rgb`` with the drawing on it.
    """
    canvas: Image8 = np.array(rgb, order="C")
    letters = max(8, min(canvas.shape[:2]) // 48)
    thickness = max(1, round(min(canvas.shape[:2]) / 320))
    named: list[tuple[str, tuple[int, int]]] = []
    for number, label in enumerate(labels[1:], start=1):
        mask = (segmentation == number).astype(np.uint8)
        if not mask.any():
            continue
        tinted = cv2.addWeighted(rgb, 1 - _TINT, np.full_like(rgb, color_of(label)), _TINT, 0)
        cv2.copyTo(tinted, mask, canvas)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, color_of(label), thickness)
        left, top, _, _ = cv2.boundingRect(max(outlines, key=cv2.contourArea))
        named.append((label, (left, top)))
    for label, corner in named:  # on top of all regions
        _write_on(canvas, label, corner, color_of(label), letters)
    return canvas


def draw_saliency(rgb: Image8, saliency: Image8) -> Image8:
    """Let what stands out glow, and darken the rest.

    Args:
        rgb: ``[H x W x 3]`` uint8; not changed.
        saliency: ``[H x W]`` uint8, 255 for what certainly stands out.

    Returns:
        ``[H x W x 3]`` uint8.
    """
    share = saliency.astype(np.float32) / 255
    glowing = cv2.addWeighted(rgb, 1 - _GLOW, np.full_like(rgb, _WARM), _GLOW, 0)
    dimmed = cv2.convertScaleAbs(rgb, alpha=_DIMMED)
    return cast("Image8", cv2.blendLinear(glowing, dimmed, share, 1 - share))


def _corners(box: Box, canvas: Image8) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and last pixel of a box: its coordinates are edges of pixels, those of OpenCV their centres."""
    height, width = canvas.shape[:2]
    left, top = np.clip((round(box.x_min), round(box.y_min)), 0, (width - 1, height - 1))
    right, bottom = np.clip((round(box.x_max) - 1, round(box.y_max) - 1), (left, top), (width - 1, height - 1))
    return (int(left), int(top)), (int(right), int(bottom))


def _write_on(canvas: Image8, text: str, corner: tuple[int, int], background: Color, letters: int) -> None:
    """Write a line on a filled field that stands on ``corner`` (x, y), moved into the image where it would leave it."""
    scale = letters / _CAPITAL_HEIGHT
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    field = (width + 4, height + baseline + 2)
    left = max(0, min(corner[0], canvas.shape[1] - field[0]))
    top = max(0, min(corner[1] - field[1], canvas.shape[0] - field[1]))
    cv2.rectangle(canvas, (left, top), (left + field[0], top + field[1]), background, cv2.FILLED)
    cv2.putText(canvas, text, (left + 2, top + height + 2), _FONT, scale, _BLACK, 1, cv2.LINE_AA)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    column_titles: Sequence[str],
    row_titles: Sequence[str],
    cell_width: int = 400,
) -> Image8:
    """Lay images out in rows and columns with titles.

    Args:
        rows: images ``[H x W]`` or ``[H x W x 3]`` uint8, as many a row as there are columns. Each is scaled to
            ``cell_width`` with its aspect; a row is as high as its highest.
        column_titles: above the columns, ASCII.
        row_titles: above each row's first image, ASCII.
        cell_width: in pixels.

    Returns:
        ``[H x W x 3]`` uint8.

    Raises:
        ValueError: numbers of images and titles that don't fit.
    """
    if not rows or len(rows) != len(row_titles) or any(len(row) != len(column_titles) for row in rows):
        raise ValueError(
            f"rows of {[len(row) for row in rows]} images do not fit {len(column_titles)} column titles "
            f"and {len(row_titles)} row titles"
        )
    width = len(column_titles) * (cell_width + _GAP) + _GAP
    parts = [_titles(column_titles, width, cell_width + _GAP)]
    for row, title in zip(rows, row_titles, strict=True):
        cells = [_cell(image, cell_width) for image in row]
        strip = np.full((max(len(cell) for cell in cells) + _GAP, width, 3), _SHEET_GREY, np.uint8)
        for column, cell in enumerate(cells):
            left = _GAP + column * (cell_width + _GAP)
            strip[: len(cell), left : left + cell_width] = cell
        parts += [_titles([title], width, width), strip]
    return np.concatenate(parts)


def _cell(image: NDArray[Any], width: int) -> Image8:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    interpolation = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    scaled = cv2.resize(image, (width, height), interpolation=interpolation)
    return cast("Image8", scaled if scaled.ndim == 3 else cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB))


def _titles(titles: Sequence[str], width: int, step: int) -> Image8:
    bar = np.full((_TITLE_HEIGHT, width, 3), _SHEET_GREY, np.uint8)
    for column, title in enumerate(titles):
        cv2.putText(bar, title, (_GAP + column * step, _TITLE_HEIGHT - 8), _FONT, 0.5, _WHITE, 1, cv2.LINE_AA)
    return bar
