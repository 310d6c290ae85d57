"""How an image of any size lies in the input of a network of a fixed size, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8, Plane

PADDING_GREY = 114

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Letterbox:
    """How an image lies in the network's input: scaled with its aspect, centred, grey around.

    Attributes:
        input_size: height and width of the network's input.
        content_size: height and width of the scaled image in it, whole pixels.
        image_size: height and width of the image.
    """

    input_size: tuple[int, int]
    content_size: tuple[int, int]
    image_size: tuple[int, int]

    @classmethod
    def fit(cls, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """Lay an image of one size into an input of another."""
        scale = min(inner / outer for inner, outer in zip(input_size, image_size, strict=True))
        height, width = (max(1, round(side * scale)) for side in image_size)
        return cls(input_size, (height, width), image_size)

    @property
    def offset(self) -> tuple[int, int]:
        """Rows above and columns left of the content."""
        return (self.input_size[0] - self.content_size[0]) // 2, (self.input_size[1] - self.content_size[1]) // 2

    def apply(self, image: Image8) -> Image8:
        """Return ``[input height x input width x 3]`` uint8."""
        (top, left), (height, width) = self.offset, self.content_size
        canvas = np.full((*self.input_size, 3), PADDING_GREY, np.uint8)
        if self.content_size != self.image_size:
            shrinks = height < self.image_size[0] or width < self.image_size[1]
            interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = cast("Image8", cv2.resize(image, (width, height), interpolation=interpolation))
        canvas[top : top + height, left : left + width] = image
        return canvas

    def undo(self, corners: _Floats) -> _Floats:
        """Map ``[N x 4]`` x_min, y_min, x_max, y_max from the input's to the image's pixels.

        Rows and columns are scaled by their own, rounded, factor: by what the pixels were really scaled.
        """
        top, left = self.offset
        down, across = np.divide(self.image_size, self.content_size)
        moved: _Floats = corners - np.array([left, top, left, top])
        moved *= np.array([across, down, across, down])
        return moved

    def undo_plane(self, plane: Plane) -> Plane:
        """Resample a plane that covers the input bilinearly at the pixels of the image.

        One step, because the border of the content may lie inside a pixel of a coarser plane.

        Args:
            plane: ``[h x w]``, h and w whole fractions of the input's height and width.

        Returns:
            ``[image height x image width]``.
        """
        scales, shifts = [], []
        for axis in (1, 0):
            stride = self.input_size[axis] / plane.shape[axis]
            scale = self.content_size[axis] / self.image_size[axis] / stride
            scales.append(scale)
            # Coordinates of OpenCV are those of pixel centres.
            shifts.append(self.offset[axis] / stride + scale / 2 - 0.5)
        to_plane = np.array([[scales[0], 0, shifts[0]], [0, scales[1], shifts[1]]])
        height, width = self.image_size
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(plane, to_plane, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return cast("Plane", moved)
