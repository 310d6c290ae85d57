"""What is compared: the rows, each a fusion under an instruction, and the task networks that look at their images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irvf.engines.engine import Engine
from irvf.engines.factory import EngineOptions, create_engine
from irvf.frames import Image8
from irvf.image_fusion import ImageFusion, image_fusion, image_fusions
from irvf.imaging.classical_fusion import FUSION_METHODS
from irvf.models import ModelError, Network, load_model
from irvf.perception.detection import Detector
from irvf.perception.detector_files import load_detector
from irvf.perception.saliency import SaliencyDetector
from irvf.perception.segmentation import Segmenter
from irvf.training.scenes import Annotation

BASELINE = "irvf-base"
"""The row that task figures are compared with: the base network that takes no instruction."""
LEAST_SCORE = 0.01
"""Detections from this score on count for the precision at high recall."""


def show_thermal(thermal: Image8, rgb: Image8) -> Image8:  # noqa: ARG001  (every fusion takes both)
    """Return the thermal image alone, as a grey picture ``[H x W x 3]``."""
    return np.repeat(thermal[..., None], 3, axis=2)


def show_rgb(thermal: Image8, rgb: Image8) -> Image8:  # noqa: ARG001
    """Return the RGB image alone."""
    return rgb


SOURCES: dict[str, ImageFusion] = {"thermal": show_thermal, "rgb": show_rgb}
METHODS = (*SOURCES, "average", "max", "laplacian", BASELINE, "irvf", "realtime")
INSTRUCTIONS = ("viewing", "detection", "segmentation", "saliency")


@dataclass(frozen=True, eq=False)
class Row:
    """A fusion, under an instruction where it takes one.

    Attributes:
        name: in the report.
        fuse: makes its images.
    """

    name: str
    fuse: ImageFusion


def make_rows(methods: Sequence[str], instructions: Sequence[str], threads: int = 0, scale: float = 1.0) -> list[Row]:
    """Load the fusions.

    Args:
        methods: ``thermal``, ``rgb``, plain methods of :data:`FUSION_METHODS`, and fusion models.
        instructions: a model that takes a prompt makes a row under each of them.
        threads: of the engines; 0 takes all cores.
        scale: that all but the sources are fused at, relative to the images, above 0 and at most 1.

    Raises:
        ModelError: models that are missing or malformed; all of them in one message.
        ValueError: an instruction that is not understood, or a scale out of range.
    """
    methods, instructions = list(dict.fromkeys(methods)), list(dict.fromkeys(instructions))
    models, faults = {}, []
    for method in methods:
        if method not in SOURCES and method not in FUSION_METHODS:
            try:
                models[method] = load_model(method, "fusion")
            except ModelError as error:
                faults.append(str(error))
    if faults:
        plain = ", ".join((*SOURCES, *FUSION_METHODS))
        raise ModelError(f"{'; '.join(faults)}. Methods that need no model: {plain}")
    rows = []
    for method in methods:
        if method in SOURCES:
            rows.append(Row(method, SOURCES[method]))
        elif method in models and models[method].weights is not None:
            fusions = image_fusions(method, instructions, threads, scale)
            rows += [Row(f"{method}: {text}", fuse) for text, fuse in fusions.items()]
        else:
            rows.append(Row(method, image_fusion(method, threads, scale=scale)))
    return rows


@dataclass(frozen=True, eq=False)
class TaskNetworks:
    """What looks at the fused images; None where a task is not measured.

    Attributes:
        detector: with all its detections from :data:`LEAST_SCORE` on.
        segmenter: finds a class for every pixel.
        saliency: finds what stands out.
        labels: names of the classes that the boxes are labelled with.
        names: task -> its model.
    """

    detector: Detector | None
    segmenter: Segmenter | None
    saliency: SaliencyDetector | None
    labels: tuple[str, ...]
    names: dict[str, str]


def load_networks(names: dict[str, str], tasks: Collection[str], threads: int = 0) -> TaskNetworks:
    """Load the networks of the tasks.

    Args:
        names: task -> model folder; the detector as :func:`irvf.perception.detector_files.load_detector` takes it.
        tasks: of :data:`irvf.evaluation.truth.TASKS`.
        threads: of the engines; 0 takes all cores.

    Raises:
        ModelError: models that are missing or malformed; all of them in one message.
        ValueError: detector and segmentation do not know the same classes.
    """
    detector = segmenter = saliency = None
    labels: dict[str, tuple[str, ...]] = {}
    faults = []

    def load(network: Network | Path) -> Engine:
        return create_engine("auto", network, threads, EngineOptions("fp32"))

    for task in tasks:
        try:
            if task == "detection":
                detector = load_detector(names[task], load)
                detector.score_threshold = LEAST_SCORE
                labels[task] = detector.labels
            elif task == "segmentation":
                model = load_model(names[task], "segmentation")
                segmenter = Segmenter(load(model.network), model.labels, model.input_size)
                labels[task] = model.labels[1:]  # the first is the background
            else:
                model = load_model(names[task], "saliency")
                saliency = SaliencyDetector(load(model.network), model.input_size)
        except ModelError as error:  # noqa: PERF203  (three at most)
            faults.append(f"for {task}: {error}")
    if faults:
        raise ModelError(f"{'; '.join(faults)}. --what leaves tasks out")
    if len(set(labels.values())) > 1:
        known = "; ".join(f"{names[task]}: {', '.join(entries)}" for task, entries in labels.items())
        raise ValueError(f"detector and segmentation must know the same classes in the same order ({known})")
    classes = next(iter(labels.values()), Annotation().labels)
    return TaskNetworks(detector, segmenter, saliency, classes, {task: Path(names[task]).name for task in tasks})
