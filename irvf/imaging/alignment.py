"""What is left of the misalignment between thermal and RGB, measured from the stream itself, beside the frame path."""

from __future__ import annotations

import atexit
import logging
import math
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.imaging.camera_geometry import Nine, as_nine, corner_pixels
from irvf.imaging.structure_matching import (
    Blocks,
    Correlation,
    Fit,
    FitConfig,
    correlate,
    fit_homography,
    structure,
)

Array = NDArray[np.float64]
Size = tuple[int, int]
View = Callable[[Size], tuple[Plane, Plane, Plane | None]]
"""Renders a pair at a size: thermal plane and luma ``[h x w]``, and where thermal reaches (None: everywhere)."""

STATES = ("measuring", "aligned", "misaligned", "refused")

_IDENTITY: Nine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_WORKING_SIDE = 320  # larger side of the planes that are compared; at VGA half the size, at a quarter of the time
_REFERENCE_DIAGONAL = 800.0  # of a VGA image, which the pixels of the configuration are of
_KEPT = 0.9  # share of the evidence that stays when a pair is added
_MOST_INDEPENDENT = 8.0  # pairs; more do not make it surer, for what is wrong with all of them is the same
_LEAST_SPREAD = 0.02  # of a plane in 0..1, between its 2nd and 98th percentile
_LEAST_TELLING = 0.2  # share of the blocks
_LEAST_AGREEING = 0.7  # share of those
_LEAST_GAIN = 0.5  # log likelihood per block
_MOST_RIVAL = 0.93
_SETTLED_AFTER = 4  # estimates that confirm what is applied
_CONFIRMS = 1.5  # px of misalignment
_CONTRADICTS = 5.0  # px
_GIVES_IN_AFTER = 3  # estimates that contradict
_LEAST_UPDATE = 0.25  # px; less is not worth another lookup
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignmentConfig:
    """How the misalignment is measured; pixels are those of a VGA image, and grow with the diagonal of larger ones.

    Attributes:
        correct: follow what is measured; False only measures.
        limit: largest displacement of a corner, along each axis, that can be found, pixels.
        every: pairs from one estimate to the next, before the result is settled.
        every_settled: the same once it is, and where nothing is corrected.
        largest_step: by which a settled result changes at once, pixels at a corner.

    Raises:
        ValueError: a value is out of range.
    """

    correct: bool = True
    limit: float = 24.0
    every: int = 4
    every_settled: int = 45
    largest_step: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if not 2 <= self.limit <= 100:
            raise ValueError(f"alignment limit is {self.limit} px; choose 2 to 100")
        if self.every < 1 or self.every_settled < 1:
            raise ValueError(f"alignment every {self.every} or {self.every_settled} pairs; each must be 1 or more")
        if not self.largest_step > 0:
            raise ValueError(f"alignment step is {self.largest_step} px; it must be above 0")


@dataclass(frozen=True)
class Alignment:
    """What is known of the misalignment.

    Attributes:
        homography: that is applied, from where the base registration puts a thermal point to where the RGB image shows
            it, in RGB pixels; row by row. The identity where nothing is corrected.
        misalignment_px: what remains between that and the newest accepted evidence: the median of the four corners'
            distances, RGB pixels; NaN before there is any.
        confidence: of that evidence, 0..1: blocks that agree, by how much better than chance.
        state: one of :data:`STATES`: ``measuring`` before any estimate; ``aligned`` up to 2 px at VGA remain;
            ``misaligned`` more; ``refused`` when the newest evidence is too weak, and what was applied stays.
        reason: why, in a sentence; empty when aligned.
        estimates: made so far, with those refused.
        updates: how often the homography changed.
    """

    homography: Nine = _IDENTITY
    misalignment_px: float = math.nan
    confidence: float = 0.0
    state: str = "measuring"
    reason: str = "no pair has been looked at yet"
    estimates: int = 0
    updates: int = 0


