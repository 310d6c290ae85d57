"""By how much the stamps of one camera are late against the other's, from the motion that both have seen.

Both cameras sit on one mount. The way that the picture of the slower one has come between two of its frames is
predicted from the path of the faster one between the same two moments, once for every delay that the stamps may have;
the delay that predicts best is the answer. Comparing ways over whole intervals, not speeds, makes the different rates
exact: what a 9 Hz camera does not see between two frames is summed up in the path of the 30 Hz one as well. Directions
and scale need not agree, since the best linear map from one to the other is fitted: lenses differ, and a camera may be
mounted upside down.

The camera itself has to move. What moves in front of a camera that stands still does not tell: the two views end at
different places, so that a person enters one before the other, and how much of each picture changes follows that, not
the clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irvf.imaging.motion import MotionSignal, Vector

MAX_DELAY = 0.5
"""Largest delay in seconds that is looked for, to either side."""
MIN_CONFIDENCE = 0.3
MAX_UNCERTAINTY = 0.02
"""Standard error in seconds beyond which an estimate is refused."""
MIN_MOTION = 0.15
"""Least motion of the camera, in thumbnail pixels (root mean square from frame to frame of the slower one)."""

_Mask = NDArray[np.bool_]

_GRID = 0.01
_FINE_GRID = 0.0005
_FEWEST_INTERVALS = 20
_MAX_INTERVAL = 2.5  # of the usual interval between frames: what is longer is a gap
_SHORTEST_WAY = 0.1  # seconds over which ways are compared
_LONGEST_BRIDGE = 0.15  # seconds without a frame over which the path of the faster stream is still interpolated
_FITS = 3  # of which the later ones leave out what does not agree: a shutter, a car that fills the picture
_KEPT = 0.9


@dataclass(frozen=True)
class DelayEstimate:
    """What was found.

    Attributes:
        accepted: whether ``delay`` can be relied on.
        delay: seconds by which thermal stamps are late against RGB stamps of the same moment; negative where RGB
            stamps are. The best that was found, also where it is refused; 0 where nothing could be compared.
        uncertainty: its standard error in seconds, from the part of the motion that is not explained.
        confidence: 0..1: the share of the slower camera's motion that this delay explains, less the share that the
            best quite different delay does.
        reason: what it rests on, or why it is refused.
    """

    accepted: bool
    delay: float
    uncertainty: float
    confidence: float
    reason: str

    @classmethod
    def refused(cls, reason: str) -> DelayEstimate:
        """Return the answer that nothing could be compared, and why."""
        return cls(accepted=False, delay=0.0, uncertainty=MAX_DELAY, confidence=0.0, reason=reason)


def estimate_delay(thermal: MotionSignal, rgb: MotionSignal, around: float = 0.0) -> DelayEstimate:
    """Estimate the delay between two streams from some seconds of their motion.

    Args:
        thermal: motion of the thermal stream, by its own stamps.
        rgb: likewise.
        around: delay in seconds to search around, :data:`MAX_DELAY` to either side; for clocks that differ by more.
    """
    for name, signal in (("thermal", thermal), ("RGB", rgb)):
        if len(signal.stamps) < _FEWEST_INTERVALS:
            return DelayEstimate.refused(
                f"only {len(signal.stamps)} {name} frames, {_FEWEST_INTERVALS} are needed: ask for more time, and see "
                "that the stream runs"
            )
    thermal = replace(thermal, stamps=thermal.stamps - around)
    if _period(thermal) >= _period(rgb):
        estimate = compare_motion(thermal, rgb)
    else:
        estimate = compare_motion(rgb, thermal)
        estimate = replace(estimate, delay=-estimate.delay)
    return replace(estimate, delay=estimate.delay + around)


def _period(signal: MotionSignal) -> float:
    return float(np.median(np.diff(signal.stamps)))


def compare_motion(slow: MotionSignal, fast: MotionSignal) -> DelayEstimate:
    """Find by how much the stamps of ``slow`` are late against those of ``fast``.

    Args:
        slow: motion of the stream with the lower rate.
        fast: motion of the other one.
    """
    comparison = _compared(slow, fast)
    if isinstance(comparison, str):
        return DelayEstimate.refused(comparison)
    measured = comparison.measured
    motion = float(np.sqrt(np.mean(np.sum((measured - measured.mean(0)) ** 2, axis=1))))
    if motion < MIN_MOTION:
        return DelayEstimate.refused(
            f"the camera hardly moves ({motion:.2f} of 160 pixels from frame to frame, {MIN_MOTION} are needed): "
            "turn it to and fro by hand, slowly and irregularly, while asking"
        )
    return _search(comparison)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """What was measured by the slow stream, ``[n x c]``, and what the fast one predicts of it for a delay.

    ``overlap`` intervals cover each moment.
    """

    measured: Vector
    overlap: int
    predicted: Callable[[float], Vector]


def _compared(slow: MotionSignal, fast: MotionSignal) -> _Comparison | str:
    """Set the ways from frame to frame against each other, or say why that cannot be done."""
    # From one frame of a fast camera to the next it has come no further than the noise.
    span = max(1, min(round(_SHORTEST_WAY / _period(slow)), len(slow.stamps) // 2))
    starts, ends = slow.stamps[:-span], slow.stamps[span:]
    good = _usable(starts, ends, fast.stamps)
    if np.count_nonzero(good) < _FEWEST_INTERVALS:
        return _too_few(good)
    starts, ends = starts[good], ends[good]
    position = _Curve(fast.stamps, fast.path)
    ways = (slow.path[span:] - slow.path[:-span])[good]
    return _Comparison(ways, span, lambda delay: position(ends - delay) - position(starts - delay))


def _usable(starts: Vector, ends: Vector, fast: Vector) -> _Mask:
    """Say which intervals are no gap, and lie where the fast stream has none, whatever the delay."""
    lengths, periods = ends - starts, np.diff(fast)
    good = (
        (lengths <= _MAX_INTERVAL * np.median(lengths))
        & (starts - MAX_DELAY >= fast[0])
        & (ends + MAX_DELAY <= fast[-1])
    )
    for gap in np.flatnonzero(periods > max(_MAX_INTERVAL * float(np.median(periods)), _LONGEST_BRIDGE)):
        good &= (ends + MAX_DELAY < fast[gap]) | (starts - MAX_DELAY > fast[gap + 1])
    return np.asarray(good)


def _too_few(good: _Mask) -> str:
    return (
        f"only {np.count_nonzero(good)} intervals between frames can be compared, {_FEWEST_INTERVALS} are needed: "
        "the streams hardly overlap, or frames are missing; ask for more time"
    )


class _Curve:
    """A smooth curve along samples: cubic B-splines over them, sampled evenly before.

    A curve that goes through noisy samples is less noisy between them than at them, which draws the delay to where the
    frames of one camera fall between those of the other. This one smooths everywhere alike.
    """

    def __init__(self, times: Vector, values: Vector) -> None:
        self._start, self._period = float(times[0]), float(np.median(np.diff(times)))
        self._count = int((times[-1] - times[0]) / self._period) + 1
        even = self._start + np.arange(self._count) * self._period
        self._values = np.stack([np.interp(even, times, channel) for channel in values.T], axis=1)

    def __call__(self, times: Vector) -> Vector:
        position = (times - self._start) / self._period
        index = np.floor(position).astype(int)
        u = (position - index)[:, None]
        weights = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, 3 * (u + 1 - u**2) * u + 1, u**3)
        total = np.zeros((len(times), self._values.shape[1]))
        for offset, weight in enumerate(weights, start=-1):
            total += weight / 6 * self._values[np.clip(index + offset, 0, self._count - 1)]
        return total


def _fit(comparison: _Comparison, delay: float, used: _Mask) -> tuple[float, Vector, Vector]:
    """Return the share of the motion that a delay explains, the map from predicted to measured, and what is left."""
    measured = comparison.measured
    predicted = comparison.predicted(delay)
    centred = predicted - predicted[used].mean(0)
    target = measured - measured[used].mean(0)
    matrix = np.linalg.lstsq(centred[used], target[used], rcond=None)[0]
    left = target - centred @ matrix
    total = float(np.sum(target[used] ** 2))
    return (1 - float(np.sum(left[used] ** 2)) / total if total > 0 else 0.0), matrix, left


def _search(comparison: _Comparison) -> DelayEstimate:
    """Try all delays, and judge the best."""
    used = np.ones(len(comparison.measured), bool)
    grid = np.arange(-MAX_DELAY, MAX_DELAY + _GRID / 2, _GRID)
    for _ in range(_FITS):
        explained = np.array([_fit(comparison, delay, used)[0] for delay in grid])
        best = int(np.argmax(explained))
        left = np.linalg.norm(_fit(comparison, grid[best], used)[2], axis=1)
        used = left <= np.quantile(left, _KEPT)
    fine = np.arange(grid[best] - _GRID, grid[best] + _GRID + _FINE_GRID / 2, _FINE_GRID)
    shares = np.array([_fit(comparison, delay, used)[0] for delay in fine])
    delay = float(np.clip(fine[int(np.argmax(shares))], -MAX_DELAY, MAX_DELAY))
    share = float(shares.max())
    uncertainty = _standard_error(comparison, delay, used)
    confidence = max(0.0, min(1.0, share) - _second(explained, best))
    reason = ""
    if best in (0, len(grid) - 1):
        reason = f"the best delay lies at the end of what was searched, {MAX_DELAY} s: the clocks of the cameras differ"
    elif confidence < MIN_CONFIDENCE:
        reason = (
            f"the motion of one camera explains {share:.0%} of the other's, and nearly as much with quite another "
            f"delay (confidence {confidence:.2f}, {MIN_CONFIDENCE} is needed): turn the camera irregularly while asking"
        )
    elif uncertainty > MAX_UNCERTAINTY:
        reason = f"the delay is uncertain by {uncertainty * 1000:.0f} ms: move the camera more, or ask for more time"
    return DelayEstimate(
        accepted=not reason,
        delay=delay,
        uncertainty=uncertainty,
        confidence=confidence,
        reason=reason or f"{share:.0%} of the motion explained over {int(used.sum())} intervals",
    )


def _second(explained: Vector, best: int) -> float:
    """Return the largest value outside of the main peak, at least 0."""
    left = best
    while left > 0 and explained[left - 1] <= explained[left]:
        left -= 1
    right = best
    while right < len(explained) - 1 and explained[right + 1] <= explained[right]:
        right += 1
    outside = [*explained[:left], *explained[right + 1 :]]
    return max(0.0, *outside) if outside else 0.0


def _standard_error(comparison: _Comparison, delay: float, used: _Mask) -> float:
    """Linearise the prediction about the delay, and let what is unexplained move it."""
    _, matrix, left = _fit(comparison, delay, used)
    change = (comparison.predicted(delay + _GRID) - comparison.predicted(delay - _GRID)) @ matrix / (2 * _GRID)
    change = (change - change[used].mean(0))[used]
    information = float(np.sum(change**2))
    if information <= 0:
        return MAX_DELAY
    freedom = max(1, left[used].size / comparison.overlap - matrix.size - 1)
    return min(MAX_DELAY, float(np.sqrt(np.sum(left[used] ** 2) / freedom / information)))
