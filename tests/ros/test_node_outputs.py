"""What is published of a pair: headers, sizes, detections, camera information, overlay."""

import numpy as np
import pytest
from bench import PERIOD, START, image, rgb_image, thermal_image
from conftest import KNOWN_OBJECTS
from sensor_msgs.msg import CameraInfo, Image

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


def test_camera_info_of_another_size_is_not_passed_on(active):
    bench = active()
    bench.camera_info.publish(CameraInfo(height=480, width=640))
    for number in range(3):
        bench.fuse(START + number * PERIOD)
    assert bench.heard["camera_info"] == []
    said = bench.diagnostics()["input streams"].values["camera_info"]
    assert "640 x 480" in said
    assert "128 x 96" in said


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
        *("pairing", "wait", "decode", "thermal range", "register", "fuse", "color", "publish"),
    }
    assert all(duration >= 0 for duration in status.stage_ms)
    # The stages follow each other within the latency.
    assert sum(status.stage_ms) <= status.latency_ms * 1.01
    assert (status.task, status.model, status.instruction_sequence) == ("viewing", "max", 1)
