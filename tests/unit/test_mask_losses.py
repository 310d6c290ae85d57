"""Losses of masks: what is right costs next to nothing, what is worse more, and what is not asked for nothing."""

import math

import pytest
import torch
from torch.nn import functional

from irvf.networks.salient_object import SaliencyLogits
from irvf.training.mask_losses import BORDER_WEIGHT, borders_of, saliency_loss, segmentation_loss
from irvf.training.pseudo_labels import IGNORED

SURE = 20.0


@pytest.fixture
def truth():
    labels = torch.zeros(2, 16, 24, dtype=torch.int64)
    labels[0, 4:12, 6:14] = 1
    labels[1, 8:16, 0:8] = 2
    return labels


def scores(truth, classes=3, sure=SURE):
    return functional.one_hot(truth.clamp(max=classes - 1), classes).permute(0, 3, 1, 2).float() * sure


def found(truth, sure=SURE):
    wanted = (truth == 1).float()
    return SaliencyLogits(*((2 * plane[:, None] - 1) * sure for plane in (wanted, borders_of(wanted))))


def test_a_perfect_segmentation_costs_nothing(truth):
    assert segmentation_loss(scores(truth), truth) < 1e-3


def test_a_worse_segmentation_costs_more(truth):
    losses = [segmentation_loss(scores(truth.roll(shift, 2), sure=4.0), truth).item() for shift in range(4)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


def test_segmentation_of_two_pixels_by_hand():
    # One pixel of each class, logits 0: each probability is 1/2. Both weights are sqrt(2 / 1).
    loss = segmentation_loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    dice = 1 - (2 * 0.5 + 1) / (1 + 1 + 1)
    assert loss.item() == pytest.approx(math.log(2) + dice)


def test_class_weights_by_hand():
    # Eight pixels, two of class 1: weights sqrt(8/6) and sqrt(8/2) = 2. Class 1 is missed, class 0 found.
    truth = torch.tensor([[[0] * 6 + [1] * 2]])
    logits = torch.zeros(1, 2, 1, 8)
    logits[:, 0] = 1.0
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    weights = (math.sqrt(8 / 6), 2.0)
    entropy = (6 * weights[0] * right + 2 * weights[1] * wrong) / (6 * weights[0] + 2 * weights[1])
    chance = 1 / (1 + math.e)
    dice = 1 - (2 * 2 * chance + 1) / (8 * chance + 2 + 1)
    assert segmentation_loss(logits, truth).item() == pytest.approx(entropy + dice, rel=1e-5)


def test_finding_nothing_is_worse_than_finding_a_half():
    truth = torch.zeros(1, 40, 40, dtype=torch.int64)
    truth[0, 10:18, 10:14] = 1  # two percent of the image
    half = truth.clone()
    half[0, 14:18] = 0
    nothing = segmentation_loss(scores(torch.zeros_like(truth), 2), truth)
    assert nothing > segmentation_loss(scores(half, 2), truth) + 0.2


@pytest.mark.parametrize("size", [(8, 12), (4, 6), (16, 24)])
def test_scores_may_be_coarser_than_the_truth(truth, size):
    coarse = functional.interpolate(scores(truth), size=size, mode="area")
    empty = torch.zeros_like(coarse)
    empty[:, 0] = SURE
    assert segmentation_loss(coarse, truth) < segmentation_loss(empty, truth) / 2


def test_nothing_is_asked_of_ignored_pixels(truth):
    truth[:, :4] = IGNORED
    truth[0, 6:8, 6:8] = IGNORED
    ignored = truth == IGNORED
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 16, 24, generator=generator).requires_grad_()
    loss = segmentation_loss(logits, truth)
    loss.backward()
    assert not logits.grad.permute(0, 2, 3, 1)[ignored].any()
    assert logits.grad.permute(0, 2, 3, 1)[~ignored].abs().sum(1).all()
    other = torch.where(ignored[:, None], torch.randn(2, 3, 16, 24, generator=generator), logits.detach())
    assert segmentation_loss(other, truth).item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("level", [0, IGNORED])
def test_a_batch_without_objects_has_a_finite_loss(level):
    truth = torch.full((2, 8, 8), level)
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = segmentation_loss(logits, truth)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad.isfinite().all()
    assert (logits.grad.abs().sum() > 0) == (level == 0)
    objects, borders = (torch.randn(2, 1, 8, 8).requires_grad_() for _ in range(2))
    loss = saliency_loss(SaliencyLogits(objects, borders), truth)
    loss.backward()
    assert math.isfinite(loss.item())
    assert (objects.grad.abs().sum() > 0) == (level == 0)


def test_a_perfect_saliency_costs_nothing(truth):
    truth = truth.clamp(max=1)
    assert saliency_loss(found(truth), truth) < 1e-3


def test_a_worse_saliency_costs_more(truth):
    truth = truth.clamp(max=1)
    losses = [saliency_loss(found(truth.roll(shift, 2), sure=4.0), truth).item() for shift in range(4)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


def test_saliency_of_logits_of_zero_by_hand():
    # Probability 1/2 everywhere: entropy ln 2; of 4 x 4 pixels 4 are salient, and the border of the square is
    # the 4 x 4 pixels around it, that is every pixel.
    truth = torch.zeros(1, 4, 4, dtype=torch.int64)
    truth[0, 1:3, 1:3] = 1
    loss = saliency_loss(SaliencyLogits(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), truth)
    shared, union = 4 * 0.5, 16 * 0.5 + 4 - 4 * 0.5
    expected = math.log(2) + 1 - (shared + 1) / (union + 1) + BORDER_WEIGHT * math.log(2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_nothing_salient_is_asked_of_ignored_pixels(truth):
    truth = truth.clamp(max=1)
    truth[:, :, 18:] = IGNORED
    ignored = truth == IGNORED
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 1, 16, 24, generator=generator).requires_grad_() for _ in range(2)]
    saliency_loss(SaliencyLogits(*logits), truth).backward()
    for each in logits:
        assert not each.grad[:, 0][ignored].any()
        assert each.grad[:, 0][~ignored].all()


def test_an_image_without_objects_adds_no_overlap_to_the_batch(truth):
    # Its entropy is next to nothing, so that the mean over both is half of the other's entropy and all of its overlap.
    truth = truth.clamp(max=1)
    truth[1] = 0
    first, second = found(truth[:1], sure=2.0), found(truth[1:])
    together = SaliencyLogits(torch.cat((first.objects, second.objects)), torch.cat((first.borders, second.borders)))
    chance = torch.sigmoid(torch.tensor(2.0)).item()
    area = int((truth[0] == 1).sum())
    shared, union = area * chance, area + (truth[0].numel() - area) * (1 - chance)
    overlap = 1 - (shared + 1) / (union + 1)
    both = saliency_loss(together, truth)
    assert both.item() == pytest.approx((saliency_loss(first, truth[:1]).item() - overlap) / 2 + overlap, rel=1e-3)


def test_borders_are_one_pixel_on_each_side():
    mask = torch.zeros(1, 6, 7)
    mask[0, 2:5, 2:6] = 1
    expected = torch.zeros(1, 6, 7)
    expected[0, 1:6, 1:7] = 1
    expected[0, 3, 3:5] = 0  # what is left of the inside
    assert torch.equal(borders_of(mask), expected)


def test_the_edge_of_the_image_is_no_border():
    assert not borders_of(torch.ones(1, 5, 5)).any()
    assert not borders_of(torch.zeros(1, 5, 5)).any()
