"""Whether a node that runs for long stays as it was: what is read of its process, and the rule that calls it flat.

The first third of a run is warm-up: caches fill, memory pools find their size, every task runs for the first time. The
rest is judged, its last quarter against its first. Memory must not grow, by the slope of Theil and Sen (the median of
the slopes between all pairs of readings, which neither noise nor a single peak moves) and by its level; files and
threads must be as many at the end as at the beginning; latency must not rise, nor the share of dropped pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irvf.evaluation.machine import Reading, read_load
from irvf.evaluation.node_timing import MAX_DROPPED

WARM_UP_SHARE = 1 / 3
"""Of the run; it is not judged."""
MAX_GROWTH_MB_PER_HOUR = 10.0
"""Of memory, by slope: a leak of 1 MB a minute is six times as much."""
LEAST_GROWTH_MB = 3.0
"""Growth that is always allowed: below it, pools of memory that come and go hide a leak. It limits what a short run can
see."""
MAX_STEP_MB = 8.0
"""By which the level of memory may differ between the first and the last quarter."""
MAX_SWING = 8
"""Files, or threads, that may be open for a moment, beyond those that stay."""
MAX_DROPPED_AT_ALL = 0.25
"""Share of all pairs: two of twelve instructions ask for heads that are slower than 30 pairs a second on a small
machine, and the newest pair wins then, as it should."""
MAX_LATENCY_RATIO = 1.25
LATENCY_SLACK_MS = 2.0
"""Added to the ratio, so that latencies of a few milliseconds are not judged by the scheduler's mood."""
_MEGA = 1e-6
_MOST_POINTS = 800
_LEAST_SAMPLES = 24
_PROC = Path("/proc")
_SHARED_MEMORY = " /dev/shm/"


@dataclass(frozen=True)
class Sample:
    """A process at one moment.

    Attributes:
        load: processor time and resident memory.
        private: memory in bytes that it has allocated: anonymous pages, in memory or swapped out. Unlike the unique set
            size, it does not count the pages of libraries, which become the process's own when others end.
        shared: mapped shared memory in bytes: the middleware's segments. How much of them is in memory tells nothing:
            a segment is used from end to end in the course of time.
        files: open file descriptors.
        threads: of the process.
    """

    load: Reading
    private: int
    shared: int
    files: int
    threads: int

    @property
    def time(self) -> float:
        """When it was read: monotonic, in seconds."""
        return self.load.time


def read_sample(pid: int) -> Sample | None:
    """Read a process; None where the system does not say or the process is gone."""
    folder = _PROC / str(pid)
    load = read_load(pid)
    try:
        status = _status(folder / "status")
        files = sum(1 for _ in (folder / "fd").iterdir())
        private, shared = status["RssAnon"] + status.get("VmSwap", 0), _mapped(folder / "maps")
    except (OSError, KeyError):
        return None
    return None if load is None else Sample(load, private << 10, shared, files, status["Threads"])


def _mapped(path: Path) -> int:
    """Return the bytes of shared memory in a file of mappings, ``from-to rights offset device inode path``."""
    lines = path.read_text("utf-8", "replace").splitlines()
    spans = [line.split(maxsplit=1)[0].split("-") for line in lines if _SHARED_MEMORY in line]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


