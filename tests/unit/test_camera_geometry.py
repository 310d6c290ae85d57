"""The mapping between two cameras against points projected by hand, and against the simulated rig's own geometry."""

import math

import cv2
import numpy as np
import pytest
from simulated_rig import RigConfig, homography_thermal_to_rgb, rgb_camera, thermal_camera

from irvf.imaging.camera_geometry import CameraModel, RigGeometry, as_nine, homography_points, rotation_from_quaternion

RGB_SIZE, THERMAL_SIZE = (480, 640), (256, 320)
PLUMB_BOB = (-0.31, 0.11, 0.0012, -0.0008, -0.02)
FISHEYE = (-0.02, 0.004, -0.001, 0.0002)
RATIONAL = (0.4, 0.06, 0.0004, -0.0006, 0.002, 0.75, 0.14, 0.01)
TURN = rotation_from_quaternion(0.01, -0.02, 0.015, 0.9996)
SHIFT = (0.06, 0.015, -0.01)


def camera(size, focal, model="plumb_bob", distortion=()):
    height, width = size
    matrix = (focal, 0.0, width / 2 + 3.2, 0.0, focal * 1.01, height / 2 - 2.1, 0.0, 0.0, 1.0)
    return CameraModel(height, width, matrix, model, distortion)


def project(model, points):
    """The published formulas: Brown-Conrady with a rational radius, and Kannala-Brandt."""
    x, y = (points[:, :2] / points[:, 2:]).T
    k = np.array(model.distortion)
    radius = np.hypot(x, y)
    if model.distortion_model == "equidistant" and len(k):
        angle = np.arctan(radius)
        factor = angle * (1 + k[0] * angle**2 + k[1] * angle**4 + k[2] * angle**6 + k[3] * angle**8) / radius
        x, y = x * factor, y * factor
    elif len(k):
        k = np.pad(k, (0, 8 - len(k)))
        r2 = radius**2
        factor = (1 + k[0] * r2 + k[1] * r2**2 + k[4] * r2**3) / (1 + k[5] * r2 + k[6] * r2**2 + k[7] * r2**3)
        x, y = (
            x * factor + 2 * k[2] * x * y + k[3] * (r2 + 2 * x**2),
            y * factor + k[2] * (r2 + 2 * y**2) + 2 * k[3] * x * y,
        )
    return np.column_stack([model.matrix[0] * x + model.matrix[2], model.matrix[4] * y + model.matrix[5]])


DISTORTIONS = [("plumb_bob", ()), ("plumb_bob", PLUMB_BOB), ("equidistant", FISHEYE), ("rational_polynomial", RATIONAL)]


@pytest.mark.parametrize("rgb", DISTORTIONS, ids=lambda d: f"rgb-{d[0]}-{len(d[1])}")
@pytest.mark.parametrize("thermal", DISTORTIONS, ids=lambda d: f"thermal-{d[0]}-{len(d[1])}")
def test_points_of_the_plane_are_found_in_the_thermal_image(rgb, thermal):
    rig = RigGeometry(camera(THERMAL_SIZE, 330.0, *thermal), camera(RGB_SIZE, 560.0, *rgb), TURN, SHIFT, 4.0)
    grid = np.stack(np.meshgrid(np.linspace(-1.8, 1.8, 13), np.linspace(-1.3, 1.3, 11)), -1).reshape(-1, 2)
    in_rgb = np.column_stack([grid, np.full(len(grid), 4.0)])
    in_thermal = (in_rgb - SHIFT) @ np.array(TURN).reshape(3, 3)  # R^T (X - t), for X_rgb = R X_thermal + t
    pixels, valid = rig.thermal_pixels(project(rig.rgb, in_rgb), THERMAL_SIZE, RGB_SIZE)
    assert valid.all()
    np.testing.assert_allclose(pixels, project(rig.thermal, in_thermal), atol=0.05)


@pytest.mark.parametrize("distance", [5.0, 20.0, 1e9])
def test_the_simulated_rig_agrees(distance):
    config = RigConfig()
    cameras = thermal_camera(config), rgb_camera(config)
    thermal, rgb = (CameraModel(each.height, each.width, as_nine(each.matrix)) for each in cameras)
    turn = cameras[1].rotation @ cameras[0].rotation.T
    rig = RigGeometry(thermal, rgb, as_nine(turn), config.thermal_offset_m, math.inf if distance == 1e9 else distance)
    grid = np.stack(np.meshgrid(np.linspace(0, 319, 9), np.linspace(0, 255, 7)), -1).reshape(-1, 2)
    in_rgb, _ = homography_points(homography_thermal_to_rgb(config, distance), grid)
    found, valid = rig.thermal_pixels(in_rgb, THERMAL_SIZE, RGB_SIZE)
    assert valid.all()
    np.testing.assert_allclose(found, grid, atol=1e-3)


@pytest.mark.parametrize("lens", DISTORTIONS[1:], ids=lambda lens: lens[0])
def test_opencv_agrees(lens):
    model = camera(RGB_SIZE, 500.0, *lens)
    points = np.random.default_rng(0).uniform((-1, -0.8, 2), (1, 0.8, 3), (50, 3))
    matrix, zero = np.reshape(model.matrix, (3, 3)), np.zeros(3)
    if lens[0] == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, matrix, np.array(lens[1]))
    else:
        expected, _ = cv2.projectPoints(points, zero, zero, matrix, np.array(lens[1]))
    np.testing.assert_allclose(model.project(points)[0], expected.reshape(-1, 2), atol=1e-6)
    rays, reached = model.rays(expected.reshape(-1, 2))
    assert reached.all()
    np.testing.assert_allclose(rays, points / points[:, 2:], atol=1e-4)


