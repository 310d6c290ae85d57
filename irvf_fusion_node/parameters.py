"""The node's parameters: one table with meaning, range and default of each, and how they become configuration."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions

from irvf.engines.factory import ENGINE_NAMES, PRECISIONS, EngineOptions
from irvf.imaging.registration import REGISTRATION_METHODS
from irvf.imaging.thermal import RANGE_MODES, RadiometricScale, ThermalRangeConfig
from irvf.instruction.interpreters import ENCODER
from irvf.pipeline import LiveConfig, PipelineConfig

_BUILT_IN = ("use_sim_time", "start_type_description_service")
_QOS_PREFIX = "qos_overrides."
_QOS_POLICIES = [policy.name.lower() for policy in QoSOverridingOptions.with_default_policies().policy_kinds]
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter.

    Attributes:
        default: its type is the parameter's type.
        meaning: shown by ``ros2 param describe``.
        live: whether a change takes effect with the next pair; the others are read at configure.
        at_start: whether it is read when the node starts and never again.
        low: smallest number allowed.
        high: largest number allowed.
        choices: texts allowed; empty allows any.
    """

    default: bool | int | float | str | list[float]
    meaning: str
    live: bool = False
    at_start: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self, name: str) -> ParameterDescriptor:
        """Return the descriptor that ROS tools show, and that makes rclpy refuse values out of range."""
        when = "Live." if self.live else "Read at start only." if self.at_start else "Read at configure."
        allowed = f" One of: {', '.join(self.choices)}." if self.choices else ""
        descriptor = ParameterDescriptor(name=name, description=f"{self.meaning}{allowed} {when}")
        if self.low is not None and self.high is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(self.low), to_value=int(self.high))]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=self.low, to_value=self.high)]
        return descriptor


_RANGE, _PIPELINE, _LIVE = ThermalRangeConfig(), PipelineConfig(), LiveConfig()

