"""Labelled fused images for the detector: reading YOLO boxes, cutting windows, composing mosaics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8
from irvf.training.windows import VISIBLE_SHARE, place_window


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One scene in several fusions, with its objects.

    Attributes:
        variants: the same scene fused by different methods, each ``[H x W x 3]`` uint8 RGB.
        boxes: ``[G x 4]`` float32, x_min, y_min, x_max, y_max in pixels.
        labels: ``[G]`` class indices.
        ignored: ``[I x 4]`` regions that only another annotation pass calls an object.
        name: of the pair.
    """

    variants: Sequence[Image8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]
    name: str = ""


def read_yolo_boxes(
    path: Path, width: int, height: int, class_count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read lines ``class cx cy w h``, normalised to 0..1; a missing file means no objects.

    Args:
        path: text file.
        width: of the image in pixels.
        height: of the image in pixels.
        class_count: number of known classes.

    Returns:
        Boxes ``[G x 4]`` as x_min, y_min, x_max, y_max in pixels, and class indices ``[G]``.

    Raises:
        ValueError: a line is malformed, out of range, or of an unknown class.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.exists() else [], start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            label, *values = (float(field) for field in fields)
        except ValueError:
            raise ValueError(f"{path}:{number}: {line!r} is not 'class cx cy w h'") from None
        if len(values) != 4 or not all(-0.01 <= value <= 1.01 for value in values) or min(values[2:]) <= 0:
            raise ValueError(f"{path}:{number}: {line!r} is not 'class cx cy w h' with values in 0..1")
        if label not in range(class_count):
            raise ValueError(f"{path}:{number}: class {label:g} is unknown; there are {class_count}, from 0")
        rows.append([label, *values])
    table = np.array(rows, np.float32).reshape(-1, 5)
    half = table[:, 3:] / 2
    corners = np.concatenate((table[:, 1:3] - half, table[:, 1:3] + half), axis=1).clip(0, 1)
    return corners * np.array([width, height] * 2, np.float32), table[:, 0].astype(np.int64)


def overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU of every box of ``first [A x 4]`` with every one of ``second [B x 4]``: ``[A x B]``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    result: NDArray[np.float32] = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-6)
    return result


@dataclass(frozen=True, eq=False)
class Window:
    """A training image: ``[side x side x 3]`` uint8 RGB with boxes, labels and ignored regions in its pixels.

    ``names`` are those of the pairs that it shows.
    """

    image: Image8
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.float32]
    names: tuple[str, ...]


def _blend(scene: LabelledImage, rng: np.random.Generator) -> Image8:
    first, second = (scene.variants[index] for index in rng.integers(len(scene.variants), size=2))
    share = float(rng.uniform())
    return np.asarray(cv2.addWeighted(first, share, second, 1 - share, 0), np.uint8)


def cut_window(
    scene: LabelledImage, width: int, height: int, scales: tuple[float, float], rng: np.random.Generator
) -> Window:
    """Cut ``width x height`` pixels out of a random blend of the scene's fusions, rescaled and maybe mirrored.

    Half of the windows lie around an object, a rare class as often as a common one.
    """
    size = (scene.variants[0].shape[0], scene.variants[0].shape[1])
    placement = place_window(size, scene.boxes, scene.labels, window_size=(height, width), scales=scales, rng=rng)
    image = placement.cut(_blend(scene, rng))
    boxes, shown = placement.move(scene.boxes)
    ignored, ignored_shown = placement.move(scene.ignored)
    kept = shown >= VISIBLE_SHARE
    partly = np.concatenate((boxes[(shown > 0) & ~kept], ignored[ignored_shown > 0]))
    return Window(image, boxes[kept], scene.labels[kept], partly, (scene.name,))


def compose_mosaic(
    scenes: Sequence[LabelledImage], side: int, scales: tuple[float, float], rng: np.random.Generator
) -> Window:
    """Put windows of four random scenes into the quarters of one image, split at a random point."""
    split = rng.integers(round(0.3 * side), round(0.7 * side), size=2)
    image = np.empty((side, side, 3), np.uint8)
    parts: list[Window] = []
    for quarter in range(4):
        x, y = quarter % 2 * split[0], quarter // 2 * split[1]
        width = int(side - split[0] if quarter % 2 else split[0])
        height = int(side - split[1] if quarter // 2 else split[1])
        part = cut_window(scenes[int(rng.integers(len(scenes)))], width, height, scales, rng)
        image[y : y + height, x : x + width] = part.image
        offset = np.array([x, y] * 2, np.float32)
        parts.append(Window(part.image, part.boxes + offset, part.labels, part.ignored + offset, part.names))
    return Window(
        image,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ignored for part in parts]),
        tuple(name for part in parts for name in part.names),
    )


def adjust_tones(image: Image8, rng: np.random.Generator, strength: float = 1.0) -> Image8:
    """Change gain, offset, saturation and noise at random, as cameras and range controls differ.

    Args:
        image: ``[H x W x 3]`` RGB.
        rng: source of all randomness.
        strength: 0 changes nothing, 1 changes gains by up to 40 % and offsets by up to 30 grey levels.
    """
    planes = image.astype(np.float32)
    grey = planes @ np.array([0.299, 0.587, 0.114], np.float32)
    planes = grey[..., None] + (planes - grey[..., None]) * np.float32(1 + strength * rng.uniform(-1, 0.6))
    gain, offset = rng.uniform(0.7, 1.4), rng.uniform(-30, 30)
    planes = (planes - 128) * np.float32(1 + strength * (gain - 1)) + 128 + np.float32(strength * offset)
    planes += rng.normal(0, 1, grey.shape).astype(np.float32)[..., None] * np.float32(strength * rng.uniform(0, 6))
    return np.asarray(planes.clip(0, 255), np.uint8)
