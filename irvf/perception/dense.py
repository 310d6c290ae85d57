"""Networks that say something of every pixel: letterbox, network, its planes back at the size of the image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.engines.engine import Engine, EngineError
from irvf.frames import Image8, Plane
from irvf.perception.letterbox import Letterbox


class DensePredictor:
    """A network with one plane for each thing that it tells of every pixel.

    The network takes ``image``, ``[1 x 3 x H x W]`` float32 RGB in 0..1, and returns ``[1 x planes x h x w]`` float32,
    h and w whole fractions of H and W.

    Args:
        engine: runs the network.
        name: what it is called in errors, e.g. ``segmentation``.
        output: name of what it returns.
        planes: how many there must be.
        input_size: height and width that the network is run at, multiples of 32.

    Raises:
        ValueError: a size that is no multiple of 32, or a network with other inputs or outputs.
    """

    def __init__(self, engine: Engine, name: str, output: str, planes: int, input_size: tuple[int, int]) -> None:
        if min(input_size) <= 0 or any(side % 32 for side in input_size):
            raise ValueError(f"{name} input of {input_size[0]} x {input_size[1]}; both must be multiples of 32")
        if "image" not in engine.input_names or output not in engine.output_names:
            raise ValueError(
                f"the network takes {list(engine.input_names)} and returns {list(engine.output_names)}; "
                f"a {name} network takes 'image' and returns {output!r}"
            )
        self._engine = engine
        self._name = name
        self._output = output
        self._planes = planes
        self._input_size = input_size

    def __call__(self, rgb: Image8) -> list[Plane]:
        """Return the planes, each ``[H x W]`` like the image.

        Args:
            rgb: ``[H x W x 3]`` uint8.

        Raises:
            EngineError: the network failed, or its output is not what it should be.
        """
        letterbox = Letterbox.fit((rgb.shape[0], rgb.shape[1]), self._input_size)
        blob = cv2.dnn.blobFromImage(letterbox.apply(rgb), 1 / 255)
        output = self._engine.infer({"image": blob})[self._output]
        self._check(output)
        return [letterbox.undo_plane(plane) for plane in output[0]]

    def _check(self, output: NDArray[Any]) -> None:
        whole = output.ndim == 4 and all(
            side and whole % side == 0 for side, whole in zip(output.shape[2:], self._input_size, strict=True)
        )
        if not whole or output.shape[:2] != (1, self._planes):
            raise EngineError(
                f"the {self._name} network returned {self._output} of shape {list(output.shape)}; it must be "
                f"[1 x {self._planes} x h x w], h and w whole fractions of {self._input_size[0]} and "
                f"{self._input_size[1]}: the model's config.yaml and its network do not belong together"
            )
        broken = output.size - int(np.count_nonzero(np.isfinite(output)))
        if broken:
            raise EngineError(f"{broken} of {output.size} numbers of the {self._name} network are NaN or infinite")
