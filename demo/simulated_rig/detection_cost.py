"""What a cheaper detector costs: other input sizes, and every n-th pair, against the truth of the simulated street.

``PYTHONPATH=demo .venv/bin/python -m simulated_rig.detection_cost`` prints a table.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from irvf.engines.factory import EngineOptions
from irvf.evaluation.average_precision import Truth, average_precision
from irvf.frames import Detection, Frame, FramePair
from irvf.imaging.thermal import ThermalRangeConfig
from irvf.pipeline import FusionPipeline, LiveConfig, PipelineConfig, read_instruction

from .bag import TYPICAL_DISTANCE_M
from .config import RigConfig
from .demo import SKY_PERCENT
from .geometry import homography_thermal_to_rgb
from .rig import Sample, SimulatedRig
from .traffic import LABELS

SETTINGS = (
    ("fp32", 1.0, 1), ("int8", 1.0, 1), ("int8", 0.8, 1), ("int8", 0.65, 1),
    ("int8", 1.0, 2), ("int8", 1.0, 3), ("int8", 1.0, 5),
)  # fmt: skip
"""Precision, ``detection.scale`` and ``detection.every``."""
LEAST_VISIBLE = 0.3
LEAST_SCORE = 0.05


def main() -> int:
    """Render, fuse and detect under every setting, and print mean average precision and time."""
    parser = argparse.ArgumentParser(prog="simulated_rig.detection_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of the sequence")
    parser.add_argument("--threads", type=int, default=0, help="of the engines; 0 takes all cores")
    arguments = parser.parse_args()
    config, instruction = RigConfig(duration_s=arguments.seconds), read_instruction("detection")
    homography = tuple(homography_thermal_to_rgb(config, TYPICAL_DISTANCE_M).ravel().tolist())
    thermal_range = ThermalRangeConfig(low_percentile=SKY_PERCENT)
    pipelines = []
    for precision, scale, every in SETTINGS:
        parts = PipelineConfig(
            segmentation="", saliency="", threads=arguments.threads, engine_options=EngineOptions(precision)
        )
        live = LiveConfig(
            score_threshold=LEAST_SCORE,
            detection_scale=scale,
            detection_every=every,
            thermal_range=thermal_range,
            registration="homography",
            homography=homography,
        )
        pipelines.append(FusionPipeline(parts, live))
    found: list[list[tuple[Detection, ...]]] = [[] for _ in SETTINGS]
    times: list[list[float]] = [[] for _ in SETTINGS]
    truths = []
    for sample in SimulatedRig(config):
        pair = _pair(sample)
        if pair is None:
            continue
        truths.append(_truth(sample))
        for number, pipeline in enumerate(pipelines):
            result = pipeline.fuse(pair, instruction)
            found[number].append(result.detections)
            times[number].append(result.stage_ms.get("detect", result.stage_ms.get("track", 0.0)))
    print(f"{len(truths)} pairs\n")
    print("| precision | scale | every | mAP50 | mAP50-95 | mean ms a pair |\n|---|---|---|---|---|---|")
    for (precision, scale, every), detections, spent in zip(SETTINGS, found, times, strict=True):
        figures = average_precision(detections, truths, LABELS[1:])
        row = f"{figures.at_50:.3f} | {figures.at_50_95:.3f} | {np.mean(spent):.1f}"
        print(f"| {precision} | {scale:g} | {every} | {row} |")
    return 0


def _pair(sample: Sample) -> FramePair | None:
    if sample.thermal is None:
        return None
    thermal = Frame(sample.thermal, "16UC1", sample.thermal_stamp)
    return FramePair(thermal, Frame(np.ascontiguousarray(sample.rgb), "rgb8", sample.stamp))


def _truth(sample: Sample) -> Truth:
    boxes = [entry for entry in sample.boxes if entry.visible >= LEAST_VISIBLE]
    corners = [(entry.box.x_min, entry.box.y_min, entry.box.x_max, entry.box.y_max) for entry in boxes]
    labels = [LABELS[1:].index(entry.label) for entry in boxes]
    return Truth(np.array(corners, np.float32).reshape(-1, 4), np.array(labels, np.int64))


if __name__ == "__main__":
    sys.exit(main())
