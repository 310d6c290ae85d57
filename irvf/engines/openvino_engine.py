"""OpenVINO on the CPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import openvino
from numpy.typing import NDArray

from irvf.engines.engine import Arrays, EngineError, precision_of


def computes_in_bfloat16() -> bool:
    """Say whether the CPU computes in 16 bits natively (AVX-512 BF16, AMX); others would only take longer."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """A compiled OpenVINO model; see :class:`irvf.engines.engine.Engine`. May be called from several threads.

    Args:
        onnx: the network's file.
        threads: that it may use; 0 takes all cores.
        bfloat16: compute in 16 bits; see :func:`computes_in_bfloat16`.

    Raises:
        EngineError: the file is missing or no valid network.
    """

    def __init__(self, onnx: Path, threads: int = 0, *, bfloat16: bool = False) -> None:
        # One request at a time, as fast as it can be; without the precision hint, some CPUs would round unasked.
        hint = "bf16" if bfloat16 else "f32"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = openvino.Core().compile_model(str(onnx), "CPU", options)
            self._request = compiled.create_infer_request()
        except Exception as error:  # openvino raises no narrower class
            raise EngineError(f"{onnx} cannot be loaded by openvino: {_first_line(error)}") from error
        self._lock = threading.Lock()
        self.input_names = tuple(entry.any_name for entry in compiled.inputs)
        self.output_names = tuple(entry.any_name for entry in compiled.outputs)
        self._types = {entry.any_name: entry.element_type.to_dtype() for entry in compiled.inputs}
        self._shapes = {entry.any_name: entry.partial_shape for entry in compiled.inputs}
        precision = "bf16" if bfloat16 else precision_of(onnx)
        version = openvino.__version__.split("-", maxsplit=1)[0]
        self.description = f"openvino {version} cpu, {threads or 'all'} threads, {precision}"

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`."""
        self._check(inputs)
        try:
            with self._lock:
                found = self._request.infer(dict(inputs), share_inputs=True)
                return {name: found[index] for index, name in enumerate(self.output_names)}
        except Exception as error:  # as above
            raise EngineError(f"openvino failed: {_first_line(error)}") from error

    def _check(self, inputs: Arrays) -> None:
        """Refuse what OpenVINO would take in silence, as names left out, and say by name what does not fit."""
        if set(inputs) != set(self.input_names):
            raise EngineError(
                f"openvino failed: the network takes {', '.join(self.input_names)}, not {', '.join(inputs)}"
            )
        for name, array in inputs.items():
            if array.dtype != self._types[name]:
                raise EngineError(f"openvino failed: {name} must be {self._types[name]}, not {array.dtype}")
            if not self._shapes[name].compatible(openvino.PartialShape(list(array.shape))):
                raise EngineError(f"openvino failed: {name} must be {self._shapes[name]}, not {list(array.shape)}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