def test_a_binned_image_sees_the_same():
    full = camera((480, 640), 500.0, "plumb_bob", PLUMB_BOB)
    binned = full.scaled((240, 320))
    points = np.random.default_rng(0).uniform((-1, -0.8, 2), (1, 0.8, 3), (50, 3))
    # Edges of the image coincide: pixel centre c of one lies at (c + 0.5) / 2 - 0.5 of the other.
    np.testing.assert_allclose(binned.project(points)[0], (full.project(points)[0] + 0.5) / 2 - 0.5, atol=1e-6)


def test_an_image_of_another_aspect_is_refused():
    with pytest.raises(ValueError, match="640 x 480 image, the image is 640 x 512"):
        camera((480, 640), 500.0).scaled((512, 640))


def test_what_lies_behind_the_camera_is_not_seen():
    _, valid = camera(RGB_SIZE, 500.0, "plumb_bob", PLUMB_BOB).project(np.array([[0.1, 0.1, -2.0], [0.1, 0.1, 2.0]]))
    assert valid.tolist() == [False, True]


def test_a_polynomial_that_folds_back_ends_there():
    # r (1 - 0.3 r^2) grows up to r = 1 / sqrt(0.9) = 1.054; a point at r = 1.4 would fall among those at r = 0.66.
    folding = camera(RGB_SIZE, 300.0, "plumb_bob", (-0.3, 0.0, 0.0, 0.0, 0.0))
    _, valid = folding.project(np.array([[1.0, 0.0, 1.0], [1.1, 0.0, 1.0], [1.4, 0.0, 1.0]]))
    assert valid.tolist() == [True, False, False]
    farthest = 1.054 * (1 - 0.3 * 1.054**2) * 300  # no ray falls beyond this
    center = np.array([folding.matrix[2], folding.matrix[5]])
    _, reached = folding.rays(np.array([[0.9 * farthest, 0.0], [1.1 * farthest, 0.0]]) + center)
    assert reached.tolist() == [True, False]


@pytest.mark.parametrize("lens", [*DISTORTIONS[1:], ("plumb_bob", (-0.5, 0.3, 0.01, -0.01, -0.1))], ids=str)
def test_a_ray_leads_back_to_its_pixel(lens):
    # Also from pixels far outside of the image, where no inverse need exist: such are not reached.
    model = camera(RGB_SIZE, 250.0, *lens)
    pixels = np.stack(np.meshgrid(np.linspace(-900, 1500, 60), np.linspace(-900, 1300, 60)), -1).reshape(-1, 2)
    rays, reached = model.rays(pixels)
    assert 0.01 < reached.mean() < 1
    back, valid = model.project(rays[reached])
    assert valid.all()
    np.testing.assert_allclose(back, pixels[reached], atol=0.06)


def test_a_wide_fisheye_ends_at_its_edge():
    wide = camera(RGB_SIZE, 200.0, "equidistant", (0.0, 0.0, 0.0, 0.0001))
    center = np.array([wide.matrix[2], wide.matrix[5]])
    rays, reached = wide.rays(np.array([[200 * math.radians(60), 0.0], [200 * math.radians(100), 0.0]]) + center)
    assert reached.tolist() == [True, False]
    assert math.degrees(math.atan2(rays[0, 0], rays[0, 2])) == pytest.approx(60, abs=0.1)


def test_quaternions():
    half = math.sqrt(0.5)
    np.testing.assert_allclose(rotation_from_quaternion(0, 0, half, half), [0, -1, 0, 1, 0, 0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation_from_quaternion(0, 0, 0, 2), np.eye(3).ravel())
    with pytest.raises(ValueError, match="0, 0, 0, 1"):
        rotation_from_quaternion(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"matrix": (0.0,) * 9}, "uncalibrated"),
        ({"matrix": (500.0, 0, 320, 0, math.nan, 240, 0, 0, 1)}, "finite"),
        ({"matrix": (500.0, 0, 320, 0, -500, 240, 0, 0, 1)}, "above 0"),
        ({"height": 0}, "height"),
        ({"distortion_model": "omni", "distortion": (0.1, 0.0, 0.0, 0.0)}, "plumb_bob"),
        ({"distortion": (0.1, 0.0)}, "4 or 5"),
        ({"distortion": (0.1, 0.0, math.inf, 0.0)}, "finite"),
    ],
)
def test_calibrations_that_cannot_be(changes, says):
    given = {"height": 480, "width": 640, "matrix": (500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0), **changes}
    with pytest.raises(ValueError, match=says):
        CameraModel(**given)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"distance": 0.0}, "in front"),
        ({"distance": math.nan}, "in front"),
        ({"rotation": (1.0, 0, 0, 0, 1, 0, 0, 0, -1)}, "right-handed"),
        ({"rotation": (2.0, 0, 0, 0, 1, 0, 0, 0, 1)}, "no rotation"),
        ({"translation": (0.0, math.inf, 0.0)}, "metres"),
    ],
)
def test_transforms_that_cannot_be(changes, says):
    with pytest.raises(ValueError, match=says):
        RigGeometry(camera(THERMAL_SIZE, 330.0), camera(RGB_SIZE, 560.0), **changes)
