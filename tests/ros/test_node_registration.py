"""Registration of the running node: from camera_info and TF, by parameters alone, and from the stream itself."""

import math

import cv2
import numpy as np
import pytest
from bench import LATCHED, PERIOD, START, image
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from irvf_msgs.msg import FusionStatus

# A thermal camera 0.2 m to the right of the RGB camera, looking the same way: a point 4 m away that RGB sees at x lies
# at x - f * 0.2 / 4 in thermal.
FOCAL, OFFSET, DISTANCE = 80.0, 0.2, 4.0
SHIFT = FOCAL * OFFSET / DISTANCE
WIDTH, HEIGHT = 128, 96


def camera_info(distortion=()):
    return CameraInfo(
        height=HEIGHT,
        width=WIDTH,
        distortion_model="plumb_bob",
        d=list(distortion),
        k=[FOCAL, 0.0, (WIDTH - 1) / 2, 0.0, FOCAL, (HEIGHT - 1) / 2, 0.0, 0.0, 1.0],
        p=[FOCAL, 0.0, (WIDTH - 1) / 2, 0.0, 0.0, FOCAL, (HEIGHT - 1) / 2, 0.0, 0.0, 0.0, 1.0, 0.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    )


def transform(parent, child, x=0.0, y=0.0, z=0.0, rotation=(0.0, 0.0, 0.0, 1.0)):
    found = TransformStamped()
    found.header.frame_id, found.child_frame_id = parent, child
    moved, turned = found.transform.translation, found.transform.rotation
    moved.x, moved.y, moved.z = x, y, z
    turned.x, turned.y, turned.z, turned.w = rotation
    return found


def warm_block(stamp):
    """A thermal image with a warm block around (60, 48)."""
    pixels = np.full((HEIGHT, WIDTH), 29000, np.uint16)
    pixels[40:57, 52:69] = 31000
    return image(pixels, "mono16", stamp, "thermal_optical")


def dark(stamp):
    return image(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "rgb8", stamp, "rgb_optical")


def centre_of_warmth(fused):
    pixels = np.array(fused.data, np.uint8).reshape(HEIGHT, WIDTH, 3)[..., 0]
    rows, columns = np.nonzero(pixels > 127)
    return columns.mean(), rows.mean()


def fuse_when_it_can(bench, first=0, most=40):
    """Send pairs until one is fused."""
    for number in range(first, first + most):
        stamp = START + number * PERIOD
        bench.send(warm_block(stamp), dark(stamp))
        status = bench.wait_for(lambda stamp=stamp: bench.status_of(stamp), "a status")
        if status.outcome == FusionStatus.FUSED:
            fused = status.header.stamp
            return bench.wait_for(
                lambda fused=fused: next((m for m in bench.heard["image"] if m.header.stamp == fused), None), "image"
            )
    raise AssertionError(status.message)


def test_camera_info_and_tf_put_warm_things_where_they_are(active):
    bench = active(registration__method="camera_info", registration__distance=DISTANCE)
    static = bench.node.create_publisher(TFMessage, "/tf_static", LATCHED)
    bench.send(warm_block(START), dark(START))
    status = bench.wait_for(lambda: bench.status_of(START), "a status")
    assert status.outcome == FusionStatus.REFUSED
    assert "camera" in status.message
    bench.diagnostics(
        lambda parts: "camera_info" in parts["registration"].message and parts["registration"].level == b"\x01",
        "what is missing is said",
    )
    bench.camera_info.publish(camera_info())
    bench.thermal_camera_info.publish(camera_info())
    # Both hang on a mount whose axes are those of a body (REP 103): x forward, y to the left, z up.
    optical = (-0.5, 0.5, -0.5, 0.5)
    joined = [
        transform("mount", "rgb_optical", rotation=optical),
        transform("mount", "thermal_optical", y=-OFFSET, rotation=optical),
    ]
    static.publish(TFMessage(transforms=joined))
    fused = fuse_when_it_can(bench, first=1)
    x, y = centre_of_warmth(fused)
    assert x == pytest.approx(60 + SHIFT, abs=0.6)
    assert y == pytest.approx(48, abs=0.6)
    moved = bench.set_parameter("registration.distance", 2.0)
    assert moved.successful
    x, _ = centre_of_warmth(fuse_when_it_can(bench, first=50))
    assert x == pytest.approx(60 + 2 * SHIFT, abs=0.6)


def test_parameters_alone_calibrate_the_rig(active):
    lens = camera_info()
    camera = {"matrix": list(lens.k), "size": [WIDTH, HEIGHT]}
    bench = active(
        registration__method="camera_info",
        registration__distance=DISTANCE,
        registration__translation=[OFFSET, 0.0, 0.0],
        registration__rotation=[0.0, 0.0, 0.0, 1.0],
        **{f"registration__{name}__{key}": value for name in ("rgb", "thermal") for key, value in camera.items()},
    )
    x, _ = centre_of_warmth(fuse_when_it_can(bench))
    assert x == pytest.approx(60 + SHIFT, abs=0.6)
    assert not bench.node.count_subscribers("/tf")


def test_a_translation_without_a_rotation_is_refused(bench):
    made = bench(registration__translation=[0.1, 0.0, 0.0])
    assert not made.change_state("configure")
    made.diagnostics(lambda parts: "registration.rotation" in parts["fusion"].message, "the reason")


def town(rng):
    """A picture with much structure, as float in 0..1: blocks of all sizes."""
    picture = np.full((480, 640), 0.3, np.float32)
    for _ in range(160):
        x, y = rng.integers(0, (640, 480))
        w, h = rng.integers(10, 90, 2)
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), float(rng.random()), -1)
    return cv2.GaussianBlur(picture, (0, 0), 1.0)


