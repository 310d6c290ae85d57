"""Finds what stands out in the fused image."""

from __future__ import annotations

import numpy as np

from irvf.engines.engine import Engine
from irvf.frames import Image8
from irvf.perception.dense import DensePredictor


class SaliencyDetector:
    """A saliency network and what makes its output a grey level for every pixel of the image.

    The network takes ``image``, ``[1 x 3 x H x W]`` float32 RGB in 0..1, and returns ``saliency``, ``[1 x 1 x h x w]``
    float32 in 0..1, h and w whole fractions of H and W.

    Args:
        engine: runs the network.
        input_size: height and width that the network is run at, multiples of 32.

    Raises:
        ValueError: a size that is no multiple of 32, or a network with other inputs or outputs.
    """

    def __init__(self, engine: Engine, input_size: tuple[int, int]) -> None:
        self._predict = DensePredictor(engine, "saliency", "saliency", 1, input_size)

    def detect(self, rgb: Image8) -> Image8:
        """Say how salient each pixel is.

        Args:
            rgb: ``[H x W x 3]`` uint8.

        Returns:
            ``[H x W]`` uint8, 255 for what certainly stands out.

        Raises:
            EngineError: the network failed, or its output is not what it should be.
        """
        (saliency,) = self._predict(rgb)
        levels: Image8 = np.rint(saliency.clip(0, 1) * 255).astype(np.uint8)
        return levels
