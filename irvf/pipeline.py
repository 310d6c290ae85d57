"""The walk of one pair: thermal and RGB frame in, fused image and what the task wanted found out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from irvf.engines.engine import Engine
from irvf.engines.factory import create_engine
from irvf.engines.fusion_network import FusionNetwork
from irvf.frames import Detection, Frame, FramePair, FusionResult, Image8, Plane, Source
from irvf.imaging.alignment import Alignment, AlignmentConfig
from irvf.imaging.classical_fusion import FUSION_METHODS, MIN_SIDE, Fusion, fuse_at_scale
from irvf.imaging.color import Chroma, merge_luma_chroma, split_luma_chroma, to_rgb
from irvf.imaging.drawing import draw_detections, draw_saliency, draw_segmentation
from irvf.imaging.edge_preserving import Scratch
from irvf.imaging.effects import MaskedEffect, apply_effects, scale_chroma
from irvf.imaging.errors import FrameError
from irvf.imaging.registration import Registered, Registration
from irvf.imaging.shutter import ShutterState, ShutterWatch
from irvf.imaging.thermal import ThermalRange
from irvf.imaging.thermal_cameras import find_camera
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
from irvf.settings import LiveConfig, PipelineConfig
from irvf.stage_clock import StageClock

__all__ = ["FusionPipeline", "LiveConfig", "PipelineConfig", "read_instruction"]

WARM_UP_SIZE = (480, 640)
"""Height and width of the images that networks are warmed up with."""


class FusionPipeline:
    """Fuses pairs one after the other under an instruction, and finds in the fused image what its task wants.

    :meth:`fuse` is called from one thread; :meth:`reconfigure` and :meth:`prompt` may be called from others.

    Args:
        config: what to load.
        live: what can change later.

    Attributes:
        model_name: of the fusion.
        text_encoder: name and encoder of what makes its prompts; None where it takes none.
        shutter: of the thermal camera, as the last pair shows it.

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
        self._heads = load_heads(
            config.detector,
            config.segmentation,
            config.saliency,
            self._load_network,
            allow_pickle=config.allow_pickle,
        )
        self._sparse = SparseDetection()
        self._thermal_range = ThermalRange()
        self._scratch = Scratch()
        self._find_region: RegionFinder = region_mask
        self._stages = _Stages(live or LiveConfig())
        self.shutter = ShutterState()

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
        before, self._stages = self._stages, _Stages(live, self._stages)
        if before.registration is not self._stages.registration:
            before.registration.close()

    @property
    def alignment(self) -> Alignment | None:
        """What is known of the misalignment of the cameras; None where it is not measured."""
        return self._stages.registration.alignment

    def close(self) -> None:
        """End what works in the background; the pipeline is used no more."""
        self._stages.registration.close()

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

    def warm_up(self) -> float:
        """Run every network twice, so that the first VGA pair is as fast as the others: the second run captures graphs.

        Returns:
            Seconds that the second run took, one network after the other.

        Raises:
            EngineError: a network cannot run.
        """
        live = self._stages.live
        plane = np.zeros(WARM_UP_SIZE, np.float32)
        if self._heads.detection:
            self._heads.detection.scale = live.detection_scale
        started = 0.0
        for _ in range(2):
            started = time.perf_counter()
            fuse_at_scale(self._fusion_under(read_instruction()), plane, plane, live.processing_scale)
            self._heads.warm_up(WARM_UP_SIZE)
        return time.perf_counter() - started

    def fuse(self, pair: FramePair, instruction: Instruction) -> FusionResult:
        """Take one pair through all stages.

        Where the thermal camera shows nothing new, its shutter being closed, the RGB image stands for the fused one.

        Args:
            pair: frames as they arrived.
            instruction: in force for this pair.

        Raises:
            FrameError: a frame cannot be used; its ``reason`` says why in a word.
            EngineError: a network failed.
            ValueError: the instruction is limited to a class that a head does not know.
        """
        stages, clock = self._stages, StageClock()
        with clock("decode"):
            _check_size(pair.rgb)
            luma, chroma = split_luma_chroma(to_rgb(pair.rgb))
        with clock("thermal range"):
            _check_size(pair.thermal)
            self.shutter = shutter = stages.shutter(pair.thermal, pair.rgb)
            if shutter.resumed:  # the camera has corrected itself: all values may have moved
                self._thermal_range.restart()
            thermal = None if shutter.frozen else self._grey_levels(pair.thermal, stages.live)
        if thermal is None:
            alone = _Planes(luma, luma, luma, chroma)
            note = f"the thermal camera's shutter is closed ({shutter.reason} for {shutter.since:.1f} s)"
            return replace(self._look_at(alone, pair.rgb.stamp, instruction, clock), source=Source.RGB, note=note)
        with clock("register"):
            registered = stages.registration(thermal, (luma.shape[0], luma.shape[1]))
            stages.registration.observe(thermal, luma)
        with clock("fuse"):
            fused = fuse_at_scale(
                self._fusion_under(instruction), registered.thermal, luma, stages.live.processing_scale
            )
            fused = _where_thermal_reaches(fused, luma, registered)
            # Effects that show more of the thermal image have none there either.
            shown = _where_thermal_reaches(registered.thermal, luma, registered)
        planes = _Planes(fused, shown, luma, chroma)
        result = self._look_at(planes, pair.rgb.stamp, instruction, clock)
        alignment = stages.registration.alignment
        known = alignment is not None and not math.isnan(alignment.misalignment_px)
        return replace(result, misalignment_px=alignment.misalignment_px) if alignment and known else result

    def show_rgb(self, frame: Frame, instruction: Instruction, note: str) -> FusionResult:
        """Take an RGB frame that has no thermal partner through the stages that need none; raises as :meth:`fuse`."""
        clock = StageClock()
        with clock("decode"):
            _check_size(frame)
            luma, chroma = split_luma_chroma(to_rgb(frame))
        result = self._look_at(_Planes(luma, luma, luma, chroma), frame.stamp, instruction, clock)
        return replace(result, source=Source.RGB, note=note)

    def show_thermal(self, frame: Frame, instruction: Instruction, note: str) -> FusionResult:
        """Take a thermal frame that has no RGB partner through the stages that need none, in grey and its own size."""
        clock = StageClock()
        with clock("thermal range"):
            _check_size(frame)
            plane = self._grey_levels(frame, self._stages.live)
            grey = np.full(plane.shape, 128, np.uint8)
        result = self._look_at(_Planes(plane, plane, plane, (grey, grey)), frame.stamp, instruction, clock)
        return replace(result, source=Source.THERMAL, note=note)

    def _grey_levels(self, frame: Frame, live: LiveConfig) -> Plane:
        self._thermal_range.config = live.thermal_range
        return self._thermal_range(frame)

    def _look_at(self, planes: _Planes, stamp: int, instruction: Instruction, clock: StageClock) -> FusionResult:
        """Find in the fused image what the instruction wants, and make it look as that says."""
        heads, wanted = self._heads, instruction.task.heads
        with clock("color"):
            looks = bool(wanted) or instruction.names_objects or not instruction.effects
            fused = merge_luma_chroma(planes.fused, planes.chroma) if looks else None
        detections: tuple[Detection, ...] = ()
        segmentation = saliency = None
        if fused is not None and heads.detection and ("detection" in wanted or instruction.names_objects):
            live = self._stages.live
            detections = self._detect(live, heads.detection, fused, stamp, instruction=instruction, clock=clock)
        if fused is not None and heads.segmentation and "segmentation" in wanted:
            with clock("segment"):
                segmentation = heads.segmentation.segment(fused)
        if fused is not None and heads.saliency and "saliency" in wanted:
            with clock("saliency"):
                saliency = heads.saliency.detect(fused)
        if instruction.effects or fused is None:
            with clock("effects"):
                luma, chroma = self._changed(planes, detections, segmentation, instruction.effects)
            with clock("color"):
                fused = merge_luma_chroma(luma, chroma)
        if "detection" not in wanted:
            detections = ()
        elif instruction.classes:
            detections = tuple(each for each in detections if each.label in instruction.classes)
        if segmentation is not None and heads.segmentation:
            segmentation = heads.segmentation.limit(segmentation, instruction.classes)
        return FusionResult(fused, detections, segmentation, saliency, clock.stage_ms)

    def _changed(
        self,
        planes: _Planes,
        detections: tuple[Detection, ...],
        segmentation: Image8 | None,
        effects: tuple[Effect, ...],
    ) -> tuple[Plane, Chroma]:
        """Return luma and chroma of the fused image as an instruction's effects make it look."""
        masks = {
            region: self._find_region(
                region,
                (planes.luma.shape[0], planes.luma.shape[1]),
                detections,
                segmentation,
                self.segmentation_labels,
                guide=planes.fused,
            )
            for region in dict.fromkeys(effect.region for effect in effects if effect.region)
        }
        masked = [
            MaskedEffect(effect.kind, effect.amount, masks[effect.region] if effect.region else None)
            for effect in effects
        ]
        look = apply_effects(planes.fused, planes.thermal, planes.luma, masked, self._scratch)
        chroma = planes.chroma
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
class _Planes:
    """What a pair is made of on the pixels of the fused image: ``[H x W]`` float32 in 0..1, and the colours.

    Where one camera is alone, its plane stands for all three.
    """

    fused: Plane
    thermal: Plane
    luma: Plane
    chroma: Chroma


