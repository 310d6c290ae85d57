"""Thermal frames to one plane in 0..1: repair, temperatures, range, and its smoothing over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Frame, Plane
from irvf.imaging.encodings import LAYOUTS, THERMAL_ENCODINGS
from irvf.imaging.errors import FrameError
from irvf.imaging.thermal_cameras import FLOAT_UNITS, RadiometricScale, find_camera
from irvf.imaging.thermal_repair import Destriping, PixelRepair, repair_not_finite
from irvf.imaging.transfer import Equalised, Limits, Stretch

__all__ = ["DESTRIPE_MODES", "RANGE_MODES", "RadiometricScale", "ThermalRange", "ThermalRangeConfig"]

RANGE_MODES = ("auto", "percentile", "plateau", "fixed", "full")
DESTRIPE_MODES = ("auto", "none", "rows", "columns", "both")

RESET_GAP = 3_000_000_000
"""Gap between two frames, in nanoseconds, after which the range starts anew."""
MIN_SPAN_8_BIT = 32.0
"""Smallest span of 8-bit grey levels that is stretched to black and white, in modes ``percentile`` and ``plateau``."""
MIN_COUNTS = 8.0
"""Counts that the smallest span holds, where they have a temperature: of Gazebo's 3 K, one or two would make all."""

_SAMPLES = 20_000  # pixels that the range is found from
_SAMPLES_SEEN = 5_000  # of these, whose change is limited
_MAX_REPAIRED = 1e30  # magnitude of floats beyond which differences overflow: these are no temperatures
_FULL_SCALE = {"u1": 255.0, "u2": 65535.0, "f4": 1.0}
_AS_IT_IS = RadiometricScale(1.0, 0.0)
_KELVIN = RadiometricScale(1.0, -273.15)
_PALETTES = {"rgb8": cv2.COLOR_RGB2GRAY, "bgr8": cv2.COLOR_BGR2GRAY}


