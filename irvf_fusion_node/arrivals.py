"""Image messages as they come in: checked in constant time, kept as they are, made frames in the inference thread."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from irvf.frames import Frame
from irvf.imaging.compressed import check_compressed, decode_compressed
from irvf.imaging.encodings import RGB_ENCODINGS, THERMAL_ENCODINGS, check_image
from irvf_fusion_node.conversions import ImageConversion, stamp_to_ns
from irvf_fusion_node.pairing import Stream

_ENCODINGS = {Stream.THERMAL: THERMAL_ENCODINGS, Stream.RGB: (*RGB_ENCODINGS, "mono8")}
_RAW_ENCODINGS = {Stream.THERMAL: THERMAL_ENCODINGS, Stream.RGB: RGB_ENCODINGS}
_TOPICS = {Stream.THERMAL: "thermal/image_raw", Stream.RGB: "rgb/image_raw"}


@dataclass(frozen=True)
class Arrived:
    """An image message of a stream and the monotonic time in ns at which it came."""

    stream: Stream
    message: Image | CompressedImage
    arrival: int

    @property
    def header(self) -> Header:
        """Of the message."""
        return self.message.header

    @property
    def stamp(self) -> int:
        """Capture time in ns."""
        return stamp_to_ns(self.message.header.stamp)

    def check(self) -> None:
        """Refuse a message that is no image of its stream, by its fields alone.

        Raises:
            FrameError: says what is wrong with it.
        """
        if isinstance(self.message, Image):
            check_image(self.message, _RAW_ENCODINGS[self.stream])
        else:
            check_compressed(self.message, _ENCODINGS[self.stream])

    def to_frame(self, conversion: ImageConversion) -> Frame:
        """Return the image: a view of the message's memory where it is raw.

        Raises:
            FrameError: it cannot be decoded.
        """
        if isinstance(self.message, Image):
            return conversion.to_frame(self.message)
        pixels, encoding = decode_compressed(self.message, _ENCODINGS[self.stream])
        return Frame(pixels, encoding, self.stamp, self.message.header.frame_id)


def image_topic(node: Node, stream: Stream, transport: str) -> tuple[type, str]:
    """Return the message type and the topic of a camera's images, resolved.

    The compressed topic lies beneath the raw one, wherever that is remapped to, as image_transport has it.
    """
    topic = node.resolve_topic_name(_TOPICS[stream])
    return (CompressedImage, f"{topic}/compressed") if transport == "compressed" else (Image, topic)


def camera_info_topic(stream: Stream) -> str:
    """Return the topic of a camera's calibration, beside its images."""
    return f"{stream.value}/camera_info"