class _Stages:
    """The stages that a live configuration makes; replaced as a whole when it changes.

    Args:
        live: the configuration.
        before: the stages until now, of which those go on that have the same settings.
    """

    def __init__(self, live: LiveConfig, before: _Stages | None = None) -> None:
        for name in ("processing_scale", "score_threshold", "iou_threshold", "detection_scale"):
            if not 0 < getattr(live, name) <= 1:
                raise ValueError(f"{name} is {getattr(live, name)}; it must be above 0 and at most 1")
        if live.detection_every < 1:
            raise ValueError(f"detection_every is {live.detection_every}; it must be 1 or more")
        self.live = live
        same = before if before is not None and _registers_alike(live, before.live) else None
        self.registration: Registration = same.registration if same else _registration(live)
        freeze_after_s = live.freeze_after_s if find_camera(live.thermal_range.camera).shutter else 0.0
        same = before if before is not None and before.shutter.freeze_after_s == freeze_after_s else None
        self.shutter: ShutterWatch = same.shutter if same else ShutterWatch(freeze_after_s)


def _registration(live: LiveConfig) -> Registration:
    return Registration(
        live.registration,
        live.homography,
        geometry=live.geometry,
        initial=live.initial_registration,
        measure=AlignmentConfig() if live.monitors_alignment else None,
    )


def _registers_alike(live: LiveConfig, other: LiveConfig) -> bool:
    names = ["registration", "initial_registration", "homography", "monitors_alignment"]
    if "camera_info" in (live.registration, live.registration == "auto" and live.initial_registration):
        names.append("geometry")
    return all(getattr(live, name) == getattr(other, name) for name in names)


def _where_thermal_reaches(plane: Plane, luma: Plane, registered: Registered) -> Plane:
    """Show the RGB image where the thermal camera does not look, with a soft border."""
    if registered.coverage is None:
        return plane
    blended: Plane = luma + (plane - luma) * registered.coverage
    return blended


def _check_size(frame: Frame) -> None:
    if min(frame.height, frame.width) < MIN_SIDE:
        raise FrameError(
            "size", f"image of {frame.width} x {frame.height} pixels; at least {MIN_SIDE} a side is needed"
        )


def read_instruction(text: str = "viewing") -> Instruction:
    """Return the instruction that a text means, by the grammar that comes with the package.

    A text that speaks of effects alone means the image to be looked at with these.

    Raises:
        ValueError: the text is not understood; says what is.
    """
    return default_interpreter().interpret(text).instruction(sequence=1, default=VIEWING)
