"""Everything that can be chosen about the simulated rig, in one place."""

from __future__ import annotations

from dataclasses import dataclass

LIGHTS = ("day", "night", "dusk")
_RANGES = (
    (("duration_s",), 1e-3, 86400.0),
    (("rate_hz",), 0.1, 1000.0),
    (("kelvin_per_count",), 0.005, 1.0),  # finer, and 16 bits do not reach up to room temperature
    (("seed",), 0, 2**63),
    (("stamp_jitter_ms", "rgb_delay_ms", "thermal_delay_ms", "netd_mk", "column_noise_mk"), 0.0, 1e4),
    (("rgb_width", "rgb_height", "thermal_width", "thermal_height"), 32, 4096),
    (("rgb_view_deg", "thermal_view_deg"), 5.0, 120.0),
    (("thermal_every",), 1, 1000),
    (("supersampling",), 1, 4),
)


@dataclass(frozen=True)
class RigConfig:
    """Settings of :class:`simulated_rig.SimulatedRig`; equal settings give equal pixels.

    Raises:
        ValueError: a value outside its range.
    """

    seed: int = 1  # chooses the people, their clothes and speeds, the car colours, the buildings and all noise
    duration_s: float = 10.0  # length of the sequence; the traffic repeats every 20 s
    rate_hz: float = 30.0  # RGB frames a second
    thermal_every: int = 1  # a thermal frame with every n-th RGB frame; 3 makes 10 Hz thermal out of 30 Hz RGB
    light: str = "night"  # "day", "night", or "dusk": from day to night within the duration (in fast motion)

    rgb_width: int = 640  # pixels
    rgb_height: int = 480  # pixels
    rgb_view_deg: float = 60.0  # horizontal field of view
    thermal_width: int = 320  # pixels
    thermal_height: int = 256  # pixels
    thermal_view_deg: float = 50.0  # horizontal field of view: narrower than RGB, as on most rigs
    thermal_offset_m: tuple[float, float, float] = (0.06, 0.015, 0.0)  # thermal centre in the RGB optical frame
    thermal_rotation_deg: tuple[float, float, float] = (0.4, -0.7, 0.5)  # of the thermal camera about RGB's x, y, z

    start_stamp_ns: int = 1_700_000_000_000_000_000  # capture time of the first frame, before jitter
    stamp_jitter_ms: float = 1.0  # standard deviation of each camera's capture times (drawn and stamped alike)
    rgb_delay_ms: float = 12.0  # from capture to arrival in the bag
    thermal_delay_ms: float = 25.0  # likewise: a microbolometer integrates and corrects for longer

    kelvin_per_count: float = 0.01  # radiometric scale of the thermal image; a count of 0 is 0 K
    netd_mk: float = 50.0  # noise equivalent temperature difference of a thermal pixel, millikelvin
    column_noise_mk: float = 35.0  # fixed pattern: a constant offset of each column, standard deviation
    supersampling: int = 2  # sub-pixels along each axis when drawing; 1 is coarse, 3 slow

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.light not in LIGHTS:
            raise ValueError(f"light is {self.light!r}; choose one of {', '.join(LIGHTS)}")
        for names, low, high in _RANGES:
            for name in names:
                if not low <= getattr(self, name) <= high:
                    raise ValueError(f"{name} is {getattr(self, name)}; choose {low:g} to {high:g}")

    @property
    def frames(self) -> int:
        """Number of RGB frames in the sequence, at least 1."""
        return max(1, round(self.duration_s * self.rate_hz))
