"""What each camera of the rig sees: the street, drawn once, and what moves, drawn for every frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import PinholeCamera, convex_hull
from .lighting import SUN_DIRECTION, Weather, headlight_light, lamp_light, sun_visibility
from .materials import street_appearance
from .rasterizer import FaceMap, Region, draw_faces
from .shading import face_geometry, shade_faces
from .street import Material, RayHits, Street
from .textures import NoiseTextures
from .traffic import PlacedObject

Array32 = NDArray[np.float32]

CONTACT_SHADE = 0.7  # share of the sky's light that a car keeps from the road under it
CONTACT_HEAT_K = 3.5  # by how much a running car warms the road under it
HEADLIGHT_GRID = 4  # head-light on the street is computed for every 4th pixel along each axis


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


class View:
    """One camera's look at the street."""

    def __init__(
        self,
        camera: PinholeCamera,
        street: Street,
        textures: NoiseTextures,
        parked: list[PlacedObject],
        weathers: list[Weather],
        supersampling: int,
    ) -> None:
        self.camera, self._street, self._scale = camera, street, supersampling
        self.parked_boxes = np.array(
            [[*o.mesh.vertices.min(0), *o.mesh.vertices.max(0)] for o in parked if o.label == "car"]
        )
        hits = RayHits(street, camera, textures, supersampling)
        self._canvas = np.zeros(hits.depth.shape, np.int32)
        drawn = self._draw(parked)
        in_front = (drawn.faces > 0) & (drawn.depth[drawn.faces] < hits.depth)
        labels = np.where(in_front, drawn.faces, 0)
        instance = np.concatenate([[0], *(np.full(len(o.mesh.faces), o.instance) for o in parked)]).astype(np.uint8)
        self._instances = instance[labels]
        self.parked_regions = {o.instance: region for o, region in zip(parked, drawn.regions) if region}
        self._depth = np.where(in_front, drawn.depth[drawn.faces], hits.depth)
        step = supersampling * HEADLIGHT_GRID
        middle = step // 2
        self._grid_points = hits.position[middle::step, middle::step].reshape(-1, 3)
        self._grid_normals = hits.normal[middle::step, middle::step].reshape(-1, 3)
        sun = self._sunlight(hits) if any(max(weather.sun) > 0 for weather in weathers) else np.zeros_like(hits.depth)
        self.stills = [self._still(hits, textures, weather, sun, parked, labels) for weather in weathers]
        self.still_instances = majority(self._instances, supersampling)

    def _draw(self, objects: list[PlacedObject]) -> FaceMap:
        self._canvas[:] = 0
        return draw_faces([found.mesh for found in objects], self.camera, self._scale, self._canvas)

    def _sunlight(self, hits: RayHits) -> Array32:
        """Visibility of the sun times cosine, on sub-pixels; shadows are traced on whole pixels."""
        middle = self._scale // 2
        points = hits.position[middle :: self._scale, middle :: self._scale].reshape(-1, 3)
        seen = sun_visibility(self._street, points, self.parked_boxes)
        seen = seen.reshape(self.camera.height, self.camera.width)
        seen = cv2.resize(seen, hits.depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(seen * np.maximum(hits.normal @ SUN_DIRECTION.astype(np.float32), 0), dtype=np.float32)

    def _still(
        self,
        hits: RayHits,
        textures: NoiseTextures,
        weather: Weather,
        sun: Array32,
        parked: list[PlacedObject],
        labels: NDArray[np.int32],
    ) -> StillPicture:
        size = (self.camera.width, self.camera.height)
        lit = sun if max(weather.sun) > 0 else np.zeros_like(sun)
        look = street_appearance(hits, self._street, textures, weather, lit)
        up = 0.5 + 0.5 * hits.normal[..., 2:]
        light = np.array(weather.bounce, np.float32) * (1 - up) + np.array(weather.sky, np.float32) * up
        if max(weather.lamp) > 0:
            points, normals = hits.position.reshape(-1, 3), hits.normal.reshape(-1, 3)
            light += lamp_light(self._street.lamps, weather, points, normals).reshape(light.shape)
        rest = look.albedo * light + look.emission
        direct = look.albedo * lit[..., None] * np.array(weather.sun, np.float32)
        ground = np.isin(hits.material, (Material.ROAD, Material.PAVEMENT))[..., None] & (labels == 0)[..., None]
        contact = cv2.resize(self._contact(parked), labels.shape[::-1])[..., None] * ground
        rest *= 1 - np.float32(CONTACT_SHADE) * contact
        colour, temperature, albedo = rest + direct, look.temperature, look.albedo
        if parked:
            shaded = [
                shade_faces(o.mesh, weather, self._street, np.zeros((0, 6)), self.camera.position, np.zeros((0, 6)))
                for o in parked
            ]
            faces, covered = labels[labels > 0] - 1, labels > 0
            colour[covered] = np.concatenate([radiance for radiance, _ in shaded])[faces]
            temperature[covered] = np.concatenate([heat for _, heat in shaded])[faces]
            albedo[covered] = np.concatenate([o.mesh.albedo for o in parked])[faces]
        layers = (colour, temperature, albedo, direct * ground, rest * ground)
        return StillPicture(
            *(cv2.resize(layer.astype(np.float32), size, interpolation=cv2.INTER_AREA) for layer in layers)
        )

    def draw(self, moving: list[PlacedObject]) -> Drawing:
        """Find out where moving objects are seen."""
        return Drawing(self._draw(moving), self._depth, self._instances, self._scale)

    def shade(
        self, moving: list[PlacedObject], weather: Weather, headlights: NDArray[np.float64]
    ) -> list[tuple[Array32, Array32]]:
        """Return radiance ``[F x 3]`` and temperature ``[F]`` (deg C) of the faces of each moving object."""
        eye = self.camera.position
        return [shade_faces(o.mesh, weather, self._street, headlights, eye, self.parked_boxes) for o in moving]

    def _contact(self, objects: list[PlacedObject]) -> Array32:
        """Mask of the ground that lies under cars and feet, soft, ``[H x W]`` in 0..1."""
        mask = np.zeros((self.camera.height, self.camera.width), np.uint8)
        for found in objects:
            low = found.mesh.vertices[found.mesh.vertices[:, 2] < found.mesh.vertices[:, 2].min() + 0.35].copy()
            low[:, 2] = found.mesh.vertices[:, 2].min()
            pixels, depth = self.camera.project(low)
            if found.label != "bicycle" and depth.min() > 0.5:
                hull = np.rint(convex_hull(pixels).clip(-4000, 4000) * 16).astype(np.int32)
                cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_AA, 4)
        width = max(1.0, self.camera.width / 250)
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), width, sigmaY=width / 2) / np.float32(255), dtype=np.float32)

    def darken_ground(
        self, picture: Array32, still: StillPicture, weather: Weather, moving: list[PlacedObject]
    ) -> None:
        """Take moving shadows, and the sky's light under cars and feet, off a picture in place."""
        contact = self._contact(moving)
        rows = np.nonzero(contact.any(1))[0]
        if len(rows):
            band = slice(rows[0], rows[-1] + 1)
            picture[band] -= still.ground_rest[band] * (contact[band] * np.float32(CONTACT_SHADE))[..., None]
        if max(weather.sun) > 0:
            shadow = np.zeros(contact.shape, np.uint8)
            for found in moving:
                self._cast(found, shadow)
            rows = np.nonzero(shadow.any(1))[0]
            if len(rows):
                band = slice(max(rows[0] - 4, 0), rows[-1] + 5)
                soft = cv2.GaussianBlur(shadow[band], (0, 0), 1.1) / np.float32(255)
                picture[band] -= still.ground_sun[band] * soft[..., None]

    def _cast(self, found: PlacedObject, shadow: NDArray[np.uint8]) -> None:
        vertices = found.mesh.vertices
        ground = vertices[:, 2].min()
        height = (vertices[:, 2] - ground)[:, None]
        pixels, depth = self.camera.project(vertices - SUN_DIRECTION / SUN_DIRECTION[2] * height)
        normal = face_geometry(found.mesh)[1]
        sunny = (normal @ SUN_DIRECTION > 0) | found.mesh.two_sided
        faces = found.mesh.faces[sunny & (depth[found.mesh.faces].min(1) > 0.5)]
        for outline in np.rint(pixels[faces].clip(-4000, 4000) * 16).astype(np.int32):
            cv2.fillConvexPoly(shadow, outline, 255, cv2.LINE_8, 4)

    def warm_ground(self, temperature: Array32, moving: list[PlacedObject]) -> None:
        """Add the heat of running cars to the road under them, in place."""
        temperature += self._contact([found for found in moving if found.label == "car"]) * np.float32(CONTACT_HEAT_K)

    def light_street(
        self, picture: Array32, still: StillPicture, weather: Weather, headlights: NDArray[np.float64]
    ) -> None:
        """Add the light of head-lights on the street to a picture in place."""
        if max(weather.headlight) > 0 and len(headlights):
            light = headlight_light(headlights, weather, self._grid_points, self._grid_normals)
            rows = -(-self.camera.height // HEADLIGHT_GRID)
            light = cv2.resize(light.reshape(rows, -1, 3), (self.camera.width, self.camera.height))
            cv2.accumulateProduct(light, still.albedo, picture)


class Drawing:
    """Moving objects on the sub-pixels of a camera."""

    def __init__(self, drawn: FaceMap, depth: Array32, instances: NDArray[np.uint8], scale: int) -> None:
        self._drawn, self._depth, self._instances, self._scale = drawn, depth, instances, scale
        self.regions = drawn.regions
        self._seen = []
        for region in merge([found for found in drawn.regions if found]):
            part = region.slices(scale)
            faces = drawn.faces[part]
            self._seen.append((region, np.where(drawn.depth[faces] < depth[part], faces, 0)))

    def compose(self, picture: Array32, values: Array32) -> None:
        """Lay the objects over a picture ``[H x W (x C)]`` in place; ``values [F x C]`` are those of the faces."""
        with_cover = np.concatenate([values.reshape(len(values), -1), np.ones((len(values), 1), np.float32)], 1)
        table = np.concatenate([np.zeros((1, with_cover.shape[1]), np.float32), with_cover])
        for region, faces in self._seen:
            size = (region.right - region.left, region.bottom - region.top)
            layer = cv2.resize(table[faces], size, interpolation=cv2.INTER_AREA)
            part = picture[region.slices()]
            cover = layer[..., -1:] if part.ndim == 3 else layer[..., -1]
            part *= 1 - cover
            part += layer[..., :-1] if part.ndim == 3 else layer[..., 0]

    def mark(self, mask: NDArray[np.uint8], instances: NDArray[np.uint8]) -> None:
        """Write instance numbers (``[F]``, of the faces) to a mask ``[H x W]`` in place."""
        table = np.concatenate([[0], instances]).astype(np.uint8)
        for region, faces in self._seen:
            found = np.where(faces > 0, table[faces], self._instances[region.slices(self._scale)])
            mask[region.slices()] = majority(found, self._scale)


def majority(values: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Reduce sub-pixels to pixels: the greatest number where it fills half of the pixel, else the smallest."""
    blocks = values.reshape(values.shape[0] // scale, scale, values.shape[1] // scale, scale)
    greatest = blocks.max((1, 3))
    share = (blocks == greatest[:, None, :, None]).sum((1, 3))
    return np.where(share * 2 >= scale * scale, greatest, blocks.min((1, 3)))


def merge(regions: list[Region]) -> list[Region]:
    """Unite regions that overlap, until none do."""
    separate: list[Region] = []
    for region in regions:
        grown = region
        while True:
            apart = [
                o
                for o in separate
                if o.right <= grown.left or o.left >= grown.right or o.bottom <= grown.top or o.top >= grown.bottom
            ]
            if len(apart) == len(separate):
                break
            touched = [grown, *(o for o in separate if o not in apart)]
            grown = Region(
                min(o.top for o in touched),
                max(o.bottom for o in touched),
                min(o.left for o in touched),
                max(o.right for o in touched),
            )
            separate = apart
        separate.append(grown)
    return separate
