"""Which engines there are, and which one ``auto`` takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from irvf.engines.engine import Engine, EngineError

_ENGINES = {  # name -> module, class, package on PyPI
    "openvino": ("openvino_engine", "OpenVinoEngine", "openvino"),
    "onnxruntime": ("onnx_engine", "OnnxEngine", "onnxruntime"),
    "tensorrt": ("tensorrt_engine", "TensorRtEngine", "tensorrt"),
}
_AUTOMATIC = ("openvino", "onnxruntime")
"""The fastest first. TensorRT, which builds for minutes and has not run on real hardware yet, is for those who ask."""
ENGINE_NAMES = ("auto", *_ENGINES)


def create_engine(name: str, onnx: Path, threads: int = 0) -> Engine:
    """Load a network.

    Args:
        name: one of :data:`ENGINE_NAMES`; ``auto`` takes the fastest on a CPU that can run here.
        onnx: the network.
        threads: of the CPU that it may use; 0 leaves the choice to the engine (all cores).

    Raises:
        EngineError: unknown name, an engine that is not installed, or a file that is no network.
    """
    if name not in ENGINE_NAMES:
        raise EngineError(f"no engine {name!r}; allowed: {', '.join(ENGINE_NAMES)}")
    reasons = []
    for candidate in _AUTOMATIC if name == "auto" else (name,):
        try:
            return _load(candidate, onnx, threads)
        except EngineError as error:  # noqa: PERF203  (two at most)
            reasons.append(str(error))
    raise EngineError("; ".join(reasons))


def missing_engine(name: str) -> str:
    """Say why an engine of :data:`ENGINE_NAMES` cannot run here; empty when it can."""
    try:
        _engine_class(name)
        if name == "tensorrt":
            from irvf.engines.cuda_runtime import CudaRuntime  # noqa: PLC0415  (only when it is wanted)
            from irvf.engines.tensorrt_builder import import_tensorrt  # noqa: PLC0415

            import_tensorrt()
            CudaRuntime()
    except EngineError as error:
        return str(error)
    return ""


def _load(name: str, onnx: Path, threads: int) -> Engine:
    make = _engine_class(name)
    engine: Engine = make(onnx) if name == "tensorrt" else make(onnx, threads)
    return engine


def _engine_class(name: str) -> Callable[..., Engine]:
    module, kind, package = _ENGINES[name]
    try:  # an engine is imported only when it is wanted
        found: Callable[..., Engine] = getattr(importlib.import_module(f"irvf.engines.{module}"), kind)
    except ImportError as error:
        raise EngineError(f"{package} cannot be imported ({error}); install it: pip install {package}") from error
    return found
