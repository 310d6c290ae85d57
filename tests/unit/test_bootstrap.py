"""The bootstrap: what is drawn, what its intervals cover, and how pairing sharpens a difference."""

import numpy as np
import pytest

from irvf.evaluation.bootstrap import Statistic, draw_resamples, mean_statistic


def test_each_resample_has_as_many_images_as_the_set():
    draws = draw_resamples(7, 200, seed=1)
    assert draws.shape == (200, 7)
    assert (draws.sum(axis=1) == 7).all()
    # An image is missing from a share (1 - 1/7)^7 of the resamples; three standard errors of 1400 draws.
    assert (draws == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.04)


def test_a_seed_gives_the_same_resamples_again():
    np.testing.assert_array_equal(draw_resamples(5, 50, seed=3), draw_resamples(5, 50, seed=3))
    assert (draw_resamples(5, 50, seed=3) != draw_resamples(5, 50, seed=4)).any()


def test_means_of_resamples_are_those_of_the_drawn_images():
    values = np.array([1.0, 10.0, 100.0])
    statistic = mean_statistic(values, np.array([[3, 0, 0], [1, 1, 1], [0, 1, 2]]))
    assert statistic.value == pytest.approx(37)
    np.testing.assert_allclose(statistic.resampled, [1, 37, 70])


def test_images_without_a_figure_are_left_out():
    statistic = mean_statistic(np.array([1.0, np.nan, 3.0]), np.array([[1, 1, 1], [0, 3, 0], [2, 1, 0]]))
    assert statistic.value == pytest.approx(2)
    np.testing.assert_allclose(statistic.resampled, [2, np.nan, 1])
    assert np.isfinite(statistic.interval).all()


def test_the_interval_holds_95_percent():
    statistic = Statistic(0.0, np.arange(1001.0))
    assert statistic.interval == (pytest.approx(25), pytest.approx(975))
    assert np.isnan(Statistic(np.nan, np.full(5, np.nan)).interval).all()


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = mean_statistic(rng.normal(5, 2, 40), draw_resamples(40, 400, seed=trial)).interval
        covered += low < 5 < high
    # The percentile interval of 40 normal values covers about 93.5 %; four standard errors of 300 trials around it.
    assert 0.88 < covered / 300 < 0.985


def test_the_interval_of_a_mean_has_the_width_of_theory():
    values = np.random.default_rng(1).normal(0, 1, 400)
    low, high = mean_statistic(values, draw_resamples(400, 2000)).interval
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_rows_that_are_equal_differ_by_nothing():
    draws, values = draw_resamples(20, 300), np.random.default_rng(2).normal(size=20)
    difference = mean_statistic(values, draws).minus(mean_statistic(values.copy(), draws))
    assert difference.value == 0
    assert difference.interval == (0, 0)


def test_pairing_sees_a_small_gain_that_single_intervals_hide():
    rng = np.random.default_rng(3)
    base = rng.normal(50, 10, 30)
    better = base + rng.normal(1, 0.5, 30)
    draws = draw_resamples(30)
    first, second = mean_statistic(base, draws), mean_statistic(better, draws)
    assert first.interval[1] > second.interval[0]
    low, high = second.minus(first).interval
    assert 0.5 < low < 1 < high < 1.5


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        draw_resamples(0)
    with pytest.raises(ValueError, match="at least one"):
        draw_resamples(5, 0)
