"""The forms in which detection networks say what they see, and how a network's form is told from what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from irvf.engines.engine import EngineError

Outputs = Mapping[str, NDArray[Any]]
Floats = NDArray[np.floating[Any]]

MAX_NOT_FINITE = 0.5
"""Share of predictions with NaN or infinite numbers that is dropped; with more, the network is taken for broken."""
KNOWN_FORMS = (
    "one output [1 x (4 + classes) x N] or [1 x N x (4 + classes)] (YOLOv8, 11), [1 x N x (5 + classes)] (YOLOv5) or "
    "[1 x N x 6] (without suppression of doubles: YOLOv10, 26); logits and pred_boxes (DETR, RT-DETR, D-FINE); "
    "labels, boxes and scores with an input orig_target_sizes (RT-DETR, D-FINE)"
)
_NOT_FINITE = -1.0
_STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64))
_MOST_QUERIES = 1000
_COCO = 80
_QUERY_NAMES = (("logits", "pred_boxes"), ("pred_logits", "pred_boxes"), ("labels", "dets"))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network said, N of them.

    Attributes:
        boxes: ``[N x 4]``, as :meth:`OutputForm.corners` takes them.
        scores: ``[N]`` in 0..1; less than 0 where the network's numbers are not finite.
        indices: class of each, ``[N]``.
    """

    boxes: Floats
    scores: Floats
    indices: NDArray[np.intp]


