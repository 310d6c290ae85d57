"""The report of a long run as text: the verdict with what it stands on, and what happened meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irvf.evaluation.soak import (
    LEAST_GROWTH_MB,
    MAX_GROWTH_MB_PER_HOUR,
    MAX_STEP_MB,
    WARM_UP_SHARE,
    Check,
    Pairs,
    Sample,
    Span,
)

_BUSY = 90
_PERCENTILES = (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100))


def verdict(checks: Sequence[Check]) -> str:
    """Return ``FLAT``, or ``NOT FLAT`` with what does not hold."""
    broken = [check.name for check in checks if not check.holds]
    return f"NOT FLAT: {', '.join(broken)}" if broken else "FLAT"


def soak_report(
    checks: Sequence[Check],
    samples: Sequence[Sample],
    pairs: Pairs,
    span: Span,
    *,
    told: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """Return the report as Markdown.

    Args:
        checks: of :func:`irvf.evaluation.soak.judge`, and others.
        samples: of the node's process.
        pairs: that were played.
        span: what was judged.
        told: report of the load generator; empty where there is none.
        settings: ``machine``, ``minutes``, ``rate``, ``thermal_size``, ``rgb_size``, ``transport``.
    """
    return "\n".join(
        [
            "# Soak",
            "",
            f"**{verdict(checks)}**",
            "",
            _setting(told, settings),
            "",
            *_checks(checks, span, judged=bool(told)),
            "",
            *_pairs(pairs),
            "",
            *_quarters(pairs, span),
            "",
            *_process(samples, span),
            *_asked(told),
        ]
    )


def _setting(told: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    machine = settings["machine"]
    parameters = told.get("parameters", {})
    sizes = "thermal {}x{}, RGB {}x{}".format(*settings["thermal_size"], *settings["rgb_size"])
    return (
        f"{machine['date']}, commit {machine['commit'] or 'unknown'}, {machine['cpu']}, {machine['cores']} cores, load "
        f"before {machine['load']}, {told.get('rmw', 'unknown middleware')}, transport {settings['transport']}. "
        f"{settings['minutes']:g} minutes at {settings['rate']:g} pairs a second, {sizes}; model "
        f"{parameters.get('model', 'unknown')}, {told.get('engine') or 'no engine'}."
    )


def _checks(checks: Sequence[Check], span: Span, *, judged: bool) -> list[str]:
    rows = [_row(check.name, check.measured, check.allowed, "yes" if check.holds else "**no**") for check in checks]
    rule = (
        f"The first {100 * WARM_UP_SHARE:.0f} % of the run are warm-up; the other {span.seconds / 60:.1f} minutes "
        "are judged, the last quarter against the first. The slope is that of Theil and Sen; allowed are "
        f"{MAX_GROWTH_MB_PER_HOUR:g} MB an hour or {LEAST_GROWTH_MB:g} MB in all, {MAX_STEP_MB:g} MB between the two. "
        f"A leak of {span.smallest_leak_mb_per_minute():.2f} MB a minute or more shows in a run of this length, and so "
        "does one file or thread that stays open."
    )
    title = _row("what", "measured", "allowed", "holds")
    return ["## Verdict", "", title, "|---|---|---|---|", *rows, *(["", rule] if judged else [])]


def _pairs(pairs: Pairs) -> list[str]:
    counts = Counter(pairs.outcomes)
    answered = int(np.count_nonzero(~np.isnan(pairs.latency_ms)))
    return [
        "## Pairs",
        "",
        _row("sent", "answered", *counts),
        "|---" * (2 + len(counts)) + "|",
        _row(len(pairs.outcomes), answered, *counts.values()),
    ]


def _quarters(pairs: Pairs, span: Span) -> list[str]:
    edges = np.linspace(span.start, span.end, 5)
    parts = {"warm-up": pairs.between(-np.inf, span.start)}
    parts |= {f"quarter {number + 1}": pairs.between(edges[number], edges[number + 1]) for number in range(4)}
    rows = []
    for name, part in parts.items():
        seconds = float(part.sent[-1] - part.sent[0]) if part.sent.size > 1 else 0.0
        answered = int(np.count_nonzero(~np.isnan(part.latency_ms)))
        rate = f"{answered / seconds:.2f}" if seconds else "-"
        latency = [f"{part.percentile(percent):.1f}" for _, percent in _PERCENTILES]
        rows.append(_row(name, rate, f"{100 * part.dropped_share:.2f}", *latency))
    title = _row("", "answered a second", "dropped %", *(f"latency {name} ms" for name, _ in _PERCENTILES))
    return ["## Latency and rate", "", title, "|---" * (3 + len(_PERCENTILES)) + "|", *rows]


def _process(samples: Sequence[Sample], span: Span) -> list[str]:
    judged = [sample for sample in samples if span.start <= sample.time < span.end]
    series: dict[str, tuple[list[float], str]] = {
        "resident memory, MB": ([sample.load.resident * 1e-6 for sample in samples], ".1f"),
        "private memory, MB": ([sample.private * 1e-6 for sample in samples], ".1f"),
        "shared memory, MB": ([sample.shared * 1e-6 for sample in samples], ".1f"),
        "open files": ([sample.files for sample in samples], "g"),
        "threads": ([sample.threads for sample in samples], "g"),
    }
    first = len(samples) - len(judged)
    rows = []
    for name, (values, form) in series.items():
        rest = values[first:] or values
        figures = (values[0], min(rest), float(np.median(rest)), max(rest), values[-1])
        rows.append(_row(name, *(format(figure, form) for figure in figures)))
    lines = [
        "## Process",
        "",
        _row("", "at first", "judged: least", "median", "most", "at last"),
        "|---" * 6 + "|",
        *rows,
    ]
    if len(judged) > 1 and judged[-1].time > judged[0].time:
        begin, end = judged[0].load, judged[-1].load
        node = 100 * (end.process_s - begin.process_s) / (end.time - begin.time)
        machine = 100 * (end.busy_s - begin.busy_s) / max(end.total_s - begin.total_s, 1e-9)
        others = " It was full: latency and drops depend on what else ran." if machine > _BUSY else ""
        lines += ["", f"Processor: the node {node:.0f} % of one core, the machine {machine:.0f} % of all.{others}"]
    return lines


def _asked(told: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    disturbances = told.get("disturbances")
    if disturbances:
        lines += [
            "",
            "## Asked meanwhile",
            "",
            _row("what", "given", "answered", "p50 ms", "p95", "max"),
            "|---" * 6 + "|",
        ]
        for kind, given in disturbances["given"].items():
            times = disturbances["answer_ms"].get(kind) or {}
            spread = [f"{times[name]:.1f}" if name in times else "-" for name in ("p50", "p95", "max")]
            lines.append(_row(kind, given, disturbances["answered"][kind], *spread))
        lines += [f"- wrong: {text}" for text in disturbances["wrong"][:10]]
    for title, counts in (("Frames dropped, by reason", "drops"), ("Diagnostics warned, seconds", "complaints")):
        if told.get(counts):
            lines += ["", f"{title}:", "", *(f"- {name}: {count}" for name, count in sorted(told[counts].items()))]
    return lines


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
