"""The interfaces that the workspace builds: ours on the wire, the stand-ins against the real packages."""

import os

import pytest
import rclpy
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from tf2_msgs.msg import TFMessage
from vision_msgs import msg as vision_msgs

from irvf_msgs.msg import ActiveInstruction, FusionStatus
from irvf_msgs.srv import EstimateDelay, SetInstruction

# Type hashes (REP 2016) of ros-perception/vision_msgs 4.1.1, tag 4.1.1, built with Jazzy's generators: the field
# "hash_string" of the message itself in share/vision_msgs/msg/NAME.json.
VISION_MSGS_HASHES = {
    "BoundingBox2D": "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "BoundingBox2DArray": "RIHS01_2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691",
    "BoundingBox3D": "RIHS01_bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "BoundingBox3DArray": "RIHS01_a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6",
    "Classification": "RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3D": "RIHS01_ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "ObjectHypothesis": "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "Point2D": "RIHS01_eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "Pose2D": "RIHS01_b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "VisionClass": "RIHS01_1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
    "VisionInfo": "RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


@pytest.fixture
def node():
    rclpy.init()
    node = rclpy.create_node("interface_test")
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.mark.skipif(os.environ.get("ROS_DISTRO") == "humble", reason="Humble has no type hashes")
@pytest.mark.parametrize("name", sorted(VISION_MSGS_HASHES))
def test_vision_msgs_has_the_type_hash_of_the_real_package(node, name):
    # The hash that DDS peers compare: what the middleware announces for a publisher of that type.
    publisher = node.create_publisher(getattr(vision_msgs, name), "probe", 1)
    (endpoint,) = node.get_publishers_info_by_topic("probe")
    node.destroy_publisher(publisher)
    assert str(endpoint.topic_type_hash) == VISION_MSGS_HASHES[name]


def test_vision_msgs_holds_every_message_of_the_real_package():
    assert set(VISION_MSGS_HASHES) <= set(dir(vision_msgs))


@pytest.mark.skipif(os.environ.get("ROS_DISTRO") == "humble", reason="Humble has no type hashes")
def test_tf2_msgs_has_the_type_hash_of_the_real_package(node):
    publisher = node.create_publisher(TFMessage, "probe", 1)
    (endpoint,) = node.get_publishers_info_by_topic("probe")
    node.destroy_publisher(publisher)
    # rosbags carries the definitions of Jazzy's own packages and hashes them by REP 2016 itself.
    assert str(endpoint.topic_type_hash) == get_typestore(Stores.ROS2_JAZZY).hash_rihs01("tf2_msgs/msg/TFMessage")


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def test_fusion_status_arrives_as_it_was_sent():
    message = FusionStatus(
        gap_ms=-12.5,
        outcome=FusionStatus.REFUSED,
        message="zero-sized image",
        instruction_sequence=2**32 - 1,
        task="detection",
        detections=3,
        stages=["decode", "fuse"],
        stage_ms=[0.5, 30.25],
        latency_ms=41.0,
        misalignment_px=2.5,
    )
    message.header.frame_id = "rgb_optical_frame"
    message.thermal_stamp.sec, message.thermal_stamp.nanosec = 12, 999_999_999
    arrived = over_the_wire(message)
    assert arrived == message
    assert (arrived.gap_ms, list(arrived.stages), list(arrived.stage_ms)) == (-12.5, ["decode", "fuse"], [0.5, 30.25])


def test_active_instruction_carries_text_beyond_ascii():
    message = ActiveInstruction(
        text="détecte les piétons 行人", accepted=True, classes=["person"], confidence=0.75, prompt="task"
    )
    arrived = over_the_wire(message)
    assert arrived == message
    assert arrived.prompt == "task"
    assert arrived.text == "détecte les piétons 行人"


def test_set_instruction_answers():
    assert over_the_wire(SetInstruction.Request(text="find the people")).text == "find the people"
    answer = SetInstruction.Response(accepted=False, message="not understood; known: detection, viewing", sequence=4)
    assert over_the_wire(answer) == answer


def test_estimate_delay_answers():
    request = EstimateDelay.Request(seconds=8.0, apply=True)
    assert over_the_wire(request) == request
    answer = EstimateDelay.Response(success=True, message="of 120 intervals", thermal_delay=0.0625, confidence=0.5)
    assert over_the_wire(answer) == answer
