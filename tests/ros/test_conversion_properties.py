"""Every conversion of messages, for any fields whatever: read as the bytes say, written as it is read, or refused.

What is right comes from the definitions of the messages: bytes taken one by one, CDR written by another library, whole
numbers and fractions. Nothing but the refusal that is documented may be raised.
"""

import math
from array import array
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from irvf.frames import Box, Detection
from irvf.imaging.compressed import check_compressed, decode_compressed, encode_jpeg, encode_png
from irvf.imaging.encodings import LAYOUTS, MAX_SIDE, check_image, view_image
from irvf.imaging.errors import FrameError
from irvf_fusion_node.arrivals import Arrived
from irvf_fusion_node.camera_info import camera_model_numbers, fused_camera_info, image_size
from irvf_fusion_node.camera_messages import read_stamp, with_stamp
from irvf_fusion_node.conversions import (
    detections_to_message,
    frame_to_image,
    image_conversion,
    image_to_frame,
    labels_to_message,
    ns_to_stamp,
    stamp_to_ns,
)
from irvf_fusion_node.pairing import Stream

# Deadlines of single examples would measure what else the machine does.
FEW, MANY = (
    settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow]) for number in (50, 200)
)

STORE = get_typestore(Stores.ROS2_JAZZY)
BITS_AND_CHANNELS = {
    **dict.fromkeys(("mono8", "8UC1"), (8, 1)),
    **dict.fromkeys(("mono16", "16UC1"), (16, 1)),
    "32FC1": (32, 1),
    **dict.fromkeys(("rgb8", "bgr8", "8UC3"), (8, 3)),
    **dict.fromkeys(("rgba8", "bgra8"), (8, 4)),
    **dict.fromkeys(("yuv422", "yuv422_yuy2", "uyvy", "yuyv"), (8, 2)),
    **{f"bayer_{order}{bits}": (bits, 1) for order in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)},
}
"""sensor_msgs/image_encodings.hpp: bits of a value, values of a pixel."""
NATIVE = {8: np.uint8, 16: np.uint16, 32: np.float32}
INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
STAMPS = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)
# Strings of CDR end with their first zero byte, and are UTF-8, which has no halves of surrogate pairs.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def test_all_encodings_that_are_read_are_tried():
    assert set(BITS_AND_CHANNELS) == set(LAYOUTS)


@st.composite
def images(draw):
    """Fields of a message as a driver fills them: any size, padding and byte order, any bytes."""
    encoding = draw(st.sampled_from(sorted(BITS_AND_CHANNELS)))
    bits, channels = BITS_AND_CHANNELS[encoding]
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    width += width % 2 if channels == 2 else 0
    step = width * channels * bits // 8 + draw(st.integers(0, 9))
    beyond = draw(st.integers(0, 5))
    data = draw(st.binary(min_size=height * step + beyond, max_size=height * step + beyond))
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=draw(st.integers(0, 255)), step=step, data=data
    )


def values_of(message):
    """The values of a message as whole numbers, row after row, taken byte by byte."""
    bits, channels = BITS_AND_CHANNELS[message.encoding]
    size, order = bits // 8, "big" if message.is_bigendian else "little"
    values = []
    for row in range(message.height):
        for number in range(message.width * channels):
            at = row * message.step + number * size
            values.append(int.from_bytes(message.data[at : at + size], order))
    return values


def as_message(fields, header=None):
    return Image(
        header=header or Header(),
        height=fields.height,
        width=fields.width,
        encoding=fields.encoding,
        is_bigendian=fields.is_bigendian,
        step=fields.step,
        data=array("B", fields.data),
    )


def bits_of(image):
    """The values of an array as whole numbers, so that NaN is compared, too."""
    return np.ascontiguousarray(image).view({1: "u1", 2: "u2", 4: "u4"}[image.dtype.itemsize]).ravel().tolist()


def result_of(call, *arguments):
    """What a call returns, or the refusal that it raises."""
    try:
        return call(*arguments)
    except (FrameError, ValueError) as error:
        return error


