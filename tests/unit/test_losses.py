"""Fusion loss (IRVF paper, Eqs. 3 to 5) against values worked out by hand."""

import pytest
import torch

from irvf.training.losses import fusion_loss

HEIGHT, WIDTH = 4, 6


def ramp(slope):
    return (slope * torch.arange(float(WIDTH))).expand(1, 1, HEIGHT, WIDTH).clone()


def test_nothing_is_lost_where_fused_is_the_brighter_and_steeper_source():
    thermal, luma = ramp(0.1), torch.zeros(1, 1, HEIGHT, WIDTH)
    loss = fusion_loss(thermal.clone(), thermal, luma, 0.2)
    assert loss.total == loss.gradient == loss.brightness == 0


def test_a_black_image_loses_all_of_a_ramp():
    thermal, luma = ramp(0.1), torch.zeros(1, 1, HEIGHT, WIDTH)
    loss = fusion_loss(torch.zeros_like(thermal), thermal, luma, 0.2)
    brightness = 0.1 * (0 + 1 + 2 + 3 + 4 + 5) / 6
    gradient = 8 * 0.1 * 4 / 6  # nothing at the two border columns
    assert loss.brightness.item() == pytest.approx(brightness)
    assert loss.gradient.item() == pytest.approx(gradient)
    assert loss.total.item() == pytest.approx(gradient + 0.2 * brightness)


def test_the_gradient_of_the_maximum_is_taken_from_the_steeper_source_not_from_the_brighter():
    flat, steep = torch.full((1, 1, HEIGHT, WIDTH), 0.9), ramp(0.1)
    loss = fusion_loss(flat.clone(), flat, steep, 0.2)
    assert loss.brightness == 0
    assert loss.gradient.item() == pytest.approx(8 * 0.1 * 4 / 6)


def test_sources_count_alike():
    generator = torch.Generator().manual_seed(0)
    fused, thermal, luma = (torch.rand(2, 1, 8, 8, generator=generator) for _ in range(3))
    assert fusion_loss(fused, thermal, luma, 0.2).total == fusion_loss(fused, luma, thermal, 0.2).total


@pytest.mark.parametrize("weight", [0.0, 0.2, 5.0])
def test_lambda_weighs_brightness(weight):
    fused, thermal, luma = ramp(0.0), ramp(0.1), ramp(0.05)
    loss = fusion_loss(fused, thermal, luma, weight)
    assert loss.total.item() == pytest.approx(loss.gradient.item() + weight * loss.brightness.item())