@dataclass(frozen=True)
class ThermalRangeConfig:
    """What decides the range of thermal values that is shown from black to white.

    Attributes:
        mode: ``percentile`` follows the scene with a straight line; ``plateau`` with a curve that spends the grey
            levels where the pixels are; ``fixed`` shows two temperatures as black and white; ``full`` takes all that
            the type holds (0..1 for floats); ``auto`` is ``full`` for 8 bits that the camera has stretched, and
            ``percentile`` for all else.
        low_percentile: share of the pixels that may be black, in percent.
        high_percentile: 100 minus the share that may be white, in percent.
        smoothing_s: time constant in seconds with which the range follows the scene; 0 follows at once.
        min_span_counts: smallest span of 16-bit counts, so that the noise of a flat scene is not blown up.
        min_span_degrees: the same for floats, in their unit, and for counts whose temperature is known.
        radiometric: how counts become degrees Celsius; None takes it from ``camera``.
        camera: name of a preset of :data:`irvf.imaging.thermal_cameras.THERMAL_CAMERAS`.
        low_celsius: temperature that is black in mode ``fixed``.
        high_celsius: temperature that is white in mode ``fixed``.
        plateau: share of the pixels, above 0 to 1, that each of 256 equal parts of the occupied values counts in mode
            ``plateau`` at most: toward 0 the curve becomes a straight line over the values that occur, at 1 all levels
            go to where the most pixels are.
        float_unit: unit of float images, of :data:`irvf.imaging.thermal_cameras.FLOAT_UNITS`.
        repair_pixels: show the neighbours of dead pixels, which are found over time.
        dead_pixels: pixels ``(x, y)`` that are known to be dead; repaired with ``repair_pixels``.
        destripe: take away offsets of ``rows``, ``columns``, ``both`` or ``none``; ``auto`` does as ``camera`` says.
    """

    mode: str = "auto"
    low_percentile: float = 0.5
    high_percentile: float = 99.5
    smoothing_s: float = 0.5
    min_span_counts: float = 200.0
    min_span_degrees: float = 4.0
    radiometric: RadiometricScale | None = None
    camera: str = "generic"
    low_celsius: float = 0.0
    high_celsius: float = 40.0
    plateau: float = 0.008
    float_unit: str = "celsius"
    repair_pixels: bool = False
    dead_pixels: tuple[tuple[int, int], ...] = ()
    destripe: str = "auto"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("range", self.mode, RANGE_MODES),
            ("float unit", self.float_unit, FLOAT_UNITS),
            ("destriping", self.destripe, DESTRIPE_MODES),
        ):
            if value not in allowed:
                raise ValueError(f"thermal {name} {value!r}; allowed: {', '.join(allowed)}")
        find_camera(self.camera)
        if not 0 <= self.low_percentile < self.high_percentile <= 100:
            raise ValueError(
                f"thermal percentiles {self.low_percentile} and {self.high_percentile}: "
                "0 <= low_percentile < high_percentile <= 100 is needed"
            )
        if not (-273.15 <= self.low_celsius < self.high_celsius < math.inf):
            raise ValueError(
                f"thermal range from {self.low_celsius} to {self.high_celsius} degrees Celsius: "
                "-273.15 <= low_celsius < high_celsius is needed"
            )
        if not 0 <= self.smoothing_s < math.inf:
            raise ValueError(f"thermal smoothing of {self.smoothing_s} s; it must be 0 or more")
        if not 0 < self.plateau <= 1:
            raise ValueError(f"thermal plateau is {self.plateau}; it must be above 0 and at most 1")
        for name in ("min_span_counts", "min_span_degrees"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0")

    def celsius_scale(self, dtype: np.dtype[Any]) -> RadiometricScale | None:
        """Return how pixels of a type become degrees Celsius; None where that is not known."""
        if dtype.kind == "f":
            return _KELVIN if self.float_unit == "kelvin" else _AS_IT_IS
        camera = find_camera(self.camera)
        return self.radiometric or (camera.scale_8_bit if dtype == np.uint8 else camera.scale)

    @property
    def striped(self) -> tuple[str, ...]:
        """Which of ``rows`` and ``columns`` to take the offsets of."""
        lines = find_camera(self.camera).destripe if self.destripe == "auto" else self.destripe
        return {"none": (), "both": ("rows", "columns")}.get(lines, (lines,))


@dataclass(frozen=True)
class _Source:
    """What must stay the same for the range to be carried from one frame to the next."""

    encoding: str
    shape: tuple[int, ...]
    config: ThermalRangeConfig


class ThermalRange:
    """Turns thermal frames into planes in 0..1, warm is bright, without pumping.

    The range follows the scene, smoothed in the time of the stamps; no value in the scene changes its grey level by
    more than :data:`irvf.imaging.transfer.MAX_STEP` a frame. It starts anew with the first frame, when the stamps jump
    back or leave a gap, when the size, the encoding or the configuration changes, and when the scene has left the range
    (half of the pixels would be black or white), as it does when the camera turns or recalibrates.

    Attributes:
        config: may be replaced between frames.
    """

    def __init__(self, config: ThermalRangeConfig | None = None) -> None:
        self.config = config or ThermalRangeConfig()
        self._transfer: Stretch | Equalised | None = None
        self._source: _Source | None = None
        self._stamp = 0
        self._pixels = PixelRepair(self.config.dead_pixels)
        self._known_dead = self.config.dead_pixels
        self._stripes = Destriping()

    def restart(self) -> None:
        """Start the range anew with the next frame, as after the camera's shutter has closed and opened."""
        self._transfer = None
        self._stripes.restart()

    @property
    def dead_pixels(self) -> tuple[tuple[int, int], ...]:
        """Pixels ``(x, y)`` that are repaired now."""
        return self._pixels.dead if self.config.repair_pixels else ()

    def __call__(self, frame: Frame) -> Plane:
        """Map a frame to grey levels.

        Args:
            frame: ``mono8``, ``8UC1``, ``mono16``, ``16UC1``, ``32FC1``, or a palette image in ``rgb8`` or ``bgr8``,
                whose luma is taken.

        Returns:
            ``[H x W]`` float32 in 0..1. A scene of one value is mid grey, but in modes ``fixed`` and ``full``.

        Raises:
            FrameError: wrong encoding, size or layout; more than 1 % of the pixels not finite; or mode ``fixed`` and
                pixels whose temperature is not known.
        """
        image = _checked(frame)
        dtype, mode, config = image.dtype, self.config.mode, self.config
        palette = _PALETTES.get(frame.encoding)
        scale = None if palette is not None else config.celsius_scale(dtype)
        image = self._repaired(image, frame.stamp) if palette is None else cv2.cvtColor(image, palette)
        if mode == "auto":
            mode = "full" if dtype == np.uint8 and scale is None else "percentile"
        if mode == "full":
            return Stretch(1 / _FULL_SCALE[dtype.str[1:]], 0.0).apply(image, _AS_IT_IS)
        if mode == "fixed":
            if scale is None:
                raise FrameError("radiometric", _no_temperature(frame.encoding, config.camera))
            return Stretch.between(Limits(config.low_celsius, config.high_celsius)).apply(image, scale)
        unit = scale or _AS_IT_IS
        return self._follow(frame, image, unit, mode, _min_span(config, dtype, scale)).apply(image, unit)

    def _repaired(self, image: NDArray[Any], stamp: int) -> NDArray[Any]:
        if image.dtype.kind == "f":
            image = repair_not_finite(image)
            if cv2.norm(image, cv2.NORM_INF) > _MAX_REPAIRED:
                return image
        if self.config.repair_pixels:
            if self.config.dead_pixels != self._known_dead:
                self._pixels, self._known_dead = PixelRepair(self.config.dead_pixels), self.config.dead_pixels
            image = self._pixels(image, stamp)
        return self._stripes(image, stamp, self.config.striped)

    def _follow(
        self, frame: Frame, image: NDArray[Any], unit: RadiometricScale, mode: str, min_span: float
    ) -> Stretch | Equalised:
        """Move the transfer function toward that of what the frame holds, and return it."""
        config, before = self.config, self._transfer
        stride = max(1, math.isqrt(image.size // _SAMPLES))
        sample = image[::stride, ::stride].ravel()
        low, median, high = (unit.celsius(value) for value in _percentiles(sample, config))
        values = unit.scale * sample.astype(np.float64) + unit.offset
        limits = Limits(low, high).at_least(min_span)
        source = _Source(frame.encoding, image.shape, config)
        elapsed = frame.stamp - self._stamp
        if (
            source != self._source
            or not 0 <= elapsed <= RESET_GAP
            or config.smoothing_s == 0
            or not (before and before.limits.covers(median))
        ):
            before = None
        share = -math.expm1(-elapsed * 1e-9 / config.smoothing_s) if before else 1.0
        seen = values[:: max(1, values.size // _SAMPLES_SEEN)]
        if mode == "plateau":
            curve = before if isinstance(before, Equalised) else None
            resolution = unit.scale if frame.image.dtype.kind == "u" else 0.0
            equalised = Equalised.of(
                values, limits, plateau=config.plateau, min_span=min_span, resolution=resolution, before=curve
            )
            self._transfer = curve.toward(equalised, share, seen) if curve else equalised
        else:
            stretch, line = Stretch.between(limits), before if isinstance(before, Stretch) else None
            self._transfer = line.toward(stretch, share, seen) if line else stretch
        self._source, self._stamp = source, frame.stamp
        return self._transfer


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


def _no_temperature(encoding: str, camera: str) -> str:
    return (
        f"thermal range 'fixed' needs temperatures, but what a count of {encoding} images of camera {camera!r} stands "
        "for is not known: give a radiometric scale and offset, choose a camera that has them, or another range"
    )


def _min_span(config: ThermalRangeConfig, dtype: np.dtype[Any], scale: RadiometricScale | None) -> float:
    if scale is None:
        return MIN_SPAN_8_BIT if dtype == np.uint8 else config.min_span_counts
    return max(config.min_span_degrees, MIN_COUNTS * scale.scale if dtype.kind == "u" else 0.0)


def _percentiles(sample: NDArray[Any], config: ThermalRangeConfig) -> tuple[float, float, float]:
    """Low percentile, median and high percentile of a sample."""
    last = sample.size - 1
    low, middle, high = (round(last * share / 100) for share in (config.low_percentile, 50, config.high_percentile))
    ordered = np.partition(sample, sorted({low, middle, high}))
    return float(ordered[low]), float(ordered[middle]), float(ordered[high])
