"""Plots of how long things take: time over pixels, and the node's rate, latency and drops over the rate of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from irvf.evaluation.node_timing import MAX_DROPPED

mpl.use("Agg")

_MARKERS = "os^vD*"


def plot_bench(lines: Sequence[dict[str, Any]], title: str, path: Path) -> Path:
    """Plot the least time of fusion over the pixels of a pair, both logarithmic, a panel for each number of threads.

    Args:
        lines: measurements of ``irvf bench``.
        title: date, machine and the like.
        path: of the PNG file.
    """
    threads = list(dict.fromkeys(line["threads"] for line in lines))
    names = list(dict.fromkeys(line["fusion"] for line in lines))
    canvas = Canvas(figsize=(5.4 * len(threads), 4.6), layout="constrained")
    panels = canvas.subplots(1, len(threads), sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, threads, strict=True):
        for number, name in enumerate(names):
            chosen = [line for line in lines if line["threads"] == count and line["fusion"] == name]
            chosen.sort(key=lambda line: int(line["width"]) * int(line["height"]))
            pixels = [line["width"] * line["height"] for line in chosen]
            for key, style in (("least_ms", "-"), ("p95_ms", ":")):
                axes.plot(
                    pixels,
                    [line["stages"]["fuse"][key] for line in chosen],
                    style,
                    marker=_MARKERS[number % len(_MARKERS)] if style == "-" else None,
                    markersize=4,
                    color=f"C{number % 10}",
                    label=name if style == "-" else None,
                )
        axes.set(xscale="log", yscale="log", xlabel="pixels of the RGB image", ylabel="fusion, ms")
        axes.set_title(f"{count} {'thread' if count == 1 else 'threads'}", fontsize=10)
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(fontsize=7)
    canvas.suptitle(f"{title}\nleast time (line) and 95th percentile (dots)", fontsize=8)
    canvas.savefig(path, dpi=110)
    return path


def plot_node(rates: Sequence[dict[str, Any]], path: Path) -> Path:
    """Plot frames a second, latency and drops over the rate of pairs.

    Args:
        rates: figures of :func:`irvf.evaluation.node_timing.summarize`.
        path: of the PNG file.
    """
    entries = [figures["custom"] for figures in rates]
    asked = [entry["rate_hz"] for entry in entries]
    topics = list(entries[0]["received"])
    canvas = Canvas(figsize=(13, 4), layout="constrained")
    frequency, latency, drops = (canvas.add_subplot(1, 3, index + 1) for index in range(3))
    frequency.plot(asked, asked, "--", color="0.6", label="as sent")
    for number, topic in enumerate(topics):
        color = f"C{number}"
        frequency.plot(asked, _numbers(entry["fps"][topic] for entry in entries), "o-", color=color, label=topic)
        for share, style in (("p50", "o-"), ("p95", "o:")):
            times = _numbers((entry["latency_ms"][topic] or {}).get(share) for entry in entries)
            latency.plot(asked, times, style, color=color, label=f"{topic} {share}")
    drops.plot(asked, [100 * entry["dropped_share"] for entry in entries], "o-", color="tab:red")
    drops.axhline(100 * MAX_DROPPED, color="0.6", linestyle="--")
    for axes, label in ((frequency, "frames a second"), (latency, "latency, ms"), (drops, "pairs dropped, %")):
        axes.set(xlabel="pairs a second", ylabel=label)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.25)
    frequency.legend(fontsize=8)
    latency.legend(fontsize=8)
    canvas.savefig(path, dpi=110)
    return path


def _numbers(values: Any) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]
