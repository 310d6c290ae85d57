"""Thermal range: what is black, what is white, and that it does not pump."""

import numpy as np
import pytest

from irvf.frames import Frame
from irvf.imaging.errors import FrameError
from irvf.imaging.thermal import RadiometricScale, ThermalRange, ThermalRangeConfig

HEIGHT, WIDTH = 96, 128
SECOND = 1_000_000_000
KELVIN_COUNTS = RadiometricScale(0.01, -273.15)


def night_scene(seed=0, noise=5.0):
    """16-bit counts of 0.01 K: ground and walls between 5 and 9 degrees Celsius."""
    rng = np.random.default_rng(seed)
    celsius = np.linspace(5, 9, HEIGHT)[:, None] + np.linspace(-0.5, 0.5, WIDTH)
    return np.round((celsius + 273.15) * 100 + rng.normal(0, noise, (HEIGHT, WIDTH))).astype(np.uint16)


def frame(image, encoding="mono16", seconds=0.0):
    return Frame(image, encoding, round(seconds * SECOND))


def test_eight_bits_are_only_scaled():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    plane = ThermalRange()(frame(image, "mono8"))
    assert plane.dtype == np.float32
    np.testing.assert_allclose(plane, image / 255, atol=1e-6)


def test_full_mode_takes_all_sixteen_bits():
    image = np.array([[0, 65535], [32768, 13107]], np.uint16)
    plane = ThermalRange(ThermalRangeConfig(mode="full"))(frame(image, "16UC1"))
    np.testing.assert_allclose(plane, [[0, 1], [32768 / 65535, 0.2]], atol=1e-5)


def test_percentiles_of_a_uniform_scene_end_where_theory_says():
    # Values uniform in 10000..14000: with 2 % black and 2 % white the range is 10080..13920.
    image = np.random.default_rng(1).permutation(np.linspace(10000, 14000, 480 * 640)).reshape(480, 640)
    config = ThermalRangeConfig(low_percentile=2, high_percentile=98)
    plane = ThermalRange(config)(frame(image.astype(np.uint16)))
    np.testing.assert_allclose(plane, np.clip((image - 10080) / 3840, 0, 1), atol=0.015)
    assert np.mean(plane == 0) == pytest.approx(0.02, abs=0.004)
    assert np.mean(plane == 1) == pytest.approx(0.02, abs=0.004)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "mono16", "16UC1", "32FC1"])
@pytest.mark.parametrize("mode", ["auto", "percentile"])
def test_warm_is_bright_in_every_encoding(encoding, mode):
    dtype = {"8": np.uint8, "1": np.uint16, "3": np.float32}[encoding.replace("mono", "")[0]]
    image = np.full((40, 40), 60, dtype)
    image[10:20, 10:20] = 200
    plane = ThermalRange(ThermalRangeConfig(mode=mode))(frame(image, encoding))
    assert plane[15, 15] > plane[30, 30] + 0.5
    assert plane.min() >= 0
    assert plane.max() <= 1


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_palette_images_become_their_luma(encoding):
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:, 4:] = (255, 255, 0)
    plane = ThermalRange()(frame(rgb if encoding == "rgb8" else rgb[..., ::-1], encoding))
    np.testing.assert_allclose(plane[:, 0], 0)
    np.testing.assert_allclose(plane[:, 7], 0.299 + 0.587, atol=0.003)  # BT.601


@pytest.mark.parametrize(
    ("encoding", "value"), [("mono16", 0), ("mono16", 65535), ("16UC1", 29315), ("32FC1", -40.0), ("32FC1", 3e38)]
)
def test_a_scene_of_one_value_is_mid_grey(encoding, value):
    image = np.full((20, 30), value, np.float32 if encoding == "32FC1" else np.uint16)
    np.testing.assert_allclose(ThermalRange()(frame(image, encoding)), 0.5, atol=1e-3)


def test_noise_of_a_flat_scene_is_not_blown_up():
    image = (29315 + np.random.default_rng(0).normal(0, 5, (240, 320))).astype(np.uint16)
    plane = ThermalRange(ThermalRangeConfig(min_span_counts=200))(frame(image))
    assert plane.std() == pytest.approx(5 / 200, rel=0.05)


def test_counts_with_a_known_scale_look_as_their_temperatures():
    counts = (29315 + np.random.default_rng(0).normal(0, 30, (240, 320))).astype(np.uint16)
    config = ThermalRangeConfig(min_span_degrees=10, radiometric=KELVIN_COUNTS)
    from_counts = ThermalRange(config)(frame(counts))
    from_celsius = ThermalRange(config)(frame((counts * 0.01 - 273.15).astype(np.float32), "32FC1"))
    np.testing.assert_allclose(from_counts, from_celsius, atol=1e-3)
    assert from_counts.std() == pytest.approx(0.3 / 10, rel=0.05)


def test_radiometric_scale_of_known_cameras():
    assert KELVIN_COUNTS.celsius(27315) == pytest.approx(0)
    assert RadiometricScale(0.1, -100.0).celsius(1366) == pytest.approx(36.6)  # (v - 1000) / 10
    with pytest.raises(ValueError, match="positive"):
        RadiometricScale(0, 0)


