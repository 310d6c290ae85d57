"""Figures of masks: worked out by hand, and against the published formulas written out pixel by pixel."""

import numpy as np
import pytest

from irvf.evaluation.bootstrap import draw_resamples
from irvf.evaluation.mask_quality import class_iou, confusion, iou_statistics, mean_iou, saliency_quality

TRUTH = np.array([[0, 0, 1, 1], [0, 255, 1, 2]], np.uint8)
FOUND = np.array([[0, 1, 1, 1], [0, 2, 0, 2]], np.uint8)


def test_pixels_are_counted_by_truth_and_finding():
    np.testing.assert_array_equal(confusion(FOUND, TRUTH, 4), [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


def test_overlap_of_classes_worked_out():
    counts = confusion(FOUND, TRUTH, 4)
    # Background: 2 of 2 + 1 + 1; class 1: 2 of 2 + 1 + 1; class 2: all; class 3 does not occur.
    np.testing.assert_allclose(class_iou(counts), [0.5, 0.5, 1, np.nan])
    assert mean_iou(counts) == pytest.approx(2 / 3)


def test_a_class_that_only_the_network_sees_costs_the_others():
    found = np.array([[3, 3, 0, 0]], np.uint8)
    counts = confusion(found, np.zeros((1, 4), np.uint8), 4)
    assert mean_iou(counts) == pytest.approx(0.5)


def test_overlap_is_that_of_all_pixels_not_the_mean_of_the_images():
    images = [([0, 1], [0, 1]), ([0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0])]
    counts = np.stack([confusion(np.uint8([found]), np.uint8([truth]), 2) for truth, found in images])
    mean, (background, person) = iou_statistics(counts, draw_resamples(2, 100))
    assert background.value == pytest.approx(5 / 7)
    assert person.value == pytest.approx(1 / 3)
    assert mean.value == pytest.approx((5 / 7 + 1 / 3) / 2)
    # The resamples are: the first twice, one of each, the second twice.
    assert sorted(set(mean.resampled.round(9))) == pytest.approx(
        sorted([1.0, (5 / 7 + 1 / 3) / 2, (4 / 6 + 0) / 2]), abs=1e-8
    )


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not fit"):
        confusion(FOUND[:, :2], TRUTH, 3)
    with pytest.raises(ValueError, match="class 2 in the truth"):
        confusion(np.zeros_like(FOUND), TRUTH, 2)
    with pytest.raises(ValueError, match="class 2 in the found mask"):
        confusion(FOUND, np.zeros_like(FOUND), 2)


def test_a_map_that_equals_the_mask():
    truth = np.zeros((10, 10), np.uint8)
    truth[:4, :5] = 1
    quality = saliency_quality(truth * 255, truth)
    assert quality.mae == 0
    # From threshold 1 on the cut is the mask. At 0 it is everything: precision 0.2, recall 1; alignment 0.
    everything = 1.3 * 0.2 / (0.3 * 0.2 + 1)
    assert quality.mean_f == pytest.approx((255 + everything) / 256)
    assert quality.mean_e == pytest.approx((255 + 0.25) / 256)


def test_the_error_worked_out():
    found = np.array([[255, 51, 0, 102]], np.uint8)
    truth = np.array([[1, 1, 0, 255]], np.uint8)
    assert saliency_quality(found, truth).mae == pytest.approx((0 + 0.8 + 0) / 3)


def test_nothing_salient_has_no_f_measure():
    found = np.array([[0, 0, 0, 255]], np.uint8)
    quality = saliency_quality(found, np.zeros((1, 4), np.uint8))
    assert np.isnan(quality.mean_f)
    # What is not found is right: nothing at threshold 0, then 3 of 4.
    assert quality.mean_e == pytest.approx((0 + 255 * 0.75) / 256)
    everything = saliency_quality(found, np.ones((1, 4), np.uint8))
    assert everything.mean_e == pytest.approx((1 + 255 * 0.25) / 256)


def written_out(found, truth):
    """Both means as published, threshold by threshold on maps of 0 and 1."""
    asked = truth != 255
    mask, levels = (truth[asked] == 1).astype(float), found[asked]
    f_measures, e_measures = [], []
    for threshold in range(256):
        cut = (levels >= threshold).astype(float)
        hits = (cut * mask).sum()
        precision, recall = hits / max(cut.sum(), 1), hits / mask.sum()
        f_measures.append(1.3 * precision * recall / (0.3 * precision + recall) if hits else 0)
        bias_mask, bias_cut = mask - mask.mean(), cut - cut.mean()
        alignment = 2 * bias_mask * bias_cut / (bias_mask**2 + bias_cut**2)
        e_measures.append(((1 + alignment) ** 2 / 4).mean())
    return np.mean(f_measures), np.mean(e_measures), abs(levels / 255 - mask).mean()


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_their_formulas(seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random((24, 30)) < 0.3).astype(np.uint8)
    found = np.clip(rng.normal(90 + 60 * truth, 50), 0, 240).astype(np.uint8)
    truth[5:9, 4:20] = 255
    quality = saliency_quality(found, truth)
    assert (quality.mean_f, quality.mean_e, quality.mae) == pytest.approx(written_out(found, truth), rel=1e-9)


def test_ignored_pixels_are_not_looked_at():
    rng = np.random.default_rng(0)
    truth, found = (rng.random((20, 20)) < 0.4).astype(np.uint8), rng.integers(0, 256, (20, 20), dtype=np.uint8)
    truth[:, 10:] = 255
    changed = found.copy()
    changed[:, 10:] = 255 - changed[:, 10:]
    assert saliency_quality(found, truth) == saliency_quality(changed, truth)
    assert saliency_quality(found, truth) == saliency_quality(found[:, :10], truth[:, :10])


def test_maps_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="does not fit"):
        saliency_quality(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match="0 and 1"):
        saliency_quality(np.zeros((4, 4), np.uint8), np.full((4, 4), 2, np.uint8))
    with pytest.raises(ValueError, match="ignored"):
        saliency_quality(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
