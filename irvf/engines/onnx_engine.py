"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from irvf.engines.engine import Arrays, EngineError

_SEVERITY_ERROR = 3


class OnnxEngine:
    """An ONNX Runtime session; see :class:`irvf.engines.engine.Engine`.

    Args:
        onnx: the network's file.
        threads: of one operator; 0 takes all cores.

    Raises:
        EngineError: the file is missing or no valid network.
    """

    def __init__(self, onnx: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _SEVERITY_ERROR
        # Threads that spin between operators slow the rest of the process 1.2 to 1.8 times.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise EngineError(f"{onnx} cannot be loaded by onnxruntime: {_first_line(error)}") from error
        self.input_names = tuple(entry.name for entry in self._session.get_inputs())
        self.output_names = tuple(entry.name for entry in self._session.get_outputs())
        self.description = f"onnxruntime {onnxruntime.__version__} cpu, {threads or 'all'} threads"

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`."""
        try:
            outputs = self._session.run(None, dict(inputs))
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from error
        return dict(zip(self.output_names, outputs, strict=True))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
