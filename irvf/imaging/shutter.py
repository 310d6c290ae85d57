"""Notices that the thermal camera shows an old image, or its closed shutter, while the world goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irvf.frames import Frame

SHORTEST_FREEZE = 0.2
"""Seconds below which a repetition is none: a sensor of 9 Hz that is published at 60 repeats each image for 0.12 s."""

_SAMPLES = 5_000  # values of an image that are compared first

Pixels = NDArray[Any]


@dataclass(frozen=True)
class ShutterState:
    """What became of the thermal stream.

    Attributes:
        frozen: the thermal image is not one of this moment: show the RGB image alone.
        since: seconds, in the time of the stamps, since when the thermal image has been the same.
        reason: ``repeated`` (the same pixels again and again, while the RGB image changes), ``blank`` (one value
            everywhere for :data:`SHORTEST_FREEZE`, while the RGB image changes), ``still`` (both images are the same
            again and again: a picture is replayed; not frozen), or empty where the image moves.
        resumed: the first image after a freeze: the camera has corrected itself, its values may have jumped.
    """

    frozen: bool = False
    since: float = 0.0
    reason: str = ""
    resumed: bool = False


class ShutterWatch:
    """Watches the pairs for a thermal image that does not change.

    While a shutter closes for a flat-field correction, cameras repeat their last image for half a second to two, or
    send that of the shutter. A live thermal image has noise: two that agree in every bit are the same image. Whether
    the RGB image changes meanwhile tells a shutter from a still picture that is replayed. Only copies are kept: the
    last thermal image, and a sample of the RGB image.

    Args:
        freeze_after_s: seconds of repetition, in the time of the stamps, after which the stream counts as frozen; 0
            does not watch it.

    Raises:
        ValueError: neither 0 nor at least :data:`SHORTEST_FREEZE`.
    """

    def __init__(self, freeze_after_s: float = 0.5) -> None:
        if freeze_after_s != 0 and not SHORTEST_FREEZE <= freeze_after_s < math.inf:
            raise ValueError(
                f"thermal freeze after {freeze_after_s} s; it must be at least {SHORTEST_FREEZE} s, as slow sensors "
                "repeat their images for shorter times, or 0 not to watch for it"
            )
        self.freeze_after_s = freeze_after_s
        self._image: Pixels | None = None
        self._began = 0
        self._rgb: Pixels | None = None
        self._rgb_changed = 0
        self._was_frozen = self._was_blank = False

    def __call__(self, thermal: Frame, rgb: Frame) -> ShutterState:
        """Look at a pair, in the order of the stamps.

        Args:
            thermal: as it arrived.
            rgb: likewise; its pixels are compared in a sample.
        """
        if self.freeze_after_s == 0:
            return ShutterState()
        now, blank = thermal.stamp, _is_blank(thermal.image)
        repeats = self._repeats(thermal) or (blank and self._was_blank and now >= self._began)
        if not repeats:
            self._began = now
        seen = _sample(rgb.image)
        if self._rgb is None or not np.array_equal(seen, self._rgb):
            self._rgb, self._rgb_changed = seen.copy(), now
        since = (now - self._began) * 1e-9
        # Half the time, as the first picture of a replay may still have been one of another RGB image.
        moves = 0 <= now - self._rgb_changed < self.freeze_after_s / 2 * 1e9
        reason = ""
        if blank and moves and since >= SHORTEST_FREEZE:
            reason = "blank"
        elif since >= self.freeze_after_s:
            reason = "repeated" if moves else "still"
        self._was_blank = blank
        frozen = reason in ("blank", "repeated")
        resumed = self._was_frozen and not frozen and not repeats
        self._was_frozen = frozen or (self._was_frozen and not resumed)
        return ShutterState(frozen, since, reason, resumed)

    def _repeats(self, thermal: Frame) -> bool:
        """Say whether the image is the last one again, and keep it otherwise."""
        image, last = _bits(thermal.image), self._image
        if last is None or last.shape != image.shape or last.dtype != image.dtype:
            self._image = image.copy()
            return False
        if np.array_equal(_sample(image), _sample(last)) and np.array_equal(image, last):
            return thermal.stamp >= self._began
        np.copyto(last, image)
        return False


def _bits(image: Pixels) -> Pixels:
    """View floats as integers: NaN is not equal to itself, its bits are."""
    return image.view(np.uint32) if image.dtype == np.float32 else image


def _sample(image: Pixels) -> Pixels:
    """View a regular sample of the pixels."""
    stride = max(1, math.isqrt(image.shape[0] * image.shape[1] // _SAMPLES))
    return image[stride // 2 :: stride, stride // 2 :: stride]


def _is_blank(image: Pixels) -> bool:
    if image.size == 0:
        return False
    first = image[0, 0]
    return bool((_sample(image) == first).all()) and bool((image == first).all())
