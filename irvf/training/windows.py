"""Where a training window lies in its image: the same placement for images, masks and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8

VISIBLE_SHARE = 0.35
"""An object of which a window shows less than this share is neither asked for nor held against the network."""

_Boxes = NDArray[np.float32]


@dataclass(frozen=True)
class Placement:
    """Maps an image's pixels to a window's: ``x' = across x + right``, ``y' = down y + below``.

    Attributes:
        width: of the window in pixels.
        height: of the window in pixels.
        across: scale along x; negative where the window is mirrored.
        right: offset along x in pixels.
        down: scale along y.
        below: offset along y in pixels.
    """

    width: int
    height: int
    across: float
    right: float
    down: float
    below: float

    def cut(self, image: Image8, *, border: int = 114, mask: bool = False) -> Image8:
        """Return the window of an image.

        Args:
            image: ``[H x W]`` or ``[H x W x C]`` uint8.
            border: level outside the image.
            mask: whether the values are labels, which must not be mixed.
        """
        # Pixel centres lie at integers for OpenCV, at halves for boxes.
        matrix = np.array(
            [
                [self.across, 0, self.right + self.across / 2 - 0.5],
                [0, self.down, self.below + self.down / 2 - 0.5],
            ]
        )
        return np.asarray(
            cv2.warpAffine(
                image,
                matrix,
                (self.width, self.height),
                flags=cv2.INTER_NEAREST if mask else cv2.INTER_LINEAR,
                borderValue=(border,) * 4,
            ),
            np.uint8,
        )

    def move(self, boxes: _Boxes) -> tuple[_Boxes, NDArray[np.float32]]:
        """Return boxes ``[N x 4]`` in the window's pixels, clipped to it, and the share of each that it shows."""
        moved = boxes * np.array([self.across, self.down] * 2) + np.array([self.right, self.below] * 2)
        if self.across < 0:
            moved = moved[:, [2, 1, 0, 3]]
        clipped = moved.clip(0, [self.width, self.height] * 2)
        area = (moved[:, 2:] - moved[:, :2]).prod(-1)
        shown = (clipped[:, 2:] - clipped[:, :2]).prod(-1) / np.maximum(area, 1e-6)
        return clipped.astype(np.float32), shown.astype(np.float32)


def place_window(
    image_size: tuple[int, int],
    boxes: _Boxes,
    labels: NDArray[np.int64],
    *,
    window_size: tuple[int, int],
    scales: tuple[float, float],
    rng: np.random.Generator,
) -> Placement:
    """Place a window at random: rescaled, maybe mirrored, half of the time around an object.

    A rare class is chosen as often as a common one.

    Args:
        image_size: height and width of the image.
        boxes: objects, ``[G x 4]`` in pixels.
        labels: ``[G]`` class indices.
        window_size: height and width of the window.
        scales: lowest and highest scale of the image.
        rng: source of all randomness.
    """
    rows, columns = image_size
    height, width = window_size
    scale = float(np.exp(rng.uniform(*np.log(scales))))
    if len(boxes) and rng.uniform() < 0.5:
        label = rng.choice(np.unique(labels))
        box = boxes[rng.choice(np.flatnonzero(labels == label))]
        x, y = rng.uniform(box[:2], box[2:])
        left, top = x - rng.uniform(0.2, 0.8) * width / scale, y - rng.uniform(0.2, 0.8) * height / scale
    else:
        left = rng.uniform(min(0.0, columns - width / scale), max(0.0, columns - width / scale))
        top = rng.uniform(min(0.0, rows - height / scale), max(0.0, rows - height / scale))
    if rng.integers(2):
        return Placement(width, height, -scale, width + scale * left, scale, -scale * top)
    return Placement(width, height, scale, -scale * left, scale, -scale * top)
