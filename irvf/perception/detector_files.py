"""Loads the detector that one name says: a model folder, a user's network in a file, or a folder of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from irvf.engines.engine import Engine, EngineError
from irvf.models import ModelError, Network, available_models, load_model
from irvf.perception.detection import BoxDetector, Detector
from irvf.perception.detector_input import DEFAULT_SIZE, ImageInput, NetworkInputs, Tensor, read_preprocessor
from irvf.perception.detector_labels import beside, find_labels, literal, name_classes, names_in_order, read_json
from irvf.perception.detector_outputs import recognise

LoadNetwork = Callable[[Network | Path], Engine]
"""Makes an engine of a network of a model folder, or of an ONNX file."""

_ENGINE_FILES = (".engine", ".plan")
_ULTRALYTICS_FILES = (".pt", ".pth")
_PROBE = (240, 320)


@dataclass(frozen=True)
class _Found:
    """What a network and the files around it say."""

    engine: Engine
    inputs: NetworkInputs
    image: ImageInput
    labels: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def load_detector(name: str, load_network: LoadNetwork, *, allow_pickle: bool = False) -> Detector:
    """Load a detector.

    Args:
        name: of or path to a model folder; path to an ONNX file, to an engine that TensorRT built (``.engine``,
            ``.plan``), to a folder of ``transformers``, or to an ultralytics ``.pt``. See ``docs/detectors.md``.
        load_network: makes an engine of an ONNX file.
        allow_pickle: whether a ``.pt`` may be loaded, which runs whatever code is pickled in it.

    Raises:
        ModelError: a file or folder is missing or malformed, or a ``.pt`` is not allowed.
        EngineError: a network cannot be loaded or run.
        ValueError: a network of another form than those that are known, or no names for its classes.
    """
    path = Path(name).expanduser()
    kind = path.suffix.lower()
    is_ours = name in available_models() or (path / "config.yaml").is_file()
    if path.is_dir() and (path / "config.json").is_file() and not is_ours:
        return _detector(_transformers_folder(path), str(path))
    if kind not in (".onnx", *_ENGINE_FILES, *_ULTRALYTICS_FILES) or path.is_dir():
        if path.is_file():
            known = ", ".join((".onnx", *_ENGINE_FILES, *_ULTRALYTICS_FILES))
            raise ModelError(f"{name} is no detector: files of detectors end in {known}")
        model = load_model(name, "detector")
        fixed = not model.takes_other_sizes
        return BoxDetector(load_network(model.network), model.labels, model.input_size, has_fixed_size=fixed)
    if not path.is_file():
        raise ModelError(f"no detector {name}: there is no such file")
    if kind in _ULTRALYTICS_FILES:
        if not allow_pickle:
            raise ModelError(
                f"{path} is a pickle: to load it is to run whatever code is in it, with the rights of this process. "
                "Export it once elsewhere with: yolo export model=FILE.pt format=onnx, and give the ONNX file; or, if "
                "you trust its source as you trust a program, set the parameter allow_pickle: true"
            )
        return _detector(_ultralytics_file(path), str(path))
    return _detector(_onnx(path, load_network) if kind == ".onnx" else _tensorrt_plan(path), str(path))


def _detector(found: _Found, where: str) -> Detector:
    """Run the network once: what it returns shows its form, whatever the engine and however open its shapes."""
    task = found.metadata.get("task", "detect")
    if task != "detect":
        raise ValueError(f"{where} is made for the task {task!r} of ultralytics; a detector's is 'detect'")
    head, about = found.metadata.get("head"), str(found.metadata.get("description", ""))
    centered = head == "RTDETRDecoder" or "rtdetr" in about.lower()
    if centered:  # unlike for its other networks, ultralytics stretches images for this one
        found = replace(found, image=replace(found.image, stretches=True))
    letterbox = found.image.fit(_PROBE)
    outputs = found.engine.infer(found.inputs.feed(found.image.blob(np.zeros((*_PROBE, 3), np.uint8), letterbox)))
    classes = None if found.labels is None else len(found.labels)
    try:
        size = letterbox.input_size
        form = recognise(outputs, found.inputs.tensors, classes, size, centered=centered)
        form.read(outputs)
        labels = name_classes(found.labels, form.classes, "the network")
        return Detector(found.engine, labels, found.image, found.inputs, form)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _onnx(path: Path, load_network: LoadNetwork) -> _Found:
    """Read what only ONNX Runtime tells of a network, whichever engine runs it."""
    import onnxruntime  # noqa: PLC0415  (slow to import)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Only looked at: nothing is prepared that running would need.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class below Exception
        raise EngineError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0][:300]}") from error
    types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}
    types |= {"tensor(int32)": "int32", "tensor(bool)": "bool", "tensor(uint8)": "uint8", "tensor(double)": "float64"}
    tensors = {}
    for entry in session.get_inputs():
        if entry.type not in types:
            raise ValueError(f"{path}: its input {entry.name} is of the type {entry.type}, which no detector takes")
        shape = tuple(side if isinstance(side, int) else -1 for side in entry.shape)
        tensors[entry.name] = Tensor(np.dtype(types[entry.type]), shape)
    metadata = session.get_modelmeta().custom_metadata_map
    del session  # before the engine takes its own memory
    return _network_file(path, metadata, tensors, lambda: load_network(path))


def _tensorrt_plan(path: Path) -> _Found:
    from irvf.engines.tensorrt_engine import TensorRtEngine  # noqa: PLC0415  (only for such files)

    try:
        metadata, plan = split_metadata(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    engine = TensorRtEngine(plan)
    tensors = {name: Tensor(*about) for name, about in engine.inputs.items()}
    return _network_file(path, metadata, tensors, lambda: engine)


def split_metadata(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Part a TensorRT engine from what ultralytics writes before it: the length of a JSON text, and that text.

    Args:
        content: of the file; the length is 4 bytes, the least significant first.

    Returns:
        The text's mapping, empty if there is none, and the engine.
    """
    end = 4 + int.from_bytes(content[:4], "little")
    if 4 < end <= len(content):
        try:
            metadata = json.loads(content[4:end])
        except (ValueError, RecursionError):  # the first also of bytes that are no text: a plain engine
            metadata = None
        if isinstance(metadata, dict):
            return metadata, content[end:]
    return {}, content


