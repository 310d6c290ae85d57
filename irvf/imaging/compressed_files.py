"""What the headers of JPEG, PNG and TIFF files say of their pixels, read without decoding one.

Sources: ITU-T T.81 (JPEG), annex B; the PNG specification of the W3C, third edition, sections 5 and 11; TIFF, revision
6.0, sections 2 and 8. Every loop here has a bound of its own, whatever the file says.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from irvf.imaging.encodings import MAX_SIDE
from irvf.imaging.errors import FrameError

CODECS = {"jpeg": "jpeg", "jpg": "jpeg", "png": "png", "tiff": "tiff", "tif": "tiff"}
"""Names of codecs in the format of a message, and how they are called here."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_MOST_SEGMENTS = 256
_MOST_SCANS = 64
"""Encoders write about ten; each one makes the decoder walk over all pixels again."""
_MOST_TAGS = 128
_END_WITHIN = 1 << 16
"""Cameras fill up their buffers behind the end of a JPEG."""
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, coded by Huffman
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_MOST_CHUNKS = 16_384
"""64 MiB in the smallest pieces that encoders write, 4 KiB."""
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 6: 4}
_TIFF_RATIOS = {1: 1.0, 5: 1400.0, 8: 1040.0, 32946: 1040.0, 32773: 64.0}
"""Bytes that one byte of a strip can become at most: uncompressed, LZW, deflate by its two numbers, PackBits."""
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}


class FileHeader(NamedTuple):
    """What a file holds: sides in pixels, channels as OpenCV decodes them, bits of each."""

    codec: str
    height: int
    width: int
    channels: int
    bits: int
    is_float: bool = False


def read_file_header(data: memoryview) -> FileHeader:
    """Read the header of a file, and see that its end is there.

    Args:
        data: of the file, as bytes.

    Raises:
        FrameError: ``format`` for another file or a kind that is not read, ``truncated`` for one that is not whole.
    """
    if data[:3] == _JPEG:
        return _jpeg(data)
    if data[:8] == _PNG:
        return _png(data)
    order = _TIFF.get(bytes(data[:4]))
    if order:
        return _tiff(data, order)
    if len(data) < 8:
        raise FrameError("truncated", f"{len(data)} bytes are no image file")
    raise FrameError("format", f"the data begins with {bytes(data[:8]).hex(' ')}, as neither JPEG, PNG nor TIFF does")


def _jpeg(data: memoryview) -> FileHeader:
    position = 2
    for _ in range(_MOST_SEGMENTS):
        if position + 4 > len(data):
            raise FrameError("truncated", f"JPEG of {len(data)} bytes ends before its frame header")
        if data[position] != 0xFF:
            raise FrameError("format", f"JPEG has {data[position]:#x} at byte {position}, where a marker belongs")
        marker = data[position + 1]
        if marker == 0xFF:  # filling
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in _FRAMES:
            return _jpeg_frame(data, position, is_progressive=marker == 0xC2)
        if marker in _OTHER_FRAMES or marker in (0xD8, 0xD9, 0xDA) or length < 2:
            raise FrameError(
                "format", f"JPEG with marker {marker:#x} before its frame: lossless or arithmetic, or damaged"
            )
        position += 2 + length
    raise FrameError("format", f"JPEG with more than {_MOST_SEGMENTS} segments before its frame header")


def _jpeg_frame(data: memoryview, position: int, *, is_progressive: bool) -> FileHeader:
    if position + 10 > len(data):
        raise FrameError("truncated", f"JPEG of {len(data)} bytes ends within its frame header")
    bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
    if bits != 8 or channels not in (1, 3):
        raise FrameError("format", f"JPEG with {channels} channels of {bits} bits; 1 or 3 of 8 bits are read")
    if b"\xff\xd9" not in bytes(data[-_END_WITHIN:]):
        raise FrameError("truncated", f"JPEG of {len(data)} bytes lacks its end")
    if is_progressive and bytes(data).count(b"\xff\xda") > _MOST_SCANS:
        raise FrameError("format", f"progressive JPEG with more than {_MOST_SCANS} scans")
    return FileHeader("jpeg", height, width, channels, bits)


def _png(data: memoryview) -> FileHeader:
    if len(data) < 33:
        raise FrameError("truncated", f"PNG of {len(data)} bytes ends within its header")
    length, name, width, height, bits, kind = struct.unpack_from(">I4sIIBB", data, 8)
    if length != 13 or name != b"IHDR":
        raise FrameError("format", f"PNG begins with the chunk {name!r} of {length} bytes, not with IHDR of 13")
    channels = _PNG_CHANNELS.get(kind)
    if channels is None or bits not in ((8, 16) if kind == 0 else (8,)):
        raise FrameError(
            "format",
            f"PNG of colour type {kind} with {bits} bits; grey with 8 or 16, and colours, with alpha or a palette, "
            "with 8 are read",
        )
    _walk_png(data)
    return FileHeader("png", height, width, channels, bits)