# Messages to arrays


@given(images())
@MANY
def test_pixels_are_what_the_bytes_say(fields):
    bits, channels = BITS_AND_CHANNELS[fields.encoding]
    image = view_image(fields)
    assert bits_of(image) == values_of(fields)
    assert image.dtype == NATIVE[bits]
    assert image.dtype.isnative
    assert image.shape == (fields.height, fields.width, *([channels] if channels > 1 else []))
    assert not image.flags.writeable


@given(images(), STAMPS, TEXTS)
@FEW
def test_a_message_over_the_wire_becomes_the_same_frame(fields, stamp, frame_id):
    message = as_message(fields, Header(stamp=ns_to_stamp(stamp), frame_id=frame_id))
    frame = image_to_frame(deserialize_message(serialize_message(message), Image))
    assert bits_of(frame.image) == values_of(fields)
    assert (frame.encoding, frame.stamp, frame.frame_id) == (fields.encoding, stamp, frame_id)
    assert (frame.height, frame.width) == (fields.height, fields.width)


@given(images())
@FEW
@example(SimpleNamespace(height=3, width=4, encoding="mono16", is_bigendian=0, step=9, data=bytes(range(27))))
def test_opencv_sees_the_same_pixels(fields):
    image = view_image(fields)
    if image.dtype == np.float32:  # which is scaled by 1 to the bit, away from the ends of its range
        magnitudes = np.abs(image[image != 0])
        assume(np.isfinite(image).all() and (magnitudes > 1e-30).all() and (magnitudes < 1e30).all())
    # Of OpenCV's functions this one believes in strides of whole values, and flip, for one, does not.
    np.testing.assert_array_equal(cv2.addWeighted(image, 1.0, image, 0.0, 0.0), image)


@given(images(), st.booleans())
@FEW
def test_a_recorded_message_is_read_like_one_of_ros(fields, little_endian):
    header = STORE.types["std_msgs/msg/Header"](STORE.types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), "camera")
    recorded = STORE.types["sensor_msgs/msg/Image"](
        header=header, **{**vars(fields), "data": np.frombuffer(fields.data, np.uint8)}
    )
    kind = "sensor_msgs/msg/Image"
    data = STORE.serialize_cdr(recorded, kind, little_endian=little_endian)
    assert bits_of(view_image(STORE.deserialize_cdr(data, kind))) == values_of(fields)


# Fields that contradict each other

NUMBERS = st.one_of(
    st.integers(-2, 40),
    st.sampled_from([MAX_SIDE, MAX_SIDE + 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64, -(2**63)]),
    st.integers(),
)
ENCODING_NAMES = st.one_of(st.sampled_from(sorted(BITS_AND_CHANNELS)), st.text(max_size=50))


@given(
    height=NUMBERS,
    width=NUMBERS,
    step=NUMBERS,
    is_bigendian=st.integers(),
    encoding=ENCODING_NAMES,
    data=st.binary(max_size=200),
)
@MANY
@example(height=2, width=3, step=8, is_bigendian=0, encoding="yuv422", data=bytes(16))
@example(height=1, width=MAX_SIDE, step=2**62, is_bigendian=0, encoding="rgb8", data=b"")
def test_any_fields_are_read_or_refused_with_their_reason(**fields):
    check_fields(SimpleNamespace(**fields))


@given(images(), st.data())
@MANY
def test_one_wrong_field_is_refused_with_its_reason_or_read_rightly(fields, data):
    name = data.draw(st.sampled_from(["height", "width", "step", "encoding", "data"]))
    wrong = {"encoding": ENCODING_NAMES, "data": st.binary(max_size=60)}.get(name, NUMBERS)
    setattr(fields, name, data.draw(wrong))
    check_fields(fields)


def check_fields(fields):
    checked, viewed = result_of(check_image, fields), result_of(view_image, fields)
    reason = reason_of(fields)
    if reason:
        assert (type(checked), type(viewed)) == (FrameError, FrameError)
        assert (checked.reason, viewed.reason) == (reason, reason)
        assert len(str(checked)) < 600
    else:
        assert checked is None
        assert bits_of(viewed) == values_of(fields)


