"""The values that walk through the program: frames, pairs, detections and results.

All are immutable; arrays inside them are shared, never written to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]
Plane = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image as it arrived.

    Attributes:
        image: ``[H x W]`` or ``[H x W x C]``, dtype as the encoding says; may be a view of a message's memory.
        encoding: name of the pixel layout as in ``sensor_msgs/image_encodings``, e.g. ``mono16``, ``bgr8``, ``32FC1``.
        stamp: capture time in nanoseconds.
        frame_id: coordinate frame of the camera (REP 103 optical frame).
    """

    image: NDArray[Any]
    encoding: str
    stamp: int = 0
    frame_id: str = ""

    @property
    def height(self) -> int:
        """Rows of the image."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Columns of the image."""
        return int(self.image.shape[1])


@dataclass(frozen=True, eq=False)
class FramePair:
    """A thermal and an RGB frame of (nearly) the same moment."""

    thermal: Frame
    rgb: Frame

    @property
    def gap(self) -> int:
        """Thermal stamp minus RGB stamp, in nanoseconds."""
        return self.thermal.stamp - self.rgb.stamp


@dataclass(frozen=True)
class Box:
    """Axis-aligned box in pixels of the image it was found in.

    Coordinates are continuous: 0 is the left (top) edge of the first pixel, the image's width (height) the
    right (bottom) edge of the last.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @property
    def width(self) -> float:
        """Extent along x in pixels."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """Extent along y in pixels."""
        return self.y_max - self.y_min

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, ``(x, y)`` in pixels."""
        return (self.x_min + self.x_max) / 2, (self.y_min + self.y_max) / 2


@dataclass(frozen=True)
class Detection:
    """One object: where, what, and how sure (``score`` in 0..1)."""

    box: Box
    label: str
    score: float


class Source(str, Enum):
    """What an image shows."""

    BOTH = "both"
    RGB = "rgb"
    THERMAL = "thermal"


@dataclass(frozen=True, eq=False)
class FusionResult:
    """What one pair, or a frame of one camera alone, became.

    Attributes:
        fused: ``[H x W x 3]`` uint8 RGB, the size of the RGB frame; of the thermal frame where that is alone.
        detections: objects in pixels of ``fused``; empty when nothing was seen or the task does not detect.
        segmentation: class of each pixel of ``fused``, ``[H x W]`` uint8, 0 the background; None when the task does not
            segment.
        saliency: how much each pixel of ``fused`` stands out, ``[H x W]`` 0..255; None when the task does not ask.
        stage_ms: wall time of each stage in milliseconds, in the order in which the stages ran.
        source: what ``fused`` shows.
        note: why it shows one camera alone; empty where it shows both.
        misalignment_px: estimated distance between what both cameras show, in pixels of ``fused``; None while it is not
            known.
    """

    fused: Image8
    detections: tuple[Detection, ...] = ()
    segmentation: Image8 | None = None
    saliency: Image8 | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)
    source: Source = Source.BOTH
    note: str = ""
    misalignment_px: float | None = None
