"""What one rate of a load test comes to: counts, latencies, jitter, stages, processor and memory.

Where a quantity is one of NVIDIA's ros2_benchmark, it has the key and the definition that its result files have;
all else stands under ``custom``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irvf.evaluation.machine import Reading

MAX_DROPPED = 0.05
"""Share of the pairs that may stay without an answer at a rate that counts as held; ros2_benchmark's default too."""
FIRST_MINUTE = 60.0
_MEGA = 1e-6


OUTCOMES = ("fused", "superseded", "refused", "rgb only", "thermal only")
"""What becomes of a pair, by its number in ``irvf_msgs/FusionStatus``."""


@dataclass
class RateRecord:
    """What was sent and heard at one rate. Times are monotonic, in ns; stamps identify pairs.

    Attributes:
        rate: pairs a second that were asked for.
        sent: stamp -> when the later image of the pair was handed to the middleware.
        late_ms: how long after its time each pair was sent.
        arrivals: topic -> stamp -> when its first message came.
        outcomes: stamp -> what the node says became of the pair: fused, superseded or refused.
        stages: name -> milliseconds of each fused pair, as the node says.
        detections: number in each fused pair, as the node says.
        services: name -> milliseconds until each answer.
        calls: name -> how often it was called.
        readings: of node and machine, from the first pair to the last.
        instructed: when each instruction was given.
        answered_instructions: milliseconds until the node said what it understood.
    """

    rate: float
    sent: dict[int, int] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    arrivals: dict[str, dict[int, int]] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    stages: dict[str, list[float]] = field(default_factory=dict)
    detections: list[int] = field(default_factory=list)
    services: dict[str, list[float]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    readings: list[Reading] = field(default_factory=list)
    instructed: list[int] = field(default_factory=list)
    answered_instructions: list[float] = field(default_factory=list)

    def received(self, topic: str) -> dict[int, int]:
        """Return the arrivals of a topic that answer pairs of this rate, in the order of the pairs."""
        arrivals = self.arrivals.get(topic, {})
        return {stamp: arrivals[stamp] for stamp in self.sent if stamp in arrivals}

    def answered(self) -> int:
        """Count the pairs of which every topic brought a message."""
        return sum(all(stamp in arrivals for arrivals in self.arrivals.values()) for stamp in self.sent)


def due_ns(number: int, rate: float) -> int:
    """Return when pair ``number`` is due after the first one, in ns: from the rate alone, so that nothing drifts."""
    return round(number * 1e9 / rate)


def spread(values: Collection[float]) -> dict[str, float] | None:
    """Return min, mean, median, percentiles and max of some values; None for no value."""
    if not values:
        return None
    array = np.asarray(list(values), float)
    p50, p95, p99 = np.percentile(array, (50, 95, 99))
    named = {"min": array.min(), "mean": array.mean(), "p50": p50, "p95": p95, "p99": p99, "max": array.max()}
    return {name: round(float(value), 3) for name, value in named.items()}


def summarize(record: RateRecord) -> dict[str, Any]:
    """Return the figures of one rate, ready for JSON; what could not be measured is absent or None.

    Raises:
        ValueError: nothing was sent.
    """
    if not record.sent:
        raise ValueError("nothing was sent")
    first, *_ = record.arrivals
    figures = _basic_metrics(list(record.sent.values()), record.received(first), record.sent)
    return {**figures, **_resource_metrics(record.readings), "custom": _custom(record)}


def _basic_metrics(sent: Sequence[int], received: Mapping[int, int], starts: Mapping[int, int]) -> dict[str, Any]:
    """Metrics with the definitions of ros2_benchmark's BasicPerformanceCalculator, in ms and frames a second."""
    metrics: dict[str, float] = {"NUM_FRAMES_SENT": len(sent), "NUM_MISSED_FRAMES": len(sent) - len(received)}
    sent_ms = (sent[-1] - sent[0]) / 1e6
    if sent_ms > 0:
        metrics["MEAN_PLAYBACK_FRAME_RATE"] = len(sent) / sent_ms * 1e3
    if received:
        ends = np.sort(np.fromiter(received.values(), np.int64)) / 1e6
        latencies = [(end - starts[stamp]) / 1e6 for stamp, end in received.items()]
        metrics["RECEIVED_DURATION"] = float(ends[-1] - ends[0])
        if ends[-1] > ends[0]:
            metrics["MEAN_FRAME_RATE"] = len(ends) / metrics["RECEIVED_DURATION"] * 1e3
        metrics["FIRST_SENT_RECEIVED_LATENCY"] = float(ends[0]) - sent[0] / 1e6
        metrics["LAST_SENT_RECEIVED_LATENCY"] = float(ends[-1]) - sent[-1] / 1e6
        metrics["FIRST_INPUT_LATENCY"], metrics["LAST_INPUT_LATENCY"] = latencies[0], latencies[-1]
        metrics["MAX_LATENCY"], metrics["MIN_LATENCY"] = max(latencies), min(latencies)
        metrics["MEAN_LATENCY"] = sum(latencies) / len(latencies)
        metrics.update(_statistics("{}_JITTER", np.abs(np.diff(ends, 2)), "STD_DEV"))
    return {f"BasicPerformanceMetrics.{name}": round(value, 3) for name, value in metrics.items()}


def _resource_metrics(readings: Sequence[Reading]) -> dict[str, float]:
    metrics = _statistics("{}_OVERALL_CPU_UTILIZATION", np.array(busy_percent(readings)), "STDDEV")
    return {f"ResourceMetrics.{name}": round(value, 2) for name, value in metrics.items()}


def _statistics(name: str, values: NDArray[np.float64], deviation: str) -> dict[str, float]:
    if not values.size:
        return {}
    named = {"MAX": values.max(), "MIN": values.min(), "MEAN": values.mean(), deviation: values.std()}
    return {name.format(kind): float(value) for kind, value in named.items()}


def busy_percent(readings: Sequence[Reading]) -> list[float]:
    """Return how busy all cores of the machine were between readings, 0..100."""
    spans = [(after.busy_s - before.busy_s, after.total_s - before.total_s) for before, after in pairwise(readings)]
    return [100 * busy / total for busy, total in spans if total > 0]


def memory_mb(readings: Sequence[Reading]) -> dict[str, float | None]:
    """Return the node's resident memory in MB at start and end, its peak, and its growth after the first minute.

    The growth is None where the readings do not reach beyond the first minute.
    """
    if not readings:
        return dict.fromkeys(("start", "end", "peak", "growth_after_first_minute"))
    settled = [reading.resident for reading in readings if reading.time - readings[0].time >= FIRST_MINUTE]
    figures = {
        "start": readings[0].resident,
        "end": readings[-1].resident,
        "peak": max(reading.resident for reading in readings),
        "growth_after_first_minute": settled[-1] - settled[0] if len(settled) > 1 else None,
    }
    return {name: None if value is None else round(value * _MEGA, 2) for name, value in figures.items()}


def _custom(record: RateRecord) -> dict[str, Any]:
    received = {topic: record.received(topic) for topic in record.arrivals}
    outcomes = Counter(record.outcomes[stamp] for stamp in record.sent if stamp in record.outcomes)
    answered = record.answered()
    return {
        "rate_hz": record.rate,
        "pairs": {
            "sent": len(record.sent),
            "fused": outcomes["fused"],
            "superseded": outcomes["superseded"],
            "refused": outcomes["refused"],
            "not_paired": len(record.sent) - sum(outcomes.values()),
            "answered": answered,
        },
        "received": {topic: len(arrivals) for topic, arrivals in received.items()},
        "dropped_share": round(1 - answered / len(record.sent), 5),
        "fps": {topic: _frequency(arrivals.values()) for topic, arrivals in received.items()},
        "latency_ms": {
            topic: spread([(end - record.sent[stamp]) / 1e6 for stamp, end in arrivals.items()])
            for topic, arrivals in received.items()
        },
        "stages_ms": {name: round(float(np.median(values)), 3) for name, values in record.stages.items()},
        "detections_per_pair": round(float(np.mean(record.detections)), 2) if record.detections else None,
        "services_ms": {
            name: {
                **(spread(record.services.get(name, [])) or {}),
                "calls": calls,
                "unanswered": calls - len(record.services.get(name, [])),
            }
            for name, calls in record.calls.items()
            if calls
        },
        **_processor(record.readings),
        "node_memory_mb": memory_mb(record.readings),
        "sent_late_ms": spread(record.late_ms),
        "instructions": _instructions(record) if record.instructed else None,
    }


def _instructions(record: RateRecord) -> dict[str, Any]:
    """Return how long instructions took, and what they cost the pairs beside them.

    Beside an instruction are the last pair that was sent before it and the next one: which they are does not depend on
    how long a pair took, as it would if those were counted that were under way.
    """
    stamps = list(record.sent)
    times = np.fromiter(record.sent.values(), np.int64)
    after = np.searchsorted(times, np.asarray(record.instructed))
    beside = {stamps[at] for place in after for at in (place - 1, place) if 0 <= at < len(stamps)}
    first = next(iter(record.arrivals))
    latencies = {stamp: (end - record.sent[stamp]) / 1e6 for stamp, end in record.received(first).items()}
    near = spread([value for stamp, value in latencies.items() if stamp in beside])
    far = spread([value for stamp, value in latencies.items() if stamp not in beside])
    delay = {name: round(near[name] - far[name], 3) for name in ("mean", "p50", "p95")} if near and far else None
    return {
        "given": len(record.instructed),
        "answer_ms": spread(record.answered_instructions),
        "latency_beside_ms": near,
        "latency_otherwise_ms": far,
        "delay_ms": delay,
    }


def _frequency(times: Iterable[int]) -> float | None:
    """Return intervals a second: without ros2_benchmark's one too many, which shows at low rates."""
    ordered = sorted(times)
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return None
    return round((len(ordered) - 1) * 1e9 / (ordered[-1] - ordered[0]), 3)


def _processor(readings: Sequence[Reading]) -> dict[str, float | None]:
    """Return processor use in percent of one core (node, load generator) and of all cores (machine)."""
    names = ("node_cpu_percent", "generator_cpu_percent", "machine_cpu_percent")
    if len(readings) < 2 or readings[-1].time <= readings[0].time:
        return dict.fromkeys(names)
    first, last = readings[0], readings[-1]
    seconds = last.time - first.time
    (machine,) = busy_percent([first, last]) or [0.0]
    values = ((last.process_s - first.process_s) / seconds * 100, (last.own_s - first.own_s) / seconds * 100, machine)
    return {name: round(value, 1) for name, value in zip(names, values, strict=True)}
