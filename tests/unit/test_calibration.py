"""`irvf calibrate` on recordings of the simulated rig, whose geometry is known."""

import argparse
import json

import cv2
import numpy as np
import pytest
import yaml
from rosbags.typesys import Stores, get_typestore
from simulated_rig import RigConfig, homography_thermal_to_rgb, thermal_camera
from simulated_rig.calibration_board import DEFAULT_SIZES, RGB_LENSES, THERMAL_LENSES, project
from simulated_rig.calibration_check import errors
from simulated_rig.calibration_target import TargetConfig, TargetRecording, main, write_target_bag
from simulated_rig.geometry import thermal_to_rgb

from irvf.bags import create_bag, open_bag
from irvf.calibration.aprilgrid import aprilgrid_searches
from irvf.calibration.finder import board_finder
from irvf.calibration.recording import match, read_streams
from irvf.calibration.targets import make_target
from irvf.calibration.views import MOST_DRIFT, find_views
from irvf.cli import calibrate

STORE = get_typestore(Stores.ROS2_JAZZY)
SLIDES = RigConfig(rate_hz=1.0)
"""A frame a second, each with the board somewhere else."""


def run(*arguments):
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="irvf")
    calibrate.add_command(parser.add_subparsers())
    parsed = parser.parse_args(["calibrate", *map(str, arguments)])
    return parsed.run(parsed)


def recorded(folder, **settings):
    settings = {"rig": SLIDES, "hold": 1, "move": 0, "views": 12, **settings}
    config = TargetConfig(**settings)
    return folder / "rig.mcap", write_target_bag(folder / "rig.mcap", config)


def parameters_of(folder):
    return yaml.safe_load((folder / "fusion.yaml").read_text())["/**"]["ros__parameters"]


