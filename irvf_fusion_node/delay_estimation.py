"""Estimates, while the node runs, by how much one camera's stamps are late against the other's.

The executor's thread only leaves messages; a thread of its own measures their motion for some seconds
(``irvf/imaging/motion.py``), compares both (``irvf/imaging/delay.py``), and answers once.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Generic, NamedTuple, TypeVar

from irvf.frames import Frame
from irvf.imaging.delay import MAX_DELAY, DelayEstimate, estimate_delay
from irvf.imaging.errors import FrameError
from irvf.imaging.motion import MotionRecording
from irvf_fusion_node.stream_lane import Stream

T = TypeVar("T")

SHORTEST, LONGEST = 5.0, 60.0
"""Seconds that may be asked for."""
_QUEUE_LENGTH = 8
_OFFSETS_KEPT = 100
_LOOK_EVERY = 0.2

_logger = logging.getLogger(__name__)


class _Offer(NamedTuple, Generic[T]):
    stream: Stream
    item: T
    stamp: int


class DelayEstimation(Generic[T]):
    """One estimation of the delay between the streams, from the frames of the next ``seconds``.

    Args:
        seconds: how long frames are taken, by the monotonic clock.
        to_frame: makes a frame of an item; called in the thread. What it raises as :class:`FrameError` is skipped.
        done: called once with the answer, in the thread: when the time is over, after ``stop``, and after an error.

    Raises:
        ValueError: for seconds out of ``SHORTEST`` to ``LONGEST``.
    """

    def __init__(self, seconds: float, to_frame: Callable[[T], Frame], done: Callable[[DelayEstimate], None]) -> None:
        if not SHORTEST <= seconds <= LONGEST:
            raise ValueError(f"an estimation over {seconds:g} s; it takes {SHORTEST:g} to {LONGEST:g} s")
        self._seconds = seconds
        self._to_frame = to_frame
        self._done = done
        self._offers: queue.Queue[_Offer[T]] = queue.Queue(_QUEUE_LENGTH)
        self._stop = threading.Event()
        self._recordings = {stream: MotionRecording() for stream in Stream}
        # How far the newest stamps are apart: clocks that differ by more than transport does show here.
        self._newest: dict[Stream, int] = {}
        self._apart: deque[int] = deque(maxlen=_OFFSETS_KEPT)
        self._skipped: Counter[Stream] = Counter()
        self._thread = threading.Thread(target=self._run, name="delay estimation", daemon=True)

    @property
    def skipped(self) -> Mapping[Stream, int]:
        """Frames of each stream that were not looked at: too many at a time, or not readable."""
        return dict(self._skipped)

    @property
    def running(self) -> bool:
        """Whether the answer is still to come."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take frames."""
        self._thread.start()

    def offer(self, stream: Stream, item: T, stamp: int) -> None:
        """Leave a frame to be looked at; returns at once, whether there is room for it or not.

        Args:
            stream: where it comes from.
            item: what ``to_frame`` takes; kept for some tenths of a second.
            stamp: its own, in ns, without any correction.
        """
        if self._stop.is_set():
            return
        self._newest[stream] = stamp
        if len(self._newest) == len(Stream):
            self._apart.append(self._newest[Stream.THERMAL] - self._newest[Stream.RGB])
        try:
            self._offers.put_nowait(_Offer(stream, item, stamp))
        except queue.Full:
            self._skipped[stream] += 1

    def stop(self, timeout: float | None = None) -> bool:
        """End early; the answer is then a refusal. Return whether the thread has ended within ``timeout`` seconds."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            estimate = self._estimate()
        except Exception as error:
            _logger.exception("estimation of the delay failed")
            estimate = DelayEstimate.refused(f"the estimation failed: {error}")
        self._stop.set()
        self._done(estimate)

    def _estimate(self) -> DelayEstimate:
        end = time.monotonic() + self._seconds
        while (left := end - time.monotonic()) > 0:
            if self._stop.is_set():
                return DelayEstimate.refused("the estimation was stopped")
            try:
                offer = self._offers.get(timeout=min(left, _LOOK_EVERY))
            except queue.Empty:
                continue
            self._record(offer)
        silent = [stream.value for stream in Stream if not len(self._recordings[stream])]
        if silent:
            return DelayEstimate.refused(
                f"no {' and no '.join(silent)} frames came in {self._seconds:g} s: both streams are needed"
            )
        self._stop.set()  # what comes now comes too late
        thermal, rgb = (self._recordings[stream].signal() for stream in (Stream.THERMAL, Stream.RGB))
        return estimate_delay(thermal, rgb, self._rough_delay())

    def _record(self, offer: _Offer[T]) -> None:
        try:
            frame = self._to_frame(offer.item)
            self._recordings[offer.stream].add(replace(frame, stamp=offer.stamp))
        except FrameError:
            self._skipped[offer.stream] += 1

    def _rough_delay(self) -> float:
        """Return in seconds by how much the clocks differ where that is more than transport can be; else 0."""
        rough = median(list(self._apart)) / 1e9
        return rough if abs(rough) > MAX_DELAY else 0.0
