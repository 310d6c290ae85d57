"""Finds where in an image a region of an instruction is: a soft mask made of what detection and segmentation found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Box, Detection, Image8, Plane
from irvf.imaging.edge_preserving import Scratch, cells, enlarge, reduced
from irvf.instruction.instruction import Polygon, Region

CELL = 4
"""Pixels a side of a cell of the grid that masks are made on; a power of 2."""
FULL, GONE = 0.8, 1.25
"""Where the mask of an object begins to fall and where it has: 0 the middle of its box, 1 its sides."""
LEAST_RADIUS = 1.0
"""Half a side of the smallest object that is masked, in cells: a smaller one would fall between their middles."""
ZONE_FEATHER = 0.02
"""Standard deviation of the blurred border of a zone, as a share of the image's height."""
OUTLINE_SIDE, OUTLINE_DEVIATION, OUTLINE_GAIN = 13, 0.04, 2.0
"""Cells a side of the windows in which an object's outline is looked for, the contrast that is one, and how much of
what is found is added to the mask of its box: twice halves what a box covers beside a person."""
_FRACTION_BITS = 4

Size = tuple[int, int]


class RegionFinder(Protocol):
    """What finds regions: the seam for one that knows other words than the classes of the detector."""

    def __call__(
        self,
        region: Region,
        size: Size,
        detections: Sequence[Detection],
        segmentation: Image8 | None = None,
        labels: tuple[str, ...] = (),
        *,
        guide: Plane | None = None,
    ) -> Plane:
        """Return the mask of a region; see :func:`region_mask`."""


def region_mask(
    region: Region,
    size: Size,
    detections: Sequence[Detection],
    segmentation: Image8 | None = None,
    labels: tuple[str, ...] = (),
    *,
    guide: Plane | None = None,
) -> Plane:
    """Mask a region.

    Objects are where their boxes are, rounded and soft, and where the segmentation has them; with a zone, only what
    lies in it counts. Of what is not seen there is nothing: the mask is 0 everywhere, or 1 if inverted.

    Args:
        region: to find.
        size: height and width of the image, in pixels.
        detections: what was found in it, in its pixels.
        segmentation: class of each pixel, ``[H x W]`` uint8; None where there is none.
        labels: names of those classes, the background first.
        guide: fused luma, ``[H x W]`` float32 in 0..1: masks of boxes then follow the outlines that it shows.

    Returns:
        ``[H x W]`` float32 in 0..1, 1 in the region, with soft borders.
    """
    grid = cells(size, CELL)
    mask = np.ones(grid, np.float32)
    if region.objects is not None:
        mask = _mask_boxes([found.box for found in detections if _is_meant(found.label, region.objects)], size, grid)
        if guide is not None and mask.any():
            mask = _follow_outlines(mask, guide)
        if segmentation is not None:
            mask = np.maximum(mask, _mask_pixels(region.objects, segmentation, labels, grid))
    if region.zone:
        mask = mask * _mask_zone(region.zone, grid)
    if region.inverted:
        mask = 1 - mask
    whole = np.empty(size, np.float32)
    enlarge(mask, whole)
    return whole


def _is_meant(label: str, names: tuple[str, ...]) -> bool:
    return not names or label in names


def _mask_boxes(boxes: Sequence[Box], size: Size, grid: Size) -> Plane:
    """Return the union of superellipses of the fourth degree: 1 well within a box, 0.5 about at its sides."""
    mask = np.zeros(grid, np.float32)
    for box in boxes:
        rows, y = _span(box.y_min, box.y_max, size[0], grid[0])
        columns, x = _span(box.x_min, box.x_max, size[1], grid[1])
        distance = np.sqrt(np.sqrt(np.square(y * y)[:, None] + np.square(x * x)))
        inside = np.clip((GONE - distance) / (GONE - FULL), 0, 1)
        part = mask[rows, columns]
        np.maximum(part, inside * inside * (3 - 2 * inside), out=part)
    return mask


def _span(least: float, most: float, pixels: int, count: int) -> tuple[slice, NDArray[np.float32]]:
    """Return the cells that a box may touch along one axis, and how far from its middle they are, 1 at its sides."""
    scale = count / pixels
    middle, radius = (least + most) / 2 * scale, max((most - least) / 2 * scale, LEAST_RADIUS)
    first, last = (min(max(int(middle + way * GONE * radius), 0), count) for way in (-1, 1))
    centers = np.arange(first, min(last + 1, count), dtype=np.float32) + np.float32(0.5)
    return slice(first, first + len(centers)), (centers - np.float32(middle)) / np.float32(radius)


def _follow_outlines(mask: Plane, guide: Plane) -> Plane:
    """Fit a mask to an image: what the guided filter (He, Sun and Tang, 2010) takes from the guide is added to it.

    The rest of that filter would blur small objects away. Where the image is flat, the mask stays as it is.
    """
    window = OUTLINE_SIDE, OUTLINE_SIDE
    coarse = reduced(guide, CELL, Scratch())
    mean = cv2.blur(coarse, window)
    variance = cv2.blur(coarse * coarse, window) - mean * mean
    covariance = cv2.blur(coarse * mask, window) - mean * cv2.blur(mask, window)
    slope = covariance / (variance + np.float32(OUTLINE_DEVIATION**2))
    fitted = mask + OUTLINE_GAIN * (cv2.blur(slope, window) * coarse - cv2.blur(slope * mean, window))
    return cast("Plane", np.clip(fitted, 0, np.minimum(2 * mask, 1)))


def _mask_pixels(names: tuple[str, ...], segmentation: Image8, labels: tuple[str, ...], grid: Size) -> Plane:
    weights = np.zeros(256, np.uint8)
    weights[[number for number, label in enumerate(labels) if number and _is_meant(label, names)]] = 255
    coarse = cv2.resize(cv2.LUT(segmentation, weights), grid[::-1], interpolation=cv2.INTER_AREA)
    return cast("Plane", cv2.GaussianBlur(coarse * np.float32(1 / 255), (3, 3), 0))


@lru_cache(64)
def _mask_zone(zone: Polygon, grid: Size) -> Plane:
    # fillPoly takes every pixel that the outline touches: drawn on cells, a zone would be a whole cell larger.
    whole = np.zeros((grid[0] * CELL, grid[1] * CELL), np.uint8)
    corners = np.array(zone) * whole.shape[::-1] - 0.5
    cv2.fillPoly(whole, [np.rint(corners * 2**_FRACTION_BITS).astype(np.int32)], 255, shift=_FRACTION_BITS)
    coarse = cv2.resize(whole, grid[::-1], interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    sigma = max(ZONE_FEATHER * grid[0], 0.5)
    return cast("Plane", cv2.GaussianBlur(coarse, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