def _walk_png(data: memoryview) -> None:
    """See that each chunk lies within the file, up to its end: OpenCV allocates what a chunk says of its length."""
    position, has_pixels = 8, False
    for _ in range(_MOST_CHUNKS):
        if position + 12 > len(data):
            raise FrameError("truncated", f"PNG of {len(data)} bytes lacks its end")
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            raise FrameError("truncated", f"PNG of {len(data)} bytes, whose chunk {name!r} ends at byte {position}")
        if name == b"IEND":
            if not has_pixels:
                raise FrameError("format", "PNG without pixels")
            return
        if name in _ANIMATION:
            raise FrameError("format", "animated PNG; single pictures are read")
        has_pixels = has_pixels or name == b"IDAT"
    raise FrameError("format", f"PNG with more than {_MOST_CHUNKS} chunks")


def _tiff(data: memoryview, order: str) -> FileHeader:
    if len(data) < 8:
        raise FrameError("truncated", f"TIFF of {len(data)} bytes ends within its header")
    tags = _tiff_tags(data, order)

    def one(tag: int, default: int | None = None) -> int:
        values = tags.get(tag, () if default is None else (default,))
        if not values or any(value != values[0] for value in values):
            raise FrameError(
                "format", f"TIFF with {list(values)[:4] or 'nothing'} in its tag {tag}, where one number is read"
            )
        return values[0]

    width, height, bits = one(256), one(257), one(258, 1)
    channels, layout, kind = one(277, 1), one(284, 1), one(339, 1)
    if 322 in tags or 324 in tags:
        raise FrameError("format", "TIFF in tiles; strips are read")
    if channels not in (1, 3, 4) or layout != 1 or (kind, bits) not in ((1, 8), (1, 16), (3, 32)):
        raise FrameError(
            "format",
            f"TIFF with {channels} channels of {bits} bits, sample format {kind}, planar configuration {layout}; 1, 3 "
            "or 4 interleaved channels of 8 or 16 bits, or of 32 as float, are read",
        )
    starts, counts = tags.get(273, ()), tags.get(279, ())
    if not starts or len(starts) != len(counts):
        raise FrameError("format", f"TIFF with {len(starts)} strips of which {len(counts)} have a length")
    end = max(start + count for start, count in zip(starts, counts, strict=True))
    if end > len(data):
        raise FrameError("truncated", f"TIFF of {len(data)} bytes, whose last strip ends at byte {end}")
    ratio = _TIFF_RATIOS.get(one(259, 1))
    if ratio is None:
        raise FrameError("format", f"TIFF of compression {one(259, 1)}; none, LZW, deflate and PackBits are read")
    decoded = width * height * channels * bits // 8
    too_large = max(width, height) > MAX_SIDE  # which is said by whoever asks
    if sum(counts) * ratio < decoded and not too_large:  # libtiff would fill up the rest
        raise FrameError("truncated", f"TIFF whose strips of {sum(counts)} bytes cannot hold {decoded} bytes of pixels")
    return FileHeader("tiff", height, width, channels, bits, is_float=kind == 3)


def _tiff_tags(data: memoryview, order: str) -> dict[int, tuple[int, ...]]:
    """Return the whole numbers of the first directory by tag."""
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    if directory + 2 > len(data):
        raise FrameError("truncated", f"TIFF of {len(data)} bytes, whose directory is at byte {directory}")
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    if not 0 < entries <= _MOST_TAGS:
        raise FrameError("format", f"TIFF with {entries} tags; 1 to {_MOST_TAGS} are read")
    if directory + 2 + 12 * entries > len(data):
        raise FrameError("truncated", f"TIFF of {len(data)} bytes ends within its directory")
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
        letter = _TIFF_TYPES.get(kind)
        if letter is None or not 0 < count <= MAX_SIDE:
            continue  # texts, fractions and what no image of at most MAX_SIDE rows has
        size = struct.calcsize(letter) * count
        at = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
        if at + size > len(data):
            raise FrameError("truncated", f"TIFF of {len(data)} bytes, whose tag {tag} lies at byte {at}")
        tags[tag] = struct.unpack_from(f"{order}{count}{letter}", data, at)
    return tags
