"""Transfer functions: which grey level a thermal value is shown as, and how one becomes another without a jump.

Both kinds rise everywhere, so that warm stays bright. Both move toward a new one by blending grey levels, by as much as
leaves every pixel of the scene within a step of the level that it had: whatever enters or leaves the scene, no part of
it changes its brightness faster than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.imaging.thermal_cameras import RadiometricScale

MAX_STEP = 0.025
"""Largest change of the grey level of a value that is in the scene, from one frame to the next.

What darkens does so by this share of its level, so that a scene does not sink into the dark before a hot thing at once;
what brightens does so by this share of black to white, so that a scene that was dark is soon back.
"""
DARK = 0.1
"""Grey level below which the step of what darkens no longer shrinks."""
LINEAR_SHARE = 0.3
"""Share of the grey levels of :class:`Equalised` that rise linearly, so that what is much warmer is much brighter."""
BINS = 4096
"""Of the histogram, over the range of the scene and some room beyond it."""

_RESOLUTION = 1e-4  # smallest span in relation to the values, for which single precision still has a thousand steps
_MARGIN = 0.25  # of the range of the scene, that the bins reach beyond it, so that they can stay where they are
_MAX_ROOM = 3.0  # ranges of the scene that they may reach over before they are laid anew
_ENTRIES = 16384  # of the table that pixels are looked up in
_SMOOTHING = 5  # bins over which the histogram is smoothed at least: a sample leaves gaps
_OCCUPIED = 0.01  # of the mean density, from which on a bin counts as occupied

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Ends of the range of values that a scene is shown in."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """Width of the range."""
        return self.high - self.low

    def at_least(self, span: float) -> Limits:
        """Return a range of the same middle that is this wide, or what single precision can tell apart."""
        span = max(span, _RESOLUTION * max(abs(self.low), abs(self.high)))
        if self.span >= span:
            return self
        middle = (self.low + self.high) / 2
        return Limits(middle - span / 2, middle + span / 2)

    def covers(self, value: float) -> bool:
        """Say whether a value lies within, its ends included."""
        slack = 1e-9 * (abs(self.low) + abs(self.high))
        return self.low - slack <= value <= self.high + slack

    def and_also(self, other: Limits) -> Limits:
        """Return the range that covers this one and another."""
        return Limits(min(self.low, other.low), max(self.high, other.high))

    def toward(self, target: Limits, share: float) -> Limits:
        """Return the range that lies between this one and another."""
        return Limits(
            self.low + share * (target.low - self.low),
            self.high + share * (target.high - self.high),
        )


TransferT = TypeVar("TransferT", bound="Transfer")


class Transfer(Protocol):
    """A rising function from values to grey levels in 0..1."""

    @property
    def limits(self) -> Limits:
        """Values beyond which all is black, or white."""
        ...

    def toward(self: TransferT, target: TransferT, share: float, values: Values) -> TransferT:
        """Blend with another function.

        Args:
            target: of the same kind.
            share: of the way to go, 0..1; less where a level would change by more than :data:`MAX_STEP`.
            values: a sample of the scene.
        """
        ...

    def apply(self, image: NDArray[Any], unit: RadiometricScale) -> Plane:
        """Return the grey levels ``[H x W]`` of an image whose pixels times ``unit`` are values."""
        ...


@dataclass(frozen=True)
class Stretch:
    """A straight line: ``gain * value + bias``, limited to 0..1."""

    gain: float
    bias: float

    @classmethod
    def between(cls, limits: Limits) -> Stretch:
        """Return the line from black to white over a range."""
        return cls(1 / limits.span, -limits.low / limits.span)

    @property
    def limits(self) -> Limits:
        """Values that are black and white."""
        return Limits(-self.bias / self.gain, (1 - self.bias) / self.gain)

    def toward(self, target: Stretch, share: float, values: Values) -> Stretch:
        """Blend with another line; the result is a line."""
        level = self.gain * values + self.bias
        change = target.gain * values + target.bias - level
        # Beyond black and white a value may move as it likes: it only shows once it is back.
        shown = np.clip(level, 0.0, 1.0)
        lowest, highest = shown - _falls(shown), shown + MAX_STEP
        lowest, highest = np.where(lowest > 0, lowest, -np.inf), np.where(highest < 1, highest, np.inf)
        share = min(share, _allowed(change, lowest - level, highest - level))
        return Stretch(self.gain + share * (target.gain - self.gain), self.bias + share * (target.bias - self.bias))

    def apply(self, image: NDArray[Any], unit: RadiometricScale) -> Plane:
        """Return the grey levels of an image."""
        gain, bias = self.gain * unit.scale, self.gain * unit.offset + self.bias
        plane = cast("Plane", cv2.addWeighted(image, gain, image, 0.0, bias, dtype=cv2.CV_32F))
        clipped: Plane = np.clip(plane, 0.0, 1.0, out=plane)
        return clipped


@dataclass(frozen=True, eq=False)
class Equalised:
    """A curve that spends its grey levels where the pixels are: a histogram equalisation with a plateau.

    The histogram of the scene is cut off at a plateau and summed up to the curve, so that the large flat parts of a
    scene do not take all grey levels; a share of them rises linearly, and nowhere is the slope above a limit, so that
    the noise of a flat scene is not blown up. What is left of black to white is spent evenly on both ends.

    Source: FLIR, Tau 2 Camera Adjustments (102-PS242-100-01), 2.3 Plateau Histogram Equalization, for plateau, maximum
    gain, linear share and the filter over time; the normalisation by the range of the scene and the limit of the change
    are this program's.

    Attributes:
        room: values over which the knots of the curve are laid.
        levels: grey level at each knot, ``[BINS + 1]``, rising.
        limits: of the scene that the curve was made for.
    """

    room: Limits
    levels: Values
    limits: Limits

    @classmethod
    def of(
        cls,
        values: Values,
        limits: Limits,
        *,
        plateau: float,
        min_span: float,
        resolution: float,
        before: Equalised | None = None,
    ) -> Equalised:
        """Make the curve of a scene.

        Args:
            values: a sample of its pixels.
            limits: range of the scene without its outliers, at least ``min_span`` wide.
            plateau: share of the pixels, 0..1, that each of 256 equal parts of the occupied values counts at most.
            min_span: the curve is nowhere steeper than black to white over this range.
            resolution: smallest difference of two values, 0 where it is not known.
            before: curve of the frame before, whose knots are kept where they fit.
        """
        room = _room(limits, before)
        width = room.span / BINS
        inside = values[(values >= limits.low) & (values <= limits.high)]
        bins = np.minimum(((inside - room.low) * (1 / width)).astype(np.intp), BINS - 1)
        density = np.bincount(bins, minlength=BINS) / max(inside.size, 1)
        # A count can be many bins wide, and what lies between two counts belongs to both.
        box = max(_SMOOTHING, 2 * round(resolution / width / 2) + 1)
        density = cast("Values", cv2.blur(density[None], (box, 1), borderType=cv2.BORDER_REFLECT))[0]
        occupied = np.count_nonzero(density > _OCCUPIED * min(width / limits.span, 1.0))
        counted = np.minimum(density, plateau * 256 / occupied)
        edges = room.low + width * np.arange(BINS + 1)
        linear = np.diff(np.clip((edges - limits.low) / limits.span, 0.0, 1.0))
        rise = (1 - LINEAR_SHARE) * counted / counted.sum() + LINEAR_SHARE * linear
        rise = np.minimum(rise, width / min_span)
        levels = np.concatenate(([0.0], np.cumsum(rise)))
        return cls(room, levels + (1 - levels[-1]) / 2, limits)

    def _on(self, room: Limits) -> Values:
        """Return the levels at the knots of another room."""
        if room == self.room:
            return self.levels
        levels = np.interp(_knots(room), _knots(self.room), self.levels)
        levels[0], levels[-1] = self.levels[0], self.levels[-1]  # beyond the room, values keep the levels they had
        return levels

    def toward(self, target: Equalised, share: float, values: Values) -> Equalised:
        """Blend with another curve."""
        levels = self._on(target.room)
        change = target.levels - levels
        knots = np.clip((values - target.room.low) * (BINS / target.room.span), 0, BINS)
        below = np.minimum(knots.astype(np.intp), BINS - 1)
        seen = np.zeros(BINS + 1, np.bool_)
        seen[below] = seen[below + 1] = True
        share = min(share, _allowed(change[seen], -_falls(levels[seen]), MAX_STEP))
        return Equalised(target.room, levels + share * change, self.limits.toward(target.limits, share))

    def _table(self, values: NDArray[np.floating[Any]]) -> Plane:
        table: Plane = np.interp(values, _knots(self.room), self.levels).clip(0.0, 1.0).astype(np.float32)
        return table

    def apply(self, image: NDArray[Any], unit: RadiometricScale) -> Plane:
        """Return the grey levels of an image."""
        if image.dtype == np.uint8:
            return cast("Plane", cv2.LUT(image, self._table(unit.scale * np.arange(256) + unit.offset)))
        if image.dtype.kind == "f":  # what is far beyond 16 bits would begin anew at 0
            low, high = ((value - unit.offset) / unit.scale for value in (self.room.low, self.room.high))
            image = np.clip(image, np.float32(low), np.float32(high))
        table = self._table(np.linspace(self.room.low, self.room.high, _ENTRIES))
        steps = (_ENTRIES - 1) / self.room.span
        entries = cv2.addWeighted(
            image, unit.scale * steps, image, 0.0, (unit.offset - self.room.low) * steps, dtype=cv2.CV_16U
        )
        return cast("Plane", np.take(table, cast("NDArray[np.uint16]", entries), mode="clip"))


def _falls(level: Values) -> Values:
    """Return by how much levels may darken in a frame."""
    return MAX_STEP * np.maximum(level, DARK)


def _allowed(change: Values, lowest: Values, highest: Values | float) -> float:
    """Return the share of all changes that keeps each between its bounds, of which the first is negative."""
    bound = np.where(change < 0, lowest, highest)
    return float(np.min(bound / np.where(change == 0, 1e-300, change), initial=1.0, where=change != 0))


def _knots(room: Limits) -> Values:
    return np.linspace(room.low, room.high, BINS + 1)


def _room(limits: Limits, before: Equalised | None) -> Limits:
    """Return what the knots are laid over: where they were, as long as it fits what has been and what is shown."""
    if before is None:
        return _with_margin(limits)
    room, needed = before.room, limits.and_also(before.limits)
    if not (room.low <= needed.low and needed.high <= room.high):
        return _with_margin(needed)
    smaller = _with_margin(needed)
    # What lies beyond the new ends gets their levels: they are drawn in once that changes next to nothing.
    ends = np.interp((smaller.low, smaller.high), _knots(room), before.levels)
    flat = max(ends[0] - before.levels[0], before.levels[-1] - ends[1]) < MAX_STEP / 4
    return smaller if room.span > _MAX_ROOM * needed.span and flat else room


def _with_margin(limits: Limits) -> Limits:
    return Limits(limits.low - _MARGIN * limits.span, limits.high + _MARGIN * limits.span)