class AlignmentEstimator:
    """Measures the misalignment of a stream, at most one pair at a time and in a thread of its own.

    Args:
        config: how.
        on_update: called with each new homography (that of :class:`Alignment`) and the size of the RGB image, in the
            estimator's thread and before :attr:`alignment` shows it.
        background: False estimates within :meth:`offer`, for tests and files.
    """

    def __init__(
        self,
        config: AlignmentConfig | None = None,
        on_update: Callable[[Array, Size], None] | None = None,
        *,
        background: bool = True,
    ) -> None:
        self.config = config or AlignmentConfig()
        self._on_update = on_update
        self._alignment = Alignment()
        self._follower: _Follower | None = None
        self._waits = 0
        self._jobs: queue.Queue[tuple[View, Size] | None] = queue.Queue(1)
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None
        self._background = background
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def alignment(self) -> Alignment:
        """What is known now."""
        return self._alignment

    def offer(self, view: View, size: Size) -> bool:
        """Take a pair, if it is time for one and none is being looked at.

        Args:
            view: renders the pair, in the estimator's thread; what it holds must not be written to later.
            size: height and width of the RGB image; another one than before begins anew.

        Returns:
            Whether it is taken.
        """
        if self._waits > 0:
            self._waits -= 1
            return False
        if not self._idle.is_set():
            return False
        settled = self._follower is not None and self._follower.settled
        slow = settled or not self.config.correct
        # The first few are taken soon, so that a monitor has something to show.
        slow = slow and self._alignment.estimates >= _SETTLED_AFTER
        self._waits = (self.config.every_settled if slow else self.config.every) - 1
        if not self._background:
            self._estimate(view, size)
            return True
        with self._lock:
            if self._is_closed:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="alignment", daemon=True)
                self._thread.start()
                # A daemon that is within OpenCV when the interpreter ends would abort the process.
                atexit.register(self.close)
            self._idle.clear()
            self._jobs.put((view, size))
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no pair is being looked at; return whether that is so."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """End the thread, after the pair that it is looking at; no pair is taken from now on."""
        with self._lock:
            self._is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            atexit.unregister(self.close)
            self._jobs.put(None)
            thread.join()
        self._idle.set()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._estimate(*job)
            finally:
                self._idle.set()

    def _estimate(self, view: View, size: Size) -> None:
        follower = self._follower
        if follower is None or follower.size != size:
            if follower is not None:
                self._undo(size)
            follower = self._follower = _Follower(size, self.config)
        before = follower.homography
        try:
            alignment = follower.look(view)
            if follower.homography is not before and self._on_update:
                self._on_update(follower.homography, size)
        except Exception as error:  # noqa: BLE001 - whatever an image did to it, the stream goes on with what is applied
            _log.exception("alignment failed")
            self._alignment = replace(self._alignment, state="refused", reason=f"failed: {error}")
            self._follower = None  # what it thinks is applied may not be
            self._undo(size)
            return
        self._alignment = alignment

    def _undo(self, size: Size) -> None:
        """Take back what was applied, where that can be; evidence begins anew."""
        if self._on_update and self.config.correct:
            try:
                self._on_update(np.eye(3), size)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("the correction was not taken back")


class _Follower:
    """Evidence of a stream of one size, and the displacements of the corners that are applied."""

    def __init__(self, size: Size, config: AlignmentConfig) -> None:
        self.size, self._config = size, config
        height, width = size
        self.settled = False
        self.homography: Array = np.eye(3)
        self._unit = max(1.0, math.hypot(height, width) / _REFERENCE_DIAGONAL)
        scale = min(1.0, _WORKING_SIDE / max(size))
        self._working = max(32, round(height * scale)), max(32, round(width * scale))
        self._scale = np.array([width / self._working[1], height / self._working[0]])
        unit = self._unit / float(self._scale.mean())
        self._blocks = Blocks(self._working, math.ceil(config.limit * unit))
        self._known = FitConfig(16 * unit, 8 * unit, 5 * unit, 2 * unit, 120 * unit)
        self._corners = corner_pixels(size)
        self._applied: Array = np.zeros((4, 2))
        self._sum: Correlation | None = None
        self._pairs = self._independent = 0.0
        self._last_luma: Plane | None = None
        self._confirmed = self._contradicted = 0
        self._alignment = Alignment()

    def look(self, view: View) -> Alignment:
        """Take a pair in, and say what is known with it."""
        estimates = self._alignment.estimates + 1
        thermal, luma, seen = view(self._working)
        reason = _flat("thermal", thermal) or _flat("RGB", luma)
        fit = None
        if not reason:
            self._add(structure(thermal, seen), structure(luma))
            if self._sum is not None:
                coefficient = self._sum.coefficient(self._pairs)
                fit = fit_homography(coefficient, self._independent, self._blocks, self._known)
                reason = self._weakness(fit)
        if fit is None or reason:
            self._alignment = replace(
                self._alignment, state="refused", reason=reason, confidence=0.0, estimates=estimates
            )
            return self._alignment
        found = fit.displacement * self._scale
        remains = self._remains(found)
        updates = self._alignment.updates
        contradicts = ""
        if self._config.correct:
            contradicts = self._contradiction(remains)
            if not contradicts and remains > _LEAST_UPDATE * self._unit:
                self._follow(found)
                updates += 1
                remains = self._remains(found)
        aligned = remains <= 2 * self._unit
        reason = contradicts or ("" if aligned else f"the edges of the two images lie {remains:.1f} px apart")
        self._alignment = Alignment(
            as_nine(self.homography),
            remains,
            float(fit.agreeing * (1 - math.exp(-fit.gain))),
            "refused" if contradicts else "aligned" if aligned else "misaligned",
            reason,
            estimates,
            updates,
        )
        return self._alignment

    def _add(self, thermal: Plane, luma: Plane) -> None:
        new = correlate(thermal, luma, self._blocks)
        # A scene that stands still says the same again, and is no surer for it.
        novelty = 1.0 if self._last_luma is None else 1 - max(0.0, _alike(luma, self._last_luma)) ** 2
        self._sum = new if self._sum is None else self._sum.added(new, _KEPT)
        self._pairs = self._pairs * _KEPT + 1
        self._independent = min(max(1.0, self._independent * _KEPT + novelty), _MOST_INDEPENDENT)
        self._last_luma = luma

    def _weakness(self, fit: Fit) -> str:
        """Say why a fit is not to be trusted; empty when it is."""
        blocks = len(self._blocks.centers)
        if fit.telling < _LEAST_TELLING * blocks:
            return f"only {fit.telling} of {blocks} blocks have edges in common"
        if fit.agreeing < _LEAST_AGREEING or fit.gain < _LEAST_GAIN:
            return f"only {fit.agreeing:.0%} of the {fit.telling} blocks with common edges agree on one homography"
        if fit.rival > _MOST_RIVAL:
            return "another displacement fits nearly as well: the scene repeats itself"
        largest = float(np.abs(fit.displacement * self._scale).max())
        limit = self._config.limit * self._unit
        if largest > limit:
            return f"a corner would move by {largest:.0f} px, beyond the limit of {limit:.0f} px"
        return ""

    def _remains(self, found: Array) -> float:
        return float(np.median(np.linalg.norm(found - self._applied, axis=1)))

    def _contradiction(self, remains: float) -> str:
        """Say that new evidence contradicts a settled result; empty when it may be followed."""
        if remains <= _CONFIRMS * self._unit:
            self._confirmed += 1
        self.settled = self.settled or self._confirmed >= _SETTLED_AFTER
        if not self.settled or remains <= _CONTRADICTS * self._unit:
            self._contradicted = 0
            return ""
        self._contradicted += 1
        if self._contradicted >= _GIVES_IN_AFTER:
            # The cameras have moved: what was seen before is no evidence of how they stand now.
            self.settled, self._confirmed, self._contradicted = False, 0, 0
            self._sum, self._pairs, self._independent = None, 0.0, 0.0
            return ""
        count = f"{self._contradicted} of {_GIVES_IN_AFTER}"
        return f"contradicts what earlier pairs showed by {remains:.1f} px; followed if it lasts ({count})"

    def _follow(self, found: Array) -> None:
        way = found - self._applied
        if self.settled:
            way = way * min(0.5, self._config.largest_step * self._unit / np.linalg.norm(way, axis=1).max())
        self._applied = self._applied + way
        shown = (self._corners + self._applied).astype(np.float32)
        # From the thermal pixels of the base registration to the RGB image.
        self.homography = np.asarray(cv2.getPerspectiveTransform(shown, self._corners.astype(np.float32)), np.float64)


def _flat(name: str, plane: Plane) -> str:
    low, high = np.percentile(plane.ravel()[::7], (2, 98))
    return f"the {name} image is nearly of one grey level" if high - low < _LEAST_SPREAD else ""


def _alike(first: Plane, second: Plane) -> float:
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / norm if norm > 0 else 1.0
