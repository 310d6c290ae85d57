"""The street that stands still: where buildings, trees, lamps and kerbs are, and which of them each ray meets first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from .geometry import PinholeCamera
from .textures import NoiseTextures

Array32 = NDArray[np.float32]

# Cross-section of the street, world y in metres, from right to left.
RIGHT_FACADE_Y, RIGHT_KERB_Y, LANE_RIGHT_Y, CENTRE_LINE_Y, LANE_LEFT_Y = -5.2, -1.8, 0.8, 4.0, 7.2
LEFT_KERB_Y, LEFT_FACADE_Y = 9.4, 12.6
PAVEMENT_HEIGHT = 0.12
ZEBRA_X = (10.0, 13.2)  # the pedestrian crossing, along the street
FAR_DEPTH = np.float32(1e4)  # depth of the sky


class Material(IntEnum):
    """What a surface is made of."""

    SKY = 0
    ROAD = 1
    PAVEMENT = 2
    KERB = 3
    FACADE = 4
    BARK = 5
    LEAVES = 6
    METAL = 7
    LAMP = 8


@dataclass(frozen=True, eq=False)
class Building:
    """An axis-aligned block, from ``low`` to ``high`` (world metres), and how its walls look."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    colour: tuple[float, float, float]  # albedo of the wall, linear RGB
    bricks: bool
    shops: bool  # wide windows on the ground floor
    bay: float  # distance between windows, metres


@dataclass(frozen=True, eq=False)
class Street:
    """All fixed objects.

    Attributes:
        buildings: blocks.
        trunks: ``[N x 5]``: x, y, radius, bottom z, top z of vertical cylinders of bark.
        crowns: for each tree ``[N x 4]``: x, y, z, radius of the spheres of leaves.
        posts: ``[N x 5]``: like trunks, of metal.
        lamps: ``[N x 4]``: x, y, z, radius of the lamps on the posts.
    """

    buildings: tuple[Building, ...]
    trunks: NDArray[np.float64]
    crowns: tuple[NDArray[np.float64], ...]
    posts: NDArray[np.float64]
    lamps: NDArray[np.float64]


def build_street(seed: int) -> Street:
    """Lay out the street; the seed varies buildings and tree crowns, the cross-section stays."""
    generator = np.random.default_rng([seed, 202])
    buildings = [
        *_row(generator, RIGHT_FACADE_Y - 12, RIGHT_FACADE_Y),
        *_row(generator, LEFT_FACADE_Y, LEFT_FACADE_Y + 12),
        *_end_of_street(generator),
    ]
    feet = [(16.0, -2.6), (29.0, -2.6), (45.0, -2.6), (15.5, 10.2), (27.0, 10.2), (41.0, 10.2), (58.0, 10.2)]
    trunks, crowns = [], []
    for x, y in feet:
        top = generator.uniform(2.6, 3.3)
        trunks.append((x, y, generator.uniform(0.11, 0.17), 0.0, top + 1.6))
        leaves = []
        for _ in range(46):
            direction = generator.standard_normal(3)
            direction *= generator.uniform(0.35, 1.0) / np.linalg.norm(direction)
            centre = np.array([x, y, top + 1.9]) + direction * (1.9, 1.7, 1.6)
            leaves.append((*centre, generator.uniform(0.35, 0.75)))
        crowns.append(np.array(leaves))
    posts, lamps = [], []
    for x, y, inward in ((20.5, -2.2, 1.0), (46.0, -2.2, 1.0), (32.0, 9.8, -1.0), (60.0, 9.8, -1.0)):
        posts.append((x, y, 0.06, 0.0, 6.2))
        lamps.append((x, y + inward * 0.3, 6.1, 0.17))
    return Street(tuple(buildings), np.array(trunks), tuple(crowns), np.array(posts), np.array(lamps))


