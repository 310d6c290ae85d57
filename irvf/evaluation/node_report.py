"""The report of a load test as text, and as a file of the form of NVIDIA's ros2_benchmark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from irvf.evaluation.node_timing import FIRST_MINUTE, MAX_DROPPED

_BASELINE = "ResourceMetrics.BASELINE_OVERALL_CPU_UTILIZATION"
MAX_LOST = 0.01
"""Share of the pairs that may get lost before the node without a remark."""
_SPREAD = ("min", "mean", "p50", "p95", "p99", "max")


def highest_held(rates: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the figures of the highest rate at which few enough pairs were dropped, or None."""
    held = [figures for figures in rates if figures["custom"]["dropped_share"] <= MAX_DROPPED]
    return max(held, key=lambda figures: float(figures["custom"]["rate_hz"]), default=None)


def results_file(
    measured: Mapping[str, Any], machine: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a result file holds.

    At the top are the metrics of the highest rate that was held, then a block for each rate, and ``metadata``.

    Args:
        measured: ``rates``, ``parameters``, ``idle_percent``, ``memory_mb``, ``engine`` and ``rmw`` of the load
            generator.
        machine: of :func:`irvf.evaluation.machine.describe_machine`.
        settings: ``thermal_size``, ``rgb_size``, ``seconds``, ``instruction``, ``subscribed`` and
            ``transport``.
    """
    blocks = {}
    for figures in measured["rates"]:
        baseline = {} if measured["idle_percent"] is None else {_BASELINE: round(measured["idle_percent"], 2)}
        blocks[f"{figures['custom']['rate_hz']:.1f}fps"] = {**figures, **baseline}
    best = highest_held(measured["rates"])
    top = {} if best is None else blocks[f"{best['custom']['rate_hz']:.1f}fps"]
    width, height = settings["rgb_size"]
    return {
        **{key: value for key, value in top.items() if key != "custom"},
        **blocks,
        "custom": {
            "data_resolution": f"{width}x{height}",
            "highest_rate_held_hz": best["custom"]["rate_hz"] if best else None,
            "node_memory_mb": measured["memory_mb"],
        },
        "metadata": {
            "BenchmarkMetadata.NAME": "irvf_fusion_node",
            "BenchmarkMetadata.TEST_DATETIME": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "BenchmarkMetadata.DEVICE_ARCH": machine["architecture"],
            "BenchmarkMetadata.DEVICE_OS": machine["system"],
            "BenchmarkMetadata.IDLE_CPU_UTIL": measured["idle_percent"],
            "BenchmarkMetadata.CONFIG": json.dumps(dict(settings)),
            "machine": dict(machine),
            "engine": measured["engine"],
            "rmw": measured["rmw"],
            "parameters": measured["parameters"],
        },
    }


def node_report(measured: Mapping[str, Any], machine: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return the report as Markdown; arguments as :func:`results_file`."""
    rates = [{"metrics": figures, **figures["custom"]} for figures in measured["rates"]]
    sizes = "thermal {}x{}, RGB {}x{}".format(*settings["thermal_size"], *settings["rgb_size"])
    parameters = measured["parameters"]
    text = [
        "# Node under load",
        "",
        (
            f"{machine['date']}, commit {machine['commit'] or 'unknown'}, {machine['cpu']}, {machine['cores']} cores, "
            f"load {machine['load']}, {measured['rmw']}, transport {settings['transport']}. "
            f"Model {parameters.get('model')}, {measured['engine'] or 'no engine'}, "
            f"instruction {settings['instruction']!r}; {sizes}, {settings['seconds']:g} s a rate. "
            "Latency is from handing over the pair's later image to the arrival of the answer; an answered pair "
            "has one on every topic subscribed to."
        ),
        *_pairs_table(rates),
        *_latency_table(rates, settings["subscribed"]),
        *_load_table(rates),
        *_stages_table(rates),
        *_instructions_table(rates, settings["subscribed"][0]),
        "",
        *_conclusion(measured, settings),
    ]
    return "\n".join(text)


def _pairs_table(rates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    topics = list(rates[0]["received"])
    yield from ("", "## Pairs", "")
    yield f"| Hz | sent | fused | {' | '.join(topics)} | superseded | refused | not paired | dropped % | fps |"
    yield "|---" * (8 + len(topics)) + "|"
    for rate in rates:
        pairs, received = rate["pairs"], [rate["received"][topic] for topic in topics]
        counts = [pairs["sent"], pairs["fused"], *received]
        counts += [pairs[name] for name in ("superseded", "refused", "not_paired")]
        yield _row(f"{rate['rate_hz']:g}", *counts, f"{100 * rate['dropped_share']:.2f}", _cell(rate["fps"][topics[0]]))


def _latency_table(rates: Sequence[Mapping[str, Any]], topics: Sequence[str]) -> Iterator[str]:
    yield from ("", "## Latency in ms", "")
    yield f"| Hz | topic | {' | '.join(_SPREAD)} | jitter mean | jitter max |"
    yield "|---" * (len(_SPREAD) + 4) + "|"
    for rate in rates:
        for topic in topics:
            values = rate["latency_ms"][topic] or {}
            cells = [_cell(values.get(name)) for name in _SPREAD]
            jitter = ["", ""]
            if topic == topics[0]:
                jitter = [
                    _cell(rate["metrics"].get(f"BasicPerformanceMetrics.{kind}_JITTER")) for kind in ("MEAN", "MAX")
                ]
            yield _row(f"{rate['rate_hz']:g}", topic, *cells, *jitter)


def _load_table(rates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    services = list(dict.fromkeys(name for rate in rates for name in rate["services_ms"]))
    yield from (
        "",
        "## Load; CPU of node and load generator in % of one core, services as ms min / p50 / p95 / max",
        "",
    )
    yield f"| Hz | node CPU | machine CPU | generator CPU | node MB start | end |{''.join(f' {s} |' for s in services)}"
    yield "|---" * (6 + len(services)) + "|"
    for rate in rates:
        cpu = [_cell(rate[f"{who}_cpu_percent"]) for who in ("node", "machine", "generator")]
        memory = [_cell(rate["node_memory_mb"][when]) for when in ("start", "end")]
        yield _row(
            f"{rate['rate_hz']:g}", *cpu, *memory, *(_service(rate["services_ms"].get(name)) for name in services)
        )


def _service(figures: Mapping[str, float] | None) -> str:
    if not figures or "min" not in figures:
        return "no answer" if figures else ""
    times = " / ".join(f"{figures[name]:.1f}" for name in ("min", "p50", "p95", "max"))
    return times + (f", {figures['unanswered']:g} unanswered" if figures["unanswered"] else "")


def _stages_table(rates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    stages = list(dict.fromkeys(name for rate in rates for name in rate["stages_ms"]))
    if not stages:
        return
    yield from ("", "## The node's own stages, median ms", "")
    yield f"| Hz | {' | '.join(stages)} |"
    yield "|---" * (1 + len(stages)) + "|"
    for rate in rates:
        yield _row(f"{rate['rate_hz']:g}", *(_cell(rate["stages_ms"].get(name), digits=2) for name in stages))


def _instructions_table(rates: Sequence[Mapping[str, Any]], topic: str) -> Iterator[str]:
    if not any(rate.get("instructions") for rate in rates):
        return
    yield from (
        "",
        f"## New instructions meanwhile, ms; latency of {topic} beside one and otherwise as mean / p50 / p95",
        "",
    )
    yield "| Hz | given | answer p50 | p95 | max | beside | otherwise | delay |"
    yield "|---" * 8 + "|"
    for rate in rates:
        told = rate["instructions"]
        answer = told["answer_ms"] or {}
        spreads = (told[name] for name in ("latency_beside_ms", "latency_otherwise_ms", "delay_ms"))
        yield _row(
            f"{rate['rate_hz']:g}",
            told["given"],
            *(_cell(answer.get(name)) for name in ("p50", "p95", "max")),
            *(" / ".join(_cell((each or {}).get(name)) for name in ("mean", "p50", "p95")) for each in spreads),
        )


def _conclusion(measured: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    best = highest_held(measured["rates"])
    held = f"{best['custom']['rate_hz']:g} Hz" if best else "none of the rates"
    yield f"Held with at most {100 * MAX_DROPPED:g} % of the pairs dropped: {held}."
    for topic in settings["subscribed"]:
        if not any(figures["custom"]["received"][topic] for figures in measured["rates"]):
            yield f"Nothing came on {topic}: the task does not give it, or no pair was fused."
    lost = sum(figures["custom"]["pairs"]["not_paired"] for figures in measured["rates"])
    sent = sum(figures["custom"]["pairs"]["sent"] for figures in measured["rates"])
    if lost > MAX_LOST * sent:
        yield f"{lost} of {sent} pairs never reached the node whole: the middleware lost images on the way."
        if settings["transport"] == "environment":
            yield "Try --transport shared-memory."
    growth = measured["memory_mb"]["growth_after_first_minute"]
    if growth is None:
        yield f"Growth of memory is known after {FIRST_MINUTE:g} s of load and more."
    else:
        yield f"The node's memory grew by {growth:.1f} MB after the first minute."


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _cell(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
