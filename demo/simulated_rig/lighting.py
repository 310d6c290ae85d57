"""Light and weather: the sun and its shadows by day, lamps and head-lights by night, the sky of both cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .street import Street

Array32 = NDArray[np.float32]

SUN_DIRECTION = np.array([-0.33, 0.42, 0.85]) / np.linalg.norm([-0.33, 0.42, 0.85])  # towards the sun: behind, left
SUN_SOFTNESS = 0.02  # radians: blur of the shadow edges, a little wider than the sun's half degree


@dataclass(frozen=True)
class Weather:
    """Light and heat of a time of day.

    Radiances are relative to what saturates the RGB camera at its exposure of that time; temperatures are in deg C.
    """

    sun: tuple[float, float, float]  # radiance of a white surface that faces the sun
    sky: tuple[float, float, float]  # ambient light from above
    bounce: tuple[float, float, float]  # ambient light from below
    zenith: tuple[float, float, float]  # colour of the sky overhead
    horizon: tuple[float, float, float]  # and at the horizon
    lamp: tuple[float, float, float]  # street lamp: radiance of a white surface 1 m below it
    headlight: tuple[float, float, float]  # likewise, on the axis of a car's pair of head-lights
    air: float  # air temperature
    sky_depression: float  # by how much the clear zenith appears colder than the air to a long-wave camera, K
    solar_heating: float  # by how much a black, dry, sun-lit surface is warmer than the air, K
    ground_heat: float  # by how much the road is warmer than the air without sun, K


DAY = Weather(
    sun=(1.05, 0.98, 0.86),
    sky=(0.26, 0.31, 0.38),
    bounce=(0.13, 0.12, 0.10),
    zenith=(0.22, 0.40, 0.75),
    horizon=(0.78, 0.84, 0.90),
    lamp=(0.0, 0.0, 0.0),
    headlight=(0.0, 0.0, 0.0),
    air=19.0,
    sky_depression=34.0,
    solar_heating=26.0,
    ground_heat=3.0,
)
NIGHT = Weather(
    sun=(0.0, 0.0, 0.0),
    sky=(0.0105, 0.0115, 0.016),
    bounce=(0.004, 0.004, 0.004),
    zenith=(0.0025, 0.003, 0.006),
    horizon=(0.022, 0.017, 0.014),
    lamp=(16.0, 11.0, 5.6),
    headlight=(75.0, 72.0, 62.0),
    air=9.0,
    sky_depression=20.0,
    solar_heating=0.0,
    ground_heat=3.5,
)


def sun_visibility(street: Street, points: Array32, car_boxes: NDArray[np.float64] | None = None) -> Array32:
    """Fraction of the sun that points see.

    Args:
        street: buildings and crowns throw shadows.
        points: ``[N x 3]``, metres.
        car_boxes: ``[M x 6]``, low and high corners of parked cars, which throw shadows too.

    Returns:
        ``[N]`` in 0..1; crowns let a part of the light through.
    """
    visible = np.ones(len(points), np.float32)
    sun = SUN_DIRECTION.astype(np.float32)
    points = points + sun * np.float32(0.03)  # off the surface itself
    boxes = [(*building.low, *building.high) for building in street.buildings]
    for box in [*boxes, *([] if car_boxes is None else car_boxes)]:
        # Slab method, an axis at a time: numpy reduces short rows slowly.
        near, far = np.float32(-np.inf), np.float32(np.inf)
        for axis in range(3):
            ends = [(np.float32(box[axis + end]) - points[:, axis]) / sun[axis] for end in (0, 3)]
            near, far = np.maximum(near, np.minimum(*ends)), np.minimum(far, np.maximum(*ends))
        depth_inside = far - np.maximum(near, 0)
        distance = np.maximum(near, 0) + 0.5
        visible *= 1 - np.clip(depth_inside / (distance * np.float32(SUN_SOFTNESS) * 4), 0, 1)
    for crown in street.crowns:
        middle, reach = crown[:, :3].mean(0), 3.2
        below = np.nonzero(_beside_sun(points, middle) < reach**2)[0]
        for leaf in crown if len(below) else ():
            square = _beside_sun(points[below], leaf[:3]) / np.float32(leaf[3] ** 2)
            visible[below] *= np.where(square < 1.3, np.float32(0.52) + np.float32(0.37) * square, 1).clip(0, 1)
    return visible


def _beside_sun(points: Array32, centre: NDArray[np.float64]) -> Array32:
    """Squared distances of points from the sun ray through a centre."""
    sun = SUN_DIRECTION.astype(np.float32)
    offset = points - centre.astype(np.float32)
    return np.asarray(np.einsum("pi,pi->p", offset, offset) - (offset @ sun) ** 2, dtype=np.float32)


def lamp_light(lamps: NDArray[np.float64], weather: Weather, points: Array32, normals: Array32) -> Array32:
    """Light of the street lamps on a white surface, ``[N x 3]``: inverse square, cosine, lamps shine downwards."""
    total = np.zeros(len(points), np.float32)
    for x, y, z, _ in lamps:
        towards = np.array([x, y, z - 0.15], np.float32) - points
        square = np.maximum((towards**2).sum(1), 0.3)
        distance = np.sqrt(square)
        facing = np.maximum((towards * normals).sum(1) / distance, 0.0)
        cone = np.clip(towards[:, 2] / distance, 0, 1) ** 1.5
        total += (0.15 + 0.85 * facing) * cone / square
    return total[:, None] * np.array(weather.lamp, np.float32)


def headlight_light(headlights: NDArray[np.float64], weather: Weather, points: Array32, normals: Array32) -> Array32:
    """Light of low-beam head-lights on a white surface.

    Args:
        headlights: ``[M x 6]``: position (metres) and unit direction of each pair.
        weather: gives the strength.
        points: ``[N x 3]``.
        normals: ``[N x 3]``.

    Returns:
        ``[N x 3]``. The beam is 20 degrees wide and cut off just above the horizontal.
    """
    total = np.zeros(len(points), np.float32)
    for lamp in headlights.astype(np.float32):
        away = points - lamp[:3]
        square = np.maximum((away**2).sum(1), 1.0)
        distance = np.sqrt(square)
        cosine = np.clip((away @ lamp[3:]) / distance, 1e-3, 1)
        sideways = np.exp(-((np.arccos(cosine) / np.float32(0.30)) ** 2))
        rise = away[:, 2] / distance
        cutoff = 1 / (1 + np.exp(np.clip((rise + 0.005) / 0.012, -30, 30)))
        facing = np.maximum(-(away * normals).sum(1) / distance, 0.0)
        total += sideways * (0.04 + 0.96 * cutoff) * (0.06 + 0.94 * facing) / square
    return total[:, None] * np.array(weather.headlight, np.float32)


def sky_temperature(weather: Weather, elevation: Array32) -> Array32:
    """Apparent long-wave temperature of the sky, deg C, at the sine of an elevation: air at the horizon, cold above."""
    return np.asarray(weather.air - weather.sky_depression * np.clip(elevation, 0, 1) ** 0.45, dtype=np.float32)
