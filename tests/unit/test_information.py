"""Metrics of information against counts worked out by hand, and VIF against its formula written out pixel by pixel."""

import math

import cv2
import numpy as np
import pytest

from irvf.evaluation.information import (
    cross_entropy,
    entropy,
    mean_cross_entropy,
    mutual_information,
    normalized_information,
    summed_fidelity,
    summed_information,
    visual_information_fidelity,
)


def noise(seed=0, size=(48, 56)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def flat(level, size=(48, 56)):
    return np.full(size, level, np.uint8)


@pytest.mark.parametrize(("levels", "bits"), [(1, 0), (2, 1), (4, 2), (256, 8)])
def test_entropy_of_equally_frequent_levels(levels, bits):
    plane = (np.arange(1024) % levels).astype(np.uint8).reshape(32, 32)
    assert entropy(plane) == pytest.approx(bits)


def test_entropy_of_unequal_levels():
    plane = np.array([[0, 0, 0, 255]], np.uint8)
    assert entropy(plane) == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))


def test_information_in_common_of_independent_and_of_equal_planes():
    rows, columns = np.mgrid[:4, :4].astype(np.uint8)
    assert mutual_information(rows, columns) == pytest.approx(0, abs=1e-12)
    assert mutual_information(rows, rows) == pytest.approx(2)
    assert mutual_information(rows, 255 - rows) == pytest.approx(2)  # the levels' names do not matter


def test_information_in_common_worked_out():
    # Joint shares 1/2, 1/4, 1/4: H(A) = 1, H(B) = 0.811, H(A, B) = 1.5 bits.
    first, second = np.array([[0, 0, 9, 9]], np.uint8), np.array([[5, 5, 5, 7]], np.uint8)
    expected = 1 - (0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)) - 1.5
    assert mutual_information(first, second) == pytest.approx(expected)


def test_information_is_summed_over_the_sources():
    rows, columns = np.mgrid[:4, :4].astype(np.uint8)
    assert summed_information(rows, rows, columns) == pytest.approx(2)
    assert summed_information(rows * 4 + columns, rows, columns) == pytest.approx(4)


def test_normalized_information_worked_out():
    rows, columns = np.mgrid[:4, :4].astype(np.uint8)
    # Fused holds both: H = 4 bits, 2 of each source's 2 bits: 2 (2 / 6 + 2 / 6).
    assert normalized_information(rows * 4 + columns, rows, columns) == pytest.approx(4 / 3)
    assert normalized_information(noise(), noise(), noise()) == pytest.approx(2)


def test_cross_entropy_worked_out():
    source, fused = np.array([[0, 0, 9, 9]], np.uint8), np.array([[0, 0, 0, 9]], np.uint8)
    expected = 0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)
    assert cross_entropy(source, fused) == pytest.approx(expected)
    assert cross_entropy(source, source) == 0
    other = np.array([[0, 0, 0, 0]], np.uint8)
    assert mean_cross_entropy(fused, source, other) == pytest.approx((expected + math.log2(1 / 0.75)) / 2)


def test_cross_entropy_skips_levels_of_one_plane_only():
    source, fused = np.array([[0, 0, 0, 8]], np.uint8), np.array([[0, 0, 7, 7]], np.uint8)
    assert cross_entropy(source, fused) == pytest.approx(0.75 * math.log2(0.75 / 0.5))


def test_a_source_has_all_of_its_own_information():
    assert visual_information_fidelity(noise(), noise()) == pytest.approx(1, abs=1e-6)
    assert summed_fidelity(noise(), noise(), noise()) == pytest.approx(2, abs=1e-6)


def test_information_falls_with_blur_and_rises_with_contrast():
    plane = (noise() // 4 + 96).astype(np.uint8)
    blurred = cv2.GaussianBlur(plane, (0, 0), 1.5)
    louder = (plane.astype(int) * 2 - 128).astype(np.uint8)
    assert visual_information_fidelity(plane, blurred) < 0.5
    assert visual_information_fidelity(plane, louder) > 1.1
    assert visual_information_fidelity(plane, flat(90)) == pytest.approx(0, abs=1e-6)
    assert visual_information_fidelity(flat(90), plane) == 0
    assert visual_information_fidelity(plane, 255 - plane) == 0  # inverted: no gain is positive


def windows(plane, side):
    """Means under a Gaussian at every place where the window fits, summed pixel by pixel."""
    offsets = np.arange(side) - side // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (side / 5) ** 2))
    weights /= weights.sum()
    view = np.lib.stride_tricks.sliding_window_view(plane, (side, side))
    return (view * weights).sum(axis=(2, 3))


def fidelity_written_out(source, fused):
    x, y = source.astype(float), fused.astype(float)
    kept = available = 0.0
    for side in (17, 9, 5, 3):
        if side != 17:
            x, y = windows(x, side)[::2, ::2], windows(y, side)[::2, ::2]
        means = windows(x, side), windows(y, side)
        var_x = windows(x * x, side) - means[0] ** 2
        var_y = windows(y * y, side) - means[1] ** 2
        covariance = windows(x * y, side) - means[0] * means[1]
        for vx, vy, c in zip(var_x.ravel(), var_y.ravel(), covariance.ravel(), strict=True):
            gain = c / vx
            rest = vy - gain * c
            if gain < 0:
                gain, rest = 0, vy
            kept += math.log2(1 + gain**2 * vx / (rest + 2))
            available += math.log2(1 + vx / 2)
    return kept / available


def test_fidelity_is_its_formula():
    source = noise(1)
    fused = (0.6 * source + 0.4 * cv2.GaussianBlur(noise(2), (0, 0), 1)).astype(np.uint8)
    expected = fidelity_written_out(source, fused)
    assert 0.05 < expected < 0.95
    assert visual_information_fidelity(source, fused) == pytest.approx(expected, rel=1e-6)
