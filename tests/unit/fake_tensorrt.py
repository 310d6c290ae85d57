"""TensorRT and CUDA without a GPU: names of the real bindings, host memory for the device's, onnxruntime to compute.

A class here has only what the real one of the version has (``tensorrt_names/VERSION.json``); anything else is an
AttributeError, as there. What the real one has and this one does not do is a NotImplementedError: never silence.

Work is put on a stream and runs when the stream is waited for, so that nothing can be read too early. What real CUDA
would answer with a crash or with wrong numbers is noted in :attr:`FakeGpu.violations`.
"""

import ctypes
import enum
import hashlib
import inspect
import json
import re
import types
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

VERSIONS = ("10.3", "10.16", "11.4")
_HANDLE, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_SIGNATURES = {
    "cudaGetDevice": (_HANDLE,),
    "cudaGetDeviceProperties": (_HANDLE, _INT),
    "cudaDeviceGetAttribute": (_HANDLE, _INT, _INT),
    "cudaRuntimeGetVersion": (_HANDLE,),
    "cudaMalloc": (_HANDLE, _SIZE),
    "cudaFree": (_HANDLE,),
    "cudaMallocHost": (_HANDLE, _SIZE),
    "cudaFreeHost": (_HANDLE,),
    "cudaMemcpyAsync": (_HANDLE, _HANDLE, _SIZE, _INT, _HANDLE),
    "cudaStreamCreateWithFlags": (_HANDLE, ctypes.c_uint),
    "cudaStreamSynchronize": (_HANDLE,),
    "cudaStreamDestroy": (_HANDLE,),
    "cudaStreamBeginCapture": (_HANDLE, _INT),
    "cudaStreamEndCapture": (_HANDLE, _HANDLE),
    "cudaGraphInstantiateWithFlags": (_HANDLE, _HANDLE, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_HANDLE, _HANDLE),
    "cudaGraphDestroy": (_HANDLE,),
    "cudaGraphExecDestroy": (_HANDLE,),
    "cudaGetLastError": (),
}


