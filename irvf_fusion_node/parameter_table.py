"""The table of the node's parameters: meaning, range and default of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from irvf.engines.factory import ENGINE_NAMES, PRECISIONS
from irvf.imaging.camera_geometry import COEFFICIENTS
from irvf.imaging.registration import REGISTRATION_METHODS
from irvf.imaging.thermal import DESTRIPE_MODES, RANGE_MODES, ThermalRangeConfig
from irvf.imaging.thermal_cameras import FLOAT_UNITS, THERMAL_CAMERAS
from irvf.instruction.interpreters import ENCODER
from irvf.pipeline import LiveConfig, PipelineConfig

TRANSPORTS = ("raw", "compressed")


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
        lengths: of a list; empty allows the default's alone.
        longest: most characters of a text.
    """

    default: bool | int | float | str | list[float] | list[int]
    meaning: str
    live: bool = False
    at_start: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    longest: int = 1024

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
_CAMERAS = tuple(THERMAL_CAMERAS)
_UNKNOWN_MATRIX = [0.0] * 9
_COEFFICIENTS = (4, 5, 8, 12, 14)
_FROM_TOPIC = "All zeros: as its camera_info says."

PARAMETERS: dict[str, ParameterSpec] = {
    "autostart": ParameterSpec(
        default=False, meaning="Configure and activate at start, without a lifecycle manager.", at_start=True
    ),
    "hardware_id": ParameterSpec("", "Of the rig, for the diagnostics. Empty: the node's name.", at_start=True),
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
    "allow_pickle": ParameterSpec(
        default=False,
        meaning="Load a .pt or .pth detector: a pickle, which runs whatever code is in it. Only for files of your own.",
        at_start=True,
    ),
    "watchdog.timeout": ParameterSpec(
        5.0,
        "Seconds after which an inference counts as hung, or five times what the warm-up took, if that is more: its "
        "engine is restarted once, then another one runs. 0: never.",
        low=0.0,
        high=600.0,
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
        "How thermal values become grey levels. percentile: a straight line that follows the scene. plateau: a curve "
        "that does (histogram equalisation). fixed: between two temperatures. full: all that the type holds. auto: "
        "percentile for 16 bit and float, full for 8 bit that the camera has stretched.",
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
    "thermal.camera": ParameterSpec(
        _RANGE.camera, "What is known of the camera: temperature of a count, stripes.", live=True, choices=_CAMERAS
    ),
    "thermal.low_celsius": ParameterSpec(
        _RANGE.low_celsius, "Black, under range fixed, in degrees Celsius.", live=True, low=-273.15, high=3000.0
    ),
    "thermal.high_celsius": ParameterSpec(
        _RANGE.high_celsius, "White, under range fixed, in degrees Celsius.", live=True, low=-273.15, high=3000.0
    ),
    "thermal.plateau": ParameterSpec(
        _RANGE.plateau,
        "Share of the pixels that one of 256 parts of the range counts at most, under range plateau: toward 0 a "
        "straight line over the values that occur, 1 equalises fully.",
        live=True,
        low=0.0001,
        high=1.0,
    ),
    "thermal.float_unit": ParameterSpec(
        _RANGE.float_unit, "Unit of 32FC1 images.", live=True, choices=tuple(FLOAT_UNITS)
    ),
    "thermal.repair_pixels": ParameterSpec(
        _RANGE.repair_pixels, "Find dead and hot pixels over time and show their neighbours instead.", live=True
    ),
    "thermal.dead_pixels": ParameterSpec(
        [-1, -1],
        "Pixels that are known to be dead: x, y, x, y, ...; repaired under repair_pixels. -1, -1 for none.",
        live=True,
        lengths=tuple(range(2, 2001, 2)),
    ),
    "thermal.destripe": ParameterSpec(
        _RANGE.destripe,
        "Take away offsets of rows or columns. auto: as the camera needs it.",
        live=True,
        choices=DESTRIPE_MODES,
    ),
    "thermal.freeze_after": ParameterSpec(
        _LIVE.freeze_after_s,
        "Seconds of the same thermal image again and again, while RGB changes, after which the shutter counts as "
        "closed and the RGB image is published alone; 0 for never, or 0.2 and more.",
        live=True,
        low=0.0,
        high=60.0,
    ),
    "thermal.celsius_per_count": ParameterSpec(
        0.0,
        "Degrees Celsius a count of integer images, e.g. 0.01; 0: as thermal.camera says.",
        live=True,
        low=0.0,
        high=10.0,
    ),
    "thermal.celsius_offset": ParameterSpec(
        -273.15, "Degrees Celsius of count 0, where celsius_per_count is known.", live=True, low=-1000.0, high=1000.0
    ),
    "thermal.transport": ParameterSpec("raw", "How thermal images come.", choices=TRANSPORTS),
    "rgb.transport": ParameterSpec(
        "raw", "How RGB images come; compressed: JPEG or PNG, on the topic with /compressed.", choices=TRANSPORTS
    ),
    "registration.method": ParameterSpec(
        "none",
        "How thermal pixels find RGB pixels. none: the two fields of view are equal. homography: a matrix. "
        "camera_info: both calibrations, the transform between the cameras, and a distance. auto: from "
        "registration.initial on, what is left is estimated from the images.",
        live=True,
        choices=REGISTRATION_METHODS,
    ),
    "registration.initial": ParameterSpec(
        "none", "What auto begins with.", live=True, choices=tuple(n for n in REGISTRATION_METHODS if n != "auto")
    ),
    "registration.homography": ParameterSpec(
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "3x3 matrix, row by row, from thermal pixel (x, y, 1) to RGB pixel.",
        live=True,
    ),
    "registration.translation": ParameterSpec(
        [0.0, 0.0, 0.0],
        "Thermal camera in the RGB optical frame, x right, y down, z forward, in metres. Counts where "
        "registration.rotation is given.",
        live=True,
    ),
    "registration.rotation": ParameterSpec(
        [0.0, 0.0, 0.0, 0.0],
        "Quaternion x, y, z, w that turns the thermal optical frame into the RGB one. All zeros: the transform comes "
        "from /tf and /tf_static, between the frames of the two images.",
        live=True,
    ),
    "registration.distance": ParameterSpec(
        10.0,
        "Distance in metres at which both images agree under camera_info; nearer and farther things show parallax.",
        live=True,
        low=0.01,
        high=10000.0,
    ),
    "registration.max_misalignment": ParameterSpec(
        8.0,
        "Estimated misalignment in pixels of the RGB image above which the node warns; 0: it is not estimated, but for "
        "auto.",
        live=True,
        low=0.0,
        high=1000.0,
    ),
    **{
        f"registration.{camera}.{name}": spec
        for camera in ("thermal", "rgb")
        for name, spec in {
            "size": ParameterSpec([0, 0], "Width and height of the calibrated image, in pixels."),
            "matrix": ParameterSpec(_UNKNOWN_MATRIX, f"K, 3x3 row by row. {_FROM_TOPIC}"),
            "distortion_model": ParameterSpec("plumb_bob", "Of the numbers below.", choices=tuple(COEFFICIENTS)),
            "distortion": ParameterSpec([0.0] * 5, "Distortion coefficients D.", lengths=_COEFFICIENTS),
        }.items()
    },
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
        0.0,
        "Seconds by which thermal stamps are late against the moment that they mean. The service estimate_delay finds "
        "it.",
        live=True,
        low=-10.0,
        high=10.0,
    ),
    "pairing.rgb_delay": ParameterSpec(
        0.0,
        "The same of the RGB camera. Pairing goes by the difference of the two.",
        live=True,
        low=-10.0,
        high=10.0,
    ),
    "pairing.alone": ParameterSpec(
        "none",
        "Which camera's images are published alone while the other one is lost; status marks them.",
        choices=("none", "rgb", "thermal", "both"),
    ),
    "pairing.loss_after": ParameterSpec(
        0.5,
        "Seconds without an image after which a camera counts as lost; at least three of its periods.",
        low=0.05,
        high=60.0,
    ),
    "output.jpeg_quality": ParameterSpec(90, "Of image/compressed and overlay/compressed.", live=True, low=1, high=100),
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


def check_value(name: str, value: Any) -> str:
    """Return what is wrong with a value, or an empty text."""
    spec = PARAMETERS[name]
    if isinstance(spec.default, list):
        lengths = spec.lengths or (len(spec.default),)
        if len(value) not in lengths or not all(math.isfinite(entry) for entry in value):
            allowed = (
                " or ".join(map(str, lengths)) if len(lengths) < 9 else f"{lengths[0]}, {lengths[1]}, ... {lengths[-1]}"
            )
            return f"parameter {name!r} must be {allowed} finite numbers, not {list(value)[:12]}"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"parameter {name!r} must be a finite number, not {value}"
    elif isinstance(value, str) and len(value) > spec.longest:
        return f"parameter {name!r} has {len(value)} characters; at most {spec.longest} are allowed"
    elif spec.choices and value not in spec.choices:
        return f"parameter {name!r} is {value!r}; allowed: {', '.join(spec.choices)}"
    return ""