PARAMETERS: dict[str, ParameterSpec] = {
    "autostart": ParameterSpec(
        default=False, meaning="Configure and activate at start, without a lifecycle manager.", at_start=True
    ),
    "model": ParameterSpec(
        _PIPELINE.model, "Fusion: a model folder (name or path), or one of the plain methods max, average, laplacian."
    ),
    "detector": ParameterSpec(
        "detector",
        "Detector: a model folder (name or path), or one of your own: an ONNX or engine file, a folder of "
        "transformers, a .pt of ultralytics (docs/detectors.md). Empty: none, no detections.",
    ),
    "segmentation.model": ParameterSpec(
        "segmentation", "Segmentation: a model folder (name or path). Empty: none, no segmentation and no label_info."
    ),
    "saliency.model": ParameterSpec("saliency", "Saliency: a model folder (name or path). Empty: none, no saliency."),
    "engine": ParameterSpec("auto", "What runs the networks.", choices=ENGINE_NAMES),
    "threads": ParameterSpec(0, "Threads of the engine; 0 takes all cores.", low=0, high=256),
    "precision": ParameterSpec(
        "auto",
        "Of the networks. int8: 8 bits where a model has them. bf16: 16 bits where OpenVINO runs it on a CPU that "
        "computes in them. auto: what is fastest.",
        choices=PRECISIONS,
    ),
    "engine_cache": ParameterSpec(
        "", "Folder for engines that TensorRT built. Empty: IRVF_ENGINE_CACHE, else ~/.cache/irvf/engines."
    ),
    "processing_scale": ParameterSpec(
        _LIVE.processing_scale,
        "Scale at which the fusion network runs, relative to the RGB image. Detail above it is taken from the "
        "stronger source. Below 1.0 it is for slow networks: irvf takes about a quarter of its time at 0.5.",
        live=True,
        low=0.1,
        high=1.0,
    ),
    "image_conversion": ParameterSpec("numpy", "What reads image messages.", choices=("numpy", "cv_bridge")),
    "thermal.range": ParameterSpec(
        _RANGE.mode,
        "How thermal values become grey levels. auto: percentile for 16 bit and float, full range for 8 bit.",
        live=True,
        choices=RANGE_MODES,
    ),
    "thermal.low_percentile": ParameterSpec(
        _RANGE.low_percentile, "Share of the pixels that may be black, in percent.", live=True, low=0.0, high=49.0
    ),
    "thermal.high_percentile": ParameterSpec(
        _RANGE.high_percentile, "100 minus the share that may be white, in percent.", live=True, low=51.0, high=100.0
    ),
    "thermal.smoothing": ParameterSpec(
        _RANGE.smoothing_s,
        "Time constant in seconds with which the range follows the scene; 0 follows at once.",
        live=True,
        low=0.0,
        high=60.0,
    ),
    "thermal.min_span": ParameterSpec(
        _RANGE.min_span_counts,
        "Smallest span of 16-bit counts that fills black to white, so that noise is not blown up.",
        live=True,
        low=1.0,
        high=65535.0,
    ),
    "thermal.min_span_degrees": ParameterSpec(
        _RANGE.min_span_degrees,
        "The same for float images, in their unit, and for counts whose temperature is known, in degrees.",
        live=True,
        low=0.01,
        high=1000.0,
    ),
    "thermal.celsius_per_count": ParameterSpec(
        0.0,
        "Degrees Celsius a count of 16-bit images, e.g. 0.01; 0 where it is not known.",
        live=True,
        low=0.0,
        high=10.0,
    ),
    "thermal.celsius_offset": ParameterSpec(
        -273.15, "Degrees Celsius of count 0, where celsius_per_count is known.", live=True, low=-1000.0, high=1000.0
    ),
    "registration.method": ParameterSpec(
        "none",
        "How thermal pixels find RGB pixels. none: the two fields of view are equal.",
        live=True,
        choices=REGISTRATION_METHODS,
    ),
    "registration.homography": ParameterSpec(
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "3x3 matrix, row by row, from thermal pixel (x, y, 1) to RGB pixel.",
        live=True,
    ),
    "detection.score_threshold": ParameterSpec(
        0.35, "Detections less certain than this are not published.", live=True, low=0.01, high=1.0
    ),
    "detection.iou_threshold": ParameterSpec(
        0.6,
        "Of two boxes of one class that overlap more than this, the better one stays.",
        live=True,
        low=0.05,
        high=1.0,
    ),
    "detection.scale": ParameterSpec(
        _LIVE.detection_scale,
        "Size of the detector's input relative to what it was trained at, where the network leaves it open. At 0.8 the "
        "detector that ships takes two thirds of the time and finds about as much.",
        live=True,
        low=0.2,
        high=1.0,
    ),
    "detection.every": ParameterSpec(
        _LIVE.detection_every,
        "The detector sees every n-th pair, and one each half second; between, its boxes are carried on at their "
        "velocity.",
        live=True,
        low=1,
        high=30,
    ),
    "pairing.max_gap": ParameterSpec(
        0.02, "Largest distance in seconds between the stamps of a pair.", low=0.0, high=10.0
    ),
    "pairing.max_wait": ParameterSpec(
        0.3,
        "Longest time in seconds that a frame waits for its partner to arrive. The images of that time are kept in "
        "memory.",
        low=0.01,
        high=3.0,
    ),
    "pairing.thermal_delay": ParameterSpec(
        0.0, "Seconds by which thermal stamps are late against RGB stamps of the same moment.", low=-10.0, high=10.0
    ),
    "instruction.initial": ParameterSpec("detection", "Instruction in force until one is given."),
    "instruction.tasks_file": ParameterSpec("", "YAML file with tasks and words of your own; empty for none."),
    "instruction.encoder": ParameterSpec(
        ENCODER, "Model folder that tells what instructions are about; empty leaves it at their words."
    ),
    "instruction.language_model": ParameterSpec(
        "", "Folder of a causal language model of transformers that reads instructions first; empty for none."
    ),
    "instruction.language_model_timeout": ParameterSpec(
        5.0, "Seconds that it has for an instruction, after which the words decide.", low=0.1, high=120.0
    ),
}


@dataclass(frozen=True)
class NodeConfig:
    """Everything the parameters decide, read at configure."""

    pipeline: PipelineConfig
    live: LiveConfig
    image_conversion: str
    max_gap: int  # ns
    max_wait: int  # ns
    thermal_delay: int  # ns
    initial_instruction: str
    tasks_file: str
    instruction_encoder: str
    language_model: str
    language_model_timeout: float  # s


