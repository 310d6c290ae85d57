"""Registration against points mapped by hand."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from simulated_rig import RigConfig, homography_thermal_to_rgb, rgb_camera, thermal_camera

from irvf.imaging.alignment import AlignmentConfig
from irvf.imaging.camera_geometry import (
    CameraModel,
    RigGeometry,
    as_nine,
    homography_points,
    rotation_from_quaternion,
)
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


def simulated_geometry(config, distance):
    cameras = thermal_camera(config), rgb_camera(config)
    thermal, rgb = (CameraModel(each.height, each.width, as_nine(each.matrix)) for each in cameras)
    turn = as_nine(cameras[1].rotation @ cameras[0].rotation.T)
    return RigGeometry(thermal, rgb, turn, config.thermal_offset_m, distance)


def blobs(centers, size, width=2.0):
    y, x = np.mgrid[: size[0], : size[1]]
    return sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2)) for cx, cy in centers).astype(np.float32)


def centroids(plane, expected, reach=8):
    """Where the blobs of a plane are, near to where they are expected."""
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    found = []
    for x, y in expected:
        weights = plane * (np.hypot(columns - x, rows - y) < reach)
        found.append(np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum())
    return np.array(found)


THERMAL_POINTS = np.array([(60.0, 50.0), (250.0, 60.0), (160.0, 128.0), (70.0, 200.0), (240.0, 190.0)])


@pytest.mark.parametrize("method", ["homography", "camera_info"])
def test_the_simulated_rig_is_registered_to_a_fraction_of_a_pixel(method):
    # Points of a plane 12 m away, projected into both cameras by the rig itself.
    config = RigConfig()
    homography = homography_thermal_to_rgb(config, 12.0)
    expected, _ = homography_points(homography, THERMAL_POINTS)
    registration = Registration(method, homography, geometry=simulated_geometry(config, 12.0))
    registered = registration(blobs(THERMAL_POINTS, (256, 320)), (480, 640))
    np.testing.assert_allclose(centroids(registered.thermal, expected), expected, atol=0.2)


@pytest.mark.parametrize(
    ("rgb_lens", "thermal_lens"),
    [
        (("plumb_bob", (-0.3, 0.1, 0.001, -0.001, 0.0)), ("plumb_bob", (-0.4, 0.2, 0.0, 0.0, 0.0))),
        (("equidistant", (-0.02, 0.003, 0.0, 0.0)), ("plumb_bob", (-0.4, 0.2, 0.0, 0.0, 0.0))),
        (("plumb_bob", (-0.3, 0.1, 0.001, -0.001, 0.0)), ("fisheye", (0.05, -0.01, 0.0, 0.0))),
    ],
    ids=["plumb_bob", "fisheye rgb", "fisheye thermal"],
)
def test_distorted_lenses_are_registered_to_a_fraction_of_a_pixel(rgb_lens, thermal_lens):
    rgb = CameraModel(480, 640, (420.0, 0.0, 318.0, 0.0, 424.0, 243.0, 0.0, 0.0, 1.0), *rgb_lens)
    thermal = CameraModel(256, 320, (300.0, 0.0, 161.0, 0.0, 298.0, 126.0, 0.0, 0.0, 1.0), *thermal_lens)
    turn, shift = rotation_from_quaternion(0.004, -0.006, 0.005, 1.0), (0.06, 0.015, -0.01)
    points = np.array([(-1.0, -0.8, 3), (1.1, -0.7, 3), (0.1, 0.1, 3), (-0.9, 0.8, 3), (0.95, 0.85, 3.0)])
    in_thermal = thermal.project((points - shift) @ np.array(turn).reshape(3, 3))[0]
    in_rgb = rgb.project(points)[0]
    registration = Registration("camera_info", geometry=RigGeometry(thermal, rgb, turn, shift, 3.0))
    registered = registration(blobs(in_thermal, (256, 320)), (480, 640))
    np.testing.assert_allclose(centroids(registered.thermal, in_rgb), in_rgb, atol=0.25)
    assert registered.coverage is not None
    assert registered.coverage[240, 320] == 1
    assert registered.coverage[0, 0] == 0


@pytest.mark.parametrize("method", ["camera_info", "auto"])
def test_without_calibration_every_pair_is_refused(method):
    registration = Registration(method, initial="camera_info")
    with pytest.raises(FrameError, match="calibration of both cameras and the transform") as refused:
        registration(texture(), (120, 160))
    assert refused.value.reason == "camera_info"


def test_a_calibration_of_another_image_is_refused():
    registration = Registration("camera_info", geometry=simulated_geometry(RigConfig(), 10.0))
    with pytest.raises(FrameError, match="640 x 480 image, the image is 640 x 512") as refused:
        registration(texture(256, 320), (512, 640))
    assert refused.value.reason == "camera_info"


def test_a_plane_that_the_thermal_camera_cannot_see_is_refused():
    turned = replace(simulated_geometry(RigConfig(), 10.0), rotation=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0))
    with pytest.raises(FrameError, match="camera_info maps nothing"):
        Registration("camera_info", geometry=turned)(texture(256, 320), (480, 640))


def misaligned(shift):
    """A scene in two modalities, of which thermal is shifted."""
    rng = np.random.default_rng(1)
    luma = np.zeros((240, 320), np.float32)
    for _ in range(120):
        x, y, width, height = rng.integers((0, 0, 8, 8), (320, 240, 60, 60)).tolist()
        cv2.rectangle(luma, (x, y), (x + width, y + height), float(rng.random()), -1)
    luma = cv2.GaussianBlur(luma, (0, 0), 0.8)
    return cv2.warpPerspective(1 - luma, np.float32([[1, 0, shift], [0, 1, 0], [0, 0, 1]]), (320, 240)), luma


@pytest.mark.parametrize("background", [False, True])
def test_auto_takes_up_what_the_stream_shows(background):
    thermal, luma = misaligned(7)
    registration = Registration("auto", background=background)
    first = registration(thermal, (240, 320))
    assert first.thermal is thermal
    registration.observe(thermal, luma)
    assert registration.wait(20)
    assert registration.alignment.updates == 1
    registered = registration(thermal, (240, 320))
    # The inverse of luma again, but for what was found to a fraction of a pixel, away from where thermal ends.
    inner = np.s_[10:-10, 10:-20]
    assert np.abs(registered.thermal - (1 - luma))[inner].mean() < 0.25 * np.abs(thermal - (1 - luma))[inner].mean()
    assert registered.coverage is not None
    registration.close()


def test_auto_resamples_once():
    """Base method and correction together are one homography: what both give is what that one gives."""
    thermal, luma = misaligned(7)
    base = np.array([[1.02, 0.01, -2], [-0.01, 1.01, 1], [1e-5, 0, 1]])
    registration = Registration("auto", base, initial="homography", background=False)
    registration.observe(thermal, luma)
    correction = np.array(registration.alignment.homography).reshape(3, 3)
    assert registration.alignment.updates == 1
    together = Registration("homography", correction @ base)(thermal, (240, 320))
    registered = registration(thermal, (240, 320))
    np.testing.assert_allclose(registered.thermal, together.thermal, atol=1e-5)
    np.testing.assert_allclose(registered.coverage, together.coverage, atol=1e-5)


def test_auto_on_other_sizes_begins_from_the_initial_method():
    thermal, luma = misaligned(7)
    registration = Registration("auto", background=False)
    registration.observe(thermal, luma)
    assert registration(thermal, (240, 320)).coverage is not None
    other = registration(thermal, (120, 160))
    assert other.coverage is None
    assert other.thermal.shape == (120, 160)


def test_fixed_methods_only_measure():
    thermal, luma = misaligned(7)
    registration = Registration("none", measure=AlignmentConfig(), background=False)
    for _ in range(10):
        registration.observe(thermal, luma)
    assert registration.alignment.misalignment_px == pytest.approx(7, abs=0.7)
    assert registration(thermal, (240, 320)).thermal is thermal
    assert Registration("none").alignment is None


def test_what_a_thermal_image_covers_in_part_is_measured_there():
    # Thermal sees the middle of the RGB image alone, at half the resolution, and is 5 px off.
    _, luma = misaligned(0)
    thermal = cv2.resize((1 - luma)[40:200, 60:260], (100, 80), interpolation=cv2.INTER_AREA)
    given = [2, 0, 60.5 + 5, 0, 2, 40.5, 0, 0, 1]
    registration = Registration("auto", given, initial="homography", background=False)
    for _ in range(20):
        registration.observe(thermal, luma)
    found = np.array(registration.alignment.homography).reshape(3, 3) @ np.reshape(given, (3, 3))
    middle, _ = homography_points(found, np.array([[49.5, 39.5]]))
    np.testing.assert_allclose(middle, [[159.5, 119.5]], atol=1.0)


def test_unknown_beginnings_are_refused():
    with pytest.raises(ValueError, match="none, homography, camera_info"):
        Registration("auto", initial="auto")
