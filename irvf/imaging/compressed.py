"""Compressed image messages as arrays: what a file says of itself is checked before anything is decoded.

A message is anything with the fields of ``sensor_msgs/CompressedImage``. Its ``format`` is, of image_transport,
``ENCODING; CODEC compressed HANDED_OVER``: the encoding of the image that came in, and what was handed to the encoder,
which takes three channels for blue, green, red. "rgb8; jpeg compressed bgr8" is therefore a file whose colours any
viewer shows rightly. Where nothing is handed over by name (TIFF), the channels lie in the file in the order of
ENCODING, and a viewer may show them swapped. Drivers that compress themselves write the codec alone: "jpeg", "png".

A few hundred bytes of a file can stand for gigabytes of pixels. The headers are therefore read first
(`compressed_files.py`), in time that does not depend on the pixels: sides are bounded as those of raw images are, and
so is the number of pixels, because a compressed image does not pay for them on the network.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.imaging.compressed_files import CODECS, FileHeader, read_file_header
from irvf.imaging.encodings import LAYOUTS, MAX_SIDE
from irvf.imaging.errors import FrameError

MAX_PIXELS = 1 << 25
"""Most pixels of an image that is decoded: 8K video has 33.2 million."""
MAX_BYTES = 1 << 26
"""Most bytes of a message that is looked at, 64 MiB."""
_SLACK = 1 << 16
"""Bytes that a file may have beyond twice its pixels: metadata, thumbnails, colour profiles."""
_ORDERS = {3: ("bgr8", "rgb8"), 4: ("bgra8", "rgba8")}
_UNCHANGED = cv2.IMREAD_UNCHANGED  # neither turned as EXIF says nor brought to 8 bits


class CompressedMessage(Protocol):
    """The fields of ``sensor_msgs/CompressedImage`` that describe pixels."""

    format: str
    data: Any


class CompressedHeader(NamedTuple):
    """What a compressed image will be.

    Attributes:
        codec: ``jpeg``, ``png`` or ``tiff``, by the first bytes of the file.
        height: rows.
        width: columns.
        encoding: of the decoded array, a name of :data:`irvf.imaging.encodings.LAYOUTS`.
    """

    codec: str
    height: int
    width: int
    encoding: str


def check_compressed(message: CompressedMessage, allowed: Collection[str] = tuple(LAYOUTS)) -> CompressedHeader:
    """Refuse a message that holds no image that can be used; nothing is decoded.

    Args:
        message: a compressed image message.
        allowed: names of encodings: ``THERMAL_ENCODINGS``, ``RGB_ENCODINGS`` or, by default, all.

    Returns:
        What :func:`decode_compressed` will make of it.

    Raises:
        FrameError: its reason is ``format`` (no file of a known codec, or another than the message says), ``size`` (of
            the message or of the image), ``truncated`` or ``encoding``.
    """
    data = _bytes(message.data)
    if len(data) > MAX_BYTES:
        raise FrameError("size", f"a compressed image of {len(data)} bytes; at most {MAX_BYTES} are looked at")
    original, codec, handed_over = _parse_format(message.format)
    file = read_file_header(data)
    if codec and codec != file.codec:
        raise FrameError("format", f"format {message.format[:80]!r} says {codec}, but the data is {file.codec}")
    _check_size(file, len(data))
    encoding = _encoding(file, original, handed_over)
    if encoding not in allowed:
        raise FrameError(
            "encoding", f"a compressed image of the encoding {encoding!r}, which is not one of {', '.join(allowed)}"
        )
    return CompressedHeader(file.codec, file.height, file.width, encoding)


def decode_compressed(
    message: CompressedMessage, allowed: Collection[str] = tuple(LAYOUTS)
) -> tuple[NDArray[Any], str]:
    """Decode a compressed image.

    Args:
        message: a compressed image message.
        allowed: as :func:`check_compressed` takes it.

    Returns:
        A read-only array ``[H x W]`` or ``[H x W x C]``, and its encoding: 8 bits, ``mono16``, ``16UC1`` or ``32FC1``,
        with the channels in the order that the encoding names.

    Raises:
        FrameError: as :func:`check_compressed`, and ``decode`` for a file that is damaged behind its header.
    """
    header = check_compressed(message, allowed)
    data = _bytes(message.data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _UNCHANGED)
    except cv2.error as error:
        raise FrameError("decode", f"{header.codec} cannot be decoded: {' '.join(str(error).split())[:200]}") from error
    if image is None:
        raise FrameError("decode", f"{header.codec} of {header.width} x {header.height} pixels cannot be decoded")
    if image.shape[:2] != (header.height, header.width) or not LAYOUTS[header.encoding].fits(image):
        raise FrameError(
            "decode",
            f"{header.codec} was decoded to {image.dtype} {list(image.shape)}, but its header told of "
            f"{header.encoding} with {header.width} x {header.height} pixels",
        )
    pixels: NDArray[Any] = image
    pixels.flags.writeable = False
    return pixels, header.encoding


def encode_jpeg(image: NDArray[Any], encoding: str, quality: int = 90) -> tuple[str, bytes]:
    """Compress an image of 8 bits with loss.

    Args:
        image: ``[H x W x 3]`` or ``[H x W]`` uint8.
        encoding: ``rgb8``, ``bgr8`` or ``mono8``.
        quality: 1 to 100.

    Returns:
        Format and data of the message, as image_transport writes them.

    Raises:
        ValueError: another encoding, an array that does not fit it, or a quality out of its range.
    """
    if encoding not in ("rgb8", "bgr8", "mono8"):
        raise ValueError(f"JPEG holds rgb8, bgr8 or mono8, not {encoding!r}; PNG keeps 16 bits")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality of JPEG {quality} is not 1 to 100")
    handed_over = "mono8" if encoding == "mono8" else "bgr8"
    data = _encode(".jpg", image, encoding, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return f"{encoding}; jpeg compressed {handed_over}", data


def encode_png(image: NDArray[Any], encoding: str, level: int = 1) -> tuple[str, bytes]:
    """Compress an image without loss.

    Args:
        image: ``[H x W x 3]`` uint8, or ``[H x W]`` uint8 or uint16.
        encoding: ``rgb8``, ``bgr8``, ``mono8``, ``mono16`` or ``16UC1``.
        level: of zlib, 0 to 9; above 1 a frame takes several times as long for a few percent.

    Returns:
        Format and data of the message, as image_transport writes them.

    Raises:
        ValueError: another encoding, an array that does not fit it, or a level out of its range.
    """
    if encoding not in ("rgb8", "bgr8", "mono8", "mono16", "16UC1"):
        raise ValueError(f"PNG holds rgb8, bgr8, mono8, mono16 or 16UC1 here, not {encoding!r}")
    if not 0 <= level <= 9:
        raise ValueError(f"level of PNG {level} is not 0 to 9")
    handed_over = "bgr8" if encoding in ("rgb8", "bgr8") else ""
    return f"{encoding}; png compressed {handed_over}", _encode(
        ".png", image, encoding, [cv2.IMWRITE_PNG_COMPRESSION, level]
    )


def _encode(suffix: str, image: NDArray[Any], encoding: str, options: list[int]) -> bytes:
    layout = LAYOUTS[encoding]
    if not layout.fits(image) or not image.size:
        raise ValueError(f"an array {image.dtype} {list(image.shape)} is not {encoding}, which is {layout}")
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if encoding == "rgb8" else np.ascontiguousarray(image)
    done, data = cv2.imencode(suffix, stored, options)
    if not done:
        raise ValueError(f"{encoding} of {image.shape[1]} x {image.shape[0]} pixels cannot be compressed as {suffix}")
    return data.tobytes()


def _bytes(data: Any) -> memoryview:
    """View the data of a message, an array of bytes of whatever kind; without a copy."""
    return memoryview(data).cast("B") if len(data) else memoryview(b"")


def _parse_format(text: str) -> tuple[str, str, str]:
    """Return encoding, codec and what was handed over; each empty where the format does not say it.

    Raises:
        FrameError: a format that is none of an image, or of depth in its own packing.
    """
    if "compressedDepth" in text:
        raise FrameError(
            "format", f"format {text[:80]!r} is of another transport; publish compressed, not compressedDepth"
        )
    before, separator, after = text.partition(";")
    original = before.strip() if separator else ""
    words = (after if separator else before).lower().split()
    codec = next((CODECS[word] for word in words if word in CODECS), "")
    if not codec and text.strip():
        raise FrameError("format", f"format {text[:80]!r} names none of {', '.join(sorted(set(CODECS.values())))}")
    handed_over = words[-1] if len(words) > 1 and words[-1] in LAYOUTS else ""
    return original, codec, handed_over


def _check_size(file: FileHeader, size: int) -> None:
    if not (0 < file.width <= MAX_SIDE and 0 < file.height <= MAX_SIDE):
        raise FrameError("size", f"an image of {file.width} x {file.height} pixels; each side must be 1 to {MAX_SIDE}")
    if file.width * file.height > MAX_PIXELS:
        raise FrameError(
            "size", f"a compressed image of {file.width} x {file.height} pixels; at most {MAX_PIXELS} are decoded"
        )
    decoded = file.width * file.height * file.channels * file.bits // 8
    if size > 2 * decoded + _SLACK:
        raise FrameError("size", f"{size} bytes of {file.codec} for an image that has {decoded} when it is decoded")


def _encoding(file: FileHeader, original: str, handed_over: str) -> str:
    """Return the encoding of what OpenCV will decode: that of the message where it fits the file.

    Raises:
        FrameError: what no encoding is read for, as 16 bits a colour.
    """
    bits_of_original = 16 if original in ("mono16", "16UC1") or original.endswith("16") else 8
    if file.channels == 1:
        if file.codec == "jpeg" and bits_of_original == 16:
            raise FrameError(
                "format", f"{original[:40]!r} in JPEG, which keeps 8 of its 16 bits: let the camera publish png or tiff"
            )
        layout = LAYOUTS.get(original)
        dtype = np.dtype(np.float32 if file.is_float else f"u{file.bits // 8}")
        if layout is not None and layout.channels == 1 and np.dtype(layout.dtype) == dtype:
            return original
        return {"uint8": "mono8", "uint16": "mono16", "float32": "32FC1"}[dtype.name]
    if file.bits == 8 and not file.is_float:
        blue_first, red_first = _ORDERS[file.channels]
        red = handed_over.startswith("rgb") if handed_over else file.codec == "tiff" and original.startswith("rgb")
        return red_first if red else blue_first
    kind = "float" if file.is_float else "integer"
    raise FrameError(
        "encoding",
        f"{file.codec} with {file.channels} channels of {file.bits} bits ({kind}) is no encoding that is read",
    )
