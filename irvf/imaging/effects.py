"""Changes of how the fused image looks, each a feed-forward step on its luma where TeRF tunes a network.

Source: TeRF, section 2.4. The ``amount`` of an effect is -2..2: 0.5 is one ordinary request and 1 two of them, so that
repeating one strengthens it (section 2.4.4), and 0 changes nothing. Planes are ``[H x W]`` float32 in 0..1, all of one
size. What an effect returns lies in the scratch memory that it was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from irvf.frames import Image8, Plane
from irvf.imaging.color import Chroma
from irvf.imaging.edge_preserving import Line, Scratch, cells, enlarge, evaluate_base, find_base, halve, reduced

MAX_AMOUNT = 2.0
GRID = 4
"""Pixels a side of a cell of the grid that coefficients and saturation are found on."""
BASE_DEVIATION, BASE_SIDE = 0.08, 5
"""Contrast above which a border is no detail, and cells a side of the windows that it is looked for in."""
CONTRAST_DEVIATION, CONTRAST_SIDE = 0.15, 9
"""The same for the contrast, in cells of twice the size."""
LEAST_NOISE = 2 / 255
"""Standard deviation of the noise that is taken away at least: what compression left of it is not seen as noise."""
SATURATION_EXPONENT = 0.7
"""Of the gain of the brightness, to scale colours by: at 1 they are natural, but colour noise in the dark is too."""


@dataclass(frozen=True, eq=False)
class MaskedEffect:
    """One effect and where it shows.

    Attributes:
        kind: of :data:`EFFECTS`.
        amount: how much and which way, -2..2; of denoising 0..2.
        mask: how much of the effect shows at each pixel, ``[H x W]`` float32 in 0..1; None for all of it everywhere.
    """

    kind: str
    amount: float
    mask: Plane | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """What effects made of an image.

    Attributes:
        luma: ``[H x W]`` float32 in 0..1.
        saturation: what colours are to be scaled by, for :func:`scale_chroma`: float32 from 0, ``[ceil(H / 4) x
            ceil(W / 4)]``; None to leave them.
    """

    luma: Plane
    saturation: Plane | None = None


def apply_effects(
    fused: Plane, thermal: Plane, luma: Plane, effects: Iterable[MaskedEffect], scratch: Scratch | None = None
) -> Look:
    """Apply effects in their order, each to what those before it made and blended with that (Eq. 5, with products).

    Args:
        fused: luma of the fused image; not written to.
        thermal: what it was fused from.
        luma: likewise, of the RGB image.
        effects: what to do, and where.
        scratch: of this thread, for the next call to be faster; the result lies in it until then.

    Raises:
        ValueError: an unknown kind, an amount out of range, or planes of different sizes.
    """
    scratch = scratch or Scratch()
    scratch.clear()
    image = Look(fused)
    for effect in effects:
        _check(effect, fused, thermal, luma)
        changed = EFFECTS[effect.kind](image.luma, thermal, luma, effect.amount, scratch)
        image = _blend(image, changed, effect.mask, scratch)
    return image


def _check(effect: MaskedEffect, fused: Plane, *others: Plane) -> None:
    if effect.kind not in EFFECTS:
        raise ValueError(f"effect {effect.kind!r}; allowed: {', '.join(EFFECTS)}")
    least = 0.0 if effect.kind == "denoising" else -MAX_AMOUNT
    if not least <= effect.amount <= MAX_AMOUNT:
        raise ValueError(f"{effect.kind} by {effect.amount}; allowed: {least:g}..{MAX_AMOUNT:g}")
    for plane in (*others, effect.mask):
        if plane is not None and plane.shape != fused.shape:
            raise ValueError(
                f"a plane of {list(plane.shape)} for {effect.kind} of a fused image of {list(fused.shape)}; "
                "thermal, luma and mask must have its size"
            )


def _blend(before: Look, after: Look, mask: Plane | None, scratch: Scratch) -> Look:
    saturation = after.saturation
    if mask is not None:
        cv2.subtract(after.luma, before.luma, after.luma)
        cv2.multiply(after.luma, mask, after.luma)
        cv2.add(after.luma, before.luma, after.luma)
        if saturation is not None:
            with scratch:
                saturation = 1 + reduced(mask, GRID, scratch) * (saturation - 1)
    if saturation is None or before.saturation is None:
        return Look(after.luma, before.saturation if saturation is None else saturation)
    return Look(after.luma, saturation * before.saturation)


def scale_chroma(chroma: Chroma, saturation: Plane, scratch: Scratch | None = None) -> Chroma:
    """Make colours stronger or weaker.

    Args:
        chroma: of :func:`irvf.imaging.color.split_luma_chroma`; not written to.
        saturation: of the :class:`Look`.
        scratch: see :func:`apply_effects`; what lies in it stays.
    """
    scratch = scratch or Scratch()
    with scratch:
        scale, deviation = scratch.plane(chroma[0].shape), scratch.plane(chroma[0].shape)
        enlarge(saturation, scale)
        red, blue = (_scaled(plane, scale, deviation) for plane in chroma)
    return red, blue


def _scaled(chroma: Image8, scale: Plane, deviation: Plane) -> Image8:
    cv2.addWeighted(chroma, 1.0, chroma, 0.0, -128.0, deviation, cv2.CV_32F)
    cv2.multiply(deviation, scale, deviation)
    return cast("Image8", cv2.addWeighted(deviation, 1.0, deviation, 0.0, 128.0, dtype=cv2.CV_8U))


def incline(fused: Plane, thermal: Plane, luma: Plane, amount: float, scratch: Scratch | None = None) -> Look:
    """Give the image the brightness of one source and let it keep its details (Eqs. 10 to 13).

    Args:
        fused: to change.
        thermal: its brightness is taken where the amount is positive; colours fade with it, as it has none.
        luma: its brightness is taken where the amount is negative.
        amount: 0.5 goes half of the way, 2 all of it.
        scratch: see :func:`apply_effects`.
    """
    scratch = scratch or Scratch()
    share = 1 - (1 - abs(amount) / MAX_AMOUNT) ** 2.5
    source = thermal if amount > 0 else luma
    changed = scratch.plane(fused.shape)
    with scratch:
        part = scratch.plane(fused.shape)
        theirs = find_base(reduced(source, GRID, scratch), BASE_DEVIATION, BASE_SIDE)
        ours = find_base(reduced(fused, GRID, scratch), BASE_DEVIATION, BASE_SIDE)
        evaluate_base(theirs, source, changed, part)
        enlarge(ours[0], part)
        cv2.multiply(part, fused, part)
        cv2.subtract(changed, part, changed)
        enlarge(ours[1], part)
        cv2.subtract(changed, part, changed)
        cv2.scaleAdd(changed, share, fused, changed)
    saturation = np.full(ours[0].shape, 1 - share, np.float32) if amount > 0 else None
    return Look(_clipped(changed), saturation)


def illuminate(fused: Plane, amount: float, scratch: Scratch | None = None) -> Look:
    """Make the image brighter or darker: gamma correction of its illumination, a smooth map of the light (Eq. 14).

    The shadows change most. Brighter leaves white as it is and multiplies black by no more than 5; darker multiplies
    white by 0.81 and black by 0.19 at most. Colours change along.

    Args:
        fused: to change.
        amount: positive for brighter.
        scratch: see :func:`apply_effects`.
    """
    scratch = scratch or Scratch()
    changed = scratch.plane(fused.shape)
    with scratch:
        part = scratch.plane(fused.shape)
        coarse = reduced(fused, GRID, scratch)
        base = find_base(coarse, BASE_DEVIATION, BASE_SIDE)
        evaluate_base(base, fused, changed, part)
        _light_to_gain(changed, fused, amount)
        cv2.multiply(changed, fused, changed)
        saturation = base[0] * coarse + base[1]
        _light_to_gain(saturation, coarse, amount, SATURATION_EXPONENT)
    return Look(_clipped(changed), saturation)


def _light_to_gain(light: Plane, plane: Plane, amount: float, exponent: float = 1.0) -> None:
    """Turn illumination into what to multiply the plane by; of what is brighter than it, into that of its own."""
    exponent *= 2 ** (-0.8 * amount) - 1 if amount > 0 else -0.5 * amount
    black, white = (0.1, 1.1) if amount > 0 else (0.3, 1.6)
    cv2.max(light, plane, light)
    cv2.addWeighted(light, 1 / white, light, 0.0, black / white, light)
    cv2.log(light, light)
    cv2.addWeighted(light, exponent, light, 0.0, 0.0, light)
    cv2.exp(light, light)


def change_contrast(fused: Plane, amount: float, scratch: Scratch | None = None) -> Look:
    """Strengthen or weaken what an image differs by from its surroundings.

    Args:
        fused: to change.
        amount: positive for more contrast, which leaves black black and white white and spares what is near them.
        scratch: see :func:`apply_effects`.
    """
    scratch = scratch or Scratch()
    gain = amount if amount > 0 else 1 / (1 - 0.8 * amount) - 1
    changed = scratch.plane(fused.shape)
    with scratch:
        part = scratch.plane(fused.shape)
        base = find_base(reduced(fused, 2 * GRID, scratch), CONTRAST_DEVIATION, CONTRAST_SIDE)
        evaluate_base(base, fused, changed, part)
        cv2.subtract(fused, changed, changed)
        if amount > 0:  # by x / (x + 0.05), where x, fused (1 - fused), is 0 at black and at white
            cv2.multiply(fused, fused, part)
            cv2.subtract(fused, part, part)
            cv2.multiply(changed, part, changed)
            cv2.addWeighted(part, 1.0, part, 0.0, 0.05, part)
            cv2.divide(changed, part, changed)
        cv2.scaleAdd(changed, gain, fused, changed)
    return Look(_clipped(changed))


def denoise(fused: Plane, amount: float, scratch: Scratch | None = None) -> Look:
    """Smooth an image by the share that noise has in the variance around each pixel.

    Source: Lee, Digital Image Enhancement and Noise Filtering by Use of Local Statistics, 1980.

    Args:
        fused: to change.
        amount: 0..2.
        scratch: see :func:`apply_effects`.
    """
    scratch = scratch or Scratch()
    noise = max(1.2 * amount * max(noise_deviation(fused), LEAST_NOISE) ** 2, 1e-12)
    changed = scratch.plane(fused.shape)
    with scratch:
        part = scratch.plane(fused.shape)
        share, offset = _share_of_noise(fused, noise, scratch)
        enlarge(share, part)
        cv2.multiply(part, fused, part)
        cv2.subtract(fused, part, changed)
        enlarge(offset, part)
        cv2.add(changed, part, changed)
    return Look(_clipped(changed))


def _share_of_noise(plane: Plane, noise: float, scratch: Scratch) -> Line:
    """Return which share of the variance of 6 x 6 pixels is noise, and that of their mean, at half the size.

    Args:
        plane: ``[H x W]`` float32.
        noise: variance, above 0.
        scratch: what is returned lies in.
    """
    square = scratch.plane(plane.shape)
    half, share, mean, offset = (scratch.plane(cells(plane.shape, 2)) for _ in range(4))
    cv2.multiply(plane, plane, square)
    halve(square, half)
    cv2.blur(half, (3, 3), share)
    halve(plane, half)
    cv2.blur(half, (3, 3), mean)
    cv2.multiply(mean, mean, offset)
    cv2.subtract(share, offset, share)
    np.divide(np.float32(noise), np.maximum(share, np.float32(noise), out=share), out=share)
    cv2.multiply(share, mean, offset)
    cv2.blur(share, (3, 3), half)
    cv2.blur(offset, (3, 3), mean)
    return half, mean


def noise_deviation(plane: Plane) -> float:
    """Estimate the standard deviation of white noise in an image, from the quieter part of six bands of it.

    Source: Immerkaer, Fast Noise Variance Estimation, 1996.
    """
    if min(plane.shape) < 3:
        return 0.0
    rows, block = min(plane.shape[0], 18), min(plane.shape[1] - 2, 16)
    blocks = (plane.shape[1] - 2) // block
    sums = []
    for first in np.linspace(0, plane.shape[0] - rows, 6).astype(int):
        response = np.abs(cv2.filter2D(plane[first : first + rows], cv2.CV_32F, _LAPLACIANS)[1:-1, 1:-1])
        sums.append(response.sum(axis=0)[: blocks * block].reshape(blocks, block).sum(axis=1))
    means = np.concatenate(sums) / ((rows - 2) * block)
    quiet = int(0.3 * means.size)
    return float(np.partition(means, quiet)[quiet]) * math.sqrt(math.pi / 2) / 6


_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def sharpen(fused: Plane, amount: float, scratch: Scratch | None = None) -> Look:
    """Strengthen fine detail that is more than noise, or blur.

    Args:
        fused: to change.
        amount: positive to sharpen; -0.5 blurs by a Gaussian of 1.6 pixels and -2 by one of 11, at 480 rows.
        scratch: see :func:`apply_effects`.
    """
    scratch = scratch or Scratch()
    changed = scratch.plane(fused.shape)
    if amount < 0:
        _blur(fused, 1.6 * (-2 * amount) ** 1.4 * fused.shape[0] / 480, changed, scratch)
        return Look(changed)
    core = 1.5 * max(noise_deviation(fused), 1 / 255)
    with scratch:
        part = scratch.plane(fused.shape)
        enlarge(cast("Plane", cv2.GaussianBlur(reduced(fused, 2, scratch), (3, 3), 0)), part)
        cv2.subtract(fused, part, part)
        np.clip(part, -core, core, out=changed)
        cv2.subtract(part, changed, part)
        cv2.scaleAdd(part, amount, fused, changed)
    return Look(_clipped(changed))


def _blur(plane: Plane, sigma: float, blurred: Plane, scratch: Scratch) -> None:
    cell = 1
    while sigma > 3 * cell and min(plane.shape) > 2 * cell:
        cell *= 2
    with scratch:
        coarse = reduced(plane, cell, scratch)
    # Reducing and enlarging blur as well, by 1/12 and 1/6 of a squared cell.
    left = math.sqrt((sigma / cell) ** 2 - (0.25 if cell > 1 else 0.0))
    side = 2 * math.ceil(2.5 * left) + 1
    enlarge(cast("Plane", cv2.GaussianBlur(coarse, (side, side), left)), blurred)


def _clipped(plane: Plane) -> Plane:
    return np.clip(plane, 0.0, 1.0, out=plane)


EFFECTS: dict[str, Callable[[Plane, Plane, Plane, float, Scratch], Look]] = {
    "inclination": incline,
    "illumination": lambda fused, _thermal, _luma, amount, scratch: illuminate(fused, amount, scratch),
    "contrast": lambda fused, _thermal, _luma, amount, scratch: change_contrast(fused, amount, scratch),
    "denoising": lambda fused, _thermal, _luma, amount, scratch: denoise(fused, amount, scratch),
    "sharpness": lambda fused, _thermal, _luma, amount, scratch: sharpen(fused, amount, scratch),
}
"""Kind -> what does it."""