class FakeGpu:
    """Plays ``libcudart``: each function is a C function pointer, called through ctypes as the real one is.

    Attributes:
        failing: name of a function to the error that it returns.
        launches: how often a graph was launched.
        violations: what a real GPU would not have forgiven.
    """

    def __init__(self, name="Fake Orin", capability=(8, 7)):
        self.name, self.capability = name, capability
        self.failing, self.violations, self.launches, self.copies = {}, [], 0, 0
        self._live = {}  # handle -> (kind, what it is)
        self._next = 1000
        self._capturing = {}
        self._message = ctypes.create_string_buffer(b"it is made to fail")
        for function, arguments in _SIGNATURES.items():
            setattr(self, function, ctypes.CFUNCTYPE(_INT, *arguments)(self._guarded(function)))
        self.cudaGetErrorString = ctypes.CFUNCTYPE(_HANDLE, _INT)(lambda _status: ctypes.addressof(self._message))

    @property
    def live(self):
        """How many things of each kind are there."""
        kinds = [kind for kind, _ in self._live.values()]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def put(self, stream, work):
        """Add work to a stream, or to what is captured of it."""
        if stream in self._capturing:
            self._capturing[stream].append(work)
        else:
            self._of(stream, "stream").append(work)

    def is_capturing(self, stream):
        return stream in self._capturing

    def bytes_at(self, address, size, kind="device"):
        """Return memory as bytes that can be written; it must be of one allocation of the kind."""
        for start, (found, memory) in self._live.items():
            if found == kind and start <= address and address + size <= start + ctypes.sizeof(memory):
                return (ctypes.c_uint8 * size).from_address(address)
        raise AssertionError(f"{size} bytes at {address:#x} are not {kind} memory")

    def _guarded(self, name):
        implementation = getattr(self, "_" + re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name))

        def call(*arguments):
            if name in self.failing:
                if name == "cudaStreamEndCapture":  # the capture is over, however it ends
                    del self._capturing[arguments[0]]
                if name == "cudaStreamSynchronize":  # so is the work
                    self._of(arguments[0], "stream").clear()
                return self.failing[name]
            try:
                implementation(*(0 if argument is None else argument for argument in arguments))
            except Exception as error:  # noqa: BLE001  (ctypes would print and forget it)
                self.violations.append(f"{name}: {error!r}")
                return 700
            return 0

        return call

    def _add(self, kind, what, handle=None):
        self._next += 1
        handle = handle or self._next
        self._live[handle] = (kind, what)
        return handle

    def _of(self, handle, kind):
        found, what = self._live[handle]
        assert found == kind, f"a {found} is no {kind}"
        return what

    def _remove(self, handle, kind):
        self._of(handle, kind)
        del self._live[handle]

    @staticmethod
    def _write(address, kind, value):
        kind.from_address(address).value = value

    def _cuda_get_device(self, out):
        self._write(out, _INT, 0)

    def _cuda_get_device_properties(self, out, _device):
        ctypes.memmove(out, self.name.encode() + b"\0", len(self.name) + 1)

    def _cuda_device_get_attribute(self, out, which, _device):
        self._write(out, _INT, dict(zip((75, 76), self.capability, strict=True))[which])

    def _cuda_runtime_get_version(self, out):
        self._write(out, _INT, 12060)

    def _cuda_malloc(self, out, size):
        self._allocate(out, size, "device")

    def _cuda_malloc_host(self, out, size):
        self._allocate(out, size, "pinned")

    def _allocate(self, out, size, kind):
        memory = ctypes.create_string_buffer(b"\xff" * size, size)  # not a number, as long as nothing is written
        self._write(out, _HANDLE, self._add(kind, memory, ctypes.addressof(memory)))

    def _cuda_free(self, address):
        if address:
            self._remove(address, "device")

    def _cuda_free_host(self, address):
        self._remove(address, "pinned")

    def _cuda_memcpy_async(self, to, source, size, kind, stream):
        target, origin = {1: ("device", "pinned"), 2: ("pinned", "device")}[kind]
        self.bytes_at(to, size, target), self.bytes_at(source, size, origin)

        def copy():
            self.copies += 1
            ctypes.memmove(self.bytes_at(to, size, target), self.bytes_at(source, size, origin), size)

        self.put(stream, copy)

    def _cuda_stream_create_with_flags(self, out, flags):
        assert flags == 1
        self._write(out, _HANDLE, self._add("stream", []))

    def _cuda_stream_synchronize(self, stream):
        assert stream not in self._capturing
        pending = self._of(stream, "stream")
        while pending:
            pending.pop(0)()

    def _cuda_stream_destroy(self, stream):
        self._remove(stream, "stream")

    def _cuda_stream_begin_capture(self, stream, mode):
        assert mode in (0, 1, 2)
        assert not self._of(stream, "stream"), "a capture while work is pending"
        self._capturing[stream] = []

    def _cuda_stream_end_capture(self, stream, out):
        self._write(out, _HANDLE, self._add("graph", self._capturing.pop(stream)))

    def _cuda_graph_instantiate_with_flags(self, out, graph, _flags):
        self._write(out, _HANDLE, self._add("executable", list(self._of(graph, "graph"))))

    def _cuda_graph_launch(self, executable, stream):
        self.launches += 1
        self._of(stream, "stream").extend(self._of(executable, "executable"))

    def _cuda_graph_destroy(self, graph):
        self._remove(graph, "graph")

    def _cuda_graph_exec_destroy(self, executable):
        self._remove(executable, "executable")

    def _cuda_get_last_error(self):
        pass


class World:
    """What a fake TensorRT has seen, and how it is to behave.

    Attributes:
        builds: of each engine that was built: ``flags`` of the network, ``tf32``, whether it was ``timed`` before.
        fails: what goes wrong: ``runtime``, ``builder``, ``build``, ``load``, ``context``, ``capture``,
            ``execute``, or that an output has a ``shape of values``.
    """

    def __init__(self, version, gpu):
        names = json.loads((Path(__file__).parent / "tensorrt_names" / f"{version}.json").read_text("utf-8"))
        self.version, self.gpu, self.names = names["version"], gpu, names
        self.builds, self.fails = [], set()
        self.trt = _Module(names)
        for kind in _KINDS:
            self._expose(kind)
        for name in ("BuilderFlag", "NetworkDefinitionCreationFlag", "TensorIOMode", "DataType"):
            members = [member for member, what in names["classes"][name].items() if what == "value"]
            setattr(self.trt, name, _make_enum(name, members))
        severities = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
        self.trt.ILogger.Severity = _make_enum("Severity", [name for name in severities if name in self._of("ILogger")])

    def _of(self, name):
        return self.names["classes"][name]

    def _expose(self, kind):
        name = kind.__name__.removeprefix("_")
        recorded = self._of(name)
        for method, what in vars(kind).items():
            if inspect.isfunction(what) and isinstance(recorded.get(method), list):
                parameters = list(inspect.signature(what).parameters)[1:]
                assert parameters == recorded[method], f"{name}.{method} takes {recorded[method]}, not {parameters}"
        bound = type(name, (kind,), {"_world": self, "_recorded": frozenset(recorded), "_fake": name})
        setattr(self.trt, name, bound)

    def complain(self, logger, text):
        logger.log(self.trt.ILogger.Severity.ERROR, text)


