"""TensorRT 10 and 11 on an NVIDIA GPU. ``docs/tensorrt.md`` says on what it has run, and on what it has not."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irvf.engines.cuda_runtime import Buffer, CudaRuntime, Graph, Stream
from irvf.engines.engine import Arrays, EngineError
from irvf.engines.engine_cache import EngineCache
from irvf.engines.tensorrt_builder import (
    EngineBuilder,
    Progress,
    SizeLimits,
    first_line,
    import_tensorrt,
    load_plan,
    log_progress,
    make_log,
    sides,
)

_logger = logging.getLogger(__name__)


class TensorRtEngine:
    """A network that TensorRT built for this GPU; see :class:`irvf.engines.engine.Engine`.

    It is built once, in seconds to minutes, and kept (:mod:`irvf.engines.engine_cache`). Precision is that of the
    network as it stands in the file. Several threads may call it; one runs at a time.

    Attributes:
        file: where the engine is kept; None where it could not be.

    Args:
        network: its ONNX file, which is built; or what TensorRT built before, on this kind of GPU and in this version,
            which runs as it is.
        limits: sizes of planes; a network of fixed size has its own.
        cache_folder: where built engines are kept; None takes the default.
        progress: is told how the build goes; None writes it to the log. What it raises ends the build.
        graphs: launch what runs as one CUDA graph from the second run of a size on.
        tf32: let products of 32 bit be computed with 10 bits of mantissa, TensorRT's own default.
        cuda: the CUDA runtime; None loads it.

    Raises:
        EngineError: no TensorRT, no GPU, or a network that TensorRT cannot build.
    """

    def __init__(
        self,
        network: Path | bytes,
        limits: SizeLimits | None = None,
        cache_folder: Path | None = None,
        progress: Progress | None = None,
        *,
        graphs: bool = True,
        tf32: bool = True,
        cuda: CudaRuntime | None = None,
    ) -> None:
        trt = import_tensorrt()
        self._log = make_log(trt)
        self._cuda = cuda or CudaRuntime()
        if isinstance(network, bytes):
            self._engine, self.file, origin = load_plan(trt, self._log, network), None, "built elsewhere"
        else:
            builder = EngineBuilder(trt, self._log, self._cuda, network, limits or SizeLimits(), tf32=tf32)
            self._engine, self.file, origin = builder.engine(EngineCache(cache_folder), progress or log_progress())
        self._context = self._engine.create_execution_context()
        if self._context is None:
            what = "a built engine" if isinstance(network, bytes) else network
            raise EngineError(f"TensorRT cannot run {what}: {self._log.last('out of GPU memory?')}")
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = {name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self.input_names = tuple(name for name in names if name in inputs)
        self.output_names = tuple(name for name in names if name not in inputs)
        self._types = {name: _numpy_type(trt, name, self._engine.get_tensor_dtype(name)) for name in names}
        self._limits = {name: self._limits_of(name) for name in self.input_names}
        self.description = (
            f"tensorrt {trt.__version__} on {self._cuda.device} (compute capability {self._cuda.capability}, "
            f"CUDA {self._cuda.version}), {origin}"
        )
        self._lock = threading.Lock()
        self._stream = Stream(self._cuda)
        self._graphs = graphs
        self._graph: Graph | None = None
        self._has_run = False
        self._shapes: tuple[tuple[int, ...], ...] | None = None
        self._buffers: dict[str, Buffer] = {}
        self._views: dict[str, NDArray[Any]] = {}

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`.

        Raises:
            EngineError: also where a height or width is outside the limits; the message names them.
        """
        self._check(inputs)
        with self._lock:
            try:
                shapes = tuple(inputs[name].shape for name in self.input_names)
                if shapes != self._shapes:
                    self._bind(shapes)
                for name in self.input_names:
                    np.copyto(self._views[name], inputs[name])
                self._run()
            except BaseException:
                self._shapes = None  # what is bound is uncertain: the next run binds again, once nothing is under way
                with contextlib.suppress(EngineError):
                    self._stream.synchronize()
                raise
            return {name: self._views[name].copy() for name in self.output_names}

    @property
    def runs_as_graph(self) -> bool:
        """Whether the last run was one launch of a CUDA graph."""
        return self._graph is not None

    @property
    def inputs(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of each input; -1 for a side that is open."""
        return {name: (self._types[name], tuple(self._engine.get_tensor_shape(name))) for name in self.input_names}

    def _limits_of(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Smallest and largest shape of an input; both are the shape itself where it is fixed."""
        shape = tuple(self._engine.get_tensor_shape(name))
        if min(shape, default=0) >= 0:
            return shape, shape
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        return tuple(smallest), tuple(largest)

    def _check(self, inputs: Arrays) -> None:
        if set(inputs) != set(self.input_names):
            raise EngineError(f"tensorrt takes {', '.join(self.input_names)}, not {', '.join(inputs) or 'nothing'}")
        for name, array in inputs.items():
            if array.dtype != self._types[name]:
                raise EngineError(f"tensorrt takes {name} as {self._types[name]}, not {array.dtype}")
            smallest, largest = self._limits[name]
            if len(array.shape) != len(smallest) or any(
                not low <= side <= high for low, side, high in zip(smallest, array.shape, largest, strict=True)
            ):
                wanted = sides(smallest) if smallest == largest else f"{sides(smallest)} to {sides(largest)}"
                raise EngineError(
                    f"{name} is {sides(array.shape)}; this tensorrt engine takes {wanted}. Build one for other limits, "
                    "or use onnxruntime"
                )

    def _bind(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Set the shapes of the inputs, and buffers that all tensors of these shapes fit in."""
        self._shapes, self._graph, self._has_run, self._views = None, None, False, {}
        for name, shape in zip(self.input_names, shapes, strict=True):
            if not self._context.set_input_shape(name, shape):
                raise EngineError(f"TensorRT refused {name} as {sides(shape)}: {self._log.last()}")
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            raise EngineError(f"these inputs do not go together: {first_line(error)}: {self._log.last()}") from error
        if missing:
            raise EngineError(f"the shape of {', '.join(missing)} depends on values, which this engine does not do")
        for name in (*self.input_names, *self.output_names):
            shape = tuple(self._context.get_tensor_shape(name))
            if min(shape, default=0) < 0:
                raise EngineError(f"the shape of {name} depends on values; export the network without that part")
            self._views[name] = self._reserve(name, shape)
            if not self._context.set_tensor_address(name, self._buffers[name].device):
                raise EngineError(f"TensorRT refused the buffer of {name}: {self._log.last()}")
        self._shapes = tuple(shapes)

    def _reserve(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the host's side of a tensor's buffer; a buffer that is too small is replaced."""
        size = max(1, int(np.prod(shape, dtype=np.int64)) * self._types[name].itemsize)
        if name not in self._buffers or self._buffers[name].host.nbytes < size:
            self._buffers.pop(name, None)
            self._buffers[name] = Buffer(self._cuda, size)
        return self._buffers[name].host[:size].view(self._types[name]).reshape(shape)

    def _run(self) -> None:
        # A capture must follow a plain run: in the first one of a shape TensorRT does what a graph cannot hold.
        if self._graphs and self._has_run and self._graph is None:
            try:
                self._graph = self._stream.capture(self._enqueue)
            except EngineError as error:
                _logger.warning("no CUDA graph, each step is launched by itself: %s", error)
                self._graphs = False
        if self._graph is None:
            self._enqueue()
        else:
            self._stream.launch(self._graph)
        self._stream.synchronize()
        self._has_run = True

    def _enqueue(self) -> None:
        for name in self.input_names:
            self._stream.upload(self._buffers[name], self._views[name].nbytes)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"TensorRT failed: {self._log.last()}")
        for name in self.output_names:
            self._stream.download(self._buffers[name], self._views[name].nbytes)


def _numpy_type(trt: Any, name: str, found: Any) -> np.dtype[Any]:
    kinds = trt.DataType
    known: dict[Any, type[np.generic]] = {
        kinds.FLOAT: np.float32,
        kinds.HALF: np.float16,
        kinds.INT8: np.int8,
        kinds.UINT8: np.uint8,
        kinds.INT32: np.int32,
        kinds.INT64: np.int64,
        kinds.BOOL: np.bool_,
    }
    if found not in known:
        raise EngineError(
            f"{name} is of the type {found}, which numpy lacks; export the network with float32 or float16"
        )
    return np.dtype(known[found])
