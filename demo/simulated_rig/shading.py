"""Light and heat that the faces of a mesh send to a camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .lighting import SUN_DIRECTION, Weather, headlight_light, lamp_light, sky_temperature, sun_visibility
from .meshes import Mesh
from .street import Street

Array32 = NDArray[np.float32]

CLOTH_RELIEF = 0.10  # relative brightness variation from face to face: folds, seams, dirt
HEAT_RELIEF = 0.04  # likewise of the warmth that comes through


def face_geometry(mesh: Mesh) -> tuple[Array32, Array32]:
    """Return centres and unit normals of the faces, ``[F x 3]`` each."""
    corners = mesh.vertices[mesh.faces]
    normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    return corners.mean(1).astype(np.float32), normal.astype(np.float32)


def relief(count: int) -> Array32:
    """Return a fixed pattern of values around 0 (standard deviation 1) for the faces of a mesh."""
    return np.asarray(np.modf(np.sin(np.arange(count) * 12.9898) * 43758.5453)[0] * 1.73, dtype=np.float32)


def shade_faces(
    mesh: Mesh,
    weather: Weather,
    street: Street,
    headlights: NDArray[np.float64],
    eye: NDArray[np.float64],
    parked_boxes: NDArray[np.float64],
) -> tuple[Array32, Array32]:
    """Compute what a camera at ``eye`` sees of each face.

    Args:
        mesh: in the world.
        weather: light and heat.
        street: throws shadows, carries lamps.
        headlights: ``[M x 6]``.
        eye: optical centre ``[3]``.
        parked_boxes: ``[K x 6]``, throw shadows.

    Returns:
        Radiance ``[F x 3]`` (1 saturates the camera) and apparent temperature ``[F]`` in deg C.
    """
    centre, normal = face_geometry(mesh)
    view = centre - eye.astype(np.float32)
    view /= np.linalg.norm(view, axis=1, keepdims=True)
    facing = (view * normal).sum(1)
    normal = np.where((mesh.two_sided & (facing > 0))[:, None], -normal, normal)
    facing = -np.abs(facing)
    mirrored = view - 2 * (view * normal).sum(1, keepdims=True) * normal
    rough = relief(len(mesh.faces))
    sun = np.zeros(len(centre), np.float32)
    if max(weather.sun) > 0:
        # Shade changes slowly across a body: look it up at a few heights and share it.
        low, high = centre.min(0), centre.max(0)
        probe = np.linspace(low, high, 4).astype(np.float32)
        probe[:, :2] = (low[:2] + high[:2]) / 2
        seen = sun_visibility(street, probe, parked_boxes)
        sun = np.interp(centre[:, 2], probe[:, 2], seen) * np.maximum(normal @ SUN_DIRECTION.astype(np.float32), 0)
    up = 0.5 + 0.5 * normal[:, 2:]
    light = np.array(weather.bounce) * (1 - up) + np.array(weather.sky) * up
    light = light * (0.55 + 0.45 * np.clip((centre[:, 2:] - centre[:, 2].min()) / 0.8, 0, 1))  # darker near the ground
    light = light + sun[:, None] * np.array(weather.sun)
    light = (
        light + lamp_light(street.lamps, weather, centre, normal) + headlight_light(headlights, weather, centre, normal)
    )
    colour = mesh.albedo * light * (1 + CLOTH_RELIEF * rough[:, None])
    # Fresnel (Schlick): a surface mirrors more at grazing angles; below the horizon it mirrors the dark ground.
    fresnel = mesh.mirror * (0.35 + 0.65 * (1 + facing) ** 3)
    elevation = np.clip(mirrored[:, 2:], 0, 1)
    sky = np.array(weather.horizon) + (np.array(weather.zenith) - np.array(weather.horizon)) * elevation**0.5
    sky = np.where(mirrored[:, 2:] > 0, sky, np.array(weather.sky) * 0.25)
    colour = colour + fresnel[:, None] * sky
    if max(weather.sun) > 0:
        glint = np.clip(mirrored @ SUN_DIRECTION.astype(np.float32), 0, 1) ** 40
        colour = colour + (mesh.mirror * glint)[:, None] * np.array(weather.sun) * 2.0
    else:
        colour = colour + mesh.glow * (0.15 + 0.85 * facing[:, None] ** 2)
    temperature = weather.air + mesh.coupling * (mesh.source - weather.air) * (1 + HEAT_RELIEF * rough)
    temperature = temperature + mesh.solar * weather.solar_heating * sun
    cold = mesh.cold * (0.5 + 0.5 * (1 + facing) ** 2) * (mirrored[:, 2] > 0)
    temperature = temperature + cold * (sky_temperature(weather, mirrored[:, 2].astype(np.float32)) - temperature)
    return colour.astype(np.float32), temperature.astype(np.float32)
