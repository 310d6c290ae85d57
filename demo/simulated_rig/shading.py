"""Light and heat that the faces of a mesh send to a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .lighting import SUN_DIRECTION, Weather, headlight_light, lamp_light, sky_temperature, sun_visibility
from .meshes import Mesh
from .street import Street

Array32 = NDArray[np.float32]

CLOTH_RELIEF = 0.045  # relative brightness variation from face to face: folds, seams, dirt
HEAT_RELIEF = 0.025  # likewise of the warmth that comes through


def face_geometry(mesh: Mesh) -> tuple[Array32, Array32]:
    """Return centres and unit normals of the faces, ``[F x 3]`` each."""
    corners = mesh.vertices[mesh.faces.T].astype(np.float32)
    normal = np.cross(corners[2] - corners[0], corners[3] - corners[1])
    normal /= np.maximum(np.sqrt(_dot(normal, normal)), 1e-9)[:, None]
    return corners.mean(0), normal


def _dot(first: Array32, second: Array32) -> Array32:
    return np.asarray(np.einsum("fi,fi->f", first, second))


@dataclass(frozen=True, eq=False)
class Faces:
    """Faces as a camera sees them.

    Attributes:
        mesh: whose faces they are.
        height: ``[F]`` above the lowest point of the object, metres.
        sun: ``[F]`` visibility of the sun times cosine, 0..1.
        centre, normal, mirrored: ``[F x 3]``: middle, unit normal towards the camera, and where a mirror would look.
        grazing: ``[F]``: 0 seen from straight ahead, 1 edge-on.
        relief: ``[F]`` a fixed random pattern of standard deviation 1.
    """

    mesh: Mesh
    height: Array32
    sun: Array32
    centre: Array32
    normal: Array32
    mirrored: Array32
    grazing: Array32
    relief: Array32


def see_faces(
    mesh: Mesh, objects: NDArray[np.int32], numbers: NDArray[np.int32], eye: NDArray[np.float64], shade: Shade | None
) -> Faces:
    """Look at faces.

    Args:
        mesh: with faces of several objects.
        objects: ``[F]`` number of the object that a face belongs to, ascending.
        numbers: ``[F]`` number of a face within everything that is drawn; chooses its relief.
        eye: optical centre of the camera ``[3]``.
        shade: how much sun arrives where; None at night.
    """
    centre, normal = face_geometry(mesh)
    view = centre - eye.astype(np.float32)
    view /= np.sqrt(_dot(view, view))[:, None]
    facing = _dot(view, normal)
    behind = mesh.two_sided & (facing > 0)
    normal[behind] *= -1
    mirrored = view - 2 * _dot(view, normal)[:, None] * normal
    starts = np.nonzero(np.diff(objects, prepend=-1))[0]
    counts = np.diff([*starts, len(objects)])
    height = centre[:, 2] - np.repeat(np.minimum.reduceat(centre[:, 2], starts), counts)
    sun = np.zeros(len(centre), np.float32) if shade is None else shade.on_faces(centre, normal, starts, counts)
    relief = np.modf(np.sin(numbers * 12.9898) * 43758.5453)[0].astype(np.float32) * np.float32(1.73)
    return Faces(mesh, height, sun, centre, normal, mirrored, 1 - np.abs(facing), relief)


class Shade:
    """Shade of the street and of parked cars on what moves."""

    def __init__(self, street: Street, parked_boxes: NDArray[np.float64]) -> None:
        self._street, self._boxes = street, parked_boxes

    def on_faces(self, centre: Array32, normal: Array32, starts: NDArray[np.intp], counts: NDArray[np.intp]) -> Array32:
        """Sun on faces that come object by object; looked up at four heights of each object."""
        low, high = np.minimum.reduceat(centre, starts), np.maximum.reduceat(centre, starts)
        middle = np.repeat((low + high) * np.float32(0.5), 4, axis=0)
        middle[:, 2] = np.linspace(low[:, 2], high[:, 2], 4, axis=1).ravel()
        seen = sun_visibility(self._street, middle, self._boxes).reshape(-1, 4)
        level = (
            (centre[:, 2] - np.repeat(low[:, 2], counts)) / np.repeat(np.maximum(high - low, 0.01)[:, 2], counts) * 3
        )
        whole = np.clip(level.astype(np.int32), 0, 2)
        owner = np.repeat(np.arange(len(starts)), counts)
        between = seen[owner, whole] + (seen[owner, whole + 1] - seen[owner, whole]) * (level - whole)
        return np.asarray(between * np.maximum(normal @ SUN_DIRECTION.astype(np.float32), 0), dtype=np.float32)


def face_radiance(faces: Faces, weather: Weather, street: Street, headlights: NDArray[np.float64]) -> Array32:
    """Radiance of faces ``[F x 3]``, 1 saturates the camera; ``headlights`` as in :func:`headlight_light`."""
    mesh, daylight = faces.mesh, max(weather.sun) > 0
    bounce, overhead, horizon, zenith, sun = (
        np.array(colour, np.float32)
        for colour in (weather.bounce, weather.sky, weather.horizon, weather.zenith, weather.sun)
    )
    up = 0.5 + 0.5 * faces.normal[:, 2:]
    light = (bounce + (overhead - bounce) * up) * (0.55 + 0.45 * np.clip(faces.height / 0.8, 0, 1))[:, None]
    if daylight:
        light += faces.sun[:, None] * sun
    else:
        light += lamp_light(street.lamps, weather, faces.centre, faces.normal)
        light += headlight_light(headlights, weather, faces.centre, faces.normal)
    colour = mesh.albedo * light * (1 + CLOTH_RELIEF * faces.relief[:, None])
    # Schlick: a surface mirrors more at grazing angles; below the horizon it mirrors the dark ground.
    fresnel = mesh.mirror * (0.35 + 0.65 * faces.grazing**3)
    elevation = faces.mirrored[:, 2:]
    sky = horizon + (zenith - horizon) * np.sqrt(np.clip(elevation, 0, 1))
    # Between dark ground and bright sky stands the street: houses and trees, out of focus.
    sky = overhead * 0.25 + (sky - overhead * 0.25) * np.clip((elevation - 0.05) / 0.4, 0, 1)
    colour += fresnel[:, None] * sky
    if daylight:
        glint = np.clip(faces.mirrored @ SUN_DIRECTION.astype(np.float32), 0, 1) ** 40 * (faces.sun > 0.05)
        colour += (mesh.mirror * glint)[:, None] * sun * 2.0
    else:
        colour += mesh.glow * (0.15 + 0.85 * (1 - faces.grazing[:, None]) ** 2)
    return np.asarray(colour, dtype=np.float32)


def face_temperature(faces: Faces, weather: Weather) -> Array32:
    """Apparent temperature of faces ``[F]`` in deg C."""
    mesh = faces.mesh
    temperature = weather.air + mesh.coupling * (mesh.source - weather.air) * (1 + HEAT_RELIEF * faces.relief)
    temperature += mesh.solar * weather.solar_heating * faces.sun
    cold = mesh.cold * (0.5 + 0.5 * faces.grazing**2) * (faces.mirrored[:, 2] > 0)
    temperature += cold * (sky_temperature(weather, faces.mirrored[:, 2]) - temperature)
    return np.asarray(temperature, dtype=np.float32)