class _Module(types.ModuleType):
    def __init__(self, names):
        super().__init__("tensorrt")
        self.__version__ = names["version"]
        self._module_names = frozenset(names["module"])

    def __setattr__(self, name, value):
        assert name.startswith("_") or name in self._module_names, f"tensorrt has no {name}"
        super().__setattr__(name, value)

    def __getattr__(self, name):
        if not name.startswith("_") and name in self._module_names:
            raise NotImplementedError(f"the fake does not do tensorrt.{name}")
        raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")


def _make_enum(name, members):
    # The real ones are numbers only where asked: int(member).
    return enum.Enum(name, {member: number for number, member in enumerate(members)}, type=_Number)


class _Number:
    def __int__(self):
        return self.value


class _Real:
    """Has the attributes of the real class, and those that a class made of it in Python adds."""

    _recorded, _fake, _world = frozenset(), "", None

    def __getattribute__(self, name):
        get = object.__getattribute__
        if name.startswith("_") or name in get(self, "__dict__"):
            return get(self, name)
        kind, recorded = get(self, "_fake"), get(self, "_recorded")
        for own in type(self).__mro__:
            if "_fake" in vars(own):
                break
            if name in vars(own):
                return get(self, name)
        if name not in recorded:
            raise AttributeError(f"tensorrt.{kind} has no attribute {name!r}")
        try:
            return get(self, name)
        except AttributeError:
            raise NotImplementedError(f"the fake does not do tensorrt.{kind}.{name}") from None

    def __setattr__(self, name, value):
        own = "_fake" not in vars(type(self))
        if not (name.startswith("_") or own or name in self._recorded):
            raise AttributeError(f"tensorrt.{self._fake} has no attribute {name!r}")
        object.__setattr__(self, name, value)


class _Dims(_Real):
    def __init__(self, sides):
        self._sides = tuple(sides)
        if not all(isinstance(side, int) for side in self._sides):
            raise TypeError(f"incompatible sides {sides!r}")

    def __len__(self):
        return len(self._sides)

    def __getitem__(self, index):
        return self._sides[index]


def _sides(shape):
    if not isinstance(shape, (tuple, list, _Dims)):
        raise TypeError(f"incompatible shape {shape!r}")
    return tuple(_Dims(shape))


class _IHostMemory(_Real, bytearray):
    """A bytearray because before Python 3.12 only a type of C can have a buffer; its methods cannot be reached."""

    def __len__(self):
        raise TypeError("object of type 'IHostMemory' has no len()")


class _ITensor(_Real):
    def __init__(self, name, shape):
        self._name, self._shape = name, shape

    @property
    def name(self):
        return self._name

    @property
    def shape(self):
        return self._world.trt.Dims(self._shape)


class _ILogger(_Real):
    def __init__(self):
        self._made = True

    def log(self, severity, msg):
        raise NotImplementedError("log must be overridden")


class _IProgressMonitor(_Real):
    def __init__(self):
        self._made = True

    def phase_start(self, phase_name, parent_phase, num_steps):
        raise NotImplementedError

    def step_complete(self, phase_name, step):
        raise NotImplementedError

    def phase_finish(self, phase_name):
        raise NotImplementedError


def _need(condition, text):
    """Raise what pybind raises for arguments of wrong types."""
    if not condition:
        raise TypeError(f"incompatible function arguments: {text}")


class _ITimingCache(_Real):
    def __init__(self, version, measured):
        self._version, self._measured = version, set(measured)

    def serialize(self):
        content = {"version": self._version, "measured": sorted(self._measured)}
        return self._world.trt.IHostMemory(b"FAKE TIMINGS" + json.dumps(content).encode())


class _IOptimizationProfile(_Real):
    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):  # noqa: A002  (the real names)
        low, middle, high = shapes = _sides(min), _sides(opt), _sides(max)
        if not len(low) == len(middle) == len(high) or not all(
            0 <= a <= b <= c for a, b, c in zip(*shapes, strict=True)
        ):
            raise ValueError(f"inconsistent shapes for {input}")
        self._shapes[input] = shapes


