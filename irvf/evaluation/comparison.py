"""Compares fusions with each other: by metrics of the image, and by what a detector finds in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from irvf.engines.factory import create_engine
from irvf.evaluation.average_precision import Truth, average_precision
from irvf.evaluation.fusion_quality import METRICS
from irvf.models import load_model
from irvf.perception.detection import BoxDetector
from irvf.pipeline import image_fusion
from irvf.training.data import PairFiles
from irvf.training.detection_data import read_yolo_boxes

Row = dict[str, float]
LEAST_SCORE = 0.01
"""Detections from this score on count for the precision at high recall."""


def compare_fusion(
    pairs: Sequence[PairFiles], methods: Sequence[str], threads: int, done: Callable[[], object]
) -> dict[str, Row]:
    """Return the mean of each metric over the pairs, by method.

    Args:
        pairs: to fuse at full size.
        methods: models and plain methods.
        threads: of the engine; 0 takes all cores.
        done: called after each image.
    """
    rows: dict[str, Row] = {}
    for method in methods:
        fuse = image_fusion(method, threads)
        values: dict[str, list[float]] = {name: [] for name in METRICS}
        for pair in pairs:
            thermal, rgb = pair.load()
            luma, fused = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (rgb, fuse(thermal, rgb)))
            for name, metric in METRICS.items():
                values[name].append(metric(np.asarray(fused, np.uint8), thermal, np.asarray(luma, np.uint8)))
            done()
        rows[method] = {name: float(np.mean(entries)) for name, entries in values.items()}
    return rows


def compare_detection(
    pairs: Sequence[PairFiles],
    methods: Sequence[str],
    detector: str,
    boxes: str,
    *,
    threads: int,
    done: Callable[[], object],
) -> dict[str, Row]:
    """Return the average precision of one detector on each method's images.

    Args:
        pairs: to fuse at full size.
        methods: models and plain methods.
        detector: model folder.
        boxes: folder of YOLO boxes beside ``thermal`` and ``rgb``.
        threads: of the engine; 0 takes all cores.
        done: called after each image.
    """
    model = load_model(detector, "detector")
    engine = create_engine("auto", model.onnx, threads)
    finder = BoxDetector(engine, model.labels, model.input_size, score_threshold=LEAST_SCORE)
    rows: dict[str, Row] = {}
    for method in methods:
        fuse = image_fusion(method, threads)
        found, truth = [], []
        for pair in pairs:
            thermal, rgb = pair.load()
            found.append(finder.detect(fuse(thermal, rgb)))
            label_file = pair.thermal.parent.parent / boxes / f"{pair.name}.txt"
            truth.append(Truth(*read_yolo_boxes(label_file, thermal.shape[1], thermal.shape[0], len(model.labels))))
            done()
        precision = average_precision(found, truth, model.labels)
        rows[method] = {
            "mAP50": precision.at_50,
            "mAP50-95": precision.at_50_95,
            **{f"AP50 {label}": value for label, value in precision.by_class.items()},
        }
    return rows