def reason_of(fields):
    """Why no image can be read from these fields; empty where one can."""
    if fields.encoding not in BITS_AND_CHANNELS:
        return "encoding"
    bits, channels = BITS_AND_CHANNELS[fields.encoding]
    if not (1 <= fields.width <= MAX_SIDE and 1 <= fields.height <= MAX_SIDE) or (channels == 2 and fields.width % 2):
        return "size"
    if fields.step < fields.width * channels * bits // 8:
        return "step"
    return "truncated" if len(fields.data) < fields.step * fields.height else ""


# Arrays to messages


@st.composite
def arrays(draw):
    """An array of an encoding as code has it: in rows, in columns, flipped, with gaps, of any bytes."""
    encoding = draw(st.sampled_from(sorted(BITS_AND_CHANNELS)))
    bits, channels = BITS_AND_CHANNELS[encoding]
    height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    width += width % 2 if channels == 2 else 0
    shape = (2 * height, 2 * width, channels) if channels > 1 else (2 * height, 2 * width)
    size = math.prod(shape) * bits // 8
    whole = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), NATIVE[bits]).reshape(shape)
    rows, columns = (
        draw(st.sampled_from([slice(None, None, 2), slice(None, None, -2), slice(0, n)])) for n in shape[:2]
    )
    image = whole[rows, columns]
    layout = draw(st.sampled_from(["as it is", "C", "F"]))
    return encoding, image if layout == "as it is" else np.asarray(image, order=layout)


@given(arrays(), STAMPS, TEXTS)
@MANY
def test_an_array_is_written_as_it_is(content, stamp, frame_id):
    encoding, image = content
    header = Header(stamp=ns_to_stamp(stamp), frame_id=frame_id)
    message = deserialize_message(serialize_message(frame_to_image(image, encoding, header)), Image)
    bits, channels = BITS_AND_CHANNELS[encoding]
    assert values_of(message) == bits_of(image)
    assert (message.height, message.width) == image.shape[:2]
    assert message.step == image.shape[1] * channels * bits // 8
    assert len(message.data) == message.step * message.height
    assert message.header == header
    np.testing.assert_array_equal(image_to_frame(message).image, image)


@given(
    st.sampled_from(["u1", "u1", "i1", "u2", ">u2", "i4", "f4", ">f4", "f8", "?", "O"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.sampled_from([(), (), (1,), (2,), (3,), (4,), (3, 3)]),
    st.one_of(st.sampled_from(sorted(BITS_AND_CHANNELS)), ENCODING_NAMES),
)
@MANY
@example("u1", [0, 3], (), "mono8")
@example("u2", [2, 0], (), "mono16")
@example("u1", [0, 0], (3,), "rgb8")
def test_an_array_that_does_not_fit_is_refused(dtype, sides, trailing, encoding):
    image = np.zeros((*sides, *trailing), dtype)
    bits, channels = BITS_AND_CHANNELS.get(encoding, (0, 0))
    fits = encoding in BITS_AND_CHANNELS and image.dtype == NATIVE[bits] and image.ndim >= 2
    if fits and image.shape[2:] == ((channels,) if channels > 1 else ()) and image.size:
        assert frame_to_image(image, encoding, Header()).encoding == encoding
    else:
        with pytest.raises(ValueError, match="is not"):
            frame_to_image(image, encoding, Header())


@given(arrays())
@FEW
def test_the_chosen_conversion_is_the_same(content):
    encoding, image = content
    conversion = image_conversion("numpy")
    assert bits_of(conversion.to_frame(conversion.to_message(image, encoding, Header())).image) == bits_of(image)


# Compressed images


@st.composite
def pictures(draw):
    encoding = draw(st.sampled_from(["rgb8", "bgr8", "mono8", "mono16", "16UC1"]))
    bits, channels = BITS_AND_CHANNELS[encoding]
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)), *([channels] if channels > 1 else []))
    size = math.prod(shape) * bits // 8
    return encoding, np.frombuffer(draw(st.binary(min_size=size, max_size=size)), NATIVE[bits]).reshape(shape)


