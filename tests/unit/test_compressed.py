"""Compressed images: what each transport writes comes back with its own pixels, and nothing large is decoded unasked.

The files of colours are made by hand (PNG by its specification, with zlib) or by OpenCV as image_transport calls it;
what must come out is the image that went in.
"""

import struct
import time
import tracemalloc
import zlib
from contextlib import suppress
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irvf.frames import Frame
from irvf.imaging.color import to_rgb
from irvf.imaging.compressed import (
    MAX_BYTES,
    MAX_PIXELS,
    check_compressed,
    decode_compressed,
    encode_jpeg,
    encode_png,
)
from irvf.imaging.encodings import MAX_SIDE, RGB_ENCODINGS, THERMAL_ENCODINGS
from irvf.imaging.errors import FrameError

RGB = np.zeros((48, 64, 3), np.uint8)
RGB[..., 0], RGB[:, 32:, 2] = 200, 90
"""Red to the left, violet to the right: a swap of channels shows."""
BGR = np.ascontiguousarray(RGB[..., ::-1])
COUNTS = (30000 + np.arange(48)[:, None] * 20 + np.arange(64)).astype(np.uint16)
CELSIUS = (COUNTS / 100 - 273.15).astype(np.float32)


def message(kind, data):
    return SimpleNamespace(format=kind, data=data if isinstance(data, bytes) else data.tobytes())


def encoded(suffix, image, *options):
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(image, kind, *, width=None, height=None, bits=8):
    """Write a PNG by its specification, whose header may lie about the size."""
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width or image.shape[1], height or image.shape[0], bits, kind, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def reason_of(message, allowed=(*THERMAL_ENCODINGS, *RGB_ENCODINGS)):
    reasons = set()
    for look in (check_compressed, decode_compressed):
        with pytest.raises(FrameError) as error:
            look(message, allowed)
        reasons.add(error.value.reason)
    (reason,) = reasons
    return reason


def as_rgb(pixels, encoding):
    return {"rgb8": pixels, "bgr8": pixels[..., ::-1], "bgra8": pixels[..., 2::-1], "rgba8": pixels[..., :3]}[encoding]


