"""Draws meshes over the still picture of the street: painter's algorithm on sub-pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import PinholeCamera
from .meshes import Mesh, join

NEAR_M = 0.4  # faces nearer than this, or behind the camera, are left out
_SHIFT = 4  # fractional bits of the corner coordinates


@dataclass(frozen=True)
class Region:
    """Part of an image, in pixels: rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    def slices(self, scale: int = 1) -> tuple[slice, slice]:
        """Index of the part in an image that has ``scale`` sub-pixels along each axis."""
        return slice(self.top * scale, self.bottom * scale), slice(self.left * scale, self.right * scale)

    def overlaps(self, other: Region) -> bool:
        """Tell whether the two share pixels."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def unite(regions: list[Region]) -> list[Region]:
    """Unite regions that overlap, until none do."""
    separate: list[Region] = []
    for region in regions:
        grown = region
        while touched := [other for other in separate if other.overlaps(grown)]:
            separate = [other for other in separate if other not in touched]
            touched.append(grown)
            top, left = min(part.top for part in touched), min(part.left for part in touched)
            grown = Region(top, max(part.bottom for part in touched), left, max(part.right for part in touched))
        separate.append(grown)
    return separate


@dataclass(frozen=True, eq=False)
class FaceMap:
    """Which face is seen on each sub-pixel.

    Attributes:
        mesh: all meshes in one.
        objects: ``[F]`` which of the meshes a face comes from.
        shown: ``[S]`` faces that are drawn, ascending.
        faces: ``[H x W]`` number of the face plus 1; 0 is the street.
        depth: ``[F + 1]`` depth of each face along the optical axis in metres; 0 for number 0.
        regions: where each mesh lies; None where it is out of view.
    """

    mesh: Mesh
    objects: NDArray[np.int32]
    shown: NDArray[np.intp]
    faces: NDArray[np.int32]
    depth: NDArray[np.float32]
    regions: tuple[Region | None, ...]


def draw_faces(meshes: list[Mesh], camera: PinholeCamera, supersampling: int, canvas: NDArray[np.int32]) -> FaceMap:
    """Draw meshes, far faces first.

    Args:
        meshes: in the world, at least one.
        camera: looks at them.
        supersampling: sub-pixels along each axis of a pixel.
        canvas: ``[H * supersampling x W * supersampling]``, overwritten.
    """
    canvas[:] = 0
    mesh = join(meshes)
    objects = np.repeat(np.arange(len(meshes), dtype=np.int32), [len(found.faces) for found in meshes])
    pixels, depth = camera.project(mesh.vertices)
    by_corner = mesh.faces.T
    face_depth, corners = depth[by_corner], pixels[by_corner]
    diagonal, other = corners[2] - corners[0], corners[3] - corners[1]
    # Rows grow downwards, so what is anti-clockwise in the world is negative here.
    turned = diagonal[:, 0] * other[:, 1] - diagonal[:, 1] * other[:, 0]
    low, high = corners.min(0), corners.max(0)
    visible = (face_depth.min(0) > NEAR_M) & ((turned < 0) | mesh.two_sided)
    visible &= (high[:, 0] > -1) & (high[:, 1] > -1) & (low[:, 0] < camera.width) & (low[:, 1] < camera.height)
    shown = np.nonzero(visible)[0]
    middle = face_depth.mean(0)
    scaled = ((corners[:, shown].transpose(1, 0, 2) + 0.5) * supersampling - 0.5) * (1 << _SHIFT)
    outlines = np.ascontiguousarray(np.rint(scaled).astype(np.int32))
    labels = (shown + 1).tolist()
    for index in np.argsort((mesh.bias - middle)[shown], kind="stable").tolist():
        cv2.fillConvexPoly(canvas, outlines[index], labels[index], cv2.LINE_8, _SHIFT)
    bounds = np.searchsorted(objects[shown], np.arange(len(meshes) + 1))
    regions = [_cover(low[shown[a:b]], high[shown[a:b]], camera) for a, b in pairwise(bounds.tolist())]
    return FaceMap(mesh, objects, shown, canvas, np.concatenate([[0], middle]).astype(np.float32), tuple(regions))


def _cover(low: NDArray[np.floating], high: NDArray[np.floating], camera: PinholeCamera) -> Region | None:
    if not len(low):
        return None
    left, top = np.floor(low.min(0) - 1).astype(int).clip(0).tolist()
    right, bottom = np.ceil(high.max(0) + 2).astype(int).tolist()
    right, bottom = min(right, camera.width), min(bottom, camera.height)
    return Region(top, bottom, left, right) if right > left and bottom > top else None
