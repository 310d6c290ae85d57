"""From radiance and temperature to what the two cameras deliver: optics, noise, quantisation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .config import RigConfig

Array32 = NDArray[np.float32]

KELVIN_AT_0_C = 273.15
RGB_BLUR_PX = 0.45  # standard deviation of the lens blur
THERMAL_BLUR_PX = 0.65  # more: an f/1 lens at 10 um wavelength on 12 um pixels
FULL_WELL_DAY, FULL_WELL_NIGHT = 9000.0, 700.0  # electrons at saturation: the night's gain saturates earlier
READ_NOISE = 2.5  # electrons
VIGNETTING = 0.22  # loss of light in the corners
BLOOM = 0.35  # share of the light beyond saturation that the lens scatters
_SHOULDER = 0.7  # where the tone curve begins to bend, so that highlights keep colour
_SPARE = 96  # how much larger the noise fields are than the image: each frame cuts its own piece


class RgbSensor:
    """A colour camera with 8 bits a channel and a gamma curve."""

    def __init__(self, config: RigConfig) -> None:
        self._seed = config.seed
        generator = np.random.default_rng([config.seed, 404])
        shape = (config.rgb_height + _SPARE, config.rgb_width + _SPARE, 3)
        self._noise = generator.standard_normal(shape, dtype=np.float32)
        row, column = np.mgrid[-1 : 1 : config.rgb_height * 1j, -1 : 1 : config.rgb_width * 1j]
        falloff = 1 - VIGNETTING * ((row**2 + column**2) / 2) ** 1.5
        self._vignette = np.repeat(falloff.astype(np.float32)[..., None], 3, 2)

    def expose(self, radiance: Array32, index: int, night: float) -> NDArray[np.uint8]:
        """Take a picture.

        Args:
            radiance: ``[H x W x 3]``, 1 saturates; changed in place.
            index: number of the frame, chooses the noise.
            night: 0 for the gain of the day to 1 for that of the night.

        Returns:
            ``[H x W x 3]`` RGB.
        """
        height, width = radiance.shape[:2]
        light = cv2.GaussianBlur(radiance, (0, 0), RGB_BLUR_PX)
        if float(light.max()) > 1.2:
            small = cv2.resize(light, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
            excess = np.clip(small - 1.0, 0, 12)
            glow = cv2.GaussianBlur(excess, (0, 0), width / 250) + 0.35 * cv2.GaussianBlur(excess, (0, 0), width / 45)
            light += cv2.resize(glow, (width, height)) * np.float32(BLOOM)
        light *= self._vignette
        # Shot and read noise, var(x) = (x + x0) / N, is uniform in sqrt(x + x0): the generalised Anscombe transform.
        electrons = float(np.exp((1 - night) * np.log(FULL_WELL_DAY) + night * np.log(FULL_WELL_NIGHT)))
        floor = READ_NOISE**2 / electrons
        np.maximum(light, 0, out=light)
        root = cv2.sqrt(light + np.float32(floor))
        top, left = np.random.default_rng([self._seed, 505, index]).integers(0, _SPARE, 2)
        noise = self._noise[top : top + height, left : left + width]
        cv2.scaleAdd(noise, 0.5 / np.sqrt(electrons), root, root)
        root *= np.float32(1023)
        level = np.clip(root, 0, 2047, out=root).astype(np.uint16)
        return np.asarray(_tone_curve(floor)[level])


def _tone_curve(floor: float) -> NDArray[np.uint8]:
    """Display value of each root of light, in steps of 1/1023: soft shoulder, then the sRGB curve (IEC 61966-2-1)."""
    light = np.maximum((np.arange(2048) / 1023) ** 2 - floor, 0)
    beyond = 1 - _SHOULDER
    bent = _SHOULDER + beyond * (1 - np.exp(-(light - _SHOULDER).clip(0) / beyond))
    light = np.where(light > _SHOULDER, bent, light)
    display = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(display.clip(0, 1) * 255), dtype=np.uint8)


class ThermalSensor:
    """A radiometric microbolometer: counts are proportional to the apparent absolute temperature."""

    def __init__(self, config: RigConfig) -> None:
        self._config = config
        generator = np.random.default_rng([config.seed, 606])
        shape = (config.thermal_height + _SPARE, config.thermal_width + _SPARE)
        self._noise = generator.standard_normal(shape, dtype=np.float32)
        columns = generator.standard_normal((1, config.thermal_width)) * config.column_noise_mk / 1000
        self._columns = columns.astype(np.float32)

    def expose(self, temperature: Array32, index: int) -> NDArray[np.uint16]:
        """Take a picture.

        Args:
            temperature: apparent, ``[H x W]`` in deg C.
            index: number of the frame, chooses the noise.

        Returns:
            Counts ``[H x W]``: ``kelvin_per_count`` each, 0 is 0 K.
        """
        height, width = temperature.shape
        seen = cv2.GaussianBlur(temperature, (0, 0), THERMAL_BLUR_PX) + self._columns
        top, left = np.random.default_rng([self._config.seed, 707, index]).integers(0, _SPARE, 2)
        seen += self._noise[top : top + height, left : left + width] * np.float32(self._config.netd_mk / 1000)
        counts = (seen + np.float32(KELVIN_AT_0_C)) / np.float32(self._config.kelvin_per_count)
        return np.asarray(np.rint(counts.clip(0, 65535)), dtype=np.uint16)