class Parameters:
    """Declares the table on a node, refuses what does not fit, and reads the configuration.

    The node must have been made with ``automatically_declare_parameters_from_overrides=True``: that is how unknown
    names in a parameter file are noticed.

    Attributes:
        unknown: one message for each name given at start that is not in the table.
        invalid: name to message for each value given at start that does not fit; configure fails until it is set.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._given = node.get_parameters_by_prefix("")
        self._unused_overrides: set[str] = set()
        self.unknown: list[str] = []
        self.invalid: dict[str, str] = {}
        self._refuse_unknown()
        for name, spec in PARAMETERS.items():
            self._declare(name, spec)

    def _refuse_unknown(self) -> None:
        for name in self._given:
            if name in _BUILT_IN or name.startswith(_QOS_PREFIX):
                continue
            self._node.undeclare_parameter(name)
            if name not in PARAMETERS:
                close = difflib.get_close_matches(name, PARAMETERS, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                self.unknown.append(f"parameter {name!r} is unknown and ignored{hint}")

    def _declare(self, name: str, spec: ParameterSpec) -> None:
        try:
            parameter = self._node.declare_parameter(name, spec.default, spec.descriptor(name))
            problem = check_value(name, parameter.value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            problem = self._integer_for_double(name, spec) or f"parameter {name!r}: {error}"
        if problem:
            if self._node.has_parameter(name):
                self._node.undeclare_parameter(name)
            self._node.declare_parameter(name, spec.default, spec.descriptor(name), ignore_override=True)
            self.invalid[name] = f"{problem} (set it, then configure again)"

    def _integer_for_double(self, name: str, spec: ParameterSpec) -> str:
        """Say how to write a number that a parameter file gives as ``1``; rclpy tells types only."""
        given = self._given.get(name)
        kind = given.type_ if given else None
        if isinstance(spec.default, float) and kind == Parameter.Type.INTEGER:
            return f"parameter {name!r} is the integer {given.value}; write {given.value}.0"
        if isinstance(spec.default, list) and kind == Parameter.Type.INTEGER_ARRAY:
            return f"parameter {name!r} is a list of integers; write each with a decimal point, 1.0 for 1"
        return ""

    @property
    def topics_with_reliability(self) -> set[str]:
        """Topics whose subscription is given a reliability by an override."""
        end = ".subscription.reliability"
        given = (name for name in self._given if name.startswith(_QOS_PREFIX) and name.endswith(end))
        return {name[len(_QOS_PREFIX) : -len(end)] for name in given}

    def unused_qos_overrides(self, entities: Iterable[str]) -> list[str]:
        """Return one message for each QoS override given at start that none of ``entities`` takes, once.

        Args:
            entities: ``TOPIC.publisher`` or ``TOPIC.subscription`` of all that take overrides.
        """
        used = {f"{_QOS_PREFIX}{entity}.{policy}" for entity in entities for policy in _QOS_POLICIES}
        given = {name for name in self._given if name.startswith(_QOS_PREFIX)}
        unused = given - used - self._unused_overrides
        self._unused_overrides |= unused
        messages = []
        for name in sorted(unused):
            close = difflib.get_close_matches(name, used, n=1)
            messages.append(f"QoS override {name!r} fits no topic{f'; did you mean {close[0]!r}?' if close else ''}")
        return messages

    def check(self, parameters: Sequence[Parameter], *, configured: bool) -> SetParametersResult:
        """Say whether new values can be taken: the callback of ``add_on_set_parameters_callback``."""
        for parameter in parameters:
            spec = PARAMETERS.get(parameter.name)
            if spec is None:
                continue
            problem = check_value(parameter.name, parameter.value)
            if not problem and configured and not spec.live:
                problem = f"parameter {parameter.name!r} is read at configure: deactivate and clean up first"
            if problem:
                return SetParametersResult(successful=False, reason=problem)
        for parameter in parameters:
            self.invalid.pop(parameter.name, None)
        return SetParametersResult(successful=True)

    def read(self, changes: Sequence[Parameter] = ()) -> NodeConfig:
        """Return the configuration in force, with ``changes`` that are about to be made.

        Raises:
            ValueError: values that do not fit each other or the scene, e.g. a homography that is not invertible.
        """
        values: dict[str, Any] = {name: self._node.get_parameter(name).value for name in PARAMETERS}
        values.update({change.name: change.value for change in changes if change.name in PARAMETERS})
        return _node_config(values)


def check_value(name: str, value: Any) -> str:
    """Return what is wrong with a value, or an empty text."""
    spec = PARAMETERS[name]
    if isinstance(spec.default, list):
        if len(value) != len(spec.default) or not all(math.isfinite(entry) for entry in value):
            return f"parameter {name!r} must be {len(spec.default)} finite numbers, not {list(value)[:12]}"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"parameter {name!r} must be a finite number, not {value}"
    elif spec.choices and value not in spec.choices:
        return f"parameter {name!r} is {value!r}; allowed: {', '.join(spec.choices)}"
    return ""


def _node_config(values: Mapping[str, Any]) -> NodeConfig:
    def nanoseconds(name: str) -> int:
        return round(float(values[name]) * NANOSECONDS)

    per_count = values["thermal.celsius_per_count"]
    live = LiveConfig(
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
        ),
        registration=values["registration.method"],
        homography=tuple(values["registration.homography"]),
    )
    pipeline = PipelineConfig(
        model=values["model"],
        detector=values["detector"],
        segmentation=values["segmentation.model"],
        saliency=values["saliency.model"],
        engine=values["engine"],
        threads=values["threads"],
        engine_options=EngineOptions(
            values["precision"],
            cache_folder=Path(values["engine_cache"]).expanduser() if values["engine_cache"] else None,
        ),
    )
    return NodeConfig(
        pipeline=pipeline,
        live=live,
        image_conversion=values["image_conversion"],
        max_gap=nanoseconds("pairing.max_gap"),
        max_wait=nanoseconds("pairing.max_wait"),
        thermal_delay=nanoseconds("pairing.thermal_delay"),
        initial_instruction=values["instruction.initial"],
        tasks_file=values["instruction.tasks_file"],
        instruction_encoder=values["instruction.encoder"],
        language_model=values["instruction.language_model"],
        language_model_timeout=values["instruction.language_model_timeout"],
    )
