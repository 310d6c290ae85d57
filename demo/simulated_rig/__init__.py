"""A simulated rig of a thermal and an RGB camera in a street: pictures with known geometry and known objects.

from simulated_rig import RigConfig, SimulatedRig
for sample in SimulatedRig(RigConfig(seed=3, light="night")):
    sample.thermal, sample.rgb, sample.boxes, sample.class_mask
"""

from .clock import capture_stamps
from .config import RigConfig
from .geometry import PinholeCamera, homography_thermal_to_rgb, rgb_camera, thermal_camera
from .rig import Sample, SimulatedRig, TrueBox
from .traffic import LABELS

__all__ = [
    "LABELS",
    "PinholeCamera",
    "RigConfig",
    "Sample",
    "SimulatedRig",
    "TrueBox",
    "capture_stamps",
    "homography_thermal_to_rgb",
    "rgb_camera",
    "thermal_camera",
]
