"""What the node counts and times, and how it says so on ``/diagnostics``."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from irvf.instruction.instruction import Instruction
from irvf_fusion_node.instructions import Answer
from irvf_fusion_node.pairing import Stream, StreamCounts

LATENCIES_KEPT = 300
STALL_AFTER = 2.0
"""Seconds without a fused pair after which an active node warns."""


class Statistics:
    """Counts by reason and recent latencies by stage. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latency_ms: dict[str, deque[float]] = {}
        self._gaps_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._silent_since = time.monotonic()
        self._formed = 0
        self._refused = 0
        self._last_refusal = ""
        self._recent: deque[float] = deque(maxlen=LATENCIES_KEPT)

    def count(self, name: str) -> int:
        """Add one to a counter and return it."""
        with self._lock:
            self._counts[name] += 1
            return self._counts[name]

    def activated(self) -> None:
        """Begin anew to look out for fused pairs; counts and latencies go on."""
        with self._lock:
            self._begin_silence()
            self._recent.clear()

    def _begin_silence(self) -> None:
        self._silent_since = time.monotonic()
        self._formed = self._refused = 0
        self._last_refusal = ""

    def formed(self) -> None:
        """Record a pair that was handed to inference."""
        with self._lock:
            self._formed += 1

    def refused(self, message: str) -> None:
        """Record why a pair could not be fused."""
        with self._lock:
            self._refused += 1
            self._last_refusal = message

    def fused(self, gap_ms: float, stages: Mapping[str, float]) -> None:
        """Record a pair whose outputs were published, with the time of each stage in milliseconds."""
        now = time.monotonic()
        with self._lock:
            self._counts["pairs.fused"] += 1
            self._begin_silence()
            self._recent.append(now)
            self._gaps_ms.append(gap_ms)
            for stage, duration in stages.items():
                self._latency_ms.setdefault(stage, deque(maxlen=LATENCIES_KEPT)).append(duration)

    def snapshot(self) -> Snapshot:
        """Return all figures of this moment."""
        with self._lock:
            latency = {name: np.percentile(values, (50, 95)) for name, values in self._latency_ms.items()}
            now = time.monotonic()
            window = [moment for moment in self._recent if moment > now - 5]
            return Snapshot(
                counts=dict(self._counts),
                latency_ms={name: (float(low), float(high)) for name, (low, high) in latency.items()},
                gap_ms=float(np.median(np.abs(self._gaps_ms))) if self._gaps_ms else 0.0,
                rate=(len(window) - 1) / (now - window[0]) if len(window) > 1 else 0.0,
                since_fused=now - self._silent_since,
                formed=self._formed,
                refused=self._refused,
                last_refusal=self._last_refusal,
            )


class StreamAccounts:
    """What became of each stream's messages since the node was made; for the executor's thread alone.

    In every account ``received == paired + waiting + sum(dropped.*) + sum(refused.*)``.
    """

    def __init__(self) -> None:
        self._past: dict[Stream, Counter[str]] = {stream: Counter() for stream in Stream}

    def refuse(self, stream: Stream, reason: str) -> int:
        """Count a message that is no usable image; return how many there were for that reason."""
        past = self._past[stream]
        past["received"] += 1
        past[f"refused.{reason}"] += 1
        return past[f"refused.{reason}"]

    def close(self, stream: Stream, counts: StreamCounts) -> None:
        """Take over the counts of a pairer that ends; what waits in it will never be paired."""
        account = self.of(stream, counts)
        account["dropped.deactivated"] += account.pop("waiting")
        self._past[stream] = account

    def of(self, stream: Stream, counts: StreamCounts | None) -> Counter[str]:
        """Return the account of a stream, with the counts of its present pairer if there is one."""
        account = Counter(self._past[stream])
        if counts is not None:
            account.update(received=counts.received, paired=counts.paired, waiting=counts.waiting)
            account.update({f"dropped.{reason.value}": number for reason, number in counts.dropped.items()})
        return account


@dataclass(frozen=True)
class Snapshot:
    """Figures of one moment.

    Attributes:
        counts: events so far, by name.
        latency_ms: stage -> median and 95th percentile in milliseconds.
        gap_ms: median distance of a pair's stamps.
        rate: fused pairs a second over the last five seconds.
        since_fused: seconds since the last fused pair, or since the activation after it.
        formed: pairs formed in that time.
        refused: pairs refused in that time.
        last_refusal: why the last of them was refused; empty if none was.
    """

    counts: Mapping[str, int]
    latency_ms: Mapping[str, tuple[float, float]]
    gap_ms: float
    rate: float
    since_fused: float
    formed: int
    refused: int
    last_refusal: str


