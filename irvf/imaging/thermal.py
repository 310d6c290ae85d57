"""Thermal frames to one plane in 0..1: range, its smoothing over time, and temperatures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Frame, Plane
from irvf.imaging.encodings import LAYOUTS, THERMAL_ENCODINGS
from irvf.imaging.errors import FrameError

RANGE_MODES = ("auto", "percentile", "full")

MAX_STEP = 0.025
"""Largest move of either end of the range from one frame to the next, as a share of its span.

The grey level of a pixel of constant temperature follows the ends of the range: bounding their moves bounds its change.
"""
RESET_GAP = 3_000_000_000
"""Gap between two frames, in nanoseconds, after which the range starts anew."""
MAX_NOT_FINITE = 0.01
"""Share of NaN or infinite pixels that is repaired; with more, the frame is refused."""
MIN_SPAN_8_BIT = 32.0
"""Smallest span of 8-bit grey levels that is stretched to black and white, in mode ``percentile``."""

_SAMPLES = 20_000
_REPAIR_RADIUS = 2
_RESOLUTION = 1e-4  # smallest span in relation to the values, for which single precision still has a thousand steps
_FULL_SCALE = {"u1": 255.0, "u2": 65535.0, "f4": 1.0}


@dataclass(frozen=True)
class RadiometricScale:
    """How counts become temperatures: degrees Celsius = ``scale * counts + offset``.

    Gazebo's 0.01 K a count is ``RadiometricScale(0.01, -273.15)``, Optris' format ``RadiometricScale(0.1, -100.0)``.
    """

    scale: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.offset)):
            raise ValueError(
                f"radiometric scale {self.scale} with offset {self.offset}: both must be finite and the scale positive"
            )

    def celsius(self, counts: float) -> float:
        """Return the temperature that a number of counts stands for."""
        return self.scale * counts + self.offset


_AS_IT_IS = RadiometricScale(1.0, 0.0)


@dataclass(frozen=True)
class ThermalRangeConfig:
    """What decides the range of thermal values that is shown from black to white.

    Attributes:
        mode: ``percentile`` follows the scene; ``full`` takes all that the type holds (0..1 for floats); ``auto`` is
            ``full`` for 8 bits, whose range the camera's driver has chosen, and ``percentile`` for 16 bits and floats.
        low_percentile: share of the pixels that may be black, in percent.
        high_percentile: 100 minus the share that may be white, in percent.
        smoothing_s: time constant in seconds with which the range follows the scene; 0 follows at once.
        min_span_counts: smallest span of 16-bit counts, so that the noise of a flat scene is not blown up.
        min_span_degrees: the same for floats, in their unit, and for counts whose ``radiometric`` scale is known.
        radiometric: how 16-bit counts become degrees Celsius, where the camera tells.
    """

    mode: str = "auto"
    low_percentile: float = 0.5
    high_percentile: float = 99.5
    smoothing_s: float = 1.0
    min_span_counts: float = 200.0
    min_span_degrees: float = 4.0
    radiometric: RadiometricScale | None = None

    def __post_init__(self) -> None:
        if self.mode not in RANGE_MODES:
            raise ValueError(f"thermal range {self.mode!r}; allowed: {', '.join(RANGE_MODES)}")
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError(
                f"thermal percentiles {self.low_percentile} and {self.high_percentile}: "
                "0 <= low_percentile < high_percentile <= 100 is needed"
            )
        if not 0 <= self.smoothing_s < math.inf:
            raise ValueError(f"thermal smoothing of {self.smoothing_s} s; it must be 0 or more")
        for name in ("min_span_counts", "min_span_degrees"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")


@dataclass(frozen=True)
class _Limits:
    """Values shown black and white, in the unit of the frame (degrees where its scale is known)."""

    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low

    def at_least(self, span: float) -> _Limits:
        span = max(span, _RESOLUTION * max(abs(self.low), abs(self.high)))
        if self.span >= span:
            return self
        middle = (self.low + self.high) / 2
        return _Limits(middle - span / 2, middle + span / 2)

    def toward(self, target: _Limits, share: float) -> _Limits:
        step = MAX_STEP * self.span
        low = float(np.clip(share * (target.low - self.low), -step, step))
        high = float(np.clip(share * (target.high - self.high), -step, step))
        return _Limits(self.low + low, self.high + high)


@dataclass(frozen=True)
class _Source:
    """What must stay the same for the range to be carried from one frame to the next."""

    encoding: str
    shape: tuple[int, ...]
    config: ThermalRangeConfig


class ThermalRange:
    """Turns thermal frames into planes in 0..1, warm is bright, without pumping.

    The range is percentiles of the scene, smoothed in the time of the stamps and limited to :data:`MAX_STEP` a frame.
    It starts anew with the first frame, when the stamps jump back or leave a gap, when the size, the encoding or the
    configuration changes, and when the scene has left the range (half of the pixels would be black or white), as it
    does when the camera turns or recalibrates.

    Attributes:
        config: may be replaced between frames.
    """

    def __init__(self, config: ThermalRangeConfig | None = None) -> None:
        self.config = config or ThermalRangeConfig()
        self._limits: _Limits | None = None
        self._source: _Source | None = None
        self._stamp = 0

    def __call__(self, frame: Frame) -> Plane:
        """Map a frame to grey levels.

        Args:
            frame: ``mono8``, ``8UC1``, ``mono16``, ``16UC1``, ``32FC1``, or a palette image in ``rgb8`` or ``bgr8``,
                whose luma is taken.

        Returns:
            ``[H x W]`` float32 in 0..1. A scene of one value is mid grey.

        Raises:
            FrameError: wrong encoding, size or layout, or more than :data:`MAX_NOT_FINITE` of the pixels not finite.
        """
        image = _checked(frame)
        if frame.encoding in ("rgb8", "bgr8"):
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if frame.encoding == "rgb8" else cv2.COLOR_BGR2GRAY)
        elif image.dtype.kind == "f":
            image = _repaired(image)
        kind = image.dtype.str[1:]
        if self.config.mode == "full" or (self.config.mode == "auto" and kind == "u1"):
            return _stretched(image, 1 / _FULL_SCALE[kind], 0.0)
        unit = (self.config.radiometric if kind == "u2" else None) or _AS_IT_IS
        limits = self._follow(frame, image, unit, self._min_span(kind))
        return _stretched(image, unit.scale / limits.span, (unit.offset - limits.low) / limits.span)

    def _min_span(self, kind: str) -> float:
        if kind == "u1":
            return MIN_SPAN_8_BIT
        if kind == "u2" and self.config.radiometric is None:
            return self.config.min_span_counts
        return self.config.min_span_degrees

    def _follow(self, frame: Frame, image: NDArray[Any], unit: RadiometricScale, min_span: float) -> _Limits:
        """Move the range toward what the frame holds, and return it."""
        low, median, high = (unit.celsius(value) for value in _percentiles(image, self.config))
        target = _Limits(low, high).at_least(min_span)
        source = _Source(frame.encoding, image.shape, self.config)
        elapsed = frame.stamp - self._stamp
        limits = self._limits
        if (
            limits is None
            or source != self._source
            or not 0 <= elapsed <= RESET_GAP
            or not limits.low <= median <= limits.high
            or self.config.smoothing_s == 0
        ):
            limits = target
        else:
            limits = limits.toward(target, -math.expm1(-elapsed * 1e-9 / self.config.smoothing_s))
        self._limits, self._source, self._stamp = limits, source, frame.stamp
        return limits


def _checked(frame: Frame) -> NDArray[Any]:
    if frame.encoding not in THERMAL_ENCODINGS:
        raise FrameError("encoding", f"thermal encoding {frame.encoding!r}; allowed: {', '.join(THERMAL_ENCODINGS)}")
    image, layout = frame.image, LAYOUTS[frame.encoding]
    if not layout.fits(image):
        raise FrameError(
            "layout", f"thermal {frame.encoding} image is {image.dtype} {list(image.shape)}; it must be {layout}"
        )
    if image.size == 0:
        raise FrameError("size", f"thermal image of {frame.width} x {frame.height} pixels is empty")
    return image


def _percentiles(image: NDArray[Any], config: ThermalRangeConfig) -> tuple[float, float, float]:
    """Low percentile, median and high percentile of a regular sample of the pixels."""
    stride = max(1, math.isqrt(image.size // _SAMPLES))
    sample = image[::stride, ::stride].ravel()
    last = sample.size - 1
    low, middle, high = (round(last * share / 100) for share in (config.low_percentile, 50, config.high_percentile))
    ordered = np.partition(sample, sorted({low, middle, high}))
    return float(ordered[low]), float(ordered[middle]), float(ordered[high])


def _stretched(image: NDArray[Any], gain: float, bias: float) -> Plane:
    """Return ``image * gain + bias`` as float32, limited to 0..1."""
    plane = cast("Plane", cv2.addWeighted(image, gain, image, 0.0, bias, dtype=cv2.CV_32F))
    clipped: Plane = np.clip(plane, 0.0, 1.0, out=plane)
    return clipped


def _repaired(image: Plane) -> Plane:
    """Replace single pixels that are NaN or infinite by the mean of their finite neighbours."""
    finite = np.isfinite(image)
    missing = image.size - int(np.count_nonzero(finite))
    if missing == 0:
        return image
    if missing > MAX_NOT_FINITE * image.size:
        raise FrameError(
            "not_finite",
            f"{missing} of {image.size} thermal pixels are NaN or infinite; up to {MAX_NOT_FINITE:.0%} are repaired",
        )
    rows, columns = np.nonzero(~finite)
    offsets = np.arange(-_REPAIR_RADIUS, _REPAIR_RADIUS + 1)
    near_rows = np.clip(rows[:, None, None] + offsets[:, None], 0, image.shape[0] - 1)
    near_columns = np.clip(columns[:, None, None] + offsets, 0, image.shape[1] - 1)
    known = finite[near_rows, near_columns]
    counts = known.sum(axis=(1, 2))
    sums = np.where(known, image[near_rows, near_columns], 0.0).sum(axis=(1, 2), dtype=np.float64)
    alone = counts == 0
    repaired: Plane = image.copy()
    repaired[rows, columns] = sums / np.maximum(counts, 1)
    if alone.any():
        repaired[rows[alone], columns[alone]] = np.median(image[finite])
    return repaired
