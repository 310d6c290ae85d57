"""Finds objects in the fused image: letterbox, network, suppression of doubles, boxes in pixels of the image."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.engines.engine import Engine, EngineError
from irvf.frames import Box, Detection, Image8
from irvf.perception.letterbox import Letterbox

MAX_CANDIDATES = 1000
"""Most boxes, best first, that are compared with each other: bounds the time when a network sees things everywhere."""
MAX_NOT_FINITE = 0.5
"""Share of predictions with NaN or infinite numbers that is dropped; with more, the network is taken for broken."""

_Floats = NDArray[np.float64]


class BoxDetector:
    """A detection network and what makes its output boxes of the image.

    The network takes ``image``, ``[1 x 3 x H x W]`` float32 RGB in 0..1, and returns ``predictions``,
    ``[1 x (4 + classes) x N]`` float32: centre x, centre y, width and height in pixels of its input, then the scores of
    the classes in 0..1 (the layout of YOLOv8 heads).

    Args:
        engine: runs the network.
        labels: class names in the order of the scores.
        input_size: height and width that the network is run at, multiples of 32.
        score_threshold: detections with a lower score are dropped, 0..1.
        iou_threshold: of two boxes of one class whose intersection over union is higher, the better stays, 0..1.

    Attributes:
        score_threshold: as given; may be changed between calls.
        iou_threshold: as given; may be changed between calls.

    Raises:
        ValueError: a size that is no multiple of 32, no labels, or a network with other inputs or outputs.
    """

    def __init__(
        self,
        engine: Engine,
        labels: tuple[str, ...],
        input_size: tuple[int, int],
        score_threshold: float = 0.35,
        iou_threshold: float = 0.6,
    ) -> None:
        if not labels:
            raise ValueError("a detector needs the names of its classes: labels is empty")
        if min(input_size) <= 0 or any(side % 32 for side in input_size):
            raise ValueError(f"detector input of {input_size[0]} x {input_size[1]}; both must be multiples of 32")
        if "image" not in engine.input_names or "predictions" not in engine.output_names:
            raise ValueError(
                f"the network takes {list(engine.input_names)} and returns {list(engine.output_names)}; "
                "a detector takes 'image' and returns 'predictions'"
            )
        self._engine = engine
        self._labels = labels
        self._input_size = input_size
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes it knows."""
        return self._labels

    def detect(self, rgb: Image8, classes: tuple[str, ...] = ()) -> tuple[Detection, ...]:
        """Find objects.

        Args:
            rgb: ``[H x W x 3]`` uint8.
            classes: names to limit the detections to; empty for all.

        Returns:
            Detections in pixels of ``rgb``, best score first.

        Raises:
            ValueError: a class that the detector does not know.
            EngineError: the network failed, or its output is not what it should be.
        """
        unknown = [name for name in classes if name not in self._labels]
        if unknown:
            raise ValueError(f"the detector does not know {', '.join(unknown)}; it knows {', '.join(self._labels)}")
        letterbox = Letterbox.fit((rgb.shape[0], rgb.shape[1]), self._input_size)
        blob = cv2.dnn.blobFromImage(letterbox.apply(rgb), 1 / 255)
        output = self._engine.infer({"image": blob})["predictions"]
        boxes, scores, indices = self._candidates(output, classes)
        boxes = letterbox.undo(boxes)
        height, width = letterbox.image_size
        boxes = np.clip(boxes, 0, [width, height, width, height])
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, scores, indices = boxes[solid], scores[solid], indices[solid]
        return tuple(
            Detection(Box(*map(float, boxes[k])), self._labels[indices[k]], float(scores[k]))
            for k in suppress_doubles(boxes, scores, indices, self.iou_threshold)
        )

    def _candidates(
        self, output: NDArray[Any], classes: tuple[str, ...]
    ) -> tuple[_Floats, NDArray[np.float32], NDArray[np.intp]]:
        """Corners, scores and class indices of what is certain enough and asked for, best first."""
        rows = 4 + len(self._labels)
        if output.ndim != 3 or output.shape[:2] != (1, rows):
            raise EngineError(
                f"the detector returned predictions of shape {list(output.shape)}; for {len(self._labels)} classes it "
                f"must be [1 x {rows} x N]: the model's labels and its network do not belong together"
            )
        predictions = output[0]
        finite = np.isfinite(predictions).all(axis=0)
        broken = int(np.count_nonzero(~finite))
        if broken > MAX_NOT_FINITE * finite.size:
            raise EngineError(f"{broken} of {finite.size} predictions of the detector are NaN or infinite")
        scores = predictions[4:].max(axis=0)
        indices = predictions[4:].argmax(axis=0)
        wanted = np.isin(indices, [self._labels.index(name) for name in classes or self._labels])
        kept = np.flatnonzero(finite & (scores >= self.score_threshold) & wanted)
        kept = kept[np.argsort(-scores[kept], kind="stable")][:MAX_CANDIDATES]
        center, half = predictions[:2, kept].T.astype(np.float64), predictions[2:4, kept].T.astype(np.float64) / 2
        return np.hstack((center - half, center + half)), scores[kept], indices[kept]


def suppress_doubles(
    boxes: _Floats, scores: NDArray[np.float32], indices: NDArray[np.intp], iou_threshold: float
) -> list[int]:
    """Non-maximum suppression within each class.

    Args:
        boxes: ``[N x 4]`` x_min, y_min, x_max, y_max.
        scores: ``[N]``.
        indices: class of each box, ``[N]``.
        iou_threshold: of two boxes that overlap more, the better stays.

    Returns:
        Positions of the boxes that stay, best score first.
    """
    if not len(boxes):
        return []
    # Classes are moved apart, so that boxes of two of them never overlap: OpenCV has NMSBoxesBatched since 4.7 only,
    # and Humble's is 4.5.4.
    corners = boxes[:, :2] + indices[:, None] * (boxes.max() - boxes.min() + 1)
    sized = np.hstack((corners, boxes[:, 2:] - boxes[:, :2]))
    kept = cv2.dnn.NMSBoxes(cast("Any", sized.tolist()), scores.tolist(), 0.0, iou_threshold)
    return [int(position) for position in np.asarray(kept, dtype=np.intp).reshape(-1)]