def _status(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines ``Name: number [kB]``."""
    fields = {}
    for line in path.read_text("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        number = value.split()[:1]
        if colon and number and number[0].isdecimal():
            fields[name] = int(number[0])
    return fields


@dataclass(frozen=True)
class Pairs:
    """What became of each pair that was played.

    Attributes:
        sent: monotonic seconds.
        latency_ms: until the last of its answers came; NaN where one is missing.
        outcomes: what the node says of it; ``not paired`` where it says nothing.
    """

    sent: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    outcomes: tuple[str, ...]

    def between(self, start: float, end: float) -> Pairs:
        """Return those that were sent from ``start`` until ``end``, in monotonic seconds."""
        chosen = np.flatnonzero((self.sent >= start) & (self.sent < end))
        return Pairs(self.sent[chosen], self.latency_ms[chosen], tuple(self.outcomes[index] for index in chosen))

    @property
    def dropped_share(self) -> float:
        """Share of the pairs without all of their answers; 0 where there are none."""
        return float(np.isnan(self.latency_ms).mean()) if self.sent.size else 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in ms; NaN where nothing was answered."""
        known = self.latency_ms[~np.isnan(self.latency_ms)]
        return float(np.percentile(known, percent)) if known.size else float("nan")


@dataclass(frozen=True)
class Disturbances:
    """What was asked of the node while it worked.

    Attributes:
        given: kind -> how many instructions, or changes of parameters, were given.
        answered: kind -> how many were answered.
        wrong: answers that were not as they should be.
    """

    given: Mapping[str, int] = field(default_factory=dict)
    answered: Mapping[str, int] = field(default_factory=dict)
    wrong: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """One line of the verdict: what was measured, what is allowed, and whether it holds."""

    name: str
    measured: str
    allowed: str
    holds: bool


@dataclass(frozen=True)
class Span:
    """The part of a run that is judged, in monotonic seconds, and its first and last quarter."""

    start: float
    end: float

    @classmethod
    def of(cls, begin: float, end: float) -> Span:
        """Return what is left of a run without its warm-up."""
        return cls(begin + (end - begin) * WARM_UP_SHARE, end)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start

    @property
    def quarters(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Start and end of the first and of the last quarter."""
        return (self.start, self.start + self.seconds / 4), (self.end - self.seconds / 4, self.end)

    def smallest_leak_mb_per_minute(self) -> float:
        """Return the leak of memory that the slope shows for certain in a run of this length."""
        return _allowed_growth_mb(self) / (self.seconds / 60)


def slope(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return the slope of Theil and Sen: the median of the slopes between all pairs of points.

    Args:
        times: ``[N]`` rising; of many, medians of neighbours are taken.
        values: ``[N]``.
    """
    group = max(1, times.size // _MOST_POINTS)
    if group > 1:
        whole = times.size // group * group
        times, values = (np.median(each[:whole].reshape(-1, group), axis=1) for each in (times, values))
    first, second = np.triu_indices(times.size, 1)
    return float(np.median((values[second] - values[first]) / (times[second] - times[first])))


def judge(samples: Sequence[Sample], pairs: Pairs, disturbances: Disturbances, span: Span) -> list[Check]:
    """Return the checks of a run; it is flat when all of them hold.

    Args:
        samples: of the node's process, about one a second.
        pairs: that were played.
        disturbances: what was asked meanwhile.
        span: what is judged of it.

    Raises:
        ValueError: too few samples to judge by.
    """
    chosen = [sample for sample in samples if span.start <= sample.time < span.end]
    if len(chosen) < _LEAST_SAMPLES:
        raise ValueError(f"{len(chosen)} readings of the process are too few to judge by; needed: {_LEAST_SAMPLES}")
    times = np.array([sample.time for sample in chosen])
    return [
        *_memory("private memory", times, np.array([sample.private for sample in chosen]) * _MEGA, span),
        *_memory("shared memory", times, np.array([sample.shared for sample in chosen]) * _MEGA, span),
        *_number("open files", times, np.array([sample.files for sample in chosen]), span),
        *_number("threads", times, np.array([sample.threads for sample in chosen]), span),
        _latency(pairs, span),
        *_dropped(pairs, span),
        *_answers(disturbances),
    ]


def _allowed_growth_mb(span: Span) -> float:
    return max(LEAST_GROWTH_MB, MAX_GROWTH_MB_PER_HOUR * span.seconds / 3600)


def _levels(times: NDArray[np.float64], values: NDArray[Any], span: Span) -> tuple[float, float]:
    """Return the medians of the first and of the last quarter."""
    first, last = (values[(times >= start) & (times < end)] for start, end in span.quarters)
    return float(np.median(first)), float(np.median(last))


def _memory(name: str, times: NDArray[np.float64], values: NDArray[np.float64], span: Span) -> list[Check]:
    grown, allowed = slope(times, values) * span.seconds, _allowed_growth_mb(span)
    first, last = _levels(times, values, span)
    per_hour = 3600 / span.seconds
    return [
        Check(
            f"{name}, slope",
            f"{grown * per_hour:+.1f} MB/h",
            f"at most {allowed * per_hour:.1f} MB/h",
            grown <= allowed,
        ),
        Check(
            f"{name}, level",
            f"{first:.1f} to {last:.1f} MB",
            f"at most {MAX_STEP_MB:g} MB more",
            last - first <= MAX_STEP_MB,
        ),
    ]


def _number(name: str, times: NDArray[np.float64], values: NDArray[np.int_], span: Span) -> list[Check]:
    first, last = _levels(times, values, span)
    swing = int(values.max() - values.min())
    return [
        Check(name, f"{first:g} to {last:g}", "as many at the end", first == last),
        Check(f"{name}, swing", str(swing), f"at most {MAX_SWING}", swing <= MAX_SWING),
    ]


def _latency(pairs: Pairs, span: Span) -> Check:
    first, last = (pairs.between(*quarter).percentile(95) for quarter in span.quarters)
    allowed = MAX_LATENCY_RATIO * first + LATENCY_SLACK_MS
    return Check("latency, p95", f"{first:.1f} to {last:.1f} ms", f"at most {allowed:.1f} ms", last <= allowed)


def _dropped(pairs: Pairs, span: Span) -> list[Check]:
    whole = pairs.between(span.start, span.end).dropped_share if pairs.sent.size else 1.0
    first, last = (pairs.between(*quarter).dropped_share for quarter in span.quarters)
    return [
        Check(
            "pairs dropped",
            f"{100 * whole:.2f} %",
            f"at most {100 * MAX_DROPPED_AT_ALL:g} %",
            whole <= MAX_DROPPED_AT_ALL,
        ),
        Check(
            "pairs dropped, change",
            f"{100 * first:.2f} to {100 * last:.2f} %",
            f"at most {100 * MAX_DROPPED:g} % more",
            last - first <= MAX_DROPPED,
        ),
    ]


def _answers(disturbances: Disturbances) -> list[Check]:
    checks = [
        Check(kind, f"{disturbances.answered.get(kind, 0)} of {given} answered", "all", answered_all)
        for kind, given in disturbances.given.items()
        for answered_all in [disturbances.answered.get(kind, 0) == given]
    ]
    wrong = list(disturbances.wrong)
    said = f"{len(wrong)} wrong, the first: {wrong[0]}" if wrong else "all as they should be"
    return [*checks, Check("answers", said, "none wrong", not wrong)]
