"""Reading and writing rosbag2 recordings (mcap or sqlite3) without ROS, through the ``rosbags`` library."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE_TYPE = "sensor_msgs/msg/Image"
_CAMERA_TYPES = (
    IMAGE_TYPE,
    *("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/RegionOfInterest"),
    *("std_msgs/msg/Header", "builtin_interfaces/msg/Time"),
)
_SUFFIXES = {".mcap": StoragePlugin.MCAP, ".db3": StoragePlugin.SQLITE3}
_VERSION: Literal[8] = 8
"""Of the metadata: the newest that Humble, Iron and Jazzy all read."""


class BagError(ValueError):
    """A bag cannot be read, or does not hold what is wanted; the message says what it holds."""


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """Open a recording: a bag folder, or a single ``.mcap`` or ``.db3`` file.

    Raises:
        BagError: nothing there, no rosbag2, or a damaged one.
    """
    if not path.exists():
        raise BagError(f"{path} does not exist; give a rosbag2 folder, an .mcap or a .db3 file")
    if path.suffix == ".bag" and path.is_file():
        raise BagError(f"{path} is a ROS 1 bag; convert it first: pip install rosbags; rosbags-convert --src {path}")
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        reader.open()
        _check_definitions(reader)
    except Exception as error:  # damaged files end in errors of many libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BagError(f"{path} cannot be read as a rosbag2: {reason}") from error
    try:
        yield reader
    finally:
        reader.close()


def read_messages(
    reader: AnyReader, connections: Collection[Connection] = ()
) -> Iterator[tuple[Connection, int, bytes]]:
    """Go through the messages of an open bag.

    Args:
        reader: the bag.
        connections: topics to read; none for all.

    Yields:
        Topic, time of recording in nanoseconds, and the serialised message.

    Raises:
        BagError: the recording is damaged here; what came before was sound.
    """
    messages = reader.messages(connections)
    while True:
        try:
            found = next(messages)
        except StopIteration:
            return
        except Exception as error:  # damaged files end in errors of many libraries
            raise _damaged(reader, error) from error
        yield found


def read_message(reader: AnyReader, connection: Connection, data: bytes) -> Any:
    """Return a message of :func:`read_messages` as an object with its fields.

    Raises:
        BagError: the data is no message of the topic's type.
    """
    try:
        return reader.deserialize(data, connection.msgtype)
    except Exception as error:  # as above
        raise _damaged(reader, error) from error


def _check_definitions(reader: AnyReader) -> None:
    """See that the types of cameras have the fields in the recording that they have in every ROS 2."""
    known, own = get_typestore(Stores.ROS2_JAZZY).fielddefs, reader.typestore.fielddefs
    for kind in _CAMERA_TYPES:
        if kind in own and [name for name, _ in own[kind][1]] != [name for name, _ in known[kind][1]]:
            raise ValueError(f"{kind} is defined in it in another way than ROS 2 defines it")
    _ = reader.topics  # sorts names that a damaged file may lack


def _damaged(reader: AnyReader, error: Exception) -> BagError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return BagError(f"{', '.join(map(str, reader.paths))} is damaged: {reason}")


def describe_topics(reader: AnyReader) -> str:
    """List what a bag holds, a line a topic: name, type and number of messages."""
    lines = [f"  {name}  {info.msgtype}  {info.msgcount} messages" for name, info in sorted(reader.topics.items())]
    return "\n".join(lines) or "  (nothing)"


def choose_image_topics(reader: AnyReader, thermal: str | None, rgb: str | None) -> tuple[str, str]:
    """Find the topics of the two cameras.

    Args:
        reader: an open bag.
        thermal: topic named by the user; None chooses by name.
        rgb: likewise.

    Returns:
        Thermal and RGB topic.

    Raises:
        BagError: a named topic is not there or carries no images, or the choice is not clear; lists the topics.
    """
    images = sorted(name for name, info in reader.topics.items() if info.msgtype == IMAGE_TYPE)
    for named in (thermal, rgb):
        if named is not None and named not in images:
            raise BagError(f"no {IMAGE_TYPE} topic {named!r} in the bag; it holds:\n{describe_topics(reader)}")
    if thermal is not None and thermal == rgb:
        raise BagError(f"{thermal!r} is named as thermal and as RGB; the bag holds:\n{describe_topics(reader)}")

    def choose(words: tuple[str, ...], taken: str | None) -> str | None:
        found = [name for name in images if name != taken and any(word in name.lower() for word in words)]
        return found[0] if len(found) == 1 else None

    thermal = thermal or choose(("thermal", "infrared", "lwir", "/ir", "boson", "lepton", "optris"), rgb)
    rgb = rgb or choose(("rgb", "color", "colour", "visible", "camera"), thermal)
    if thermal is None or rgb is None:
        missing = " and ".join(name for name, topic in (("thermal", thermal), ("rgb", rgb)) if topic is None)
        raise BagError(
            f"cannot tell which topic is {missing}: name it with --thermal-topic / --rgb-topic "
            f"(make demo: THERMAL_TOPIC=, RGB_TOPIC=). The bag holds:\n{describe_topics(reader)}"
        )
    return thermal, rgb


@contextmanager
def create_bag(path: Path) -> Iterator[Writer]:
    """Create a recording: a single file for ``.mcap`` and ``.db3``, an mcap bag folder for any other name.

    It appears under its name only when it is complete; a recording that stood there before is replaced.

    Raises:
        BagError: a folder stands there that is no recording; it is left alone.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / "metadata.yaml").is_file():
        raise BagError(f"{path} is a folder that holds other things than a bag; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".bag-") as scratch:
        folder = Path(scratch) / path.stem
        plugin = _SUFFIXES.get(path.suffix, StoragePlugin.MCAP)
        with Writer(folder, version=_VERSION, storage_plugin=plugin) as writer:
            yield writer
        if path.is_dir():
            shutil.rmtree(path)
        if path.suffix in _SUFFIXES:
            (content,) = folder.glob(f"*{path.suffix}")
            content.replace(path)
        else:
            path.unlink(missing_ok=True)
            folder.replace(path)


def message_types(folders: Iterable[Path] = (), packages: Collection[str] = ()) -> Typestore:
    """Return the standard message types, with those of further packages.

    Args:
        folders: searched for ``PACKAGE/msg/*.msg``; the first that has a package wins.
        packages: names of the further packages.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for folder in folders:
        for file in sorted(file for package in packages for file in (folder / package / "msg").glob("*.msg")):
            name = f"{file.parent.parent.name}/msg/{file.stem}"
            if name not in store.fielddefs and name not in types:
                types.update(get_types_from_msg(file.read_text("utf-8"), name))
    store.register(types)
    return store


__all__ = [
    "IMAGE_TYPE",
    "AnyReader",
    "BagError",
    "choose_image_topics",
    "create_bag",
    "describe_topics",
    "message_types",
    "open_bag",
    "read_message",
    "read_messages",
]
