"""Runs rows over the pairs of a set: each pair is fused once by each row, and everything is measured on that image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from irvf.evaluation.average_precision import Matches, Truth, match_detections
from irvf.evaluation.fusion_quality import measure_fusion
from irvf.evaluation.mask_quality import Counts, confusion, saliency_quality
from irvf.evaluation.rows import Row, TaskNetworks
from irvf.evaluation.truth import PairTruth, SetTruth, load_truth
from irvf.frames import Detection, Image8
from irvf.training.data import PairFiles

SAMPLES = 4
"""Pairs whose images are kept to be looked at."""
_SAMPLE_WIDTH = 400


@dataclass(eq=False)
class RowResult:
    """Figures of one row on each image of a set, in the order of the pairs; empty where not measured.

    Attributes:
        fusion: a mapping of fusion metrics for each image.
        saliency: the same with ``mF``, ``MAE`` and ``Em``.
        confusions: ``[K x K]`` for each image, see :func:`irvf.evaluation.mask_quality.confusion`.
        detections: of each image.
        samples: fused images of the pairs that are shown, scaled down.
    """

    fusion: list[dict[str, float]] = field(default_factory=list)
    saliency: list[dict[str, float]] = field(default_factory=list)
    confusions: list[Counts] = field(default_factory=list)
    detections: list[tuple[Detection, ...]] = field(default_factory=list)
    samples: list[Image8] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class SetResult:
    """What was measured on a set.

    Attributes:
        dataset: name of the set.
        pairs: names of the pairs.
        truth: what its tasks were compared with.
        objects: labelled objects of each image; empty without boxes.
        labels: names of the classes.
        rows: by name, in the order of the report.
        sample_pairs: names of the pairs that are shown.
    """

    dataset: str
    pairs: tuple[str, ...]
    truth: SetTruth
    objects: list[Truth]
    labels: tuple[str, ...]
    rows: dict[str, RowResult]
    sample_pairs: tuple[str, ...]

    def matches(self, row: str) -> Matches | None:
        """Return the detections of a row matched with the objects; None where there are none to find."""
        detections = self.rows[row].detections
        if not detections or not any(len(image.labels) for image in self.objects):
            return None
        return match_detections(detections, self.objects, self.labels)


def spread(count: int, wanted: int) -> list[int]:
    """Choose at most ``wanted`` of ``count`` indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist() if count else []


def compare_rows(
    pairs: Sequence[PairFiles],
    rows: Sequence[Row],
    networks: TaskNetworks,
    truth: SetTruth,
    *,
    fusion: bool,
    done: Callable[[], object],
) -> SetResult:
    """Measure rows on the pairs of one set; one pair is in memory at a time.

    Args:
        pairs: of one set.
        rows: to compare.
        networks: of the tasks that are measured.
        truth: of the set.
        fusion: measure the fusion metrics.
        done: called after each image.

    Raises:
        ValueError: an image or a label cannot be used.
    """
    results = {row.name: RowResult() for row in rows}
    tasks = [task for task in networks.names if task in truth.tasks]
    shown = spread(len(pairs), SAMPLES)
    objects: list[Truth] = []
    for index, pair in enumerate(pairs):
        thermal, rgb = pair.load()
        known = load_truth(pair, thermal, truth, tasks)
        if known.objects:
            objects.append(known.objects)
        luma = _luma(rgb)
        for row in rows:
            fused, result = row.fuse(thermal, rgb), results[row.name]
            if fusion:
                result.fusion.append(measure_fusion(_luma(fused), thermal, luma))
            _measure_tasks(fused, known, networks, tasks, result)
            if index in shown:
                result.samples.append(_small(fused))
            done()
    names = tuple(pair.name for pair in pairs)
    sample_pairs = tuple(names[index] for index in shown)
    return SetResult(pairs[0].dataset, names, truth, objects, networks.labels, results, sample_pairs)


def _measure_tasks(
    fused: Image8, known: PairTruth, networks: TaskNetworks, tasks: Collection[str], result: RowResult
) -> None:
    if networks.detector and "detection" in tasks:
        result.detections.append(networks.detector.detect(fused))
    if networks.segmenter and known.semantic is not None:
        found = networks.segmenter.segment(fused)
        result.confusions.append(confusion(found, known.semantic, len(networks.labels) + 1))
    if networks.saliency and known.saliency is not None:
        quality = saliency_quality(networks.saliency.detect(fused), known.saliency)
        result.saliency.append({"mF": quality.mean_f, "MAE": quality.mae, "Em": quality.mean_e})


def _luma(rgb: Image8) -> Image8:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _small(rgb: Image8) -> Image8:
    scale = min(1.0, _SAMPLE_WIDTH / rgb.shape[1])
    return np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
