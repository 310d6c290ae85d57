"""PyTorch: in half precision and as CUDA graphs on an NVIDIA GPU, in float32 on the CPU.

What has not run on real hardware: :class:`_CudaQueue`, which holds stream and capture, and the branches of
:class:`_Forward` for a device that is elsewhere, which copy through pinned memory. All else, as what is captured when,
which sizes are kept, what follows a failed capture and what half precision does to the networks, is tested on the CPU.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irvf.engines.engine import Arrays, EngineError
from irvf.engines.graph_cache import GraphCache, Work
from irvf.networks.deployed import ANY, DeployedNetwork, Input, load_network

DEVICES = ("auto", "cpu", "cuda")
MAX_SHAPES = 4
"""Sets of input shapes whose buffers and graphs are kept; a node has one or two."""

_Shapes: TypeAlias = "tuple[tuple[str, tuple[int, ...]], ...]"
_one_capture = threading.Lock()
"""CUDA graphs are captured one at a time in a process."""


class TorchEngine:
    """A network run by torch; see :class:`irvf.engines.engine.Engine`. May be called from several threads.

    It runs on the GPU where torch finds one. There, weights and what is computed with them are float16, and from the
    second run of a size on the network is launched as one CUDA graph, between the copies of inputs and result. On the
    CPU both are float32. Inputs and outputs are float32 in either case.

    Args:
        weights: ``*.safetensors`` of the model folder.
        architecture: ``network`` of its ``config.yaml``, see :func:`irvf.networks.deployed.load_network`.
        threads: of the CPU that it may use; 0 leaves the choice to torch (all cores).
        device: one of :data:`DEVICES`; ``auto`` takes the GPU where torch finds one, ``cuda`` refuses where not.

    Raises:
        EngineError: no such file, weights that are not the network's, an unknown device, or no GPU for ``cuda``.
    """

    def __init__(self, weights: Path, architecture: Mapping[str, Any], threads: int = 0, device: str = "auto") -> None:
        if device not in DEVICES:
            raise EngineError(f"torch has no device {device!r}; allowed: {', '.join(DEVICES)}")
        has_gpu = device != "cpu" and torch.cuda.is_available()
        if device == "cuda" and not has_gpu:
            why = "finds none; check the driver (nvidia-smi)" if torch.version.cuda else "is built without CUDA"
            raise EngineError(f"torch cannot use a GPU: torch {torch.__version__} {why}")
        self._threads = threads
        self._lock = threading.Lock()
        try:
            network = load_network(weights, architecture)
            queue: Queue = _CudaQueue() if has_gpu else HostQueue()
            self._runner = NetworkRunner(network, queue)
        except Exception as error:  # CUDA's and torch's errors share no base class below Exception
            raise EngineError(f"{weights} cannot be loaded by torch: {_first_line(error)}") from error
        self.input_names = tuple(network.inputs)
        self.output_names = (network.output,)
        self._inputs = network.inputs

    @property
    def description(self) -> str:
        """Version, device, precision, and whether CUDA graphs failed, which the first runs show."""
        version = torch.__version__.split("+", maxsplit=1)[0]
        if self._runner.queue.device.type == "cpu":
            return f"torch {version} cpu, {self._threads or 'all'} threads"
        failure = self._runner.graphs.failure
        graphs = f"no CUDA graphs: {failure}" if failure else "CUDA graphs"
        return f"torch {version} cuda, {self._runner.queue.name}, fp16, {graphs}"

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Run the network once; see :meth:`irvf.engines.engine.Engine.infer`."""
        _check(inputs, self._inputs)
        try:
            with self._lock, _settings(self._threads), torch.inference_mode():
                return {self.output_names[0]: self._runner.run({name: inputs[name] for name in self.input_names})}
        except Exception as error:  # as above
            raise EngineError(f"torch failed: {_first_line(error)}") from error


