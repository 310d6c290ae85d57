"""Masks grown from boxes with GrabCut on the thermal image, where no true masks exist.

They are pseudo-labels: right inside most objects, wrong at many borders. Every figure that rests on them says so.
GrabCut: Rother, Kolmogorov and Blake, SIGGRAPH 2004.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8

IGNORED = 255
"""Value of pixels that nothing is asked of."""
LEAST_CONTRAST = 8.0
"""Mean thermal difference to the surroundings, in grey levels, from which on an object counts as salient."""
_ROUNDS = 3
_MARGIN = 0.35
"""Surroundings of a box that GrabCut learns the background from, as a share of the box's sides."""
_CORE = 0.25
"""Share of the box's sides around its middle that belongs to the object for sure."""
_LEAST_SHARE = 0.2
"""Below this share of the box the cut has lost the object: the box with round corners stands in for it."""
_SMALLEST_SIDE = 6
_WORKING_SIDE = 96
"""Larger boxes are cut at a smaller scale, for speed: their borders are rough in any case."""

_Boxes = NDArray[np.float32]
_Mask = NDArray[np.bool_]


def object_masks(thermal: Image8, boxes: _Boxes) -> list[_Mask]:
    """Grow a mask in each box.

    Args:
        thermal: ``[H x W]`` uint8.
        boxes: ``[G x 4]`` x_min, y_min, x_max, y_max in pixels.

    Returns:
        For each box ``[H x W]`` bool, true inside the object, nowhere outside the box.
    """
    return [_grow(thermal, box) for box in boxes.tolist()]