def test_auto_finds_the_misalignment_and_status_carries_it(active):
    bench = active(registration__method="auto", registration__max_misalignment=3.0)
    rng = np.random.default_rng(3)
    scene = town(rng)
    shift = np.float32([[1, 0, 8], [0, 1, -5]])
    seen = cv2.warpAffine(scene, shift, (640, 480), borderMode=cv2.BORDER_REFLECT)
    found = []
    for number in range(60):
        stamp = START + number * PERIOD
        noise = rng.normal(0, 0.01, (480, 640))
        thermal = (30000 - 2000 * seen + 2000 * noise).astype(np.uint16)  # what is bright is cold here
        grey = np.clip(255 * (scene + noise), 0, 255).astype(np.uint8)
        bench.send(
            image(thermal, "mono16", stamp, "thermal_optical"),
            image(np.repeat(grey[..., None], 3, 2), "rgb8", stamp, "rgb_optical"),
        )
        found.append(bench.wait_for(lambda stamp=stamp: bench.status_of(stamp), "a status").misalignment_px)
    assert math.isnan(found[0])
    assert found[-1] < 2.0
    parts = bench.diagnostics(lambda parts: parts["registration"].values["state"] == "aligned", "aligned")
    homography = np.array(parts["registration"].values["homography"].split(), float).reshape(3, 3)
    corner = homography @ (320, 240, 1)
    np.testing.assert_allclose(corner[:2] / corner[2], (312, 245), atol=1.5)


def test_a_fixed_registration_that_is_off_is_warned_of(active):
    bench = active(registration__method="none", registration__max_misalignment=3.0)
    scene = town(np.random.default_rng(3))
    seen = cv2.warpAffine(scene, np.float32([[1, 0, 9], [0, 1, 0]]), (640, 480), borderMode=cv2.BORDER_REFLECT)
    thermal, grey = (30000 + 2000 * seen).astype(np.uint16), np.repeat((255 * scene).astype(np.uint8)[..., None], 3, 2)

    def warned():
        warned.number += 1
        stamp = START + warned.number * PERIOD
        bench.send(image(thermal, "mono16", stamp, "thermal_optical"), image(grey, "rgb8", stamp, "rgb_optical"))
        last = bench.heard["diagnostics"][-1].status if bench.heard["diagnostics"] else []
        return next((s for s in last if s.name.endswith("registration") and s.level == b"\x01"), None)

    warned.number = 0
    status = bench.wait_for(warned, "a warning", timeout=30.0)
    assert "px apart" in status.message
    assert bench.heard["status"][-1].misalignment_px == pytest.approx(9, abs=1.5)


def test_tf_is_asked_only_while_it_is_needed(active):
    bench = active()
    assert not bench.node.count_subscribers("/tf_static")
    bench.set_parameter("registration.method", "camera_info")
    bench.wait_for(lambda: bench.node.count_subscribers("/tf_static"), "it listens")
    bench.set_parameter("registration.method", "none")
    bench.wait_for(lambda: not bench.node.count_subscribers("/tf_static"), "it listens no more")
