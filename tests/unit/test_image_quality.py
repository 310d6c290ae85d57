"""Fusion metrics that a network is trained on, against those of the evaluation."""

import math

import numpy as np
import pytest
import torch

from irvf.evaluation.fusion_quality import correlation_of_differences
from irvf.evaluation.fusion_quality import edge_preservation as measured_edges
from irvf.evaluation.fusion_quality import structural_similarity as measured_similarity
from irvf.evaluation.information import visual_information_fidelity as measured_information
from irvf.training.image_quality import (
    difference_correlations,
    edge_preservation,
    structural_similarity,
    visual_information_fidelity,
)


def plane(seed, height=40, width=50):
    """A random plane ``[1 x 1 x H x W]`` of 8-bit levels in 0..1, smooth enough to have structure."""
    rng = np.random.default_rng(seed)
    rough = rng.uniform(size=(height // 5, width // 5))
    levels = np.kron(rough, np.ones((5, 5))) * 200 + rng.uniform(0, 55, (height, width))
    return torch.from_numpy(levels.astype(np.uint8)).double()[None, None] / 255


def levels(tensor):
    return np.round(tensor[0, 0].numpy() * 255).astype(np.uint8)


def test_a_plane_is_similar_to_itself():
    assert structural_similarity(plane(0), plane(0)).item() == pytest.approx(1, abs=1e-9)
    assert structural_similarity(plane(0), plane(1)) < 0.5
    assert structural_similarity(plane(0), 1 - plane(0)) < 0


def test_of_constant_planes_only_the_brightness_counts():
    # Wang et al., Eq. 6 with all variances zero: (2 x y + c1) / (x^2 + y^2 + c1).
    first, second = (torch.full((1, 1, 16, 16), level, dtype=torch.float64) for level in (0.2, 0.6))
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert structural_similarity(first, second).item() == pytest.approx(expected, rel=1e-9)


def test_is_the_metric_of_the_evaluation_of_a_plane_that_is_padded():
    # The metric reflects the planes at their borders, the loss takes the inside alone.
    first, second = levels(plane(0)), levels(plane(1))
    padded = [torch.from_numpy(np.pad(each, 5, mode="reflect"))[None, None].double() / 255 for each in (first, second)]
    assert structural_similarity(*padded).item() == pytest.approx(measured_similarity(first, second), abs=1e-6)


def test_a_sum_of_both_has_the_largest_correlation_of_differences():
    thermal, luma = plane(0) * 0.4, plane(1) * 0.4
    assert difference_correlations(thermal + luma, thermal, luma).item() == pytest.approx(2, abs=1e-9)
    assert difference_correlations(-thermal - luma, thermal, luma) < difference_correlations(luma, thermal, luma)


def test_correlations_are_those_of_the_evaluation():
    fused, thermal, luma = plane(0), plane(1), plane(2)
    expected = correlation_of_differences(levels(fused), levels(thermal), levels(luma))
    assert difference_correlations(fused, thermal, luma).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_edges_and_information_are_those_of_the_evaluation(seed):
    fused, thermal, luma = plane(seed, 90, 100), plane(seed + 5, 90, 100), plane(seed + 9, 90, 100)
    fused = (0.6 * fused + 0.4 * thermal).mul(255).round().div(255)
    given = levels(fused), levels(thermal), levels(luma)
    assert edge_preservation(fused, thermal, luma).item() == pytest.approx(measured_edges(*given), abs=5e-3)
    found = visual_information_fidelity(thermal, fused).item()
    assert found == pytest.approx(measured_information(given[1], given[0]), rel=1e-5)


def test_a_source_keeps_its_own_information_and_none_when_it_is_inverted():
    source = plane(0, 90, 100)
    assert visual_information_fidelity(source, source).item() == pytest.approx(1, abs=1e-6)
    assert visual_information_fidelity(source, 1 - source).item() < 0.02
    assert visual_information_fidelity(source, 0.5 + 0.5 * source).item() < 1


def test_a_copy_of_one_source_keeps_its_edges():
    source, flat = plane(0), torch.full_like(plane(0), 0.5)
    highest = 0.9994 / (1 + math.exp(-7.5)) * 0.9879 / (1 + math.exp(-4.4))
    assert edge_preservation(source, source, flat).item() == pytest.approx(highest, abs=1e-3)
    assert edge_preservation(flat, source, flat).item() < 0.05


@pytest.mark.parametrize(
    "metric", [structural_similarity, visual_information_fidelity, difference_correlations, edge_preservation]
)
def test_figures_of_a_batch_are_those_of_its_samples(metric):
    count = 2 if metric in (structural_similarity, visual_information_fidelity) else 3
    batches = [torch.cat((plane(seed, 80, 70), plane(seed + 10, 80, 70))) for seed in range(count)]
    alone = [metric(*(batch[index : index + 1] for batch in batches)).item() for index in range(2)]
    assert metric(*batches).tolist() == pytest.approx(alone, abs=1e-9)
