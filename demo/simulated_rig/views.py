"""What each camera of the rig sees: the street, drawn once, and what moves, drawn for every frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import PinholeCamera, convex_hull
from .lighting import SUN_DIRECTION, Weather, headlight_light
from .rasterizer import FaceMap, draw_faces, unite
from .shading import Faces, Shade, face_geometry, face_radiance, face_temperature, see_faces
from .still import StillPicture, paint_street, sunlight
from .street import RayHits, Street
from .textures import NoiseTextures
from .traffic import PlacedObject

Array32 = NDArray[np.float32]

CONTACT_SHADE = 0.7  # share of the sky's light that a car keeps from the road under it
CONTACT_HEAT_K = 3.5  # by how much a running car warms the road under it
HEADLIGHT_GRID = 4  # head-light on the street is computed for every 4th pixel along each axis
_FAR_PIXEL = 4000.0  # corners of shadows are moved to here when they lie farther outside of the image


class View:
    """One camera's look at the street.

    Attributes:
        camera: its geometry.
        stills: the street in each weather.
        still_instances: ``[H x W]`` instance numbers of parked objects, 0 elsewhere.
        parked_regions: where parked objects lie in the image, by instance number.
    """

    def __init__(
        self,
        camera: PinholeCamera,
        street: Street,
        textures: NoiseTextures,
        parked: list[PlacedObject],
        *,
        weathers: list[Weather],
        supersampling: int,
    ) -> None:
        self.camera, self._street, self._scale = camera, street, supersampling
        corners = [(*o.mesh.vertices.min(0), *o.mesh.vertices.max(0)) for o in parked if o.label == "car"]
        boxes = np.array(corners).reshape(-1, 6)
        self._shade = Shade(street, boxes)
        hits = RayHits(street, camera, textures, supersampling)
        self._canvas = np.zeros(hits.depth.shape, np.int32)
        drawn = draw_faces([o.mesh for o in parked], camera, supersampling, self._canvas)
        labels = np.where(drawn.depth[drawn.faces] < hits.depth, drawn.faces, 0)
        numbers = np.array([o.instance for o in parked], np.uint8)[drawn.objects]
        self._instances = np.concatenate([[0], numbers]).astype(np.uint8)[labels]
        self.still_instances = majority(self._instances, supersampling)
        self.parked_regions = {o.instance: region for o, region in zip(parked, drawn.regions, strict=True) if region}
        self._depth = np.where(labels > 0, drawn.depth[labels], hits.depth)
        grid = slice(supersampling * HEADLIGHT_GRID // 2, None, supersampling * HEADLIGHT_GRID)
        self._grid_rows = len(hits.depth[grid])
        self._grid_points = hits.position[grid, grid].reshape(-1, 3)
        self._grid_normals = hits.normal[grid, grid].reshape(-1, 3)
        sunny = any(max(weather.sun) > 0 for weather in weathers)
        sun = sunlight(hits, street, boxes, supersampling) if sunny else np.zeros_like(hits.depth)
        free_sky = 1 - CONTACT_SHADE * cv2.resize(self._contact(parked), labels.shape[::-1])
        self.stills = [
            paint_street(
                hits,
                street,
                textures,
                weather,
                sun,
                free_sky=free_sky,
                parked=self._parked_look(drawn, weather, labels),
            )
            for weather in weathers
        ]

    def _parked_look(
        self, drawn: FaceMap, weather: Weather, labels: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], Array32, Array32, Array32]:
        """Where parked objects are seen on the sub-pixels, and their radiance, temperature and albedo there."""
        faces = self._see(drawn, weather)
        face = np.searchsorted(drawn.shown, labels[labels > 0] - 1)
        radiance = face_radiance(faces, weather, self._street, np.zeros((0, 6)))
        return (
            labels > 0,
            radiance[face],
            face_temperature(faces, weather)[face],
            faces.mesh.albedo[face].astype(np.float32),
        )

    def _see(self, drawn: FaceMap, weather: Weather) -> Faces:
        shown, eye = drawn.shown, self.camera.position
        shade = self._shade if max(weather.sun) > 0 else None
        return see_faces(drawn.mesh.subset(shown), drawn.objects[shown], shown.astype(np.int32), eye, shade)

    def draw(self, moving: list[PlacedObject]) -> Drawing:
        """Find out where moving objects, at least one, are seen."""
        drawn = draw_faces([o.mesh for o in moving], self.camera, self._scale, self._canvas)
        return Drawing(drawn, self._depth, self._instances, self._scale)

    def radiance(self, drawing: Drawing, weather: Weather, headlights: NDArray[np.float64]) -> Array32:
        """Radiance of the faces that a drawing shows, ``[S x 3]``."""
        return face_radiance(self._see(drawing.drawn, weather), weather, self._street, headlights)

    def temperature(self, drawing: Drawing, weather: Weather) -> Array32:
        """Apparent temperature of the faces that a drawing shows, ``[S]`` in deg C."""
        return face_temperature(self._see(drawing.drawn, weather), weather)

    def darken_ground(
        self, picture: Array32, still: StillPicture, weather: Weather, moving: list[PlacedObject], drawing: Drawing
    ) -> None:
        """Take moving shadows, and the sky's light under cars and feet, off a picture in place."""
        contact = self._contact(moving)
        rows = np.nonzero(contact.any(1))[0]
        if len(rows):
            band = slice(rows[0], rows[-1] + 1)
            picture[band] -= still.ground_rest[band] * (contact[band] * np.float32(CONTACT_SHADE))[..., None]
        if max(weather.sun) > 0:
            shadow = self._cast(drawing.drawn)
            rows = np.nonzero(shadow.any(1))[0]
            if len(rows):
                band = slice(max(rows[0] - 4, 0), rows[-1] + 5)
                soft = cv2.GaussianBlur(shadow[band], (0, 0), 1.1) / np.float32(255)
                picture[band] -= still.ground_sun[band] * soft[..., None]

    def _contact(self, objects: list[PlacedObject]) -> Array32:
        """Mask of the ground that lies under cars and feet, soft, ``[H x W]`` in 0..1."""
        mask = np.zeros((self.camera.height, self.camera.width), np.uint8)
        for found in objects:
            low = found.mesh.vertices[found.mesh.vertices[:, 2] < found.mesh.vertices[:, 2].min() + 0.35].copy()
            low[:, 2] = low[:, 2].min()
            pixels, depth = self.camera.project(low)
            if found.label != "bicycle" and depth.min() > 0.5:
                hull = convex_hull(pixels).clip(-_FAR_PIXEL, _FAR_PIXEL)
                cv2.fillConvexPoly(mask, np.rint(hull * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        width = max(1.0, self.camera.width / 250)
        soft = cv2.GaussianBlur(mask, (0, 0), width, sigmaY=width / 2)
        return np.asarray(soft / np.float32(255), dtype=np.float32)

    def _cast(self, drawn: FaceMap) -> NDArray[np.uint8]:
        """Mask of the shadows of moving objects on the ground, ``[H x W]``, 255 in the shadow."""
        shadow = np.zeros((self.camera.height, self.camera.width), np.uint8)
        mesh = drawn.mesh
        height = np.maximum(mesh.vertices[:, 2:], 0)
        pixels, depth = self.camera.project(mesh.vertices - SUN_DIRECTION / SUN_DIRECTION[2] * height)
        sunny = (face_geometry(mesh)[1] @ SUN_DIRECTION.astype(np.float32) > 0) | mesh.two_sided
        corners, size = pixels[mesh.faces], np.array([self.camera.width, self.camera.height])
        inside = np.all((corners > 0) & (corners < size), axis=2)
        sunny &= (depth[mesh.faces.T].min(0) > 0.5) & inside.any(axis=1)
        for outline in np.rint(corners[sunny].clip(-_FAR_PIXEL, _FAR_PIXEL) * 16).astype(np.int32):
            cv2.fillConvexPoly(shadow, outline, 255, cv2.LINE_8, 4)
        return shadow

    def warm_ground(self, temperature: Array32, moving: list[PlacedObject]) -> None:
        """Add the heat of running cars to the road under them, in place."""
        temperature += self._contact([found for found in moving if found.label == "car"]) * np.float32(CONTACT_HEAT_K)

    def light_street(
        self, picture: Array32, still: StillPicture, weather: Weather, headlights: NDArray[np.float64]
    ) -> None:
        """Add the light of head-lights on the street to a picture in place."""
        if max(weather.headlight) > 0 and len(headlights):
            coarse = headlight_light(headlights, weather, self._grid_points, self._grid_normals)
            light = cv2.resize(coarse.reshape(self._grid_rows, -1, 3), (self.camera.width, self.camera.height))
            cv2.accumulateProduct(light, still.albedo, picture)


class Drawing:
    """Moving objects on the sub-pixels of a camera.

    Attributes:
        drawn: faces of the objects, before the street hides any.
    """

    def __init__(self, drawn: FaceMap, depth: Array32, instances: NDArray[np.uint8], scale: int) -> None:
        self.drawn, self._instances, self._scale = drawn, instances, scale
        self._seen = []
        for region in unite([found for found in drawn.regions if found]):
            part = region.slices(scale)
            faces = drawn.faces[part]
            self._seen.append((region, np.where(drawn.depth[faces] < depth[part], faces, 0)))

    def compose(self, picture: Array32, values: Array32) -> None:
        """Lay the objects over a picture ``[H x W (x C)]`` in place; ``values [S (x C)]`` are those of shown faces."""
        channels = values.reshape(len(values), -1)
        table = np.zeros((len(self.drawn.depth), channels.shape[1] + 1), np.float32)
        table[self.drawn.shown + 1, :-1] = channels
        table[self.drawn.shown + 1, -1] = 1
        for region, faces in self._seen:
            size = (region.right - region.left, region.bottom - region.top)
            layer = cv2.resize(table[faces], size, interpolation=cv2.INTER_AREA)
            part = picture[region.slices()].reshape(*layer.shape[:2], -1)  # a view: slices keep the channels together
            part *= 1 - layer[..., -1:]
            part += layer[..., :-1]

    def mark(self, mask: NDArray[np.uint8], instances: NDArray[np.uint8]) -> None:
        """Write instance numbers, ``[O]`` of the objects, to a mask ``[H x W]`` in place."""
        table = np.concatenate([[0], instances[self.drawn.objects]]).astype(np.uint8)
        for region, faces in self._seen:
            found = np.where(faces > 0, table[faces], self._instances[region.slices(self._scale)])
            mask[region.slices()] = majority(found, self._scale)


def majority(values: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Reduce sub-pixels to pixels: the greatest number where it fills half of the pixel, else the smallest."""
    parts = [values[row::scale, column::scale] for row in range(scale) for column in range(scale)]
    greatest, smallest = np.maximum.reduce(parts), np.minimum.reduce(parts)
    share = np.add.reduce([part == greatest for part in parts], dtype=np.uint8)
    chosen = np.where(share * 2 >= scale * scale, greatest, smallest)
    return np.asarray(chosen, dtype=np.uint8)
