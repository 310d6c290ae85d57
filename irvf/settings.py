"""What a pipeline loads, and what can change between two pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from irvf.engines.factory import EngineOptions
from irvf.imaging.camera_geometry import RigGeometry
from irvf.imaging.thermal import ThermalRangeConfig

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
    allow_pickle: bool = False  # load a .pt detector, which runs whatever code is in it

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
    freeze_after_s: float = 0.5  # of equal thermal frames beside changing RGB: a closed shutter; 0 never looks for one
    registration: str = "none"  # one of REGISTRATION_METHODS
    initial_registration: str = "none"  # what the method auto begins with
    homography: tuple[float, ...] = _IDENTITY  # thermal pixel -> RGB pixel, row by row
    geometry: RigGeometry | None = None  # of the cameras, for the method camera_info; None while it is not known
    monitors_alignment: bool = True  # estimate the misalignment that the registration leaves
