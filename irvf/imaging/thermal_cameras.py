"""What thermal cameras deliver: how their counts become temperatures, and what their images suffer from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

FLOAT_UNITS = ("celsius", "kelvin")

_KELVIN = -273.15


@dataclass(frozen=True)
class RadiometricScale:
    """How counts become temperatures: degrees Celsius = ``scale * counts + offset``.

    Gazebo's 0.01 K a count is ``RadiometricScale(0.01, -273.15)``, Optris' format ``RadiometricScale(0.1, -100.0)``.
    """

    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.offset)):
            raise ValueError(
                f"radiometric scale {self.scale} with offset {self.offset}: both must be finite and the scale positive"
            )

    def celsius(self, counts: float) -> float:
        """Return the temperature that a number of counts stands for."""
        return self.scale * counts + self.offset


@dataclass(frozen=True)
class ThermalCamera:
    """What is known of a camera, or of a format that it can be set to.

    Attributes:
        name: by which it is chosen.
        scale: how 16-bit counts become degrees Celsius; None where they stand for no temperature, or none is known.
        scale_8_bit: the same for 8-bit counts: None where the camera has stretched them to the scene (AGC).
        float_unit: unit of its float images, of :data:`FLOAT_UNITS`.
        encodings: that its drivers publish.
        destripe: which noise of its read-out is worth removing: ``none``, ``rows``, ``columns`` or ``both``. No preset
            asks for it: of none is it published that its images leave it with stripes.
        shutter: whether it has a shutter, and so delivers frozen images while it corrects itself.
        rate: frames a second that it usually delivers; 0 where any can be chosen.
        note: what its user should know.
        sources: where the above is published; what is in none of them is said to be not verified in ``note``.
    """

    name: str
    scale: RadiometricScale | None = None
    scale_8_bit: RadiometricScale | None = None
    float_unit: str = "celsius"
    encodings: tuple[str, ...] = ("mono16", "16UC1", "mono8")
    destripe: str = "none"
    shutter: bool = True
    rate: float = 0.0
    note: str = ""
    sources: tuple[str, ...] = ()


_CENTIKELVIN = RadiometricScale(0.01, _KELVIN)
_DECIKELVIN = RadiometricScale(0.1, _KELVIN)
_LEPTON_TELEMETRY = "https://manualshive.com/en/manual/flir/lepton-1-5/2305713?page=27"

_CAMERAS = (
    ThermalCamera(
        "generic", note="Nothing is assumed. Give celsius_per_count and celsius_offset where they are known."
    ),
    ThermalCamera(
        "boson",
        encodings=("16UC1", "mono16", "mono8"),
        rate=60.0,
        note="FLIR Boson: 16-bit counts before the camera's AGC, or 8 bits after it; neither stands for a temperature. "
        "There are variants of 60 Hz and of less than 9 Hz. Its own column filter (scnr in its SDK) can be switched.",
        sources=(
            "https://github.com/FLIR/BosonUSB",
            "https://github.com/FLIR/BosonUSB/issues/14",
            "https://dokumen.tips/documents/flir-boson-thermal-imaging-core-warning-this-document-contains-technology-whose.html",
        ),
    ),
    ThermalCamera(
        "boson_tlinear",
        _CENTIKELVIN,
        encodings=("16UC1", "mono16"),
        rate=60.0,
        note="Radiometric Boson or Boson+ with its USB video set to TLinear. The 0.01 K a count is what other users' "
        "software takes; not verified in a manual. Check it against something of known temperature.",
        sources=("https://github.com/LJMUAstroecology/flirpy/issues/87",),
    ),
    ThermalCamera(
        "lepton",
        _CENTIKELVIN,
        encodings=("16UC1", "mono16"),
        rate=9.0,
        note="FLIR Lepton 2.5 or 3.5 with TLinear on and a resolution of 0.01 K, as in high gain.",
        sources=(
            _LEPTON_TELEMETRY,
            "https://github.com/LJMUAstroecology/flirpy/issues/74",
            "https://github.com/tomasz-lewicki/ai-thermometer/issues/5",
        ),
    ),
    ThermalCamera(
        "lepton_low_gain",
        _DECIKELVIN,
        encodings=("16UC1", "mono16"),
        rate=9.0,
        note="The same with a TLinear resolution of 0.1 K, for scenes beyond some 140 degrees Celsius. Gain and "
        "resolution are set apart from each other: take the preset of the resolution.",
        sources=(_LEPTON_TELEMETRY,),
    ),
    ThermalCamera(
        "optris",
        RadiometricScale(0.1, -100.0),
        encodings=("mono16",),
        rate=32.0,
        note="optris_drivers: (counts - 1000) / 10. The finer format of some devices is not verified.",
        sources=(
            "https://github.com/evocortex/optris_drivers/issues/21",
            "https://docs.ros.org/en/hydro/api/optris_drivers/html/optris__binary__image__node_8cpp_source.html",
        ),
    ),
    ThermalCamera(
        "hikmicro",
        encodings=("32FC1", "mono8", "bgr8"),
        rate=25.0,
        note="The network cameras deliver float degrees Celsius of every pixel (ISAPI): publish them as 32FC1. Counts "
        "of the USB modules become temperatures in the maker's library alone; a scale for them is not verified.",
        sources=("https://pypi.org/project/hiktemp/",),
    ),
    ThermalCamera(
        "gazebo",
        _CENTIKELVIN,
        RadiometricScale(3.0, _KELVIN),
        encodings=("mono16", "mono8"),
        shutter=False,
        note="The simulator's defaults: 0.01 K a count in 16 bits, 3 K in 8. The plugin's <resolution> changes them.",
        sources=(
            "https://gazebosim.org/api/sensors/8/thermalcameraigngazebo.html",
            "https://github.com/gazebosim/gz-sensors/pull/92",
            "https://github.com/gazebosim/gz-sim/pull/442",
        ),
    ),
    ThermalCamera(
        "oak_t",
        encodings=("32FC1", "yuv422"),
        rate=25.0,
        note="Luxonis OAK Thermal: the raw stream is half-precision degrees Celsius, which depthai_ros_driver "
        "publishes as 32FC1; its other stream is an AGC picture.",
        sources=(
            "https://docs.luxonis.com/software-v3/depthai/depthai-components/nodes/thermal",
            "https://github.com/luxonis/depthai-ros/blob/humble/depthai_filters/src/thermal_temp.cpp",
        ),
    ),
    ThermalCamera(
        "seek",
        encodings=("32FC1", "mono16", "mono8"),
        rate=27.0,
        note="Seek SDK: THERMOGRAPHY_FLOAT is degrees Celsius. THERMOGRAPHY_FIXED_10_6 has 1/64 degree a count; as it "
        "is unsigned, count 0 may be below 0 degrees: its offset, and the rate, are not verified.",
        sources=("https://github.com/seekthermal/seekcamera-python/blob/main/seekcamera/camera.py",),
    ),
)

THERMAL_CAMERAS: Mapping[str, ThermalCamera] = MappingProxyType({camera.name: camera for camera in _CAMERAS})
"""Presets by name; ``generic`` assumes nothing."""


def find_camera(name: str) -> ThermalCamera:
    """Return a preset.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in THERMAL_CAMERAS:
        raise ValueError(f"thermal camera {name!r}; allowed: {', '.join(THERMAL_CAMERAS)}")
    return THERMAL_CAMERAS[name]
