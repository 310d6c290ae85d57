"""Registration against points mapped by hand."""

import numpy as np
import pytest

from irvf.imaging.errors import FrameError
from irvf.imaging.registration import Registration

TRANSLATION = [1, 0, 12, 0, 1, 7, 0, 0, 1]
PERSPECTIVE = np.array([[1.9, 0.05, 20], [-0.04, 1.8, 31], [1e-4, -5e-5, 1]])


def texture(height=60, width=80, seed=0):
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def test_equal_sizes_pass_untouched():
    thermal = texture()
    registered = Registration()(thermal, (60, 80))
    assert registered.thermal is thermal
    assert registered.coverage is None


@pytest.mark.parametrize("size", [(120, 160), (30, 40), (97, 33)])
def test_equal_fields_of_view_of_other_sizes(size):
    # A ramp over the field of view is the same ramp at any resolution; pixel centres lie at (i + 0.5) / n.
    thermal = np.tile((np.arange(80, dtype=np.float32) + 0.5) / 80, (60, 1))
    registered = Registration()(thermal, size)
    assert registered.thermal.shape == size
    assert registered.coverage is None
    ramp = (np.arange(size[1]) + 0.5) / size[1]
    np.testing.assert_allclose(registered.thermal, np.tile(ramp, (size[0], 1)), atol=0.7 / 80)


def test_translation_moves_every_pixel():
    thermal = texture()
    registered = Registration("homography", TRANSLATION)(thermal, (100, 120))
    np.testing.assert_allclose(registered.thermal[7:67, 12:92], thermal, atol=1e-6)


def test_perspective_brings_points_where_they_belong():
    centers = np.array([(15.0, 12.0), (60.0, 20.0), (33.0, 45.0)])
    y, x = np.mgrid[:60, :80]
    thermal = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) for cx, cy in centers).astype(np.float32)
    registered = Registration("homography", PERSPECTIVE.ravel().tolist())(thermal, (160, 200))
    rows, columns = np.mgrid[:160, :200]
    for cx, cy in centers:
        mapped = PERSPECTIVE @ (cx, cy, 1)
        expected = mapped[:2] / mapped[2]
        near = np.hypot(columns - expected[0], rows - expected[1]) < 12
        weights = registered.thermal * near
        found = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
        np.testing.assert_allclose(found, expected, atol=0.15)


def test_scale_of_the_homography_does_not_matter():
    thermal = texture()
    first, second = (Registration("homography", k * PERSPECTIVE)(thermal, (160, 200)) for k in (1, -3.5))
    np.testing.assert_allclose(first.thermal, second.thermal, atol=1e-5)


def test_coverage_falls_softly_to_nothing_where_thermal_ends():
    coverage = Registration("homography", TRANSLATION)(texture(), (100, 120)).coverage
    inside = np.zeros((100, 120), bool)
    inside[7:67, 12:92] = True
    assert (coverage[~inside] == 0).all()
    assert (coverage[inside] > 0).all()
    assert (coverage[20:50, 30:70] == 1).all()
    across = coverage[37, 10:52]
    assert (np.diff(across) >= 0).all()
    assert np.diff(across).max() < 0.5


def test_no_soft_border_where_thermal_reaches_over_the_edge():
    # Thermal covers the left part of the RGB image and more: only its right border is soft.
    coverage = Registration("homography", [4, 0, -200, 0, 4, -50, 0, 0, 1])(texture(), (100, 200)).coverage
    assert (coverage[:, :100] == 1).all()
    assert (coverage[:, 125:] == 0).all()


def test_full_cover_needs_no_weights():
    assert Registration("homography", [3, 0, -20, 0, 3, -20, 0, 0, 1])(texture(), (100, 120)).coverage is None


def test_sizes_may_change_between_frames():
    registration = Registration("homography", TRANSLATION)
    for height, width, size in ((60, 80, (100, 120)), (50, 70, (100, 120)), (50, 70, (90, 110)), (60, 80, (100, 120))):
        thermal = texture(height, width)
        registered = registration(thermal, size)
        assert registered.thermal.shape == registered.coverage.shape == size
        np.testing.assert_allclose(registered.thermal[7 : 7 + height, 12 : 12 + width], thermal, atol=1e-6)


@pytest.mark.parametrize(
    ("homography", "wrong"),
    [
        ([1, 0, 0, 0, 1, 0, 0, 0], "nine"),
        ([1, 0, 0, 0, float("nan"), 0, 0, 0, 1], "finite"),
        ([1, 2, 0, 2, 4, 0, 0, 0, 1], "invertible"),
        ([0] * 9, "invertible"),
        ([-1, 0, 80, 0, 1, 0, 0, 0, 1], "mirrors"),
        ([1, 0, 0, 0, 0, 1, 0, 1, 0], "infinity"),
    ],
)
def test_homographies_that_cannot_be(homography, wrong):
    with pytest.raises(ValueError, match=wrong):
        Registration("homography", homography)


@pytest.mark.parametrize(
    ("homography", "wrong"),
    [
        ([1, 0, 5000, 0, 1, 0, 0, 0, 1], "nothing"),
        ([1, 0, 0, 0, 1, 0, -0.05, 0, 1], "infinity"),
    ],
)
def test_homographies_that_do_not_fit_the_images(homography, wrong):
    with pytest.raises(FrameError, match=wrong) as refused:
        Registration("homography", homography)(texture(), (100, 120))
    assert refused.value.reason == "registration"


def test_half_a_turn_is_no_mirror():
    thermal = texture()
    registered = Registration("homography", [-1, 0, 79, 0, -1, 59, 0, 0, 1])(thermal, (60, 80))
    np.testing.assert_allclose(registered.thermal, thermal[::-1, ::-1], atol=1e-6)


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="none, homography"):
        Registration("affine")
