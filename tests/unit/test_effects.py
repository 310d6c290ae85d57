import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import cv2
import numpy as np
import pytest

from irvf.imaging.color import merge_luma_chroma, split_luma_chroma
from irvf.imaging.edge_preserving import Scratch
from irvf.imaging.effects import (
    EFFECTS,
    MaskedEffect,
    apply_effects,
    change_contrast,
    denoise,
    illuminate,
    incline,
    noise_deviation,
    scale_chroma,
    sharpen,
)
from irvf.instruction.instruction import EFFECT_KINDS

BOTH_WAYS = [(kind, way * amount) for kind in EFFECTS for way in (1, -1) for amount in (0.5, 2.0)]
CASES = [(kind, amount) for kind, amount in BOTH_WAYS if kind != "denoising" or amount > 0]


def smooth_noise(sigma, shape, seed):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape).astype(np.float32), (0, 0), sigma)
    return (noise - noise.min()) / (noise.max() - noise.min())


def street(shape=(120, 160), seed=0):
    """Fused, thermal and luma planes that differ: a warm block, a lit block, shades and fine texture."""
    fused = 0.1 + 0.4 * smooth_noise(8, shape, seed) + 0.05 * (smooth_noise(1, shape, seed + 1) - 0.5)
    thermal = 0.2 + 0.2 * smooth_noise(10, shape, seed + 2)
    luma = 0.05 + 0.3 * smooth_noise(5, shape, seed + 3)
    height, width = shape
    thermal[height // 3 : height * 2 // 3, width // 2 : width * 3 // 4] = 0.9
    fused[height // 3 : height * 2 // 3, width // 2 : width * 3 // 4] += 0.4
    luma[: height // 4, : width // 4] = 0.8
    fused[: height // 4, : width // 4] += 0.3
    return tuple(plane.astype(np.float32) for plane in (fused, thermal, luma))


def natural(shape=(480, 640)):
    """A picture with borders of all contrasts, shades, and texture in some places: a dead-leaves model.

    Source: Lee, Mumford and Huang, Occlusion Models for Natural Images, 2001.
    """
    rng = np.random.default_rng(3)
    picture = np.full(shape, 0.5, np.float32)
    for radius in np.sort(np.minimum(8 / rng.random(700) ** 0.8, 160))[::-1]:
        center = tuple(int(rng.integers(0, side)) for side in shape[::-1])
        cv2.circle(picture, center, int(radius), float(rng.uniform(0.1, 0.9)), -1, cv2.LINE_AA)
    shade = 0.15 * (smooth_noise(60, shape, 4) - 0.5)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7) + shade, 0, 1).astype(np.float32)


def noisy(plane, deviation, seed=5):
    noise = np.random.default_rng(seed).normal(0, deviation, plane.shape)
    return np.clip(plane + noise, 0, 1).astype(np.float32)


def psnr(plane, truth):
    return -10 * np.log10(np.mean((plane - truth) ** 2))


def applied(kind, amount, mask=None, planes=None):
    return apply_effects(*(planes or street()), [MaskedEffect(kind, amount, mask)])


def test_kinds_are_those_of_instructions():
    assert set(EFFECTS) == set(EFFECT_KINDS)


@pytest.mark.parametrize(("kind", "amount"), CASES)
@pytest.mark.parametrize("shape", [(17, 23), (16, 16), (121, 163)])
def test_result_is_an_image_of_the_same_size_and_sources_are_left_alone(kind, amount, shape):
    planes = street(shape)
    kept = [plane.copy() for plane in planes]
    look = applied(kind, amount, planes=planes)
    assert look.luma.shape == shape
    assert look.luma.dtype == np.float32
    assert np.isfinite(look.luma).all()
    assert look.luma.min() >= 0
    assert look.luma.max() <= 1
    if min(shape) > 100:  # the strength of a blur goes with the height
        assert np.abs(look.luma - planes[0]).max() > 0.005
    for plane, before in zip(planes, kept, strict=True):
        np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize(("kind", "amount"), CASES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_images_stay_in_range(kind, amount, value):
    fused = np.full((48, 64), value, np.float32)
    look = applied(kind, amount, planes=(fused, 1 - fused, 1 - fused))
    assert np.isfinite(look.luma).all()
    assert look.luma.min() >= 0
    assert look.luma.max() <= 1
    if kind != "inclination" and (kind, value) != ("illumination", 1.0):
        np.testing.assert_allclose(look.luma, fused, atol=1e-3)


@pytest.mark.parametrize("kind", EFFECTS)
def test_amount_of_zero_changes_nothing(kind):
    look = applied(kind, 0.0)
    np.testing.assert_allclose(look.luma, street()[0], atol=1e-5)
    assert look.saturation is None or np.allclose(look.saturation, 1, atol=1e-5)


@pytest.mark.parametrize(("kind", "way"), [(kind, amount / 2) for kind, amount in CASES if abs(amount) == 2])
def test_larger_amount_changes_more(kind, way):
    fused = street()[0]
    change = [np.abs(applied(kind, way * amount).luma - fused).mean() for amount in (0.25, 0.5, 1.0, 1.5, 2.0)]
    assert all(more > 1.02 * less for less, more in pairwise(change))


@pytest.mark.parametrize(("kind", "amount"), [(kind, amount) for kind, amount in CASES if abs(amount) == 0.5])
def test_effect_is_what_it_is_called(kind, amount):
    fused, thermal, luma = street()
    look = applied(kind, amount).luma
    measure = {
        "inclination": lambda plane: np.abs(plane - luma).mean() - np.abs(plane - thermal).mean(),
        "illumination": np.mean,
        "contrast": lambda plane: np.std(plane - cv2.blur(plane, (31, 31))),
        "denoising": lambda plane: -np.abs(cv2.Laplacian(plane, cv2.CV_32F)).mean(),
        "sharpness": lambda plane: np.abs(cv2.Laplacian(plane, cv2.CV_32F)).mean(),
    }[kind]
    assert np.sign(measure(look) - measure(fused)) == np.sign(amount)


@pytest.mark.parametrize(("kind", "amount"), CASES)
def test_nothing_changes_where_the_mask_is_zero(kind, amount):
    fused = street()[0]
    mask = np.zeros_like(fused)
    mask[30:90, 40:100] = 1
    mask = cv2.GaussianBlur(mask, (15, 15), 0)
    look = applied(kind, amount, mask)
    np.testing.assert_array_equal(look.luma[mask == 0], fused[mask == 0])
    assert np.abs(look.luma - fused)[mask > 0.999].max() > 0.003
    if look.saturation is not None:
        far = cv2.resize(mask, (40, 30), interpolation=cv2.INTER_AREA) == 0
        np.testing.assert_array_equal(look.saturation[far], 1)


def test_effects_compose_by_equation_5():
    fused, thermal, luma = street()
    first, second = np.zeros((2, *fused.shape), np.float32)
    first[:, :100], second[40:] = 0.7, 1.0
    lit = first * illuminate(fused, 1.0).luma + (1 - first) * fused
    expected = second * incline(lit, thermal, luma, -0.5).luma + (1 - second) * lit
    effects = [MaskedEffect("illumination", 1.0, first), MaskedEffect("inclination", -0.5, second)]
    np.testing.assert_allclose(apply_effects(fused, thermal, luma, effects).luma, expected, atol=1e-6)
    swapped = apply_effects(fused, thermal, luma, effects[::-1]).luma
    assert np.abs(swapped - expected).max() > 0.01


def test_no_effect_is_the_fused_image():
    planes = street()
    look = apply_effects(*planes, [])
    np.testing.assert_array_equal(look.luma, planes[0])
    assert look.saturation is None


def test_full_inclination_has_the_brightness_of_the_source_and_texture_of_the_fused_image():
    shape = (120, 160)
    texture = 0.06 * (smooth_noise(0.8, shape, 1) - 0.5)
    fused, thermal = (0.5 + texture).astype(np.float32), np.full(shape, 0.2, np.float32)
    look = incline(fused, thermal, fused, 2.0)
    np.testing.assert_allclose(cv2.blur(look.luma, (31, 31)), 0.2, atol=0.02)
    kept = np.corrcoef((look.luma - cv2.blur(look.luma, (9, 9))).ravel(), (fused - cv2.blur(fused, (9, 9))).ravel())
    assert kept[0, 1] > 0.95
    np.testing.assert_array_equal(look.saturation, 0)
    assert incline(fused, thermal, fused, -2.0).saturation is None


@pytest.mark.parametrize(("amount", "share"), [(0.5, (0.4, 0.65)), (1.5, (0.9, 1.0))])
def test_inclination_of_one_request_shows_and_of_three_is_nearly_all(amount, share):
    flat = [np.full((64, 64), value, np.float32) for value in (0.6, 0.2, 0.6)]
    moved = (0.6 - incline(*flat, amount).luma.mean()) / 0.4
    assert share[0] < moved < share[1]


def step(low, high, shape=(160, 240)):
    plane = np.full(shape, low, np.float32)
    plane[:, shape[1] // 2 :] = high
    return plane


@pytest.mark.parametrize("amount", [2.0, 1.0, -1.0, -2.0])
def test_illumination_leaves_no_halo_along_a_bright_object(amount):
    look = illuminate(step(0.1, 0.8), amount).luma
    middle = look.shape[1] // 2
    for side, far in ((look[:, :middle], look[0, 0]), (look[:, middle:], look[0, -1])):
        assert np.abs(side - far).max() < 0.06


def test_inclination_leaves_no_halo_along_a_warm_object():
    cold = np.full((160, 240), 0.3, np.float32)
    look = incline(cold, step(0.1, 0.8), cold, 2.0).luma
    np.testing.assert_allclose(look[:, :110], 0.1, atol=0.03)
    np.testing.assert_allclose(look[:, 130:], 0.8, atol=0.03)
    assert look.min() > 0.05
    assert look.max() < 0.85


def test_brighter_lifts_shadows_and_keeps_lamps():
    shadow, lamp = (np.full((48, 64), value, np.float32) for value in (0.08, 1.0))
    assert illuminate(shadow, 0.5).luma.mean() > 1.4 * 0.08
    np.testing.assert_allclose(illuminate(lamp, 2.0).luma, 1.0, atol=1e-3)
    night = shadow.copy()
    night[20:28, 30:38] = 0.95
    look = illuminate(night, 2.0).luma
    assert look.max() <= 1
    assert look[20:28, 30:38].max() < 1


def test_noise_in_the_dark_is_amplified_by_five_at_most():
    dark = noisy(np.full((120, 160), 0.02, np.float32), 0.005)
    assert illuminate(dark, 2.0).luma.std() < 5 * dark.std()


def test_darker_keeps_shades_apart():
    shades = np.repeat(np.linspace(0.05, 0.9, 8, dtype=np.float32), 24)[None].repeat(48, 0)
    look = illuminate(shades, -2.0).luma[24, 12::24]
    assert (np.diff(look) > 0.005).all()
    assert look[0] > 0.15 * 0.05


def test_brighter_and_darker_scale_colours_along_but_less():
    rgb = np.full((48, 64, 3), (60, 20, 15), np.uint8)
    luma, chroma = split_luma_chroma(rgb)
    look = illuminate(luma, 1.0)
    lit = merge_luma_chroma(look.luma, scale_chroma(chroma, look.saturation))
    pale = merge_luma_chroma(look.luma, chroma)
    before, after, without = (image[0, 0].astype(float) for image in (rgb, lit, pale))
    assert after.sum() > before.sum()
    assert before[0] / before[1] >= after[0] / after[1] > without[0] / without[1]


def test_saturation_scales_the_deviation_from_grey():
    red, blue = np.full((18, 22), 168, np.uint8), np.full((18, 22), 28, np.uint8)
    saturation = np.full((5, 6), 0.5, np.float32)
    halved = scale_chroma((red, blue), saturation)
    assert [int(plane[7, 7]) for plane in halved] == [148, 78]
    tripled = scale_chroma((red, blue), saturation * 6)
    assert [int(plane[7, 7]) for plane in tripled] == [248, 0]
    assert [int(plane[7, 7]) for plane in scale_chroma((red, blue), saturation * 0)] == [128, 128]
    assert [int(red[0, 0]), int(blue[0, 0])] == [168, 28]


def test_saturations_multiply():
    planes = street()
    one, other = MaskedEffect("illumination", 0.5), MaskedEffect("inclination", 0.5)
    both = apply_effects(*planes, [one, other]).saturation
    np.testing.assert_allclose(
        both, apply_effects(*planes, [one]).saturation * apply_effects(*planes, [other]).saturation, rtol=1e-5
    )


@pytest.mark.parametrize("deviation", [5 / 255, 10 / 255, 20 / 255])
def test_noise_is_estimated(deviation):
    assert noise_deviation(noisy(natural(), deviation)) == pytest.approx(deviation, rel=0.15)


def test_denoising_gains_at_least_3_db_at_ten_grey_levels_of_noise():
    clean = natural()
    before = noisy(clean, 10 / 255)
    assert psnr(denoise(before, 1.0).luma, clean) > psnr(before, clean) + 3
    assert psnr(denoise(before, 0.5).luma, clean) > psnr(before, clean) + 2


def test_denoising_keeps_borders():
    before = noisy(step(0.3, 0.7), 10 / 255)
    look = denoise(before, 2.0).luma.mean(axis=0)
    assert look[121] - look[118] > 0.9 * 0.4
    assert denoise(before, 1.0).luma[:, :100].std() < 0.5 * before[:, :100].std()


def test_denoising_hardly_changes_a_clean_picture():
    clean = natural()
    assert psnr(denoise(clean, 0.5).luma, clean) > 45


def test_sharpening_leaves_noise_alone_and_strengthens_borders():
    noise = noisy(np.full((120, 160), 0.5, np.float32), 5 / 255)
    assert sharpen(noise, 1.0).luma.std() < 1.15 * noise.std()
    soft = cv2.GaussianBlur(step(0.3, 0.7), (0, 0), 1.5)
    assert np.diff(sharpen(soft, 1.0).luma).max() > 1.2 * np.diff(soft).max()


def test_softening_blurs_by_the_stated_gaussian():
    point = np.zeros((480, 640), np.float32)
    point[237:245, 317:325] = 1  # wide enough not to vanish between the cells
    x = np.arange(640) - 320.5

    def deviation(plane):
        profile = plane.sum(axis=0)
        return np.sqrt((profile * x**2).sum() / profile.sum())

    for amount, sigma in ((-0.5, 1.6), (-1.0, 4.2), (-2.0, 11.1)):
        spread = np.sqrt(deviation(sharpen(point, amount).luma) ** 2 - deviation(point) ** 2)
        assert spread == pytest.approx(sigma, rel=0.1)


def test_strongest_softening_leaves_nothing_of_a_face():
    face = smooth_noise(3, (480, 640), 7)  # features of about 6 pixels
    assert sharpen(face, -2.0).luma.std() < 0.35 * face.std()


def test_contrast_grows_without_a_halo_along_strong_borders():
    look = change_contrast(step(0.1, 0.9), 2.0).luma
    assert np.abs(look - step(0.1, 0.9)).max() < 0.15
    weak = change_contrast(step(0.45, 0.55), 1.0).luma
    assert weak[:, 125].mean() - weak[:, 114].mean() > 0.13


@pytest.mark.parametrize(
    ("effect", "message"),
    [
        (MaskedEffect("glow", 1.0), "'glow'; allowed: inclination"),
        (MaskedEffect("contrast", 2.5), r"contrast by 2.5; allowed: -2..2"),
        (MaskedEffect("denoising", -0.5), r"denoising by -0.5; allowed: 0..2"),
        (MaskedEffect("sharpness", float("nan")), "sharpness by nan"),
        (MaskedEffect("contrast", 1.0, np.ones((4, 4), np.float32)), r"\[4, 4\] for contrast .* \[120, 160\]"),
    ],
)
def test_bad_effects_are_refused(effect, message):
    with pytest.raises(ValueError, match=message):
        apply_effects(*street(), [effect])


def every_effect(mask):
    return [MaskedEffect(kind, 1.0, mask if number % 2 else None) for number, kind in enumerate(EFFECTS)]


def test_scratch_changes_no_result_whatever_the_size_before():
    scratch = Scratch()
    for shape in ((120, 160), (120, 160), (61, 47), (240, 320), (240, 320)):
        planes, mask = street(shape), np.full(shape, 0.5, np.float32)
        kept = apply_effects(*planes, every_effect(mask), scratch)
        fresh = apply_effects(*planes, every_effect(mask))
        np.testing.assert_array_equal(kept.luma, fresh.luma)
        np.testing.assert_array_equal(kept.saturation, fresh.saturation)


def test_scratch_of_the_second_frame_is_that_of_the_first_but_one():
    planes, scratch = street(), Scratch()
    apply_effects(*planes, [MaskedEffect("contrast", 1.0)], scratch)
    looks = [apply_effects(*planes, [MaskedEffect("contrast", 1.0)], scratch).luma for _ in range(2)]
    assert np.shares_memory(*looks)


def test_threads_do_not_disturb_each_other():
    scenes = [street(seed=10 * seed) for seed in range(8)]
    mask = np.full((120, 160), 0.5, np.float32)
    alone = [apply_effects(*scene, every_effect(mask)).luma for scene in scenes]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda scene: apply_effects(*scene, every_effect(mask)).luma, scenes * 4))
    for number, luma in enumerate(together):
        np.testing.assert_array_equal(luma, alone[number % 8])


def test_three_effects_take_a_small_part_of_a_frame():
    planes, mask, scratch = street((480, 640)), np.full((480, 640), 0.5, np.float32), Scratch()
    effects = [MaskedEffect(kind, 0.5, mask) for kind in ("inclination", "illumination", "denoising")]
    best = np.inf
    for _ in range(20):
        started = time.perf_counter()
        apply_effects(*planes, effects, scratch)
        best = min(best, time.perf_counter() - started)
    assert best < 0.015  # 2.6 ms on two cores of an EPYC
