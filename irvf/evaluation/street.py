"""A drawn street with people and cars, seen by both cameras: what a load test shows a detector.

It is simple, and yet the shipped detector finds people in it; figures of quality are never taken from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _HORIZON = 640, 480, 200
_TEXTURE_SEED = 7
Canvas = NDArray[np.float32]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class _Brush:
    """Draws the same shape on both canvases: colours on RGB, counts of 10 mK on thermal."""

    rgb: Canvas
    thermal: Canvas

    def polygon(self, points: Sequence[tuple[float, float]], color: Color, counts: float) -> None:
        outline = np.array(points).round().astype(np.int32)
        cv2.fillPoly(self.rgb, [outline], color, cv2.LINE_AA)
        cv2.fillPoly(self.thermal, [outline], (counts,), cv2.LINE_AA)

    def box(self, sides: tuple[float, float, float, float], color: Color, counts: float) -> None:
        left, top, right, bottom = sides
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], color, counts)

    def ellipse(self, center: tuple[float, float], axes: tuple[float, float], color: Color, counts: float) -> None:
        middle, radii = (round(center[0]), round(center[1])), (max(1, round(axes[0])), max(1, round(axes[1])))
        cv2.ellipse(self.rgb, middle, radii, 0, 0, 360, color, -1, cv2.LINE_AA)
        cv2.ellipse(self.thermal, middle, radii, 0, 0, 360, (counts,), -1, cv2.LINE_AA)

    def limb(
        self, start: tuple[float, float], end: tuple[float, float], width: float, color: Color, counts: float
    ) -> None:
        ends = [(round(x), round(y)) for x, y in (start, end)]
        cv2.line(self.rgb, ends[0], ends[1], color, max(2, round(width)), cv2.LINE_AA)
        cv2.line(self.thermal, ends[0], ends[1], (counts,), max(2, round(width)), cv2.LINE_AA)


def street_frames(
    thermal_size: tuple[int, int], rgb_size: tuple[int, int], count: int
) -> list[tuple[NDArray[np.uint16], NDArray[np.uint8]]]:
    """Draw consecutive moments of a street in which people walk and cars drive.

    Args:
        thermal_size: width and height of the thermal images in pixels.
        rgb_size: width and height of the RGB images in pixels.
        count: of moments, at least 1.

    Returns:
        Thermal counts ``[H x W]`` of 10 mK and RGB ``[H x W x 3]`` of each moment; both show the same field of view.
    """
    background = _background()
    frames = []
    for moment in range(count):
        brush = _Brush(background.rgb.copy(), background.thermal.copy())
        step = 6.0 * moment
        _car(brush, 430 + step, 330, 90, (150, 60, 50))
        _car(brush, 150 - step, 290, 55, (60, 70, 120))
        people = ((330, 300, 80, (90, 90, 120)), (560, 360, 120, (110, 70, 60)), (260, 400, 170, (60, 90, 60)))
        for index, (x, feet, height, coat) in enumerate((*people, (60, 420, 190, (50, 60, 100)))):
            _person(brush, x + step / 3 * (-1) ** index, feet, height, coat)
        noise = np.random.default_rng(moment)
        thermal = brush.thermal + noise.normal(0, 8, brush.thermal.shape)
        rgb = brush.rgb + noise.normal(0, 3, brush.rgb.shape)
        frames.append(
            (
                cv2.resize(np.clip(thermal, 0, 65535), thermal_size).astype(np.uint16),
                cv2.resize(np.clip(rgb, 0, 255), rgb_size).astype(np.uint8),
            )
        )
    return frames


def _background() -> _Brush:
    """Return a cold sky, houses with windows, and a road."""
    random = np.random.default_rng(_TEXTURE_SEED)
    brush = _Brush(np.zeros((_HEIGHT, _WIDTH, 3), np.float32), np.zeros((_HEIGHT, _WIDTH), np.float32))
    brush.box((0, 0, _WIDTH, _HORIZON), (70, 80, 95), 29300)
    brush.box((0, _HORIZON, _WIDTH, _HEIGHT), (75, 75, 78), 29600)
    for left in range(0, _WIDTH, 90):
        red, green, blue = random.uniform(60, 120, 3)
        roof = random.uniform(40, 120)
        brush.box((left, roof, left + 85, _HORIZON + 30), (red, green, blue), random.uniform(29400, 29700))
        for top in np.arange(roof + 15, _HORIZON - 10, 35):
            for window in range(left + 10, left + 75, 25):
                brush.box((window, top, window + 12, top + 18), (40, 45, 60), 29350)
    rough = cv2.GaussianBlur(random.normal(0, 1, (_HEIGHT, _WIDTH)).astype(np.float32), (0, 0), 2)
    return _Brush(brush.rgb + 25 * rough[..., None], brush.thermal + 60 * rough)


def _person(brush: _Brush, x: float, feet: float, height: float, coat: Color) -> None:
    def at(across: float, up: float) -> tuple[float, float]:
        return x + across * height, feet - up * height

    for side in (-1, 1):
        brush.limb(at(0.06 * side, 0.45), at(0.10 * side, 0.0), 0.09 * height, (40, 40, 60), 30500)
        brush.limb(at(0.14 * side, 0.74), at(0.20 * side, 0.4), 0.06 * height, coat, 30600)
    brush.polygon([at(-0.13, 0.78), at(0.13, 0.78), at(0.17, 0.42), at(-0.17, 0.42)], coat, 30600)
    brush.ellipse(at(0, 0.72), (0.15 * height, 0.09 * height), coat, 30600)
    brush.ellipse(at(0, 0.9), (0.075 * height, 0.1 * height), (190, 150, 130), 31000)


def _car(brush: _Brush, x: float, ground: float, size: float, paint: Color) -> None:
    def at(across: float, up: float) -> tuple[float, float]:
        return x + across * size, ground - up * size

    brush.polygon([at(-1, 0.55), at(1, 0.55), at(1, 0.15), at(-1, 0.15)], paint, 29900)
    brush.polygon([at(-0.6, 0.55), at(-0.42, 0.9), at(0.4, 0.9), at(0.65, 0.55)], paint, 29900)
    for pane in (
        [at(-0.5, 0.56), at(-0.37, 0.83), at(0, 0.83), at(0, 0.56)],
        [at(0.05, 0.56), at(0.05, 0.83), at(0.35, 0.83), at(0.53, 0.56)],
    ):
        brush.polygon(pane, (30, 35, 45), 29500)
    for side in (-1, 1):
        brush.ellipse(at(0.6 * side, 0.16), (0.18 * size, 0.18 * size), (20, 20, 20), 30500)
        brush.ellipse(at(0.6 * side, 0.16), (0.09 * size, 0.09 * size), (90, 90, 90), 30200)
        brush.polygon(
            [at(0.93 * side + across, up) for across, up in ((-0.04, 0.5), (0.04, 0.5), (0.04, 0.38), (-0.04, 0.38))],
            (240, 240, 220),
            30300,
        )
