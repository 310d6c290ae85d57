"""Which engines there are, and which one ``auto`` takes."""

from __future__ import annotations

from pathlib import Path

from irvf.engines.engine import Engine, EngineError

ENGINE_NAMES = ("auto", "onnxruntime")


def create_engine(name: str, onnx: Path, threads: int = 0) -> Engine:
    """Load a network.

    Args:
        name: one of :data:`ENGINE_NAMES`; ``auto`` takes the fastest that can run here.
        onnx: the network.
        threads: that it may use; 0 leaves the choice to the engine (all cores).

    Raises:
        EngineError: unknown name, an engine that is not installed, or a file that is no network.
    """
    if name not in ENGINE_NAMES:
        raise EngineError(f"no engine {name!r}; allowed: {', '.join(ENGINE_NAMES)}")
    try:
        from irvf.engines.onnx_engine import OnnxEngine  # noqa: PLC0415  (an engine is imported only when chosen)
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported ({error}); install it: pip install onnxruntime") from error
    return OnnxEngine(onnx, threads)