class OutputForm(Protocol):
    """How a network's outputs are to be read."""

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart; None where its outputs do not show it."""
        ...

    @property
    def has_doubles(self) -> bool:
        """Whether one object may come as many boxes, of which the best must be chosen."""
        ...

    def read(self, outputs: Outputs) -> Predictions:
        """Take the outputs apart.

        Raises:
            EngineError: they are not of this form, or most of them are no numbers.
        """
        ...

    def corners(self, boxes: Floats, input_size: tuple[int, int]) -> NDArray[np.float64]:
        """Return ``[N x 4]`` x_min, y_min, x_max, y_max in pixels of the input, whose height and width are given."""
        ...


@dataclass(frozen=True)
class YoloForm:
    """Centre x, centre y, width and height, perhaps the certainty that anything is there, and a score for each class.

    Attributes:
        classes: how many.
        name: of the output.
        objectness: whether the boxes' certainty comes before, and multiplies, the scores (YOLOv5).
        transposed: ``[1 x N x rows]`` instead of ``[1 x rows x N]``.
        queries: boxes are shares of the input and without doubles (RT-DETR of ultralytics before 8.4).
    """

    classes: int
    name: str = "predictions"
    objectness: bool = False
    transposed: bool = False
    queries: bool = False

    @property
    def has_doubles(self) -> bool:
        """See :class:`OutputForm`."""
        return not self.queries

    def read(self, outputs: Outputs) -> Predictions:
        """See :class:`OutputForm`."""
        output, first = _floats(outputs[self.name]), 5 if self.objectness else 4
        rows = first + self.classes
        if output.ndim != 3 or (output.shape[0], output.shape[2 if self.transposed else 1]) != (1, rows):
            wanted = f"[1 x N x {rows}]" if self.transposed else f"[1 x {rows} x N]"
            raise EngineError(
                f"the detector returned {self.name} of shape {list(output.shape)}; for {self.classes} classes it must "
                f"be {wanted}: the model's labels and its network do not belong together"
            )
        table = output[0].T if self.transposed else output[0]
        finite = _finite(table, axis=0)
        scores = table[first:].max(axis=0)
        if self.objectness:
            scores = scores * table[4]
        scores[~finite] = _NOT_FINITE
        return Predictions(table[:4].T, scores, table[first:].argmax(axis=0))

    def corners(self, boxes: Floats, input_size: tuple[int, int]) -> NDArray[np.float64]:
        """See :class:`OutputForm`."""
        return _corners_of_centers(boxes, input_size if self.queries else (1, 1))


@dataclass(frozen=True)
class EndToEndForm:
    """``[1 x N x 6]``: x_min, y_min, x_max, y_max in pixels of the input, score, class; doubles are gone already.

    Attributes:
        name: of the output.
        centered: the first four are centre x, centre y, width and height as shares of the input (RT-DETR of
            ultralytics from 8.4 on).
    """

    name: str
    centered: bool = False
    classes: int | None = None
    has_doubles: bool = False

    def read(self, outputs: Outputs) -> Predictions:
        """See :class:`OutputForm`."""
        output = _floats(outputs[self.name])
        if output.ndim != 3 or (output.shape[0], output.shape[2]) != (1, 6):
            raise EngineError(f"the detector returned {self.name} of shape {list(output.shape)} instead of [1 x N x 6]")
        return _listed(output[0, :, :4], output[0, :, 4], output[0, :, 5])

    def corners(self, boxes: Floats, input_size: tuple[int, int]) -> NDArray[np.float64]:
        """See :class:`OutputForm`."""
        return _corners_of_centers(boxes, input_size) if self.centered else boxes.astype(np.float64)


@dataclass(frozen=True)
class DeployForm:
    """``labels``, ``boxes`` and ``scores``, ``[1 x N]`` and ``[1 x N x 4]`` corners, as RT-DETR and D-FINE export them.

    Boxes are in the size given as ``orig_target_sizes``: here the input's, so that they are pixels of it.
    """

    classes: int | None = None
    has_doubles: bool = False

    def read(self, outputs: Outputs) -> Predictions:
        """See :class:`OutputForm`."""
        labels, boxes, scores = outputs["labels"], _floats(outputs["boxes"]), _floats(outputs["scores"])
        if boxes.ndim != 3 or not labels.shape == scores.shape == boxes.shape[:2] == (1, boxes.shape[1]):
            raise EngineError(
                f"the detector returned {_shapes(outputs)}; labels and scores must be [1 x N] and boxes [1 x N x 4]"
            )
        return _listed(boxes[0], scores[0], labels[0])

    def corners(self, boxes: Floats, input_size: tuple[int, int]) -> NDArray[np.float64]:  # noqa: ARG002
        """See :class:`OutputForm`."""
        return boxes.astype(np.float64)


@dataclass(frozen=True)
class QueryForm:
    """``[1 x Q x K]`` logits and ``[1 x Q x 4]`` centre x, centre y, width and height as shares of the input.

    Attributes:
        classes: how many.
        softmax: K is one more than the classes, the last being "no object" (DETR, YOLOS); else each class has its own
            sigmoid, and the best Q of all Q x K count, as they are trained (deformable DETR, RT-DETR, D-FINE).
        logits: name of that output.
        boxes: likewise.
    """

    classes: int
    softmax: bool = False
    logits: str = "logits"
    boxes: str = "pred_boxes"
    has_doubles: bool = False

    def read(self, outputs: Outputs) -> Predictions:
        """See :class:`OutputForm`."""
        logits, boxes = _floats(outputs[self.logits]), _floats(outputs[self.boxes])
        wanted = (1, logits.shape[1] if logits.ndim == 3 else 0, self.classes + self.softmax)
        if logits.shape != wanted or boxes.shape != (*wanted[:2], 4):
            raise EngineError(
                f"the detector returned {_shapes(outputs)}; {self.logits} must be [1 x Q x {wanted[2]}] and "
                f"{self.boxes} [1 x Q x 4]"
            )
        logits, boxes = logits[0], boxes[0]
        finite = _finite(np.hstack((logits, boxes)), axis=1)
        logits = np.where(finite[:, None], logits, 0)
        if self.softmax:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares = (powers / powers.sum(axis=1, keepdims=True))[:, :-1]
            return Predictions(boxes, np.where(finite, shares.max(axis=1), _NOT_FINITE), shares.argmax(axis=1))
        with np.errstate(over="ignore"):  # the sigmoid of a very negative number is 0
            scores = np.where(finite[:, None], 1 / (1 + np.exp(-logits)), _NOT_FINITE).ravel()
        best = np.argpartition(-scores, len(boxes) - 1)[: len(boxes)] if len(boxes) else np.zeros(0, np.intp)
        return Predictions(boxes[best // self.classes], scores[best], best % self.classes)

    def corners(self, boxes: Floats, input_size: tuple[int, int]) -> NDArray[np.float64]:
        """See :class:`OutputForm`."""
        return _corners_of_centers(boxes, input_size)


def recognise(
    outputs: Outputs,
    inputs: Iterable[str],
    classes: int | None,
    input_size: tuple[int, int],
    *,
    centered: bool = False,
) -> OutputForm:
    """Tell the form of a network from what it returned once.

    Args:
        outputs: of any image.
        inputs: names of what it takes.
        classes: how many it tells apart; None where nobody says.
        input_size: height and width at which it was run.
        centered: a list of objects has them as RT-DETR of ultralytics has, which only its file can tell.

    Raises:
        ValueError: unknown, or one of several that only the number of classes tells apart; says what was found.
    """
    if {"labels", "boxes", "scores"} <= set(outputs) and "orig_target_sizes" in inputs:
        return DeployForm()
    for logits, boxes in _QUERY_NAMES:
        if logits in outputs and boxes in outputs:
            return _query_form(outputs, logits, boxes, classes)
    tables = [name for name, output in outputs.items() if output.ndim == 3 and len(output) == 1]
    # YOLOv5 also returns what its table was made of, with 5 axes; with 4 they are the masks of a segmentation.
    if len(tables) != 1 or any(output.ndim != 5 for name, output in outputs.items() if name != tables[0]):
        raise ValueError(f"the network returns {_shapes(outputs)}, no form of a detector. Known: {KNOWN_FORMS}")
    possible = _table_forms(tables[0], outputs[tables[0]].shape, classes, input_size, centered=centered)
    if len(possible) == 1:
        return possible[0]
    said = "without names of classes" if classes is None else f"with names of {classes} classes"
    if not possible:
        raise ValueError(
            f"the network returns {_shapes(outputs)}, no form of a detector {said}. Known: {KNOWN_FORMS}. Names of "
            "classes that are not the network's also lead here"
        )
    raise ValueError(
        f"the network returns {_shapes(outputs)}, which {said} can be {' or '.join(map(str, possible))}; give the "
        "names of its classes in labels.txt beside it"
    )


def _query_form(outputs: Outputs, logits: str, boxes: str, classes: int | None) -> QueryForm:
    found = outputs[logits].shape[-1] if outputs[logits].ndim == 3 else 0
    if classes is None and found in (_COCO, _COCO + 1):
        classes = _COCO
    if classes is None:
        raise ValueError(
            f"the network returns {_shapes(outputs)}: whether the last of {found} is a class or 'no object' only the "
            "names of its classes tell; give them in labels.txt, or its config.json with id2label, beside it"
        )
    if found not in (classes, classes + 1) or outputs[boxes].shape[-1] != 4:
        raise ValueError(
            f"the network returns {_shapes(outputs)}; for {classes} classes {logits} must be [1 x Q x {classes}], or "
            f"[1 x Q x {classes + 1}] with 'no object', and {boxes} [1 x Q x 4]"
        )
    return QueryForm(classes, softmax=found == classes + 1, logits=logits, boxes=boxes)


def _table_forms(
    name: str, shape: tuple[int, ...], classes: int | None, input_size: tuple[int, int], *, centered: bool
) -> list[OutputForm]:
    """List the forms that a single output can have.

    A table with a row for each point of a grid is told from a list of objects by its length: there are as many points
    as the strides of such networks give for this input, three times as many with three anchors a point.
    """
    _, down, across = shape
    points = {sum(-(-input_size[0] // s) * -(-input_size[1] // s) for s in strides) for strides in _STRIDES}
    anchors = {3 * count for count in points}
    forms: list[OutputForm] = []
    if classes is None:
        if 5 <= down < across:
            forms.append(YoloForm(down - 4, name))
        if across < down and down in points and across >= 5:
            plain = YoloForm(across - 4, name, transposed=True)
            certain = YoloForm(across - 5, name, objectness=True, transposed=True)
            coco = [form for form in (plain, certain) if form.classes == _COCO]
            forms += coco or [form for form in (plain, certain) if form.classes]
        elif across < down and down in anchors and across >= 6:
            forms.append(YoloForm(across - 5, name, objectness=True, transposed=True))
    else:
        if down == 4 + classes:
            forms.append(YoloForm(classes, name))
        listed = down not in points and down <= _MOST_QUERIES
        # Of six numbers that can be a list of objects, too, it is one.
        if across == 4 + classes and not (listed and across == 6):
            forms.append(YoloForm(classes, name, transposed=True, queries=listed))
        if across == 5 + classes and (across != 6 or down in points | anchors):
            forms.append(YoloForm(classes, name, objectness=True, transposed=True))
    if across == 6 and down not in points | anchors and down <= _MOST_QUERIES:
        forms.append(EndToEndForm(name, centered))
    return forms


def _listed(boxes: Floats, scores: Floats, indices: NDArray[Any]) -> Predictions:
    finite = _finite(np.column_stack((boxes, scores, indices)), axis=1)
    numbers = np.where(finite, indices, 0).astype(np.intp)
    return Predictions(boxes, np.where(finite, scores, _NOT_FINITE), numbers)


def _floats(output: NDArray[Any]) -> Floats:
    # Half precision is what some networks return; sums of it overflow at 65504.
    return output.astype(np.float32) if output.dtype == np.float16 else output


def _finite(table: Floats, axis: int) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.all(np.isfinite(table), axis=axis)
    broken = int(np.count_nonzero(~finite))
    if broken > MAX_NOT_FINITE * finite.size:
        raise EngineError(f"{broken} of {finite.size} predictions of the detector are NaN or infinite")
    return finite


def _corners_of_centers(boxes: Floats, scale: tuple[int, int]) -> NDArray[np.float64]:
    boxes = boxes.astype(np.float64) * (scale[1], scale[0], scale[1], scale[0])
    half = boxes[:, 2:] / 2
    return np.hstack((boxes[:, :2] - half, boxes[:, :2] + half))


def _shapes(outputs: Outputs) -> str:
    return ", ".join(f"{name} {list(output.shape)}" for name, output in outputs.items())