def numbers(content):
    """All single values of nested lists and dictionaries."""
    if isinstance(content, (list, dict)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from numbers(part)
    else:
        yield content


@pytest.fixture(scope="module")
def chessboard(tmp_path_factory):
    """A calibrated recording of a warm chessboard before lenses that distort: folder, truth and what was written."""
    folder = tmp_path_factory.mktemp("chessboard")
    bag, truth = recorded(folder)
    assert run(bag, "--target", "chessboard", "--square", 0.05, "--output", folder / "found") == 0
    return folder, truth, parameters_of(folder / "found")


def test_a_chessboard_gives_the_geometry_of_the_rig(chessboard):
    _, truth, parameters = chessboard
    assert parameters["registration.method"] == "camera_info"
    found = errors(parameters, truth, (0.7, 1.0, 1.5))
    assert found["rotation_deg"] < 0.2
    assert found["translation_mm"] < 1.5
    assert np.abs(found["focal_percent"]).max() < 0.5
    for median, _ in found["mapping_px"].values():
        assert median < 0.25
    assert min(truth["depths"]) < parameters["registration.distance"] < max(truth["depths"])


def test_the_node_can_load_the_parameters(chessboard):
    _, truth, parameters = chessboard
    for name, value in parameters.items():
        kinds = {type(number) for number in numbers(value)}
        assert kinds == ({int} if name.endswith(".size") else {str} if isinstance(value, str) else {float}), name
    assert parameters["registration.thermal.size"] == truth["thermal"]["size"]
    assert parameters["registration.rgb.size"] == truth["rgb"]["size"]
    lengths = {name: len(value) for name, value in parameters.items() if isinstance(value, list)}
    assert lengths["registration.homography"] == lengths["registration.rgb.matrix"] == 9
    assert lengths["registration.rotation"] == 4
    assert np.linalg.norm(parameters["registration.rotation"]) == pytest.approx(1)


def test_the_files_are_those_of_camera_info_manager(chessboard):
    folder, truth, parameters = chessboard
    for name in ("thermal", "rgb"):
        content = yaml.safe_load((folder / "found" / f"{name}.yaml").read_text())
        assert [content["image_width"], content["image_height"]] == truth[name]["size"]
        assert content["camera_matrix"]["data"] == parameters[f"registration.{name}.matrix"]
        assert content["distortion_coefficients"]["cols"] == len(content["distortion_coefficients"]["data"]) == 5
        assert np.reshape(content["projection_matrix"]["data"], (3, 4))[:, 3].tolist() == [0, 0, 0]


def test_report_and_picture_show_the_result(chessboard):
    folder, _, _ = chessboard
    report = (folder / "found" / "report.md").read_text()
    assert "--target chessboard --square 0.05" in report
    assert report.count("| used |") >= 10
    picture = cv2.imread(str(folder / "found" / "report.png"))
    assert picture.shape[1] > 1000
    # Both colours of the legend are in it: points found, and points carried over.
    for colour in ((90, 230, 90), (200, 80, 255)):
        assert (np.abs(picture.astype(int) - colour).max(2) < 12).sum() > 50


def test_cold_circles_before_fisheye_lenses(tmp_path):
    lenses = {"thermal_lens": THERMAL_LENSES["equidistant"], "rgb_lens": RGB_LENSES["equidistant"]}
    bag, truth = recorded(tmp_path, target="circles", size=(4, 11), cell_m=0.04, inverted=True, views=11, **lenses)
    models = ("--thermal-model", "fisheye", "--rgb-model", "fisheye")
    assert run(bag, "--target", "circles", "--square", 0.04, *models, "--output", tmp_path) == 0
    parameters = parameters_of(tmp_path)
    assert parameters["registration.thermal.distortion_model"] == "equidistant"
    found = errors(parameters, truth, (0.8, 1.4))
    assert found["translation_mm"] < 2
    assert max(median for median, _ in found["mapping_px"].values()) < 0.25


@pytest.mark.parametrize("inverted", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("name", ["chessboard", "circles", "aprilgrid"])
def test_points_are_found_where_the_board_is(name, inverted):
    size, cell = DEFAULT_SIZES[name]
    target = make_target(name, size, square=cell, tag=cell)
    recording = TargetRecording(TargetConfig(target=name, size=size, cell_m=cell, inverted=inverted, views=1))
    config, (rotation, offset) = recording.config, thermal_to_rgb(RigConfig())
    turn, shift = recording.pose(0)
    board = target.points @ cv2.Rodrigues(turn)[0].T + shift
    cases = (
        (recording.thermal(0), (board - offset) @ rotation, recording.thermal_camera, config.thermal_lens),
        (cv2.cvtColor(recording.rgb(0), cv2.COLOR_RGB2GRAY), board, recording.rgb_camera, config.rgb_lens),
    )
    for thermal, (image, points, camera, lens) in zip((True, False), cases, strict=True):
        found = board_finder(target, thermal=thermal)(image)
        assert len(found.ids) > 0.8 * len(target.points)
        expected = project(points, camera, lens)
        misses = [np.linalg.norm(found.points - expected[order][found.ids], axis=1) for order in target.symmetries]
        assert min(np.sqrt(np.mean(miss**2)) for miss in misses) < 0.25
        assert min(miss.max() for miss in misses) < 1.2


def test_an_image_without_a_board_gives_nothing():
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 65535, (120, 160)).astype(np.uint16), (0, 0), 3)
    for name, cell in (("chessboard", 0.05), ("circles", 0.04), ("aprilgrid", 0.055)):
        assert board_finder(make_target(name, square=cell, tag=cell), thermal=True)(noise) is None
        assert board_finder(make_target(name, square=cell, tag=cell), thermal=True)(np.zeros_like(noise)) is None


