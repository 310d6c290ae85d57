"""Meshes of quadrilaterals for everything that is not a plane: bodies, bicycles, cars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Paint:
    """How the faces of a part look.

    Attributes:
        albedo: linear RGB.
        source: temperature of the heat source below the surface (blood, engine, brake), deg C.
        coupling: surface = air + coupling * (source - air); 0 for what has no heat of its own.
        glow: own light, linear RGB, relative to what saturates the camera at night.
        mirror: share of the sky's light that the surface mirrors (glass, car paint), 0..1.
        cold: share of the cold sky that it mirrors in the long-wave band, 0..1.
        solar: how much of the sun's heat shows, 0..1 (thin cloth is cooled by the body and the wind).
    """

    albedo: tuple[float, float, float]
    source: float = 0.0
    coupling: float = 0.0
    glow: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mirror: float = 0.0
    cold: float = 0.05
    solar: float = 0.4


@dataclass(frozen=True, eq=False)
class Mesh:
    """Quadrilaterals with a paint each; seen from outside their corners run anti-clockwise.

    Attributes:
        vertices: ``[V x 3]``, metres.
        faces: ``[F x 4]`` indices of vertices.
        albedo, glow: ``[F x 3]``.
        source, coupling, mirror, cold, solar: ``[F]``, see :class:`Paint`.
        bias: ``[F]`` metres by which a face is drawn as if nearer: details that lie on another surface.
        two_sided: ``[F]`` faces that are seen from behind too.
        bone: ``[V]`` index of the rigid part that a vertex moves with.
    """

    vertices: Array
    faces: NDArray[np.int32]
    albedo: Array
    glow: Array
    source: Array
    coupling: Array
    mirror: Array
    cold: Array
    solar: Array
    bias: Array
    two_sided: NDArray[np.bool_]
    bone: NDArray[np.int32]

    def moved(self, rotation: Array, offset: Array) -> Mesh:
        """Return the mesh turned by ``rotation [3 x 3]``, then shifted by ``offset [3]``."""
        return replace(self, vertices=self.vertices @ rotation.T + offset)

    def posed(self, rotations: Array, offsets: Array) -> Mesh:
        """Return the mesh with each bone turned and shifted: ``rotations [B x 3 x 3]``, ``offsets [B x 3]``."""
        vertices = np.einsum("vij,vj->vi", rotations[self.bone], self.vertices) + offsets[self.bone]
        return replace(self, vertices=vertices)

    def subset(self, chosen: NDArray[np.integer]) -> Mesh:
        """Return a mesh of some of the faces, with all vertices."""
        names = ("faces", "albedo", "glow", "source", "coupling", "mirror", "cold", "solar", "bias", "two_sided")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def make_mesh(
    vertices: Array,
    faces: NDArray[np.integer],
    paints: list[Paint],
    *,
    bone: int = 0,
    bias: float = 0.0,
    two_sided: bool = False,
) -> Mesh:
    """Build a mesh; ``paints`` has one entry a face, or one for all."""
    count = len(faces)
    chosen = paints if len(paints) == count else paints * count
    return Mesh(
        vertices=np.asarray(vertices, dtype=np.float64),
        faces=np.asarray(faces, dtype=np.int32),
        albedo=np.array([paint.albedo for paint in chosen]),
        glow=np.array([paint.glow for paint in chosen]),
        source=np.array([paint.source for paint in chosen]),
        coupling=np.array([paint.coupling for paint in chosen]),
        mirror=np.array([paint.mirror for paint in chosen]),
        cold=np.array([paint.cold for paint in chosen]),
        solar=np.array([paint.solar for paint in chosen]),
        bias=np.full(count, bias),
        two_sided=np.full(count, two_sided),
        bone=np.full(len(vertices), bone, dtype=np.int32),
    )


def join(meshes: list[Mesh]) -> Mesh:
    """Put meshes together into one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    names = ("vertices", "albedo", "glow", "source", "coupling", "mirror", "cold", "solar", "bias", "two_sided", "bone")
    stacked = {name: np.concatenate([getattr(mesh, name) for mesh in meshes]) for name in names}
    return Mesh(faces=np.concatenate(faces).astype(np.int32), **stacked)


def loft(rings: Array, paints: list[Paint], *, bone: int = 0, bias: float = 0.0) -> Mesh:
    """Skin over closed rings of points.

    Args:
        rings: ``[R x S x 3]``; seen against the direction in which rings follow each other, points run anti-clockwise.
        paints: one for all, or one for each of the ``(R - 1) * S`` faces, ring by ring.
        bone: of all vertices.
        bias: of all faces.
    """
    count, sides = rings.shape[:2]
    ring, side = np.meshgrid(np.arange(count - 1), np.arange(sides), indexing="ij")
    after = (side + 1) % sides
    corners = [ring * sides + side, ring * sides + after, (ring + 1) * sides + after, (ring + 1) * sides + side]
    faces = np.stack(corners, -1).reshape(-1, 4)
    return make_mesh(rings.reshape(-1, 3), faces, paints, bone=bone, bias=bias)


