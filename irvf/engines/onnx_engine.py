"""ONNX Runtime, on an NVIDIA GPU where this onnxruntime can use it, else on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from irvf.engines.engine import Arrays, EngineError

DEVICES = ("auto", "cpu", "cuda")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_SEVERITY_ERROR = 3
_logger = logging.getLogger(__name__)


class OnnxEngine:
    """An ONNX Runtime session; see :class:`irvf.engines.engine.Engine`.

    The GPU's provider has not run on real hardware yet. It computes products of float32 with 10 bits of mantissa where
    the GPU can (TF32), as is onnxruntime's default.

    Args:
        onnx: the network's file.
        threads: of one operator on the CPU; 0 takes all cores.
        device: one of :data:`DEVICES`; ``auto`` takes the GPU where a session with it can be made, ``cuda`` refuses
            where it cannot.

    Raises:
        EngineError: the file is missing or no valid network, an unknown device, or no GPU for ``cuda``.
    """

    def __init__(self, onnx: Path, threads: int = 0, device: str = "auto") -> None:
        if device not in DEVICES:
            raise EngineError(f"onnxruntime has no device {device!r}; allowed: {', '.join(DEVICES)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _SEVERITY_ERROR
        # Threads that spin between operators slow the rest of the process 1.2 to 1.8 times.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session, why_not = (None, "") if device == "cpu" else _cuda_session(onnx, options)
        if session is None and device == "cuda":
            raise EngineError(f"onnxruntime cannot use a GPU: {why_not}")
        try:
            self._session = session or onnxruntime.InferenceSession(str(onnx), options, providers=[_CPU])
        except Exception as error:  # onnxruntime's exceptions share no base class below Exception
            raise EngineError(f"{onnx} cannot be loaded by onnxruntime: {_first_line(error)}") from error
        self.input_names = tuple(entry.name for entry in self._session.get_inputs())
        self.output_names = tuple(entry.name for entry in self._session.get_outputs())
        where = "cuda" if session else f"cpu, {threads or 'all'} threads"
        self.description = f"onnxruntime {onnxruntime.__version__} {where}"

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`."""
        try:
            outputs = self._session.run(None, dict(inputs))
        except Exception as error:  # as above
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from error
        return dict(zip(self.output_names, outputs, strict=True))


def _cuda_session(onnx: Path, options: Any) -> tuple[Any, str]:
    """Return a session on the GPU, or None and why there is none."""
    if _CUDA not in onnxruntime.get_available_providers():
        return None, "this onnxruntime is built without CUDA; pip install onnxruntime-gpu has it"
    try:
        session = onnxruntime.InferenceSession(str(onnx), options, providers=[_CUDA, _CPU])
    except Exception as error:  # noqa: BLE001  (as above; a network that is to blame fails on the CPU, too)
        reason = _first_line(error)
    else:
        # Where CUDA's libraries or the GPU do not fit, onnxruntime goes to the CPU and only logs why.
        if _CUDA in session.get_providers():
            return session, ""
        reason = "its CUDA libraries, cuDNN or the driver do not fit; onnxruntime's log says which"
    _logger.warning("onnxruntime cannot use the GPU: %s", reason)
    return None, reason


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
