"""Which engines there are, in which precision they run a network, and which one ``auto`` takes."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from irvf.engines.engine import Engine, EngineError
from irvf.engines.tensorrt_builder import Progress, SizeLimits
from irvf.models import Network

_logger = logging.getLogger(__name__)
_ENGINES = {  # name -> module, class, package on PyPI
    "openvino": ("openvino_engine", "OpenVinoEngine", "openvino"),
    "onnxruntime": ("onnx_engine", "OnnxEngine", "onnxruntime"),
    "torch": ("torch_engine", "TorchEngine", "torch"),
    "tensorrt": ("tensorrt_engine", "TensorRtEngine", "tensorrt"),
}
ENGINE_NAMES = ("auto", *_ENGINES)
PRECISIONS = ("auto", "fp32", "bf16", "int8")


@dataclass(frozen=True)
class EngineOptions:
    """What engines can be told besides their threads.

    Attributes:
        precision: one of :data:`PRECISIONS`. ``int8`` takes the network in 8 bits where there is one; ``bf16`` computes
            in 16 bits where OpenVINO runs it on a CPU that does so natively; ``fp32`` does neither. ``auto`` takes what
            is fastest in OpenVINO, and 32 bits elsewhere.
        cache_folder: where built engines are kept; None takes the default.
        sizes: of planes, that engines are built for ahead of time.
        progress: is told how a build goes; None writes it to the log.
    """

    precision: str = "auto"
    cache_folder: Path | None = None
    sizes: SizeLimits = field(default_factory=SizeLimits)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown precision.

        Raises:
            EngineError: says which there are.
        """
        if self.precision not in PRECISIONS:
            raise EngineError(f"no precision {self.precision!r}; allowed: {', '.join(PRECISIONS)}")


def create_engine(name: str, network: Network | Path, threads: int = 0, options: EngineOptions | None = None) -> Engine:
    """Load a network.

    Args:
        name: one of :data:`ENGINE_NAMES`; ``auto`` takes the fastest that can run here, and its description says why.
        network: in all its forms, or its ONNX file alone.
        threads: of the CPU that it may use; 0 leaves the choice to the engine (all cores).
        options: None takes the defaults.

    Raises:
        EngineError: unknown name, an engine that is not installed, or a file that is no network.
    """
    if name not in ENGINE_NAMES:
        raise EngineError(f"no engine {name!r}; allowed: {', '.join(ENGINE_NAMES)}")
    if isinstance(network, Path):
        network = Network(network)
    options = options or EngineOptions()
    if name != "auto":
        return _load(name, network, threads, options)
    reasons = []
    for candidate, device, why in _automatic(network, options):
        try:
            engine = _load(candidate, network, threads, options, device)
        except EngineError as error:  # noqa: PERF203  (three at most)
            reasons.append(str(error))
            _logger.warning("engine %s on %s was tried first: %s", candidate, device, error)
        else:
            return _Chosen(engine, why)
    raise EngineError("; ".join(reasons))


def network_file(name: str, network: Network, precision: str) -> Path:
    """Return the file that an engine runs of a network, see :attr:`EngineOptions.precision`."""
    wanted = precision == "int8" or (precision == "auto" and name == "openvino" and not _in_16_bits(network, precision))
    return network.int8 if network.int8 and wanted else network.onnx


def _in_16_bits(network: Network, precision: str) -> bool:
    """Say whether OpenVINO is to compute in 16 bits."""
    if precision != "bf16" and not (precision == "auto" and network.prefers_16_bits):
        return False
    from irvf.engines.openvino_engine import computes_in_bfloat16  # noqa: PLC0415  (only with that engine)

    return computes_in_bfloat16()


def missing_engine(name: str) -> str:
    """Say why an engine of :data:`ENGINE_NAMES` cannot run here; empty when it can."""
    try:
        _engine_class(name)
        if name == "tensorrt":
            from irvf.engines.cuda_runtime import CudaRuntime  # noqa: PLC0415  (only when it is wanted)
            from irvf.engines.tensorrt_builder import import_tensorrt  # noqa: PLC0415

            import_tensorrt()
            CudaRuntime()
    except EngineError as error:
        return str(error)
    return ""


class _Chosen:
    """An engine that says why it was chosen."""

    def __init__(self, engine: Engine, why: str) -> None:
        self._engine, self._why = engine, why
        self.input_names, self.output_names, self.infer = engine.input_names, engine.output_names, engine.infer

    @property
    def description(self) -> str:
        return f"{self._engine.description} (auto: {self._why})"


def _automatic(network: Network, options: EngineOptions) -> Iterator[tuple[str, str, str]]:
    """Name the engines that can be the fastest here, best first, with the device each is for, and why.

    TensorRT builds for minutes, and has not run on real hardware yet: it is for those who ask.
    """
    if _has_cuda():
        import onnxruntime  # noqa: PLC0415  (slow to import)

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            yield "onnxruntime", "cuda", "a GPU is here, and this onnxruntime can use it"
        # Which computes in 16 bits there: nobody who asks for a precision means that.
        if options.precision == "auto" and network.architecture and importlib.util.find_spec("torch"):
            yield "torch", "cuda", "a GPU is here, which this onnxruntime cannot use"
    yield "openvino", "cpu", "the fastest on a CPU"
    yield "onnxruntime", "cpu", "runs everywhere; openvino is faster on a CPU where it can be installed"


def _has_cuda() -> bool:
    from irvf.engines.cuda_runtime import CudaRuntime  # noqa: PLC0415  (only ``auto`` asks)

    try:
        CudaRuntime()
    except EngineError:
        return False
    return True


def _load(name: str, network: Network, threads: int, options: EngineOptions, device: str = "auto") -> Engine:
    make, onnx = _engine_class(name), network_file(name, network, options.precision)
    if name == "tensorrt":
        return make(onnx, options.sizes, options.cache_folder, options.progress)
    if name == "openvino":
        return make(onnx, threads, bfloat16=_in_16_bits(network, options.precision))
    if name == "onnxruntime":
        return make(onnx, threads, device)
    if network.architecture is None:
        raise EngineError(
            f"torch cannot run {network.onnx}: it makes networks of model folders whose config.yaml has an entry "
            "network. Use engine auto, openvino or onnxruntime"
        )
    return make(network.onnx.with_suffix(".safetensors"), network.architecture, threads, device)


def _engine_class(name: str) -> Callable[..., Engine]:
    module, kind, package = _ENGINES[name]
    try:  # an engine is imported only when it is wanted
        found: Callable[..., Engine] = getattr(importlib.import_module(f"irvf.engines.{module}"), kind)
    except ImportError as error:
        lacking = (error.name or package).partition(".")[0] if isinstance(error, ModuleNotFoundError) else package
        raise EngineError(f"{package} cannot be imported ({error}); install it: pip install {lacking}") from error
    return found