class _IBuilderConfig(_Real):
    def __init__(self):
        self._profiles, self._cleared = [], set()
        self._timings = lambda: None
        self.progress_monitor = None

    def clear_flag(self, flag):
        _need(isinstance(flag, self._world.trt.BuilderFlag), flag)
        self._cleared.add(flag)

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache):
        content = bytes(memoryview(serialized_timing_cache))
        if not content:
            return self._world.trt.ITimingCache(self._world.version, ())
        if not content.startswith(b"FAKE TIMINGS"):
            return None
        said = json.loads(content.removeprefix(b"FAKE TIMINGS"))
        return self._world.trt.ITimingCache(said["version"], said["measured"])

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache._version != self._world.version and not ignore_mismatch:
            return False
        self._timings = weakref.ref(cache)
        return True


class _INetworkDefinition(_Real):
    def __init__(self, flags):
        self._flags, self._content, self._inputs = flags, b"", []
        self._parser = lambda: None

    @property
    def num_inputs(self):
        return len(self._inputs)

    def get_input(self, index):
        return self._inputs[index]


class _ParserError(_Real):
    def __init__(self, text):
        self._text = text

    def desc(self):
        return self._text


def _shape_of(entry):
    sides = entry.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") else -1 for side in sides)


class _OnnxParser(_Real):
    def __init__(self, network, logger):
        _need(isinstance(network, _INetworkDefinition) and isinstance(logger, _ILogger), (network, logger))
        self._network, self._errors = network, []

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._world.trt.ParserError(self._errors[index])

    def parse(self, model, path=None):
        _need(isinstance(path, str) or path is None, path)
        content = bytes(memoryview(model))
        try:
            found = onnx.load_from_string(content)
            onnx.checker.check_model(found)
        except Exception as error:  # noqa: BLE001  (protobuf's and onnx's own)
            self._errors.append(f"Failed to parse the model: {error}\nand more of it")
            return False
        self._network._content, self._network._parser = content, weakref.ref(self)
        self._network._inputs = [self._world.trt.ITensor(entry.name, _shape_of(entry)) for entry in found.graph.input]
        return True


class _Builder(_Real):
    def __init__(self, logger):
        _need(isinstance(logger, _ILogger) and logger._made, logger)
        if "builder" in self._world.fails:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags=0):
        _need(isinstance(flags, int), flags)
        return self._world.trt.INetworkDefinition(flags)

    def create_builder_config(self):
        return self._world.trt.IBuilderConfig()

    def create_optimization_profile(self):
        return self._world.trt.IOptimizationProfile()

    def build_serialized_network(self, network, config):
        world = self._world
        assert network._parser() is not None, "the parser must outlive the network"
        shapes = config._profiles[0]._shapes if config._profiles else {}
        for tensor in network._inputs:
            given = shapes.get(tensor.name, [tensor._shape])
            if not all(
                len(shape) == len(tensor._shape)
                and all(
                    side == real if real >= 0 else side >= 0 for side, real in zip(shape, tensor._shape, strict=True)
                )
                for shape in given
            ):
                return world.complain(self._logger, f"no profile fits {tensor.name}")
        if not self._walk_phases(config.progress_monitor):
            return None
        if "build" in world.fails:
            return world.complain(self._logger, "Error Code 10: no implementation for node Conv_3\nmore")
        digest = hashlib.sha256(network._content).hexdigest()
        timings = config._timings()
        assert timings is not None, "the timing cache must outlive the build"
        tf32 = world.trt.BuilderFlag.TF32 not in config._cleared
        world.builds.append({"flags": network._flags, "tf32": tf32, "timed": digest in timings._measured})
        timings._measured.add(digest)
        about = {"version": world.version, "gpu": world.gpu.name, "shapes": shapes}
        return world.trt.IHostMemory(b"FAKE PLAN" + json.dumps(about).encode() + b"\n" + network._content)

    @staticmethod
    def _walk_phases(monitor):
        if monitor is None:
            return True
        monitor.phase_start("Building Engine", None, 2)
        monitor.phase_start("Timing", "Building Engine", 4)
        for step in range(4):
            if not monitor.step_complete("Timing", step):
                return False
        monitor.phase_finish("Timing")
        going = all(monitor.step_complete("Building Engine", step) for step in range(2))
        monitor.phase_finish("Building Engine")
        return going


class _Runtime(_Real):
    def __init__(self, logger):
        _need(isinstance(logger, _ILogger) and logger._made, logger)
        if "runtime" in self._world.fails:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        content = bytes(memoryview(serialized_engine))
        about, _, network = content.removeprefix(b"FAKE PLAN").partition(b"\n")
        said = json.loads(about) if content.startswith(b"FAKE PLAN") else {}
        here = {"version": self._world.version, "gpu": self._world.gpu.name}
        if "load" in self._world.fails or any(said.get(key) != value for key, value in here.items()):
            return self._world.complain(self._logger, "Error Code 6: the engine plan does not fit")
        return self._world.trt.ICudaEngine(network, said["shapes"], self._logger)


