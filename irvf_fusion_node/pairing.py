"""Nearest-stamp pairing of the thermal and the RGB stream, with an account of every frame.

A thermal and an RGB frame become a pair when each is the nearest free frame of its stream to the other, and they lie
no more than ``max_gap`` apart. Frames are settled in the order of their stamps, so the decision is always about the
two oldest waiting frames, `early` and `late`: only the frame that follows `early` in its own stream, its successor,
can be nearer to `late`. A successor that has not arrived is expected one period after `early`; the two frames wait
for it only if it would then be the nearer one.

"Nearer" means nearer by an eighth of the stream's period. Two free-running cameras of equal rate drift through the
phase where each frame lies half way between two of the other; without that tolerance the noise of the stamps would
decide there, and a sixth of the frames would stay alone.

A stream whose stamps jump starts a new lap (``stream_lane.py`` decides when they do). Frames pair within one lap only,
and the stream that is behind finishes its lap first, so that each lap of a bag yields the same pairs. Streams that
are in different laps and yet at the same time are brought into one lap at once: only one of them had jumped, and has
come back.

A stream without a usable frame for ``loss_after`` is lost. Where that is allowed, the other one's frames then go out
alone, each as it arrives, until the lost stream comes again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from irvf_fusion_node.stream_lane import REORDER_LIMIT, DropReason, Lane, Stream, StreamCounts, Waiting

__all__ = ["REORDER_LIMIT", "DropReason", "Pair", "Single", "StampPairer", "Stream", "StreamCounts"]

T = TypeVar("T")

_TOLERANCE_DIVISOR = 8
_FASTEST_STREAM_HZ = 120
_LEAST_DEPTH = 20
_PERIODS_OF_A_LOSS = 3


@dataclass(frozen=True)
class Pair(Generic[T]):
    """Two items of (nearly) the same moment.

    Attributes:
        thermal: item of the thermal stream.
        rgb: item of the RGB stream.
        gap: thermal minus RGB stamp in ns, the delays removed.
        formed: monotonic time in ns at which the pair was certain.
    """

    thermal: T
    rgb: T
    gap: int
    formed: int


@dataclass(frozen=True)
class Single(Generic[T]):
    """An item of one stream while the other is lost.

    Attributes:
        stream: where it comes from.
        item: as it was added.
        stamp: its moment in ns as an RGB frame would have been stamped; the item's own stamp for RGB.
        formed: monotonic time in ns at which it was handed out.
    """

    stream: Stream
    item: T
    stamp: int
    formed: int


class StampPairer(Generic[T]):
    """Pairs the items of two streams by their stamps.

    Not thread-safe: all calls come from the one executor thread. Memory is bounded by ``depth`` items a stream.

    Args:
        max_gap: largest distance of a pair's stamps in ns, at least 0.
        max_wait: longest time in ns, by arrival, that a frame waits for a partner or for a nearer frame. It must
            exceed the difference of the two streams' transport times.
        thermal_delay: ns by which thermal stamps are later than the moment they mean; may be negative.
        rgb_delay: likewise. Pairing depends on ``thermal_delay - rgb_delay`` alone.
        loss_after: ns, by arrival, without a usable frame after which a stream is lost; a slow stream is, after three
            of its periods.
        alone: streams whose frames go out alone while the other one is lost.
        depth: most items of a stream that wait; ``None`` for as many as a stream of 120 Hz sends in ``max_wait``, and
            at least 20.

    Raises:
        ValueError: for a value out of its range.
    """

    def __init__(
        self,
        max_gap: int,
        *,
        max_wait: int = 300_000_000,
        thermal_delay: int = 0,
        rgb_delay: int = 0,
        loss_after: int = 500_000_000,
        alone: Collection[Stream] = (),
        depth: int | None = None,
    ) -> None:
        if depth is None:
            depth = max(_LEAST_DEPTH, math.ceil(max_wait / 1e9 * _FASTEST_STREAM_HZ))
        if max_gap < 0 or max_wait <= 0 or loss_after <= 0 or depth < 2:
            raise ValueError(
                "max_gap must be >= 0, max_wait and loss_after > 0, and depth >= 2, "
                f"not {max_gap} ns, {max_wait} ns, {loss_after} ns and {depth}"
            )
        self._max_gap = max_gap
        self._max_wait = max_wait
        self._loss_after = loss_after
        self._alone = frozenset(alone)
        self._thermal: Lane[T] = Lane(depth, thermal_delay)
        self._rgb: Lane[T] = Lane(depth, rgb_delay)
        self._lanes = {Stream.THERMAL: self._thermal, Stream.RGB: self._rgb}
        self._began: int | None = None
        self._lost: dict[Stream, int] = {}
        self._there_since: dict[Stream, int] = {}  # arrival of the first frame after the last loss
        self._last_output: tuple[int, int] | None = None  # lap, and moment as RGB frames are stamped

    @property
    def lost(self) -> Mapping[Stream, int]:
        """The streams that were lost at the last ``add`` or ``expire``, each with the monotonic time in ns since when.

        That is the arrival of its last usable frame, or the first call here where there was none.
        """
        return dict(self._lost)

    def delay(self, stream: Stream) -> int:
        """By how many ns the stream's stamps are taken to be late."""
        return self._lanes[stream].delay

    def set_delay(self, stream: Stream, delay: int) -> None:
        """Take the stream's stamps to be late by ``delay`` ns from now on, those of waiting frames included.

        The account goes on. What the change makes certain is handed out by the next ``add`` or ``expire``.
        """
        self._lanes[stream].delay = delay

    def add(self, stream: Stream, item: T, stamp: int, arrival: int) -> list[Pair[T] | Single[T]]:
        """Take one frame and return what is now certain, oldest first.

        Args:
            stream: where the frame comes from.
            item: what the pair shall hold; never looked into.
            stamp: capture time in ns. A stamp that is not after the last one of its stream is refused and counted,
                unless it lies more than ``REORDER_LIMIT`` back: then the stream starts a new lap, once that is sure.
            arrival: monotonic time of reception in ns, never decreasing from call to call.
        """
        self._lanes[stream].receive(item, stamp, arrival)
        self._compare_laps()
        return self.expire(arrival)

    def expire(self, now: int) -> list[Pair[T] | Single[T]]:
        """Settle what has waited for ``max_wait`` at the monotonic time ``now`` in ns; return what comes of it.

        Needed only when streams may fall silent: ``add`` does the same.
        """
        self._notice_losses(now)
        for lane in self._lanes.values():
            lane.expire_doubtful(now - self._max_wait)
        output: list[Pair[T] | Single[T]] = []
        while self._settle_alone(now, output) or self._settle_oldest(now, output):
            pass
        return output

    def counts(self, stream: Stream) -> StreamCounts:
        """The account of one stream so far."""
        return self._lanes[stream].counts()

    # Jumps and losses

    def _compare_laps(self) -> None:
        """Let each stream speak for a jump of the other, and bring both into one lap where they are at one time."""
        thermal, rgb = self._thermal, self._rgb
        if self._near(thermal.doubtful, rgb.doubtful):
            thermal.believe_jump()
            rgb.believe_jump()
        for lane, other in ((thermal, rgb), (rgb, thermal)):
            if self._near(lane.doubtful, other.newest) and not self._near(lane.newest, other.newest):
                lane.believe_jump()
        if thermal.lap != rgb.lap and self._near(thermal.newest, rgb.newest):
            behind, ahead = sorted((thermal, rgb), key=lambda lane: lane.lap)
            if self._last_output is not None and self._last_output[0] == behind.lap:
                self._last_output = (ahead.lap, self._last_output[1])
            behind.move_to_lap(ahead.lap)
            ahead.move_to_lap(ahead.lap)

    def _near(self, one: int | None, other: int | None) -> bool:
        """Whether two streams, of which one may come later by ``max_wait``, are at the same time with these stamps."""
        if one is None or other is None:
            return False
        return abs(one - other) <= self._max_wait + max(self._thermal.period or 0, self._rgb.period or 0)

    def _notice_losses(self, now: int) -> None:
        if self._began is None:
            self._began = now
        self._lost = {}
        for stream, lane in self._lanes.items():
            since = self._began if lane.last_arrival is None else lane.last_arrival
            if now - since >= max(self._loss_after, _PERIODS_OF_A_LOSS * (lane.arrival_period or 0)):
                self._lost[stream] = since
                self._there_since.pop(stream, None)
            elif lane.last_arrival is not None:
                self._there_since.setdefault(stream, lane.last_arrival)

    # Decisions, one frame or two at a time

    def _settle_alone(self, now: int, output: list[Pair[T] | Single[T]]) -> bool:
        """Hand out the oldest frame of a stream whose partner stream is lost; false when there is none."""
        for stream, other in ((Stream.RGB, Stream.THERMAL), (Stream.THERMAL, Stream.RGB)):
            lane = self._lanes[stream]
            if stream not in self._alone or stream in self._lost or other not in self._lost:
                continue
            # Where both had stopped, by a clock that stood still or at the start, the second has its time to come too.
            if now - self._there_since.get(stream, now) < self._loss_after:
                continue
            if lane.waiting and not self._lanes[other].waiting:
                if self._overtaken(lane.waiting[0]):
                    lane.drop_oldest(DropReason.OVERTAKEN)
                else:
                    frame = lane.take_oldest(alone=True)
                    output.append(Single(stream, frame.item, self._note_output(frame), now))
                return True
        return False

    def _overtaken(self, frame: Waiting[T]) -> bool:
        last = self._last_output
        return last is not None and frame.lap == last[0] and frame.stamp + self._rgb.delay <= last[1]

    def _note_output(self, frame: Waiting[T]) -> int:
        moment = frame.stamp + self._rgb.delay
        self._last_output = (frame.lap, moment)
        return moment

    def _settle_oldest(self, now: int, output: list[Pair[T] | Single[T]]) -> bool:
        """Decide about the oldest waiting frame; false when that needs frames or time yet to come."""
        early, late = sorted(self._lanes.values(), key=Lane.position)
        if not early.waiting:
            # `early` is a lap behind. If it does not jump in time it never will: it is taken along.
            if not late.waiting or not self._expired(late.waiting[0], now):
                return False
            early.join_lap(late.waiting[0].lap)
        elif self._rgb.waiting and self._overtaken(self._rgb.waiting[0]):
            self._rgb.drop_oldest(DropReason.OVERTAKEN)
        elif late.position()[0] > early.waiting[0].lap:
            early.drop_oldest(DropReason.STAMP_JUMP)
        elif not late.waiting:
            if not self._expired(early.waiting[0], now):
                return False
            early.drop_oldest(DropReason.NO_PARTNER)
        else:
            return self._match_oldest(early, late, now, output)
        return True

    def _match_oldest(self, early: Lane[T], late: Lane[T], now: int, output: list[Pair[T] | Single[T]]) -> bool:
        """Decide about the oldest frames of both streams, of one lap; false when the successor has to be seen."""
        frame, partner = early.waiting[0], late.waiting[0]
        gap = partner.stamp - frame.stamp
        fits = gap <= self._max_gap
        period = early.period
        # A frame that does not fit is of no use, so that any nearer successor is preferred to it.
        tolerance = period // _TOLERANCE_DIVISOR if period and fits else 0

        def is_nearer(successor: int) -> bool:
            return abs(partner.stamp - successor) + tolerance < gap

        successor = early.successor
        if successor is not None:
            if is_nearer(successor.stamp):
                early.drop_oldest(DropReason.NO_PARTNER)
                return True
        elif early.lap == frame.lap:  # else it has left the lap, and no successor comes
            foreseen = gap == 0 or (fits and period is not None and not is_nearer(frame.stamp + period))
            if not foreseen and not self._expired(frame, now) and not self._expired(partner, now):
                return False

        if not fits:
            early.drop_oldest(DropReason.GAP_TOO_LARGE)
            late.drop_oldest(DropReason.GAP_TOO_LARGE)
        else:
            output.append(self._pair_oldest(now))
        return True

    def _pair_oldest(self, now: int) -> Pair[T]:
        thermal, rgb = self._thermal.take_oldest(), self._rgb.take_oldest()
        self._note_output(rgb)
        return Pair(thermal.item, rgb.item, thermal.stamp - rgb.stamp, now)

    def _expired(self, frame: Waiting[T], now: int) -> bool:
        return now - frame.arrival >= self._max_wait
