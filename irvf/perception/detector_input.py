"""How an image becomes what a detection network takes: size, range, type, and inputs besides the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Image8
from irvf.perception.letterbox import Letterbox

DEFAULT_SIZE = (640, 640)
SIDE_MULTIPLE = 32
"""Of which the sides of an input must be multiples, as detectors look at several scales."""


@dataclass(frozen=True)
class ImageInput:
    """How an image is sized and scaled.

    Attributes:
        size: height and width of the input; not used with ``edges``.
        stretches: the image fills it whatever its aspect; else it is letterboxed.
        edges: the shorter side becomes the first, unless the longer one then exceeds the second; the input has the
            image's aspect. None for an input of one size.
        scale: what the values 0..255 are multiplied by.
        mean: of red, green and blue after that, subtracted.
        std: what they are then divided by.
    """

    size: tuple[int, int] = DEFAULT_SIZE
    stretches: bool = False
    edges: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse what is no size or would divide by zero.

        Raises:
            ValueError: says what.
        """
        if min(self.edges or self.size) <= 0:
            raise ValueError(f"detector input of {self.edges or self.size} pixels; sizes must be above 0")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must be three numbers each, std above 0")

    def scaled(self, scale: float) -> ImageInput:
        """Return the same for an input of another size: sides are multiples of :data:`SIDE_MULTIPLE`, or ``edges``."""
        if scale == 1:
            return self
        if self.edges:
            return replace(self, edges=(max(1, round(self.edges[0] * scale)), max(1, round(self.edges[1] * scale))))
        height, width = (max(1, round(side * scale / SIDE_MULTIPLE)) * SIDE_MULTIPLE for side in self.size)
        return replace(self, size=(height, width))

    def fit(self, image_size: tuple[int, int]) -> Letterbox:
        """Say how an image of a height and width lies in the input."""
        if self.edges:
            size = _scaled_to_edges(image_size, *self.edges)
            return Letterbox(size, size, image_size)
        return Letterbox(self.size, self.size, image_size) if self.stretches else Letterbox.fit(image_size, self.size)

    def blob(self, rgb: Image8, letterbox: Letterbox) -> NDArray[np.float32]:
        """Return ``[1 x 3 x H x W]`` float32."""
        blob = cast("NDArray[np.float32]", cv2.dnn.blobFromImage(letterbox.apply(rgb), self.scale))
        if any(self.mean) or self.std != (1.0, 1.0, 1.0):
            blob -= np.array(self.mean, np.float32)[None, :, None, None]
            blob /= np.array(self.std, np.float32)[None, :, None, None]
        return blob


def read_preprocessor(content: Mapping[str, Any], fixed: tuple[int, int] | None = None) -> ImageInput:
    """Return what a ``preprocessor_config.json`` of ``transformers`` says.

    Args:
        content: of the file.
        fixed: height and width, where the network takes no other.

    Raises:
        ValueError: a size that is not understood, or numbers that cannot be.
    """
    size, longest = content.get("size", DEFAULT_SIZE[0]), content.get("max_size", 1333)
    if isinstance(size, int):  # as files of older versions have it
        size = {"shortest_edge": size, "longest_edge": longest}
    if not content.get("do_resize", True) and fixed is None:
        raise ValueError("a detector that takes images of any size is not supported: do_resize is false")
    normalizes = content.get("do_normalize", "image_mean" in content)
    try:
        values: dict[str, Any] = {
            "scale": float(content.get("rescale_factor", 1 / 255)) if content.get("do_rescale", True) else 1.0,
            "mean": tuple(map(float, content["image_mean"])) if normalizes else (0.0, 0.0, 0.0),
            "std": tuple(map(float, content["image_std"])) if normalizes else (1.0, 1.0, 1.0),
        }
        if "height" in size and "width" in size:
            return ImageInput(fixed or (int(size["height"]), int(size["width"])), stretches=True, **values)
        if fixed is not None:
            return ImageInput(fixed, **values)
        if "shortest_edge" in size:
            return ImageInput(edges=(int(size["shortest_edge"]), int(size.get("longest_edge", longest))), **values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"an entry is missing or of the wrong type: {error}") from error
    raise ValueError(f"size {size!r} is not understood; known: height and width, or shortest_edge and longest_edge")


@dataclass(frozen=True)
class Tensor:
    """Type and shape of an input; -1 for a side that is open."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NetworkInputs:
    """The inputs of a detection network.

    Attributes:
        image: name of the image's.
        tensors: all of them by name.
    """

    image: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> NetworkInputs:
        """Find the image among the inputs.

        Raises:
            ValueError: no input, or several, can be an RGB image, or another input is not known.
        """
        images = [
            name
            for name, tensor in tensors.items()
            if len(tensor.shape) == 4 and tensor.shape[0] in (-1, 1) and tensor.shape[1] in (-1, 3)
            and tensor.dtype in (np.float32, np.float16)
        ]  # fmt: skip
        others = [name for name in tensors if name not in images]
        if len(images) != 1 or not set(others) <= {"orig_target_sizes", "pixel_mask"}:
            found = ", ".join(f"{name} {list(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items())
            raise ValueError(
                f"the network takes {found}; a detector takes one image, [1 x 3 x H x W] of 16 or 32 bit floats, and "
                "besides it at most orig_target_sizes or pixel_mask"
            )
        return cls(images[0], tensors)

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Height and width of the image; None where they are open."""
        height, width = self.tensors[self.image].shape[2:]
        return (height, width) if min(height, width) > 0 else None

    def feed(self, blob: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return all inputs for an image ``[1 x 3 x H x W]``."""
        fed: dict[str, NDArray[Any]] = {}
        for name, tensor in self.tensors.items():
            if name == self.image:
                fed[name] = blob.astype(tensor.dtype, copy=False)
            elif name == "orig_target_sizes":  # width before height, as RT-DETR and D-FINE multiply x by the first
                fed[name] = np.array([[blob.shape[3], blob.shape[2]]], tensor.dtype)
            else:  # all of the input is image, whatever the resolution of the mask
                mask = tuple(
                    side if side > 0 else known for side, known in zip(tensor.shape[1:], blob.shape[2:], strict=True)
                )
                fed[name] = np.ones((1, *mask), tensor.dtype)
        return fed


def _scaled_to_edges(image_size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    # Rounded as transformers does (get_size_with_aspect_ratio), so that the network sees the size it was trained at.
    short, long = min(image_size), max(image_size)
    exact = min(float(shortest), longest * short / long)
    height, width = (round(exact) if side == short else max(1, int(exact * side / short)) for side in image_size)
    return height, width
