"""Streams as the field has them: one camera lost, a closed shutter, compressed images, stamps of different clocks."""

import threading
import time

import cv2
import numpy as np
import pytest
from bench import NAMESPACE, PERIOD, RELIABLE, START, image, rgb_image, thermal_image
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from irvf_fusion_node.conversions import ns_to_stamp, stamp_to_ns
from irvf_msgs.msg import FusionStatus
from irvf_msgs.srv import EstimateDelay

HEIGHT, WIDTH = 96, 128


def pixels(message):
    return np.array(message.data, np.uint8).reshape(message.height, message.width, 3)


def noisy_thermal(stamp, height=48, width=64):
    noise = np.random.default_rng(stamp % 2**32).integers(0, 40, (height, width))
    rows, columns = np.mgrid[:height, :width]
    return image((30000 + 20 * rows + 10 * columns + noise).astype(np.uint16), "mono16", stamp, "thermal_optical")


def play(bench, make, first, seconds, rate=20.0):
    """Send frames at their rate; ``make`` returns what to send of a stamp."""
    for number in range(round(seconds * rate)):
        bench.send(**make(first + round(number * 1e9 / rate)))
        time.sleep(1 / rate)
    return first + round(seconds * 1e9)


def both(stamp):
    return {"thermal": noisy_thermal(stamp), "rgb": rgb_image(stamp)}


@pytest.mark.parametrize(
    ("alone", "outcome", "frame", "size"),
    [
        ("rgb", FusionStatus.RGB_ONLY, "rgb_optical", (96, 128)),
        ("thermal", FusionStatus.THERMAL_ONLY, "thermal_optical", (48, 64)),
    ],
)
def test_the_other_camera_goes_on_alone_where_that_is_wanted(active, alone, outcome, frame, size):
    bench = active(pairing__alone="both", pairing__loss_after=0.3)
    now = play(bench, both, START, 1.0)
    fused = [status for status in bench.heard["status"] if status.outcome == FusionStatus.FUSED]
    assert len(fused) >= 15
    now = play(bench, lambda stamp: {alone: both(stamp)[alone]}, now, 3.0)
    bench.wait_for(lambda: [s for s in bench.heard["status"] if s.outcome == outcome], "it goes on alone")
    lone = [status for status in bench.heard["status"] if status.outcome == outcome]
    assert len(lone) >= 40
    assert "lost" in lone[0].message
    said = [entry.message for message in bench.heard["diagnostics"] for entry in message.status]
    assert any("published alone" in message for message in said)
    bench.wait_for(lambda: any("published alone" in text for text in bench.log_texts()), "the log says it")
    shown = [m for m in bench.heard["image"] if m.header.stamp in [s.header.stamp for s in lone]]
    assert {(m.header.frame_id, m.height, m.width) for m in shown} == {(frame, *size)}
    if alone == "rgb":
        sent = pixels(rgb_image(stamp_to_ns(shown[-1].header.stamp))).astype(int)
        assert np.abs(pixels(shown[-1]) - sent).mean() < 2
    before = len(bench.heard["status"])
    play(bench, both, now, 1.5)
    after = bench.heard["status"][before:]
    assert [status.outcome for status in after][-10:] == [FusionStatus.FUSED] * 10
    stamps = [stamp_to_ns(m.header.stamp) for m in bench.heard["image"]]
    assert stamps == sorted(set(stamps))  # nothing twice, nothing out of order


def test_without_being_asked_for_nothing_is_published_alone(active):
    bench = active(pairing__loss_after=0.3)
    now = play(bench, both, START, 0.5)
    known = len(bench.heard["image"])
    play(bench, lambda stamp: {"rgb": rgb_image(stamp)}, now, 1.5)
    assert len(bench.heard["image"]) <= known + 1
    parts = bench.diagnostics(lambda parts: "lost" in parts["input streams"].message, "the loss is said")
    assert parts["input streams"].level == b"\x01"