# What image_transport and drivers write, by what it hands to cv::imencode.
FILES = {
    "an rgb8 camera in JPEG": ("rgb8; jpeg compressed bgr8", encoded(".jpg", BGR, cv2.IMWRITE_JPEG_QUALITY, 98)),
    "a bgr8 camera in JPEG": ("bgr8; jpeg compressed bgr8", encoded(".jpg", BGR, cv2.IMWRITE_JPEG_QUALITY, 98)),
    "an old version that hands over RGB": ("rgb8; jpeg compressed rgb8", encoded(".jpg", RGB)),
    "a driver of its own": ("jpeg", encoded(".jpg", BGR, cv2.IMWRITE_JPEG_QUALITY, 98)),
    "a driver that says jpg": ("jpg", encoded(".jpg", BGR, cv2.IMWRITE_JPEG_QUALITY, 98)),
    "one that says nothing": ("", encoded(".jpg", BGR, cv2.IMWRITE_JPEG_QUALITY, 98)),
    "progressive JPEG": ("jpeg", encoded(".jpg", BGR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "an rgb8 camera in PNG": ("rgb8; png compressed bgr8", encoded(".png", BGR)),
    "PNG by its specification": ("png", png(RGB, 2)),
    "PNG with alpha": ("png", png(np.dstack([RGB, np.full((48, 64), 255, np.uint8)]), 6)),
    "an rgb8 camera in TIFF": ("rgb8; tiff compressed ", encoded(".tiff", RGB)),
    "a bgr8 camera in TIFF": ("bgr8; tiff compressed ", encoded(".tiff", BGR)),
}


@pytest.mark.parametrize("name", FILES)
def test_colours_come_back_as_the_camera_saw_them(name):
    pixels, encoding = decode_compressed(message(*FILES[name]), RGB_ENCODINGS)
    difference = np.abs(as_rgb(pixels, encoding).astype(int) - RGB)
    lossless = "PNG" in name or "TIFF" in name
    # JPEG halves the chroma: off the edge between the two colours it keeps them within a few levels.
    assert difference[:, np.r_[0:24, 40:64]].max() <= (0 if lossless else 12)
    assert np.array_equal(to_rgb(Frame(pixels, encoding)), as_rgb(pixels, encoding))


@pytest.mark.parametrize(
    ("kind", "suffix", "image", "encoding"),
    [
        ("16UC1; png compressed ", ".png", COUNTS, "16UC1"),
        ("mono16; png compressed ", ".png", COUNTS, "mono16"),
        ("png", ".png", COUNTS, "mono16"),
        ("mono16; tiff compressed ", ".tiff", COUNTS, "mono16"),
        ("16UC1; tiff compressed ", ".tiff", COUNTS, "16UC1"),
        ("32FC1; tiff compressed ", ".tiff", CELSIUS, "32FC1"),
        ("tiff", ".tiff", CELSIUS, "32FC1"),
        ("mono8; png compressed mono8", ".png", RGB[..., 2], "mono8"),
        ("8UC1; png compressed ", ".png", RGB[..., 2], "8UC1"),
    ],
)
def test_counts_come_back_to_the_bit(kind, suffix, image, encoding):
    pixels, found = decode_compressed(message(kind, encoded(suffix, image)), THERMAL_ENCODINGS)
    assert found == encoding
    assert pixels.dtype == image.dtype
    assert np.array_equal(pixels, image)
    assert not pixels.flags.writeable
    header = check_compressed(message(kind, encoded(suffix, image)))
    assert (header.height, header.width, header.encoding) == (48, 64, encoding)


def test_tiff_of_the_other_byte_order_is_read():
    tags = [(256, 3, 64), (257, 3, 48), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    tags += [(278, 3, 48), (279, 4, COUNTS.nbytes)]
    values = (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value) for _, kind, value in tags)
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + value for (tag, kind, _), value in zip(tags, values, strict=True)
    )
    head = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + b"\0\0\0\0"
    data = head.ljust(200, b"\0") + COUNTS.astype(">u2").tobytes()
    pixels, encoding = decode_compressed(message("16UC1; tiff compressed ", data))
    assert encoding == "16UC1"
    assert np.array_equal(pixels, COUNTS)
    assert reason_of(message("tiff", data[:-1])) == "truncated"


def test_a_bayer_mosaic_in_png_stays_one():
    mosaic = COUNTS.astype(np.uint8)
    pixels, encoding = decode_compressed(
        message("bayer_rggb8; png compressed ", encoded(".png", mosaic)), RGB_ENCODINGS
    )
    assert encoding == "bayer_rggb8"
    assert np.array_equal(pixels, mosaic)


def test_a_camera_that_was_turned_keeps_its_pixels():
    """EXIF says how to show a picture; boxes and CameraInfo belong to the pixels as the sensor has them."""
    plain = encoded(".jpg", BGR)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 1, 6) + b"\0\0\0\0"  # turned by 90 degrees
    exif = b"Exif\0\0" + tiff
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    pixels, _ = decode_compressed(message("jpeg", data))
    assert pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("h264", encoded(".jpg", BGR), "format"),
        ("jpeg", encoded(".png", BGR), "format"),  # the codec is not the one that is named
        ("16UC1; compressedDepth png", b"\0" * 12 + encoded(".png", COUNTS), "format"),
        ("jpeg", b"GIF89a" + bytes(50), "format"),
        ("jpeg", b"", "truncated"),
        ("jpeg", encoded(".jpg", BGR)[:300], "truncated"),
        ("jpeg", encoded(".jpg", BGR)[:-20], "truncated"),
        ("png", encoded(".png", BGR)[:-20], "truncated"),
        ("png", encoded(".png", BGR)[:20], "truncated"),
        ("tiff", encoded(".tiff", COUNTS)[:60], "truncated"),
        ("mono16; jpeg compressed mono8", encoded(".jpg", RGB[..., 0]), "format"),  # 8 of its 16 bits are gone
        ("rgb16; png compressed bgr16", encoded(".png", np.zeros((4, 4, 3), np.uint16)), "format"),
        ("rgb16; tiff compressed ", encoded(".tiff", np.zeros((4, 4, 3), np.uint16)), "encoding"),
        ("64FC1; tiff compressed ", encoded(".tiff", np.zeros((4, 4))), "format"),
        ("jpeg", b"\xff\xd8" + b"\xff\xe0\0\x02" * 300 + encoded(".jpg", BGR)[2:], "format"),  # segments without end
    ],
)
def test_what_is_no_usable_image_is_refused_with_its_reason(kind, data, reason):
    assert reason_of(message(kind, data)) == reason


def test_the_streams_take_what_they_take_raw():
    grey, counts = message("jpeg", encoded(".jpg", RGB[..., 0])), message("png", encoded(".png", COUNTS))
    assert check_compressed(grey, THERMAL_ENCODINGS).encoding == "mono8"
    assert reason_of(grey, RGB_ENCODINGS) == "encoding"
    assert reason_of(counts, RGB_ENCODINGS) == "encoding"


@pytest.mark.parametrize(
    "data",
    [
        png(RGB, 2, width=60000, height=60000),
        png(RGB, 2, width=MAX_SIDE + 1),
        png(RGB, 2, width=8192, height=MAX_PIXELS // 8192 + 1),
        png(RGB, 2, width=2**31 - 1, height=1),
    ],
)
def test_a_picture_that_would_unfold_to_gigabytes_is_refused_before_it_does(data):
    tracemalloc.start()
    started = time.perf_counter()
    assert reason_of(message("png", data)) == "size"
    assert time.perf_counter() - started < 0.1
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_jpeg_and_tiff_are_bounded_as_well():
    jpeg = bytearray(encoded(".jpg", BGR))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65000, 65000)
    assert reason_of(message("jpeg", bytes(jpeg))) == "size"
    tiff = bytearray(encoded(".tiff", COUNTS))
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (entries,) = struct.unpack_from("<H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", tiff, entry)[0] in (256, 257):
            struct.pack_into("<HII", tiff, entry + 2, 4, 1, 1_000_000)
    assert reason_of(message("tiff", bytes(tiff))) == "size"
    assert reason_of(message("jpeg", bytes(MAX_BYTES + 1))) == "size"
    small = encoded(".png", BGR)
    stuffed = small[:-12] + chunk(b"teXt", bytes(200_000)) + small[-12:]
    assert reason_of(message("png", stuffed)) == "size"


