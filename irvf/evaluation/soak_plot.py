"""The course of a long run as a picture: memory, files and threads, processor, latency, and the fate of the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from irvf.evaluation.soak import LEAST_GROWTH_MB, Pairs, Sample, Span, slope

mpl.use("Agg")

_WINDOWS = 180
_LEAST_WINDOW = 5.0
_DROPS = {"superseded": "tab:orange", "refused": "tab:red", "not paired": "tab:purple", "unanswered": "tab:gray"}


def plot_soak(samples: Sequence[Sample], pairs: Pairs | None, span: Span, title: str, path: Path) -> Path:
    """Plot a run over its minutes; the warm-up, which is not judged, is grey.

    Args:
        samples: of the node's process.
        pairs: that were played; None where nothing is known of them.
        span: that is judged.
        title: verdict, date, machine and the like.
        path: of the PNG file.
    """
    canvas = Canvas(figsize=(11, 14), layout="constrained")
    panels = canvas.subplots(6, 1, sharex=True)
    begin = samples[0].time
    minutes = np.array([sample.time - begin for sample in samples]) / 60
    for draw, axes in zip((_memory, _growth, _numbers, _processor), panels, strict=False):
        draw(axes, samples, minutes, span)
    if pairs is not None and pairs.sent.size:
        _latency(panels[4], pairs, begin)
        _rates(panels[5], pairs, begin)
    panels[5].set_xlabel("minutes")
    for axes in panels:
        axes.axvspan(0, (span.start - begin) / 60, color="0.93", zorder=0)
        axes.grid(visible=True, alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    canvas.suptitle(title, fontsize=9)
    canvas.savefig(path, dpi=110)
    return path


def _memory(axes: Axes, samples: Sequence[Sample], minutes: NDArray[np.float64], _span: Span) -> None:
    series = {
        "resident": [sample.load.resident for sample in samples],
        "private": [sample.private for sample in samples],
        "shared": [sample.shared for sample in samples],
    }
    for name, values in series.items():
        axes.plot(minutes, np.array(values) * 1e-6, linewidth=1, label=name)
    axes.set_ylabel("memory, MB")
    axes.set_ylim(bottom=0)


def _growth(axes: Axes, samples: Sequence[Sample], minutes: NDArray[np.float64], span: Span) -> None:
    """Plot the same from the middle of what is judged, where a slow leak can be seen, with the slopes."""
    times = np.array([sample.time for sample in samples])
    judged = (times >= span.start) & (times < span.end)
    if judged.sum() < 2:
        return
    series = {"private": [sample.private for sample in samples], "shared": [sample.shared for sample in samples]}
    widest = LEAST_GROWTH_MB
    for number, (name, values) in enumerate(series.items(), start=1):
        change = np.array(values) * 1e-6
        change -= np.median(change[judged])
        widest = max(widest, 1.5 * float(np.abs(change[judged]).max()))
        rise = slope(times[judged], change[judged])
        axes.plot(minutes, change, color=f"C{number}", linewidth=1, label=name)
        line = rise * (times[judged] - np.median(times[judged]))
        axes.plot(minutes[judged], line, "--", color=f"C{number}", label=f"{rise * 3600:+.1f} MB/h")
    axes.set_ylim(-widest, widest)
    axes.set_ylabel("change, MB")


def _numbers(axes: Axes, samples: Sequence[Sample], minutes: NDArray[np.float64], _span: Span) -> None:
    axes.step(minutes, [sample.files for sample in samples], where="post", linewidth=1, label="open files")
    axes.step(minutes, [sample.threads for sample in samples], where="post", linewidth=1, label="threads")
    axes.set_ylabel("number")
    axes.set_ylim(0, 1.1 * max(max(sample.files, sample.threads) for sample in samples))


def _processor(axes: Axes, samples: Sequence[Sample], minutes: NDArray[np.float64], _span: Span) -> None:
    times = np.array([sample.time for sample in samples])
    spent = np.array([sample.load.process_s for sample in samples])
    busy = np.array([sample.load.busy_s for sample in samples])
    total = np.array([sample.load.total_s for sample in samples])
    stride = max(1, len(samples) // _WINDOWS)
    passed = np.maximum(np.diff(times[::stride]), 1e-9)
    at = minutes[::stride][1:]
    axes.plot(at, 100 * np.diff(spent[::stride]) / passed, linewidth=1, label="node, of one core")
    share = 100 * np.diff(busy[::stride]) / np.maximum(np.diff(total[::stride]), 1e-9)
    axes.plot(at, share, linewidth=1, label="machine, of all")
    axes.set_ylabel("processor, %")
    axes.set_ylim(bottom=0)


def windows(pairs: Pairs) -> list[tuple[float, Pairs]]:
    """Cut a run into windows of five seconds and more; return the middle of each (monotonic seconds) with its pairs."""
    first, last = float(pairs.sent[0]), float(pairs.sent[-1])
    count = max(1, min(_WINDOWS, int((last - first) / _LEAST_WINDOW)))
    edges = np.linspace(first, last, count + 1)
    edges[-1] += 1e-6
    return [(float(start + end) / 2, pairs.between(start, end)) for start, end in pairwise(edges)]


def _latency(axes: Axes, pairs: Pairs, begin: float) -> None:
    cut = windows(pairs)
    at = [(middle - begin) / 60 for middle, _ in cut]
    for percent, name, style in ((50, "p50", "-"), (95, "p95", "-"), (100, "max", ":")):
        axes.plot(at, [part.percentile(percent) for _, part in cut], style, linewidth=1, label=name)
    axes.set(ylabel="latency, ms", yscale="log")


def _rates(axes: Axes, pairs: Pairs, begin: float) -> None:
    cut = windows(pairs)
    at = [(middle - begin) / 60 for middle, _ in cut]
    width = (float(pairs.sent[-1]) - float(pairs.sent[0])) / len(cut)
    counted: dict[str, list[Any]] = {name: [_dropped(part, name) / width for _, part in cut] for name in _DROPS}
    axes.plot(at, [part.sent.size / width for _, part in cut], "--", color="0.6", linewidth=1, label="sent")
    answered = [np.count_nonzero(~np.isnan(part.latency_ms)) / width for _, part in cut]
    axes.plot(at, answered, color="tab:green", linewidth=1, label="answered")
    for name, color in _DROPS.items():
        if any(counted[name]):
            axes.plot(at, counted[name], color=color, linewidth=1, label=name)
    axes.set_ylabel("pairs a second")
    axes.set_ylim(bottom=-0.5)


def _dropped(part: Pairs, name: str) -> int:
    """Count the pairs of one outcome; ``unanswered`` are those that the node fused and whose answers got lost."""
    if name != "unanswered":
        return part.outcomes.count(name)
    missing = np.isnan(part.latency_ms)
    return sum(outcome == "fused" for outcome, lost in zip(part.outcomes, missing, strict=True) if lost)
