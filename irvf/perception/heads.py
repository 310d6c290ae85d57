"""The heads: the networks that look at the fused image, those of them that are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irvf.instruction.tasks import Task
from irvf.models import load_model
from irvf.perception.detection import Detector
from irvf.perception.detector_files import LoadNetwork, load_detector
from irvf.perception.saliency import SaliencyDetector
from irvf.perception.segmentation import Segmenter


@dataclass(frozen=True)
class Heads:
    """The heads by the names that tasks have for them; None for one without a model.

    Attributes:
        detection: finds objects.
        segmentation: finds a class for every pixel.
        saliency: finds what stands out.
    """

    detection: Detector | None = None
    segmentation: Segmenter | None = None
    saliency: SaliencyDetector | None = None

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Map detection and segmentation, where they are loaded, to the classes that they know, without background."""
        known = {"detection": self.detection.labels} if self.detection else {}
        return {**known, "segmentation": self.segmentation.labels[1:]} if self.segmentation else known

    def missing(self, task: Task) -> tuple[str, ...]:
        """Name the heads that a task wants and no model is loaded for."""
        return tuple(head for head in task.heads if getattr(self, head) is None)

    def unknown_classes(self, task: Task, classes: tuple[str, ...]) -> str:
        """Say which of the classes a head of the task does not know, and what it knows; empty when it knows all."""
        for name, head in (("detection", self.detection), ("segmentation", self.segmentation)):
            if head is not None and name in task.heads:
                unknown = [label for label in classes if label not in head.labels]
                if unknown:
                    return f"the {name} model does not know {', '.join(unknown)}; it knows {', '.join(head.labels)}"
        return ""

    def warm_up(self, image_size: tuple[int, int]) -> None:
        """Run every network once, on an image of a height and width.

        Raises:
            EngineError: a network cannot run, or its output is not what it should be.
        """
        image = np.zeros((*image_size, 3), np.uint8)
        if self.detection:
            self.detection.detect(image)
        if self.segmentation:
            self.segmentation.segment(image)
        if self.saliency:
            self.saliency.detect(image)


def load_heads(
    detector: str, segmentation: str, saliency: str, load_network: LoadNetwork, *, allow_pickle: bool = False
) -> Heads:
    """Load the heads.

    Args:
        detector: as :func:`irvf.perception.detector_files.load_detector` takes it; empty for none.
        segmentation: model folder; empty for none.
        saliency: likewise.
        load_network: makes an engine of a network.
        allow_pickle: whether the detector may be a pickle.

    Raises:
        ModelError: a model folder or file is missing or malformed.
        EngineError: a network cannot be loaded.
        ValueError: a network has other inputs or outputs than such a head.
    """
    heads = Heads()
    if detector:
        heads = replace(heads, detection=load_detector(detector, load_network, allow_pickle=allow_pickle))
    if segmentation:
        model = load_model(segmentation, "segmentation")
        heads = replace(heads, segmentation=Segmenter(load_network(model.network), model.labels, model.input_size))
    if saliency:
        model = load_model(saliency, "saliency")
        heads = replace(heads, saliency=SaliencyDetector(load_network(model.network), model.input_size))
    return heads
