"""Nearest-stamp pairing of the thermal and the RGB stream, with an account of every frame.

A thermal and an RGB frame become a pair when each is the nearest free frame of its stream to the other, and they lie
no more than ``max_gap`` apart. Frames are settled in the order of their stamps, so the decision is always about the
two oldest waiting frames, `early` and `late`: only the frame that follows `early` in its own stream, its successor,
can be nearer to `late`. A successor that has not arrived is expected one period after `early`; the two frames wait
for it only if it would then be the nearer one.

"Nearer" means nearer by an eighth of the stream's period. Two free-running cameras of equal rate drift through the
phase where each frame lies half way between two of the other; without that tolerance the noise of the stamps would
decide there, and a sixth of the frames would stay alone.

A stamp that jumps back starts a new lap of its stream (a looping bag, a clock that was set). Frames pair within one
lap only, and the stream that is behind finishes its lap first, so that each lap of a bag yields the same pairs.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import median_low
from typing import Generic, TypeVar

T = TypeVar("T")

REORDER_LIMIT = 200_000_000
"""A stamp up to this far (ns) behind the newest of its stream is a late frame; one further behind is a jump."""
_INTERVALS_KEPT = 15
_INTERVALS_NEEDED = 3
_TOLERANCE_DIVISOR = 8
_FASTEST_STREAM_HZ = 120
_LEAST_DEPTH = 20


class Stream(str, Enum):
    """The camera a frame comes from."""

    THERMAL = "thermal"
    RGB = "rgb"


class DropReason(str, Enum):
    """Why a frame was not paired."""

    NO_PARTNER = "no_partner"
    """A nearer frame of its stream took its partner (surplus of the faster stream), or none came in ``max_wait``."""
    GAP_TOO_LARGE = "gap_too_large"
    """It and a frame of the other stream are nearest to each other, and yet more than ``max_gap`` apart."""
    DUPLICATE_STAMP = "duplicate_stamp"
    """Stamped like the newest frame of its stream."""
    LATE = "late"
    """Stamped before the newest frame of its stream, by no more than ``REORDER_LIMIT``."""
    STAMP_JUMP = "stamp_jump"
    """Waiting for frames of a lap that the other stream has left."""
    OVERFLOW = "overflow"
    """The oldest waiting frame, when its stream had no room for another one."""
    NO_STAMP = "no_stamp"
    """Stamp zero or negative: the driver does not fill it."""


@dataclass(frozen=True)
class Pair(Generic[T]):
    """Two items of (nearly) the same moment.

    Attributes:
        thermal: item of the thermal stream.
        rgb: item of the RGB stream.
        gap: thermal minus RGB stamp in ns, the thermal delay removed.
        formed: monotonic time in ns at which the pair was certain.
    """

    thermal: T
    rgb: T
    gap: int
    formed: int


@dataclass(frozen=True)
class StreamCounts:
    """What became of a stream's frames: ``received == paired + sum(dropped.values()) + waiting``, at any time."""

    received: int
    paired: int
    dropped: Mapping[DropReason, int]
    waiting: int


