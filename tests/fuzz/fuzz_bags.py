"""Damaged recordings: only ``BagError`` may come of opening one, choosing its topics and reading all its messages."""

import contextlib
import tempfile
from pathlib import Path

import harness
import numpy as np

with harness.instrumented():
    from rosbags.typesys import Stores, get_typestore

    from irvf.bags import (
        IMAGE_TYPE,
        BagError,
        choose_image_topics,
        create_bag,
        describe_topics,
        open_bag,
        read_message,
        read_messages,
    )
    from irvf.imaging.encodings import view_image
    from irvf.imaging.errors import FrameError

STORE = get_typestore(Stores.ROS2_JAZZY)
NAMES = ("bag.mcap", "bag.db3", "folder")
TOPICS = ("/thermal/image_raw", "/rgb/image_raw")
MOST_MESSAGES = 200


def one(data: bytes) -> None:
    """Read a recording: the first byte chooses its form, the others are its content."""
    if not data:
        return
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        path = Path(folder) / NAMES[data[0] % len(NAMES)]
        if path.suffix:
            path.write_bytes(data[1:])
        else:  # a folder whose metadata is damaged; its recording is whole
            path.mkdir()
            (path / "metadata.yaml").write_bytes(data[1:])
            (path / "folder.mcap").write_bytes(WHOLE)
        with contextlib.suppress(BagError):
            read(path)


def read(path: Path) -> None:
    """Do what ``irvf replay`` and ``irvf calibrate`` do with a recording."""
    with open_bag(path) as reader:
        describe_topics(reader)
        assert isinstance(reader.start_time + reader.duration, int)
        with contextlib.suppress(BagError):
            choose_image_topics(reader, None, None)
        for number, (connection, stamp, content) in enumerate(read_messages(reader)):
            assert isinstance(stamp, int)
            if connection.msgtype == IMAGE_TYPE:
                message = read_message(reader, connection, content)
                with contextlib.suppress(FrameError):
                    view_image(message)
            if number > MOST_MESSAGES:
                break


def _message(level: int, stamp: int):
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    pixels = np.full(4 * 6, level, np.uint8)
    return STORE.types[IMAGE_TYPE](header, height=4, width=6, encoding="mono8", is_bigendian=0, step=6, data=pixels)


def _bag(path: Path, count: int) -> Path:
    with create_bag(path) as writer:
        connections = [writer.add_connection(topic, IMAGE_TYPE, typestore=STORE) for topic in TOPICS]
        for number in range(count):
            for connection in connections:
                stamp = 10**9 + number * 10**8
                writer.write(connection, stamp, STORE.serialize_cdr(_message(number, stamp), IMAGE_TYPE))
    return path


def seeds():
    """A small recording of each form, with and without messages."""
    with tempfile.TemporaryDirectory() as scratch:
        for count in (0, 1, 3):
            for number, name in enumerate(NAMES):
                path = _bag(Path(scratch) / f"{count}" / name, count)
                content = path if path.is_file() else path / "metadata.yaml"
                yield bytes([number]) + content.read_bytes()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="irvf-fuzz-") as SCRATCH:
        whole = _bag(Path(SCRATCH) / "whole" / "folder", 2)
        WHOLE = (whole / "folder.mcap").read_bytes()
        harness.fuzz(one, seeds(), max_bytes=65536)
