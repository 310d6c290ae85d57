"""The geometry from points that were computed, not rendered: what can be told, and what must be refused."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from simulated_rig import RigConfig, rgb_camera, thermal_camera
from simulated_rig.calibration_board import RGB_LENSES, THERMAL_LENSES
from simulated_rig.calibration_board import project as true_pixels
from simulated_rig.calibration_target import TargetConfig, board_poses
from simulated_rig.geometry import thermal_to_rgb

from irvf.calibration.adjustment import RGB, Observation, project
from irvf.calibration.detection import Detection
from irvf.calibration.files import node_parameters, quaternion, report
from irvf.calibration.lens import fit_lens
from irvf.calibration.order import settle_order
from irvf.calibration.solve import CalibrationError, Wanted, calibrate
from irvf.calibration.targets import make_target
from irvf.calibration.views import View, choose_views, shared_views
from irvf.imaging.camera_geometry import CameraModel, as_nine, rotation_from_quaternion

CONFIG = TargetConfig(views=24)
SIZES = ((256, 320), (480, 640))
BOARD = make_target("chessboard", square=0.05)
PICTURES = (b"", b"")
NOISE = 0.05


@pytest.fixture(scope="module")
def poses():
    """Poses of the board all over both images."""
    return board_poses(CONFIG)


def seen(poses, target=BOARD, noise=NOISE, config=CONFIG):
    """Return the views of a board in these poses, as exact as a good detector's."""
    generator = np.random.default_rng(5)
    rotation, offset = thermal_to_rgb(config.rig)
    views = []
    for number, (turn, shift) in enumerate(poses):
        board = target.points @ cv2.Rodrigues(np.asarray(turn, np.float64))[0].T + shift
        pixels = (
            true_pixels((board - offset) @ rotation, thermal_camera(config.rig), config.thermal_lens),
            true_pixels(board, rgb_camera(config.rig), config.rgb_lens),
        )
        found = [
            Detection(np.arange(len(board)), points + generator.normal(0, noise, points.shape)) for points in pixels
        ]
        views.append(View(number * 10**9, 0.0, found[0], found[1], 0.0, PICTURES))
    return views


def shifted(view, by):
    return replace(view, thermal=Detection(view.thermal.ids, view.thermal.points + by))


def true_cameras(config=CONFIG):
    parts = ((thermal_camera, config.thermal_lens), (rgb_camera, config.rgb_lens))
    cameras = [(make(config.rig), lens) for make, lens in parts]
    return tuple(
        CameraModel(camera.height, camera.width, as_nine(camera.matrix), lens.model, lens.distortion)
        for camera, lens in cameras
    )


def solve(views, target=BOARD, **wanted):
    return calibrate(views, 99, target, SIZES, Wanted(**wanted))


def pose_errors(found):
    rotation, offset = thermal_to_rgb(CONFIG.rig)
    angle = np.degrees(np.linalg.norm(cv2.Rodrigues(found.rotation @ rotation.T)[0]))
    return angle, 1000 * np.linalg.norm(found.translation - offset)


def test_unknown_lenses_and_pose_are_found_as_well_as_the_report_says(poses):
    found = solve(seen(poses))
    assert found.method == "camera_info"
    assert not found.warnings
    rotation, offset = thermal_to_rgb(CONFIG.rig)
    # X_thermal = R^T X_rgb - R^T t is what the adjustment knows; four standard deviations.
    difference = found.adjusted.rig.shift + rotation.T @ offset
    assert (np.abs(difference) < 4 * found.adjusted.pose_deviations[3:]).all()
    for camera, truth, spread in zip(found.cameras, true_cameras(), found.adjusted.lens_deviations, strict=True):
        wrong = np.array(camera.matrix)[[0, 4, 2, 5]] - np.array(truth.matrix)[[0, 4, 2, 5]]
        assert (np.abs(wrong) < 4 * spread[:4] + 0.05).all()
    assert (found.adjusted.pose_deviations > 0).all()


def test_given_lenses_are_kept(poses):
    cameras = true_cameras()
    found = solve(seen(poses), cameras=cameras)
    assert found.cameras == cameras
    angle, millimetres = pose_errors(found)
    assert angle < 0.01
    assert millimetres < 0.3


def test_a_fisheye_beside_another_lens(poses):
    config = replace(CONFIG, thermal_lens=THERMAL_LENSES["equidistant"], rgb_lens=RGB_LENSES["plumb_bob"])
    found = solve(seen(poses, config=config), models=("equidistant", "plumb_bob"))
    assert [camera.distortion_model for camera in found.cameras] == ["equidistant", "plumb_bob"]
    angle, millimetres = pose_errors(found)
    assert angle < 0.2
    assert millimetres < 1