class StampPairer(Generic[T]):
    """Pairs the items of two streams by their stamps.

    Not thread-safe: all calls come from the one executor thread. Memory is bounded by ``depth`` items a stream.

    Args:
        max_gap: largest distance of a pair's stamps in ns, at least 0.
        max_wait: longest time in ns, by arrival, that a frame waits for a partner or for a nearer frame. It must
            exceed the difference of the two streams' transport times.
        thermal_delay: ns by which thermal stamps are later than RGB stamps of the same moment; may be negative.
        depth: most items of a stream that wait; ``None`` for as many as a stream of 120 Hz sends in ``max_wait``, and
            at least 20.

    Raises:
        ValueError: for a value out of its range.
    """

    def __init__(
        self, max_gap: int, *, max_wait: int = 300_000_000, thermal_delay: int = 0, depth: int | None = None
    ) -> None:
        if depth is None:
            depth = max(_LEAST_DEPTH, math.ceil(max_wait / 1e9 * _FASTEST_STREAM_HZ))
        if max_gap < 0 or max_wait <= 0 or depth < 2:
            raise ValueError(
                f"max_gap must be >= 0, max_wait > 0 and depth >= 2, not {max_gap} ns, {max_wait} ns and {depth}"
            )
        self._max_gap = max_gap
        self._max_wait = max_wait
        self._lanes: dict[Stream, _Lane[T]] = {
            Stream.THERMAL: _Lane(depth, thermal_delay),
            Stream.RGB: _Lane(depth, delay=0),
        }

    def add(self, stream: Stream, item: T, stamp: int, arrival: int) -> list[Pair[T]]:
        """Take one frame and return the pairs that are now certain, oldest first.

        Args:
            stream: where the frame comes from.
            item: what the pair shall hold; never looked into.
            stamp: capture time in ns. A stamp that is not after the last one of its stream is refused and counted,
                unless it lies more than ``REORDER_LIMIT`` back: then the stream starts a new lap.
            arrival: monotonic time of reception in ns, never decreasing from call to call.
        """
        self._lanes[stream].receive(item, stamp, arrival)
        return self.expire(arrival)

    def expire(self, now: int) -> list[Pair[T]]:
        """Settle what has waited for ``max_wait`` at the monotonic time ``now`` in ns; return the pairs made of it.

        Needed only when both streams may fall silent: ``add`` does the same.
        """
        pairs: list[Pair[T]] = []
        while self._settle_oldest(now, pairs):
            pass
        return pairs

    def counts(self, stream: Stream) -> StreamCounts:
        """The account of one stream so far."""
        lane = self._lanes[stream]
        return StreamCounts(lane.received, lane.paired, dict(lane.dropped), len(lane.waiting))

    def _settle_oldest(self, now: int, pairs: list[Pair[T]]) -> bool:
        """Decide about the oldest waiting frame; false when that needs frames or time yet to come."""
        early, late = sorted(self._lanes.values(), key=_Lane.position)
        if not early.waiting:
            # `early` is a lap behind. If it does not jump in time it never will: it is taken along.
            if not late.waiting or not self._expired(late.waiting[0], now):
                return False
            early.join_lap(late.waiting[0].lap)
        elif late.position()[0] > early.waiting[0].lap:
            early.drop_oldest(DropReason.STAMP_JUMP)
        elif not late.waiting:
            if not self._expired(early.waiting[0], now):
                return False
            early.drop_oldest(DropReason.NO_PARTNER)
        else:
            return self._match_oldest(early, late, now, pairs)
        return True

    def _match_oldest(self, early: _Lane[T], late: _Lane[T], now: int, pairs: list[Pair[T]]) -> bool:
        """Decide about the oldest frames of both streams, of one lap; false when the successor has to be seen."""
        frame, partner = early.waiting[0], late.waiting[0]
        gap = partner.stamp - frame.stamp
        fits = gap <= self._max_gap
        period = early.period
        # A frame that does not fit is of no use, so that any nearer successor is preferred to it.
        tolerance = period // _TOLERANCE_DIVISOR if period and fits else 0

        def is_nearer(successor: int) -> bool:
            return abs(partner.stamp - successor) + tolerance < gap

        if len(early.waiting) > 1:
            if is_nearer(early.waiting[1].stamp):  # never one of the next lap: it lies before `early`
                early.drop_oldest(DropReason.NO_PARTNER)
                return True
        else:
            foreseen = gap == 0 or (fits and period is not None and not is_nearer(frame.stamp + period))
            if not foreseen and not self._expired(frame, now) and not self._expired(partner, now):
                return False

        if not fits:
            early.drop_oldest(DropReason.GAP_TOO_LARGE)
            late.drop_oldest(DropReason.GAP_TOO_LARGE)
        else:
            pairs.append(self._pair_oldest(now))
        return True

    def _pair_oldest(self, now: int) -> Pair[T]:
        thermal, rgb = self._lanes[Stream.THERMAL].take_oldest(), self._lanes[Stream.RGB].take_oldest()
        return Pair(thermal.item, rgb.item, thermal.stamp - rgb.stamp, now)

    def _expired(self, frame: _Waiting[T], now: int) -> bool:
        return now - frame.arrival >= self._max_wait


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    item: T
    stamp: int
    arrival: int
    lap: int


class _Lane(Generic[T]):
    """One stream: its waiting frames in the order of laps and stamps, its period, its account."""

    def __init__(self, depth: int, delay: int) -> None:
        self.waiting: deque[_Waiting[T]] = deque()
        self.received = 0
        self.paired = 0
        self.dropped: Counter[DropReason] = Counter()
        self._depth = depth
        self._delay = delay
        self._lap = 0
        self._newest: int | None = None
        self._intervals: deque[int] = deque(maxlen=_INTERVALS_KEPT)

    @property
    def period(self) -> int | None:
        """Median of the last intervals in ns; ``None`` while too few are known."""
        return median_low(self._intervals) if len(self._intervals) >= _INTERVALS_NEEDED else None

    def position(self) -> tuple[int, float]:
        """Lap and stamp of the oldest waiting frame, or where the stream is when none waits."""
        return (self.waiting[0].lap, self.waiting[0].stamp) if self.waiting else (self._lap, math.inf)

    def receive(self, item: T, stamp: int, arrival: int) -> None:
        """Queue a frame, or count why it is refused."""
        self.received += 1
        refusal = self._refusal(stamp)
        if refusal:
            self.dropped[refusal] += 1
            return
        stamp -= self._delay
        if self._newest is not None:
            if stamp < self._newest:
                self._lap += 1
            else:
                self._intervals.append(stamp - self._newest)
        self._newest = stamp
        if len(self.waiting) == self._depth:
            self.drop_oldest(DropReason.OVERFLOW)
        self.waiting.append(_Waiting(item, stamp, arrival, self._lap))

    def _refusal(self, stamp: int) -> DropReason | None:
        if stamp <= 0:
            return DropReason.NO_STAMP
        behind = -1 if self._newest is None else self._newest - (stamp - self._delay)
        if behind == 0:
            return DropReason.DUPLICATE_STAMP
        return DropReason.LATE if 0 < behind <= REORDER_LIMIT else None

    def drop_oldest(self, reason: DropReason) -> None:
        """Give up the oldest waiting frame."""
        self.waiting.popleft()
        self.dropped[reason] += 1

    def take_oldest(self) -> _Waiting[T]:
        """Hand out the oldest waiting frame, which has found its partner."""
        self.paired += 1
        return self.waiting.popleft()

    def join_lap(self, lap: int) -> None:
        """Start a lap without having jumped: whatever stamp comes next is its first."""
        self._lap = lap
        self._newest = None
