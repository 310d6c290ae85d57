"""Builds TensorRT engines: strongly typed, for a range of sizes, with the timings of earlier builds."""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from irvf.engines.cuda_runtime import CudaRuntime
from irvf.engines.engine import EngineError
from irvf.engines.engine_cache import EngineCache, EngineIdentity

Progress = Callable[[str, float], None]
"""Takes the name of a phase of the build and how much of it is done, 0 to 1."""

_OLDEST = 10
_LOG_EVERY = 5.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SizeLimits:
    """Height and width that an engine is built for, where the network leaves them open.

    Attributes:
        minimum: smallest that it takes.
        optimum: the one that it is fastest at.
        maximum: largest that it takes.
    """

    minimum: tuple[int, int] = (64, 64)
    optimum: tuple[int, int] = (480, 640)
    maximum: tuple[int, int] = (1024, 1280)

    def __post_init__(self) -> None:
        for low, middle, high in zip(self.minimum, self.optimum, self.maximum, strict=True):
            if not 0 < low <= middle <= high:
                raise EngineError(
                    f"sizes must rise from minimum over optimum to maximum, not {sides(self.minimum)}, "
                    f"{sides(self.optimum)}, {sides(self.maximum)}"
                )


class EngineBuilder:
    """Gives the engine of a network: out of the cache, or built."""

    def __init__(self, trt: Any, log: Any, cuda: CudaRuntime, onnx: Path, limits: SizeLimits, *, tf32: bool) -> None:
        try:
            self._content = onnx.read_bytes()
            weights = onnx.with_name(f"{onnx.name}.data")  # where PyTorch puts weights that are too large for the file
            outside = weights.read_bytes() if weights.is_file() else b""
        except OSError as error:
            raise EngineError(f"{onnx} cannot be read: {error.strerror or error}") from error
        self._trt, self._log, self._onnx, self._limits, self._tf32 = trt, log, onnx, limits, tf32
        network = hashlib.sha256(self._content)
        network.update(outside)
        precision = f"strongly typed, tf32 {'on' if tf32 else 'off'}"
        gpu = f"{cuda.device}, compute capability {cuda.capability}"
        profile = ", ".join(f"{name} {sides(size)}" for name, size in asdict(limits).items())
        self._identity = EngineIdentity(network.hexdigest(), str(trt.__version__), gpu, precision, profile)
        self._runtime = _made("Runtime", trt.Runtime, log)

    def engine(self, cache: EngineCache, progress: Progress) -> tuple[Any, Path | None, str]:
        """Return the engine, its file if it has one, and where it came from."""
        name = f"{self._onnx.resolve().parent.name}-{self._onnx.stem}"
        plan = cache.load(name, self._identity)
        if plan is not None:
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return engine, cache.path(name, self._identity), "from the cache"
            _logger.warning("TensorRT does not take the engine %s back: %s; made anew", name, self._log.last())
        started = time.monotonic()
        _logger.info("building the engine of %s; this is done once and can take minutes", self._onnx)
        plan = self._build(cache, progress)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT built an engine of {self._onnx} that it cannot load: {self._log.last()}")
        return engine, cache.store(name, self._identity, plan), f"built in {time.monotonic() - started:.0f} s"

    def _build(self, cache: EngineCache, progress: Progress) -> bytes:
        trt = self._trt
        builder = _made("Builder", trt.Builder, self._log)
        kinds = trt.NetworkDefinitionCreationFlag
        flags = 1 << int(kinds.STRONGLY_TYPED) if hasattr(kinds, "STRONGLY_TYPED") else 0
        network = builder.create_network(flags)
        parser = trt.OnnxParser(network, self._log)
        if not parser.parse(self._content, str(self._onnx)):
            faults = [parser.get_error(number).desc() for number in range(parser.num_errors)]
            raise EngineError(f"{self._onnx} cannot be read by TensorRT: {first_line(faults[0] if faults else '')}")
        config = builder.create_builder_config()
        if not self._tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        self._set_profile(builder, network, config)
        timings = replace(self._identity, network="timings", precision="", profile="")
        measured = self._timings(config, cache.load("timings", timings))  # must live until the engine is built
        watch = _Watch(progress)
        monitor = _make_monitor(trt, watch)
        if monitor is not None:
            config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if watch.raised is not None:
            raise watch.raised
        if plan is None:
            raise EngineError(f"TensorRT cannot build {self._onnx}: {self._log.last('no reason given')}")
        if measured is not None:
            cache.store("timings", timings, bytes(measured.serialize()))
        return bytes(plan)

    def _set_profile(self, builder: Any, network: Any, config: Any) -> None:
        profile = builder.create_optimization_profile()
        open_inputs = False
        for tensor in map(network.get_input, range(network.num_inputs)):
            shape = tuple(tensor.shape)
            if min(shape, default=0) >= 0:
                continue
            if len(shape) != 4 or shape[1] < 0:
                raise EngineError(
                    f"{self._onnx}: {tensor.name} has the shape {sides(shape)}; only batch, height and width may be "
                    "open under TensorRT. Run this network with onnxruntime"
                )
            # An open batch is one pair.
            known = (1 if shape[0] < 0 else shape[0], shape[1])
            sizes = (self._limits.minimum, self._limits.optimum, self._limits.maximum)
            profile.set_shape(
                tensor.name,
                *(known + tuple(o if s < 0 else s for s, o in zip(shape[2:], size, strict=True)) for size in sizes),
            )
            open_inputs = True
        if open_inputs:
            config.add_optimization_profile(profile)

    def _timings(self, config: Any, stored: bytes | None) -> Any:
        """Give the builder what it measured before, or an empty cache to measure into, and return that."""
        for content in (stored, b""):
            if content is None:
                continue
            timings = config.create_timing_cache(content)
            if timings is not None and config.set_timing_cache(timings, False):  # noqa: FBT003  (ignore_mismatch)
                return timings
            _logger.warning("TensorRT does not take its timing cache back: %s", self._log.last("no reason given"))
        return None


