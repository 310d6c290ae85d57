"""Plots of what was measured, as PNG files: violins, precision-recall curves, a contact sheet of the images."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from irvf.evaluation.average_precision import RECALL_LEVELS
from irvf.evaluation.comparison import SetResult
from irvf.evaluation.fusion_quality import METRICS
from irvf.imaging.drawing import contact_sheet

mpl.use("Agg")

_COLUMNS = 4


def write_plots(result: SetResult, folder: Path) -> list[Path]:
    """Write the plots of a set, those that something was measured for.

    Args:
        result: of the set.
        folder: exists.

    Returns:
        The files: ``violins_SET.png``, ``precision_recall_SET.png`` and ``contact_sheet_SET.png``.
    """
    files = []
    rows = list(result.rows.values())
    if rows[0].fusion:
        files.append(_violins(result, folder / f"violins_{result.dataset}.png"))
    if rows[0].detections and any(len(image.labels) for image in result.objects):
        files.append(_precision_recall(result, folder / f"precision_recall_{result.dataset}.png"))
    files.append(_contact_sheet(result, folder / f"contact_sheet_{result.dataset}.png"))
    return files


def _panels(count: int, width: float, height: float) -> tuple[Canvas, list[Axes]]:
    columns = min(_COLUMNS, count)
    lines = math.ceil(count / columns)
    canvas = Canvas(figsize=(width * columns, height * lines), layout="constrained")
    return canvas, [canvas.add_subplot(lines, columns, index + 1) for index in range(count)]


def _violins(result: SetResult, path: Path) -> Path:
    canvas, panels = _panels(len(METRICS), 4.2, 0.9 + 0.28 * len(result.rows))
    for axes, (name, metric) in zip(panels, METRICS.items(), strict=True):
        values = [[image[name] for image in row.fusion] for row in result.rows.values()]
        places = np.arange(len(values), 0, -1)
        axes.violinplot(values, places, orientation="horizontal", showmedians=True, widths=0.9)
        axes.plot([np.mean(entries) for entries in values], places, "|", color="tab:red", markersize=8)
        axes.set_yticks(places, list(result.rows), fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(f"{name} ({'larger' if metric.larger_is_better else 'smaller'} is better)", fontsize=9)
    canvas.suptitle(
        f"{result.dataset}, {len(result.pairs)} pairs: median and extremes in blue, mean in red", fontsize=10
    )
    canvas.savefig(path, dpi=110)
    return path


def _precision_recall(result: SetResult, path: Path) -> Path:
    curves = {}
    for name in result.rows:
        matches = result.matches(name)
        if matches is not None:
            curves[name] = matches.precision(matches.everything())[:, 0]  # at an IoU of 0.5
    present = [k for k in range(len(result.labels)) if all(np.isfinite(curve[k]).all() for curve in curves.values())]
    canvas, panels = _panels(len(present) + 1, 4.6, 4.2)
    colors = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]  # a ListedColormap, which has them
    for axes, classes in zip(panels, [present, *([k] for k in present)], strict=True):
        for index, (name, curve) in enumerate(curves.items()):
            mean = curve[classes].mean(axis=0)
            axes.plot(RECALL_LEVELS, mean, color=colors[index % len(colors)], label=f"{name} {mean.mean():.3f}")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.set_title("mean of the classes" if classes is present else result.labels[classes[0]], fontsize=9)
        axes.legend(fontsize=6, title="average precision", title_fontsize=6)
    canvas.suptitle(f"{result.dataset}, {len(result.pairs)} pairs, IoU 0.5", fontsize=10)
    canvas.savefig(path, dpi=110)
    return path


def _contact_sheet(result: SetResult, path: Path) -> Path:
    rows = [row.samples for row in result.rows.values()]
    sheet = contact_sheet(rows, result.sample_pairs, list(result.rows))
    _, encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    path.write_bytes(encoded.tobytes())
    return path