_TYPES = {"float": "FLOAT", "float16": "HALF", "int64": "INT64", "int32": "INT32", "bool": "BOOL", "uint8": "UINT8"}


class _ICudaEngine(_Real):
    def __init__(self, network, shapes, logger):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._outputs = {entry.name: entry for entry in self._session.get_outputs()}
        self._entries = self._inputs | self._outputs
        self._shapes, self._logger = shapes, logger

    @property
    def num_io_tensors(self):
        return len(self._entries)

    def get_tensor_name(self, index):
        return list(self._entries)[index]

    def get_tensor_mode(self, name):
        return self._world.trt.TensorIOMode.INPUT if name in self._inputs else self._world.trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self._world.trt.DataType[_TYPES[self._entries[name].type[7:-1]]]

    def get_tensor_shape(self, name):
        return self._world.trt.Dims(side if isinstance(side, int) else -1 for side in self._entries[name].shape)

    def get_tensor_profile_shape(self, name, profile_index):
        assert profile_index == 0
        assert name in self._inputs
        return [self._world.trt.Dims(shape) for shape in self._shapes[name]]

    def create_execution_context(self, strategy=None):  # noqa: ARG002  (the real name)
        return None if "context" in self._world.fails else self._world.trt.IExecutionContext(self)


class _IExecutionContext(_Real):
    def __init__(self, engine):
        self._engine = engine
        self._shapes, self._results, self._addresses = {}, {}, {}
        self._changes, self._ran = 0, -1

    def set_input_shape(self, name, shape):
        shape = _sides(shape)
        low, _, high = self._engine._shapes.get(name) or [self._engine._entries[name].shape] * 3
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            self._world.complain(self._engine._logger, f"{shape} does not satisfy the profile of {name}")
            return False
        self._shapes[name], self._results = shape, {}
        self._changes += 1
        return True

    def infer_shapes(self):
        missing = [name for name in self._engine._inputs if name not in self._shapes]
        if not missing and not self._results:
            inputs = {name: np.zeros(shape, self._type(name)) for name, shape in self._shapes.items()}
            try:
                self._results = {name: array.shape for name, array in self._compute(inputs).items()}
            except Exception as error:
                raise RuntimeError("shape inference failed") from error
            if self._world.fails & {"shape of values"}:
                self._results = dict.fromkeys(self._results, (-1, 2))
        return missing

    def get_tensor_shape(self, name):
        return self._world.trt.Dims(self._shapes.get(name) or self._results[name])

    def set_tensor_address(self, name, memory):
        _need(isinstance(memory, int), memory)
        self._addresses[name] = memory
        self._changes += 1
        return name in self._engine._entries

    def execute_async_v3(self, stream_handle):
        world, state = self._world, self._changes
        capturing = world.gpu.is_capturing(stream_handle)
        # In the first run after a change TensorRT does what cannot be captured.
        refuses = capturing and (self._ran != state or "capture" in world.fails)
        if refuses or "execute" in world.fails or set(self._addresses) != set(self._engine._entries):
            world.complain(self._engine._logger, "Error Code 1: enqueue failed")
            return False

        def work():
            assert self._changes == state, "run with other shapes or addresses than when it was enqueued"
            inputs = {name: self._array(name, shape).copy() for name, shape in self._shapes.items()}
            for name, array in self._compute(inputs).items():
                self._array(name, array.shape)[...] = array

        if not capturing:
            self._ran = state
        world.gpu.put(stream_handle, work)
        return True

    def _type(self, name):
        found = self._engine._entries[name].type[7:-1]
        return np.dtype({"float": "float32"}.get(found, found))

    def _array(self, name, shape):
        size = int(np.prod(shape)) * self._type(name).itemsize
        memory = self._world.gpu.bytes_at(self._addresses[name], size)
        return np.frombuffer(memory, self._type(name)).reshape(shape)

    def _compute(self, inputs):
        outputs = list(self._engine._outputs)
        return dict(zip(outputs, self._engine._session.run(outputs, inputs), strict=True))


_KINDS = (
    _Dims, _ITensor, _IHostMemory, _ITimingCache, _ILogger, _IProgressMonitor, _INetworkDefinition, _IBuilderConfig,
    _IOptimizationProfile, _Builder, _ParserError, _OnnxParser, _Runtime, _ICudaEngine, _IExecutionContext,
)  # fmt: skip
