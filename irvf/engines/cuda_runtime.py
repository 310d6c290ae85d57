"""What an engine needs of CUDA: buffers, one stream, and a graph of what ran on it.

``libcudart`` is called through ctypes. JetPack has the library and no Python package for it, and the functions used
here have had one and the same signature since CUDA 11.4.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irvf.engines.engine import EngineError

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_STREAM_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1
"""Other threads may call what a capture forbids, such as allocating."""
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_PROPERTIES_BYTES, _NAME_BYTES = 16384, 256
"""The structure has another size in each CUDA version, always far smaller, and always begins with the name."""

_HANDLE = ctypes.c_void_p
_OUT = ctypes.POINTER(_HANDLE)
_INT_OUT = ctypes.POINTER(ctypes.c_int)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cudaGetDevice": (_INT_OUT,),
    "cudaGetDeviceProperties": (ctypes.c_void_p, ctypes.c_int),
    "cudaDeviceGetAttribute": (_INT_OUT, ctypes.c_int, ctypes.c_int),
    "cudaRuntimeGetVersion": (_INT_OUT,),
    "cudaMalloc": (_OUT, ctypes.c_size_t),
    "cudaFree": (_HANDLE,),
    "cudaMallocHost": (_OUT, ctypes.c_size_t),
    "cudaFreeHost": (_HANDLE,),
    "cudaMemcpyAsync": (_HANDLE, _HANDLE, ctypes.c_size_t, ctypes.c_int, _HANDLE),
    "cudaStreamCreateWithFlags": (_OUT, ctypes.c_uint),
    "cudaStreamSynchronize": (_HANDLE,),
    "cudaStreamDestroy": (_HANDLE,),
    "cudaStreamBeginCapture": (_HANDLE, ctypes.c_int),
    "cudaStreamEndCapture": (_HANDLE, _OUT),
    "cudaGraphInstantiateWithFlags": (_OUT, _HANDLE, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_HANDLE, _HANDLE),
    "cudaGraphDestroy": (_HANDLE,),
    "cudaGraphExecDestroy": (_HANDLE,),
    "cudaGetLastError": (),
}


class CudaRuntime:
    """The CUDA runtime and its current device.

    Attributes:
        device: name of the GPU.
        capability: compute capability as ``8.7``.
        version: of the runtime, as ``12.6``.

    Args:
        library: ``libcudart``; None searches for one that finds a GPU.

    Raises:
        EngineError: no library, or no GPU.
    """

    def __init__(self, library: Any = None) -> None:
        if library is None:
            library = _find_library()
        try:
            self._functions = {name: _prototype(library, name) for name in _PROTOTYPES}
            self._describe = library.cudaGetErrorString
        except AttributeError as error:
            raise EngineError(f"libcudart is too old: {error}; CUDA 12 or newer is needed") from error
        self._describe.restype = ctypes.c_char_p
        self._describe.argtypes = (ctypes.c_int,)
        index = self._integer("cudaGetDevice")
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self.call("cudaGetDeviceProperties", properties, index)
        self.device = properties.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")
        major, minor = (
            self._integer("cudaDeviceGetAttribute", which, index) for which in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)
        )
        self.capability = f"{major}.{minor}"
        version = self._integer("cudaRuntimeGetVersion")
        self.version = f"{version // 1000}.{version % 1000 // 10}"

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library.

        Raises:
            EngineError: it failed.
        """
        status = self._functions[name](*arguments)
        if status:
            self._functions["cudaGetLastError"]()  # it is told here, and must not be told again to whoever asks next
            raise EngineError(f"{name} failed: {self._describe(status).decode()} (CUDA error {status})")

    def release(self, name: str, handle: int) -> None:
        """Call a function that frees something; what is not there any more, as when Python ends, is free."""
        self._functions[name](handle)

    def make(self, name: str, *arguments: Any) -> int:
        """Call a function that returns a pointer or handle through its first parameter."""
        made = _HANDLE()
        self.call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def _integer(self, name: str, *arguments: Any) -> int:
        found = ctypes.c_int()
        self.call(name, ctypes.byref(found), *arguments)
        return found.value


