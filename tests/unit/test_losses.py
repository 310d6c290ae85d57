"""Fusion loss (IRVF paper, Eqs. 3 to 5) against values worked out by hand."""

import pytest
import torch

from irvf.training.losses import fusion_loss, signed_gradients

HEIGHT, WIDTH = 4, 6
INNER = 4 / 6
"""Share of the columns where a ramp has a gradient: the reflection is symmetric about the first and the last."""


def ramp(slope, start=0.0):
    return (start + slope * torch.arange(float(WIDTH))).expand(1, 1, HEIGHT, WIDTH).clone()


def black():
    return torch.zeros(1, 1, HEIGHT, WIDTH)


def test_a_ramp_of_one_a_pixel_has_gradient_two_along_itself_alone():
    along = torch.full((HEIGHT, WIDTH), 0.5)
    along[:, [0, -1]] = 0
    gradients = signed_gradients(ramp(0.25))[0]
    torch.testing.assert_close(gradients[0], along)
    torch.testing.assert_close(gradients[1], torch.zeros(HEIGHT, WIDTH))
    torch.testing.assert_close(signed_gradients(ramp(0.25).transpose(2, 3))[0, 1], along.T)


def test_nothing_is_lost_where_fused_is_the_brighter_and_steeper_source():
    loss = fusion_loss(ramp(0.1), ramp(0.1), black(), 0.2)
    assert loss.total == loss.gradient == loss.brightness == 0


def test_a_black_image_loses_all_of_a_ramp():
    loss = fusion_loss(black(), ramp(0.1), black(), 0.2)
    brightness = 0.1 * (0 + 1 + 2 + 3 + 4 + 5) / 6
    gradient = 2 * 0.1 * INNER
    assert loss.brightness.item() == pytest.approx(brightness)
    assert loss.gradient.item() == pytest.approx(gradient)
    assert loss.total.item() == pytest.approx(gradient + 0.2 * brightness)


def test_the_gradient_is_taken_from_the_steeper_source_not_from_the_brighter():
    flat = ramp(0.0, start=0.9)
    loss = fusion_loss(flat.clone(), flat, ramp(0.1), 0.2)
    assert loss.brightness == 0
    assert loss.gradient.item() == pytest.approx(2 * 0.1 * INNER)


def test_the_steeper_source_is_the_one_of_larger_magnitude_whatever_its_sign():
    falling = ramp(-0.15, start=0.8)
    loss = fusion_loss(falling.clone(), falling, ramp(0.1), 0.2)
    assert loss.gradient.item() == pytest.approx(0, abs=1e-6)


def test_inverted_contrast_is_a_loss():
    # A warm body that comes out dark has edges of the right strength and the wrong sign.
    thermal = ramp(0.1)
    assert fusion_loss(0.5 - thermal, thermal, black(), 0.2).gradient.item() == pytest.approx(2 * 0.2 * INNER)


def test_sources_count_alike():
    generator = torch.Generator().manual_seed(0)
    fused, thermal, luma = (torch.rand(2, 1, 8, 8, generator=generator) for _ in range(3))
    assert fusion_loss(fused, thermal, luma, 0.2).total == fusion_loss(fused, luma, thermal, 0.2).total


@pytest.mark.parametrize("weight", [0.0, 0.2, 5.0])
def test_lambda_weighs_brightness(weight):
    loss = fusion_loss(ramp(0.0), ramp(0.1), ramp(0.05), weight)
    assert loss.total.item() == pytest.approx(loss.gradient.item() + weight * loss.brightness.item())
