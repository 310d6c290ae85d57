"""One stream of stamped frames on its way to be paired: its queue, its laps, its rhythm and its account.

A stamp is taken at its word only where it follows those before it. One that lies far behind or far ahead of them is
held back until something speaks for it: the next frame goes on from there, or the other stream is there already. Then
the stream has jumped (a looping bag, a clock that was set, a seek), and a new lap begins with the frame held back. If
the next frame goes on from where the stream was, the stamp was a mistake, and has cost nothing but its own frame.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from math import inf
from statistics import median_low
from typing import Generic, TypeVar

T = TypeVar("T")

REORDER_LIMIT = 200_000_000
"""A stamp up to this far (ns) behind the newest of its stream is a late frame; one further behind is a jump."""
ADVANCE_LIMIT = 1_000_000_000
"""A stamp that has advanced by this much (ns) more than the time between the arrivals is a jump, unless the frames of
its stream lie that far apart."""
_INTERVALS_KEPT = 15
_INTERVALS_NEEDED = 3
_PERIODS_OF_A_JUMP = 4


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
    """Stamped where its stream is not (a single wild stamp), or in a lap that one of the streams has left."""
    OVERTAKEN = "overtaken"
    """A frame of the other stream that was captured later has gone out alone."""
    OVERFLOW = "overflow"
    """The oldest waiting frame, when its stream had no room for another one."""
    NO_STAMP = "no_stamp"
    """Stamp zero or negative: the driver does not fill it."""


@dataclass(frozen=True)
class StreamCounts:
    """What became of a stream's frames: ``received == paired + alone + sum(dropped.values()) + waiting``, at any time.

    Attributes:
        received: frames given.
        paired: frames in pairs.
        alone: frames handed out without a partner while the other stream was lost.
        dropped: frames given up, by reason.
        waiting: frames undecided.
    """

    received: int
    paired: int
    alone: int
    dropped: Mapping[DropReason, int]
    waiting: int


@dataclass(frozen=True)
class Waiting(Generic[T]):
    """A frame that waits: ``stamp`` without the stream's delay, and the lap that it belongs to."""

    item: T
    stamp: int
    arrival: int
    lap: int


@dataclass(frozen=True)
class _Mark:
    """Where a stream was, or may be: the stamp (delay removed) and the arrival of a frame."""

    stamp: int
    arrival: int


