"""Measures ``auto`` registration on aligned pairs, whose thermal images are warped by a known homography."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.evaluation.comparison import spread
from irvf.frames import Image8, Plane
from irvf.imaging.alignment import Alignment
from irvf.imaging.camera_geometry import corner_pixels, homography_points
from irvf.imaging.registration import Registration
from irvf.training.data import PairFiles

Array = NDArray[np.float64]
Size = tuple[int, int]

KINDS = ("one pair repeated", "pairs in turn")


@dataclass(frozen=True)
class Run:
    """One stream of pairs under one warp; errors are means over the four corners, pixels of the RGB image.

    Attributes:
        dataset: name of the set.
        name: of the (first) pair.
        kind: one of :data:`KINDS`.
        before: error of doing nothing.
        after: error of what was applied at the end, against the inverse of the warp.
        repeated: the same against the inverse of the warp and what is found without one: the misalignment that the set
            itself has, as ``auto`` sees it, is left out.
        refused: nothing was corrected.
        reason: of the last state.
    """

    dataset: str
    name: str
    kind: str
    before: float
    after: float
    repeated: float
    refused: bool
    reason: str


def random_warp(size: Size, corner_px: float, rng: np.random.Generator) -> Array:
    """Return a homography that moves each corner by at most so much along each axis, evenly distributed."""
    corners = corner_pixels(size)
    moved = corners + rng.uniform(-corner_px, corner_px, (4, 2))
    return np.asarray(cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32)), np.float64)


def corner_error(found: Array, true: Array, size: Size) -> float:
    """Return the mean distance of the four corners under two homographies, pixels."""
    corners = corner_pixels(size)
    first, second = (homography_points(each, corners)[0] for each in (found, true))
    return float(np.linalg.norm(first - second, axis=1).mean())


def follow(pairs: Iterable[tuple[Plane, Plane]], warp: Array | None = None) -> Alignment:
    """Register a stream of aligned planes whose thermal images are warped; return what is known at its end."""
    registration = Registration("auto", background=False)
    for thermal, luma in pairs:
        size = (luma.shape[0], luma.shape[1])
        seen = thermal if warp is None else cv2.warpPerspective(thermal, warp, (size[1], size[0]))
        registration.observe(np.asarray(seen, np.float32), luma)
    alignment = registration.alignment
    if alignment is None:
        raise ValueError("there is no pair to register")
    return alignment


def measure_registration(
    pairs: Sequence[PairFiles],
    *,
    frames: int = 60,
    corner_px: float = 12.0,
    sequences: int = 8,
    seed: int = 0,
    done: Callable[[], object] = lambda: None,
) -> list[Run]:
    """Measure each pair of a set as a stream of its own, and sequences of different pairs.

    Args:
        pairs: of one set.
        frames: length of each stream.
        corner_px: as :func:`random_warp` takes it.
        sequences: number of the sequences, which begin at pairs evenly spread. Pairs of other sizes are scaled to the
            size of their first.
        seed: of the warps.
        done: called after each stream.

    Raises:
        ValueError: an image cannot be used.
    """
    rng = np.random.default_rng(seed)
    runs = []
    for pair in pairs:
        planes = _planes(*pair.load())
        runs.append(_run(pair, KINDS[0], partial(repeat, planes, frames), corner_px, rng))
        done()
    for first in spread(len(pairs), min(sequences, len(pairs) // 2)):
        size = pairs[first].load()[0].shape[:2]

        def in_turn(first: int = first, size: Size = (size[0], size[1])) -> Iterable[tuple[Plane, Plane]]:
            turn = (pairs[(first + index) % len(pairs)] for index in range(frames))
            return (_planes(*pair.load(), size) for pair in turn)

        runs.append(_run(pairs[first], KINDS[1], in_turn, corner_px, rng))
        done()
    return runs


def _run(
    pair: PairFiles,
    kind: str,
    stream: Callable[[], Iterable[tuple[Plane, Plane]]],
    corner_px: float,
    rng: np.random.Generator,
) -> Run:
    luma = next(iter(stream()))[1]
    size = (luma.shape[0], luma.shape[1])
    warp = random_warp(size, corner_px, rng)
    own = np.array(follow(stream()).homography).reshape(3, 3)
    alignment = follow(stream(), warp)
    # Where an RGB pixel is looked up in the warped thermal image; without fault that is what the warp does.
    applied = np.linalg.inv(np.array(alignment.homography).reshape(3, 3))
    return Run(
        pair.dataset,
        pair.name,
        kind,
        before=corner_error(np.eye(3), warp, size),
        after=corner_error(applied, warp, size),
        repeated=corner_error(applied, warp @ np.linalg.inv(own), size),
        refused=alignment.updates == 0,
        reason=alignment.reason,
    )


def _planes(thermal: Image8, rgb: Image8, size: Size | None = None) -> tuple[Plane, Plane]:
    planes = []
    for image in (thermal, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)):
        resized = image if size is None else cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        planes.append(np.asarray(resized, np.float32) / np.float32(255))
    return planes[0], planes[1]


def registration_table(runs: Sequence[Run]) -> str:
    """Return the figures of each set and kind as a table."""
    header = f"{'set':<12}{'stream':<19}{'runs':>5}{'before':>8}{'after':>8}{'p90':>7}{'repeated':>10}{'p90':>7}"
    lines = [header + f"{'refused':>9}{'worse':>7}"]
    for dataset, kind in dict.fromkeys((run.dataset, run.kind) for run in runs):
        chosen = [run for run in runs if (run.dataset, run.kind) == (dataset, kind)]
        before, after, repeated = (np.array([getattr(run, name) for run in chosen]) for name in _ERRORS)
        refused, worse = np.mean([run.refused for run in chosen]), np.mean(after > before + 0.5)
        lines.append(
            f"{dataset:<12}{kind:<19}{len(chosen):>5}{np.median(before):>8.2f}{np.median(after):>8.2f}"
            f"{np.percentile(after, 90):>7.1f}{np.median(repeated):>10.2f}{np.percentile(repeated, 90):>7.1f}"
            f"{refused:>9.0%}{worse:>7.0%}"
        )
    return "\n".join(lines)


_ERRORS = ("before", "after", "repeated")
