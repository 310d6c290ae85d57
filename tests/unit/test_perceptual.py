"""Q_CB and Q_CV against their formulas written out: Fourier sums, windows and blocks one by one."""

import cv2
import numpy as np
import pytest

from irvf.evaluation.perceptual import contrast_preservation, regional_distortion, stretch


def noise(seed=0, size=(36, 50)):
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8), (0, 0), 1)


def filtered(plane, sensitivity, per_degree):
    """Filter by sums over the plane: Fourier matrices, and the frequency of each coefficient by its index."""
    matrices = [np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in plane.shape]
    spectrum = matrices[0] @ plane @ matrices[1]
    for u in range(plane.shape[0]):
        for v in range(plane.shape[1]):
            cycles = np.hypot(*(min(k, n - k) for k, n in zip((u, v), plane.shape, strict=True)))
            spectrum[u, v] *= sensitivity(cycles / per_degree)
    restored = matrices[0].conj() @ spectrum @ matrices[1].conj()
    return restored.real / plane.size


def gaussian(plane, sigma):
    offsets = np.arange(-15, 16)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * sigma**2))
    view = np.lib.stride_tricks.sliding_window_view(np.pad(plane, 15, mode="reflect"), (31, 31))
    return (view * weights / weights.sum()).sum(axis=(2, 3))


def stretched(plane):
    return np.round((plane.astype(float) - plane.min()) / (plane.max() - plane.min()) * 255)


def test_stretching_spans_all_levels():
    plane = np.array([[10, 60, 110]], np.uint8)
    np.testing.assert_array_equal(stretch(plane), [[0, 128, 255]])
    np.testing.assert_array_equal(stretch(np.full((2, 2), 7, np.uint8)), np.zeros((2, 2)))


def test_contrast_preservation_is_its_formula():
    def sensitivity(f):
        return np.exp(-((f / 15.3870) ** 2)) - 0.7622 * np.exp(-((f / 1.3456) ** 2))

    def masked(plane):
        seen = filtered(stretched(plane), sensitivity, 15)
        contrast = abs(gaussian(seen, 2) / gaussian(seen, 4) - 1)
        return contrast**3 / (contrast**2 + 0.0001)

    thermal, luma = noise(1), noise(2)
    fused = cv2.addWeighted(thermal, 0.7, luma, 0.3, 0)
    a, b, f = map(masked, (thermal, luma, fused))
    weight = a**2 / (a**2 + b**2)
    kept = [np.where(source < f, source / f, f / source) for source in (a, b)]
    expected = (weight * kept[0] + (1 - weight) * kept[1]).mean()
    assert 0.2 < expected < 0.95
    assert contrast_preservation(fused, thermal, luma) == pytest.approx(expected, rel=1e-6)


def test_regional_distortion_is_its_formula():
    def sensitivity(f):
        return 2.6 * (0.0192 + 0.114 * f) * np.exp(-((0.114 * f) ** 1.1))

    def strength(plane):
        padded = np.pad(plane, 1, mode="reflect")
        view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
        x = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        return np.sqrt((view * x).sum(axis=(2, 3)) ** 2 + (view * x.T).sum(axis=(2, 3)) ** 2)

    thermal, luma = noise(3), noise(4)
    fused = cv2.max(thermal, luma)
    numerator = denominator = 0.0
    for source in (thermal, luma):
        edges = strength(stretched(source))
        difference = filtered(stretched(source) - stretched(fused), sensitivity, 4)
        for top in (0, 16):  # of 36 x 50 pixels, 2 x 3 whole blocks
            for left in (0, 16, 32):
                block = (slice(top, top + 16), slice(left, left + 16))
                saliency = (edges[block] ** 5).sum()
                numerator += saliency * (difference[block] ** 2).mean()
                denominator += saliency
    expected = numerator / denominator
    assert expected > 1
    assert regional_distortion(fused, thermal, luma) == pytest.approx(expected, rel=1e-6)


def test_a_scene_that_both_sources_show_is_kept_in_full():
    plane = noise()
    assert contrast_preservation(plane, plane, plane) == pytest.approx(1)
    assert regional_distortion(plane, plane, plane) == pytest.approx(0, abs=1e-9)


def test_gain_and_offset_do_not_count():
    plane = np.random.default_rng(0).integers(0, 52, (48, 64), dtype=np.uint8)
    plane[0, :2] = 0, 51
    brighter = (plane * 2 + 60).astype(np.uint8)
    assert contrast_preservation(brighter, plane, plane) == pytest.approx(1)
    assert regional_distortion(brighter, plane, plane) == pytest.approx(0, abs=1e-9)


def test_the_salient_source_decides():
    edges, soft = noise(5, (64, 64)), cv2.GaussianBlur(noise(6, (64, 64)), (0, 0), 4)
    soft[0, 0], soft[0, 1] = 0, 255  # one range, so that stretching does not make it as strong
    assert regional_distortion(edges, edges, soft) < regional_distortion(soft, edges, soft)


def test_distortion_without_edges_is_the_mean_over_both():
    fused, empty = noise(7, (32, 32)), np.full((32, 32), 80, np.uint8)
    assert regional_distortion(fused, empty, empty) > 0
