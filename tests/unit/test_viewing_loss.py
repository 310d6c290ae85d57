"""What a fused image for people is trained on, against the definitions and the metrics of the evaluation."""

import numpy as np
import pytest
import torch

from irvf.evaluation.fusion_quality import correlation_of_differences
from irvf.evaluation.fusion_quality import structural_similarity as measured_similarity
from irvf.training.viewing_loss import difference_correlations, structural_similarity, viewing_loss


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


def test_correlations_of_a_batch_are_a_mean_of_samples():
    batches = [torch.cat((plane(seed), plane(seed + 10))) for seed in range(3)]
    alone = [difference_correlations(*(batch[index : index + 1] for batch in batches)).item() for index in range(2)]
    assert difference_correlations(*batches).item() == pytest.approx(sum(alone) / 2, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 3])
def test_one_source_alone_is_worse_than_both(seed):
    thermal, luma = plane(seed), plane(seed + 1)
    both = viewing_loss(torch.maximum(thermal, luma), thermal, luma, 0.5)
    assert both < viewing_loss(torch.zeros_like(luma), thermal, luma, 0.5)
    assert both < viewing_loss(1 - luma, thermal, luma, 0.5)


def test_images_without_any_contrast_have_a_finite_gradient():
    flat = torch.full((1, 1, 16, 16), 0.5)
    fused = flat.clone().requires_grad_()
    loss = viewing_loss(fused, flat, flat, 0.5)
    loss.backward()
    assert loss.isfinite()
    assert fused.grad.isfinite().all()
