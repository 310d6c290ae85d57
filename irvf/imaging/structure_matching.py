"""How a thermal plane lies against an RGB image's luma, by the directions of the edges that both show.

An edge is bright on one side in thermal and on the other in RGB, or in one of them alone, so that grey levels say
nothing across the two. The direction of an edge, modulo half a turn, is the same in both. It is taken as a vector of
twice its angle (Granlund, "In search of a general picture processing operator", 1978), its length by local contrast.
Blocks of the image are compared at every displacement within reach, and the homography is what the blocks agree on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.frames import Plane
from irvf.imaging.camera_geometry import corner_pixels, homography_points

Array = NDArray[np.float64]
Surfaces = NDArray[np.float32]
Size = tuple[int, int]

BLOCK = 41
"""Side of a block, pixels of the planes that are compared."""

_SPACING = 36
_NOISE = 0.004  # gradient, of a plane in 0..1, that a direction is not told from
_CONTRAST_WIDTH = 12.0
_DETAIL_WIDTH = 6.0
_BLANK = 1e-4
_EVIDENCE = 100.0  # half of the independent pixels in a block, for log likelihood = N / 2 rho^2
_LEAST_ENERGY = 0.02  # of a block's structure, mean over its pixels, added to what correlation is normalised by
_OUTLIERS = 0.2  # share of blocks that follow no homography: moving, near, or seen by one camera alone
_WIDTHS = (4.0, 2.5, 1.5, 1.0)  # by which agreement is loosened, coarse to fine


def structure(plane: Plane, seen: Plane | None = None) -> Plane:
    """Return the directions of a plane's edges.

    Args:
        plane: ``[H x W]`` float32 in 0..1.
        seen: ``[H x W]``, above 0.5 where the plane shows something; None for everywhere.

    Returns:
        ``[H x W x 2]``: cosine and sine of twice the gradient's angle, times 0..1 by its local contrast, less the mean
        of the surroundings.
    """
    smooth = cv2.GaussianBlur(plane, (0, 0), 1.0)
    x, y = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(smooth, cv2.CV_32F, 0, 1) / 32
    mask = _told_apart(plane, seen)
    energy = (x * x + y * y) * mask
    covered = np.maximum(cv2.GaussianBlur(mask, (0, 0), _CONTRAST_WIDTH), 0.05)
    contrast = cv2.GaussianBlur(energy, (0, 0), _CONTRAST_WIDTH) / covered
    # (x + iy)^2 / |x + iy| has twice the angle and the length of the gradient.
    length = mask / (np.sqrt(energy + 0.5 * contrast + _NOISE**2) * np.sqrt(energy + 1e-12))
    doubled = np.dstack([(x * x - y * y) * length, 2 * x * y * length])
    doubled = cv2.GaussianBlur(doubled, (0, 0), 1.0)
    return cast("Plane", doubled - cv2.GaussianBlur(doubled, (0, 0), _DETAIL_WIDTH))


def _told_apart(plane: Plane, seen: Plane | None) -> Plane:
    """Return 1 where there is an image: not at its rim, nor where it is blank, as a warp or a shutter leaves it."""
    square = np.ones((3, 3), np.uint8)
    blank = (cv2.dilate(plane, square) - cv2.erode(plane, square) < _BLANK).astype(np.uint8)
    blank = np.asarray(cv2.morphologyEx(blank, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8)
    if seen is not None:
        blank |= (seen <= 0.5).astype(np.uint8)
    blank[[0, -1]] = blank[:, [0, -1]] = 1
    return 1.0 - cast("Plane", cv2.dilate(blank, np.ones((5, 5), np.uint8)).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of an image, and how its corners' displacements move them.

    Attributes:
        size: height and width of the planes.
        reach: largest displacement along each axis, pixels.
    """

    size: Size
    reach: int

    @cached_property
    def centers(self) -> NDArray[np.int64]:
        """Return ``[B x 2]`` pixels."""
        margin = BLOCK // 3
        columns, rows = (
            np.linspace(margin, side - 1 - margin, max(3, round((side - 2 * margin) / _SPACING) + 1))
            .round()
            .astype(int)
            for side in (self.size[1], self.size[0])
        )
        return np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)

    @cached_property
    def corners(self) -> Array:
        """Return the four corner pixels ``[4 x 2]``."""
        return corner_pixels(self.size)

    @cached_property
    def jacobian(self) -> Array:
        """Return ``[B x 2 x 8]``: movement of the blocks by small displacements of the corners, x and y of each."""
        steps = np.eye(8).reshape(8, 4, 2) * 0.01
        return np.stack([self.moved(step) for step in steps], -1) / 0.01

    @cached_property
    def distances(self) -> Array:
        """Return ``[B x B]`` between centres, pixels."""
        return cast("Array", np.linalg.norm(self.centers[:, None] - self.centers[None], axis=-1).astype(np.float64))

    @cached_property
    def candidates(self) -> Array:
        """Return ``[N x 8]`` displacements of the corners to begin from: shifts, turns and changes of scale."""
        arms = self.corners - self.corners.mean(0)
        turns = np.radians([-3, -1.5, 0, 1.5, 3])
        linear = np.array([[[s, -turn], [turn, s]] for turn in turns for s in (-0.04, 0, 0.04)])
        step = max(2, round(self.reach / 6))
        along = np.arange(-(self.reach // step) * step, self.reach + 1, step)
        shifts = np.stack(np.meshgrid(along, along), -1).reshape(-1, 1, 1, 2)
        found = (np.einsum("nij,cj->nci", linear, arms)[None] + shifts).reshape(-1, 8)
        return cast("Array", found[np.abs(found).max(1) <= self.reach])

    @cached_property
    def candidate_index(self) -> NDArray[np.intp]:
        """Return ``[N x B]``: where the candidates lie in the blocks' flattened surfaces."""
        moved = np.rint(np.einsum("bak,nk->nba", self.jacobian, self.candidates)).astype(np.intp)
        moved = np.clip(moved + self.reach, 0, 2 * self.reach)
        return cast("NDArray[np.intp]", moved[..., 1] * (2 * self.reach + 1) + moved[..., 0])

    def homography(self, displacement: Array) -> Array:
        """Return the homography that moves the corners ``[4 x 2]`` by so much."""
        corners, moved = self.corners.astype(np.float32), (self.corners + displacement).astype(np.float32)
        return np.asarray(cv2.getPerspectiveTransform(corners, moved), np.float64)

    def moved(self, displacement: Array) -> Array:
        """Return the displacements ``[B x 2]`` of the blocks when the corners' are ``[4 x 2]``."""
        points, _ = homography_points(self.homography(displacement), self.centers.astype(np.float64))
        return points - self.centers


@dataclass(frozen=True, eq=False)
class Correlation:
    """Agreement of the blocks at every displacement, of one pair or summed over several.

    Attributes:
        cross: ``[B x D x D]``: products of the two structures, D = 2 reach + 1, rows by displacement along y.
        thermal: ``[B x D x D]``: energy of the thermal structure there.
        luma: ``[B]``: energy of the RGB structure.
    """

    cross: Surfaces
    thermal: Surfaces
    luma: NDArray[np.float32]

    def added(self, other: Correlation, kept: float) -> Correlation:
        """Return this, weakened to the share ``kept``, and the other."""
        return Correlation(
            self.cross * kept + other.cross, self.thermal * kept + other.thermal, self.luma * kept + other.luma
        )

    def coefficient(self, weight: float) -> Surfaces:
        """Return the correlation coefficient ``[B x D x D]``; ``weight`` is the number of pairs summed, as weakened."""
        energy = np.sqrt(self.luma[:, None, None] * np.maximum(self.thermal, 0.0))
        return cast("Surfaces", self.cross / (energy + _LEAST_ENERGY * weight * BLOCK**2))


def correlate(thermal: Plane, luma: Plane, blocks: Blocks) -> Correlation:
    """Compare structures ``[H x W x 2]`` block by block; displacements lead from RGB to thermal pixels."""
    half, reach = BLOCK // 2, blocks.reach
    pad = half + reach
    thermal = np.pad(thermal, ((pad, pad), (pad, pad), (0, 0)))
    luma = np.pad(luma, ((half, half), (half, half), (0, 0)))
    energy = cv2.boxFilter(cv2.multiply(thermal, thermal), -1, (BLOCK, BLOCK), normalize=False).sum(-1)
    cross, thermal_energy, luma_energy = [], [], []
    side = 2 * reach + 1
    for x, y in blocks.centers.tolist():
        block = luma[y : y + BLOCK, x : x + BLOCK]
        window = thermal[y : y + 2 * pad + 1, x : x + 2 * pad + 1]
        cross.append(cv2.matchTemplate(window, block, cv2.TM_CCORR))
        thermal_energy.append(energy[y + half : y + half + side, x + half : x + half + side])
        luma_energy.append(float((block * block).sum()))
    return Correlation(np.stack(cross), np.stack(thermal_energy), np.array(luma_energy, np.float32))


@dataclass(frozen=True)
class FitConfig:
    """What is known before any image is seen; all in pixels of the planes.

    Attributes:
        shift: standard deviation of the misalignment's shift.
        linear: of what turning, scaling and shearing moves the corners by.
        perspective: of what perspective moves them by.
        unfitted: of what no homography describes: parallax, lens, cameras that are not synchronous.
        alike: distance over which that is alike.
    """

    shift: float
    linear: float
    perspective: float
    unfitted: float
    alike: float


@dataclass(frozen=True, eq=False)
class Fit:
    """The homography that blocks agree on.

    Attributes:
        displacement: of the corners ``[4 x 2]``, from RGB to thermal pixels.
        deviation: standard deviation of a corner along one axis by the evidence, pixels; root mean square of the four.
        gain: log likelihood per block over that of no common displacement at all.
        agreeing: share of the blocks that tell displacements apart which agree with it.
        telling: number of such blocks.
        rival: correlation at the best shift, turn and scale far from this one, relative to this one's.
    """

    displacement: Array
    deviation: float
    gain: float
    agreeing: float
    telling: int
    rival: float


def fit_homography(coefficient: Surfaces, pairs: float, blocks: Blocks, known: FitConfig) -> Fit:
    """Find the displacements of the corners that explain the correlations.

    Each block's displacement is that of the homography, plus a smooth random field (``known.unfitted``), or anything in
    reach (an outlier). It is solved by generalised least squares on the blocks' own peaks, with the loosening of
    agreement taken back step by step.

    Args:
        coefficient: ``[B x D x D]`` correlations.
        pairs: number of independent pairs that they are of.
        blocks: which blocks.
        known: before the images.
    """
    modes = _modes()
    precision = np.diag(1 / np.repeat([known.shift, known.linear, known.perspective], [2, 4, 2]) ** 2)
    log_likelihood = _EVIDENCE * pairs * np.square(np.maximum(coefficient, 0.0))
    likelihood = np.exp(log_likelihood - log_likelihood.max((1, 2), keepdims=True))
    likelihood /= likelihood.sum((1, 2), keepdims=True)
    surfaces = _loosened(likelihood, _WIDTHS[0])
    values = _start(surfaces, blocks, precision)
    jacobian = (blocks.jacobian @ modes).reshape(-1, 8)
    field = known.unfitted**2 * np.exp(-0.5 * (blocks.distances / known.alike) ** 2)
    field = np.asarray(np.kron(field, np.eye(2)), np.float64)
    normal: Array = precision
    for width in _WIDTHS:
        surfaces = _loosened(likelihood, width)
        slopes = _Slopes(surfaces, blocks.reach)
        for _ in range(4):
            moved = blocks.moved((modes @ values).reshape(4, 2))
            errors, covariance = slopes.peaks(moved)
            _, weighted = cv2.solve(field + covariance, jacobian, flags=cv2.DECOMP_CHOLESKY)
            normal = jacobian.T @ weighted + precision
            step = np.linalg.solve(normal, weighted.T @ errors.ravel() - precision @ values)
            values = values + 0.8 * step
            if np.abs(step).max() < 0.03:
                break
    displacement = (modes @ values).reshape(4, 2)
    spread = modes @ np.linalg.inv(normal) @ modes.T
    at_fit = _sampled(surfaces, blocks.moved(displacement), blocks.reach)
    telling = surfaces.max((1, 2)) > 1.0
    agreeing = float((at_fit[telling] > 0).mean()) if telling.any() else 0.0
    return Fit(
        displacement,
        float(np.sqrt(np.trace(spread) / 8)),
        float(at_fit.mean()),
        agreeing,
        int(telling.sum()),
        _rival(coefficient, displacement, blocks),
    )


def _modes() -> Array:
    """Return ``[8 x 8]``: corners' displacements by shift, by what is linear along x and y, and by perspective."""
    x, y = np.array([-1.0, 1, 1, -1]), np.array([-1.0, -1, 1, 1])
    return np.kron(np.column_stack([np.ones(4), x, y, x * y]), np.eye(2))


def _loosened(likelihood: Surfaces, width: float) -> Surfaces:
    """Return each block's log likelihood over that of no knowledge, for displacements right to ``width`` pixels."""
    blurred = np.stack([cv2.GaussianBlur(block, (0, 0), width, borderType=cv2.BORDER_CONSTANT) for block in likelihood])
    count = likelihood.shape[1] * likelihood.shape[2]
    return cast("Surfaces", np.log((1 - _OUTLIERS) * count * blurred + _OUTLIERS))


def _start(surfaces: Surfaces, blocks: Blocks, precision: Array) -> Array:
    """Return the best of the candidates, as values of the modes."""
    values = np.linalg.solve(_modes(), blocks.candidates.T).T
    scores = _scores(surfaces, blocks) - 0.5 * np.einsum("ni,ij,nj->n", values, precision, values)
    return cast("Array", values[scores.argmax()])


def _scores(surfaces: Surfaces, blocks: Blocks) -> Array:
    """Return what the surfaces say of each candidate, summed over the blocks."""
    index = blocks.candidate_index
    return cast("Array", surfaces.reshape(len(surfaces), -1)[np.arange(len(surfaces)), index].sum(1))


def _rival(coefficient: Surfaces, displacement: Array, blocks: Blocks) -> float:
    """Return the correlation of the best candidate far from a fit, relative to the fit's."""
    # Candidates are some pixels apart, so that each takes the best of its neighbourhood.
    square = np.ones((5, 5), np.uint8)
    positive = np.maximum(coefficient, 0.0)
    loose: Surfaces = np.stack([cv2.dilate(block, square) for block in positive]).astype(np.float32, copy=False)
    at_fit = float(_sampled(loose, blocks.moved(displacement), blocks.reach).sum())
    far = np.abs(blocks.candidates - displacement.ravel()).mean(1) > blocks.reach / 3
    return float(_scores(loose, blocks)[far].max() / max(at_fit, 1e-6)) if far.any() else 0.0


def _sampled(surfaces: NDArray[Any], at: Array, reach: int) -> Array:
    """Return the blocks' values at displacements ``[B x 2]``, linearly between pixels."""
    at = np.clip(at + reach, 0, 2 * reach - 1e-3)
    whole = at.astype(np.intp)
    (x, y), (fx, fy), block = whole.T, (at - whole).T, np.arange(len(surfaces))
    top = surfaces[block, y, x] * (1 - fx) + surfaces[block, y, x + 1] * fx
    bottom = surfaces[block, y + 1, x] * (1 - fx) + surfaces[block, y + 1, x + 1] * fx
    return cast("Array", top * (1 - fy) + bottom * fy)


class _Slopes:
    """First and second derivatives of log likelihoods."""

    def __init__(self, surfaces: Surfaces, reach: int) -> None:
        self._reach = reach
        y, x = np.gradient(surfaces, axis=(1, 2))
        xy, xx = np.gradient(x, axis=(1, 2))
        yy = np.gradient(y, axis=1)
        self._derivatives = [np.pad(each, ((0, 0), (0, 1), (0, 1)), mode="edge") for each in (x, y, xx, xy, yy)]

    def peaks(self, at: Array) -> tuple[Array, Array]:
        """Return each block's way ``[B x 2]`` to its peak, and the covariance ``[2B x 2B]`` of where that is."""
        x, y, xx, xy, yy = (_sampled(each, at, self._reach) for each in self._derivatives)
        curvature = -np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
        bends, axes = np.linalg.eigh(curvature)
        # Beside a peak the surface bends the other way; its size still says how sharp the peak is.
        covariance = np.einsum("bij,bj,bkj->bik", axes, 1 / np.maximum(np.abs(bends), 1e-3), axes)
        way = np.einsum("bij,bj->bi", covariance, np.stack([x, y], -1))
        length = np.linalg.norm(way, axis=1, keepdims=True)
        full = np.zeros((2 * len(at), 2 * len(at)))
        for index, block in enumerate(covariance):
            full[2 * index : 2 * index + 2, 2 * index : 2 * index + 2] = block
        return way * np.minimum(1.0, 2.5 / np.maximum(length, 1e-9)), full
