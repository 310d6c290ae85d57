"""The prompt: what an instruction adds to the dynamic kernels of the fusion network.

The paper computes the kernels of module i from the image's pooled features and the text (IRVF, T-DPI). Nothing between
its linear layers bends, so they are ``kernel = A [gap; gmp] + B(text)``, and B is computed here, once an instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.models import ModelError

Vector = NDArray[np.float32]

TASK_SHARE = 0.88
"""Of the mean wording of its task in what stands for a text; the rest is the text's own embedding."""
_LAYOUTS = (("thermal", "luma"), ("trunk",))
"""Branches of the faithful network and of the real-time one."""
_CENTROID = "centroids."
_MODULE = re.compile(r"regulation\.(thermal|luma|trunk)\.(\d+)\.predictor\.")


@dataclass(frozen=True, eq=False)
class Prompt:
    """What an instruction adds to what the network derives from the image.

    Attributes:
        source: ``text`` when the words of the instruction made it, ``task`` when the mean wording of its task did.
        values: ``[modules x n]``: what is added to the kernels of each module, those of the thermal encoder first, or
            to scale and shift of the channels.
    """

    source: str
    values: Plane


@dataclass(frozen=True, eq=False)
class _Layer:
    """An affine map: ``weight [out x in]``, ``bias [out]``."""

    weight: NDArray[np.float32]
    bias: Vector

    def __call__(self, vector: Vector) -> Vector:
        result: Vector = self.weight @ vector + self.bias
        return result


class Prompter:
    """Makes prompts; may be called from several threads if the encoder may.

    Args:
        encoder: embeds a text as ``[T]``, as the network was trained with.
        weights: safetensors of the trained network: ``regulation.*`` and ``centroids.TASK [T]``, the mean embedding of
            the wordings that the task was trained with.

    Raises:
        ModelError: the file is no safetensors, lacks a tensor, or has one of another shape; or the encoder has another
            width.
    """

    def __init__(self, encoder: Callable[[str], Vector], weights: Path) -> None:
        self._encoder = encoder
        tensors = _Tensors(weights)
        names = tensors.modules()
        first = tensors.layer("regulation.adapter.0")
        self._adapter = (first, tensors.layer("regulation.adapter.1", len(first.bias)))
        self._width = first.weight.shape[1]
        self._modules = tuple(tensors.module(name, len(self._adapter[1].bias)) for name in names)
        sizes = dict.fromkeys(len(last.bias) for _, last in self._modules)
        if len(sizes) > 1:
            raise ModelError(f"{weights} has modules of {' and '.join(map(str, sizes))} numbers; they must be alike")
        self._centroids = {name: tensors.vector(_CENTROID + name, self._width) for name in tensors.centroids()}
        found = np.shape(encoder("viewing"))
        if found != (self._width,):
            raise ModelError(
                f"{weights} was trained with text embeddings of width {self._width}, the text encoder returns "
                f"{list(found)}; name the encoder that it was trained with as text_encoder in its config.yaml"
            )

    def __call__(self, text: str, task: str) -> Prompt:
        """Return the prompt of an instruction.

        Where the mean wording that the text is nearest to (cosine) is its task's, the prompt is made of both, so that
        two wordings of a wish give nearly the same image. Where it is nearer to another task's, as a negation may be
        ("do not detect anything" is viewing), the mean wording alone makes it; where the task has none, the text does.

        Args:
            text: the instruction.
            task: name of the task that it was understood as.

        Raises:
            ValueError: the encoder returned numbers that are not finite.
        """
        embedding = self._encoder(text)
        if not np.isfinite(embedding).all():
            raise ValueError(f"the text encoder cannot read {text!r}: its embedding is not finite")
        if task not in self._centroids:
            return Prompt("text", self._values(embedding))
        centroid = self._centroids[task]
        if self._nearest(embedding) == task:
            return Prompt("text", self._values(_unit(TASK_SHARE * _unit(centroid) + (1 - TASK_SHARE) * embedding)))
        return Prompt("task", self._values(centroid))

    def _nearest(self, embedding: Vector) -> str:
        return max(self._centroids, key=lambda name: _cosine(embedding, self._centroids[name]))

    def _values(self, embedding: Vector) -> Plane:
        adapted = self._adapter[1](self._adapter[0](embedding))
        return np.stack([last(first(adapted)) for first, last in self._modules])


class _Tensors:
    """The tensors of a file, with errors that name it."""

    def __init__(self, path: Path) -> None:
        try:
            from safetensors.numpy import load_file  # noqa: PLC0415  (a fusion without instructions runs without)

            stored: Mapping[str, NDArray[np.generic]] = load_file(path)
        except Exception as error:  # its own, and TypeError for types that numpy lacks
            raise ModelError(f"{path} cannot be read as safetensors: {' '.join(str(error).split())[:300]}") from error
        self._path = path
        self._stored = stored

    def modules(self) -> list[str]:
        """Name the modules that must be there: as many of each branch as the longest one has."""
        named = [found for found in map(_MODULE.match, self._stored) if found]
        if not named:
            raise ModelError(f"{self._path} has no regulation.*.predictor; it belongs to a network without prompts")
        branches = next(layout for layout in _LAYOUTS if named[0][1] in layout)
        count = 1 + max(int(found[2]) for found in named)
        return [f"regulation.{branch}.{number}" for branch in branches for number in range(count)]

    def centroids(self) -> list[str]:
        """Name the tasks that have one."""
        return [name.removeprefix(_CENTROID) for name in self._stored if name.startswith(_CENTROID)]

    def module(self, name: str, width: int) -> tuple[_Layer, _Layer]:
        """Read the part of a module that depends on the text; ``width`` is what the adapter returns."""
        first = self.layer(f"{name}.predictor.0")
        last = self.layer(f"{name}.predictor.1", len(first.bias))
        pooled = first.weight.shape[1] - width
        if pooled < 1:
            raise ModelError(
                f"{self._path}: {name}.predictor.0 takes {first.weight.shape[1]} numbers, which must be the image's "
                f"pooled features and then the text's {width}"
            )
        return _Layer(np.ascontiguousarray(first.weight[:, pooled:]), first.bias), last

    def layer(self, name: str, width: int | None = None) -> _Layer:
        """Read ``NAME.weight`` and ``NAME.bias``; ``width`` is what goes in, None where that is for the file to say."""
        weight = self._tensor(f"{name}.weight", 2)
        if width not in (None, weight.shape[1]):
            raise ModelError(f"{self._path}: {name}.weight takes {weight.shape[1]} numbers, {width} are wanted")
        return _Layer(weight, self.vector(f"{name}.bias", len(weight)))

    def vector(self, name: str, length: int) -> Vector:
        """Read a vector of a known length."""
        vector = self._tensor(name, 1)
        if len(vector) != length:
            raise ModelError(f"{self._path}: {name} has {len(vector)} numbers, {length} are wanted")
        return vector

    def _tensor(self, name: str, dimensions: int) -> NDArray[np.float32]:
        if name not in self._stored:
            raise ModelError(f"{self._path} lacks {name}; copy the whole model folder again")
        tensor = self._stored[name]
        if tensor.ndim != dimensions or not np.isfinite(tensor).all():
            raise ModelError(
                f"{self._path}: {name} must have {dimensions} dimensions and finite numbers, not {list(tensor.shape)} "
                f"with {np.count_nonzero(~np.isfinite(tensor))} that are not finite"
            )
        return tensor.astype(np.float32)


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length else vector


def _cosine(first: Vector, second: Vector) -> float:
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length else 0.0