@pytest.mark.parametrize("rate", [9, 30, 60])
def test_a_warm_person_entering_does_not_make_the_background_pump(rate):
    thermal_range = ThermalRange()
    for k in range(rate):
        plane = thermal_range(frame(night_scene(k), seconds=k / rate))
    background = np.s_[:, :64]
    level = plane[background].mean()
    steps, count = [], 12 * rate
    for k in range(count):
        image = night_scene(k)
        image[20:90, 80:110] = 31000  # 37 degrees, 17 % of the pixels, at once
        plane = thermal_range(frame(image, seconds=1 + k / rate))
        steps.append(abs(plane[background].mean() - level) / level)
        level = plane[background].mean()
    assert max(steps) < 0.03
    # In the end the range is the one of the new scene.
    np.testing.assert_allclose(plane, ThermalRange()(frame(image)), atol=0.03)


def test_without_smoothing_the_range_follows_at_once():
    thermal_range = ThermalRange(ThermalRangeConfig(smoothing_s=0))
    thermal_range(frame(night_scene()))
    wide = night_scene()
    wide[:20] = 31000
    np.testing.assert_array_equal(thermal_range(frame(wide, seconds=0.03)), ThermalRange()(frame(wide)))


def test_the_same_frame_again_looks_the_same():
    thermal_range = ThermalRange()
    first = thermal_range(frame(night_scene(), seconds=5))
    np.testing.assert_array_equal(thermal_range(frame(night_scene(), seconds=5)), first)


@pytest.mark.parametrize("what", ["loop", "gap", "size", "type", "config", "recalibration"])
def test_the_range_starts_anew(what):
    thermal_range = ThermalRange()
    thermal_range(frame(night_scene(), seconds=100))
    new = night_scene(1) + np.uint16(80)
    new[:20] += np.uint16(500)
    seconds, encoding = 100.03, "mono16"
    if what == "loop":
        seconds = 3.0
    elif what == "gap":
        seconds = 110.0
    elif what == "size":
        new = new[:80, :90].copy()
    elif what == "type":
        encoding = "16UC1"
    elif what == "config":
        thermal_range.config = ThermalRangeConfig(high_percentile=98)
    else:
        new += np.uint16(4000)
    fresh = ThermalRange(thermal_range.config)(frame(new, encoding))
    np.testing.assert_array_equal(thermal_range(frame(new, encoding, seconds)), fresh)


def test_without_a_reason_the_range_does_not_start_anew():
    thermal_range = ThermalRange()
    thermal_range(frame(night_scene(), seconds=100))
    new = night_scene(1)
    new[:20] += np.uint16(500)
    difference = thermal_range(frame(new, seconds=100.03)) - ThermalRange()(frame(new))
    assert np.abs(difference).max() > 0.1


def test_single_missing_pixels_are_repaired_from_their_neighbours():
    celsius = (np.linspace(10, 30, 64)[:, None] + np.zeros(64)).astype(np.float32)
    clean = ThermalRange()(frame(celsius, "32FC1"))
    holed = celsius.copy()
    holed[30, 30], holed[0, 0], holed[63, 20] = np.nan, np.inf, -np.inf
    plane = ThermalRange()(frame(holed, "32FC1"))
    np.testing.assert_allclose(plane, clean, atol=0.05)
    assert np.isnan(holed[30, 30])  # the frame's own memory is left alone


def test_a_missing_patch_takes_the_median_of_the_scene():
    image = np.full((100, 100), 20, np.float32)
    image[:, 60:] = 30
    image[40:49, 70:79] = np.nan
    plane = ThermalRange()(frame(image, "32FC1"))
    assert plane[44, 74] == plane[5, 5]
    assert np.isfinite(plane).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("share", [0.03, 1.0])
def test_too_many_missing_pixels_are_refused(value, share):
    image = np.full((100, 100), 20, np.float32)
    image[: round(100 * share)] = value
    with pytest.raises(FrameError, match="NaN or infinite") as refused:
        ThermalRange()(frame(image, "32FC1"))
    assert refused.value.reason == "not_finite"


def test_views_of_padded_read_only_messages_are_taken():
    memory = np.zeros((HEIGHT, WIDTH + 16), np.uint16)
    memory[:, :WIDTH] = night_scene()
    memory.setflags(write=False)
    view = memory[:, :WIDTH]
    np.testing.assert_array_equal(ThermalRange()(frame(view)), ThermalRange()(frame(night_scene())))


@pytest.mark.parametrize(
    ("image", "encoding", "reason"),
    [
        (np.zeros((4, 4), np.uint8), "yuv422", "encoding"),
        (np.zeros((4, 4), np.uint8), "", "encoding"),
        (np.zeros((4, 4), np.uint8), "mono16", "layout"),
        (np.zeros((4, 4, 3), np.uint8), "mono8", "layout"),
        (np.zeros((4, 4), np.uint8), "rgb8", "layout"),
        (np.zeros((0, 4), np.uint16), "mono16", "size"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(image, encoding, reason):
    with pytest.raises(FrameError) as refused:
        ThermalRange()(frame(image, encoding))
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "otsu"},
        {"low_percentile": -1.0},
        {"low_percentile": 60.0, "high_percentile": 50.0},
        {"high_percentile": 101.0},
        {"smoothing_s": -1.0},
        {"smoothing_s": float("nan")},
        {"min_span_counts": 0.0},
        {"min_span_degrees": float("inf")},
    ],
)
def test_configurations_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        ThermalRangeConfig(**wrong)
