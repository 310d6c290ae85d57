"""Fusion metrics against values worked out by hand and published constants."""

import math

import cv2
import numpy as np
import pytest

from irvf.evaluation.fusion_quality import (
    METRICS,
    edge_preservation,
    entropy,
    mean_similarity,
    spatial_frequency,
    standard_deviation,
    structural_similarity,
)


def noise(seed=0, size=(48, 64)):
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def flat(level, size=(32, 32)):
    return np.full(size, level, np.uint8)


@pytest.mark.parametrize(("levels", "bits"), [(1, 0), (2, 1), (4, 2), (256, 8)])
def test_entropy_of_equally_frequent_levels(levels, bits):
    plane = (np.arange(1024) % levels).astype(np.uint8).reshape(32, 32)
    assert entropy(plane) == pytest.approx(bits)


def test_entropy_of_unequal_levels():
    plane = np.array([[0, 0, 0, 255]], np.uint8)
    assert entropy(plane) == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))


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


@pytest.mark.parametrize("name", METRICS)
def test_flat_images_give_finite_figures(name):
    assert math.isfinite(METRICS[name](flat(0), flat(0), flat(0)))
