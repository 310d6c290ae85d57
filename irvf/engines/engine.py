"""What an engine is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


def precision_of(onnx: Path) -> str:
    """Return the precision of a network's file, by its name: ``NAME.int8.onnx`` is in 8 bits."""
    return "int8" if onnx.name.endswith(".int8.onnx") else "fp32"


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
