"""A fusion network as a function of two planes, with or without a prompt."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from irvf.engines.engine import Engine, EngineError
from irvf.frames import Plane
from irvf.imaging.classical_fusion import Fusion

_PLANES = {"thermal", "luma"}
_PROMPT = "prompt"


class FusionNetwork:
    """A network that takes ``thermal`` and ``luma``, each ``[1 x 1 x H x W]`` float32 in 0..1, and returns one plane.

    One that instructions change takes ``prompt [modules x n]`` besides (see :mod:`irvf.instruction.prompt`).

    Args:
        engine: runs the network.
        size_multiple: of which height and width must be multiples; others are extended by repeating the last pixels.

    Raises:
        EngineError: it has other inputs or outputs.
    """

    def __init__(self, engine: Engine, size_multiple: int = 1) -> None:
        names = set(engine.input_names)
        if names - {_PROMPT} != _PLANES or len(engine.output_names) != 1:
            raise EngineError(
                f"a fusion network takes thermal and luma, and prompt where instructions change it, and returns one "
                f"plane; this one takes {', '.join(engine.input_names)} and returns {', '.join(engine.output_names)}"
            )
        self._engine = engine
        self._size_multiple = size_multiple
        self.takes_prompt = _PROMPT in names

    def under(self, prompt: Plane | None) -> Fusion:
        """Return the fusion that the network is under a prompt; None for a network that takes none."""
        return partial(self._fuse, prompt)

    def _fuse(self, prompt: Plane | None, thermal: Plane, luma: Plane) -> Plane:
        height, width = luma.shape
        thermal, luma = self._extend(thermal), self._extend(luma)
        inputs = {"thermal": thermal[None, None], "luma": luma[None, None]}
        if prompt is not None:
            inputs[_PROMPT] = prompt
        (fused,) = self._engine.infer(inputs).values()
        if fused.shape != (1, 1, *luma.shape):
            raise EngineError(
                f"the fusion network returned {list(fused.shape)} for planes of {luma.shape[0]} x {luma.shape[1]}; "
                "it must keep height and width"
            )
        plane: Plane = fused[0, 0, :height, :width]
        return plane

    def _extend(self, plane: Plane) -> Plane:
        bottom, right = (-side % self._size_multiple for side in plane.shape)
        if not bottom and not right:
            return plane
        return np.asarray(cv2.copyMakeBorder(plane, 0, bottom, 0, right, cv2.BORDER_REPLICATE), np.float32)