class _Watch:
    """Turns TensorRT's phases, one within another, into a name and a fraction."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phases: dict[str, tuple[int, int, str | None]] = {}  # steps done, steps, the phase it is part of
        self._lock = threading.Lock()  # TensorRT calls from several threads
        self.raised: BaseException | None = None

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[phase] = (0, max(steps, 1), parent)
        self._tell(phase)

    def step(self, phase: str, step: int) -> bool:
        """Note that a step, counted from 0, is done; return whether to go on."""
        with self._lock:
            done, steps, parent = self._phases.get(phase, (0, 1, None))
            self._phases[phase] = (min(max(done, step + 1), steps), steps, parent)
        self._tell(phase)
        return self.raised is None

    def finish(self, phase: str) -> None:
        with self._lock:
            _, steps, parent = self._phases.get(phase, (0, 1, None))
            self._phases[phase] = (steps, steps, parent)
        self._tell(phase)
        with self._lock:
            self._phases.pop(phase, None)

    def _tell(self, phase: str) -> None:
        with self._lock:
            done, steps, _ = self._phases[phase]
        try:
            self._progress(phase, done / steps)
        # Ctrl+C may arrive here too. Through TensorRT nothing can be raised: it stops, and the builder raises it.
        except BaseException as error:  # noqa: BLE001
            self.raised = self.raised or error


def import_tensorrt() -> Any:
    """Return the module ``tensorrt``.

    Raises:
        EngineError: it is not installed, or older than 10.
    """
    try:
        trt: Any = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:  # the second for a library that it misses
        raise EngineError(
            f"tensorrt cannot be imported ({first_line(error)}); on a Jetson it comes with JetPack 6 or newer "
            "(python3-libnvinfer), elsewhere: pip install tensorrt"
        ) from error
    if int(str(trt.__version__).split(".")[0]) < _OLDEST:
        raise EngineError(f"TensorRT {trt.__version__} is too old; 10 or 11 is needed (JetPack 6 or newer)")
    return trt


def load_plan(trt: Any, log: Any, plan: bytes) -> Any:
    """Return the engine that TensorRT built elsewhere.

    Raises:
        EngineError: it is none, or one of another version or GPU.
    """
    engine = _made("Runtime", trt.Runtime, log).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(
            f"TensorRT {trt.__version__} does not take this engine: {log.last('no reason given')}. An engine runs only "
            "in the version, and on the kind of GPU, that built it; build it here, or give the ONNX file"
        )
    return engine


def _made(what: str, make: Callable[[Any], Any], log: Any) -> Any:
    """Make one of TensorRT's objects; where the GPU or the driver does not fit, it raises TypeError."""
    try:
        return make(log)
    except (TypeError, RuntimeError) as error:
        reason = log.last(first_line(error))
        raise EngineError(f"TensorRT cannot make its {what}: {reason}; check the GPU and its driver") from error


def make_log(trt: Any) -> Any:
    """Return a logger for TensorRT that writes to Python's log and remembers the last error."""
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
    }

    class Log(trt.ILogger):  # type: ignore[misc]  # which version's is known only now
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.error = ""

        def log(self, severity: Any, msg: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            _logger.log(level, "%s", msg)
            if level == logging.ERROR:
                self.error = msg

        def last(self, otherwise: str = "see the log") -> str:
            said, self.error = self.error, ""
            return first_line(said) or otherwise

    return Log()


def _make_monitor(trt: Any, watch: _Watch) -> Any:
    """Return a progress monitor, None where TensorRT has none."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()


def log_progress() -> Progress:
    """Return a callback that writes to the log every few seconds."""
    last = time.monotonic()

    def tell(phase: str, fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            _logger.info("TensorRT builds: %s, %.0f %%", phase, 100 * fraction)

    return tell


def sides(shape: Sequence[int]) -> str:
    """Return a shape for a message."""
    return " x ".join("?" if side < 0 else str(side) for side in shape) or "a single number"


def first_line(error: object) -> str:
    """Return what of an error fits a message."""
    return (str(error).strip().splitlines() or [type(error).__name__ if isinstance(error, Exception) else ""])[0][:300]