def test_a_file_that_is_damaged_behind_its_header_is_no_crash():
    data = bytearray(png(COUNTS.astype(np.uint8), 0))
    at = data.index(b"IDAT") + 4
    data[at : at + 8] = bytes(8)
    look = message("png", bytes(data))
    check_compressed(look)
    with pytest.raises(FrameError) as error:
        decode_compressed(look)
    assert error.value.reason == "decode"


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(FILES)),
    position=st.floats(0, 1, exclude_max=True),
    content=st.binary(min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_no_damage_does_anything_but_a_refusal(name, position, content, cut):
    kind, data = FILES[name]
    at = int(position * len(data))
    damaged = data[:at] + content + data[at + len(content) : len(data) - cut]
    with suppress(FrameError):  # and nothing else may be raised
        pixels, encoding = decode_compressed(message(kind, damaged))
        assert pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
        assert encoding in RGB_ENCODINGS + THERMAL_ENCODINGS


def test_the_fused_image_in_jpeg_is_what_any_viewer_reads():
    kind, data = encode_jpeg(RGB, "rgb8", 95)
    assert kind == "rgb8; jpeg compressed bgr8"
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(seen[:, :24].astype(int) - RGB[:, :24]).max() <= 12
    assert len(encode_jpeg(RGB, "rgb8", 20)[1]) < len(data)
    kind, data = encode_png(COUNTS, "16UC1")
    assert kind == "16UC1; png compressed "
    assert np.array_equal(decode_compressed(message(kind, data))[0], COUNTS)
    kind, data = encode_png(RGB, "rgb8")
    assert np.array_equal(as_rgb(*decode_compressed(message(kind, data))), RGB)


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [
        (encode_jpeg, (COUNTS, "mono16"), "mono16"),
        (encode_jpeg, (RGB, "rgb8", 0), "0"),
        (encode_jpeg, (COUNTS, "mono8"), "uint16"),
        (encode_png, (CELSIUS, "32FC1"), "32FC1"),
        (encode_png, (COUNTS, "16UC1", 10), "10"),
    ],
)
def test_what_cannot_be_compressed_is_named(make, arguments, named):
    with pytest.raises(ValueError, match=named):
        make(*arguments)


def png_chunk(name, content=b"", length=None):
    size = len(content) if length is None else length
    return struct.pack(">I", size) + name + content + struct.pack(">I", zlib.crc32(name + content))


PNG_HEADER = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 12, 9, 8, 0, 0, 0, 0))
PNG_PIXELS = png_chunk(b"IDAT", zlib.compress(bytes(13 * 9)))


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (png_chunk(b"tEXt", length=0xFFFFFFF0) + PNG_PIXELS + png_chunk(b"IEND"), "truncated"),
        (PNG_PIXELS + png_chunk(b"zzzz", length=0x6D000000) + png_chunk(b"IEND"), "truncated"),
        (png_chunk(b"IDAT", length=0x7FFFFFFF) + png_chunk(b"IEND"), "truncated"),
        (PNG_PIXELS, "truncated"),
        (png_chunk(b"IEND"), "format"),
        (png_chunk(b"acTL", bytes(8)) + PNG_PIXELS + png_chunk(b"IEND"), "format"),
    ],
)
def test_a_png_whose_chunks_lie_about_their_length_is_not_decoded(rest, reason):
    # OpenCV 5 allocates the length that a chunk says of itself: 4 GB for 81 bytes.
    with pytest.raises(FrameError) as raised:
        check_compressed(SimpleNamespace(format="png", data=PNG_HEADER + rest))
    assert raised.value.reason == reason


def test_the_same_png_told_truly_is_decoded():
    whole = PNG_HEADER + png_chunk(b"tEXt", b"Comment\0fine") + PNG_PIXELS + png_chunk(b"IEND")
    assert decode_compressed(SimpleNamespace(format="png", data=whole))[0].shape == (9, 12)


@pytest.mark.parametrize("compression", [5, 8, 32773, 7])
def test_a_tiff_that_cannot_hold_its_pixels_is_not_decoded(compression):
    tags = [(256, 8192), (257, 4096), (258, 8), (259, compression), (262, 1), (273, 200), (277, 1), (279, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    data = data.ljust(200, b"\0") + bytes(64)
    with pytest.raises(FrameError, match=r"cannot hold|compression 7"):
        check_compressed(SimpleNamespace(format="tiff", data=data))
