"""What an engine is, which ones there are, and which one ``auto`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class EngineError(RuntimeError):
    """An engine cannot be made or cannot run; the message says why and what to do."""


class Engine(Protocol):
    """A loaded network."""

    @property
    def description(self) -> str:
        """Name, version, device and threads, for status and diagnostics."""
        ...

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names that :meth:`infer` takes."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names that :meth:`infer` returns."""
        ...

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once.

        Args:
            inputs: one array for each of :attr:`input_names`, of the network's types and shapes.

        Returns:
            One array for each of :attr:`output_names`.

        Raises:
            EngineError: the network refused the inputs or failed.
        """
        ...


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
