"""The simulated rig is the ground truth of other tests, so its geometry and its boxes are checked by hand here."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from simulated_rig import (
    LABELS,
    RigConfig,
    SimulatedRig,
    capture_stamps,
    homography_thermal_to_rgb,
    rgb_camera,
    thermal_camera,
)
from simulated_rig.__main__ import main
from simulated_rig.bag import RGB_TOPIC, THERMAL_TOPIC, write_bag

from irvf.bags import open_bag

SMALL = RigConfig(rgb_width=320, rgb_height=240, thermal_width=160, thermal_height=128, duration_s=6.0)
TINY = replace(SMALL, rgb_width=96, rgb_height=72, thermal_width=64, thermal_height=48)
CROSSING = 5 * 30  # frame in which people are on the crossing


@pytest.fixture(scope="module")
def night() -> SimulatedRig:
    return SimulatedRig(SMALL)


def test_a_frame_depends_on_its_number_alone(night: SimulatedRig) -> None:
    first = night.sample(CROSSING)
    night.sample(3)
    again = night.sample(CROSSING)
    other_rig = SimulatedRig(SMALL).sample(CROSSING)
    for second in (again, other_rig):
        np.testing.assert_array_equal(first.rgb, second.rgb)
        np.testing.assert_array_equal(first.thermal, second.thermal)
        np.testing.assert_array_equal(first.instance_mask, second.instance_mask)
        assert first.boxes == second.boxes
        assert (first.stamp, first.thermal_stamp) == (second.stamp, second.thermal_stamp)


def test_frames_and_seeds_differ(night: SimulatedRig) -> None:
    sample = night.sample(0)
    assert np.mean(sample.rgb != night.sample(1).rgb) > 0.2  # noise alone changes that much
    other = SimulatedRig(replace(SMALL, seed=2)).sample(0)
    assert np.mean(sample.class_mask != other.class_mask) > 0.001


def test_images_have_the_configured_form(night: SimulatedRig) -> None:
    sample = night.sample(0)
    assert sample.rgb.shape == (240, 320, 3)
    assert sample.rgb.dtype == np.uint8
    assert sample.thermal is not None
    assert sample.thermal.shape == (128, 160)
    assert sample.thermal.dtype == np.uint16
    assert len(night) == 180
    with pytest.raises(IndexError, match="frames 0 to 179"):
        night.sample(180)


def test_world_points_project_as_worked_out_by_hand() -> None:
    config = RigConfig()
    camera = rgb_camera(config)
    yaw, pitch = math.radians(4.0), math.radians(2.0)
    ahead = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)])
    right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    pixel, depth = camera.project(np.array([0.0, 0.0, 1.6]) + 10.0 * ahead + 1.0 * right)
    focal = 320 / math.tan(math.radians(30.0))
    assert depth == pytest.approx(10.0)
    np.testing.assert_allclose(pixel, [319.5 + focal / 10, 239.5], atol=1e-9)


def test_rays_are_the_inverse_of_projection() -> None:
    camera = thermal_camera(SMALL)
    rays = camera.rays(1)
    pixel, depth = camera.project(camera.position + 7.0 * rays[100, 30])
    np.testing.assert_allclose(pixel, [30, 100], atol=1e-3)
    assert depth == pytest.approx(7.0, abs=1e-5)


@pytest.mark.parametrize("distance", [4.0, 12.0, 60.0])
def test_homography_maps_the_plane_exactly(distance: float) -> None:
    config = RigConfig()
    rgb, thermal = rgb_camera(config), thermal_camera(config)
    # Points of the plane z = distance in the RGB optical frame, carried to the world by hand.
    across, down = np.meshgrid([-1.5, 0.0, 2.0], [-1.0, 0.5])
    optical = np.stack([across.ravel(), down.ravel(), np.full(6, distance)], -1)
    world = rgb.position + optical @ rgb.rotation
    homography = homography_thermal_to_rgb(config, distance)
    mapped = cv2.perspectiveTransform(thermal.project(world)[0][None], homography)[0]
    np.testing.assert_allclose(mapped, rgb.project(world)[0], atol=1e-6)
    # Twice as far away, the parallax of the baseline shows: f * b * (1 / d - 1 / 2d).
    beyond = rgb.position + optical * 2 @ rgb.rotation
    gap = rgb.project(beyond)[0] - cv2.perspectiveTransform(thermal.project(beyond)[0][None], homography)[0]
    expected = rgb.matrix[0, 0] * np.hypot(0.06, 0.015) / (2 * distance)
    np.testing.assert_allclose(np.linalg.norm(gap, axis=1), expected, rtol=0.06)


def test_homography_refuses_a_plane_behind_the_camera() -> None:
    with pytest.raises(ValueError, match="-2"):
        homography_thermal_to_rgb(RigConfig(), -2.0)


def test_boxes_enclose_the_visible_pixels_tightly(night: SimulatedRig) -> None:
    sample = night.sample(CROSSING)
    assert {found.label for found in sample.boxes} == {"person", "car", "bicycle"}
    for found in sample.boxes:
        rows, columns = np.nonzero(sample.instance_mask == found.instance)
        assert (found.box.x_min, found.box.x_max) == (columns.min(), columns.max() + 1)
        assert (found.box.y_min, found.box.y_max) == (rows.min(), rows.max() + 1)
        assert (sample.class_mask[rows, columns] == LABELS.index(found.label)).all()
        assert 0 < found.visible <= 1
    people = [found for found in sample.boxes if found.label == "person" and found.visible > 0.5]
    assert people
    for found in people:  # who is 1.6 to 1.9 m tall and stands on the ground, has that height where its feet are
        camera = rgb_camera(SMALL)
        foot = np.array([(found.box.x_min + found.box.x_max) / 2 - 0.5, found.box.y_max - 0.5, 1.0])
        ray = camera.rotation.T @ np.linalg.solve(camera.matrix, foot)
        depth = 1.6 / -ray[2]
        if depth < 15:
            assert 1.4 < found.box.height * depth / camera.matrix[0, 0] < 2.1


def test_thermal_objects_lie_where_the_homography_puts_the_boxes(night: SimulatedRig) -> None:
    sample = night.sample(CROSSING)
    assert sample.thermal is not None
    aligned = cv2.warpPerspective(
        sample.thermal.astype(np.float32), homography_thermal_to_rgb(SMALL, 12.0), (320, 240), flags=cv2.INTER_LINEAR
    )
    celsius = aligned * SMALL.kelvin_per_count - 273.15
    people = sample.class_mask == LABELS.index("person")
    people &= aligned > 0  # outside of the thermal field of view
    inside = cv2.erode(people.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    around = (
        (cv2.dilate(people.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0) & (sample.class_mask == 0) & (aligned > 0)
    )
    assert inside.sum() > 100
    assert celsius[inside].mean() > celsius[around].mean() + 5
    assert celsius[inside].max() > 25  # faces
    assert sample.rgb[inside].mean() < 50  # the RGB camera hardly sees them in the dark


def test_counts_are_the_temperature_within_the_stated_noise() -> None:
    rig = SimulatedRig(replace(SMALL, column_noise_mk=0.0))
    sample = rig.sample(0)
    assert sample.thermal is not None
    scene = cv2.GaussianBlur(rig.temperature(sample.thermal_stamp), (0, 0), 0.65)
    error = sample.thermal * 0.01 - 273.15 - scene
    assert abs(error.mean()) < 0.002
    assert error.std() == pytest.approx(math.hypot(0.050, 0.01 / math.sqrt(12)), rel=0.03)


def test_day_is_bright_and_night_is_dark(night: SimulatedRig) -> None:
    day = SimulatedRig(replace(SMALL, light="day")).sample(0)
    dark = night.sample(0)
    assert day.rgb.mean() > 90
    assert dark.rgb.mean() < 45
    np.testing.assert_array_equal(day.class_mask, dark.class_mask)  # the same people walk by day and by night
    assert day.thermal is not None
    assert dark.thermal is not None
    ground = (slice(100, 128), slice(None))  # the road, sun-warmed by day
    assert np.median(day.thermal[ground]) > np.median(dark.thermal[ground]) + 1000


def test_dusk_goes_from_day_to_night() -> None:
    rig = SimulatedRig(replace(TINY, light="dusk", duration_s=1.0))
    means = [rig.sample(index).rgb.mean() for index in (0, 15, 29)]
    assert means[0] > means[1] > means[2]


def test_stamps_keep_their_order_under_jitter() -> None:
    shaken = replace(SMALL, stamp_jitter_ms=30.0)
    stamps = np.array([capture_stamps(shaken, index) for index in range(180)])
    assert (np.diff(stamps, axis=0) > 0).all()
    assert np.abs(stamps[:, 0] - stamps[:, 1]).max() > 5e6
    assert capture_stamps(replace(SMALL, stamp_jitter_ms=0.0), 30) == (SMALL.start_stamp_ns + 10**9,) * 2


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("light", "noon", "noon"),
        ("rate_hz", 0.0, "rate_hz is 0.0; choose 0.1 to 1000"),
        ("rgb_width", 8, "choose 32 to 4096"),
        ("thermal_every", 0, "choose 1 to 1000"),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RigConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["street.mcap", "street.db3", "street"])
def test_bag_reads_back_equal(tmp_path: Path, name: str) -> None:
    config = replace(TINY, duration_s=0.2, thermal_every=2)
    truth = write_bag(tmp_path / name, config, progress=False)
    rig = SimulatedRig(config)
    samples = list(rig)
    found: dict[str, list[tuple[int, Any]]] = {}
    arrivals = []
    with open_bag(tmp_path / name) as reader:
        for connection, arrival, raw in reader.messages():
            found.setdefault(connection.topic, []).append((arrival, reader.deserialize(raw, connection.msgtype)))
            arrivals.append(arrival)
    assert arrivals == sorted(arrivals)
    thermal = [(sample.thermal_stamp, sample.thermal) for sample in samples if sample.thermal is not None]
    expected: list[tuple[str, list[tuple[int, Any]], str, str, int]] = [
        (RGB_TOPIC, [(s.stamp, s.rgb) for s in samples], "rgb8", "rgb_optical_frame", 12),
        (THERMAL_TOPIC, thermal, "16UC1", "thermal_optical_frame", 25),
    ]
    for topic, shown, encoding, frame, delay_ms in expected:
        assert len(found[topic]) == len(shown)
        for (arrival, message), (stamp, image) in zip(found[topic], shown, strict=True):
            assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
            assert arrival == stamp + delay_ms * 10**6
            assert (message.header.frame_id, message.encoding) == (frame, encoding)
            assert message.step == image.strides[0]
            pixels = message.data.view(image.dtype).reshape(message.height, message.width, -1).squeeze()
            np.testing.assert_array_equal(pixels, image)
    info = found["/thermal/camera_info"][0][1]
    np.testing.assert_allclose(info.k.reshape(3, 3), thermal_camera(config).matrix)
    assert (info.width, info.height, info.distortion_model) == (64, 48, "plumb_bob")
    assert [frame["stamp"] for frame in truth["frames"]] == [sample.stamp for sample in samples]
    assert len(truth["frames"][0]["boxes"]) == len(samples[0].boxes)


def test_command_line_writes_bag_parameters_and_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "day.mcap"
    assert main([str(out), "--duration", "0.03", "--light", "day", "--quiet"]) == 0
    assert "day.params.yaml" in capsys.readouterr().out
    parameters = yaml.safe_load((tmp_path / "day.params.yaml").read_text())["/**"]["ros__parameters"]
    assert parameters["registration.method"] == "homography"
    written = np.array(parameters["registration.homography"]).reshape(3, 3)
    np.testing.assert_allclose(written, homography_thermal_to_rgb(RigConfig(), 12.0))
    truth = json.loads((tmp_path / "day.truth.json").read_text())
    assert truth["classes"] == ["person", "bicycle", "car"]
    assert len(truth["frames"]) == 1
    with open_bag(out) as reader:
        assert reader.topics[RGB_TOPIC].msgcount == 1
