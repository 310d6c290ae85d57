import sys
import time
from array import array
from statistics import median

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from irvf.frames import Box, Detection
from irvf.imaging.encodings import MAX_SIDE, RGB_ENCODINGS, THERMAL_ENCODINGS, check_image
from irvf.imaging.errors import FrameError
from irvf_fusion_node.conversions import (
    detections_to_message,
    frame_to_image,
    image_conversion,
    image_to_frame,
    ns_to_stamp,
    stamp_to_ns,
)

HEADER = Header(stamp=Time(sec=12, nanosec=345), frame_id="camera_optical")

# sensor_msgs/image_encodings.hpp: bytes of a value, values of a pixel
LAYOUTS = {
    "mono8": ("u1", 1),
    "8UC1": ("u1", 1),
    "mono16": ("u2", 1),
    "16UC1": ("u2", 1),
    "32FC1": ("f4", 1),
    "rgb8": ("u1", 3),
    "bgr8": ("u1", 3),
    "8UC3": ("u1", 3),
    "rgba8": ("u1", 4),
    "bgra8": ("u1", 4),
    "yuv422": ("u1", 2),
    "yuv422_yuy2": ("u1", 2),
    "bayer_rggb8": ("u1", 1),
    "bayer_bggr8": ("u1", 1),
    "bayer_gbrg8": ("u1", 1),
    "bayer_grbg8": ("u1", 1),
    "bayer_rggb16": ("u2", 1),
    "bayer_bggr16": ("u2", 1),
    "bayer_gbrg16": ("u2", 1),
    "bayer_grbg16": ("u2", 1),
}


def random_pixels(encoding, height=6, width=10):
    dtype, channels = LAYOUTS[encoding]
    shape = (height, width) if channels == 1 else (height, width, channels)
    values = np.random.default_rng(0).integers(0, 2 ** (8 * min(2, np.dtype(dtype).itemsize)), shape)
    return values.astype(dtype)


def message_of(pixels, encoding, *, padding=0, big_endian=False):
    """The message as a driver in C would fill it, row after row."""
    ordered = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    data = b"".join(row.tobytes() + b"\xee" * padding for row in ordered)
    return Image(
        header=HEADER,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=big_endian,
        step=len(data) // pixels.shape[0],
        data=array("B", data),
    )


def refused(message, allowed=(*THERMAL_ENCODINGS, *RGB_ENCODINGS)):
    with pytest.raises(FrameError) as caught:
        check_image(message, allowed)
    return caught.value