class Queue(Protocol):
    """Where the work of a network is done, in order."""

    device: torch.device
    precision: torch.dtype
    name: str

    def running(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context within which what torch does goes to this queue."""
        ...

    def synchronize(self) -> None:
        """Wait for everything."""
        ...

    @property
    def capture(self) -> Callable[[Work], Work] | None:
        """Makes of work something that repeats it with one call, without doing it; None where there is no such thing.

        What it makes works on the very tensors that the work did.
        """
        ...


class HostQueue:
    """The CPU."""

    device = torch.device("cpu")
    precision = torch.float32
    name = "cpu"
    capture = None

    def running(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context that changes nothing."""
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Return: the CPU does everything at once."""


class _CudaQueue:
    """A stream of torch's current GPU, beside the default one. It has not run on real hardware yet."""

    precision = torch.float16

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.name = torch.cuda.get_device_name(self.device)
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with torch.cuda.stream(self._stream):
            yield

    def synchronize(self) -> None:
        self._stream.synchronize()

    def capture(self, work: Work) -> Work:
        with _one_capture:
            work()  # cuDNN searches its algorithms once in every thread, and must not within a capture
            self.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may meanwhile do what a capture forbids, such as allocating.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                work()
        replay: Work = graph.replay
        return replay


class NetworkRunner:
    """A network on a device, with the buffers that its inputs and outputs need.

    Attributes:
        graphs: what it does for each set of input shapes.
        queue: where it does that.

    Args:
        network: it is changed: moved to the queue's device and precision.
        queue: where it runs.
        limit: sets of input shapes that are kept.
    """

    def __init__(self, network: DeployedNetwork, queue: Queue, limit: int = MAX_SHAPES) -> None:
        self.queue = queue
        # Types stay out of the overload that takes a memory format.
        network.to(queue.device, queue.precision).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.graphs: GraphCache[_Shapes, _Forward] = GraphCache(
            lambda shapes: _Forward(network, shapes, queue), queue.capture, limit
        )
        if queue.device.type == "cuda":
            torch.cuda.synchronize(queue.device)  # the weights were copied on the default stream

    def run(self, inputs: Arrays) -> NDArray[Any]:
        """Run the network on its inputs, which are in its order; within ``torch.inference_mode``."""
        shapes = tuple((name, array.shape) for name, array in inputs.items())
        try:
            with self.queue.running():
                forward, work = self.graphs.prepare(shapes)
                forward.upload(inputs)
                work()
                return forward.download()
        except BaseException:
            self.graphs.forget(shapes)
            raise


class _Forward:
    """A network's work for one set of input shapes, and what it works on."""

    def __init__(self, network: DeployedNetwork, shapes: _Shapes, queue: Queue) -> None:
        self._network, self._queue = network, queue
        self._elsewhere = queue.device.type != "cpu"
        self._host = {name: torch.empty(shape, pin_memory=self._elsewhere) for name, shape in shapes}
        self._views = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._inputs = self._host
        if self._elsewhere:
            self._inputs = {name: torch.empty(shape, device=queue.device) for name, shape in shapes}
        self._result: Tensor | None = None
        self._pinned: Tensor | None = None

    def __call__(self) -> None:
        """Run the network on the inputs that were last uploaded."""
        result = self._network(*(tensor.to(self._queue.precision) for tensor in self._inputs.values()))
        self._result = result.float().contiguous()

    def upload(self, inputs: Arrays) -> None:
        for name, array in inputs.items():
            np.copyto(self._views[name], array)
            if self._elsewhere:
                self._inputs[name].copy_(self._host[name], non_blocking=True)

    def download(self) -> NDArray[Any]:
        """Return the result, which stays as it is in later runs."""
        if self._result is None:
            raise EngineError("the network has not run")
        result = self._result
        if self._elsewhere:
            if self._pinned is None:
                self._pinned = torch.empty(result.shape, pin_memory=True)
            result = self._pinned.copy_(result, non_blocking=True)
            self._queue.synchronize()
        copied: NDArray[Any] = result.numpy().copy()
        return copied


@contextlib.contextmanager
def _settings(threads: int) -> Iterator[None]:
    """Set what torch knows for a whole process only, and set it back: others may use torch, too."""
    before, searched = torch.get_num_threads(), torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = True
        if threads and threads != before:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.backends.cudnn.benchmark = searched
        if threads and threads != before:
            torch.set_num_threads(before)


def _check(inputs: Arrays, wanted: Mapping[str, Input]) -> None:
    """Say by name what does not fit; torch would broadcast some of it in silence."""
    if set(inputs) != set(wanted):
        raise EngineError(f"torch failed: the network takes {', '.join(wanted)}, not {', '.join(inputs)}")
    for name, form in wanted.items():
        if inputs[name].dtype != np.float32:
            raise EngineError(f"torch failed: {name} must be float32, not {inputs[name].dtype}")
        if not _fits(inputs[name].shape, form):
            raise EngineError(f"torch failed: {name} must be {_shape(form)}, not {list(inputs[name].shape)}")
    planes = {name: list(inputs[name].shape) for name, form in wanted.items() if ANY in form.shape}
    if any(shape != next(iter(planes.values())) for shape in planes.values()):
        told = ", ".join(f"{name} {shape}" for name, shape in planes.items())
        raise EngineError(f"torch failed: planes must be of one size, not {told}")


def _fits(shape: tuple[int, ...], form: Input) -> bool:
    return len(shape) == len(form.shape) and all(
        found == side if side != ANY else found >= form.smallest and found % form.multiple == 0
        for side, found in zip(form.shape, shape, strict=True)
    )


def _shape(form: Input) -> str:
    told = ", ".join("?" if side == ANY else str(side) for side in form.shape)
    if ANY not in form.shape:
        return f"[{told}]"
    multiple = f" and multiples of {form.multiple}" if form.multiple > 1 else ""
    return f"[{told}], height and width at least {form.smallest}{multiple}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
