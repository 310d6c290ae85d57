"""The plain fusions against what their definitions say, and fusion at a smaller scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvf.imaging.classical_fusion import FUSION_METHODS, MIN_SIDE, fuse_at_scale


def texture(height=90, width=121, seed=0):
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def person_at_night():
    """A warm person before a cold background; the RGB image is evenly dark."""
    thermal = np.full((96, 128), 0.1, np.float32)
    thermal[30:70, 50:70] = 0.9
    return thermal, np.full((96, 128), 0.2, np.float32)


def test_methods_have_their_names():
    assert {"max", "average", "laplacian"} == set(FUSION_METHODS)


def test_max_and_average_are_what_they_say():
    thermal, luma = texture(seed=1), texture(seed=2)
    np.testing.assert_array_equal(FUSION_METHODS["max"](thermal, luma), np.maximum(thermal, luma))
    np.testing.assert_allclose(FUSION_METHODS["average"](thermal, luma), (thermal + luma) / 2, atol=1e-6)


@pytest.mark.parametrize("method", FUSION_METHODS)
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_fusing_an_image_with_itself_gives_it_back(method, scale, height, width, seed):
    plane = texture(height, width, seed)
    fused = fuse_at_scale(FUSION_METHODS[method], plane, plane.copy(), scale)
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, plane, atol=1e-5)


@pytest.mark.parametrize("thermal_is_textured", [True, False])
def test_laplacian_keeps_the_detail_of_whichever_source_has_it(thermal_is_textured):
    # A fine checkerboard in one source, nothing in the other: full contrast around the mean of the two levels.
    y, x = np.mgrid[:64, :64]
    checker = (0.6 + 0.1 * (-1.0) ** (x + y)).astype(np.float32)
    flat = np.full((64, 64), 0.2, np.float32)
    sources = (checker, flat) if thermal_is_textured else (flat, checker)
    fused = FUSION_METHODS["laplacian"](*sources)
    np.testing.assert_allclose(fused[8:-8, 8:-8], (checker - 0.6 + 0.4)[8:-8, 8:-8], atol=0.01)


@pytest.mark.parametrize("method", FUSION_METHODS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_result_is_a_plane_between_black_and_white(method, scale):
    thermal, luma = (texture(seed=seed).round() for seed in (3, 4))
    before = thermal.copy(), luma.copy()
    fused = fuse_at_scale(FUSION_METHODS[method], thermal, luma, scale)
    assert fused.shape == luma.shape
    assert fused.min() >= 0
    assert fused.max() <= 1
    np.testing.assert_array_equal((thermal, luma), before)  # sources are left alone


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_detail_above_the_processing_scale_is_not_lost(scale):
    luma, flat = texture(seed=5), np.full((90, 121), 0.3, np.float32)
    np.testing.assert_allclose(fuse_at_scale(lambda _, luma: luma, flat, luma, scale), luma, atol=1e-5)
    np.testing.assert_allclose(fuse_at_scale(lambda thermal, _: thermal, luma, flat, scale), luma, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_no_halo_around_a_warm_person(scale):
    thermal, luma = person_at_night()
    exact = np.maximum(thermal, luma)
    fused = fuse_at_scale(FUSION_METHODS["max"], thermal, luma, scale)
    reach = round(2 / scale)  # pixels around the outline that a processing pixel and its neighbour span
    edge = np.zeros(exact.shape, bool)
    edge[30 - reach : 70 + reach, 50 - reach : 70 + reach] = True
    edge[30 + reach : 70 - reach, 50 + reach : 70 - reach] = False
    np.testing.assert_allclose(fused[~edge], exact[~edge], atol=1e-5)
    np.testing.assert_allclose(fused[edge], exact[edge], atol=0.11)


def test_noise_does_not_grow():
    rng = np.random.default_rng(6)
    thermal, luma = ((0.2 + rng.normal(0, 0.02, (240, 320))).astype(np.float32) for _ in range(2))
    fused = fuse_at_scale(FUSION_METHODS["average"], thermal, luma, 0.5)
    assert fused.std() < 1.3 * 0.02  # the larger of two equal noises has 1.28 times their deviation


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [(480, 640, 0.5, (240, 320)), (101, 99, 0.5, (50, 50)), (40, 300, 0.1, (MIN_SIDE, 30)), (10, 40, 0.5, (10, 20))],
)
def test_the_fusion_sees_planes_of_the_processing_size(height, width, scale, expected):
    seen = []

    def fuse(thermal, luma):
        seen.append((thermal.shape, luma.shape))
        return luma

    assert fuse_at_scale(fuse, texture(height, width), texture(height, width), scale).shape == (height, width)
    assert seen == [(expected, expected)]


def test_full_scale_is_the_fusion_itself():
    thermal, luma = texture(seed=1), texture(seed=2)
    assert fuse_at_scale(lambda thermal, _: thermal, thermal, luma, 1.0) is thermal


@pytest.mark.parametrize("scale", [0, -0.5, 1.01, float("nan")])
def test_scales_out_of_range_are_refused(scale):
    with pytest.raises(ValueError, match="processing scale"):
        fuse_at_scale(FUSION_METHODS["max"], texture(), texture(), scale)
