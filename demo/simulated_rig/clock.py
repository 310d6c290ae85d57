"""When the frames of the rig are taken."""

from __future__ import annotations

import numpy as np

from .config import RigConfig

MOST_JITTER = 0.4  # of a period: jitter is cut off there, so that stamps never run backwards


def capture_stamps(config: RigConfig, index: int) -> tuple[int, int]:
    """Capture times of the RGB and the thermal frame of a tick, nanoseconds."""
    limit = MOST_JITTER * 1e9 / config.rate_hz
    drawn = np.random.default_rng([config.seed, 808, index]).standard_normal(2) * config.stamp_jitter_ms * 1e6
    rgb, thermal = (_tick(config, index) + int(shift) for shift in np.clip(drawn, -limit, limit))
    return rgb, thermal


def earliest_stamp(config: RigConfig, index: int) -> int:
    """Time in nanoseconds before which no frame of a tick is taken, however the jitter falls."""
    return _tick(config, index) - int(MOST_JITTER * 1e9 / config.rate_hz)


def _tick(config: RigConfig, index: int) -> int:
    return config.start_stamp_ns + round(index * 1e9 / config.rate_hz)
