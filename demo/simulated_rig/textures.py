"""Procedural surface textures: tileable noise, looked up at world positions so that both cameras see the same spots."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_SIZE = 512  # texels of a tile along each axis


class NoiseTextures:
    """Tileable noise fields of mean 0 and standard deviation 1."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng([seed, 101])
        self._soft = _spectral_noise(generator, slope=1.0)  # clouds, stains, weathering
        self._grain = _spectral_noise(generator, slope=0.35)  # asphalt, plaster, leaves

    def soft(self, u: Plane, v: Plane, size_m: float) -> Plane:
        """Return 1/f noise at positions (metres); the pattern repeats every ``size_m``."""
        return _look_up(self._soft, u, v, size_m)

    def grain(self, u: Plane, v: Plane, size_m: float) -> Plane:
        """Return fine-grained noise at positions (metres); the pattern repeats every ``size_m``."""
        return _look_up(self._grain, u, v, size_m)


def _spectral_noise(generator: np.random.Generator, slope: float) -> Plane:
    """Noise whose amplitude falls with frequency to the power ``slope``; periodic because it is made by FFT."""
    spectrum = np.fft.rfft2(generator.standard_normal((_SIZE, _SIZE)))
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None, :]) * _SIZE
    frequency[0, 0] = 1
    spectrum *= frequency ** (-slope - 0.5) * (frequency > 1.5)
    noise = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def _look_up(texture: Plane, u: Plane, v: Plane, size_m: float) -> Plane:
    scale = np.float32(_SIZE / size_m)
    shape = u.shape
    column, row = (u * scale) % _SIZE, (v * scale) % _SIZE
    # remap wants two dimensions below 32768; positions come as flat lists as well as images.
    rows = int(np.ceil(column.size / 16384))
    padded = rows * 16384
    maps = [np.resize(axis.reshape(-1), padded).reshape(rows, 16384).astype(np.float32) for axis in (column, row)]
    values = cv2.remap(texture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(values.reshape(-1)[: u.size].reshape(shape), dtype=np.float32)


def random_cells(column: Plane, row: Plane, salt: int) -> Plane:
    """Return a random number in [0, 1) for each integer cell (of a window, a brick): equal cell, equal number."""
    mixed = column.astype(np.int64) * 374761393 + row.astype(np.int64) * 668265263 + salt * 2246822519
    mixed = (mixed ^ (mixed >> 13)) * 1274126177 & 0xFFFFFFFF
    mixed = (mixed ^ (mixed >> 16)) & 0xFFFF
    return np.asarray(mixed / 65536.0, dtype=np.float32)


def stripe(position: Plane, period: float, width: float) -> Plane:
    """Return 1 where a position lies within ``width`` of a line that repeats every ``period``, else 0 (metres)."""
    offset = np.abs((position + period / 2) % period - period / 2)
    return np.asarray(offset < width / 2, dtype=np.float32)
