"""Figures of a set with their intervals: means, ranks, and paired differences to the bare base network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irvf.evaluation.average_precision import precision_statistics
from irvf.evaluation.bootstrap import Draws, Floats, Statistic, mean_statistic
from irvf.evaluation.comparison import RowResult, SetResult
from irvf.evaluation.fusion_quality import METRICS, RANKED
from irvf.evaluation.mask_quality import iou_statistics
from irvf.evaluation.rows import BASELINE, SOURCES

SMALLER_IS_BETTER = {"MAE", *(name for name, metric in METRICS.items() if not metric.larger_is_better)}
GROUPS = ("fusion", "detection", "segmentation", "saliency")


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure of one row on one set.

    Attributes:
        dataset: name of the set.
        row: name of the row.
        group: of :data:`GROUPS`.
        metric: its name.
        statistic: its value and resamples.
        difference: to :data:`irvf.evaluation.rows.BASELINE`, paired; None where that row is missing or is this one, and
            for fusion metrics.
    """

    dataset: str
    row: str
    group: str
    metric: str
    statistic: Statistic
    difference: Statistic | None = None

    @property
    def larger_is_better(self) -> bool:
        """Or smaller."""
        return self.metric not in SMALLER_IS_BETTER


def set_figures(result: SetResult, draws: Draws) -> list[Figure]:
    """Return all figures of a set, row by row.

    Args:
        result: what was measured.
        draws: ``[R x N]``, the same for all rows.
    """
    by_row = {name: _row_statistics(result, name, row, draws) for name, row in result.rows.items()}
    base = by_row.get(BASELINE, {})
    figures = []
    for name, statistics in by_row.items():
        for (group, metric), statistic in statistics.items():
            reference = base.get((group, metric)) if name != BASELINE and group != "fusion" else None
            difference = statistic.minus(reference) if reference else None
            figures.append(Figure(result.dataset, name, group, metric, statistic, difference))
    return figures


def _row_statistics(result: SetResult, name: str, row: RowResult, draws: Draws) -> dict[tuple[str, str], Statistic]:
    statistics: dict[tuple[str, str], Statistic] = {}
    for group, images in (("fusion", row.fusion), ("saliency", row.saliency)):
        for metric in images[0] if images else ():
            values = np.array([image[metric] for image in images], np.float64)
            statistics[group, metric] = mean_statistic(values, draws)
    matches = result.matches(name)
    if matches is not None:
        for metric, statistic in precision_statistics(matches, draws).items():
            statistics["detection", metric] = statistic
    if row.confusions:
        mean, by_class = iou_statistics(np.stack(row.confusions), draws)
        statistics["segmentation", "mIoU"] = mean
        for label, statistic in zip(("background", *result.labels), by_class, strict=True):
            if np.isfinite(statistic.value):
                statistics["segmentation", f"IoU {label}"] = statistic
    return statistics


def mean_ranks(figures: Sequence[Figure], *, sources: bool = True) -> dict[str, Statistic]:
    """Rank the rows by the mean of each of :data:`irvf.evaluation.fusion_quality.RANKED`; 1 is best, equals share.

    Args:
        figures: of one set.
        sources: rank the images of one camera, too. They need to fuse nothing, and metrics that ask how much of a
            source is kept (MI, VIF, Q_AB/F) count that they keep one in full.

    Returns:
        Row -> mean of its ranks; empty without fusion metrics.
    """
    rows = list(dict.fromkeys(figure.row for figure in figures if sources or figure.row not in SOURCES))
    ranks = []
    for metric in RANKED:
        of_metric = {figure.row: figure for figure in figures if figure.group == "fusion" and figure.metric == metric}
        if not (of_metric and rows):
            return {}
        sign = 1 if next(iter(of_metric.values())).larger_is_better else -1
        columns = [[of_metric[row].statistic.value, *of_metric[row].statistic.resampled] for row in rows]
        ranks.append(_ranks(sign * np.array(columns, np.float64).T))
    means = np.mean(ranks, axis=0)
    return {row: Statistic(float(means[0, k]), means[1:, k]) for k, row in enumerate(rows)}


def _ranks(scores: Floats) -> Floats:
    """Rank along the last axis, the largest first, equal ones sharing the mean of their places; ``[R x rows]``."""
    mine, others = scores[:, :, None], scores[:, None, :]
    better, equal = (others > mine).sum(-1), (others == mine).sum(-1)
    return np.asarray(1 + better + (equal - 1) / 2, np.float64)
