"""What is published of a pair: headers, sizes, detections, camera information, overlay."""

import numpy as np
import pytest
from bench import LATCHED, PERIOD, START, image, rgb_image, thermal_image
from conftest import KNOWN_OBJECTS
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import LabelInfo

from irvf_fusion_node.conversions import stamp_to_ns
from irvf_msgs.msg import FusionStatus


def test_every_output_carries_the_header_of_the_rgb_frame(active):
    bench = active()
    bench.listen("overlay", Image)
    bench.wait_for(lambda: bench.node.count_publishers("/fusion/overlay"), "the overlay is offered")
    bench.camera_info.publish(CameraInfo(height=96, width=128, k=[100.0, 0.0, 64.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0]))
    for number in range(3):
        rgb = rgb_image(START + number * PERIOD)
        # 5 ms apart: the thermal frame must not lend its stamp to anything but thermal_stamp
        thermal = thermal_image(START + number * PERIOD - 5_000_000)
        bench.send(thermal, rgb)
    names = ("image", "detections", "camera_info", "overlay", "status")
    stamps = {START + number * PERIOD for number in range(3)}

    def arrived():
        settled = {stamp_to_ns(status.header.stamp) for status in bench.heard["status"]} == stamps
        fused = [status for status in bench.heard["status"] if status.outcome == FusionStatus.FUSED]
        return settled and fused and all(bench.heard[name][-1:] for name in names)

    bench.wait_for(arrived, "all outputs")
    for name in names:
        for message in bench.heard[name]:
            assert message.header.frame_id == "rgb_optical", name
            assert stamp_to_ns(message.header.stamp) in stamps, name
    for status in bench.heard["status"]:
        assert stamp_to_ns(status.header.stamp) - stamp_to_ns(status.thermal_stamp) == 5_000_000
        assert status.gap_ms == pytest.approx(-5.0)
    assert bench.heard["camera_info"][-1].k[0] == 100.0


@pytest.mark.parametrize("thermal_size", [(96, 128), (48, 64), (120, 160), (51, 37)])
def test_the_fused_image_has_the_size_of_the_rgb_frame(active, thermal_size):
    bench = active()
    out = bench.fuse(START, thermal_image(START, *thermal_size), rgb_image(START, 90, 150))
    assert (out.image.height, out.image.width, out.image.step) == (90, 150, 450)
    assert (out.image.encoding, len(out.image.data)) == ("rgb8", 90 * 450)


def test_maximum_fusion_shows_the_warm_pixel_and_keeps_the_rest_grey(active):
    bench = active()
    thermal = np.zeros((96, 128), np.uint8)
    thermal[40:60, 50:70] = 255
    grey = np.full((96, 128, 3), 90, np.uint8)
    out = bench.fuse(START, image(thermal, "mono8", START, "t"), image(grey, "bgr8", START, "c"))
    fused = np.frombuffer(out.image.data, np.uint8).reshape(96, 128, 3).astype(int)
    assert (fused[45:55, 55:65] > 250).all()
    assert (abs(fused[:30] - 90) <= 1).all()


def test_detections_are_boxes_of_the_published_image(active, known_detector):
    # 320 x 240 is half of the detector's 640 x 480 input: every number is halved.
    bench = active(detector=known_detector, instruction__initial="detection")
    out = bench.fuse(START, rgb=rgb_image(START, 240, 320))
    found = [
        (
            entry.results[0].hypothesis.class_id,
            (entry.bbox.center.position.x, entry.bbox.center.position.y, entry.bbox.size_x, entry.bbox.size_y),
            pytest.approx(entry.results[0].hypothesis.score),
        )
        for entry in out.detections.detections
    ]
    assert found == [(label, tuple(side / 2 for side in box), score) for label, box, score in KNOWN_OBJECTS]
    assert all(entry.header == out.detections.header for entry in out.detections.detections)
    assert out.status.detections == 2


def test_nothing_seen_is_an_empty_array(active, known_detector):
    bench = active(detector=known_detector, instruction__initial="detect bicycles")
    out = bench.fuse(START, rgb=rgb_image(START, 480, 640))
    assert list(out.detections.detections) == []
    assert out.status.detections == 0


RED, BLUE = (250, 20, 20), (20, 20, 250)
CLASSES = {0: "background", 1: "person", 2: "bicycle", 3: "car"}


@pytest.fixture
def seeing(active, known_models):
    """A node whose networks see a person in what is red, a car in what is blue, and what is bright as salient."""
    return active(**{"segmentation.model": known_models.segmentation, "saliency.model": known_models.saliency})


def blocks(stamp):
    """A warm, red block on the left of a 320 x 240 image, a warm, blue one on the right; thermal and RGB."""
    rgb = np.zeros((240, 320, 3), np.uint8)
    rgb[60:160, 40:120], rgb[60:160, 200:280] = RED, BLUE
    return image(np.zeros((240, 320), np.uint8), "mono8", stamp, "t"), image(rgb, "rgb8", stamp, "rgb_optical")


def pixels(message):
    assert (message.encoding, message.step) == ("mono8", message.width)
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def test_the_segmentation_is_a_class_for_every_pixel_of_the_published_image(seeing):
    assert list(seeing.instruct("segmentation").outputs) == ["image", "segmentation"]
    out = seeing.fuse(START, *blocks(START), expected=["segmentation"])
    found = pixels(out.segmentation)
    assert out.segmentation.header == out.image.header
    assert found.shape == (240, 320)
    assert (found[65:155, 45:115] == 1).all()
    assert (found[65:155, 205:275] == 3).all()
    assert not found[:55].any()
    assert not found[165:].any()
    assert "segment" in out.status.stages
    assert list(seeing.instruct("segment the people only").classes) == ["person"]
    people = pixels(seeing.fuse(START + PERIOD, *blocks(START + PERIOD), expected=["segmentation"]).segmentation)
    np.testing.assert_array_equal(people, np.where(found == 1, 1, 0))
    assert seeing.heard["saliency"] == []