@given(pictures(), st.integers(0, 9), st.sampled_from(Stream), STAMPS)
@FEW
def test_png_brings_back_every_pixel(picture, level, stream, stamp):
    encoding, image = picture
    form, data = encode_png(image, encoding, level)
    message = CompressedImage(header=Header(stamp=ns_to_stamp(stamp)), format=form, data=array("B", data))
    message = deserialize_message(serialize_message(message), CompressedImage)
    decoded, read = decode_compressed(message)
    swapped = {read, encoding} == {"rgb8", "bgr8"}
    assert bits_of(decoded[..., ::-1] if swapped else decoded) == bits_of(image)
    assert swapped or read == encoding
    header = check_compressed(message)
    assert (header.height, header.width, header.encoding, header.codec) == (*image.shape[:2], read, "png")
    if stream is Stream.RGB and encoding in ("mono16", "16UC1"):
        return  # no image of a colour camera
    arrived = Arrived(stream, message, 0)
    arrived.check()
    frame = arrived.to_frame(image_conversion("numpy"))
    assert (bits_of(frame.image), frame.encoding, frame.stamp) == (bits_of(decoded), read, stamp)


@given(st.sampled_from(["rgb8", "bgr8", "mono8"]), st.lists(st.integers(0, 255), min_size=3, max_size=3))
@FEW
def test_jpeg_keeps_the_colours_of_flat_images(encoding, color):
    channels = BITS_AND_CHANNELS[encoding][1]
    image = np.empty((16, 24, 3), np.uint8)
    image[:] = color
    image = image if channels == 3 else np.ascontiguousarray(image[..., 0])
    form, data = encode_jpeg(image, encoding, 95)
    decoded, read = decode_compressed(CompressedImage(format=form, data=array("B", data)))
    decoded = decoded[..., ::-1] if {read, encoding} == {"rgb8", "bgr8"} else decoded
    # 8 bits of YCbCr hold a colour to 2 levels, the coefficients of a flat block to as many.
    assert np.abs(decoded.astype(int) - image).max() <= 6


@given(
    st.one_of(st.text(max_size=30), st.sampled_from(["jpeg", "png", "tiff", "rgb8; jpeg compressed bgr8"])),
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=80).map(lambda rest: b"\xff\xd8\xff" + rest),
        st.binary(max_size=80).map(lambda rest: b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + rest),
        st.binary(max_size=80).map(lambda rest: b"II*\0\x08\0\0\0" + rest),
        st.binary(max_size=80).map(lambda rest: b"MM\0*\0\0\0\x08" + rest),
    ),
)
@MANY
def test_any_bytes_are_an_image_or_refused_with_a_reason(form, data):
    result = result_of(decode_compressed, SimpleNamespace(format=form, data=data))
    if isinstance(result, FrameError):
        assert result.reason in ("format", "size", "truncated", "encoding", "decode")
        assert len(str(result)) < 700
    else:
        image, encoding = result
        assert LAYOUTS[encoding].fits(image)


