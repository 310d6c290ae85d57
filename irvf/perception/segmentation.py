"""Finds the class of every pixel of the fused image."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from irvf.engines.engine import Engine
from irvf.frames import Image8
from irvf.perception.dense import DensePredictor

BACKGROUND = 0
MAX_CLASSES = 255
"""With the background. 255 is left free: by vision_msgs it stands for "unlabelled"."""


class Segmenter:
    """A segmentation network and what makes its output a class for every pixel of the image.

    The network takes ``image``, ``[1 x 3 x H x W]`` float32 RGB in 0..1, and returns ``logits``, ``[1 x K x h x w]``
    float32, h and w whole fractions of H and W. They are interpolated before the classes are compared, so that borders
    are as fine as the image and not as the network.

    Args:
        engine: runs the network.
        labels: names of the K classes in the order of the logits; the first is the background.
        input_size: height and width that the network is run at, multiples of 32.

    Raises:
        ValueError: a size that is no multiple of 32, fewer than two or more than 255 labels, or a network with other
            inputs or outputs.
    """

    def __init__(self, engine: Engine, labels: tuple[str, ...], input_size: tuple[int, int]) -> None:
        if not 2 <= len(labels) <= MAX_CLASSES:
            raise ValueError(
                f"a segmentation needs the names of 2 to {MAX_CLASSES} classes, the background first, not {len(labels)}"
            )
        self._predict = DensePredictor(engine, "segmentation", "logits", len(labels), input_size)
        self._labels = labels

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, the background first: position is the number in the image."""
        return self._labels

    def segment(self, rgb: Image8, classes: tuple[str, ...] = ()) -> Image8:
        """Say which class each pixel is.

        Args:
            rgb: ``[H x W x 3]`` uint8.
            classes: names to limit the result to: what is of another class becomes background; empty for all.

        Returns:
            Positions in :attr:`labels`, ``[H x W]`` uint8.

        Raises:
            ValueError: a class that the network does not know.
            EngineError: the network failed, or its output is not what it should be.
        """
        self._check(classes)
        first, *others = self._predict(rgb)
        best, found = first.copy(), np.zeros(first.shape, np.uint8)
        for index, logits in enumerate(others, start=1):  # a third of the time of numpy's argmax
            np.putmask(found, logits > best, index)
            np.maximum(best, logits, out=best)
        return self.limit(found, classes)

    def limit(self, found: Image8, classes: tuple[str, ...]) -> Image8:
        """Make background of what is of another class than these; empty leaves all.

        Args:
            found: as :meth:`segment` returns it.
            classes: names.

        Raises:
            ValueError: a class that the network does not know.
        """
        self._check(classes)
        if not classes:
            return found
        kept = np.zeros(256, np.uint8)
        for name in classes:
            kept[self._labels.index(name)] = self._labels.index(name)
        return cast("Image8", cv2.LUT(found, kept))

    def _check(self, classes: tuple[str, ...]) -> None:
        unknown = [name for name in classes if name not in self._labels]
        if unknown:
            raise ValueError(f"the segmentation does not know {', '.join(unknown)}; it knows {', '.join(self._labels)}")
