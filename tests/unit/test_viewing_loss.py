"""What a fused image for people is trained on."""

import numpy as np
import pytest
import torch

from irvf.training.viewing_loss import viewing_loss


def plane(seed, height=80, width=90):
    """A random plane ``[1 x 1 x H x W]`` in 0..1, smooth enough to have structure."""
    rng = np.random.default_rng(seed)
    rough = rng.uniform(size=(height // 5, width // 5))
    levels = np.kron(rough, np.ones((5, 5))) * 200 + rng.uniform(0, 55, (height, width))
    return torch.from_numpy(levels.astype(np.uint8)).double()[None, None] / 255


@pytest.mark.parametrize("seed", [0, 3])
def test_one_source_alone_is_worse_than_both(seed):
    thermal, luma = plane(seed), plane(seed + 1)
    both = viewing_loss(torch.maximum(thermal, luma), thermal, luma, 0.5)
    assert both < viewing_loss(torch.zeros_like(luma), thermal, luma, 0.5)
    assert both < viewing_loss(1 - luma, thermal, luma, 0.5)


def test_images_without_any_contrast_have_a_finite_gradient():
    flat = torch.full((1, 1, 80, 80), 0.5)
    fused = flat.clone().requires_grad_()
    loss = viewing_loss(fused, flat, flat, 0.5)
    loss.backward()
    assert loss.isfinite()
    assert fused.grad.isfinite().all()
