"""Finds model folders: ``models/NAME`` with ``config.yaml``, weights and a model card."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS = ("fusion", "detector")


class ModelError(ValueError):
    """A model folder is missing or malformed; the message says which and what to do."""


@dataclass(frozen=True)
class Model:
    """A model folder, read and checked.

    Attributes:
        name: of the folder.
        path: the folder.
        kind: one of :data:`KINDS`.
        onnx: the network, as every engine reads it.
        labels: class names in the order of the network's outputs; detectors only.
        input_size: height and width that a detector's input is letterboxed to, multiples of 32; detectors only.
        licence: SPDX name of the weights' licence.
    """

    name: str
    path: Path
    kind: str
    onnx: Path
    licence: str
    labels: tuple[str, ...] = ()
    input_size: tuple[int, int] = (0, 0)


def model_roots() -> list[Path]:
    """List the folders that are searched, first match wins.

    ``IRVF_MODEL_PATH`` (folders separated like PATH), then ``models/`` of the source tree, then
    ``share/irvf/models`` of the installation.
    """
    named = [Path(entry) for entry in os.environ.get("IRVF_MODEL_PATH", "").split(os.pathsep) if entry]
    here = Path(__file__).resolve()
    installed = [parent / "share" / "irvf" / "models" for parent in here.parents]
    return [root for root in (*named, here.parents[1] / "models", *installed) if root.is_dir()]


def available_models() -> dict[str, Path]:
    """Map the names that can be given to their folders."""
    found: dict[str, Path] = {}
    for root in model_roots():
        for folder in sorted(root.iterdir()):
            if (folder / "config.yaml").is_file():
                found.setdefault(folder.name, folder)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load((path / "config.yaml").read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"cannot read {path / 'config.yaml'}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path / 'config.yaml'} must be a mapping with at least kind, onnx and licence")
    return content


def load_model(name: str, kind: str) -> Model:
    """Find and check a model folder.

    Args:
        name: of a folder in :func:`model_roots`, or a path to a folder.
        kind: what is wanted, one of :data:`KINDS`.

    Raises:
        ModelError: no such model, a malformed ``config.yaml``, another kind, or a missing ONNX file.
    """
    known = available_models()
    path = known.get(name, Path(name) if os.sep in name else None)
    if path is None or not path.is_dir():
        raise ModelError(
            f"no model {name!r}; found: {', '.join(known) or 'none'} in "
            f"{', '.join(map(str, model_roots())) or 'no folder'}. Give one of these, a path, or set IRVF_MODEL_PATH"
        )
    content = _read(path)
    if content.get("kind") != kind:
        raise ModelError(f"model {path} is of kind {content.get('kind')!r}, a {kind} is wanted")
    labels = content.get("labels", [])
    size = content.get("input_size", [0, 0])
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ModelError(f"{path / 'config.yaml'}: labels must be a list of names, not {labels!r}")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side >= 0 for side in size)):
        raise ModelError(f"{path / 'config.yaml'}: input_size must be [height, width] in pixels, not {size!r}")
    if kind == "detector" and (not labels or min(size) <= 0 or any(side % 32 for side in size)):
        raise ModelError(f"{path / 'config.yaml'}: a detector needs labels and an input_size of multiples of 32")
    network = content.get("onnx")
    if not isinstance(network, str):
        raise ModelError(f"{path / 'config.yaml'}: onnx must be the name of the network's file, not {network!r}")
    onnx = path / network
    if not onnx.is_file():
        raise ModelError(f"model {path} lacks its network {network!r}; copy the whole model folder again")
    return Model(path.name, path, kind, onnx, str(content.get("licence", "unknown")), tuple(labels), (size[0], size[1]))