class Buffer:
    """The same number of bytes on the device and, pinned, on the host.

    Attributes:
        device: address on the GPU.
        host: the pinned bytes; not to be used once the buffer is gone.
    """

    def __init__(self, cuda: CudaRuntime, size: int) -> None:
        self.device = cuda.make("cudaMalloc", size)
        weakref.finalize(self, cuda.release, "cudaFree", self.device).atexit = False
        self.address = cuda.make("cudaMallocHost", size)
        weakref.finalize(self, cuda.release, "cudaFreeHost", self.address).atexit = False
        self.host: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))


class Graph:
    """What a stream captured, ready to run again with one call."""

    def __init__(self, cuda: CudaRuntime, graph: int) -> None:
        try:
            self.handle = cuda.make("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            cuda.release("cudaGraphDestroy", graph)
        weakref.finalize(self, cuda.release, "cudaGraphExecDestroy", self.handle).atexit = False


class Stream:
    """A stream beside the default one, on which everything of an engine runs in order."""

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        self.handle = cuda.make("cudaStreamCreateWithFlags", _STREAM_NON_BLOCKING)
        weakref.finalize(self, cuda.release, "cudaStreamDestroy", self.handle).atexit = False

    def upload(self, buffer: Buffer, size: int) -> None:
        """Copy the first bytes of the host's side to the device's, later."""
        self._cuda.call("cudaMemcpyAsync", buffer.device, buffer.address, size, _HOST_TO_DEVICE, self.handle)

    def download(self, buffer: Buffer, size: int) -> None:
        """Copy the first bytes of the device's side to the host's, later."""
        self._cuda.call("cudaMemcpyAsync", buffer.address, buffer.device, size, _DEVICE_TO_HOST, self.handle)

    def synchronize(self) -> None:
        """Wait for everything."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def launch(self, graph: Graph) -> None:
        """Run a graph, later."""
        self._cuda.call("cudaGraphLaunch", graph.handle, self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Make a graph of what ``work`` puts on the stream, without running it.

        Raises:
            EngineError: it cannot be captured; the stream is usable again.
        """
        self._cuda.call("cudaStreamBeginCapture", self.handle, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        except BaseException:
            with contextlib.suppress(EngineError):  # of a capture that is invalid already; it ends all the same
                self._cuda.release("cudaGraphDestroy", self._end_capture())
            raise
        return Graph(self._cuda, self._end_capture())

    def _end_capture(self) -> int:
        graph = _HANDLE()
        self._cuda.call("cudaStreamEndCapture", self.handle, ctypes.byref(graph))
        return graph.value or 0


def _prototype(library: Any, name: str) -> Any:
    function = getattr(library, name)
    function.restype = ctypes.c_int
    function.argtypes = _PROTOTYPES[name]
    return function


def _find_library() -> ctypes.CDLL:
    """Load the first ``libcudart`` that finds a GPU: where there are several, not all fit the driver."""
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(_library_names()):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        status = library.cudaFree(None)  # does nothing but start CUDA
        if status == 0:
            return library
        library.cudaGetErrorString.restype = ctypes.c_char_p
        reasons.setdefault(f"{library.cudaGetErrorString(status).decode()} (CUDA error {status})", name)
    if reasons:
        told = "; ".join(f"{reason} by {name}" for reason, name in reasons.items())
        raise EngineError(f"no GPU can be used: {told}; check the driver (nvidia-smi)")
    raise EngineError(
        "libcudart is not found; install CUDA (on a Jetson: JetPack) or add its folder to LD_LIBRARY_PATH"
    )


def _library_names() -> Iterator[str]:
    yield from ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
    found = ctypes.util.find_library("cudart")
    if found:
        yield found
    for root in (Path("/usr/local"), *(Path(entry) / "nvidia" for entry in sys.path if entry)):
        folders = ("cuda*/lib64", "cuda*/targets/*/lib") if root == Path("/usr/local") else ("cu*/lib",)
        for pattern in folders:
            yield from map(str, sorted(root.glob(f"{pattern}/libcudart.so.*"), reverse=True))
