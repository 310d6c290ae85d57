"""Names of a detector's classes: in its file, beside it, or COCO's."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from irvf.models import ModelError

COCO_LABELS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The 80 classes of COCO's boxes, in the order of their numbers there."""


def find_labels(file: Path, metadata: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Find the names of a detector's classes.

    They are taken from ``names`` of the metadata that ultralytics writes into its files, else from ``labels.txt`` (a
    name a line) beside the file, else from a file of its name that ends in ``.yaml`` (``names:``), else from
    ``id2label`` of a ``config.json``.

    Args:
        file: of the network.
        metadata: that is in it.

    Returns:
        Names in the order of the classes; None where there are none.

    Raises:
        ModelError: the first of these that is there cannot be read.
    """
    if metadata.get("names"):
        return names_in_order(literal(metadata["names"]), f"names in {file}")
    listed, named = file.with_name("labels.txt"), file.with_suffix(".yaml")
    if listed.is_file():
        return names_in_order([line.strip() for line in _text(listed).splitlines() if line.strip()], str(listed))
    if named.is_file():
        return names_in_order(_mapping(named).get("names"), f"names in {named}")
    config = beside(file, "config.json")
    if config and "id2label" in (content := _mapping(config)):
        return names_in_order(content["id2label"], f"id2label in {config}")
    return None


def name_classes(labels: tuple[str, ...] | None, classes: int | None, where: str) -> tuple[str, ...]:
    """Return the names of classes: those found, else COCO's if there are 80, else numbers.

    Raises:
        ValueError: neither names nor the number of classes are known.
    """
    if labels is not None:
        return labels
    if classes is None:
        raise ValueError(
            f"{where} does not say which classes it knows; write their names into labels.txt beside it, one a line "
            "(COCO's 80: irvf.perception.detector_labels.COCO_LABELS)"
        )
    return COCO_LABELS if classes == len(COCO_LABELS) else tuple(f"class_{number}" for number in range(classes))


def names_in_order(names: Any, where: str) -> tuple[str, ...]:
    """Return the names of a list, or of a mapping of their numbers, 0 to the number of classes - 1.

    Raises:
        ModelError: it is neither.
    """
    try:
        if isinstance(names, Mapping):
            numbered = {int(number): name for number, name in names.items()}
            names = [numbered[number] for number in range(len(numbered))]
    except (KeyError, TypeError, ValueError):
        names = None
    if isinstance(names, list) and names:
        return tuple(str(name) for name in names)
    raise ModelError(f"{where} must be a list of the classes' names, or map the numbers from 0 on to them")


def literal(value: Any) -> Any:
    """Return the list, mapping or number that ultralytics wrote as a text of Python; any other value as it is."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return value


def beside(file: Path, name: str) -> Path | None:
    """Find a configuration in the file's folder, or, as on the Hugging Face hub, above its folder ``onnx``."""
    folder = file.absolute().parent  # not resolved: the hub's cache is made of links
    folders = [folder, folder.parent] if folder.name == "onnx" else [folder]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of JSON maps.

    Raises:
        ModelError: it cannot be read, or is no mapping.
    """
    text = _text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must be a mapping")
    return content


def _mapping(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return read_json(path)
    text = _text(path)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ModelError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must be a mapping with names")
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
