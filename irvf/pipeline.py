"""The walk of one pair: thermal and RGB frame in, fused image and what the task wanted found out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from irvf.engines.engine import Engine, EngineError
from irvf.engines.factory import create_engine
from irvf.frames import Detection, Frame, FramePair, FusionResult, Image8, Plane
from irvf.imaging.classical_fusion import FUSION_METHODS, MIN_SIDE, Fusion, fuse_at_scale
from irvf.imaging.color import merge_luma_chroma, split_luma_chroma, to_rgb
from irvf.imaging.drawing import draw_detections
from irvf.imaging.errors import FrameError
from irvf.imaging.registration import Registered, Registration
from irvf.imaging.thermal import ThermalRange, ThermalRangeConfig
from irvf.instruction.instruction import Instruction
from irvf.instruction.interpreter import Interpreter
from irvf.instruction.tasks import Task, load_tasks
from irvf.models import load_model
from irvf.perception.detection import BoxDetector

_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class PipelineConfig:
    """What is loaded."""

    model: str = "irvf"  # fusion: a model folder, or a name of FUSION_METHODS
    detector: str = "detector"  # model folder; empty for none
    engine: str = "auto"  # one of irvf.engines.factory.ENGINE_NAMES
    threads: int = 0  # of the engine; 0 takes all cores


@dataclass(frozen=True)
class LiveConfig:
    """What can change between two pairs."""

    processing_scale: float = 1.0  # of the fusion network, relative to the RGB image, 0..1
    score_threshold: float = 0.35  # least certain detection that is kept, 0..1
    iou_threshold: float = 0.6  # overlap above which two boxes of a class are one object, 0..1
    thermal_range: ThermalRangeConfig = field(default_factory=ThermalRangeConfig)
    registration: str = "none"  # one of REGISTRATION_METHODS
    homography: tuple[float, ...] = _IDENTITY  # thermal pixel -> RGB pixel, row by row


class FusionPipeline:
    """Fuses pairs one after the other, and detects where the task wants it.

    :meth:`fuse` is called from one thread; :meth:`reconfigure` may be called from another.

    Args:
        config: what to load.
        live: what can change later.

    Raises:
        ModelError: a model folder is missing or malformed.
        EngineError: the engine cannot be made, or cannot load a network.
        ValueError: a live setting is out of range.
    """

    def __init__(self, config: PipelineConfig, live: LiveConfig | None = None) -> None:
        self.model_name = config.model
        self.engine_description = "OpenCV"
        self._fusion = FUSION_METHODS.get(config.model) or self._load_fusion(config)
        self._detector: BoxDetector | None = None
        if config.detector:
            model = load_model(config.detector, "detector")
            engine = create_engine(config.engine, model.onnx, config.threads)
            self._detector = BoxDetector(engine, model.labels, model.input_size)
            self.engine_description = engine.description
        self._thermal_range = ThermalRange()
        self._stages = _Stages(live or LiveConfig())

    def _load_fusion(self, config: PipelineConfig) -> Fusion:
        model = load_model(config.model, "fusion")
        engine = create_engine(config.engine, model.onnx, config.threads)
        self.engine_description = engine.description
        return _NetworkFusion(engine)

    def reconfigure(self, live: LiveConfig) -> None:
        """Use other settings from the next pair on.

        Raises:
            ValueError: a setting is out of range; the old ones stay.
        """
        self._stages = _Stages(live)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes that the detector knows; none without a detector."""
        return self._detector.labels if self._detector else ()

    def missing_heads(self, task: Task) -> tuple[str, ...]:
        """Name the heads that a task wants and no model is loaded for."""
        return tuple(head for head in task.heads if head != "detection" or self._detector is None)

    def outputs(self, instruction: Instruction) -> tuple[str, ...]:
        """Name the outputs that an instruction gets."""
        return ("image", "detections") if self._detects(instruction) else ("image",)

    def warm_up(self) -> None:
        """Run every network once, so that the first pair is as fast as the others.

        Raises:
            EngineError: a network cannot run.
        """
        plane = np.zeros((240, 320), np.float32)
        self._fusion(plane, plane)
        if self._detector:
            self._detector.detect(np.zeros((240, 320, 3), np.uint8))

    def fuse(self, pair: FramePair, instruction: Instruction) -> FusionResult:
        """Take one pair through all stages.

        Args:
            pair: frames as they arrived.
            instruction: in force for this pair.

        Raises:
            FrameError: a frame cannot be used; its ``reason`` says why in a word.
            EngineError: a network failed.
        """
        stages = self._stages
        clock = StageClock()
        with clock("decode"):
            _check_size(pair.rgb)
            luma, chroma = split_luma_chroma(to_rgb(pair.rgb))
        with clock("thermal range"):
            _check_size(pair.thermal)
            self._thermal_range.config = stages.live.thermal_range
            thermal = self._thermal_range(pair.thermal)
        with clock("register"):
            registered = stages.registration(thermal, (luma.shape[0], luma.shape[1]))
        with clock("fuse"):
            fused_luma = fuse_at_scale(self._fusion, registered.thermal, luma, stages.live.processing_scale)
        with clock("color"):
            fused = merge_luma_chroma(_where_thermal_reaches(fused_luma, luma, registered), chroma)
        detections: tuple[Detection, ...] = ()
        if self._detector and self._detects(instruction):
            with clock("detect"):
                detections = _detect(self._detector, fused, instruction, stages.live)
        return FusionResult(fused, detections, clock.stage_ms)

    def _detects(self, instruction: Instruction) -> bool:
        return self._detector is not None and "detection" in instruction.task.heads

    def draw_overlay(self, result: FusionResult, instruction: Instruction) -> Image8:
        """Return the fused image with detections and task drawn on it, ``[H x W x 3]`` uint8 RGB."""
        return draw_detections(result.fused, result.detections, instruction.task.name)


