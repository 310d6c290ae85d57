"""The walk of one pair: thermal and RGB frame in, fused image and what the task wanted found out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from irvf.engines.engine import Engine
from irvf.engines.factory import EngineOptions, create_engine
from irvf.engines.fusion_network import FusionNetwork
from irvf.frames import Detection, Frame, FramePair, FusionResult, Image8, Plane
from irvf.imaging.classical_fusion import FUSION_METHODS, MIN_SIDE, Fusion, fuse_at_scale
from irvf.imaging.color import Chroma, merge_luma_chroma, split_luma_chroma, to_rgb
from irvf.imaging.drawing import draw_detections, draw_saliency, draw_segmentation
from irvf.imaging.edge_preserving import Scratch
from irvf.imaging.effects import MaskedEffect, apply_effects, scale_chroma
from irvf.imaging.errors import FrameError
from irvf.imaging.registration import Registered, Registration
from irvf.imaging.thermal import ThermalRange, ThermalRangeConfig
from irvf.instruction.encoder import TextEncoder
from irvf.instruction.instruction import Effect, Instruction
from irvf.instruction.interpreters import default_interpreter, load_encoder
from irvf.instruction.prompt import Prompt, Prompter
from irvf.instruction.prompt_cache import PromptCache
from irvf.instruction.tasks import VIEWING, Task
from irvf.models import Model, ModelError, Network, load_model
from irvf.perception.detection import Detector
from irvf.perception.heads import load_heads
from irvf.perception.regions import RegionFinder, region_mask
from irvf.perception.tracking import SparseDetection

WARM_UP_SIZE = (480, 640)
"""Height and width of the images that networks are warmed up with."""
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class PipelineConfig:
    """What is loaded."""

    model: str = "realtime"  # fusion: a model folder, or a name of FUSION_METHODS
    detector: str = "detector"  # as irvf.perception.detector_files.load_detector takes it; empty for none
    segmentation: str = "segmentation"  # model folder; empty for none
    saliency: str = "saliency"  # likewise
    engine: str = "auto"  # one of irvf.engines.factory.ENGINE_NAMES
    threads: int = 0  # of the engine; 0 takes all cores
    engine_options: EngineOptions = field(default_factory=EngineOptions)

    @property
    def heads(self) -> dict[str, str]:
        """Map the kinds of head to their model folders."""
        return {"detector": self.detector, "segmentation": self.segmentation, "saliency": self.saliency}


@dataclass(frozen=True)
class LiveConfig:
    """What can change between two pairs."""

    processing_scale: float = 1.0  # of the fusion network, relative to the RGB image, 0..1
    score_threshold: float = 0.35  # least certain detection that is kept, 0..1
    iou_threshold: float = 0.6  # overlap above which two boxes of a class are one object, 0..1
    detection_scale: float = 1.0  # size of the detector's input relative to its own, 0..1, where that is not fixed
    detection_every: int = 1  # the detector sees every n-th pair, and one each half second; between, boxes are carried
    thermal_range: ThermalRangeConfig = field(default_factory=ThermalRangeConfig)
    registration: str = "none"  # one of REGISTRATION_METHODS
    homography: tuple[float, ...] = _IDENTITY  # thermal pixel -> RGB pixel, row by row


class FusionPipeline:
    """Fuses pairs one after the other under an instruction, and finds in the fused image what its task wants.

    :meth:`fuse` is called from one thread; :meth:`reconfigure` and :meth:`prompt` may be called from others.

    Args:
        config: what to load.
        live: what can change later.

    Attributes:
        model_name: of the fusion.
        text_encoder: name and encoder of what makes its prompts; None where it takes none.

    Raises:
        ModelError: a model folder is missing or malformed.
        EngineError: the engine cannot be made, or cannot load a network.
        ValueError: a network is not one of its kind, or a live setting is out of range.
    """

    def __init__(self, config: PipelineConfig, live: LiveConfig | None = None) -> None:
        self.model_name = config.model
        self.text_encoder: tuple[str, TextEncoder] | None = None
        self._engine: Engine | None = None
        self._config = config
        self._prompts: PromptCache | None = None
        self._fusion = FUSION_METHODS.get(config.model) or self._load_fusion(load_model(config.model, "fusion"))
        self._heads = load_heads(**config.heads, load_network=self._load_network)
        self._sparse = SparseDetection()
        self._thermal_range = ThermalRange()
        self._scratch = Scratch()
        self._find_region: RegionFinder = region_mask
        self._stages = _Stages(live or LiveConfig())

    def _load_network(self, network: Network | Path) -> Engine:
        engine = create_engine(self._config.engine, network, self._config.threads, self._config.engine_options)
        self._engine = self._engine or engine
        return engine

    def _load_fusion(self, model: Model) -> FusionNetwork:
        network = FusionNetwork(self._load_network(model.network), model.size_multiple)
        if network.takes_prompt != (model.weights is not None):
            takes, has = ("a", "lacks") if network.takes_prompt else ("no", "has")
            raise ModelError(
                f"the network of model {model.path} takes {takes} prompt, but its config.yaml {has} weights and "
                "text_encoder, which belong to one that takes a prompt"
            )
        if model.weights is not None:
            encoder = load_encoder(model.text_encoder)
            self.text_encoder = model.text_encoder, encoder
            self._prompts = PromptCache(Prompter(encoder, model.weights))
        return network

    @property
    def engine_description(self) -> str:
        """What runs the fusion; of a plain method, what runs the heads."""
        return self._engine.description if self._engine else "OpenCV"

    def reconfigure(self, live: LiveConfig) -> None:
        """Use other settings from the next pair on.

        Raises:
            ValueError: a setting is out of range; the old ones stay.
        """
        self._stages = _Stages(live)

    def prompt(self, instruction: Instruction) -> Prompt | None:
        """Return what an instruction tells the fusion network; None for one that takes no prompt.

        It is made at the first call and kept: whoever changes the instruction calls this before the next pair comes, so
        that no pair waits for the text encoder.

        Raises:
            EngineError: the text encoder failed.
        """
        wording = instruction.wording or instruction.text
        return self._prompts(wording, instruction.task.name) if self._prompts else None

    @property
    def segmentation_labels(self) -> tuple[str, ...]:
        """Class names by their number in the segmentation, the background first; none without a segmentation."""
        return self._heads.segmentation.labels if self._heads.segmentation else ()

    def missing_heads(self, task: Task) -> tuple[str, ...]:
        """Name the heads that a task wants and no model is loaded for."""
        return self._heads.missing(task)

    @property
    def known_classes(self) -> dict[str, tuple[str, ...]]:
        """Map the heads that tell classes apart, where they are loaded, to the names of these."""
        return self._heads.classes

    def unknown_classes(self, task: Task, classes: tuple[str, ...]) -> str:
        """Say which classes the heads of a task do not know, and which they do; empty when all are known."""
        return self._heads.unknown_classes(task, classes)

    def unseen_region(self, effects: tuple[Effect, ...]) -> str:
        """Say why the region of an effect cannot be found; empty when all can."""
        for region in (effect.region for effect in effects if effect.region and effect.region.objects is not None):
            if self._heads.detection is None:
                return f"the region {region.name} needs a detector, and none is loaded"
            unknown = [name for name in region.objects or () if name not in self._heads.detection.labels]
            if unknown:
                return f"the detector does not know {', '.join(unknown)}, so the region {region.name} cannot be found"
        return ""

    def outputs(self, instruction: Instruction) -> tuple[str, ...]:
        """Name the outputs that an instruction gets."""
        missing = self.missing_heads(instruction.task)
        names = {"detection": "detections", "segmentation": "segmentation", "saliency": "saliency"}
        return ("image", *(names[head] for head in instruction.task.heads if head not in missing))

    def warm_up(self) -> None:
        """Run every network twice, so that the first VGA pair is as fast as the others: the second run captures graphs.

        Raises:
            EngineError: a network cannot run.
        """
        live = self._stages.live
        plane = np.zeros(WARM_UP_SIZE, np.float32)
        if self._heads.detection:
            self._heads.detection.scale = live.detection_scale
        for _ in range(2):
            fuse_at_scale(self._fusion_under(read_instruction()), plane, plane, live.processing_scale)
            self._heads.warm_up(WARM_UP_SIZE)

    def fuse(self, pair: FramePair, instruction: Instruction) -> FusionResult:
        """Take one pair through all stages.

        Args:
            pair: frames as they arrived.
            instruction: in force for this pair.

        Raises:
            FrameError: a frame cannot be used; its ``reason`` says why in a word.
            EngineError: a network failed.
            ValueError: the instruction is limited to a class that a head does not know.
        """
        stages, heads, wanted = self._stages, self._heads, instruction.task.heads
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
            fusion = self._fusion_under(instruction)
            fused_luma = fuse_at_scale(fusion, registered.thermal, luma, stages.live.processing_scale)
        with clock("color"):
            fused_luma = _where_thermal_reaches(fused_luma, luma, registered)
            looks = bool(wanted) or instruction.names_objects or not instruction.effects
            fused = merge_luma_chroma(fused_luma, chroma) if looks else None
        detections: tuple[Detection, ...] = ()
        segmentation = saliency = None
        if fused is not None and heads.detection and ("detection" in wanted or instruction.names_objects):
            detections = self._detect(
                stages.live, heads.detection, fused, pair.rgb.stamp, instruction=instruction, clock=clock
            )
        if fused is not None and heads.segmentation and "segmentation" in wanted:
            with clock("segment"):
                segmentation = heads.segmentation.segment(fused)
        if fused is not None and heads.saliency and "saliency" in wanted:
            with clock("saliency"):
                saliency = heads.saliency.detect(fused)
        if instruction.effects or fused is None:
            with clock("effects"):
                seen = _Seen(fused_luma, registered.thermal, luma, detections, segmentation)
                changed_luma, changed_chroma = self._changed(seen, chroma, instruction.effects)
            with clock("color"):
                fused = merge_luma_chroma(changed_luma, changed_chroma)
        if "detection" not in wanted:
            detections = ()
        elif instruction.classes:
            detections = tuple(each for each in detections if each.label in instruction.classes)
        if segmentation is not None and heads.segmentation:
            segmentation = heads.segmentation.limit(segmentation, instruction.classes)
        return FusionResult(fused, detections, segmentation, saliency, clock.stage_ms)

    def _changed(self, seen: _Seen, chroma: Chroma, effects: tuple[Effect, ...]) -> tuple[Plane, Chroma]:
        """Return luma and chroma of the fused image as an instruction's effects make it look."""
        masks = {
            region: self._find_region(
                region,
                (seen.luma.shape[0], seen.luma.shape[1]),
                seen.detections,
                seen.segmentation,
                self.segmentation_labels,
                guide=seen.fused,
            )
            for region in dict.fromkeys(effect.region for effect in effects if effect.region)
        }
        masked = [
            MaskedEffect(effect.kind, effect.amount, masks[effect.region] if effect.region else None)
            for effect in effects
        ]
        look = apply_effects(seen.fused, seen.thermal, seen.luma, masked, self._scratch)
        if look.saturation is not None:
            chroma = scale_chroma(chroma, look.saturation, self._scratch)
        return look.luma, chroma

    def _detect(
        self,
        live: LiveConfig,
        detector: Detector,
        fused: Image8,
        stamp: int,
        *,
        instruction: Instruction,
        clock: StageClock,
    ) -> tuple[Detection, ...]:
        size = fused.shape[0], fused.shape[1]
        settings = live.score_threshold, live.iou_threshold, live.detection_scale
        # Regions may be of other classes than those that are published.
        classes = () if instruction.names_objects else instruction.classes
        context = instruction.task.name, classes, size, settings
        with clock("track"):
            carried = self._sparse.carry(live.detection_every, stamp, size, context)
        if carried is not None:
            return carried
        del clock.stage_ms["track"]
        with clock("detect"):
            detector.score_threshold, detector.iou_threshold = live.score_threshold, live.iou_threshold
            detector.scale = live.detection_scale
            found = detector.detect(fused, classes)
        self._sparse.found(found, stamp, context)
        return found

    def _fusion_under(self, instruction: Instruction) -> Fusion:
        if not isinstance(self._fusion, FusionNetwork):
            return self._fusion
        prompt = self.prompt(instruction)
        return self._fusion.under(None if prompt is None else prompt.values)

    def draw_overlay(self, result: FusionResult, instruction: Instruction) -> Image8:
        """Return the fused image with the task and what it found drawn on it, ``[H x W x 3]`` uint8 RGB."""
        drawn = result.fused
        if result.saliency is not None:
            drawn = draw_saliency(drawn, result.saliency)
        if result.segmentation is not None:
            drawn = draw_segmentation(drawn, result.segmentation, self.segmentation_labels)
        return draw_detections(drawn, result.detections, instruction.task.name)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is known of a pair when its look is changed: planes ``[H x W]`` in 0..1, and what was found in them."""

    fused: Plane
    thermal: Plane
    luma: Plane
    detections: tuple[Detection, ...]
    segmentation: Image8 | None


class _Stages:
    """The stages that a live configuration makes; replaced as a whole when it changes."""

    def __init__(self, live: LiveConfig) -> None:
        for name in ("processing_scale", "score_threshold", "iou_threshold", "detection_scale"):
            if not 0 < getattr(live, name) <= 1:
                raise ValueError(f"{name} is {getattr(live, name)}; it must be above 0 and at most 1")
        if live.detection_every < 1:
            raise ValueError(f"detection_every is {live.detection_every}; it must be 1 or more")
        self.live = live
        self.registration = Registration(live.registration, live.homography)


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
        stage_ms: name -> milliseconds, in the order in which the stages began; of one that came twice, both together.
    """

    def __init__(self) -> None:
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure one stage."""
        started = time.perf_counter()
        yield
        self.stage_ms[name] = self.stage_ms.get(name, 0.0) + (time.perf_counter() - started) * 1e3


def read_instruction(text: str = "viewing") -> Instruction:
    """Return the instruction that a text means, by the grammar that comes with the package.

    A text that speaks of effects alone means the image to be looked at with these.

    Raises:
        ValueError: the text is not understood; says what is.
    """
    return default_interpreter().interpret(text).instruction(sequence=1, default=VIEWING)


ImageFusion = Callable[[Image8, Image8], Image8]
"""Maps aligned thermal ``[H x W]`` and RGB ``[H x W x 3]`` uint8 images to the fused RGB image."""


def image_fusion(model: str, threads: int = 0, instruction: str = "viewing", scale: float = 1.0) -> ImageFusion:
    """Return a fusion of aligned 8-bit images, as training and evaluation want it.

    Args:
        model: as :attr:`PipelineConfig.model`.
        threads: of the engine; 0 takes all cores.
        instruction: text under which it fuses.
        scale: as :attr:`LiveConfig.processing_scale`.

    Raises:
        ValueError: the instruction is not understood, with what is; or the scale is out of range.
    """
    return image_fusions(model, [instruction], threads, scale)[instruction]


def image_fusions(
    model: str, instructions: Sequence[str], threads: int = 0, scale: float = 1.0, precision: str = "fp32"
) -> dict[str, ImageFusion]:
    """Return what :func:`image_fusion` does under each instruction, with one engine between them all.

    A session of the engine takes more than a gigabyte at full size. ``precision`` is that of
    :class:`irvf.engines.factory.EngineOptions`.
    """
    understood = {text: read_instruction(text) for text in instructions}
    config = PipelineConfig(model=model, detector="", segmentation="", saliency="", threads=threads)
    config = replace(config, engine_options=EngineOptions(precision))
    pipeline = FusionPipeline(config, LiveConfig(processing_scale=scale))

    def fuse(thermal: Image8, rgb: Image8, text: str) -> Image8:
        return pipeline.fuse(FramePair(Frame(thermal, "mono8"), Frame(rgb, "rgb8")), understood[text]).fused

    return {text: partial(fuse, text=text) for text in understood}
