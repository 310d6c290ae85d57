"""Fusion metrics against values worked out by hand and published constants."""

import math

import cv2
import numpy as np
import pytest

from irvf.evaluation.fusion_quality import (
    METRICS,
    RANKED,
    average_gradient,
    correlation_of_differences,
    edge_preservation,
    mean_similarity,
    measure_fusion,
    spatial_frequency,
    standard_deviation,
    structural_similarity,
)


def noise(seed=0, size=(48, 64)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def flat(level, size=(32, 32)):
    return np.full(size, level, np.uint8)


def test_standard_deviation_is_that_of_the_population():
    assert standard_deviation(np.array([[0, 10], [20, 30]], np.uint8)) == pytest.approx(math.sqrt(125))


def test_spatial_frequency():
    # Along rows the steps are 3, along columns 4: sqrt(9 + 16). A wrap-around of uint8 would show in the fall.
    plane = np.array([[7, 4, 1], [3, 0, 3]], np.uint8)
    rows, columns = (9 + 9 + 9 + 9) / 4, (16 + 16 + 4) / 3
    assert spatial_frequency(plane) == pytest.approx(math.sqrt(rows + columns))


def test_an_image_is_similar_to_itself():
    assert structural_similarity(noise(), noise()) == pytest.approx(1)
    assert mean_similarity(noise(), noise(), noise()) == pytest.approx(1)


def test_similarity_of_constant_images_is_that_of_their_means():
    # Without variance SSIM is (2ab + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 255)^2 (Wang et al. 2004, Eq. 13).
    a, b, c1 = 100, 150, 2.55**2
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert structural_similarity(flat(a), flat(b)) == pytest.approx(expected, abs=1e-6)


def test_similarity_is_symmetric_and_negative_for_the_negative():
    assert structural_similarity(noise(1), noise(2)) == pytest.approx(structural_similarity(noise(2), noise(1)))
    assert structural_similarity(noise(), 255 - noise()) < -0.9


def test_mean_similarity_is_halfway_between_the_sources():
    fused, thermal, luma = noise(1), noise(2), noise(1)
    assert mean_similarity(fused, thermal, luma) == pytest.approx((structural_similarity(fused, thermal) + 1) / 2)


PERFECT = 0.9994 / (1 + math.exp(-15 * 0.5)) * 0.9879 / (1 + math.exp(-22 * 0.2))
"""Q_AB/F where strength and orientation of every edge are kept: both sigmoids at 1."""


def test_edges_that_are_all_kept_reach_the_published_constants():
    assert edge_preservation(noise(), noise(), noise()) == pytest.approx(PERFECT, rel=1e-9)


def test_edges_are_worse_kept_when_blurred_and_lost_when_flat():
    plane = cv2.GaussianBlur(noise(), (0, 0), 2)
    blurred = cv2.GaussianBlur(plane, (0, 0), 3)
    kept = edge_preservation(blurred, plane, plane)
    assert edge_preservation(np.full_like(plane, 128), plane, plane) < 0.01
    assert 0.01 < kept < PERFECT - 0.05


def test_only_a_source_with_edges_counts():
    plane = noise()
    assert edge_preservation(plane, plane, np.full_like(plane, 9)) == pytest.approx(PERFECT)


def test_average_gradient_of_a_plane_that_rises_evenly():
    # 3 to the right and 4 down at every pixel: sqrt((9 + 16) / 2).
    rows, columns = np.mgrid[:12, :16]
    assert average_gradient((3 * columns + 4 * rows).astype(np.uint8)) == pytest.approx(math.sqrt(12.5))


def test_average_gradient_worked_out():
    # Two pixels have both neighbours: steps (2, 4) and (-1, 1).
    plane = np.array([[5, 7, 6], [9, 8, 0]], np.uint8)
    assert average_gradient(plane) == pytest.approx((math.sqrt((4 + 16) / 2) + math.sqrt((1 + 1) / 2)) / 2)


def test_a_sum_of_both_sources_carries_all_differences():
    thermal, luma = noise(1) // 4, noise(2) // 4
    assert correlation_of_differences(thermal + luma, thermal, luma) == pytest.approx(2)


def test_differences_worked_out():
    thermal, luma = np.array([[0, 0, 8, 8]], np.uint8), np.array([[0, 4, 0, 4]], np.uint8)
    # fused = max: minus luma (0, 0, 8, 4), minus thermal (0, 4, 0, 0).
    expected = np.corrcoef([0, 0, 8, 4], [0, 0, 8, 8])[0, 1] + np.corrcoef([0, 4, 0, 0], [0, 4, 0, 4])[0, 1]
    assert correlation_of_differences(np.maximum(thermal, luma), thermal, luma) == pytest.approx(expected)


def test_a_source_alone_carries_one_difference_only():
    thermal, luma = noise(1), noise(2)
    expected = np.corrcoef((thermal - luma.astype(float)).ravel(), thermal.ravel())[0, 1]
    assert correlation_of_differences(thermal, thermal, luma) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_flat_images_give_finite_figures(name):
    measure = METRICS[name].measure
    planes = [flat(level, (48, 48)) for level in (0, 90, 255)] + [noise(0, (48, 48))]
    for fused in planes:
        for thermal in planes:
            for luma in planes:
                assert math.isfinite(measure(fused, thermal, luma))


@pytest.mark.parametrize("name", METRICS)
def test_neither_source_is_preferred(name):
    fused, thermal, luma = noise(1), cv2.GaussianBlur(noise(2), (0, 0), 2), noise(3) // 2
    measure = METRICS[name].measure
    assert measure(fused, thermal, luma) == pytest.approx(measure(fused, luma, thermal), rel=1e-9)


# Q_CE skips grey levels that one plane lacks, and falls below that of a perfect copy where many are skipped.
@pytest.mark.parametrize("name", [name for name in METRICS if name != "Q_CE"])
def test_keeping_a_scene_is_better_than_losing_it(name):
    scene = cv2.normalize(cv2.GaussianBlur(noise(4), (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    lost = (cv2.GaussianBlur(scene, (0, 0), 5).astype(float) ** 2 / 1020).astype(np.uint8)  # dark and soft
    kept, worse = (METRICS[name].measure(fused, scene, scene) for fused in (scene, lost))
    assert (kept > worse) == METRICS[name].larger_is_better
    assert kept != worse


def test_all_metrics_at_once():
    fused, thermal, luma = noise(1), noise(2), noise(3)
    figures = measure_fusion(fused, thermal, luma)
    assert list(figures) == list(METRICS)
    assert set(RANKED) < set(METRICS)
    assert figures["SD"] == standard_deviation(fused)
    assert figures["Q_AB/F"] == edge_preservation(fused, thermal, luma)


def test_planes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one size"):
        measure_fusion(noise(), noise(), noise(0, (48, 60)))
    with pytest.raises(ValueError, match="at least 41"):
        measure_fusion(*[noise(0, (40, 64))] * 3)