def test_a_moving_board_is_told_from_a_still_one(tmp_path):
    path = tmp_path / "rig.mcap"
    write_target_bag(path, TargetConfig(views=2, hold=3, move=2))
    views, looked_at = find_views(path, read_streams(path), make_target("chessboard", square=0.05))
    assert looked_at == 8
    start = TargetConfig().rig.start_stamp_ns
    still = {round((view.stamp - start) / 1e8) for view in views if view.drift <= MOST_DRIFT}
    # Three frames in each place, two between. Of those beside a moving frame nobody knows.
    assert {0, 1, 6, 7} <= still
    assert not {3, 4} & still


def test_compressed_images_and_given_lenses(tmp_path):
    lenses = {"thermal_lens": THERMAL_LENSES["none"], "rgb_lens": RGB_LENSES["none"]}
    bag, truth = recorded(tmp_path, views=7, camera_info=(True, True), **lenses)
    compressed = tmp_path / "compressed.mcap"
    compress(bag, compressed)
    topics = ("--thermal-topic", "/thermal/image_raw/compressed", "--rgb-topic", "/rgb/image_raw/compressed")
    assert run(compressed, "--target", "chessboard", "--square", 0.05, *topics, "--output", tmp_path) == 0
    parameters = parameters_of(tmp_path)
    assert parameters["registration.thermal.matrix"] == truth["thermal"]["matrix"]
    found = errors(parameters, truth, (0.7, 1.5))
    assert found["rotation_deg"] < 0.05
    assert max(largest for _, largest in found["mapping_px"].values()) < 0.3

    assert run(bag, "--target", "chessboard", "--square", 0.05, "--homography", "--output", tmp_path / "plane") == 0
    parameters = parameters_of(tmp_path / "plane")
    assert parameters["registration.method"] == "homography"
    assert "registration.rotation" not in parameters
    assert not (tmp_path / "plane" / "thermal.yaml").exists() or parameters["registration.distance"] > 0
    # Of a plane at a distance that lies among those of the board.
    centre = np.append(thermal_camera(SLIDES).matrix[:2, 2], 1)
    places = [homography_thermal_to_rgb(SLIDES, depth) @ centre for depth in (min(truth["depths"]) / 1.5, 50.0)]
    low, high = sorted(float(place[0] / place[2]) for place in places)
    mapped = np.reshape(parameters["registration.homography"], (3, 3)) @ centre
    assert low < mapped[0] / mapped[2] < high


def compress(source, path):
    """Write the images of a recording as PNG, the rest as it is."""
    kind = "sensor_msgs/msg/CompressedImage"
    with open_bag(source) as reader, create_bag(path) as writer:
        connections = {}
        for connection, stamp, content in reader.messages():
            data = content
            image = connection.msgtype.endswith("/Image")
            topic = f"{connection.topic}/compressed" if image else connection.topic
            if topic not in connections:
                name = kind if image else connection.msgtype
                connections[topic] = writer.add_connection(topic, name, typestore=STORE)
            if image:
                message = reader.deserialize(content, connection.msgtype)
                thermal = message.encoding == "16UC1"
                pixels = message.data.view(np.uint16) if thermal else message.data
                pixels = pixels.reshape(message.height, message.width, *(() if thermal else (3,)))
                stored = pixels if thermal else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
                form = f"{message.encoding}; png compressed {'' if thermal else 'bgr8'}".strip()
                file = STORE.types[kind](message.header, form, cv2.imencode(".png", stored)[1].ravel())
                data = STORE.serialize_cdr(file, kind)
            writer.write(connections[topic], stamp, data)


def test_pairs_are_the_nearest_of_both_streams():
    ms = 1_000_000
    rgb = np.arange(0, 300, 33, dtype=np.int64) * ms
    thermal = np.array([4, 110, 231, 900], np.int64) * ms
    pairs = match(thermal, rgb, 0.02)
    assert pairs == [(0, 0), (1, 3), (2, 7)]
    assert match(thermal, rgb, 0.005) == [(0, 0), (2, 7)]
    assert match(thermal[::-1], rgb, 0.02) == [(3, 0), (2, 3), (1, 7)]
    assert match(np.array([4, 9], np.int64) * ms, rgb, 0.02) == [(0, 0)]  # the other has no partner of its own