def test_a_closed_shutter_shows_the_rgb_image_and_says_so(active):
    bench = active(thermal__freeze_after=0.5)
    now = play(bench, both, START, 0.5)
    stuck = noisy_thermal(now)

    def frozen(stamp):
        stuck.header.stamp = ns_to_stamp(stamp)
        return {"thermal": stuck, "rgb": rgb_image(stamp)}

    now = play(bench, frozen, now, 1.5)
    bench.wait_for(lambda: len(bench.heard["status"]) >= 39, "a status of each pair")
    marked = [status for status in bench.heard["status"] if status.outcome == FusionStatus.RGB_ONLY]
    assert 15 <= len(marked) <= 21  # the last second of it
    assert "shutter" in marked[0].message
    bench.diagnostics(lambda parts: "shutter" in parts["thermal"].message, "the shutter")
    before = len(bench.heard["status"])
    play(bench, both, now, 0.5)
    bench.wait_for(lambda: len(bench.heard["status"]) >= before + 9, "a status of each pair")
    assert {status.outcome for status in bench.heard["status"][before + 1 :]} == {FusionStatus.FUSED}


def test_a_still_picture_that_is_played_to_both_is_no_shutter(active):
    bench = active(thermal__freeze_after=0.5)
    thermal, rgb = noisy_thermal(START), rgb_image(START)

    def still(stamp):
        thermal.header.stamp = rgb.header.stamp = ns_to_stamp(stamp)
        return {"thermal": thermal, "rgb": rgb}

    play(bench, still, START, 1.5)
    assert {status.outcome for status in bench.heard["status"]} == {FusionStatus.FUSED}


def compressed(pixel_values, encoding, suffix, codec, stamp, frame):
    done, data = cv2.imencode(suffix, pixel_values)
    assert done
    header = Header(stamp=ns_to_stamp(stamp), frame_id=frame)
    return CompressedImage(header=header, format=f"{encoding}; {codec}", data=data.tobytes())


