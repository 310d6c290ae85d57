"""Draws meshes over the still picture of the street: painter's algorithm on sub-pixels."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import PinholeCamera
from .meshes import Mesh

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


@dataclass(frozen=True, eq=False)
class FaceMap:
    """Which face is seen on each sub-pixel.

    Attributes:
        faces: ``[H x W]`` number of the face, from 1; 0 is the street.
        depth: ``[F + 1]`` depth of each face along the optical axis in metres (0 for number 0).
        regions: where each mesh lies; None where it is out of view.
    """

    faces: NDArray[np.int32]
    depth: NDArray[np.float32]
    regions: tuple[Region | None, ...]


def draw_faces(meshes: list[Mesh], camera: PinholeCamera, supersampling: int, canvas: NDArray[np.int32]) -> FaceMap:
    """Draw meshes, far faces first.

    Args:
        meshes: in the world; their faces are numbered on, from 1.
        camera: looks at them.
        supersampling: sub-pixels along each axis of a pixel.
        canvas: ``[H * supersampling x W * supersampling]``, all 0; written to.
    """
    polygons, depths, order, numbers, regions = [], [np.zeros(1, np.float32)], [], [], []
    first = 1
    for mesh in meshes:
        pixels, depth = camera.project(mesh.vertices)
        face_depth = depth[mesh.faces]
        corners = pixels[mesh.faces]
        middle = face_depth.mean(1)
        depths.append(middle.astype(np.float32))
        diagonal, other = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        # Rows grow downwards, so what is anti-clockwise in the world is negative here.
        turned = diagonal[:, 0] * other[:, 1] - diagonal[:, 1] * other[:, 0]
        low, high = corners.min(1), corners.max(1)
        shown = (face_depth.min(1) > NEAR_M) & ((turned < 0) | mesh.two_sided)
        shown &= (high > -1).all(1) & (low[:, 0] < camera.width) & (low[:, 1] < camera.height)
        regions.append(_cover(low[shown], high[shown], camera))
        polygons.append(corners[shown])
        order.append((middle - mesh.bias)[shown])
        numbers.append(first + np.nonzero(shown)[0])
        first += len(mesh.faces)
    if polygons:
        scaled = ((np.concatenate(polygons) + 0.5) * supersampling - 0.5) * (1 << _SHIFT)
        outlines = np.rint(scaled).astype(np.int32)
        number = np.concatenate(numbers).tolist()
        for index in np.argsort(-np.concatenate(order), kind="stable").tolist():
            cv2.fillConvexPoly(canvas, outlines[index], number[index], cv2.LINE_8, _SHIFT)
    return FaceMap(canvas, np.concatenate(depths), tuple(regions))


def _cover(low: NDArray[np.floating], high: NDArray[np.floating], camera: PinholeCamera) -> Region | None:
    if not len(low):
        return None
    left, top = np.floor(low.min(0) - 1).astype(int).clip(0).tolist()
    right, bottom = np.ceil(high.max(0) + 2).astype(int).tolist()
    right, bottom = min(right, camera.width), min(bottom, camera.height)
    return Region(top, bottom, left, right) if right > left and bottom > top else None
