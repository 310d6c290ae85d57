"""Finds model folders: ``models/NAME`` with ``config.yaml``, weights and a model card."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

KINDS = ("fusion", "detector", "segmentation", "saliency", "text_encoder")
_OF_IMAGES = ("detector", "segmentation", "saliency")


class ModelError(ValueError):
    """A model folder is missing or malformed; the message says which and what to do."""


@dataclass(frozen=True)
class Network:
    """A network in all the forms that it has.

    Attributes:
        onnx: in 32 bits, as every engine reads it.
        int8: in 8 bits, as QDQ; None without.
        prefers_16_bits: whether ``auto`` computes it in 16 bits, rather than 8, on a CPU that does so natively: where
            that is faster and as good.
        architecture: what torch makes it of, with the weights beside ``onnx``; see
            :func:`irvf.networks.deployed.load_network`. None without.
    """

    onnx: Path
    int8: Path | None = None
    architecture: Mapping[str, Any] | None = None
    prefers_16_bits: bool = False


@dataclass(frozen=True)
class Model:
    """A model folder, read and checked.

    Attributes:
        name: of the folder.
        path: the folder.
        kind: one of :data:`KINDS`.
        network: in all its forms.
        licence: SPDX name of the weights' licence.
        labels: class names in the order of the network's outputs; detectors, and segmentations, whose first is the
            background.
        input_size: height and width that the input is letterboxed to, multiples of 32; detectors, segmentations and
            saliency networks.
        weights: what makes prompts of texts; fusions that take a prompt, else None.
        text_encoder: name of or path to the model that embeds the texts; fusions that take a prompt, else empty.
        takes_other_sizes: whether the network takes all multiples of 32 besides ``input_size``; detectors.
        size_multiple: of which height and width of the planes must be multiples; fusions.
        tokenizer: what makes tokens of a text; text encoders, else None.
        width: numbers in an embedding; text encoders, else 0.
        meaning: what tells what instructions are about, by their embeddings; None without, and for other kinds.
    """

    name: str
    path: Path
    kind: str
    network: Network
    licence: str
    labels: tuple[str, ...] = ()
    input_size: tuple[int, int] = (0, 0)
    weights: Path | None = None
    text_encoder: str = ""
    takes_other_sizes: bool = False
    size_multiple: int = 1
    tokenizer: Path | None = None
    width: int = 0
    meaning: Path | None = None

    @property
    def onnx(self) -> Path:
        """The network in 32 bits."""
        return self.network.onnx


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


def load_model(name: str, kind: str | None = None) -> Model:
    """Find and check a model folder.

    Args:
        name: of a folder in :func:`model_roots`, or a path to a folder.
        kind: what is wanted, one of :data:`KINDS`; None takes any.

    Raises:
        ModelError: no such model, a malformed ``config.yaml``, another kind, or a missing file.
    """
    known = available_models()
    path = known.get(name, Path(name) if os.sep in name else None)
    if path is None or not path.is_dir():
        raise ModelError(
            f"no model {name!r}; found: {', '.join(known) or 'none'} in "
            f"{', '.join(map(str, model_roots())) or 'no folder'}. Give one of these, a path, or set IRVF_MODEL_PATH"
        )
    content = _read(path)
    found = content.get("kind")
    if found not in KINDS or kind not in (None, found):
        raise ModelError(f"model {path} is of kind {found!r}, a {kind or ' or '.join(KINDS)} is wanted")
    network = Network(
        _file(path, "onnx", content.get("onnx")),
        _file(path, "int8", content["int8"]) if "int8" in content else None,
        _architecture(path, content.get("network")),
        prefers_16_bits=_flag(path, content, "prefers_16_bits"),
    )
    _check_digests(path, content)
    model = Model(path.name, path, found, network, str(content.get("licence", "unknown")))
    if found in _OF_IMAGES:
        return _of_images(model, content)
    return _fusion(model, content) if found == "fusion" else _text_encoder(model, content)


def _architecture(path: Path, content: Any) -> dict[str, Any] | None:
    if content is not None and not (isinstance(content, dict) and isinstance(content.get("name"), str)):
        raise ModelError(f"{path / 'config.yaml'}: network must be a mapping with at least a name, not {content!r}")
    return content


def _flag(path: Path, content: dict[str, Any], name: str) -> bool:
    flag = content.get(name, False)
    if not isinstance(flag, bool):
        raise ModelError(f"{path / 'config.yaml'}: {name} must be true or false, not {flag!r}")
    return flag


def _of_images(model: Model, content: dict[str, Any]) -> Model:
    where, size = model.path / "config.yaml", content.get("input_size")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side >= 0 for side in size)):
        raise ModelError(f"{where}: input_size must be [height, width] in pixels, not {size!r}")
    if min(size) <= 0 or any(side % 32 for side in size):
        raise ModelError(f"{where}: input_size must be two multiples of 32, not {size!r}")
    labels = content.get("labels", [])
    if not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ModelError(f"{where}: labels must be a list of names, not {labels!r}")
    if len(set(labels)) != len(labels):
        raise ModelError(f"{where}: labels must differ, not {labels!r}")
    if model.kind == "detector" and not labels:
        raise ModelError(f"{where}: a detector needs labels, the names of its classes")
    if model.kind == "segmentation" and len(labels) < 2:
        raise ModelError(f"{where}: a segmentation needs labels, the background first, not {labels!r}")
    others = _flag(model.path, content, "takes_other_sizes")
    return replace(model, labels=tuple(labels), input_size=(size[0], size[1]), takes_other_sizes=others)


def _fusion(model: Model, content: dict[str, Any]) -> Model:
    multiple = content.get("size_multiple", 1)
    if not isinstance(multiple, int) or multiple < 1:
        raise ModelError(f"{model.path / 'config.yaml'}: size_multiple must be a number of pixels, not {multiple!r}")
    model = replace(model, size_multiple=multiple)
    encoder = content.get("text_encoder")
    if encoder is None and content.get("weights") is None:
        return model
    if not (isinstance(encoder, str) and encoder) or content.get("weights") is None:
        raise ModelError(
            f"{model.path / 'config.yaml'}: weights and text_encoder belong together: the first makes the prompts of "
            "what the second, the name of a model, makes of an instruction. Give both, or none for a network without "
            "prompt"
        )
    return replace(model, weights=_file(model.path, "weights", content["weights"]), text_encoder=encoder)


def _text_encoder(model: Model, content: dict[str, Any]) -> Model:
    width = content.get("width")
    if not isinstance(width, int) or width <= 0:
        raise ModelError(f"{model.path / 'config.yaml'}: width must be the length of an embedding, not {width!r}")
    meaning = _file(model.path, "meaning", content["meaning"]) if "meaning" in content else None
    tokenizer = _file(model.path, "tokenizer", content.get("tokenizer"))
    return replace(model, tokenizer=tokenizer, width=width, meaning=meaning)


def file_digest(path: Path) -> str:
    """Return what ``config.yaml`` says of a file under ``digests``: the start of its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _check_digests(path: Path, content: dict[str, Any]) -> None:
    """Refuse files of two exports in one folder: graph and weights of a network each hold a part of it."""
    digests = content.get("digests", {})
    if not isinstance(digests, dict):
        raise ModelError(f"{path / 'config.yaml'}: digests must map names of files to digests, not {digests!r}")
    for name, digest in digests.items():
        if file_digest(_file(path, "digests", name)) != str(digest):
            raise ModelError(
                f"{path / str(name)} is not the file that the folder was written with; copy the whole model folder "
                "again, or take its line out of digests in config.yaml if the change is meant"
            )


def _file(folder: Path, key: str, name: object) -> Path:
    if not isinstance(name, str):
        raise ModelError(f"{folder / 'config.yaml'}: {key} must be the name of a file, not {name!r}")
    if Path(name).name != name:
        raise ModelError(f"{folder / 'config.yaml'}: {key} is {name!r}; it must name a file in that folder itself")
    if not (folder / name).is_file():
        raise ModelError(f"model {folder} lacks its file {name!r} ({key}); copy the whole model folder again")
    return folder / name
