"""The simulated rig: frames of both cameras with the truth about them, for any moment of the sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Box

from .clock import capture_stamps
from .config import RigConfig
from .geometry import PinholeCamera, convex_hull, rgb_camera, thermal_camera
from .lighting import DAY, NIGHT, Weather
from .rasterizer import Region
from .sensors import RgbSensor, ThermalSensor
from .still import StillPicture
from .street import build_street
from .textures import NoiseTextures
from .traffic import LABELS, PlacedObject, Traffic
from .views import Drawing, View

MIN_PIXELS = 24  # objects of which fewer pixels are seen are left out of the boxes
MIN_VISIBLE = 0.12  # and those of which a smaller share is seen (unhidden people reach about 0.6)


@dataclass(frozen=True)
class TrueBox:
    """Where an object is seen in the RGB image.

    Attributes:
        box: around the visible part.
        label: "person", "bicycle" or "car"; a cyclist is a person on a bicycle.
        instance: number of the object, the same in all frames.
        visible: seen pixels over the area of the convex hull of its whole outline within the image.
    """

    box: Box
    label: str
    instance: int
    visible: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Both cameras at one tick.

    Attributes:
        index: number of the frame in the sequence.
        rgb: ``[H x W x 3]`` RGB.
        thermal: ``[H x W]`` radiometric counts in the thermal camera's own geometry; None at ticks without one.
        stamp: capture time of the RGB image, nanoseconds.
        thermal_stamp: capture time of the thermal image, nanoseconds.
        boxes: what is seen in the RGB image's geometry, at its capture time.
        class_mask: ``[H x W]``, indices of :data:`LABELS`, in the RGB image's geometry.
        instance_mask: ``[H x W]``, instance numbers, 0 for the street.
    """

    index: int
    rgb: NDArray[np.uint8]
    thermal: NDArray[np.uint16] | None
    stamp: int
    thermal_stamp: int
    boxes: tuple[TrueBox, ...]
    class_mask: NDArray[np.uint8]
    instance_mask: NDArray[np.uint8]


