"""Finds objects in the fused image: letterbox, network, suppression of doubles, boxes in pixels of the image."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.engines.engine import Engine, EngineError
from irvf.frames import Box, Detection, Image8
from irvf.perception.detector_input import ImageInput, NetworkInputs, Tensor
from irvf.perception.detector_outputs import Floats, OutputForm, YoloForm

MAX_CANDIDATES = 1000
"""Most boxes, best first, that are compared with each other: bounds the time when a network sees things everywhere."""

_Floats = NDArray[np.float64]


class Detector:
    """A detection network of any known form, and what makes its outputs boxes of the image.

    Args:
        engine: runs the network.
        labels: class names in the order of the network's classes.
        image: how the image becomes the network's input.
        inputs: names, types and shapes of what the network takes.
        form: how its outputs are read.
        score_threshold: detections with a lower score are dropped, 0..1.
        iou_threshold: of two boxes of one class whose intersection over union is higher, the better stays, 0..1. Of no
            effect where the form has no doubles.

    Attributes:
        score_threshold: as given; may be changed between calls.
        iou_threshold: as given; may be changed between calls.
        scale: height and width of the input relative to ``image``'s, above 0 and at most 1; of no effect on a network
            of fixed size. May be changed between calls.

    Raises:
        ValueError: no labels, or another number of them than the form has classes.
    """

    def __init__(
        self,
        engine: Engine,
        labels: tuple[str, ...],
        image: ImageInput,
        inputs: NetworkInputs,
        form: OutputForm,
        *,
        score_threshold: float = 0.35,
        iou_threshold: float = 0.6,
    ) -> None:
        if not labels:
            raise ValueError("a detector needs the names of its classes: labels is empty")
        if form.classes not in (None, len(labels)):
            raise ValueError(f"the detector tells {form.classes} classes apart, but has names of {len(labels)}")
        self._engine = engine
        self._labels = labels
        self._image, self._inputs, self._form = image, inputs, form
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.scale = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes it knows."""
        return self._labels

    @property
    def form(self) -> OutputForm:
        """How the network's outputs are read."""
        return self._form

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
        image = self._image if self._inputs.fixed_size else self._image.scaled(self.scale)
        letterbox = image.fit((rgb.shape[0], rgb.shape[1]))
        outputs = self._engine.infer(self._inputs.feed(image.blob(rgb, letterbox)))
        predictions = self._form.read(outputs)
        kept = self._candidates(predictions.scores, predictions.indices, classes)
        scores, indices = predictions.scores[kept], predictions.indices[kept]
        boxes = letterbox.undo(self._form.corners(predictions.boxes[kept], letterbox.input_size))
        height, width = letterbox.image_size
        boxes = np.clip(boxes, 0, [width, height, width, height])
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        boxes, scores, indices = boxes[solid], scores[solid], indices[solid]
        best = range(len(boxes))
        return tuple(
            Detection(Box(*map(float, boxes[k])), self._labels[indices[k]], float(scores[k]))
            for k in (suppress_doubles(boxes, scores, indices, self.iou_threshold) if self._form.has_doubles else best)
        )

    def _candidates(self, scores: Floats, indices: NDArray[np.intp], classes: tuple[str, ...]) -> NDArray[np.intp]:
        """Positions of what is certain enough and asked for, best first."""
        kept = np.flatnonzero(scores >= max(self.score_threshold, 0))
        beyond = [int(index) for index in indices[kept] if not 0 <= index < len(self._labels)]
        if beyond:
            raise EngineError(
                f"the detector found class {beyond[0]}, counted from 0, but has names of {len(self._labels)}: the "
                "model's labels and its network do not belong together"
            )
        if classes:
            wanted = [number for number, label in enumerate(self._labels) if label in classes]
            kept = kept[np.isin(indices[kept], wanted)]
        return kept[np.argsort(-scores[kept], kind="stable")][:MAX_CANDIDATES]


class BoxDetector(Detector):
    """A detection network of a model folder.

    The network takes ``image``, ``[1 x 3 x H x W]`` float32 RGB in 0..1, and returns ``predictions``,
    ``[1 x (4 + classes) x N]`` float32: centre x, centre y, width and height in pixels of its input, then the scores of
    the classes in 0..1 (the layout of YOLOv8 heads).

    Args:
        engine: runs the network.
        labels: class names in the order of the scores.
        input_size: height and width that the network is run at, multiples of 32.
        score_threshold: as :class:`Detector` has it.
        iou_threshold: likewise.
        has_fixed_size: whether the network takes no other multiples of 32.

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
        *,
        has_fixed_size: bool = True,
    ) -> None:
        if min(input_size) <= 0 or any(side % 32 for side in input_size):
            raise ValueError(f"detector input of {input_size[0]} x {input_size[1]}; both must be multiples of 32")
        if "image" not in engine.input_names or "predictions" not in engine.output_names:
            raise ValueError(
                f"the network takes {list(engine.input_names)} and returns {list(engine.output_names)}; "
                "a detector takes 'image' and returns 'predictions'"
            )
        shape = (1, 3, *(input_size if has_fixed_size else (-1, -1)))
        inputs = NetworkInputs("image", {"image": Tensor(np.dtype(np.float32), shape)})
        form = YoloForm(len(labels))
        thresholds = {"score_threshold": score_threshold, "iou_threshold": iou_threshold}
        super().__init__(engine, labels, ImageInput(input_size), inputs, form, **thresholds)


def suppress_doubles(boxes: _Floats, scores: Floats, indices: NDArray[np.intp], iou_threshold: float) -> list[int]:
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