class _Stages:
    """The stages that a live configuration makes; replaced as a whole when it changes."""

    def __init__(self, live: LiveConfig) -> None:
        for name in ("processing_scale", "score_threshold", "iou_threshold"):
            if not 0 < getattr(live, name) <= 1:
                raise ValueError(f"{name} is {getattr(live, name)}; it must be above 0 and at most 1")
        self.live = live
        self.registration = Registration(live.registration, live.homography)


class _NetworkFusion:
    """A fusion network as a function of two planes."""

    def __init__(self, engine: Engine) -> None:
        if set(engine.input_names) != {"thermal", "luma"} or len(engine.output_names) != 1:
            raise EngineError(
                f"a fusion network takes thermal and luma and returns one plane; this one takes "
                f"{', '.join(engine.input_names)} and returns {', '.join(engine.output_names)}"
            )
        self._engine = engine

    def __call__(self, thermal: Plane, luma: Plane) -> Plane:
        (fused,) = self._engine.infer({"thermal": thermal[None, None], "luma": luma[None, None]}).values()
        if fused.shape != (1, 1, *luma.shape):
            raise EngineError(
                f"the fusion network returned {list(fused.shape)} for planes of {luma.shape[0]} x {luma.shape[1]}; "
                "it must keep height and width"
            )
        plane: Plane = fused[0, 0]
        return plane


def _detect(detector: BoxDetector, fused: Image8, instruction: Instruction, live: LiveConfig) -> tuple[Detection, ...]:
    detector.score_threshold, detector.iou_threshold = live.score_threshold, live.iou_threshold
    return detector.detect(fused, instruction.classes)


def _where_thermal_reaches(fused: Plane, luma: Plane, registered: Registered) -> Plane:
    """Show the RGB image where the thermal camera does not look, with a soft border."""
    if registered.coverage is None:
        return fused
    blended: Plane = luma + (fused - luma) * registered.coverage
    return blended


def _check_size(frame: Frame) -> None:
    if min(frame.height, frame.width) < MIN_SIDE:
        raise FrameError(
            "size", f"image of {frame.width} x {frame.height} pixels; at least {MIN_SIDE} a side is needed"
        )


class StageClock:
    """Measures the wall time of stages; ``with clock("name"): ...``.

    Attributes:
        stage_ms: name -> milliseconds, in the order in which the stages ran.
    """

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure one stage."""
        started = time.perf_counter()
        yield
        self.stage_ms[name] = (time.perf_counter() - started) * 1e3


ImageFusion = Callable[[Image8, Image8], Image8]
"""Maps aligned thermal ``[H x W]`` and RGB ``[H x W x 3]`` uint8 images to the fused RGB image."""


def image_fusion(model: str, threads: int = 0) -> ImageFusion:
    """Return a fusion of aligned 8-bit images at full scale, as training and evaluation want it.

    Args:
        model: as :attr:`PipelineConfig.model`.
        threads: of the engine; 0 takes all cores.
    """
    pipeline = FusionPipeline(PipelineConfig(model=model, detector="", threads=threads))
    viewing = Interpreter(load_tasks()).interpret("viewing").instruction(sequence=1)

    def fuse(thermal: Image8, rgb: Image8) -> Image8:
        return pipeline.fuse(FramePair(Frame(thermal, "mono8"), Frame(rgb, "rgb8")), viewing).fused

    return fuse