def _grow(thermal: Image8, box: list[float]) -> _Mask:
    height, width = thermal.shape
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, max(round(box[2]), left + 1)), min(height, max(round(box[3]), top + 1))
    mask = np.zeros((height, width), bool)
    box_width, box_height = right - left, bottom - top
    if min(box_width, box_height) < _SMALLEST_SIDE:
        mask[top:bottom, left:right] = True
        return mask
    across, down = max(4, round(_MARGIN * box_width)), max(4, round(_MARGIN * box_height))
    x0, y0 = max(0, left - across), max(0, top - down)
    region = thermal[y0 : min(height, bottom + down), x0 : min(width, right + across)]
    inner = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
    scale = _WORKING_SIDE / max(box_width, box_height)
    if scale < 1:
        small = np.asarray(cv2.resize(region, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        bounds = [edge * scale for span in inner for edge in (span.start, span.stop)]
        cut = _cut(small, *(round(edge) for edge in bounds))
        grown = cv2.resize(cut.astype(np.uint8), (box_width, box_height), interpolation=cv2.INTER_LINEAR).astype(bool)
    else:
        grown = _cut(region, inner[0].start, inner[0].stop, inner[1].start, inner[1].stop)
    if grown.mean() < _LEAST_SHARE:
        grown = ~_outside_rounded(box_height, box_width)
    mask[top:bottom, left:right] = grown
    return mask


def _cut(region: Image8, top: int, bottom: int, left: int, right: int) -> _Mask:
    """Run GrabCut in a region whose rows ``top..bottom`` and columns ``left..right`` hold the object.

    Returns:
        ``[bottom - top x right - left]`` bool.
    """
    box_height, box_width = bottom - top, right - left
    inner = (slice(top, bottom), slice(left, right))
    labels = np.full(region.shape, cv2.GC_BGD, np.uint8)
    labels[inner] = cv2.GC_PR_FGD
    core_x, core_y = round(box_width * (1 - _CORE) / 2), round(box_height * (1 - _CORE) / 2)
    labels[inner][core_y : box_height - core_y, core_x : box_width - core_x] = cv2.GC_FGD
    # The corners of a box rarely belong to the object, and GrabCut needs some background it is unsure of.
    labels[inner][_outside_rounded(box_height, box_width)] = cv2.GC_PR_BGD
    # GrabCut models colours: the level, the level of the neighbourhood and the local contrast stand in for them.
    smooth = cv2.GaussianBlur(region, (5, 5), 0)
    contrast = cv2.convertScaleAbs(cv2.Sobel(smooth, cv2.CV_16S, 1, 0), alpha=0.25)
    cv2.setRNGSeed(0)  # its mixture models start from random clusters
    try:
        cv2.grabCut(
            cv2.merge((region, smooth, contrast)), labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )  # fmt: skip
    except cv2.error:  # too few pixels of one kind
        labels[inner] = np.where(_outside_rounded(box_height, box_width), cv2.GC_PR_BGD, cv2.GC_PR_FGD)
    grown = np.isin(labels[inner], (cv2.GC_FGD, cv2.GC_PR_FGD))
    opened: _Mask = cv2.morphologyEx(grown.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)
    return opened


def _outside_rounded(height: int, width: int) -> _Mask:
    """Say which pixels of a box lie in its rounded corners (outside a cubic superellipse), ``[height x width]``."""
    y, x = np.ogrid[:height, :width]
    outside: _Mask = abs((x + 0.5) / width * 2 - 1) ** 3 + abs((y + 0.5) / height * 2 - 1) ** 3 > 1
    return outside


def semantic_mask(thermal: Image8, boxes: _Boxes, labels: NDArray[np.int64], ignored_boxes: _Boxes) -> Image8:
    """Return the pseudo-label of every pixel.

    Args:
        thermal: ``[H x W]`` uint8.
        boxes: ``[G x 4]`` in pixels.
        labels: ``[G]`` class indices.
        ignored_boxes: ``[I x 4]`` objects that only another annotation pass names.

    Returns:
        ``[H x W]`` uint8: 0 background, class index + 1, :data:`IGNORED` in the ignored boxes. Where objects
        overlap, the one whose box reaches lower in the image is in front.
    """
    result = _ignore(thermal, ignored_boxes)
    masks = object_masks(thermal, boxes)
    for index in np.argsort(boxes[:, 3], kind="stable"):
        result[masks[index]] = labels[index] + 1
    return result


def saliency_mask(thermal: Image8, boxes: _Boxes, ignored_boxes: _Boxes) -> Image8:
    """Return the pseudo-label of what stands out: labelled objects warmer than their surroundings.

    Args:
        thermal: ``[H x W]`` uint8.
        boxes: ``[G x 4]`` in pixels.
        ignored_boxes: as in :func:`semantic_mask`.

    Returns:
        ``[H x W]`` uint8: 0, 1, and :data:`IGNORED` in the ignored boxes and on objects that are not
        :data:`LEAST_CONTRAST` warmer than what is around them.
    """
    result = _ignore(thermal, ignored_boxes)
    masks = object_masks(thermal, boxes)
    salient = [bool(mask.any()) and _contrast(thermal, mask, boxes) >= LEAST_CONTRAST for mask in masks]
    for wanted, value in ((False, IGNORED), (True, 1)):
        for mask, stands_out in zip(masks, salient, strict=True):
            if stands_out == wanted:
                result[mask] = value
    return result


def _ignore(thermal: Image8, boxes: _Boxes) -> Image8:
    result = np.zeros(thermal.shape, np.uint8)
    for left, top, right, bottom in boxes.round().astype(int).tolist():
        result[max(0, top) : bottom, max(0, left) : right] = IGNORED
    return result


def _contrast(thermal: Image8, mask: _Mask, boxes: _Boxes) -> float:
    """Mean thermal level in the mask minus the median around it, other objects left out, in grey levels."""
    side = max(5, round(float(np.sqrt(mask.sum())) * 0.6)) | 1
    ring = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    for left, top, right, bottom in boxes.round().astype(int).tolist():
        ring[max(0, top) : bottom, max(0, left) : right] = False
    if not ring.any():
        return 0.0
    return float(thermal[mask].mean() - np.median(thermal[ring]))
