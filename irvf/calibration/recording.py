"""The two cameras in a recording: their stamps, calibrations and images, and which images are of the same moment."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irvf.bags import IMAGE_TYPE, AnyReader, BagError, choose_image_topics, describe_topics, open_bag
from irvf.frames import Frame, Image8
from irvf.imaging.camera_geometry import CameraModel, Nine
from irvf.imaging.color import to_rgb
from irvf.imaging.compressed import decode_compressed
from irvf.imaging.encodings import RGB_ENCODINGS, THERMAL_ENCODINGS, view_image

_COMPRESSED = "sensor_msgs/msg/CompressedImage"
_INFO = "sensor_msgs/msg/CameraInfo"
_GREY = ("mono8", "8UC1", "mono16", "16UC1")


@dataclass(frozen=True, eq=False)
class Stream:
    """One camera of a recording.

    Attributes:
        topic: of its images.
        stamps: of its messages, nanoseconds, in the order in which they were recorded.
        size: height and width of its images.
        camera: its calibration by ``camera_info``, at this size; None where there is none that can be used.
        said: about that calibration, for the report.
    """

    topic: str
    stamps: NDArray[np.int64]
    size: tuple[int, int]
    camera: CameraModel | None
    said: str


def read_streams(path: Path, thermal: str | None = None, rgb: str | None = None) -> tuple[Stream, Stream]:
    """Read what a recording holds of the two cameras, all but the images.

    Args:
        path: a bag folder, an ``.mcap`` or a ``.db3`` file.
        thermal: topic, of ``Image`` or ``CompressedImage``; None chooses among the ``Image`` topics by name.
        rgb: likewise.

    Raises:
        BagError: no such topics, or no images in them.
        FrameError: images that cannot be decoded.
    """
    with open_bag(path) as reader:
        topics = _choose(reader, thermal, rgb)
        streams = tuple(_stream(reader, topic, thermal=topic == topics[0]) for topic in topics)
    return streams[0], streams[1]


def _choose(reader: AnyReader, thermal: str | None, rgb: str | None) -> tuple[str, str]:
    compressed = [name for name, info in reader.topics.items() if info.msgtype == _COMPRESSED]
    if thermal in compressed or rgb in compressed:
        images = [*compressed, *(name for name, info in reader.topics.items() if info.msgtype == IMAGE_TYPE)]
        if thermal in images and rgb in images and thermal != rgb:
            return thermal, rgb
        raise BagError(
            "compressed images are used when both topics are named, --thermal-topic and --rgb-topic. "
            f"The bag holds:\n{describe_topics(reader)}"
        )
    return choose_image_topics(reader, thermal, rgb)


def _stream(reader: AnyReader, topic: str, *, thermal: bool) -> Stream:
    stamps, size = [], None
    connections = [connection for connection in reader.connections if connection.topic == topic]
    for connection, recorded, data in reader.messages(connections):
        if size is None:
            size = _pixels(reader.deserialize(data, connection.msgtype), thermal=thermal).shape[:2]
        stamps.append(_stamp(data) or recorded)
    if size is None:
        raise BagError(f"{topic} holds no image; the bag holds:\n{describe_topics(reader)}")
    height, width = size
    camera, said = _calibration(reader, topic, (height, width))
    return Stream(topic, np.array(stamps, np.int64), (height, width), camera, said)


def _stamp(data: bytes | memoryview) -> int:
    """Stamp of the header, which is the first field, without reading the image: CDR behind its four bytes."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds * 10**9 + nanoseconds)


def _calibration(reader: AnyReader, topic: str, size: tuple[int, int]) -> tuple[CameraModel | None, str]:
    parent = topic.removesuffix("/compressed").rpartition("/")[0]
    name = f"{parent}/camera_info"
    connections = [found for found in reader.connections if found.topic == name and found.msgtype == _INFO]
    for connection, _, data in reader.messages(connections):
        message: Any = reader.deserialize(data, connection.msgtype)
        try:
            matrix: Nine = tuple(float(number) for number in message.k)  # type: ignore[assignment]
            distortion = tuple(map(float, message.d)) or (0.0,) * 5  # no numbers: a lens that does not distort
            model = (len(message.d) and message.distortion_model) or "plumb_bob"
            camera = CameraModel(message.height, message.width, matrix, model, distortion)
            return camera.scaled(size), f"{name} ({camera.distortion_model})"
        except ValueError as error:
            return None, f"{name} cannot be used: {error}"
    return None, f"no {name}"


def match(thermal: NDArray[np.int64], rgb: NDArray[np.int64], max_gap: float) -> list[tuple[int, int]]:
    """Pair frames that are each the nearest of its stream to the other.

    Args:
        thermal: stamps, nanoseconds, in any order.
        rgb: likewise.
        max_gap: seconds.

    Returns:
        Places in both streams, in the order of the thermal stamps.
    """
    order = np.argsort(rgb, kind="stable")
    back = np.argsort(thermal, kind="stable")
    pairs = []
    for index in back:
        partner = order[_nearest(rgb[order], int(thermal[index]))]
        other = back[_nearest(thermal[back], int(rgb[partner]))]
        if other == index and abs(int(thermal[index]) - int(rgb[partner])) <= max_gap * 1e9:
            pairs.append((int(index), int(partner)))
    return pairs


def _nearest(stamps: NDArray[np.int64], stamp: int) -> int:
    place = int(np.searchsorted(stamps, stamp))
    candidates = [index for index in (place - 1, place) if 0 <= index < len(stamps)]
    return min(candidates, key=lambda index: abs(int(stamps[index]) - stamp))


def read_images(
    path: Path, streams: tuple[Stream, Stream], wanted: tuple[set[int], set[int]]
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Read chosen images of a recording, in the order in which they were recorded.

    Args:
        path: of the recording.
        streams: thermal and RGB.
        wanted: places of images in each.

    Yields:
        Number of the stream (0 thermal, 1 RGB), place, and the image: thermal ``[H x W]`` of any type, RGB
        ``[H x W x 3]`` uint8.
    """
    with open_bag(path) as reader:
        topics = {stream.topic: number for number, stream in enumerate(streams)}
        counts = [0, 0]
        for connection, _, data in reader.messages([c for c in reader.connections if c.topic in topics]):
            number = topics[connection.topic]
            place = counts[number]
            counts[number] += 1
            if place in wanted[number]:
                message = reader.deserialize(data, connection.msgtype)
                pixels = _pixels(message, thermal=number == 0)
                if pixels.shape[:2] != streams[number].size:
                    raise BagError(
                        f"{connection.topic} changes its size from {streams[number].size} to {pixels.shape[:2]}"
                    )
                yield number, place, pixels


def _pixels(message: Any, *, thermal: bool) -> NDArray[Any]:
    allowed = THERMAL_ENCODINGS if thermal else (*RGB_ENCODINGS, *_GREY)
    if hasattr(message, "format"):
        image, encoding = decode_compressed(message, allowed)
    else:
        image, encoding = view_image(message), message.encoding
    if thermal and image.ndim == 2:
        return np.array(image)
    rgb = to_rgb(Frame(image, encoding))
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)) if thermal else np.array(rgb)


def grey(rgb: Image8) -> Image8:
    """Return the brightness of an RGB image."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
