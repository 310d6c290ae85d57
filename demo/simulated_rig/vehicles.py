"""Cars and bicycles."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .meshes import Mesh, Paint, capsule, disc, ellipsoid, join, loft, make_mesh, quad, tube

Array = NDArray[np.float64]

CAR_LENGTH_M, CAR_WIDTH_M, CAR_HEIGHT_M = 4.26, 1.78, 1.46
HEADLIGHT_AHEAD_M, HEADLIGHT_HEIGHT_M = 2.2, 0.66
CAR_COLOURS = (
    (0.55, 0.56, 0.58),
    (0.03, 0.03, 0.035),
    (0.30, 0.03, 0.03),
    (0.62, 0.62, 0.60),
    (0.04, 0.08, 0.20),
    (0.16, 0.17, 0.18),
)

# Cross-sections from rear to front: x, half width, z of sill, belt line and roof, half width of the roof; metres.
_STATIONS = (
    (-2.13, 0.62, 0.42, 0.72, 0.76, 0.55),
    (-2.09, 0.80, 0.30, 0.86, 0.92, 0.70),
    (-2.00, 0.86, 0.24, 0.93, 0.99, 0.74),
    (-1.52, 0.89, 0.20, 0.95, 1.39, 0.60),
    (-1.40, 0.89, 0.20, 0.95, 1.42, 0.60),
    (-0.58, 0.89, 0.19, 0.94, 1.46, 0.61),
    (-0.48, 0.89, 0.19, 0.94, 1.46, 0.61),
    (0.22, 0.89, 0.19, 0.93, 1.43, 0.60),
    (0.98, 0.88, 0.19, 0.92, 0.97, 0.70),
    (1.50, 0.87, 0.20, 0.85, 0.90, 0.68),
    (1.88, 0.84, 0.22, 0.76, 0.81, 0.64),
    (2.06, 0.76, 0.26, 0.66, 0.71, 0.58),
    (2.13, 0.60, 0.34, 0.56, 0.59, 0.48),
)
_REAR_WINDOW, _WIND_SCREEN, _SIDE_WINDOWS = 2, 7, (4, 6)  # between station of that number and the next
_WHEEL_X, _WHEEL_RADIUS_M = (-1.32, 1.33), 0.315


def build_car(generator: np.random.Generator, *, running: bool) -> Mesh:
    """Build a car that looks along x and stands on z = 0.

    Args:
        generator: chooses the colour and small differences.
        running: engine, tyres and exhaust are hot and the lights are on; otherwise it has been parked for long.
    """
    colour = CAR_COLOURS[generator.integers(len(CAR_COLOURS))]
    heat = 1.0 if running else 0.0
    stretch = np.array([generator.uniform(0.96, 1.05), 1.0, generator.uniform(0.97, 1.12)])
    parts = [_body(colour, heat), *_lights(running=running), *_wheels(heat)]
    for side in (1, -1):
        parts.append(
            ellipsoid((0.62, side * 0.97, 1.0), (0.07, 0.10, 0.07), [Paint(colour, mirror=0.15, cold=0.15)], sides=7)
        )
        for x in (-0.53, 0.55):  # door seams
            low, high = (x - 0.008, side * 0.90, 0.3), (x + 0.008, side * 0.885, 0.9)
            corners = [low, (high[0], low[1], low[2]), high, (low[0], high[1], high[2])]
            parts.append(quad(corners, Paint((0.01, 0.01, 0.01)), bias=0.12, two_sided=True))
    tail = (-2.17, 0.45, 0.30)
    parts.append(
        capsule(tail, (-2.0, 0.45, 0.30), (0.035, 0.035), Paint((0.1, 0.1, 0.1), 160.0, 0.45 * heat), bias=0.1)
    )
    car = join(parts)
    return replace(car, vertices=car.vertices * stretch)


def _body(colour: tuple[float, float, float], heat: float) -> Mesh:
    rings = []
    for x, half, sill, belt, roof, roof_half in _STATIONS:
        left = [(0.93 * half, sill), (half, 0.45 * sill + 0.55 * belt), (0.965 * half, belt)]
        left += [(roof_half, roof - 0.05 * (roof - belt)), (0.55 * roof_half, roof)]
        rings.append([(x, y, z) for y, z in left] + [(x, -y, z) for y, z in reversed(left)])
    body = Paint(colour, 40.0, 0.06 * heat, mirror=0.16, cold=0.22, solar=1.05 - 1.1 * float(np.mean(colour)))
    bonnet = replace(body, source=85.0, coupling=0.27 * heat)
    under = Paint((0.015, 0.015, 0.015), 60.0, 0.28 * heat)
    front = replace(body, source=85.0, coupling=0.16 * heat)
    glass = Paint((0.012, 0.014, 0.016), 25.0, 0.12 * heat, mirror=0.42, cold=0.30, solar=0.35)
    paints = []
    for station in range(len(_STATIONS) - 1):
        side = glass if station in _SIDE_WINDOWS else body
        top = glass if station in (_REAR_WINDOW, _WIND_SCREEN) else body
        skin = body
        if station > _WIND_SCREEN:
            top, skin, side = bonnet, front if station > 9 else body, front
        paints += [skin, skin, side, top, top, top, side, skin, skin, under]
    array = np.array(rings)
    ends = [np.repeat(ring.mean(0)[None, None], ring.shape[0], 1) for ring in (array[0], array[-1])]
    closed = np.concatenate([ends[0], array, ends[1]])
    return loft(closed, [body] * 10 + paints + [front] * 10)


def _panel(x: float, y: tuple[float, float], z: tuple[float, float], paint: Paint, bias: float = 0.3) -> Mesh:
    """Rectangle across the car, seen from ahead where x is positive, else from behind."""
    order = y if x > 0 else (y[1], y[0])
    return quad([(x, order[0], z[0]), (x, order[1], z[0]), (x, order[1], z[1]), (x, order[0], z[1])], paint, bias=bias)


def _lights(*, running: bool) -> list[Mesh]:
    on = float(running)
    head = Paint((0.6, 0.6, 0.6), 45.0, 0.3 * on, glow=(9.0 * on, 8.6 * on, 7.4 * on), mirror=0.2)
    tail = Paint((0.35, 0.02, 0.02), 30.0, 0.2 * on, glow=(0.9 * on, 0.05 * on, 0.03 * on), mirror=0.1)
    plate = Paint((0.6, 0.6, 0.55), glow=(0.07 * on, 0.07 * on, 0.06 * on))
    grille = Paint((0.015, 0.015, 0.015), 85.0, 0.42 * on)
    window = Paint((0.012, 0.014, 0.016), mirror=0.3, cold=0.25)
    parts = [_panel(2.135, (-0.5, 0.5), (0.30, 0.46), grille), _panel(2.14, (-0.25, 0.25), (0.36, 0.46), plate, 0.4)]
    parts += [
        _panel(-2.135, (-0.26, 0.26), (0.60, 0.72), plate, 0.4),
        _panel(-2.13, (-0.7, 0.7), (0.34, 0.46), window, 0.2),
    ]
    for low, high in ((0.44, 0.72), (-0.72, -0.44)):
        parts.append(_panel(2.10, (low, high), (0.57, 0.68), head))
        parts.append(_panel(-2.11, (low * 1.06, high * 1.06), (0.72, 0.87), tail))
    return parts


def _wheels(heat: float) -> list[Mesh]:
    tyre = Paint((0.018, 0.018, 0.018), 34.0, 0.62 * heat)
    tread = Paint((0.015, 0.015, 0.015), 38.0, 0.7 * heat)
    rim = Paint((0.28, 0.28, 0.29), 75.0, 0.24 * heat, mirror=0.1)
    hub = Paint((0.05, 0.05, 0.05), 90.0, 0.42 * heat)
    arch = Paint((0.006, 0.006, 0.006), 40.0, 0.25 * heat)
    parts = []
    for x in _WHEEL_X:
        for side in (1.0, -1.0):
            place = (x, side * 0.895, _WHEEL_RADIUS_M)
            inner, outer = (x, side * 0.66, _WHEEL_RADIUS_M), (x, side * 0.895, _WHEEL_RADIUS_M)
            parts.append(tube([inner, outer], [(_WHEEL_RADIUS_M,) * 2] * 2, [tread], sides=16))
            parts.append(disc((x, side * 0.885, _WHEEL_RADIUS_M + 0.02), (0.0, 0.375), arch, outward=side, bias=0.16))
            parts.append(disc(place, (0.20, _WHEEL_RADIUS_M), tyre, outward=side, bias=0.22))
            parts.append(disc(place, (0.07, 0.20), rim, outward=side, bias=0.22))
            parts.append(disc(place, (0.0, 0.07), hub, outward=side, bias=0.22, sides=8))
            for spoke in range(5):  # dark gaps between the spokes
                angle = 2 * math.pi * spoke / 5
                middle = (x + 0.135 * math.cos(angle), side * 0.895, _WHEEL_RADIUS_M + 0.135 * math.sin(angle))
                parts.append(disc(middle, (0.0, 0.042), hub, sides=6, outward=side, bias=0.26))
    return parts


WHEELBASE_HALF_M, BICYCLE_WHEEL_M = 0.53, 0.34
SADDLE = np.array([-0.20, 0.0, 0.97])
GRIP = np.array([0.36, 0.27, 1.04])
BOTTOM_BRACKET = np.array([-0.06, 0.0, 0.29])
CRANK_M, PEDAL_HALF_M = 0.17, 0.10


def build_bicycle(generator: np.random.Generator, *, lights: bool) -> Mesh:
    """Build a bicycle that looks along x and stands on z = 0; ``lights`` for one that is ridden at night."""
    colours = ((0.4, 0.05, 0.04), (0.05, 0.15, 0.35), (0.03, 0.03, 0.03), (0.45, 0.45, 0.42), (0.08, 0.3, 0.2))
    frame = Paint(colours[generator.integers(len(colours))], mirror=0.05, cold=0.15)
    dark = Paint((0.02, 0.02, 0.02), 26.0, 0.12)
    steel = Paint((0.35, 0.35, 0.36), cold=0.2)
    warm = Paint((0.03, 0.025, 0.02), 36.0, 0.35 if lights else 0.0)  # saddle and grips under the rider
    rear, front = (-WHEELBASE_HALF_M, 0.0, BICYCLE_WHEEL_M), (WHEELBASE_HALF_M, 0.0, BICYCLE_WHEEL_M)
    crown, seat, bracket = (0.33, 0.0, 0.84), (-0.17, 0.0, 0.86), tuple(BOTTOM_BRACKET)
    bars = (0.36, 0.0, 1.02)
    tubes = [
        (bracket, seat),
        (bracket, crown),
        (seat, crown),
        (seat, rear),
        (bracket, rear),
        (crown, front),
        (crown, bars),
    ]
    parts = [capsule(a, b, (0.019, 0.019), frame, sides=6) for a, b in tubes]
    parts.append(capsule((0.36, 0.24, 1.03), (0.36, -0.24, 1.03), (0.014, 0.014), dark, sides=6))
    grips = [((0.36, side * 0.22, 1.03), (0.32, side * 0.30, 1.03)) for side in (1, -1)]
    parts += [capsule(a, b, (0.018, 0.018), warm, sides=6) for a, b in grips]
    parts.append(ellipsoid((-0.20, 0.0, 0.94), (0.14, 0.07, 0.035), [warm], sides=8))
    parts.append(disc((BOTTOM_BRACKET[0], -0.04, BOTTOM_BRACKET[2]), (0.05, 0.095), steel, two_sided=True, sides=14))
    for hub in (rear, front):
        parts.append(disc(hub, (BICYCLE_WHEEL_M - 0.035, BICYCLE_WHEEL_M), dark, two_sided=True, sides=24))
        parts.append(_tread(hub, dark))
        parts.append(_spokes(hub, steel))
    on = float(lights)
    parts.append(
        ellipsoid((0.42, 0.0, 0.92), (0.035,) * 3, [Paint((0.5,) * 3, glow=(4.0 * on, 3.9 * on, 3.4 * on))], sides=6)
    )
    parts.append(
        ellipsoid(
            (-0.30, 0.0, 0.82), (0.03,) * 3, [Paint((0.3, 0.02, 0.02), glow=(1.2 * on, 0.04 * on, 0.03 * on))], sides=6
        )
    )
    return join(parts)


def _tread(hub: tuple[float, float, float], paint: Paint) -> Mesh:
    angle = 2 * np.pi * np.arange(25) / 24
    circle = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1) * BICYCLE_WHEEL_M + hub
    half_width = np.array([0, 0.02, 0])
    vertices = np.concatenate([circle + half_width, circle - half_width])
    index = np.arange(24)
    faces = np.stack([index, index + 25, index + 26, index + 1], -1)
    return make_mesh(vertices, faces, [paint], two_sided=True)


def _spokes(hub: tuple[float, float, float], paint: Paint) -> Mesh:
    angle = 2 * np.pi * (np.arange(9) + 0.5) / 9
    direction, aside = (np.stack([f(angle), 0 * angle, g(angle)], -1) for f, g in ((np.cos, np.sin), (np.sin, np.cos)))
    aside = aside * (-1, 1, 1) * 0.0015
    tip = direction * (BICYCLE_WHEEL_M - 0.03)
    vertices = np.stack([-aside, tip - aside, tip + aside, aside], 1).reshape(-1, 3) + hub
    return make_mesh(vertices, np.arange(36).reshape(9, 4), [paint], two_sided=True)


def pedal_positions(crank: float) -> tuple[Array, Array]:
    """Left and right pedal ``[3]`` in the bicycle's frame at a crank angle in radians."""
    offset = CRANK_M * np.array([math.cos(crank), 0.0, -math.sin(crank)])
    aside = np.array([0.0, PEDAL_HALF_M, 0.0])
    return BOTTOM_BRACKET + offset + aside, BOTTOM_BRACKET - offset - aside
