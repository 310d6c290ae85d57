"""Colour conversion against the definitions of the encodings, and luma without colour shift."""

import numpy as np
import pytest

from irvf.frames import Frame
from irvf.imaging.color import merge_luma_chroma, split_luma_chroma, to_rgb
from irvf.imaging.errors import FrameError

COLOR = np.array([200, 90, 30], np.uint8)


def solid(*values, dtype=np.uint8):
    return np.tile(np.array(values, dtype), (6, 8, 1))


def test_rgb_is_not_copied():
    image = solid(*COLOR)
    assert to_rgb(Frame(image, "rgb8")) is image


@pytest.mark.parametrize(
    ("encoding", "image"),
    [
        ("bgr8", solid(30, 90, 200)),
        ("8UC3", solid(30, 90, 200)),
        ("rgba8", solid(200, 90, 30, 7)),
        ("bgra8", solid(30, 90, 200, 7)),
    ],
)
def test_orders_of_channels(encoding, image):
    np.testing.assert_array_equal(to_rgb(Frame(image, encoding)), solid(*COLOR))


def test_grey_images():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.repeat(grey[..., None], 3, axis=2)
    for encoding in ("mono8", "8UC1"):
        np.testing.assert_array_equal(to_rgb(Frame(grey, encoding)), expected)
    for encoding in ("mono16", "16UC1"):
        np.testing.assert_array_equal(to_rgb(Frame(grey.astype(np.uint16) * 257, encoding)), expected)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv_422(encoding):
    # ITU-R BT.601: 16..235 for luma, 16..240 for chroma.
    red, green, blue = COLOR / 255
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112 * blue
    v = 128 + 112 * red - 93.786 * green - 18.214 * blue
    chroma_first = encoding in ("yuv422", "uyvy")
    image = np.empty((6, 8, 2), np.uint8)
    image[..., 1 if chroma_first else 0] = round(luma)
    image[:, 0::2, 0 if chroma_first else 1] = round(u)
    image[:, 1::2, 0 if chroma_first else 1] = round(v)
    rgb = to_rgb(Frame(image, encoding))
    assert rgb.shape == (6, 8, 3)
    np.testing.assert_allclose(rgb.astype(int), solid(*COLOR), atol=3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_as_ros_names_them(order, bits):
    # The name reads the first two pixels of the first row, then those of the second.
    image = np.empty((12, 16), np.uint8 if bits == 8 else np.uint16)
    for position, letter in enumerate(order):
        value = int(COLOR["rgb".index(letter)])
        image[position // 2 :: 2, position % 2 :: 2] = value if bits == 8 else value * 257
    rgb = to_rgb(Frame(image, f"bayer_{order}{bits}"))
    np.testing.assert_array_equal(rgb[2:-2, 2:-2], np.tile(COLOR, (8, 12, 1)))


@pytest.mark.parametrize(
    ("image", "encoding", "reason"),
    [
        (solid(1, 2, 3), "jpeg", "encoding"),
        (solid(1, 2, 3), "rgba8", "layout"),
        (solid(1, 2, 3, dtype=np.uint16), "rgb8", "layout"),
        (np.zeros((4, 4), np.uint8), "rgb8", "layout"),
        (np.zeros((4, 4, 1), np.uint8), "mono8", "layout"),
        (np.zeros(4, np.uint8), "mono8", "layout"),
        (np.zeros((0, 4, 3), np.uint8), "rgb8", "size"),
        (np.zeros((4, 0, 3), np.uint8), "bgr8", "size"),
        (np.zeros((4, 5, 2), np.uint8), "yuv422", "size"),
        (np.zeros((2, 2), np.uint8), "bayer_rggb8", "size"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(image, encoding, reason):
    with pytest.raises(FrameError) as refused:
        to_rgb(Frame(image, encoding))
    assert refused.value.reason == reason


def test_luma_is_the_one_of_bt601():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    luma, _ = split_luma_chroma(rgb)
    assert luma.dtype == np.float32
    np.testing.assert_allclose(luma, rgb @ np.array([0.299, 0.587, 0.114]) / 255, atol=1.01 / 255)


def test_splitting_and_merging_gives_the_image_back():
    rgb = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    merged = merge_luma_chroma(*split_luma_chroma(rgb))
    np.testing.assert_allclose(merged.astype(int), rgb, atol=2)  # rounding of three 8-bit numbers


def test_grey_stays_grey_under_any_luma():
    _, chroma = split_luma_chroma(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2))
    levels = np.random.default_rng(2).random((16, 16), dtype=np.float32)
    merged = merge_luma_chroma(levels, chroma)
    assert np.ptp(merged.astype(int), axis=2).max() == 0
    np.testing.assert_allclose(merged[..., 0] / 255, levels, atol=0.51 / 255)


@pytest.mark.parametrize("gain", [-0.15, 0.1, 0.25])
def test_hue_stays_where_nothing_is_cut_off(gain):
    rng = np.random.default_rng(3)
    rgb = rng.integers(60, 170, (64, 64, 3)).astype(np.uint8)
    luma, chroma = split_luma_chroma(rgb)
    merged = merge_luma_chroma(luma + np.float32(gain), chroma).astype(int)
    # All channels move by the same: the differences between them, and with them the hue, stay.
    np.testing.assert_allclose(
        merged - merged.mean(axis=2, keepdims=True), rgb - rgb.mean(axis=2, keepdims=True), atol=3
    )
    vivid = np.ptp(rgb, axis=2) > 60
    turned = (hue(merged) - hue(rgb.astype(int)) + 180) % 360 - 180
    assert np.abs(turned[vivid]).max() < 3


def hue(rgb):
    """Angle in degrees in the plane across the grey axis."""
    red, green, blue = np.moveaxis(rgb.astype(float), 2, 0)
    return np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))


def test_luma_outside_its_range_is_cut_off():
    _, chroma = split_luma_chroma(np.full((2, 2, 3), 128, np.uint8))
    merged = merge_luma_chroma(np.array([[-0.2, 1.3], [0, 1]], np.float32), chroma)
    np.testing.assert_array_equal(merged[..., 0], [[0, 255], [0, 255]])
