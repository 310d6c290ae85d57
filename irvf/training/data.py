"""Aligned thermal / RGB image folders: finding the pairs, splitting them, cutting training crops."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from irvf.frames import Image8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class PairFiles:
    """One aligned pair on disk: ``dataset/thermal/NAME.*`` and ``dataset/rgb/NAME.*``."""

    dataset: str
    name: str
    thermal: Path
    rgb: Path

    def load(self) -> tuple[Image8, Image8]:
        """Read both images.

        Returns:
            Thermal ``[H x W]`` and RGB ``[H x W x 3]``, uint8, same size.

        Raises:
            ValueError: a file is no readable image, or the sizes differ.
        """
        thermal = cv2.imread(str(self.thermal), cv2.IMREAD_GRAYSCALE)
        bgr = cv2.imread(str(self.rgb), cv2.IMREAD_COLOR)
        if thermal is None or bgr is None:
            raise ValueError(f"{self.thermal if thermal is None else self.rgb} is not a readable image")
        if thermal.shape != bgr.shape[:2]:
            raise ValueError(
                f"{self.dataset}/{self.name}: thermal is {thermal.shape[1]}x{thermal.shape[0]}, "
                f"RGB {bgr.shape[1]}x{bgr.shape[0]}; the pair must be aligned pixel to pixel"
            )
        return np.asarray(thermal, np.uint8), np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _images(folder: Path) -> dict[str, Path]:
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    images = {path.stem: path for path in files}
    if len(images) < len(files):
        twice = sorted({path.stem for path in files if images[path.stem] != path})
        raise ValueError(f"{folder} has images of the same name but for the suffix: {', '.join(twice[:20])}")
    return images


def find_pairs(root: Path, datasets: Sequence[str] = (), *, skip_alone: bool = False) -> list[PairFiles]:
    """List the pairs under ``root``, sorted by data set and name.

    Args:
        root: a folder with ``thermal/`` and ``rgb/``, or a folder of such folders.
        datasets: names of the sub-folders to take; empty takes all that hold pairs.
        skip_alone: leave images without a partner out, and say so, instead of refusing them.

    Raises:
        ValueError: nothing found, a named set is missing, or images without a partner of the same name; all
            of them are listed.
    """
    if (root / "thermal").is_dir() and (root / "rgb").is_dir() and set(datasets) <= {root.resolve().name}:
        folders = [root.resolve()]
    else:
        named = [root / name for name in datasets] or (sorted(root.iterdir()) if root.is_dir() else [])
        folders = [folder for folder in named if (folder / "thermal").is_dir() and (folder / "rgb").is_dir()]
        missing = sorted(set(datasets) - {folder.name for folder in folders})
        if missing:
            raise ValueError(f"no thermal/ and rgb/ folders for {', '.join(missing)} under {root}")
    pairs: list[PairFiles] = []
    alone: list[str] = []
    for folder in folders:
        thermal, rgb = _images(folder / "thermal"), _images(folder / "rgb")
        alone += [f"{folder.name}/{name}" for name in sorted(set(thermal) ^ set(rgb))]
        pairs += [PairFiles(folder.name, name, thermal[name], rgb[name]) for name in thermal if name in rgb]
    if alone:
        message = f"{len(alone)} images have no partner of the same name: {', '.join(alone[:20])}"
        if not skip_alone:
            raise ValueError(message)
        _say_skipped(message)
    if not pairs:
        raise ValueError(
            f"no pairs under {root}: expected thermal/NAME and rgb/NAME, or SET/thermal/NAME and SET/rgb/NAME"
        )
    return pairs


def _say_skipped(message: str) -> None:
    tqdm.write(f"skipped: {message}", file=sys.stderr)


def split_pairs(
    root: Path,
    datasets: Sequence[str],
    first_held: dict[str, str],
    *,
    skip_unusable: bool = False,
    use: Callable[[PairFiles], object] = PairFiles.load,
) -> tuple[list[PairFiles], list[PairFiles]]:
    """List the pairs to train on and those that are held back.

    Args:
        root: as :func:`find_pairs` takes it.
        datasets: likewise.
        first_held: as :func:`hold_back` takes it.
        skip_unusable: leave what cannot be used out, and say so; else whoever reads it refuses it.
        use: reads a pair as the training will; raises ValueError where it cannot.

    Raises:
        ValueError: as :func:`find_pairs` and :func:`hold_back`; or nothing is left to train on.
    """
    pairs = find_pairs(root, datasets, skip_alone=skip_unusable)
    if skip_unusable:
        pairs = _usable(pairs, use)
    training, held = hold_back(pairs, first_held)
    if not training:
        raise ValueError(f"no pair under {root} is left to train on: all are held back (first_held) or unusable")
    return training, held


def _usable(pairs: Iterable[PairFiles], use: Callable[[PairFiles], object]) -> list[PairFiles]:
    kept: list[PairFiles] = []
    faults: list[str] = []
    for pair in pairs:
        try:
            use(pair)
            kept.append(pair)
        except ValueError as error:  # noqa: PERF203 - reading a file takes far longer
            faults.append(str(error))
    if faults:
        _say_skipped(f"{len(faults)} pairs cannot be used: " + "; ".join(faults[:20]))
    return kept


def load_pairs(pairs: Iterable[PairFiles]) -> list[tuple[Image8, Image8]]:
    """Read pairs as :meth:`PairFiles.load` does.

    Raises:
        ValueError: unreadable images or sizes that differ; all of them in one message.
    """
    images: list[tuple[Image8, Image8]] = []
    faults: list[str] = []
    for pair in pairs:
        try:
            images.append(pair.load())
        except ValueError as error:  # noqa: PERF203 - reading a file takes far longer
            faults.append(str(error))
    if faults:
        raise ValueError(f"{len(faults)} pairs cannot be used: " + "; ".join(faults[:20]))
    return images


def hold_back(pairs: Iterable[PairFiles], first_held: dict[str, str]) -> tuple[list[PairFiles], list[PairFiles]]:
    """Split by contiguous blocks, because neighbouring frames look alike.

    Args:
        pairs: sorted as by :func:`find_pairs`.
        first_held: data set -> name of its first held-back pair; that pair and all after it are held back.

    Returns:
        Training pairs and held-back pairs.

    Raises:
        ValueError: ``first_held`` names a set that is not among the pairs.
    """
    training: list[PairFiles] = []
    held: list[PairFiles] = []
    missing = set(first_held)
    for pair in pairs:
        missing.discard(pair.dataset)
        first = first_held.get(pair.dataset)
        (held if first is not None and pair.name >= first else training).append(pair)
    if missing:
        found = ", ".join(sorted({pair.dataset for pair in pairs})) or "none"
        raise ValueError(
            f"first_held (--from) names sets that are not there: {', '.join(sorted(missing))}; found: {found}"
        )
    return training, held


def cut_crop(
    images: Sequence[NDArray[Any]], side: int, rng: np.random.Generator, scales: tuple[float, float]
) -> list[NDArray[Any]]:
    """Cut the same random square out of every image, rescaled, flipped and turned by quarters at random.

    Args:
        images: ``[H x W]`` or ``[H x W x C]``, all of one size.
        side: side of the crop in pixels.
        rng: source of all randomness.
        scales: lowest and highest scale of the image before the crop; raised where the image would not fill it.

    Returns:
        One ``[side x side (x C)]`` array for each image.
    """
    height, width = images[0].shape[:2]
    scale = max(rng.uniform(*scales), side / min(height, width))
    extent = min(round(side / scale), height, width)
    top, left = int(rng.integers(height - extent + 1)), int(rng.integers(width - extent + 1))
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    crops = []
    for image in images:
        crop: NDArray[Any] = cv2.resize(
            image[top : top + extent, left : left + extent],
            (side, side),
            interpolation=cv2.INTER_AREA if extent > side else cv2.INTER_LINEAR,
        )
        crop = np.rot90(crop, turns)
        crops.append(np.ascontiguousarray(crop[:, ::-1] if flip else crop))
    return crops
