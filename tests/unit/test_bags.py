"""Recordings without ROS: written, read, damaged, replaced, and told apart by their topics."""

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from irvf.bags import (
    IMAGE_TYPE,
    BagError,
    choose_image_topics,
    create_bag,
    describe_topics,
    message_types,
    open_bag,
    read_messages,
)

STORE = get_typestore(Stores.ROS2_JAZZY)
STRING = "std_msgs/msg/String"
NAMES = ["drive.mcap", "drive.db3", "drive"]


def image(level, stamp):
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    pixels = np.full(6 * 8, level, np.uint8)
    return STORE.types[IMAGE_TYPE](header, height=6, width=8, encoding="mono8", is_bigendian=0, step=8, data=pixels)


def write(path, topics=("/thermal/image_raw", "/rgb/image_raw"), count=5, other=()):
    with create_bag(path) as writer:
        connections = [writer.add_connection(topic, IMAGE_TYPE, typestore=STORE) for topic in topics]
        for topic in other:
            writer.add_connection(topic, STRING, typestore=STORE)
        for index in range(count):
            for connection in connections:
                stamp = 10**9 + index * 10**8
                writer.write(connection, stamp, STORE.serialize_cdr(image(index, stamp), IMAGE_TYPE))
    return path


def refusal(path, *topics):
    with pytest.raises(BagError) as raised, open_bag(path) as reader:
        choose_image_topics(reader, *(topics or (None, None)))
    return str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read(tmp_path, name):
    path = write(tmp_path / "new folder" / name)
    assert path.is_dir() == (name == "drive")
    with open_bag(path) as reader:
        read = [
            (connection.topic, stamp, reader.deserialize(data, connection.msgtype))
            for connection, stamp, data in reader.messages()
        ]
    assert len(read) == 10
    for topic, stamp, message in read:
        assert topic in ("/thermal/image_raw", "/rgb/image_raw")
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamp
        assert (message.height, message.width, message.encoding) == (6, 8, "mono8")
        assert (message.data == (stamp - 10**9) // 10**8).all()
    assert [entry.name for entry in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_an_older_recording_is_replaced(tmp_path, name):
    write(tmp_path / name, count=5)
    with open_bag(write(tmp_path / name, count=2)) as reader:
        assert reader.message_count == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_that_fails_leaves_what_stood_there(tmp_path, name):
    path = write(tmp_path / name, count=3)
    with pytest.raises(RuntimeError, match="camera"), create_bag(path):
        raise RuntimeError("camera lost")
    with open_bag(path) as reader:
        assert reader.message_count == 6
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["pictures", "pictures.mcap"])
def test_a_folder_that_is_no_bag_is_never_replaced(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(BagError, match="other things than a bag"):
        write(folder)
    assert (folder / "holiday.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["drive.mcap", "drive.db3"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated"])
def test_a_damaged_file_is_refused(tmp_path, name, damage):
    path = write(tmp_path / name, count=200)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "garbage": b"x" * 4096, "truncated": whole[: len(whole) // 2]}[damage])
    said = refusal(path)
    assert str(path) in said
    assert "\n" not in said


def test_a_folder_without_metadata_is_refused(tmp_path):
    assert "cannot be read as a rosbag2" in refusal(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.mcap")


def test_a_ros_1_bag_says_how_to_convert_it(tmp_path):
    path = tmp_path / "old.bag"
    path.write_bytes(b"#ROSBAG V2.0\n")
    said = refusal(path)
    assert "ROS 1" in said
    assert f"rosbags-convert --src {path}" in said


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (("/thermal/image_raw", "/rgb/image_raw"), ("/thermal/image_raw", "/rgb/image_raw")),
        (("/camera/color/image", "/boson/image"), ("/boson/image", "/camera/color/image")),
        (("/camera/ir", "/camera/visible"), ("/camera/ir", "/camera/visible")),
        (("/camera/image_raw", "/lwir/image_raw"), ("/lwir/image_raw", "/camera/image_raw")),
    ],
)
def test_topics_are_chosen_by_name(tmp_path, topics, expected):
    with open_bag(write(tmp_path / "drive.mcap", topics)) as reader:
        assert choose_image_topics(reader, None, None) == expected


def test_named_topics_are_taken(tmp_path):
    with open_bag(write(tmp_path / "drive.mcap", ("/a", "/b"))) as reader:
        assert choose_image_topics(reader, "/b", "/a") == ("/b", "/a")


@pytest.mark.parametrize(
    ("topics", "named", "reason"),
    [
        (("/a", "/b"), (None, None), "cannot tell which topic is thermal and rgb"),
        (("/thermal/left", "/thermal/right", "/rgb/image"), (None, None), "which topic is thermal:"),
        (("/thermal/image", "/rgb/left", "/rgb/right"), (None, None), "which topic is rgb:"),
        (("/thermal/image", "/rgb/image"), ("/heat", None), "no sensor_msgs/msg/Image topic '/heat'"),
        (("/thermal/image", "/rgb/image"), (None, "/words"), "no sensor_msgs/msg/Image topic '/words'"),
        (("/thermal/image", "/rgb/image"), ("/rgb/image", "/rgb/image"), "named as thermal and as RGB"),
    ],
)
def test_where_the_choice_is_not_clear_the_topics_are_listed(tmp_path, topics, named, reason):
    said = refusal(write(tmp_path / "drive.mcap", topics, other=("/words",)), *named)
    assert reason in said
    for topic in topics:
        assert f"  {topic}  {IMAGE_TYPE}  5 messages" in said
    assert f"  /words  {STRING}  0 messages" in said


def test_an_empty_bag_holds_nothing(tmp_path):
    path = write(tmp_path / "drive.mcap", ())
    with open_bag(path) as reader:
        assert "(nothing)" in describe_topics(reader)


def test_messages_of_further_packages_are_read_from_their_definitions(tmp_path):
    folder = tmp_path / "demo_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder / "Reading.msg").write_text("std_msgs/Header header\nfloat32 degrees\n")
    (folder / "Log.msg").write_text("Reading[] readings\n")
    store = message_types([tmp_path], ["demo_msgs"])
    header = image(0, 5).header
    reading = store.types["demo_msgs/msg/Reading"](header=header, degrees=36.5)
    log = store.types["demo_msgs/msg/Log"](readings=[reading])
    data = store.serialize_cdr(log, "demo_msgs/msg/Log")
    assert store.deserialize_cdr(data, "demo_msgs/msg/Log").readings[0].degrees == 36.5


def test_a_damaged_recording_says_so_where_the_damage_is(tmp_path):
    path = write(tmp_path / "drive.mcap", count=50)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with open_bag(path) as reader, pytest.raises(BagError, match=r"drive\.mcap.* damaged"):
        list(read_messages(reader))
