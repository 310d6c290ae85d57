"""What the node counts and times: pairs and latencies of all threads, and an account of every message of a stream."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from irvf.frames import Source
from irvf_fusion_node.pairing import Stream, StreamCounts

LATENCIES_KEPT = 300
_COUNTED = {Source.BOTH: "pairs.fused", Source.RGB: "pairs.rgb_only", Source.THERMAL: "pairs.thermal_only"}


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

    def published(self, source: Source, gap_ms: float | None, stages: Mapping[str, float]) -> None:
        """Record what was published.

        Args:
            source: what the image shows.
            gap_ms: of the pair; None for a frame of one camera alone.
            stages: time of each stage in milliseconds.
        """
        now = time.monotonic()
        with self._lock:
            self._counts[_COUNTED[source]] += 1
            self._begin_silence()
            self._recent.append(now)
            if gap_ms is not None:
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

    In every account ``received == paired + alone + waiting + sum(dropped.*) + sum(refused.*)``.
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
            if counts.alone:
                account.update(alone=counts.alone)
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
