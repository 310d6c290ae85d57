"""Paints the street as it is without what moves."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .lighting import SUN_DIRECTION, Weather, lamp_light, sun_visibility
from .materials import street_appearance
from .street import Material, RayHits, Street
from .textures import NoiseTextures

Array32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StillPicture:
    """The street without what moves, in one weather, ``[H x W (x 3)]``.

    Attributes:
        colour: radiance, 1 saturates the camera.
        temperature: apparent, deg C.
        albedo: linear RGB.
        ground_sun: the sun's part of ``colour`` on the ground, elsewhere 0: what a moving shadow takes away.
        ground_rest: the other part of ``colour`` on the ground, elsewhere 0.
    """

    colour: Array32
    temperature: Array32
    albedo: Array32
    ground_sun: Array32
    ground_rest: Array32


def sunlight(hits: RayHits, street: Street, parked_boxes: NDArray[np.float64], supersampling: int) -> Array32:
    """Visibility of the sun times cosine, on sub-pixels; shadows are traced on whole pixels and smoothed."""
    middle = slice(supersampling // 2, None, supersampling)
    points = hits.position[middle, middle]
    coarse = sun_visibility(street, points.reshape(-1, 3), parked_boxes).reshape(points.shape[:2])
    size = (hits.camera.width * supersampling, hits.camera.height * supersampling)
    seen = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(seen * np.maximum(hits.normal @ SUN_DIRECTION.astype(np.float32), 0), dtype=np.float32)


def paint_street(
    hits: RayHits,
    street: Street,
    textures: NoiseTextures,
    weather: Weather,
    sun: Array32,
    *,
    free_sky: Array32,
    parked: tuple[NDArray[np.bool_], Array32, Array32, Array32],
) -> StillPicture:
    """Paint the street in one weather.

    Args:
        hits: what the rays of the sub-pixels meet.
        street: the fixed objects.
        textures: noise fields.
        weather: light and heat.
        sun: visibility times cosine, on sub-pixels; not used at night.
        free_sky: share of the sky's light that reaches the ground, on sub-pixels.
        parked: where parked objects are seen on the sub-pixels, and their radiance, temperature and albedo there.
    """
    lit = sun if max(weather.sun) > 0 else np.zeros_like(sun)
    look = street_appearance(hits, street, textures, weather, lit)
    up = 0.5 + 0.5 * hits.normal[..., 2:]
    bounce, sky = np.array(weather.bounce, np.float32), np.array(weather.sky, np.float32)
    light = bounce + (sky - bounce) * up
    if max(weather.lamp) > 0:
        points, normals = hits.position.reshape(-1, 3), hits.normal.reshape(-1, 3)
        light += lamp_light(street.lamps, weather, points, normals).reshape(light.shape)
    covered, radiance, heat, albedo = parked
    ground = (np.isin(hits.material, (Material.ROAD, Material.PAVEMENT)) & ~covered)[..., None]
    rest = look.albedo * light + look.emission
    rest *= np.where(ground, free_sky[..., None], 1)
    direct = look.albedo * lit[..., None] * np.array(weather.sun, np.float32)
    colour = rest + direct
    colour[covered], look.temperature[covered], look.albedo[covered] = radiance, heat, albedo
    layers = (colour, look.temperature, look.albedo, direct * ground, rest * ground)
    size = (hits.camera.width, hits.camera.height)
    reduced = [cv2.resize(layer.astype(np.float32), size, interpolation=cv2.INTER_AREA) for layer in layers]
    return StillPicture(*(np.asarray(layer, dtype=np.float32) for layer in reduced))