def _row(generator: np.random.Generator, y_low: float, y_high: float) -> list[Building]:
    palette = ((0.55, 0.47, 0.37), (0.42, 0.19, 0.13), (0.60, 0.58, 0.53), (0.48, 0.36, 0.26), (0.36, 0.37, 0.40))
    order = generator.permutation(len(palette))
    blocks, start = [], -12.0
    for number in range(6):
        length = generator.uniform(12, 19)
        blocks.append(
            Building(
                low=(start, y_low, 0.0),
                high=(start + length, y_high, generator.uniform(8.5, 15.5)),
                colour=palette[order[number % len(palette)]],
                bricks=bool(order[number % len(palette)] in (1, 3)),
                shops=bool(generator.random() < 0.5),
                bay=generator.uniform(2.3, 3.1),
            )
        )
        start += length + (3.5 if number == 2 else 0.0)  # one gap, a side street
    return blocks


def _end_of_street(generator: np.random.Generator) -> list[Building]:
    return [
        Building((112.0, y, 0.0), (124.0, y + 14, height), (0.45, 0.42, 0.40), bricks=False, shops=False, bay=3.0)
        for y, height in zip((-24.0, -10.0, 4.0, 18.0), generator.uniform(9, 20, 4), strict=True)
    ]


class RayHits:
    """First surface along each ray: depth, normal, material and which object of that material."""

    def __init__(self, street: Street, camera: PinholeCamera, textures: NoiseTextures, supersampling: int) -> None:
        self.rays = camera.rays(supersampling)
        self.origin = camera.position.astype(np.float32)
        shape = self.rays.shape[:2]
        self.depth = np.full(shape, FAR_DEPTH, np.float32)
        self.normal = np.zeros((*shape, 3), np.float32)
        self.material = np.full(shape, Material.SKY, np.uint8)
        self.object = np.zeros(shape, np.int16)
        self.camera = camera
        self._supersampling = supersampling
        with np.errstate(divide="ignore", invalid="ignore"):
            self._meet_ground()
            for index, building in enumerate(street.buildings):
                self._meet_building(building, index)
            for number, cylinder in enumerate(street.trunks):
                self._meet_cylinder(cylinder, Material.BARK, number)
            for number, cylinder in enumerate(street.posts):
                self._meet_cylinder(cylinder, Material.METAL, number)
            for number, sphere in enumerate(np.concatenate(street.crowns)):
                self._meet_sphere(sphere, Material.LEAVES, number, textures)
            for number, sphere in enumerate(street.lamps):
                self._meet_sphere(sphere, Material.LAMP, number, None)

    @property
    def position(self) -> Array32:
        """World points that the rays hit, ``[H x W x 3]``, metres."""
        return np.asarray(self.origin + self.rays * self.depth[..., None], dtype=np.float32)

    def _offer(
        self,
        region: tuple[slice, slice],
        depth: Array32,
        normal: Array32,
        *,
        material: Material,
        number: int,
        valid: NDArray[np.bool_],
    ) -> None:
        nearer = valid & (depth > 0.05) & (depth < self.depth[region])
        self.depth[region][nearer] = depth[nearer]
        self.normal[region][nearer] = normal if normal.ndim == 1 else normal[nearer]
        self.material[region][nearer] = material
        self.object[region][nearer] = number

    def _meet_ground(self) -> None:
        everywhere = (slice(None), slice(None))
        x, y, z = np.moveaxis(self.rays, -1, 0)
        up = np.array([0, 0, 1], np.float32)
        down = z < -1e-5
        depth = -self.origin[2] / z
        self._offer(everywhere, depth, up, material=Material.ROAD, number=0, valid=down & (depth * x < 200))
        depth = (PAVEMENT_HEIGHT - self.origin[2]) / z
        across = self.origin[1] + depth * y
        raised = (across < RIGHT_KERB_Y) | (across > LEFT_KERB_Y)
        self._offer(
            everywhere, depth, up, material=Material.PAVEMENT, number=0, valid=down & raised & (depth * x < 200)
        )
        for side, towards_road in ((RIGHT_KERB_Y, 1.0), (LEFT_KERB_Y, -1.0)):
            depth = (side - self.origin[1]) / y
            height = self.origin[2] + depth * z
            normal = np.array([0, towards_road, 0], np.float32)
            valid = (height > 0) & (height < PAVEMENT_HEIGHT)
            self._offer(everywhere, depth, normal, material=Material.KERB, number=0, valid=valid)

    def _meet_building(self, building: Building, number: int) -> None:
        """Meet the walls (slab method); the roof cannot be seen from the street."""
        enter = np.full(self.depth.shape, -FAR_DEPTH, np.float32)
        leave = np.full(self.depth.shape, FAR_DEPTH, np.float32)
        axis_of_entry = np.zeros(self.depth.shape, np.uint8)
        for axis in range(3):
            first = (np.float32(building.low[axis]) - self.origin[axis]) / self.rays[..., axis]
            second = (np.float32(building.high[axis]) - self.origin[axis]) / self.rays[..., axis]
            near, far = np.minimum(first, second), np.maximum(first, second)
            axis_of_entry[near > enter] = axis
            np.maximum(enter, near, out=enter)
            np.minimum(leave, far, out=leave)
        axes = np.eye(3, dtype=np.float32)[axis_of_entry]
        normal = -axes * np.sign(self.rays)
        region = (slice(None), slice(None))
        valid = (enter < leave) & (enter > 0)
        self._offer(region, enter, normal, material=Material.FACADE, number=number, valid=valid)

    def _region(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice] | None:
        """Sub-pixels that a box of the world can cover; None where it is out of view."""
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
        pixels, depth = self.camera.project(corners)
        if np.any(depth < 0.2):
            return None
        first = np.floor((pixels.min(0) - 1) * self._supersampling).astype(int).clip(0)
        last = np.ceil((pixels.max(0) + 2) * self._supersampling).astype(int).clip(0)
        region = slice(first[1], last[1]), slice(first[0], last[0])
        return region if self.depth[region].size else None

    def _meet_cylinder(self, cylinder: NDArray[np.float64], material: Material, number: int) -> None:
        x, y, radius, bottom, top = cylinder
        region = self._region(np.array([x - radius, y - radius, bottom]), np.array([x + radius, y + radius, top]))
        if region is None:
            return
        rays = self.rays[region]
        centre = np.array([x, y], np.float32) - self.origin[:2]
        square = (rays[..., :2] ** 2).sum(-1)
        along = rays[..., :2] @ centre
        root = along**2 - square * np.float32(centre @ centre - radius**2)
        depth = (along - np.sqrt(np.maximum(root, 0))) / square
        height = self.origin[2] + depth * rays[..., 2]
        normal = np.zeros_like(rays)
        normal[..., :2] = (rays[..., :2] * depth[..., None] - centre) / np.float32(radius)
        valid = (root > 0) & (height > bottom) & (height < top)
        self._offer(region, depth, normal, material=material, number=number, valid=valid)

    def _meet_sphere(
        self, sphere: NDArray[np.float64], material: Material, number: int, ragged: NoiseTextures | None
    ) -> None:
        radius = np.float32(sphere[3])
        region = self._region(sphere[:3] - radius, sphere[:3] + radius)
        if region is None:
            return
        rays = self.rays[region]
        centre = sphere[:3].astype(np.float32) - self.origin
        square = (rays**2).sum(-1)
        along = rays @ centre
        root = along**2 - square * np.float32(centre @ centre - radius**2)
        depth = (along - np.sqrt(np.maximum(root, 0))) / square
        normal = (rays * depth[..., None] - centre) / radius
        valid = root > 0
        if ragged is not None:  # leaves: holes where the noise is high, more of them towards the outline
            point = rays * depth[..., None] + self.origin
            holes = ragged.grain(point[..., 1] + 0.4 * point[..., 0], point[..., 2] + 0.3 * point[..., 0], 3.5)
            facing = -(normal * rays).sum(-1) / np.sqrt(square)
            valid &= facing > 0.38 + 0.3 * holes
        self._offer(region, depth, normal, material=material, number=number, valid=valid)
