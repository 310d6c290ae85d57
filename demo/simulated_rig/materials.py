"""What fixed surfaces look like to both cameras: albedo, own light and temperature of every point of the street."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .facades import facade_appearance
from .lighting import Weather, sky_temperature
from .street import (
    CENTRE_LINE_Y,
    FAR_DEPTH,
    LANE_LEFT_Y,
    LANE_RIGHT_Y,
    LEFT_KERB_Y,
    RIGHT_KERB_Y,
    ZEBRA_X,
    Material,
    RayHits,
    Street,
)
from .textures import NoiseTextures, random_cells, stripe

Array32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Appearance:
    """Surface properties of a set of points.

    Attributes:
        albedo: ``[N x 3]`` linear RGB.
        emission: ``[N x 3]`` own or mirrored light, linear RGB.
        temperature: ``[N]`` apparent long-wave temperature in deg C.
    """

    albedo: Array32
    emission: Array32
    temperature: Array32


def street_appearance(
    hits: RayHits, street: Street, textures: NoiseTextures, weather: Weather, sun: Array32
) -> Appearance:
    """Give every ray of a camera what its surface looks like.

    Args:
        hits: what the rays meet.
        street: the fixed objects.
        textures: noise fields.
        weather: light and heat.
        sun: ``[H x W]``, sun-light that arrives: visibility times cosine, 0..1.

    Returns:
        Arrays ``[H x W (x 3)]``.
    """
    shape = hits.depth.shape
    albedo, emission = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float32)
    temperature = np.full(shape, weather.air, np.float32)
    for material in Material:
        here = hits.material == material
        if not here.any():
            continue
        depth, rays = hits.depth[here], hits.rays[here]
        points = hits.origin + rays * depth[:, None]
        lit = sun[here]
        if material is Material.SKY:
            found = _sky(rays, textures, weather)
        elif material is Material.FACADE:
            found = Appearance(
                *facade_appearance(
                    street,
                    hits.object[here],
                    points,
                    hits.normal[here],
                    depth,
                    textures=textures,
                    weather=weather,
                    sun=lit,
                )
            )
        else:
            found = _SURFACES[material](points, depth, textures, weather, lit)
        albedo[here], emission[here], temperature[here] = found.albedo, found.emission, found.temperature
    # Haze: the air between camera and surface carries its own radiation in both bands.
    haze = 1 - np.exp(-np.minimum(hits.depth, 200.0) / 900.0)
    haze[hits.depth >= FAR_DEPTH] = 0
    temperature += (weather.air - temperature) * haze
    emission += haze[..., None] * np.array(weather.horizon, np.float32)
    return Appearance(albedo, emission, temperature)


def _sky(rays: Array32, textures: NoiseTextures, weather: Weather) -> Appearance:
    elevation = np.clip(rays[:, 2] / np.sqrt((rays**2).sum(1)), 0, 1)
    overhead = rays[:, :2] / np.maximum(rays[:, 2:], np.float32(0.03))
    clouds = np.clip(textures.soft(overhead[:, 0], overhead[:, 1], 14.0) * 0.55 - 0.1, 0, 1) * np.clip(
        elevation * 6, 0, 1
    )
    blend = np.clip(elevation * 2.2, 0, 1)[:, None] ** 0.6
    zenith, horizon = np.array(weather.zenith, np.float32), np.array(weather.horizon, np.float32)
    colour = horizon + (zenith - horizon) * blend
    colour += (horizon * 1.1 - colour) * clouds[:, None]
    temperature = sky_temperature(weather, elevation) + clouds * np.float32(0.45 * weather.sky_depression)
    return Appearance(np.zeros_like(rays), colour, temperature)


def _grey(value: Array32, tint: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Array32:
    return np.asarray(np.clip(value, 0.01, 0.95)[:, None] * np.array(tint, np.float32), dtype=np.float32)


def _fade(depth: Array32, size_m: float) -> Array32:
    """Contrast of a texture whose detail is ``size_m`` wide: it vanishes where a pixel is wider than the detail."""
    return np.asarray(1 / (1 + (depth / np.float32(size_m * 500)) ** 2), dtype=np.float32)


def _road(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:
    x, y = points[:, 0], points[:, 1]
    stains = textures.soft(x * 0.35, y, 9.0)
    grain = textures.grain(x, y, 2.5) * _fade(depth, 0.02)
    lane = np.where(y < CENTRE_LINE_Y, y - (LANE_RIGHT_Y + CENTRE_LINE_Y) / 2, y - (CENTRE_LINE_Y + LANE_LEFT_Y) / 2)
    wheel_track = np.exp(-(((np.abs(lane) - 0.75) / 0.22) ** 2)) * (y > LANE_RIGHT_Y) * (y < LANE_LEFT_Y)
    patch = random_cells(np.floor(x / 5.5), np.floor((y + 2) / 3.2), 5) < 0.14
    seam = np.abs(textures.soft(x, y, 7.0)) < 0.035 * _fade(depth, 0.05)
    grey = 0.115 + 0.016 * stains + 0.03 * grain - 0.014 * wheel_track - 0.03 * patch - 0.05 * seam
    paint = _road_paint(x, y) * np.clip(0.88 + 0.16 * textures.grain(x, y, 4.0), 0, 1)
    albedo = _grey(grey + (0.62 - grey) * paint, (1.0, 0.985, 0.96))
    heat = np.float32(weather.ground_heat) + sun * np.float32(weather.solar_heating) * (0.72 - 0.3 * paint)
    shade = 0.35 * stains + 0.12 * grain + 1.1 * wheel_track * (0.4 + sun) + 0.7 * patch - 0.4 * seam
    edge = 0.8 * np.exp(-(np.minimum(y - RIGHT_KERB_Y, LEFT_KERB_Y - y) / 0.35))  # walls and kerbs keep it warm
    # Painted lines emit a little less (0.9 against 0.95), so they mirror more of the cold sky.
    temperature = weather.air + heat + shade + edge - paint * np.float32(0.05 * weather.sky_depression)
    return Appearance(albedo, np.zeros_like(albedo), temperature.astype(np.float32))


def _road_paint(x: Array32, y: Array32) -> Array32:
    zebra = (x > ZEBRA_X[0]) & (x < ZEBRA_X[1]) & (y > RIGHT_KERB_Y + 0.35) & (y < LEFT_KERB_Y - 0.35)
    bars = zebra & (stripe(y - 0.1, 1.0, 0.5) > 0)
    outside = (x < ZEBRA_X[0] - 1.8) | (x > ZEBRA_X[1] + 1.8)
    centre = outside & (np.abs(y - CENTRE_LINE_Y) < 0.06) & (np.mod(x, 6.0) < 3.2)
    parking = outside & (np.minimum(np.abs(y - LANE_RIGHT_Y), np.abs(y - LANE_LEFT_Y)) < 0.05)
    stop_right = (np.abs(x - ZEBRA_X[0] + 1.3) < 0.17) & (y > LANE_RIGHT_Y) & (y < CENTRE_LINE_Y)
    stop_left = (np.abs(x - ZEBRA_X[1] - 1.3) < 0.17) & (y > CENTRE_LINE_Y) & (y < LANE_LEFT_Y)
    return np.asarray(bars | centre | parking | stop_right | stop_left, dtype=np.float32)


def _pavement(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:
    x, y = points[:, 0], points[:, 1]
    joints = np.maximum(stripe(x + 0.25 * (np.floor(y / 0.5) % 2), 0.5, 0.02), stripe(y, 0.5, 0.02)) * _fade(
        depth, 0.025
    )
    slab = random_cells(np.floor(x / 0.5 + 0.5 * (np.floor(y / 0.5) % 2)), np.floor(y / 0.5), 7) - 0.5
    stains, grain = textures.soft(x, y, 6.0), textures.grain(x, y, 2.0) * _fade(depth, 0.02)
    grey = 0.27 + 0.045 * slab * _fade(depth, 0.2) + 0.02 * stains + 0.025 * grain - 0.13 * joints
    heat = np.float32(weather.ground_heat * 0.8) + sun * np.float32(weather.solar_heating) * 0.52
    temperature = weather.air + heat + 0.35 * stains + 0.25 * slab + 0.5 * joints
    albedo = _grey(grey, (1.0, 0.97, 0.92))
    return Appearance(albedo, np.zeros_like(albedo), temperature.astype(np.float32))


def _kerb(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:
    joints = stripe(points[:, 0], 1.0, 0.025) * _fade(depth, 0.025)
    grain = textures.grain(points[:, 0], points[:, 2], 2.0)
    albedo = _grey(0.34 + 0.03 * grain - 0.15 * joints)
    temperature = weather.air + weather.ground_heat + 0.3 + sun * np.float32(weather.solar_heating) * 0.4 + 0.2 * grain
    return Appearance(albedo, np.zeros_like(albedo), temperature.astype(np.float32))


def _bark(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:
    around = points[:, 0] * 3 + points[:, 1] * 3
    grain = textures.grain(around, points[:, 2] * 0.35, 2.0) * _fade(depth, 0.04)
    albedo = _grey(0.10 + 0.035 * grain, (1.0, 0.86, 0.70))
    temperature = weather.air + 0.9 + sun * np.float32(weather.solar_heating) * 0.35 + 0.3 * grain
    return Appearance(albedo, np.zeros_like(albedo), temperature.astype(np.float32))


def _leaves(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:
    across, up = points[:, 1] + 0.4 * points[:, 0], points[:, 2] + 0.3 * points[:, 0]
    leaf = textures.grain(across, up, 2.3)
    clump = textures.soft(across, up, 4.0)
    bright = np.clip(0.75 + 0.42 * leaf * (0.35 + 0.65 * _fade(depth, 0.08)) + 0.12 * clump, 0.12, 2.2)
    hue = np.clip(0.5 + 0.35 * clump, 0, 1)[:, None]
    colour = np.array((0.085, 0.15, 0.03), np.float32) * (1 - hue) + np.array((0.14, 0.17, 0.04), np.float32) * hue
    # Leaves transpire: they stay within a few kelvin of the air.
    temperature = weather.air - 0.6 + sun * np.float32(weather.solar_heating) * 0.13 + 0.45 * leaf
    return Appearance(colour * bright[:, None], np.zeros_like(points), temperature.astype(np.float32))


def _metal(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:
    rust = textures.soft(points[:, 0], points[:, 2], 3.0) * _fade(depth, 0.1)
    albedo = _grey(0.16 + 0.02 * rust)
    temperature = weather.air - 1.5 + sun * np.float32(weather.solar_heating) * 0.5 + 0.2 * rust
    return Appearance(albedo, np.zeros_like(albedo), temperature.astype(np.float32))


def _lamp(points: Array32, depth: Array32, textures: NoiseTextures, weather: Weather, sun: Array32) -> Appearance:  # noqa: ARG001
    """Lamps: the night's lamp is far brighter than the sensor takes, and some 20 K warmer than the air."""
    glow = np.array(weather.lamp, np.float32)
    burning = float(glow.max() > 0)
    albedo = _grey(np.full(len(points), 0.6, np.float32))
    temperature = np.full(len(points), weather.air + 20.0 * burning, np.float32) + sun * np.float32(5)
    return Appearance(albedo, np.broadcast_to(glow, points.shape) * np.float32(1.2), temperature)


_SURFACES = {
    Material.ROAD: _road,
    Material.PAVEMENT: _pavement,
    Material.KERB: _kerb,
    Material.BARK: _bark,
    Material.LEAVES: _leaves,
    Material.METAL: _metal,
    Material.LAMP: _lamp,
}