def test_the_saliency_is_a_grey_level_for_every_pixel_of_the_published_image(seeing):
    assert list(seeing.instruct("what stands out?").outputs) == ["image", "saliency"]
    out = seeing.fuse(START, *blocks(START), expected=["saliency"])
    found = pixels(out.saliency).astype(int)
    assert out.saliency.header == out.image.header
    assert found.shape == (240, 320)
    fused = np.frombuffer(out.image.data, np.uint8).reshape(240, 320, 3).mean(axis=2)
    np.testing.assert_allclose(found[70:150, 50:110], fused[70:150, 50:110], atol=1.5)
    assert found[:50].max() == 0
    assert "saliency" in out.status.stages
    assert seeing.heard["segmentation"] == []


def test_a_task_gets_its_own_outputs_and_no_others(seeing):
    for number, text in enumerate(["segmentation", "viewing", "saliency", "detection", "viewing"]):
        stamp = START + number * PERIOD
        answer = seeing.instruct(text)
        expected = [name for name in answer.outputs if name != "image"]
        out = seeing.fuse(stamp, *blocks(stamp), expected=expected)
        assert (out.status.task, out.status.instruction_sequence) == (text, number + 2)
        assert list(out.detections.detections) == []  # an array of every pair, though no detector is loaded
    assert [stamp_to_ns(message.header.stamp) - START for message in seeing.heard["segmentation"]] == [0]
    assert [stamp_to_ns(message.header.stamp) - START for message in seeing.heard["saliency"]] == [2 * PERIOD]


def test_who_comes_late_hears_what_the_numbers_of_the_segmentation_mean(seeing):
    heard = []
    seeing.node.create_subscription(LabelInfo, "/fusion/label_info", heard.append, LATCHED)
    seeing.wait_for(lambda: heard, "the latched message")
    assert {entry.class_id: entry.class_name for entry in heard[0].class_map} == CLASSES
    for transition in ("deactivate", "activate"):
        assert seeing.change_state(transition)
    seeing.wait_for(lambda: {entry.class_id: entry.class_name for entry in heard[-1].class_map} == CLASSES, "again")


def test_without_a_segmentation_there_is_nothing_to_be_named(active):
    bench = active()
    bench.fuse(START)
    assert bench.heard["label_info"] == []


def test_the_overlay_shows_what_the_task_found(seeing):
    seeing.listen("overlay", Image)
    seeing.wait_for(lambda: seeing.node.count_publishers("/fusion/overlay"), "the overlay is offered")
    for number, text in enumerate(["segmentation", "saliency"]):
        stamp = START + number * PERIOD
        seeing.instruct(text)
        out = seeing.fuse(stamp, *blocks(stamp))
        seeing.wait_for(
            lambda when=stamp: [m for m in seeing.heard["overlay"] if stamp_to_ns(m.header.stamp) == when], text
        )
        overlay = np.frombuffer(seeing.heard["overlay"][-1].data, np.uint8).reshape(240, 320, 3).astype(int)
        fused = np.frombuffer(out.image.data, np.uint8).reshape(240, 320, 3)
        assert (np.abs(overlay - fused)[100:140, 60:100].max(axis=2) > 10).all()


def calibration(height, width):
    k = [500.0, 0.0, (width - 1) / 2, 0.0, 500.0, (height - 1) / 2, 0.0, 0.0, 1.0]
    return CameraInfo(height=height, width=width, k=k, p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0])


def test_camera_info_of_another_shape_is_not_passed_on(active):
    bench = active()
    bench.camera_info.publish(calibration(480, 600))
    for number in range(3):
        bench.fuse(START + number * PERIOD)
    assert bench.heard["camera_info"] == []
    said = bench.diagnostics()["input streams"].values["camera_info"]
    assert "600 x 480" in said
    assert "128 x 96" in said


def test_camera_info_of_an_image_that_was_scaled_is_scaled(active):
    bench = active()
    bench.camera_info.publish(calibration(480, 640))
    for number in range(3):
        bench.fuse(START + number * PERIOD)
    info = bench.wait_for(lambda: bench.heard["camera_info"] and bench.heard["camera_info"][-1], "camera_info")
    assert (info.height, info.width) == (96, 128)
    # The middle of the image stays its middle, and everything is a fifth of the size.
    np.testing.assert_allclose(info.k, [100, 0, 63.5, 0, 100, 47.5, 0, 0, 1])
    np.testing.assert_allclose(info.p, [100, 0, 63.5, 0, 0, 100, 47.5, 0, 0, 0, 1, 0])


def test_time_held_in_pairing_is_not_time_in_the_mailbox(active):
    bench = active(pairing__max_wait=0.5)
    # 15 ms apart and of unknown periods: a nearer frame may come, until max_wait is over.
    status = bench.fuse(START + 15_000_000, thermal=thermal_image(START)).status
    stages = dict(zip(status.stages, status.stage_ms, strict=True))
    assert stages["pairing"] > 400
    assert stages["wait"] < 200


def test_status_tells_the_time_of_each_stage(active):
    bench = active()
    status = bench.fuse(START).status
    assert set(status.stages) == {
        *("pairing", "wait", "read", "decode", "thermal range", "register", "fuse", "color", "publish"),
    }
    assert all(duration >= 0 for duration in status.stage_ms)
    # The stages follow each other within the latency.
    assert sum(status.stage_ms) <= status.latency_ms * 1.01
    assert (status.task, status.model, status.instruction_sequence) == ("viewing", "max", 1)
