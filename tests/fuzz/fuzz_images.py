"""Image messages of any content: only ``FrameError`` may come of them, and what is read must be what the bytes say."""

import math
import struct
from types import SimpleNamespace

import harness
import numpy as np

with harness.instrumented():
    from rosbags.serde import SerdeError
    from rosbags.typesys import Stores, get_typestore

    from irvf.bags import IMAGE_TYPE
    from irvf.frames import Frame
    from irvf.imaging.color import to_rgb
    from irvf.imaging.encodings import LAYOUTS, MAX_SIDE, RGB_ENCODINGS, THERMAL_ENCODINGS, check_image, view_image
    from irvf.imaging.errors import FrameError
    from irvf.imaging.thermal import RANGE_MODES, ThermalRange, ThermalRangeConfig
    from irvf.imaging.thermal_cameras import THERMAL_CAMERAS, RadiometricScale

STORE = get_typestore(Stores.ROS2_JAZZY)
ENCODINGS = (*LAYOUTS, "", "jpeg", "MONO8", "64FC1")
HEAD = struct.Struct("<BBBBIII")
"""Way in, encoding, byte order, configuration; height, width, step; then the data."""
CDR, FIELDS, FITTING = range(3)
CONFIGS = [
    *(ThermalRangeConfig(mode) for mode in RANGE_MODES),
    ThermalRangeConfig("percentile", smoothing_s=0.0),
    ThermalRangeConfig("percentile", low_percentile=0.0, high_percentile=100.0, min_span_counts=1.0),
    ThermalRangeConfig("percentile", radiometric=RadiometricScale(0.01, -273.15), min_span_degrees=0.01),
    ThermalRangeConfig("fixed", float_unit="kelvin", low_celsius=-273.15, high_celsius=1e6),
    ThermalRangeConfig("plateau", plateau=1.0, smoothing_s=0.0, repair_pixels=True, destripe="both"),
    ThermalRangeConfig("plateau", plateau=1e-9, repair_pixels=True, dead_pixels=((0, 0), (5, 3)), destripe="rows"),
    *(ThermalRangeConfig(camera=camera, repair_pixels=True) for camera in THERMAL_CAMERAS),
]
"""Of the thermal range; each input chooses one."""


def one(data: bytes) -> None:
    """Read a message made of ``data`` in one of three ways."""
    if len(data) < HEAD.size:
        return
    way, encoding, big, config, height, width, step = HEAD.unpack_from(data)
    rest = data[HEAD.size :]
    if way % 3 == CDR:
        try:
            message = STORE.deserialize_cdr(rest, IMAGE_TYPE)
        except SerdeError:
            return
        use(message, config)
        return
    name = ENCODINGS[encoding % len(ENCODINGS)]
    if way % 3 == FITTING:  # most random fields contradict each other: here they do not
        height, width = 1 + height % 24, 1 + width % 24
        pixel = LAYOUTS[name].pixel_bytes if name in LAYOUTS else 1
        step = width * pixel + step % 9
        rest = (rest or b"\0") * (1 + height * step // max(1, len(rest)))
    message = SimpleNamespace(height=height, width=width, encoding=name, is_bigendian=big & 1, step=step, data=rest)
    use(message, config)


def use(message: SimpleNamespace, config: int) -> None:
    """Walk a message through what the pipeline does with it."""
    try:
        check_image(message)
    except FrameError:
        try:
            view_image(message)
        except FrameError:
            return
        raise AssertionError("refused by check_image and viewed by view_image") from None
    image = view_image(message)
    layout = LAYOUTS[message.encoding]
    assert 0 < message.width <= MAX_SIDE
    assert 0 < message.height <= MAX_SIDE
    assert image.shape[:2] == (message.height, message.width)
    assert layout.fits(image)
    assert not image.flags.writeable
    check_pixel(image, message, config)
    walk(Frame(image, message.encoding, stamp=0), config)


def check_pixel(image: np.ndarray, message: SimpleNamespace, number: int) -> None:
    """Compare one pixel with its bytes in the message, taken by ``struct``."""
    layout = LAYOUTS[message.encoding]
    row, column = number % message.height, (number * 7) % message.width
    kind = {"u1": "B", "u2": "H", "f4": "f"}[np.dtype(layout.dtype).str[1:]]
    start = row * message.step + column * layout.pixel_bytes
    order = ">" if message.is_bigendian else "<"
    stored = struct.unpack_from(f"{order}{layout.channels}{kind}", bytes(message.data), start)
    seen = np.atleast_1d(image[row, column]).tolist()
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(stored, seen, strict=True)), (stored, seen)


def walk(frame: Frame, config: int) -> None:
    """Make RGB and a thermal plane of a frame."""
    try:
        rgb = to_rgb(frame)
    except FrameError:
        assert frame.encoding not in RGB_ENCODINGS or min(frame.image.shape[:2]) < 4
    else:
        assert rgb.shape == (*frame.image.shape[:2], 3)
        assert rgb.dtype == np.uint8
    chosen = CONFIGS[config % len(CONFIGS)]
    thermal_range = ThermalRange(chosen)
    for later in (0, 33_333_333, 10**12, 0):
        try:
            plane = thermal_range(Frame(frame.image, frame.encoding, frame.stamp + later))
        except FrameError:
            assert (
                frame.encoding not in THERMAL_ENCODINGS
                or not np.isfinite(frame.image).all()
                or chosen.mode == "fixed"
                or chosen.dead_pixels
            )
            return
        assert plane.shape == frame.image.shape[:2]
        assert plane.dtype == np.float32
        assert plane.min() >= 0
        assert plane.max() <= 1


def seeds():
    """One message of each encoding, and serialised ones."""
    for number in range(len(ENCODINGS)):
        pixels = bytes(range(16)) * 12
        for way, step in ((FITTING, 0), (FITTING, 3), (FIELDS, 16)):
            yield HEAD.pack(way, number, number & 1, number, 5, 7, step) + pixels
    time = STORE.types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    for encoding, step in (("mono8", 8), ("mono16", 16), ("32FC1", 32), ("rgb8", 24)):
        header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
        message = STORE.types[IMAGE_TYPE](
            header,
            height=2,
            width=8,
            encoding=encoding,
            is_bigendian=0,
            step=step,
            data=np.arange(2 * step, dtype="u1"),
        )
        for little_endian in (False, True):
            serialised = STORE.serialize_cdr(message, IMAGE_TYPE, little_endian=little_endian)
            yield HEAD.pack(CDR, 0, 0, 0, 0, 0, 0) + bytes(serialised)


if __name__ == "__main__":
    harness.fuzz(one, seeds())