def test_camera_info_is_taken_at_the_size_of_the_image_or_refused(tmp_path):
    def read(**changes):
        path, kinds = tmp_path / "one.mcap", ("Image", "CameraInfo")
        with create_bag(path) as writer:
            for camera, encoding in (("thermal", "mono8"), ("rgb", "rgb8")):
                time = STORE.types["builtin_interfaces/msg/Time"](sec=3, nanosec=4)
                header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="")
                data = np.zeros(48 * 64 * (3 if encoding == "rgb8" else 1), np.uint8)
                image = STORE.types["sensor_msgs/msg/Image"](header, 48, 64, encoding, 0, data.size // 48, data)
                region = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, do_rectify=False)
                fields = {"height": 96, "width": 128, "distortion_model": "", "d": np.zeros(0), **changes}
                fields |= {"k": np.array([100.0, 0, 63.5, 0, 100, 47.5, 0, 0, 1]), "r": np.eye(3).ravel()}
                fields |= {"p": np.zeros(12), "binning_x": 0, "binning_y": 0, "roi": region}
                info = STORE.types["sensor_msgs/msg/CameraInfo"](header, **fields)
                for kind, topic, message in zip(kinds, ("image_raw", "camera_info"), (image, info), strict=True):
                    name = f"sensor_msgs/msg/{kind}"
                    connection = writer.add_connection(f"/{camera}/{topic}", name, typestore=STORE)
                    writer.write(connection, 7, STORE.serialize_cdr(message, name))
        return read_streams(path)

    for stream in read():
        assert stream.stamps.tolist() == [3_000_000_004]
        # Half the size: focal length halved, and the middle of the image stays the middle.
        assert stream.camera.matrix == (50, 0, 31.5, 0, 50, 23.5, 0, 0, 1)
        assert set(stream.camera.distortion) == {0.0}
    for stream in read(width=90):
        assert stream.camera is None
        assert "calibrate the camera at the size" in stream.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "chessboard"), "--square"),
        (("--target", "aprilgrid", "--tag", "5000"), "metres"),
        (("--target", "chessboard", "--size", "2x6", "--square", "0.05"), "inner corners"),
        (("--target", "chessboard", "--square", "0.05", "--distance", "-1"), "--distance"),
        (("--target", "chessboard", "--square", "0.05", "--max-pairs", "1"), "--max-pairs"),
        (("--target", "chessboard", "--square", "0.05"), "does not exist"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(tmp_path, arguments, said):
    with pytest.raises(ValueError, match=said):
        run(tmp_path / "missing.mcap", *arguments)


def test_a_board_of_another_size_is_said_to_be_never_seen(chessboard):
    folder, _, _ = chessboard
    with pytest.raises(ValueError, match=r"never seen by both.*RGB 0 times.*--size"):
        run(folder / "rig.mcap", "--target", "chessboard", "--size", "4x11", "--square", 0.05, "--max-pairs", 3)


def test_an_opencv_without_aruco_is_said(monkeypatch):
    monkeypatch.delattr(cv2, "aruco")
    with pytest.raises(RuntimeError, match="no aruco module"):
        aprilgrid_searches(make_target("aprilgrid", tag=0.05), thermal=False)


def test_the_demo_writes_recording_and_truth(tmp_path, capsys):
    assert main([str(tmp_path / "rig.mcap"), "--views", "1", "--target", "circles"]) == 0
    truth = json.loads((tmp_path / "rig.truth.json").read_text())
    assert truth["translation"] == [0.06, 0.015, 0.0]
    with open_bag(tmp_path / "rig.mcap") as reader:
        assert {topic.rpartition("/")[2] for topic in reader.topics} == {"image_raw", "camera_info"}
    assert "rig.truth.json" in capsys.readouterr().out