def tube(
    spine: NDArray[np.floating] | Sequence[tuple[float, float, float]],
    radii: Sequence[tuple[float, float]],
    paints: list[Paint],
    *,
    sides: int = 8,
    bone: int = 0,
    bias: float = 0.0,
) -> Mesh:
    """Skin around a spine of points, closed at both ends.

    Args:
        spine: ``[R x 3]``.
        radii: for each point of the spine the half axes of the ellipse around it, metres; for an upright spine the
            first is along x (forward), the second along y (left).
        paints: one for all, or one for each of the ``R + 1`` rows of faces (with the two ends).
        sides: corners of the ellipse.
        bone: of all vertices.
        bias: of all faces.
    """
    line = np.asarray(spine, dtype=np.float64)
    direction = line[-1] - line[0]
    direction /= np.linalg.norm(direction)
    reference = np.array([1.0, 0, 0]) if abs(direction[0]) < 0.8 else np.array([0, 0, 1.0])
    second = np.cross(direction, reference)
    second /= np.linalg.norm(second)
    first = np.cross(second, direction)
    angle = 2 * np.pi * np.arange(sides) / sides
    half = np.array(radii)
    rings = (
        line[:, None]
        + half[:, :1, None] * np.cos(angle)[:, None] * first
        + half[:, 1:, None] * np.sin(angle)[:, None] * second
    )
    closed = np.concatenate([np.repeat(line[:1, None], sides, 1), rings, np.repeat(line[-1:, None], sides, 1)])
    rows = paints if len(paints) > 1 else paints * (len(line) + 1)
    return loft(closed, [paint for paint in rows for _ in range(sides)], bone=bone, bias=bias)


def capsule(
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radius: tuple[float, float],
    paint: Paint,
    *,
    sides: int = 8,
    bone: int = 0,
    bias: float = 0.0,
) -> Mesh:
    """Limb with round ends, from ``start`` (first radius) to ``end`` (second radius)."""
    first, last = np.array(start), np.array(end)
    direction = (last - first) / np.linalg.norm(last - first)
    spine = [first - direction * radius[0] * 0.6, first, last, last + direction * radius[1] * 0.6]
    radii = [(radius[0] * 0.7,) * 2, (radius[0],) * 2, (radius[1],) * 2, (radius[1] * 0.7,) * 2]
    return tube(np.array(spine), radii, [paint], sides=sides, bone=bone, bias=bias)


def ellipsoid(
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    paints: list[Paint],
    *,
    sides: int = 9,
    bone: int = 0,
    bias: float = 0.0,
) -> Mesh:
    """Ellipsoid; ``paints`` from bottom to top: one, or one for each of six rows."""
    polar = np.linspace(-np.pi / 2, np.pi / 2, 7)[1:-1]
    spine = np.array(centre) + np.stack([0 * polar, 0 * polar, np.sin(polar) * radii[2]], -1)
    mesh = tube(
        spine, [(np.cos(a) * radii[0], np.cos(a) * radii[1]) for a in polar], paints, sides=sides, bone=bone, bias=bias
    )
    vertices = mesh.vertices.copy()
    vertices[:sides, 2], vertices[-sides:, 2] = centre[2] - radii[2], centre[2] + radii[2]
    return replace(mesh, vertices=vertices)


def disc(
    centre: tuple[float, float, float],
    radii: tuple[float, float],
    paint: Paint,
    *,
    sides: int = 20,
    outward: float = 1.0,
    bias: float = 0.0,
    two_sided: bool = False,
) -> Mesh:
    """Annulus in the xz-plane between two radii, facing +y (``outward`` 1) or -y (-1)."""
    angle = -outward * 2 * np.pi * np.arange(sides) / sides
    around = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
    vertices = np.array(centre) + np.concatenate([around * radii[0], around * radii[1]])
    index = np.arange(sides)
    after = (index + 1) % sides
    faces = np.stack([index + sides, after + sides, after, index], -1)
    return make_mesh(vertices, faces, [paint], bias=bias, two_sided=two_sided)


def quad(
    corners: list[tuple[float, float, float]], paint: Paint, *, bias: float = 0.0, two_sided: bool = False
) -> Mesh:
    """One quadrilateral."""
    return make_mesh(np.array(corners), np.array([[0, 1, 2, 3]]), [paint], bias=bias, two_sided=two_sided)
