"""How long fusions take: all of them in one run, in turns, because times of a shared machine mean little alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from irvf.frames import Frame, FramePair
from irvf.instruction.instruction import Instruction
from irvf.pipeline import FusionPipeline

_PAGE_FILE = Path("/proc/self/statm")
_PAGE = 4096


@dataclass(frozen=True)
class Times:
    """Times of one contender in milliseconds.

    Attributes:
        stages: stage -> a time for each round, and ``total`` for all of them together.
    """

    stages: Mapping[str, NDArray[np.float64]]

    def least(self, stage: str) -> float:
        """Return the smallest time: what the work costs when nothing disturbs it."""
        return float(self.stages[stage].min())

    def percentile(self, stage: str, share: float) -> float:
        """Return a percentile, 0..100."""
        return float(np.percentile(self.stages[stage], share))


def street_pair(width: int, height: int, seed: int = 0) -> FramePair:
    """Return a pair with structure at all scales, as cameras deliver it: thermal mono8 and RGB rgb8.

    The times of networks do not depend on what is shown; those of some plain methods do, a little.
    """
    rng = np.random.default_rng(seed)

    def clouds(channels: int) -> NDArray[np.uint8]:
        total = np.zeros((height, width, channels))
        for cell in (64, 16, 4, 1):
            rough = rng.uniform(size=(-(-height // cell), -(-width // cell), channels))
            total += np.kron(rough, np.ones((cell, cell, 1)))[:height, :width] * cell**0.5
        return np.asarray(total / total.max() * 255, np.uint8)

    return FramePair(Frame(np.ascontiguousarray(clouds(1)[..., 0]), "mono8"), Frame(clouds(3), "rgb8"))


def time_pipelines(
    pipelines: Mapping[str, FusionPipeline],
    pair: FramePair,
    instruction: Instruction,
    *,
    rounds: int,
    warm_up: int = 3,
    done: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """Take a pair through each pipeline, one after the other, round by round.

    Args:
        pipelines: by name.
        pair: to fuse.
        instruction: in force.
        rounds: that count, at least 1.
        warm_up: rounds before that do not.
        done: called after each round.

    Raises:
        ValueError: no round.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds; at least one is needed")
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in pipelines}
    for _ in range(warm_up + rounds):
        for name, pipeline in pipelines.items():
            started = time.perf_counter()
            stages = pipeline.fuse(pair, instruction).stage_ms
            taken[name].append({**stages, "total": (time.perf_counter() - started) * 1e3})
        done()
    return {name: Times(_columns(entries[warm_up:])) for name, entries in taken.items()}


def _columns(entries: Sequence[Mapping[str, float]]) -> dict[str, NDArray[np.float64]]:
    return {stage: np.array([entry[stage] for entry in entries]) for stage in entries[0]}


def growth(pixels: Sequence[float], times: Sequence[float]) -> float:
    """Return the power of the number of pixels that times go with: 1 is linear, below it a fixed cost shows.

    The slope of the least-squares line through the logarithms.

    Args:
        pixels: at least two different numbers, above 0.
        times: at these, above 0.
    """
    slope, _ = np.polyfit(np.log(pixels), np.log(times), 1)
    return float(slope)


def resident_bytes() -> int:
    """Return the memory that this process holds; 0 where the system does not say."""
    try:
        return int(_PAGE_FILE.read_text("ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