@dataclass(frozen=True)
class NodeState:
    """What the node knows of itself when it reports.

    Attributes:
        name: fully qualified node name.
        lifecycle: label of the lifecycle state.
        activity: what configure is at; empty when it is not, or quick.
        problem: why the last configure failed or parameters were refused; empty when all is well.
        model: of the fusion.
        heads: head -> name of its model, empty for none.
        engine: description of the engine, the hardware id.
        instruction: in force; None while unconfigured.
        answer: to the last instruction that was given.
        language_model: how it does; empty where there is none.
        prompt: what made the prompt of the instruction in force; see ``irvf_msgs/ActiveInstruction``.
        streams: topic -> account of its messages; see :class:`StreamAccounts`.
        publishers: topic -> number of publishers.
        camera_info: what became of the RGB camera's with the last pair.
    """

    name: str
    lifecycle: str
    activity: str = ""
    problem: str = ""
    model: str = ""
    heads: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""
    instruction: Instruction | None = None
    answer: Answer | None = None
    prompt: str = ""
    language_model: str = ""
    streams: Mapping[str, Counter[str]] = field(default_factory=dict)
    publishers: Mapping[str, int] = field(default_factory=dict)
    camera_info: str = "none"


def diagnostic_statuses(state: NodeState, snapshot: Snapshot) -> list[DiagnosticStatus]:
    """Return the node's three entries: fusion, input streams, instruction."""
    return [_fusion(state, snapshot), _streams(state, snapshot), _instruction(state)]


def _fusion(state: NodeState, snapshot: Snapshot) -> DiagnosticStatus:
    values = {"lifecycle": state.lifecycle, "model": state.model, "engine": state.engine}
    values.update({head: model or "none" for head, model in state.heads.items()})
    values["rate_hz"] = f"{snapshot.rate:.1f}"
    for stage, (median, high) in snapshot.latency_ms.items():
        values[f"{stage}.p50_ms"], values[f"{stage}.p95_ms"] = f"{median:.2f}", f"{high:.2f}"
    values.update({name: str(count) for name, count in sorted(snapshot.counts.items())})
    level, message = DiagnosticStatus.OK, state.activity or state.lifecycle
    if state.activity:
        level = DiagnosticStatus.WARN
    elif state.problem:
        level, message = DiagnosticStatus.ERROR, state.problem
    elif state.lifecycle == "active" and snapshot.refused:
        level = DiagnosticStatus.ERROR if snapshot.since_fused > STALL_AFTER else DiagnosticStatus.WARN
        message = f"{snapshot.refused} pairs refused since the last fused one, the last: {snapshot.last_refusal}"
    elif state.lifecycle == "active":
        message = f"{snapshot.rate:.1f} fused pairs a second"
    return _status(state, "fusion", level, message, values)


def _streams(state: NodeState, snapshot: Snapshot) -> DiagnosticStatus:
    values = {"gap.median_ms": f"{snapshot.gap_ms:.2f}", "camera_info": state.camera_info}
    for topic, account in state.streams.items():
        values[f"{topic}.publishers"] = str(state.publishers.get(topic, 0))
        values.update({f"{topic}.{name}": str(account[name]) for name in ("received", "paired", "waiting")})
        lost = sorted(name for name in account if name.startswith(("dropped.", "refused.")))
        values.update({f"{topic}.{name}": str(account[name]) for name in lost})
    level, message = DiagnosticStatus.OK, "pairs arrive"
    if state.lifecycle != "active":
        message = "not active"
    elif snapshot.since_fused > STALL_AFTER:
        level, message = DiagnosticStatus.WARN, _why_silent(state, snapshot)
    return _status(state, "input streams", level, message, values)


def _why_silent(state: NodeState, snapshot: Snapshot) -> str:
    unpublished = [topic for topic in state.streams if not state.publishers.get(topic)]
    if unpublished:
        return f"no pairs: nobody publishes {' and '.join(unpublished)}"
    silent = [topic for topic, account in state.streams.items() if not account["received"]]
    if silent:
        return f"no pairs: nothing has arrived on {' and '.join(silent)}"
    if snapshot.refused:
        return "pairs are formed, but refused; the entry fusion says why"
    if snapshot.formed:
        return f"pairs are formed, but none was fused for {snapshot.since_fused:.0f} s: inference is slow"
    return "no pairs: stamps too far apart, streams stalled, or images refused; the counts by reason say which"


def _instruction(state: NodeState) -> DiagnosticStatus:
    current, answer = state.instruction, state.answer
    if current is None or answer is None:
        return _status(state, "instruction", DiagnosticStatus.OK, "none", {})
    values = {
        "text": current.text,
        "task": current.task.name,
        "classes": ", ".join(current.classes) or "all",
        "effects": ", ".join(map(str, current.effects)) or "none",
        "sequence": str(current.sequence),
        "confidence": f"{current.confidence:.2f}",
        "prompt": state.prompt or "none",
        "last text": answer.text,
        "language model": state.language_model or "none",
    }
    level = DiagnosticStatus.OK if answer.accepted else DiagnosticStatus.WARN
    return _status(state, "instruction", level, answer.message, values)


def _status(state: NodeState, part: str, level: bytes, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=f"{state.name.lstrip('/')}: {part}",
        message=message,
        hardware_id=state.engine or "none",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
