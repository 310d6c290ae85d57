"""What the parameters decide, as values: of the node, and of the pipeline that it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irvf.engines.factory import EngineOptions
from irvf.imaging.camera_geometry import COEFFICIENTS, CameraModel, Nine, as_nine, rotation_from_quaternion
from irvf.imaging.thermal import RadiometricScale, ThermalRangeConfig
from irvf.pipeline import LiveConfig, PipelineConfig
from irvf_fusion_node.pairing import Stream

NANOSECONDS = 1_000_000_000
_ALONE = {
    "none": frozenset[Stream](),
    "rgb": frozenset({Stream.RGB}),
    "thermal": frozenset({Stream.THERMAL}),
    "both": frozenset(Stream),
}


@dataclass(frozen=True)
class RigConfig:
    """What the parameters say of the cameras' geometry; None leaves it to camera_info and TF.

    Attributes:
        cameras: calibration of each.
        transform: rotation, 3x3 row by row, and translation in metres: ``X_rgb = R X_thermal + t``, optical frames.
        distance: of the assumed plane, metres.
    """

    cameras: Mapping[Stream, CameraModel | None]
    transform: tuple[Nine, tuple[float, float, float]] | None
    distance: float


@dataclass(frozen=True)
class NodeConfig:
    """Everything the parameters decide."""

    pipeline: PipelineConfig
    live: LiveConfig
    rig: RigConfig
    hardware_id: str
    image_conversion: str
    transports: Mapping[Stream, str]
    max_gap: int  # ns
    max_wait: int  # ns
    delays: Mapping[Stream, int]  # ns by which stamps are late
    alone: frozenset[Stream]
    loss_after: int  # ns
    max_misalignment: float  # px
    jpeg_quality: int
    watchdog_timeout: float  # s
    initial_instruction: str
    engine_cache: str
    tasks_file: str
    instruction_encoder: str
    language_model: str
    language_model_timeout: float  # s


def node_config(values: Mapping[str, Any]) -> NodeConfig:
    """Return the configuration that values of all parameters make.

    Raises:
        ValueError: values that do not fit each other, e.g. a calibration that is none.
    """

    def nanoseconds(name: str) -> int:
        return round(float(values[name]) * NANOSECONDS)

    return NodeConfig(
        pipeline=_pipeline_config(values),
        live=_live_config(values),
        rig=_rig_config(values),
        hardware_id=values["hardware_id"],
        image_conversion=values["image_conversion"],
        transports={stream: values[f"{stream.value}.transport"] for stream in Stream},
        max_gap=nanoseconds("pairing.max_gap"),
        max_wait=nanoseconds("pairing.max_wait"),
        delays={stream: nanoseconds(f"pairing.{stream.value}_delay") for stream in Stream},
        alone=_ALONE[values["pairing.alone"]],
        loss_after=nanoseconds("pairing.loss_after"),
        max_misalignment=values["registration.max_misalignment"],
        jpeg_quality=values["output.jpeg_quality"],
        watchdog_timeout=values["watchdog.timeout"],
        initial_instruction=values["instruction.initial"],
        engine_cache=values["engine_cache"],
        tasks_file=values["instruction.tasks_file"],
        instruction_encoder=values["instruction.encoder"],
        language_model=values["instruction.language_model"],
        language_model_timeout=values["instruction.language_model_timeout"],
    )


def _pipeline_config(values: Mapping[str, Any]) -> PipelineConfig:
    return PipelineConfig(
        model=values["model"],
        detector=values["detector"],
        segmentation=values["segmentation.model"],
        saliency=values["saliency.model"],
        engine=values["engine"],
        threads=values["threads"],
        engine_options=EngineOptions(values["precision"]),
        allow_pickle=values["allow_pickle"],
    )


def _live_config(values: Mapping[str, Any]) -> LiveConfig:
    per_count = values["thermal.celsius_per_count"]
    return LiveConfig(
        processing_scale=values["processing_scale"],
        score_threshold=values["detection.score_threshold"],
        iou_threshold=values["detection.iou_threshold"],
        detection_scale=values["detection.scale"],
        detection_every=values["detection.every"],
        thermal_range=ThermalRangeConfig(
            mode=values["thermal.range"],
            low_percentile=values["thermal.low_percentile"],
            high_percentile=values["thermal.high_percentile"],
            smoothing_s=values["thermal.smoothing"],
            min_span_counts=values["thermal.min_span"],
            min_span_degrees=values["thermal.min_span_degrees"],
            radiometric=RadiometricScale(per_count, values["thermal.celsius_offset"]) if per_count else None,
            camera=values["thermal.camera"],
            low_celsius=values["thermal.low_celsius"],
            high_celsius=values["thermal.high_celsius"],
            plateau=values["thermal.plateau"],
            float_unit=values["thermal.float_unit"],
            repair_pixels=values["thermal.repair_pixels"],
            dead_pixels=_dead_pixels(values["thermal.dead_pixels"]),
            destripe=values["thermal.destripe"],
        ),
        freeze_after_s=values["thermal.freeze_after"],
        registration=values["registration.method"],
        initial_registration=values["registration.initial"],
        homography=tuple(values["registration.homography"]),
        monitors_alignment=values["registration.max_misalignment"] > 0,
    )


def _dead_pixels(values: Sequence[int]) -> tuple[tuple[int, int], ...]:
    pixels = list(zip(values[::2], values[1::2], strict=True))
    return () if pixels == [(-1, -1)] else tuple(pixels)


def _rig_config(values: Mapping[str, Any]) -> RigConfig:
    rotation = values["registration.rotation"]
    translation: Sequence[float] = values["registration.translation"]
    if any(rotation):
        transform = rotation_from_quaternion(*rotation), (translation[0], translation[1], translation[2])
    elif any(translation):
        raise ValueError(
            f"registration.translation {list(translation)} counts only beside a registration.rotation; no rotation at "
            "all is 0.0, 0.0, 0.0, 1.0"
        )
    else:
        transform = None
    cameras = {stream: _camera(stream.value, values) for stream in Stream}
    return RigConfig(cameras, transform, values["registration.distance"])


def _camera(name: str, values: Mapping[str, Any]) -> CameraModel | None:
    matrix = values[f"registration.{name}.matrix"]
    if not any(matrix):
        return None
    width, height = values[f"registration.{name}.size"]
    model = values[f"registration.{name}.distortion_model"]
    distortion = coefficients(model, values[f"registration.{name}.distortion"])
    try:
        return CameraModel(height, width, as_nine(matrix), model, distortion)
    except ValueError as error:
        raise ValueError(f"registration.{name}: {error}") from error


def coefficients(model: str, numbers: Sequence[float]) -> tuple[float, ...]:
    """Return the numbers of a distortion model without the zeros that fill them up; none where all are zero."""
    found, lengths = tuple(numbers), COEFFICIENTS.get(model, ())
    if not any(found):
        return ()
    fitting = [length for length in lengths if not any(found[length:])]
    return found if len(found) in lengths or not fitting else found[: fitting[0]]
