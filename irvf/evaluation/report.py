"""Writes what was measured: Markdown to read, CSV to go on with."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from irvf.evaluation.bootstrap import Statistic
from irvf.evaluation.comparison import SetResult
from irvf.evaluation.figures import GROUPS, Figure, mean_ranks
from irvf.evaluation.fusion_quality import METRICS, RANKED
from irvf.evaluation.mask_quality import mean_iou
from irvf.evaluation.rows import BASELINE

TASK_DEFINITIONS = {
    "mAP50-95": "COCO average precision, mean over IoU 0.5, 0.55 .. 0.95 and over the classes with objects",
    "mAP50, mAP75": "the same at one IoU",
    "mIoU": "intersection over union over all pixels of the set, mean over the classes that occur, background counted",
    "mF": "F-measure, beta^2 = 0.3, mean over the thresholds 0..255, then over the images with something salient",
    "MAE": "mean absolute error of the saliency map, 0..1",
    "Em": "E-measure of Fan et al. 2018, mean over the thresholds 0..255, then over the images",
}
_LEADING = {"detection": ("mAP50-95", "mAP50", "mAP75"), "segmentation": ("mIoU",), "saliency": ("mF", "MAE", "Em")}
"""Metrics that are shown with interval and difference; those of single classes follow as they are."""


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that one run measured.

    Attributes:
        results: of each set.
        figures: of each set, in the same order.
        networks: task -> model that looked at the images.
        resamples: number of bootstrap resamples.
        seed: of the resamples.
        scale: that the fusions ran at.
    """

    results: Sequence[SetResult]
    figures: Sequence[Sequence[Figure]]
    networks: dict[str, str]
    resamples: int
    seed: int
    scale: float = 1.0

    def as_text(self) -> str:
        """Return the report as Markdown."""
        introduction = (
            f"Fused at scale {self.scale:g}. Intervals: 95 %, percentile bootstrap over the images, {self.resamples} "
            f"resamples, seed {self.seed}. "
            f"Differences are to `{BASELINE}`, paired by image; **bold** where the interval does not cross zero. "
            "An arrow says whether a larger or a smaller figure is better. Frames that follow each other look alike, "
            "so the intervals are rather too narrow. A figure is fair only on pairs that no training saw: see --from."
        )
        lines = ["# Evaluation", "", introduction, *self._ranking()]
        for result, figures in zip(self.results, self.figures, strict=True):
            lines += ["", f"## {result.dataset}: {_pairs(result)}"]
            for group in GROUPS:
                chosen = [figure for figure in figures if figure.group == group]
                if chosen:
                    lines += ["", *(self._fusion(chosen) if group == "fusion" else self._task(group, chosen, result))]
        return "\n".join([*lines, "", *_definitions()])

    def _ranking(self) -> list[str]:
        """Mean ranks of all sets side by side."""
        by_set = [mean_ranks(figures) for figures in self.figures]
        if not by_set[0]:
            return []
        fused = [mean_ranks(figures, sources=False) for figures in self.figures]
        columns = [*(f"{result.dataset} ↓" for result in self.results), "mean ↓", "fusions only, mean ↓"]
        explained = (
            f"Over {', '.join(RANKED)}, of all rows; the last column leaves out those that show one camera only, and "
            "ranks the others among themselves. **Bold** is the best of a column."
        )
        table = {}
        for row in by_set[0]:
            ranks = [entries[row].value for entries in by_set]
            among_fusions = [entries[row].value for entries in fused if row in entries]
            table[row] = [*ranks, fmean(ranks), fmean(among_fusions) if among_fusions else math.inf]
        best = np.min(list(table.values()), axis=0)
        lines = ["", "## Mean ranks", "", explained, "", *_header("row", columns)]
        for row, values in table.items():
            cells = [f"{value:.2f}" if np.isfinite(value) else "" for value in values]
            lines.append(
                _line(row, [_bold(c, when=v == b and bool(c)) for c, v, b in zip(cells, values, best, strict=True)])
            )
        return lines

    def _fusion(self, figures: Sequence[Figure]) -> list[str]:
        ranks = mean_ranks(figures)
        metrics = list(METRICS)
        table = _by_row(figures)
        best = {name: _best([row[name] for row in table.values()]) for name in metrics}
        first = min(statistic.value for statistic in ranks.values())
        lines = ["### Fusion quality", "", f"Mean rank over {', '.join(RANKED)}; **bold** is the best of a column.", ""]
        lines += _header(
            "row", ["mean rank ↓", *(f"{name} {_arrow(METRICS[name].larger_is_better)}" for name in metrics)]
        )
        for row, entries in table.items():
            cells = [_bold(f"{ranks[row].value:.2f}", when=ranks[row].value == first)]
            cells += [_bold(_number(entries[m].statistic.value), when=entries[m] in best[m]) for m in metrics]
            lines.append(_line(row, cells))
        lines += ["", "Their intervals:", "", *_header("row", ["mean rank", *metrics])]
        for row, entries in table.items():
            lines.append(_line(row, [_span(ranks[row]), *(_span(entries[m].statistic) for m in metrics)]))
        return lines

    def _task(self, group: str, figures: Sequence[Figure], result: SetResult) -> list[str]:
        table = _by_row(figures)
        metrics = list(dict.fromkeys(figure.metric for figure in figures))
        leading = _LEADING[group]
        others = [metric for metric in metrics if metric not in leading]
        network = self.networks.get(group, "")
        lines = [f"### {group.capitalize()}", "", f"Model `{network}`, against {result.truth.describe(group)}.", ""]
        compared = any(figure.difference for figure in figures)
        columns = []
        for metric in leading:
            columns.append(f"{metric} {_arrow(next(f for f in figures if f.metric == metric).larger_is_better)}")
            columns += ["difference"] if compared else []
        lines += _header("row", [*columns, *others])
        for row, entries in table.items():
            cells = []
            for metric in leading:
                cells.append(f"{_number(entries[metric].statistic.value)} {_span(entries[metric].statistic)}")
                cells += [_difference(entries[metric].difference)] if compared else []
            cells += [_number(entries[metric].statistic.value) for metric in others]
            lines.append(_line(row, cells))
        return lines

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.md``, ``results.csv`` (each image and row) and ``means.csv`` (each figure); return them."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in ("report.md", "results.csv", "means.csv")]
        files[0].write_text(self.as_text() + "\n", "utf-8")
        sets = list(zip(self.results, self.figures, strict=True))
        _write_csv(files[1], [line for result, _ in sets for line in _images(result)])
        _write_csv(files[2], [_mean(figure, len(result.pairs)) for result, figures in sets for figure in figures])
        return files