def test_compressed_images_are_taken_and_given(bench):
    bench = bench(thermal__transport="compressed", rgb__transport="compressed", output__jpeg_quality=95)
    # Before the node subscribes: to reliable publishers it would subscribe anew, and lose what comes meanwhile.
    publish = bench.node.create_publisher
    thermal = publish(CompressedImage, f"{NAMESPACE}/thermal/image_raw/compressed", RELIABLE)
    rgb = publish(CompressedImage, f"{NAMESPACE}/rgb/image_raw/compressed", RELIABLE)
    assert bench.change_state("configure")
    found = bench.fusion.get_publishers_info_by_topic
    bench.wait_for(lambda: all(found(each.topic_name) for each in (thermal, rgb)), "the node knows the cameras")
    assert bench.change_state("activate")
    bench.listen("image/compressed", CompressedImage)
    bench.wait_for(lambda: thermal.get_subscription_count() and rgb.get_subscription_count(), "it subscribes")
    bench.wait_for(lambda: bench.node.count_publishers(f"{NAMESPACE}/image/compressed"), "it offers")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    counts = (32000 - 30 * columns + rows).astype(np.uint16)  # cold where the picture is red
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[:, 64:] = (0, 0, 220)  # red, as OpenCV orders it
    for number in range(3):
        stamp = START + number * PERIOD
        thermal.publish(compressed(counts, "16UC1", ".png", "png compressed ", stamp, "thermal_optical"))
        rgb.publish(compressed(colours, "rgb8", ".jpg", "jpeg compressed bgr8", stamp, "rgb_optical"))
        bench.wait_for(lambda stamp=stamp: bench.status_of(stamp), "a status")
    assert bench.status_of(stamp).outcome == FusionStatus.FUSED
    raw = bench.wait_for(lambda: bench.heard["image"] and bench.heard["image"][-1], "an image")
    found = pixels(raw)[20:-20, 100:]
    assert (found[..., 0].astype(int) - found[..., 2] > 100).all()  # red stays red
    sent = bench.wait_for(lambda: bench.heard["image/compressed"] and bench.heard["image/compressed"][-1], "a JPEG")
    decoded = cv2.imdecode(np.frombuffer(bytes(sent.data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - pixels(raw)).mean() < 4
    known = len(bench.heard["status"])
    rgb.publish(CompressedImage(header=Header(stamp=ns_to_stamp(stamp + PERIOD)), format="jpeg", data=b"no picture"))
    parts = bench.diagnostics(
        lambda parts: any(".refused." in name for name in parts["input streams"].values), "the refusal is counted"
    )
    assert parts
    assert len(bench.heard["status"]) == known


def test_the_delay_of_the_stamps_is_found_from_motion_and_applied(active):
    late = 0.06
    bench = active(pairing__max_gap=0.02)
    rng = np.random.default_rng(5)
    world = cv2.GaussianBlur(rng.random((700, 900)).astype(np.float32), (0, 0), 4)
    world = cv2.normalize(world, None, 0, 1, cv2.NORM_MINMAX)

    def view(seconds, height, width):
        x = 150 + 60 * np.sin(2.1 * seconds) + 25 * np.sin(5.3 * seconds + 1)
        y = 120 + 40 * np.sin(1.7 * seconds + 2) + 15 * np.sin(4.1 * seconds)
        seen = cv2.getRectSubPix(world, (480, 360), (float(x + 240), float(y + 180)))
        return cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)

    answers = []

    def ask():
        request = EstimateDelay.Request(seconds=8.0, apply=True)
        answers.append(bench.call(EstimateDelay, "estimate_delay", request, timeout=40.0))

    asking = threading.Thread(target=ask)
    asking.start()
    begin = time.monotonic()
    number = 0
    while asking.is_alive() and number < 600:
        seconds = number / 30
        stamp = START + round(seconds * 1e9)
        grey = (255 * view(seconds, 120, 160)).astype(np.uint8)
        bench.send(rgb=image(np.repeat(grey[..., None], 3, 2), "rgb8", stamp, "rgb_optical"))
        if number % 3 == 0:
            counts = (30000 + 2000 * view(seconds, 120, 160)).astype(np.uint16)
            bench.send(thermal=image(counts, "mono16", stamp + round(late * 1e9), "thermal_optical"))
        number += 1
        time.sleep(max(0.0, begin + number / 30 - time.monotonic()))
    asking.join(30)
    (answer,) = answers
    assert answer.success, answer.message
    assert answer.thermal_delay == pytest.approx(late, abs=0.01)
    assert bench.get_parameter("pairing.thermal_delay").double_value == pytest.approx(answer.thermal_delay)
    first = START + 100 * 10**9
    bench.send(noisy_thermal(first + round(late * 1e9)), rgb_image(first))
    status = bench.wait_for(lambda: bench.status_of(first), "the pair of one moment")
    assert abs(status.gap_ms) < 10


def test_the_delay_is_not_guessed(active):
    bench = active()
    answer = bench.call(EstimateDelay, "estimate_delay", EstimateDelay.Request(seconds=1.0))
    assert not answer.success
    assert "5" in answer.message
    assert bench.change_state("deactivate")
    answer = bench.call(EstimateDelay, "estimate_delay", EstimateDelay.Request())
    assert not answer.success
    assert "active" in answer.message


def test_thermal_delay_changes_while_the_node_runs(active):
    bench = active(pairing__max_gap=0.005)
    bench.send(thermal_image(START + 50_000_000), rgb_image(START))
    assert bench.set_parameter("pairing.thermal_delay", 0.05).successful
    bench.send(thermal_image(START + 10**9 + 50_000_000), rgb_image(START + 10**9))
    status = bench.wait_for(lambda: bench.status_of(START + 10**9), "a pair")
    assert status.gap_ms == pytest.approx(0.0, abs=0.01)