# Messages to frames


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("big_endian", [False, True])
def test_frame_holds_what_the_driver_wrote(encoding, padding, big_endian):
    pixels = random_pixels(encoding)
    message = message_of(pixels, encoding, padding=padding, big_endian=big_endian)
    frame = image_to_frame(message)
    np.testing.assert_array_equal(frame.image, pixels)
    assert frame.image.dtype == pixels.dtype
    assert frame.image.dtype.isnative
    assert (frame.encoding, frame.stamp, frame.frame_id) == (encoding, 12_000_000_345, "camera_optical")
    assert (frame.width, frame.height) == (10, 6)


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("padding", [0, 8])
def test_frame_is_a_read_only_view_of_the_message(encoding, padding):
    message = message_of(random_pixels(encoding), encoding, padding=padding)
    frame = image_to_frame(message)
    assert np.shares_memory(frame.image, np.frombuffer(message.data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0] = 0


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("padding", range(8))
def test_padded_rows_are_fit_for_opencv(encoding, padding):
    pixels = random_pixels(encoding)
    frame = image_to_frame(message_of(pixels, encoding, padding=padding))
    np.testing.assert_array_equal(cv2.flip(frame.image, 0), pixels[::-1])


def test_an_image_that_came_over_the_wire_is_the_same():
    pixels = random_pixels("16UC1")
    arrived = deserialize_message(serialize_message(message_of(pixels, "16UC1", padding=4)), Image)
    np.testing.assert_array_equal(image_to_frame(arrived).image, pixels)


def test_bytes_beyond_the_last_row_are_ignored():
    pixels = random_pixels("mono8")
    message = message_of(pixels, "mono8")
    message.data.extend(b"\xee" * 3)
    np.testing.assert_array_equal(image_to_frame(message).image, pixels)


# Messages that are no images


@pytest.mark.parametrize("encoding", ["", "jpeg", "64FC1", "MONO8", "x" * 100_000])
def test_unknown_encoding_is_refused_with_what_is_allowed(encoding):
    message = message_of(random_pixels("mono8"), "mono8")
    message.encoding = encoding
    error = refused(message, THERMAL_ENCODINGS)
    assert error.reason == "encoding"
    assert all(name in str(error) for name in THERMAL_ENCODINGS)
    assert len(str(error)) < 300
    with pytest.raises(FrameError):
        image_to_frame(message)


def test_each_input_has_its_own_encodings():
    check_image(message_of(random_pixels("16UC1"), "16UC1"), THERMAL_ENCODINGS)
    assert refused(message_of(random_pixels("16UC1"), "16UC1"), RGB_ENCODINGS).reason == "encoding"
    check_image(message_of(random_pixels("bayer_rggb8"), "bayer_rggb8"), RGB_ENCODINGS)
    assert refused(message_of(random_pixels("bayer_rggb8"), "bayer_rggb8"), THERMAL_ENCODINGS).reason == "encoding"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("width", 0, "size"),
        ("height", 0, "size"),
        ("width", MAX_SIDE + 1, "size"),
        ("height", MAX_SIDE + 1, "size"),
        ("height", 2**32 - 1, "size"),
        ("step", 0, "step"),
        ("step", 29, "step"),
        ("height", 7, "truncated"),
        ("step", 31, "truncated"),
        ("step", 2**32 - 1, "truncated"),
        ("data", array("B"), "truncated"),
        ("data", array("B", bytes(30 * 6 - 1)), "truncated"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(field, value, reason):
    message = message_of(random_pixels("rgb8"), "rgb8")  # 10 x 6, step 30
    check_image(message)
    setattr(message, field, value)
    error = refused(message)
    assert error.reason == reason
    assert str(len(value) if field == "data" else value) in str(error)
    with pytest.raises(FrameError):
        image_to_frame(message)


def test_odd_width_is_refused_where_pixels_share_their_colour():
    assert refused(message_of(random_pixels("yuv422", width=9), "yuv422")).reason == "size"


def test_checking_takes_the_same_time_whatever_the_size():
    message = message_of(np.zeros((2160, 3840, 3), np.uint8), "rgb8")
    begin = time.perf_counter()
    for _ in range(100):
        check_image(message, RGB_ENCODINGS)
    assert (time.perf_counter() - begin) / 100 < 1e-3


# Arrays to messages


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_image_message_describes_its_bytes(encoding):
    pixels = random_pixels(encoding)
    message = frame_to_image(pixels, encoding, HEADER)
    assert (message.height, message.width, message.encoding, message.header) == (6, 10, encoding, HEADER)
    assert message.step == pixels.nbytes // 6
    assert bool(message.is_bigendian) == (sys.byteorder == "big")
    assert message.data.tobytes() == pixels.tobytes()
    np.testing.assert_array_equal(image_to_frame(deserialize_message(serialize_message(message), Image)).image, pixels)


def test_slices_are_written_without_their_gaps():
    pixels = random_pixels("rgb8", height=12, width=20)[::2, ::-2]
    np.testing.assert_array_equal(image_to_frame(frame_to_image(pixels, "rgb8", HEADER)).image, pixels)


@pytest.mark.parametrize(
    ("array_of", "encoding"),
    [
        (np.zeros((4, 4, 3), np.float32), "rgb8"),
        (np.zeros((4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 1), np.uint8), "mono8"),
        (np.zeros(4, np.uint8), "mono8"),
        (np.zeros((0, 4), np.uint8), "mono8"),
        (np.zeros((4, 4), np.dtype(">u2")), "mono16"),
        (np.zeros((4, 4), np.uint8), "unheard"),
    ],
)
def test_arrays_that_do_not_fit_the_encoding_are_refused(array_of, encoding):
    with pytest.raises(ValueError, match=encoding):
        frame_to_image(array_of, encoding, HEADER)


def test_a_vga_image_is_written_in_a_few_milliseconds():
    pixels = np.zeros((480, 640, 3), np.uint8)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        frame_to_image(pixels, "rgb8", HEADER)
        times.append(time.perf_counter() - begin)
    assert median(times) < 10e-3  # well under 1 ms alone on a machine; a check of each element takes 100


# cv_bridge, the reference


@pytest.fixture
def reference():
    try:
        return image_conversion("cv_bridge")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("padded_pixels", [0, 2])
@pytest.mark.parametrize("big_endian", [False, True])
def test_frames_equal_those_of_cv_bridge(reference, encoding, padded_pixels, big_endian):
    pixels = random_pixels(encoding)
    padding = padded_pixels * pixels[0, 0].nbytes  # cv_bridge reads other paddings askew
    message = message_of(pixels, encoding, padding=padding, big_endian=big_endian)
    ours, theirs = image_to_frame(message), reference.to_frame(message)
    np.testing.assert_array_equal(ours.image, theirs.image)
    assert ours.image.dtype == theirs.image.dtype
    assert (ours.encoding, ours.stamp, ours.frame_id) == (theirs.encoding, theirs.stamp, theirs.frame_id)


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_messages_equal_those_of_cv_bridge(reference, encoding):
    pixels = random_pixels(encoding)
    assert frame_to_image(pixels, encoding, HEADER) == reference.to_message(pixels, encoding, HEADER)


def test_cv_bridge_refuses_what_it_would_read_askew(reference):
    with pytest.raises(FrameError) as caught:
        reference.to_frame(message_of(random_pixels("rgb8"), "rgb8", padding=5))
    assert caught.value.reason == "step"


def test_an_encoding_that_cv_bridge_does_not_know_is_refused(reference):
    with pytest.raises(FrameError, match="uyvy") as caught:  # a name that came after the cv_bridge of Jazzy
        reference.to_frame(message_of(random_pixels("yuv422"), "uyvy"))
    assert caught.value.reason == "conversion"


def test_cv_bridge_that_cannot_be_imported_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImportError, match="choose image_conversion: numpy"):
        image_conversion("cv_bridge")


def test_conversions_are_chosen_by_name():
    pixels = random_pixels("bgr8")
    conversion = image_conversion("numpy")
    np.testing.assert_array_equal(conversion.to_frame(conversion.to_message(pixels, "bgr8", HEADER)).image, pixels)
    with pytest.raises(ValueError, match="numpy, cv_bridge"):
        image_conversion("opencv")


# Detections


def test_detections_carry_box_class_score_and_header():
    detections = [
        Detection(Box(10.5, 20.0, 30.5, 80.0), "person", 0.75),
        Detection(Box(np.float32(0), np.float32(0), np.float32(640), np.float32(480)), "car", np.float32(0.5)),
    ]
    message = deserialize_message(serialize_message(detections_to_message(detections, HEADER)), Detection2DArray)
    assert message.header == HEADER
    assert [entry.header for entry in message.detections] == [HEADER, HEADER]
    assert [entry.id for entry in message.detections] == ["", ""]
    boxes = [entry.bbox for entry in message.detections]
    assert [(box.center.position.x, box.center.position.y) for box in boxes] == [(20.5, 50.0), (320.0, 240.0)]
    assert [(box.size_x, box.size_y) for box in boxes] == [(20.0, 60.0), (640.0, 480.0)]
    assert [box.center.theta for box in boxes] == [0.0, 0.0]
    results = [[(r.hypothesis.class_id, r.hypothesis.score) for r in entry.results] for entry in message.detections]
    assert results == [[("person", 0.75)], [("car", 0.5)]]


def test_nothing_seen_is_an_empty_array_with_a_header():
    message = detections_to_message([], HEADER)
    assert message.header == HEADER
    assert message.detections == []


# Stamps


@pytest.mark.parametrize(
    ("nanoseconds", "sec", "nanosec"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (1_700_000_000_123_456_789, 1_700_000_000, 123_456_789),
        (-1, -1, 999_999_999),
        (2**31 * 10**9 - 1, 2**31 - 1, 999_999_999),
    ],
)
def test_stamps_are_exact_both_ways(nanoseconds, sec, nanosec):
    assert ns_to_stamp(nanoseconds) == Time(sec=sec, nanosec=nanosec)
    assert stamp_to_ns(Time(sec=sec, nanosec=nanosec)) == nanoseconds


def test_stamps_beyond_the_message_are_refused():
    with pytest.raises(ValueError, match="32 bits"):
        ns_to_stamp(2**31 * 10**9)
