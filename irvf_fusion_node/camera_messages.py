"""Serialised images of two cameras, of which only the stamps are written anew, so that a load costs little itself."""

from __future__ import annotations

import struct

from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from irvf.evaluation.street import street_frames
from irvf_fusion_node.conversions import frame_to_image

PICTURES = 8
"""Moments of the street; they are played forth and back, so that nothing in them jumps."""
_LITTLE, _BIG = struct.Struct("<iI"), struct.Struct(">iI")
_STAMP_AT = 4
"""The encapsulation of CDR has four bytes; a header's stamp, int32 seconds and uint32 nanoseconds, is next."""


def _layout(data: bytes) -> struct.Struct:
    """Return the stamp's layout in the byte order that the encapsulation's second byte names."""
    return _LITTLE if data[1] & 1 else _BIG


def read_stamp(data: bytes) -> int:
    """Return the stamp in ns of a serialised message that begins with a header."""
    seconds, rest = _layout(data).unpack_from(data, _STAMP_AT)
    return int(seconds) * 1_000_000_000 + int(rest)


def with_stamp(data: bytes, stamp: int) -> bytes:
    """Return a serialised message that begins with a header, with another stamp in ns."""
    layout = _layout(data)
    end = _STAMP_AT + layout.size
    return b"".join((data[:_STAMP_AT], layout.pack(*divmod(stamp, 1_000_000_000)), memoryview(data)[end:]))


def street_messages(thermal_size: tuple[int, int], rgb_size: tuple[int, int]) -> list[tuple[bytes, bytes]]:
    """Return serialised pairs, thermal mono16 and rgb8, of a street to be played over and over."""
    pairs = []
    for thermal, rgb in street_frames(thermal_size, rgb_size, PICTURES):
        images = (("mono16", thermal, "thermal_optical"), ("rgb8", rgb, "rgb_optical"))
        messages = [frame_to_image(pixels, encoding, Header(frame_id=frame)) for encoding, pixels, frame in images]
        pairs.append((bytes(serialize_message(messages[0])), bytes(serialize_message(messages[1]))))
    return pairs + pairs[-2:0:-1]