class SimulatedRig:
    """A thermal and an RGB camera side by side in a street; iterate over it, or ask for any frame.

    Args:
        config: everything that can be chosen; the same configuration gives the same pixels, in any order.
    """

    def __init__(self, config: RigConfig) -> None:
        self.config = config
        self.rgb_camera, self.thermal_camera = rgb_camera(config), thermal_camera(config)
        self._weathers = {"day": [DAY], "night": [NIGHT], "dusk": [DAY, NIGHT]}[config.light]
        self._traffic = Traffic(config.seed, night=config.light != "day")
        textures, street = NoiseTextures(config.seed), build_street(config.seed)

        parked = self._traffic.parked

        def view(camera: PinholeCamera) -> View:
            return View(camera, street, textures, parked, weathers=self._weathers, supersampling=config.supersampling)

        self._rgb_view, self._thermal_view = view(self.rgb_camera), view(self.thermal_camera)
        self._rgb_sensor, self._thermal_sensor = RgbSensor(config), ThermalSensor(config)

    def __len__(self) -> int:
        """Return the number of RGB frames."""
        return self.config.frames

    def __iter__(self) -> Iterator[Sample]:
        """Go through the sequence."""
        return (self.sample(index) for index in range(len(self)))

    def sample(self, index: int) -> Sample:
        """Return a frame, 0 to ``len(self) - 1``.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} was asked for; the sequence has frames 0 to {len(self) - 1}")
        stamp, thermal_stamp = capture_stamps(self.config, index)
        moving = self._traffic.at(self._seconds(stamp))
        drawing = self._rgb_view.draw(moving)
        boxes, class_mask, instance_mask = self._truth(moving, drawing)
        return Sample(
            index=index,
            rgb=self._rgb(index, stamp, moving, drawing),
            thermal=None if index % self.config.thermal_every else self._thermal(index, thermal_stamp),
            stamp=stamp,
            thermal_stamp=thermal_stamp,
            boxes=boxes,
            class_mask=class_mask,
            instance_mask=instance_mask,
        )

    def _seconds(self, stamp: int) -> float:
        return (stamp - self.config.start_stamp_ns) / 1e9

    def _weights(self, stamp: int) -> list[float]:
        """Share of each weather at a time."""
        if len(self._weathers) == 1:
            return [1.0]
        night = float(np.clip(self._seconds(stamp) / self.config.duration_s, 0, 1))
        return [1 - night, night]

    def _mixed(self, stamp: int, view: View) -> list[tuple[float, Weather, StillPicture]]:
        shares = zip(self._weights(stamp), self._weathers, view.stills, strict=True)
        return [(share, weather, still) for share, weather, still in shares if share > 0]

    def _rgb(self, index: int, stamp: int, moving: list[PlacedObject], drawing: Drawing) -> NDArray[np.uint8]:
        view, total = self._rgb_view, np.zeros((self.config.rgb_height, self.config.rgb_width, 3), np.float32)
        headlights = self._traffic.headlights(self._seconds(stamp))
        for share, weather, still in self._mixed(stamp, view):
            picture = still.colour.copy()
            view.darken_ground(picture, still, weather, moving, drawing)
            view.light_street(picture, still, weather, headlights)
            drawing.compose(picture, view.radiance(drawing, weather, headlights))
            cv2.scaleAdd(picture, share, total, total)
        night = 1.0 if self.config.light == "night" else self._weights(stamp)[-1] * (self.config.light == "dusk")
        return self._rgb_sensor.expose(total, index, night)

    def _thermal(self, index: int, stamp: int) -> NDArray[np.uint16]:
        return self._thermal_sensor.expose(self.temperature(stamp), index)

    def temperature(self, stamp: int) -> NDArray[np.float32]:
        """Apparent temperature that reaches the thermal camera, before its optics and noise.

        Args:
            stamp: time in nanoseconds.

        Returns:
            ``[H x W]`` in deg C.
        """
        view = self._thermal_view
        moving = self._traffic.at(self._seconds(stamp))
        drawing = view.draw(moving)
        total = np.zeros((self.config.thermal_height, self.config.thermal_width), np.float32)
        for share, weather, still in self._mixed(stamp, view):
            picture = still.temperature.copy()
            view.warm_ground(picture, moving)
            drawing.compose(picture, view.temperature(drawing, weather))
            cv2.scaleAdd(picture, share, total, total)
        return total

    def _truth(
        self, moving: list[PlacedObject], drawing: Drawing
    ) -> tuple[tuple[TrueBox, ...], NDArray[np.uint8], NDArray[np.uint8]]:
        view = self._rgb_view
        mask = view.still_instances.copy()
        drawing.mark(mask, np.array([found.instance for found in moving], np.uint8))
        everything = [*self._traffic.parked, *moving]
        label_of = np.zeros(256, np.uint8)
        for found in everything:
            label_of[found.instance] = LABELS.index(found.label)
        regions = [*(view.parked_regions.get(o.instance) for o in self._traffic.parked), *drawing.drawn.regions]
        boxes = [self._box(found, region, mask) for found, region in zip(everything, regions, strict=True) if region]
        return tuple(box for box in boxes if box), label_of[mask], mask

    def _box(self, found: PlacedObject, region: Region, mask: NDArray[np.uint8]) -> TrueBox | None:
        seen = mask[region.slices()] == found.instance
        pixels = int(seen.sum())
        corners, depth = self.rgb_camera.project(found.mesh.vertices)
        hull = convex_hull(corners[depth > 0.1].clip((0, 0), (self.config.rgb_width, self.config.rgb_height)))
        x, y = hull[:, 0], hull[:, 1]
        area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
        visible = min(1.0, pixels / max(area, 1.0))
        if pixels < MIN_PIXELS or visible < MIN_VISIBLE:
            return None
        rows, columns = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
        box = Box(
            x_min=float(region.left + columns[0]),
            y_min=float(region.top + rows[0]),
            x_max=float(region.left + columns[-1] + 1),
            y_max=float(region.top + rows[-1] + 1),
        )
        return TrueBox(box, found.label, found.instance, visible)