def _network_file(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], load: Callable[[], Engine]
) -> _Found:
    try:
        inputs = NetworkInputs.of(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    config = beside(path, "preprocessor_config.json")
    if config:
        image = _preprocessor(config, inputs.fixed_size)
    else:
        image = ImageInput(inputs.fixed_size or _square(literal(metadata.get("imgsz", DEFAULT_SIZE)), path))
    return _Found(load(), inputs, image, find_labels(path, metadata), metadata)


def _preprocessor(config: Path, fixed: tuple[int, int] | None = None) -> ImageInput:
    try:
        return read_preprocessor(read_json(config), fixed)
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{config}: {error}") from error


def _square(size: Any, path: Path) -> tuple[int, int]:
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, (list, tuple)) else []
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ModelError(f"{path}: imgsz in its metadata must be height and width, not {size!r}")
    return sides[0], sides[1]


def _transformers_folder(path: Path) -> _Found:
    try:
        from irvf.perception.transformers_detector import TransformersNetwork  # noqa: PLC0415  (seconds)
    except ImportError as error:
        raise ModelError(
            f"{path} is a folder of transformers, which cannot be imported ({error}); install torch and transformers, "
            "or give an ONNX file of the network instead: that needs neither"
        ) from error
    config = path / "preprocessor_config.json"
    if not config.is_file():
        raise ModelError(f"{path} lacks preprocessor_config.json, which says how its images are sized and scaled")
    image = _preprocessor(config)
    network = TransformersNetwork(path)
    labels = names_in_order(network.labels, f"id2label in {path / 'config.json'}")
    return _Found(network, _float_image("pixel_values"), image, labels)


def _ultralytics_file(path: Path) -> _Found:
    try:
        from irvf.perception.ultralytics_detector import UltralyticsNetwork  # noqa: PLC0415  (seconds)

        network = UltralyticsNetwork(path)
    except ImportError as error:
        raise ModelError(
            f"{path} is a file of ultralytics, which cannot be imported ({error}); pip install ultralytics (AGPL-3.0), "
            "or export it once elsewhere with: yolo export model=FILE.pt format=onnx, which needs nothing here"
        ) from error
    labels = names_in_order(network.names, f"names in {path}")
    return _Found(network, _float_image("images"), ImageInput(_square(network.image_size, path)), labels,
                  {"task": network.task, "head": network.head})  # fmt: skip


def _float_image(name: str) -> NetworkInputs:
    return NetworkInputs(name, {name: Tensor(np.dtype(np.float32), (1, 3, -1, -1))})