def test_views_that_do_not_fit_are_thrown_out(poses):
    views = seen(poses)
    for number in (3, 11, 17):
        views[number] = shifted(views[number], (3.0, -2.0))
    found = solve(views)
    rejected = {result.view.stamp // 10**9 for result in found.views if result.rejected}
    assert rejected == {3, 11, 17}
    angle, millimetres = pose_errors(found)
    assert angle < 0.15
    assert millimetres < 1
    assert report(found, "irvf calibrate").count("misses by") >= 3


@pytest.mark.parametrize("size", [(9, 6), (7, 7)], ids=["oblong", "square"])
def test_a_board_taken_the_wrong_way_round_is_turned_back(poses, size):
    target = make_target("chessboard", size, square=0.05 if size == (9, 6) else 0.04)
    views = seen(poses, target)
    order = target.symmetries[-1]
    for number in range(0, len(views), 3):
        thermal = views[number].thermal
        views[number] = replace(views[number], thermal=Detection(thermal.ids, thermal.points[order]))
    ordered = settle_order(shared_views(views), target)
    assert ordered.turned == 8
    assert ordered.certain
    found = solve(views, target)
    assert not [result for result in found.views if result.rejected]
    assert pose_errors(found)[1] < 1


def test_a_thermal_camera_upside_down(poses):
    # All thermal points turned about the middle of the image, and found from the other end of the board.
    flipped = [
        replace(view, thermal=Detection(view.thermal.ids, ((319, 255) - view.thermal.points)[::-1]))
        for view in seen(poses)
    ]
    found = solve(flipped)
    turn = np.degrees(np.linalg.norm(cv2.Rodrigues(found.rotation)[0]))
    assert turn == pytest.approx(180, abs=2)
    assert not [result for result in found.views if result.rejected]


def fronto_parallel(depth=1.0):
    centre = np.array([0.2, 0.125, 0])
    return [
        (np.zeros(3), np.array([x, y, depth]) - centre)
        for x in (-0.12, 0, 0.12, 0.2)
        for y in (-0.15, -0.05, 0.05, 0.12)
    ]


def test_views_from_the_front_give_a_homography_and_the_reason():
    config = replace(CONFIG, thermal_lens=THERMAL_LENSES["none"], rgb_lens=RGB_LENSES["none"])
    found = solve(seen(fronto_parallel(), config=config))
    assert found.method == "homography"
    assert "focal length" in found.reason
    assert "Tilt it" in found.reason
    assert found.homography_error[0] < 0.3
    parameters = node_parameters(found)
    assert set(parameters) == {"registration.method", "registration.homography"}
    assert found.reason in report(found, "irvf calibrate")


def test_a_homography_of_a_plane_with_known_lenses_says_its_distance():
    config = replace(CONFIG, thermal_lens=THERMAL_LENSES["none"], rgb_lens=RGB_LENSES["none"])
    found = solve(seen(fronto_parallel(1.3), config=config), cameras=true_cameras(config), homography_only=True)
    assert found.distance == pytest.approx(1.3, abs=0.01)
    assert node_parameters(found, 4.0)["registration.distance"] == 4.0


def test_refusals_say_what_to_do(poses):
    views = seen(poses)
    alone = [
        replace(view, rgb=None) if number % 2 else replace(view, thermal=None) for number, view in enumerate(views)
    ]
    with pytest.raises(
        CalibrationError, match=r"never seen by both.*99 pairs.*thermal saw it 12 times and RGB 12 times"
    ):
        solve(alone)
    with pytest.raises(CalibrationError, match="never seen by both"):
        solve([])
    with pytest.raises(CalibrationError, match="4 different views"):
        solve(views[:4])
    with pytest.raises(CalibrationError, match="1 different views"):
        solve([views[0]] * 30)
    middle = [(turn, np.array([-0.2, -0.12, 2.0 + 0.3 * number])) for number, (turn, _) in enumerate(poses[:12])]
    with pytest.raises(CalibrationError, match=r"of the thermal image; 12% is the least"):
        solve(seen(middle))
    thermal, rgb = true_cameras()
    wrong = replace(thermal, matrix=as_nine(np.diag((1.3, 1.3, 1)) @ np.reshape(thermal.matrix, (3, 3))))
    with pytest.raises(CalibrationError, match=r"missed by .* px in the thermal image.*--recalibrate"):
        solve(views, cameras=(wrong, rgb))
    apart = [shifted(view, np.random.default_rng(n).normal(0, 40, 2)) for n, view in enumerate(views)]
    with pytest.raises(CalibrationError):
        solve(apart, cameras=(thermal, rgb))


def test_moving_views_are_used_only_where_still_ones_do_not_suffice(poses):
    views = seen(poses)
    moving = [replace(shifted(view, (4, 0)), drift=2.0) for view in views[:8]]
    found = solve([*moving, *views[8:]], cameras=true_cameras())
    assert {result.view.drift for result in found.views} == {0.0}
    found = solve([replace(view, drift=2.0) for view in views], cameras=true_cameras())
    assert any("stand still" in warning for warning in found.warnings)


def test_views_are_chosen_apart_from_each_other(poses):
    views = seen(poses)
    many = [view for view in views for _ in range(5)]
    assert len(choose_views(many, SIZES[1])) <= len(views)
    chosen = choose_views(views, SIZES[1], most=6)
    spread = np.ptp([view.rgb.points.mean(0) for view in chosen], axis=0)
    everything = np.ptp([view.rgb.points.mean(0) for view in views], axis=0)
    assert (spread > 0.75 * everything).all()


def test_distortion_is_not_looked_for_where_the_board_was_not(poses):
    middle = [(turn, np.array([-0.2, -0.12, 1.5 + 0.05 * n])) for n, (turn, _) in enumerate(poses)]
    fits = []
    for views in (seen(middle, noise=0.02), seen(poses), seen(poses[:7])):
        points = [Observation(0, RGB, BOARD.points, view.rgb.points) for view in views]
        fits.append(fit_lens(points, SIZES[1], "plumb_bob"))
    near_middle, everywhere, few = fits
    assert near_middle.reach < 0.5 < everywhere.reach
    assert "p1" not in near_middle.terms
    assert near_middle.camera.distortion[2:] == (0, 0, 0)
    assert "p1" in everywhere.terms
    assert len(few.free) <= len(everywhere.free)


@pytest.mark.parametrize(
    "lens", [THERMAL_LENSES["plumb_bob"], THERMAL_LENSES["equidistant"]], ids=["pinhole", "fisheye"]
)
def test_derivatives_of_the_projection_are_those_of_differences(lens):
    camera = CameraModel(256, 320, (340.0, 0, 160, 0, 345.0, 120, 0, 0, 1), lens.model, lens.distortion)
    turn, shift = np.array([0.2, -0.3, 0.1]), np.array([-0.1, -0.05, 0.9])
    pixels, by_pose, _ = project(camera, turn, shift, BOARD.points)
    board = BOARD.points @ cv2.Rodrigues(turn)[0].T + shift
    rig = replace(thermal_camera(RigConfig()), matrix=np.reshape(camera.matrix, (3, 3)))
    np.testing.assert_allclose(pixels, true_pixels(board, rig, lens), atol=1e-6)
    for index in range(6):
        step = np.zeros(6)
        step[index] = 1e-6
        moved, _, _ = project(camera, turn + step[:3], shift + step[3:], BOARD.points)
        np.testing.assert_allclose(by_pose[:, index], (moved - pixels).ravel() / 1e-6, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    "turn", [(0, 0, 0), (0.3, -0.2, 0.1), (math.pi, 0, 0), (0, 3.1, 0), (0, 0, -3.1), (1.2, 1.3, 2.0)]
)
def test_quaternions_are_read_back_as_the_same_rotation(turn):
    rotation = cv2.Rodrigues(np.array(turn, np.float64))[0]
    np.testing.assert_allclose(np.reshape(rotation_from_quaternion(*quaternion(rotation)), (3, 3)), rotation, atol=1e-9)


def test_the_aprilgrid_is_kalibrs():
    target = make_target("aprilgrid", (3, 2), tag=0.1, spacing=0.25)
    points = target.points[:, :2].reshape(6, 4, 2)
    # Tag 0 at the lower left, numbers rise to the right and then upwards; y points down, the origin is its corner.
    np.testing.assert_allclose(points[0], [(0, -0.1), (0.1, -0.1), (0.1, 0), (0, 0)], atol=1e-12)
    np.testing.assert_allclose(points[1] - points[0], [(0.125, 0)] * 4, atol=1e-12)
    np.testing.assert_allclose(points[3] - points[0], [(0, -0.125)] * 4, atol=1e-12)


def test_boards_that_look_the_same_when_turned_are_known():
    def turns(*arguments):
        return len(make_target(*arguments, square=0.05).symmetries)

    assert turns("chessboard", (9, 6)) == 2
    assert turns("chessboard", (7, 7)) == 4
    assert turns("circles", (4, 11)) == 1
    assert turns("circles", (4, 10)) == 2
