"""Walls of buildings: plaster or bricks, windows with frames, sills and curtains, shops, lit rooms, warm radiators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .lighting import Weather, sky_temperature
from .street import Building, Street
from .textures import NoiseTextures, random_cells, stripe

Array32 = NDArray[np.float32]

STOREY_M = 3.1
GROUND_FLOOR_M = 3.7
BRICK_M = (0.24, 0.075)  # length and height of a brick with its joint
LIT_WINDOWS = 0.24  # share of the windows with light behind them at night
GLASS_REFLECTIVITY = 0.16  # of window glass in the long-wave band, averaged over the angles


def facade_appearance(
    street: Street,
    building_of_point: NDArray[np.int16],
    points: Array32,
    normals: Array32,
    depth: Array32,
    *,
    textures: NoiseTextures,
    weather: Weather,
    sun: Array32,
) -> tuple[Array32, Array32, Array32]:
    """Return albedo ``[N x 3]``, emission ``[N x 3]`` and temperature ``[N]`` (deg C) of points on walls."""
    albedo, emission = np.zeros_like(points), np.zeros_like(points)
    temperature = np.zeros(len(points), np.float32)
    for number, building in enumerate(street.buildings):
        here = building_of_point == number
        if here.any():
            along = np.where(np.abs(normals[here, 1]) > 0.5, points[here, 0] - building.low[0], points[here, 1])
            wall = _Wall(building, number, along, points[here, 2], depth=depth[here], textures=textures)
            albedo[here], emission[here], temperature[here] = wall.appearance(weather, sun[here])
    return albedo, emission, temperature


class _Wall:
    """Points of one building: ``along`` the wall and height ``z``, metres ``[N]``."""

    def __init__(
        self, building: Building, number: int, along: Array32, z: Array32, *, depth: Array32, textures: NoiseTextures
    ) -> None:
        self.building, self.number, self.along, self.z = building, number, along.astype(np.float32), z
        self.sharp = np.asarray(1 / (1 + (depth / 14) ** 2), dtype=np.float32)  # fine detail vanishes with distance
        self.stains = textures.soft(along, z * 0.6, 11.0)
        self.grain = textures.grain(along, z, 3.0) * self.sharp
        self.ground_floor = z < GROUND_FLOOR_M
        shop = self.ground_floor & building.shops
        bay = np.where(shop, building.bay * 1.35, building.bay).astype(np.float32)
        self.column = np.floor(self.along / bay)
        self.row = np.where(self.ground_floor, -1, np.floor((z - GROUND_FLOOR_M) / STOREY_M)).astype(np.float32)
        base = np.where(self.ground_floor, 0, GROUND_FLOOR_M + self.row * STOREY_M)
        half_width = np.where(shop, bay * 0.42, 0.58)
        low, high = np.where(shop, 0.5, 0.95), np.where(shop, 2.85, 2.55)
        self.across = self.along - (self.column + 0.5) * bay  # from the middle of the window
        self.up = z - base
        inside = np.minimum.reduce([half_width - np.abs(self.across), self.up - low, high - self.up])
        top_storey = z > building.high[2] - 0.75  # cornice: no windows
        self.window = (inside > 0) & ~top_storey
        self.frame = self.window & (
            (inside < 0.07) | (np.abs(self.across) < 0.03) | (shop & (np.abs(self.up - 2.3) < 0.03))
        )
        door = shop & (random_cells(self.column, self.row, 11 + number) < 0.4) & (np.abs(self.across) < 0.5)
        self.frame |= self.window & door & ((np.abs(self.across) > 0.42) | (self.up < 0.75))
        self.recess = self.window & ((high - self.up < 0.22) | (self.across + half_width < 0.14))
        self.sill = (np.abs(self.up - low + 0.05) < 0.05) & (np.abs(self.across) < half_width + 0.08) & ~top_storey
        self.below = (self.up < low - 0.1) & (self.up > 0.15) & (np.abs(self.across) < 0.5) & ~self.ground_floor
        self.cornice = z > building.high[2] - 0.4
        self.shop = shop
        self.fraction = np.clip((self.up - low) / (high - low), 0, 1)

    def appearance(self, weather: Weather, sun: Array32) -> tuple[Array32, Array32, Array32]:
        """Return albedo, emission and temperature."""
        albedo = self._wall_colour()
        chance = random_cells(self.column, self.row, 31 + self.number)
        night = max(weather.sun) == 0
        lit = night & self.window & (chance < np.where(self.shop, 0.55, LIT_WINDOWS))
        warmth = random_cells(self.column, self.row, 57 + self.number)
        glass = self.window & ~self.frame
        curtain = glass & (np.abs(self.across) > 0.22 + 0.35 * warmth) & (chance < 0.6) & ~self.shop
        albedo[glass] = (0.045, 0.05, 0.055)
        albedo[curtain] = (0.28, 0.27, 0.24)
        albedo[self.frame] = (0.55, 0.54, 0.52)
        albedo[self.recess] *= 0.45
        emission = np.zeros_like(albedo)
        mirrored = np.array(weather.horizon, np.float32) * 0.6 + np.array(weather.zenith, np.float32) * 0.4
        strength = np.where(curtain, 0.07, 0.20) * (0.35 + 0.65 * self.fraction) * (0.6 + 0.8 * warmth)
        strength *= (1 + 0.35 * self.stains).clip(0.2, 2)
        emission[glass] = (strength[:, None] * mirrored)[glass]
        room = np.stack([np.ones_like(warmth), 0.62 + 0.25 * warmth, 0.28 + 0.45 * warmth], -1)
        inside = (0.35 + 0.5 * self.fraction) * (1 + 0.25 * self.stains) * np.where(curtain, 0.75, 1.0)
        light = inside * np.where(self.shop, 0.55, 0.30) * (0.5 + chance * 2)
        emission[lit & glass] = (light[:, None] * room)[lit & glass]
        emission[lit & self.frame] *= 0.0
        return albedo, emission, self._temperature(weather, sun, glass=glass, curtain=curtain, lit=lit, warmth=warmth)

    def _wall_colour(self) -> Array32:
        height, length = BRICK_M[1], BRICK_M[0]
        tone = 1 + 0.07 * self.stains + 0.05 * self.grain
        if self.building.bricks:
            course = np.floor(self.z / height)
            offset = self.along + 0.5 * length * (course % 2)
            brick = random_cells(np.floor(offset / length), course, 3) - 0.5
            joint = np.maximum(stripe(self.z, height, 0.013), stripe(offset, length, 0.013)) * self.sharp
            tone = tone + 0.4 * brick * self.sharp
        else:
            joint = stripe(self.z - GROUND_FLOOR_M, STOREY_M, 0.10) * 0.35
        tone = tone * np.where(self.z < 0.6, 0.62, 1.0) * np.where(self.cornice, 1.18, 1.0)
        tone = tone * np.where(self.shop & (self.up > 2.95), 0.55, 1.0)  # the shop's sign
        tone = tone - 0.18 * np.clip(1.2 - self.z, 0, 1) * np.clip(self.stains + 0.5, 0, 1)  # splashed dirt
        colour = np.clip(tone, 0.15, 1.5)[:, None] * np.array(self.building.colour, np.float32)
        colour += joint[:, None] * (np.array((0.42, 0.40, 0.37), np.float32) - colour) * 0.8
        colour[self.sill] = (0.5, 0.49, 0.46)
        return np.asarray(colour, dtype=np.float32)

    def _temperature(
        self,
        weather: Weather,
        sun: Array32,
        *,
        glass: NDArray[np.bool_],
        curtain: NDArray[np.bool_],
        lit: NDArray[np.bool_],
        warmth: Array32,
    ) -> Array32:
        absorbed = 1 - float(np.mean(self.building.colour))
        heat = sun * np.float32(weather.solar_heating * 0.62 * absorbed)
        wall = weather.air + 1.0 + heat + 0.35 * self.stains + 0.12 * self.grain + 0.3 * (self.z < 0.6)
        heated = max(weather.sun) == 0  # radiators run in the cold night only
        wall = wall + np.where(self.below & heated, 1.8 * np.clip(warmth - 0.35, 0, 1), 0)
        behind = weather.air + 2.0 + np.where(lit, 3.0, 0.0) + np.where(curtain, -0.8, 0.0) + 1.0 * warmth
        pane = behind + heat * 0.3
        pane += GLASS_REFLECTIVITY * (sky_temperature(weather, np.full_like(wall, 0.35)) - pane)
        wall = np.where(glass, pane, wall)
        wall = np.where(self.frame, weather.air + 2.6 + heat * 0.6, wall)
        return np.asarray(np.where(self.sill, wall - 0.8, wall), dtype=np.float32)