@given(pictures(), st.data())
@FEW
def test_a_damaged_file_is_an_image_of_its_size_or_refused(picture, data):
    encoding, image = picture
    form, content = encode_png(image, encoding)
    broken = bytearray(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for at in data.draw(st.lists(st.integers(0, max(0, len(broken) - 1)), max_size=3)):
        if broken:
            broken[at] ^= data.draw(st.integers(1, 255))
    message = CompressedImage(format=form, data=array("B", bytes(broken)))
    header, decoded = result_of(check_compressed, message), result_of(decode_compressed, message)
    if isinstance(header, FrameError):
        assert isinstance(decoded, FrameError)
    elif isinstance(decoded, FrameError):
        assert decoded.reason == "decode"
    else:
        pixels, read = decoded
        assert (*pixels.shape[:2], read) == (header.height, header.width, header.encoding)


# Stamps


@given(st.integers())
@example(2**31 * 10**9)
@example(-(2**31) * 10**9 - 1)
@FEW
def test_stamps_are_exact_or_refused(nanoseconds):
    if -(2**31) * 10**9 <= nanoseconds < 2**31 * 10**9:
        stamp = ns_to_stamp(nanoseconds)
        assert 0 <= stamp.nanosec < 10**9
        assert stamp.sec + Fraction(stamp.nanosec, 10**9) == Fraction(nanoseconds, 10**9)
        assert stamp_to_ns(stamp) == nanoseconds
    else:
        with pytest.raises(ValueError, match="32 bits"):
            ns_to_stamp(nanoseconds)


@given(INT32, UINT32)
@FEW
def test_a_stamp_whose_nanoseconds_exceed_a_second_is_a_time_all_the_same(seconds, nanoseconds):
    stamp = SimpleNamespace(sec=seconds, nanosec=nanoseconds)
    assert Fraction(stamp_to_ns(stamp), 10**9) == seconds + Fraction(nanoseconds, 10**9)


@given(images(), STAMPS, STAMPS, TEXTS, st.booleans())
@FEW
def test_a_stamp_is_written_into_a_message_and_nothing_else(fields, before, after, frame_id, little_endian):
    kind = "sensor_msgs/msg/Image"
    fields.data = np.frombuffer(fields.data, np.uint8)

    def serialised(stamp):
        seconds, nanoseconds = divmod(stamp, 10**9)
        time = STORE.types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        header = STORE.types["std_msgs/msg/Header"](time, frame_id)
        message = STORE.types[kind](header=header, **vars(fields))
        return bytes(STORE.serialize_cdr(message, kind, little_endian=little_endian))

    assert read_stamp(serialised(before)) == before
    assert with_stamp(serialised(before), after) == serialised(after)


# Detections and labels


@given(
    st.lists(st.tuples(st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), TEXTS, st.floats(0, 1)), max_size=5),
    STAMPS,
    TEXTS,
    st.sampled_from([float, np.float64]),
)
@FEW
def test_detections_keep_box_label_and_score(found, stamp, frame_id, number):
    header = Header(stamp=ns_to_stamp(stamp), frame_id=frame_id)
    detections = [Detection(Box(*map(number, box)), label, number(score)) for box, label, score in found]
    message = deserialize_message(serialize_message(detections_to_message(detections, header)), Detection2DArray)
    assert message.header == header
    assert len(message.detections) == len(found)
    for entry, ((left, top, right, bottom), label, score) in zip(message.detections, found, strict=True):
        assert entry.header == header
        assert (entry.bbox.center.position.x, entry.bbox.center.position.y) == ((left + right) / 2, (top + bottom) / 2)
        assert (entry.bbox.size_x, entry.bbox.size_y) == (right - left, bottom - top)
        (result,) = entry.results
        assert (result.hypothesis.class_id, result.hypothesis.score) == (label, score)


@given(st.lists(TEXTS, max_size=20), STAMPS)
@FEW
def test_labels_keep_their_numbers(labels, stamp):
    header = Header(stamp=ns_to_stamp(stamp))
    message = deserialize_message(serialize_message(labels_to_message(labels, header)), LabelInfo)
    assert [(entry.class_id, entry.class_name) for entry in message.class_map] == list(enumerate(labels))
    assert message.header == header


# Camera info