def _images(result: SetResult) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for name, row in result.rows.items():
        for index, pair in enumerate(result.pairs):
            line: dict[str, object] = {"set": result.dataset, "pair": pair, "row": name}
            for measured in (row.fusion, row.saliency):
                line |= measured[index] if measured else {}
            if row.confusions:
                line["mIoU"] = mean_iou(row.confusions[index])
            if row.detections:
                line["objects"] = len(result.objects[index].labels)
            lines.append(line)
    return lines


def _mean(figure: Figure, images: int) -> dict[str, object]:
    line: dict[str, object] = {"set": figure.dataset, "row": figure.row, "group": figure.group, "metric": figure.metric}
    line |= {"better": "larger" if figure.larger_is_better else "smaller", "images": images}
    for name, statistic in (("value", figure.statistic), ("difference", figure.difference)):
        if statistic is not None:
            low, high = statistic.interval
            line |= {name: statistic.value, f"{name}_low": low, f"{name}_high": high}
    return line


def _write_csv(path: Path, lines: Sequence[dict[str, object]]) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        for line in lines:
            writer.writerow({name: _cell(value) for name, value in line.items()})


def _cell(value: object) -> object:
    """Six digits; nothing where a figure is not defined."""
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if np.isfinite(value) else ""


def _by_row(figures: Sequence[Figure]) -> dict[str, dict[str, Figure]]:
    table: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        table.setdefault(figure.row, {})[figure.metric] = figure
    return table


def _best(figures: Sequence[Figure]) -> list[Figure]:
    values = [figure.statistic.value for figure in figures]
    best = max(values) if figures[0].larger_is_better else min(values)
    return [figure for figure in figures if figure.statistic.value == best]


def _pairs(result: SetResult) -> str:
    count = len(result.pairs)
    return f"{count} pair{'s' * (count > 1)}, `{result.pairs[0]}` to `{result.pairs[-1]}`"


def _header(first: str, columns: Sequence[str]) -> list[str]:
    return [_line(first, columns), "|---" * (len(columns) + 1) + "|"]


def _line(row: str, cells: Sequence[str]) -> str:
    return f"| {row.replace('|', ' ')} | {' | '.join(cells)} |"


def _arrow(larger_is_better: bool) -> str:  # noqa: FBT001  (a word of its own)
    return "↑" if larger_is_better else "↓"


def _bold(text: str, *, when: bool) -> str:
    return f"**{text}**" if when else text


def _number(value: float) -> str:
    return "-" if not np.isfinite(value) else f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def _span(statistic: Statistic) -> str:
    low, high = statistic.interval
    return f"[{_number(low)}, {_number(high)}]"


def _difference(statistic: Statistic | None) -> str:
    if statistic is None:
        return ""
    low, high = statistic.interval
    value = "-" if not np.isfinite(statistic.value) else f"{statistic.value:+.3f}"
    return f"{_bold(value, when=low > 0 or high < 0)} {_span(statistic)}"


def _definitions() -> list[str]:
    lines = ["## Definitions", "", "Fusion metrics on 8-bit luma (BT.601), A = thermal, B = luma of the RGB image:", ""]
    lines += [f"- {name}: {metric.definition}" for name, metric in METRICS.items()]
    lines += ["", "Tasks:", "", *(f"- {name}: {text}" for name, text in TASK_DEFINITIONS.items())]
    return lines