class Lane(Generic[T]):
    """One stream: its waiting frames in the order of laps and stamps, its periods, its account.

    Args:
        depth: most frames that wait, the one held back included.
        delay: ns by which its stamps are late; removed from all stamps inside.

    Attributes:
        waiting: the frames whose stamps are believed, oldest first.
        lap: of the newest of them.
    """

    def __init__(self, depth: int, delay: int) -> None:
        self.waiting: deque[Waiting[T]] = deque()
        self.lap = 0
        self._depth = depth
        self._delay = delay
        self._newest: _Mark | None = None
        self._jump: _Mark | None = None  # where the stream may have jumped to
        self._held: tuple[T, ...] = ()  # the one frame that says so, until it is believed or given up
        self._last_arrival: int | None = None
        self._intervals: deque[int] = deque(maxlen=_INTERVALS_KEPT)
        self._arrival_intervals: deque[int] = deque(maxlen=_INTERVALS_KEPT)
        self._received = 0
        self._paired = 0
        self._alone = 0
        self._dropped: Counter[DropReason] = Counter()

    @property
    def period(self) -> int | None:
        """Median of the last intervals between stamps in ns; ``None`` while too few are known."""
        return _median(self._intervals)

    @property
    def arrival_period(self) -> int | None:
        """The same of arrivals: what a bag at half speed shows twice as long."""
        return _median(self._arrival_intervals)

    @property
    def newest(self) -> int | None:
        """Stamp (delay removed) of the newest frame that is believed; ``None`` before one in this lap."""
        return None if self._newest is None else self._newest.stamp

    @property
    def doubtful(self) -> int | None:
        """Stamp (delay removed) of the frame that is held back; ``None`` where there is none."""
        return self._jump.stamp if self._jump is not None and self._held else None

    @property
    def last_arrival(self) -> int | None:
        """Arrival of the last usable frame in ns; ``None`` before the first."""
        return self._last_arrival

    @property
    def successor(self) -> Waiting[T] | None:
        """The frame that follows the oldest waiting one in its lap; ``None`` where none has come."""
        if len(self.waiting) > 1 and self.waiting[1].lap == self.waiting[0].lap:
            return self.waiting[1]
        return None

    @property
    def delay(self) -> int:
        """By how many ns stamps are late; what waits is moved along when it is set."""
        return self._delay

    @delay.setter
    def delay(self, delay: int) -> None:
        shift = self._delay - delay
        self._delay = delay
        self.waiting = deque(replace(frame, stamp=frame.stamp + shift) for frame in self.waiting)
        self._newest, self._jump = (
            mark and replace(mark, stamp=mark.stamp + shift) for mark in (self._newest, self._jump)
        )

    def counts(self) -> StreamCounts:
        """The account so far."""
        waiting = len(self.waiting) + len(self._held)
        return StreamCounts(self._received, self._paired, self._alone, dict(+self._dropped), waiting)

    def position(self) -> tuple[int, float]:
        """Lap and stamp of the oldest waiting frame, or where the stream is when none waits."""
        return (self.waiting[0].lap, self.waiting[0].stamp) if self.waiting else (self.lap, inf)

    def receive(self, item: T, stamp: int, arrival: int) -> None:
        """Queue a frame, hold it back, or count why it is refused."""
        self._received += 1
        if stamp <= 0:
            self._dropped[DropReason.NO_STAMP] += 1
            return
        mark = _Mark(stamp - self._delay, arrival)
        newest = self._newest
        if self._jump is not None and self._goes_on_from_jump(mark, self._jump):
            self.believe_jump()
        elif newest is not None and 0 <= newest.stamp - mark.stamp <= REORDER_LIMIT:
            self._dropped[DropReason.LATE if mark.stamp < newest.stamp else DropReason.DUPLICATE_STAMP] += 1
            return
        elif newest is not None and self._jumps(newest, mark):
            self._doubt(item, mark)
            return
        else:
            self._disbelieve()  # the stream goes on from where it was
        self._append(item, mark)

    def _goes_on_from_jump(self, mark: _Mark, jump: _Mark) -> bool:
        if self._newest is not None and jump.stamp < self._newest.stamp <= mark.stamp:
            return False
        return mark.stamp > jump.stamp and not self._jumps(jump, mark)

    def _jumps(self, before: _Mark, mark: _Mark) -> bool:
        advance = mark.stamp - before.stamp
        if advance < 0:
            return -advance > REORDER_LIMIT
        return (
            advance - (mark.arrival - before.arrival) > ADVANCE_LIMIT
            and advance > (self.period or 0) * _PERIODS_OF_A_JUMP
        )

    def _doubt(self, item: T, mark: _Mark) -> None:
        if self.doubtful == mark.stamp:
            self._dropped[DropReason.DUPLICATE_STAMP] += 1
            return
        self._disbelieve()
        self._jump, self._held = mark, (item,)
        self._make_room()

    def _disbelieve(self) -> None:
        self._give_up_held()
        self._jump = None

    def _give_up_held(self) -> None:
        self._dropped[DropReason.STAMP_JUMP] += len(self._held)
        self._held = ()

    def expire_doubtful(self, deadline: int) -> None:
        """Give up a frame held back since ``deadline`` or before; where it was stays a place to go on from."""
        if self._held and self._jump is not None and self._jump.arrival <= deadline:
            self._give_up_held()

    def believe_jump(self) -> None:
        """Begin a new lap where the frame held back is, or was."""
        jump, held = self._jump, self._held
        self._jump, self._held = None, ()
        self.lap += 1
        # Each lap begins like the first, so that each lap of a bag is paired alike.
        self._newest = None
        self._intervals.clear()
        if jump is not None and held:
            self._append(held[0], jump)

    def _append(self, item: T, mark: _Mark) -> None:
        if self._newest is not None:
            self._intervals.append(mark.stamp - self._newest.stamp)
        if self._last_arrival is not None:
            self._arrival_intervals.append(mark.arrival - self._last_arrival)
        self._newest, self._last_arrival = mark, mark.arrival
        self.waiting.append(Waiting(item, mark.stamp, mark.arrival, self.lap))
        self._make_room()

    def _make_room(self) -> None:
        if len(self.waiting) + len(self._held) > self._depth:
            self.drop_oldest(DropReason.OVERFLOW)

    def drop_oldest(self, reason: DropReason) -> None:
        """Give up the oldest waiting frame."""
        self.waiting.popleft()
        self._dropped[reason] += 1

    def take_oldest(self, *, alone: bool = False) -> Waiting[T]:
        """Hand out the oldest waiting frame: it has found its partner, or goes without one."""
        if alone:
            self._alone += 1
        else:
            self._paired += 1
        return self.waiting.popleft()

    def join_lap(self, lap: int) -> None:
        """Start a lap without having jumped: whatever stamp comes next is its first."""
        self.lap = lap
        self._newest = None

    def move_to_lap(self, lap: int) -> None:
        """Give the present lap another number; frames of laps before it are given up."""
        while self.waiting and self.waiting[0].lap != self.lap:
            self.drop_oldest(DropReason.STAMP_JUMP)
        self.lap = lap
        self.waiting = deque(replace(frame, lap=lap) for frame in self.waiting)


def _median(intervals: deque[int]) -> int | None:
    return median_low(intervals) if len(intervals) >= _INTERVALS_NEEDED else None