@st.composite
def calibrations(draw):
    """A camera of any size with a window that is binned, and the size of the image that it sends."""
    height, width = draw(st.integers(8, 3000)), draw(st.integers(8, 3000))
    focal, centre = draw(st.floats(50, 5000)), (draw(st.floats(-100, 3000)), draw(st.floats(-100, 3000)))
    binning = draw(st.integers(0, 4))
    info = CameraInfo(height=height, width=width, distortion_model="plumb_bob", binning_x=binning, binning_y=binning)
    info.k = [focal, 0.0, centre[0], 0.0, 1.1 * focal, centre[1], 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, centre[0], draw(st.floats(-500, 500)), 0.0, 1.1 * focal, centre[1], 0.0, 0.0, 0.0, 1.0, 0.0]
    info.d = draw(st.sampled_from([[], [0.1, -0.2, 0.001, 0.002, 0.05]]))
    if draw(st.booleans()):
        roi_height, roi_width = draw(st.integers(4, height)), draw(st.integers(4, width))
        info.roi = RegionOfInterest(
            height=roi_height,
            width=roi_width,
            x_offset=draw(st.integers(0, width - roi_width)),
            y_offset=draw(st.integers(0, height - roi_height)),
        )
    return info


@given(calibrations(), st.integers(1, 6), st.floats(-1, 1), st.floats(-1, 1))
@FEW
def test_a_scaled_calibration_projects_where_the_scaled_image_has_it(info, factor, x, y):
    described = image_size(info)
    size = (described[0] * factor, described[1] * factor)
    own = fused_camera_info(info, size)
    binning = max(info.binning_x, 1)
    offset = (info.roi.x_offset, info.roi.y_offset) if info.roi.width else (0, 0)
    window = (info.roi.width, info.roi.height) if info.roi.width else (info.width, info.height)
    if factor == 1:
        assert own == info
    else:
        assert (own.height, own.width, own.binning_x, own.roi.width) == (*size, 0, 0)
        for matrix, columns in ((list(info.k), 3), (list(info.p), 4)):
            moved = list(own.k if columns == 3 else own.p)
            for axis, coordinate in enumerate((x, y)):
                row = slice(axis * columns, axis * columns + 3)
                before, after = (float(np.dot(m[row], (x, y, 1.0))) for m in (matrix, moved))
                # The place of a point in the window, as a share of the window: edges of pixels lie at halves.
                share = (before + 0.5 - offset[axis]) / window[axis]
                assert (after + 0.5) / size[1 - axis] == pytest.approx(share, rel=1e-9, abs=1e-9), coordinate
    numbers = camera_model_numbers(info)
    assert (numbers.height, numbers.width) == described
    assert described == (window[1] // binning or 1, window[0] // binning or 1)
    for axis in range(2):
        before = float(np.dot(list(info.k)[3 * axis : 3 * axis + 3], (x, y, 1.0)))
        after = float(np.dot(numbers.matrix[3 * axis : 3 * axis + 3], (x, y, 1.0)))
        share = (before + 0.5 - offset[axis]) / window[axis]
        assert (after + 0.5) / described[1 - axis] == pytest.approx(share, rel=1e-9, abs=1e-9)


ANY_FLOAT = st.floats(width=64)
PIXELS = st.one_of(st.integers(0, 50), UINT32)


@given(
    sizes=st.lists(PIXELS, min_size=8, max_size=8),
    k=st.lists(ANY_FLOAT, min_size=9, max_size=9),
    p=st.lists(ANY_FLOAT, min_size=12, max_size=12),
    d=st.lists(ANY_FLOAT, max_size=20),
    model=TEXTS,
    size=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
@MANY
def test_any_camera_info_is_used_or_refused(sizes, k, p, d, model, size):
    info = CameraInfo(height=sizes[0], width=sizes[1], k=k, p=p, d=d, distortion_model=model)
    info.roi = RegionOfInterest(height=sizes[2], width=sizes[3], x_offset=sizes[4], y_offset=sizes[5])
    info.binning_x, info.binning_y = sizes[6], sizes[7]
    before = deserialize_message(serialize_message(info), CameraInfo)
    for result in (result_of(fused_camera_info, info, size), result_of(camera_model_numbers, info)):
        assert not isinstance(result, ValueError) or str(result)
    assert isinstance(result_of(image_size, info), tuple | ValueError)
    assert bytes(serialize_message(info)) == bytes(serialize_message(before)), "the camera's own message stays"
