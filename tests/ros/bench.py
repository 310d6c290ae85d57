"""A fusion node on real topics, and a second node that plays the cameras and keeps what is published."""

import gc
import threading
import time
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection2DArray, LabelInfo

from irvf_fusion_node.conversions import frame_to_image, ns_to_stamp, stamp_to_ns
from irvf_fusion_node.node import FusionNode
from irvf_msgs.msg import ActiveInstruction, FusionStatus
from irvf_msgs.srv import SetInstruction

NAMESPACE = "/fusion"
THERMAL, RGB = f"{NAMESPACE}/thermal/image_raw", f"{NAMESPACE}/rgb/image_raw"
TIMEOUT = 15.0
PERIOD = 33_333_333
"""Nanoseconds between two frames of the cameras."""
START = 1_700_000_000_000_000_000

RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# Nothing is to get lost between camera and node, so that every message can be accounted for.
LOSSLESS = {
    f"qos_overrides.{topic}.subscription.{policy}": value
    for topic in (THERMAL, RGB)
    for policy, value in (("reliability", "reliable"), ("depth", 1000))
}
HEADS = ("detector", "segmentation.model", "saliency.model")
PLAIN = {
    "model": "max",
    **dict.fromkeys(HEADS, ""),
    "instruction.initial": "viewing",
    "thermal.freeze_after": 0.0,  # the thermal images below repeat, as those of a closed shutter do
}
"""Parameters of a node that needs no network."""

OUTPUTS = {
    "image": (Image, RELIABLE),
    "camera_info": (CameraInfo, RELIABLE),
    "detections": (Detection2DArray, RELIABLE),
    "segmentation": (Image, RELIABLE),
    "saliency": (Image, RELIABLE),
    "label_info": (LabelInfo, LATCHED),
    "status": (FusionStatus, RELIABLE),
    "active_instruction": (ActiveInstruction, LATCHED),
}
WARN, ERROR = 30, 40
"""Levels of rcl_interfaces/Log, which are numbers or bytes, depending on the distribution."""
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def image(pixels, encoding, stamp, frame_id):
    return frame_to_image(pixels, encoding, Header(stamp=ns_to_stamp(stamp), frame_id=frame_id))


def thermal_image(stamp, height=48, width=64):
    rows, columns = np.mgrid[:height, :width]
    return image((30000 + 20 * rows + 10 * columns).astype(np.uint16), "mono16", stamp, "thermal_optical")


def rgb_image(stamp, height=96, width=128):
    pixels = np.random.default_rng(stamp % 2**32).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return image(pixels, "rgb8", stamp, "rgb_optical")


class Observer:
    """Plays the cameras and keeps, topic by topic, all that it hears."""

    def __init__(self, context):
        self.node = rclpy.create_node("observer", context=context)
        self.heard = defaultdict(list)
        self._changed = threading.Condition()
        self._clients = {}
        publish = self.node.create_publisher
        self.thermal = publish(Image, THERMAL, RELIABLE)
        self.rgb = publish(Image, RGB, RELIABLE)
        self.camera_info = publish(CameraInfo, f"{NAMESPACE}/rgb/camera_info", RELIABLE)
        self.thermal_camera_info = publish(CameraInfo, f"{NAMESPACE}/thermal/camera_info", RELIABLE)
        self.instruction = publish(String, f"{NAMESPACE}/instruction", RELIABLE)
        for name, (kind, qos) in OUTPUTS.items():
            self.listen(name, kind, qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep("diagnostics"), RELIABLE)
        self.node.create_subscription(Log, "/rosout", self._keep("log"), LATCHED)

    def listen(self, name, kind, qos=RELIABLE):
        return self.node.create_subscription(kind, f"{NAMESPACE}/{name}", self._keep(name), qos)

    def _keep(self, name):
        def keep(message):
            with self._changed:
                self.heard[name].append(message)
                self._changed.notify_all()

        return keep

    def wait_for(self, condition, what, timeout=TIMEOUT):
        """Wait until the condition is true of what was heard; return its value."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (value := condition()):
                left = end - time.monotonic()
                assert left > 0, f"not within {timeout} s: {what}"
                # Some conditions are about the graph, which no message tells of.
                self._changed.wait(min(left, 0.05))
            return value

    def client(self, kind, name, timeout=TIMEOUT):
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"{NAMESPACE}/{name}")
        assert self._clients[name].wait_for_service(timeout), f"no service {name}"
        return self._clients[name]

    def call(self, kind, name, request, timeout=TIMEOUT):
        client = self.client(kind, name, timeout)
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _future: answered.set())
        assert answered.wait(timeout), f"{name} did not answer within {timeout} s"
        return future.result()

    # What a user does

    def change_state(self, transition):
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return self.call(ChangeState, "irvf_fusion_node/change_state", request).success

    def state(self):
        return self.call(GetState, "irvf_fusion_node/get_state", GetState.Request()).current_state.label

    def activate(self):
        assert self.change_state("configure"), self.log_texts()
        assert self.change_state("activate"), self.log_texts()
        self.wait_for(self.is_connected, "the node subscribes and publishes")

    def is_connected(self):
        cameras = (self.thermal, self.rgb, self.camera_info, self.thermal_camera_info, self.instruction)
        heard = all(publisher.get_subscription_count() for publisher in cameras)
        return heard and all(self.node.count_publishers(f"{NAMESPACE}/{name}") for name in OUTPUTS)

    def set_parameter(self, name, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (result,) = self.call(SetParameters, "irvf_fusion_node/set_parameters", request).results
        return result

    def get_parameter(self, name, timeout=TIMEOUT):
        request = GetParameters.Request(names=[name])
        return self.call(GetParameters, "irvf_fusion_node/get_parameters", request, timeout).values[0]

    def describe_parameters(self, names):
        request = DescribeParameters.Request(names=list(names))
        return self.call(DescribeParameters, "irvf_fusion_node/describe_parameters", request).descriptors

    def instruct(self, text):
        """Publish a text and return the node's answer to it."""
        known = len(self.heard["active_instruction"])
        self.instruction.publish(String(data=text))
        self.wait_for(lambda: len(self.heard["active_instruction"]) > known, "an answer to the instruction")
        return self.heard["active_instruction"][-1]

    def set_instruction(self, text, timeout=TIMEOUT):
        return self.call(SetInstruction, "set_instruction", SetInstruction.Request(text=text), timeout)

    def send(self, thermal=None, rgb=None):
        if thermal is not None:
            self.thermal.publish(thermal)
        if rgb is not None:
            self.rgb.publish(rgb)

    def send_pair(self, stamp):
        self.send(thermal_image(stamp), rgb_image(stamp))

    def status_of(self, stamp):
        return next((status for status in self.heard["status"] if stamp_to_ns(status.header.stamp) == stamp), None)

    def fuse(self, stamp, thermal=None, rgb=None, expected=()):
        """Send a pair, wait until it is fused, and return what was published of it.

        Image and detections come of every pair; ``expected`` names what else must.
        """
        self.send(thermal or thermal_image(stamp), rgb or rgb_image(stamp))
        status = self.wait_for(lambda: self.status_of(stamp), f"a status of the pair at {stamp}")
        assert status.outcome == FusionStatus.FUSED, status.message

        wanted = ("image", "detections", *expected)

        def outputs():
            found = {name: [m for m in self.heard[name] if stamp_to_ns(m.header.stamp) == stamp] for name in wanted}
            return found if all(found.values()) else None

        found = self.wait_for(outputs, f"{', '.join(wanted)} of the pair at {stamp}")
        return SimpleNamespace(status=status, **{name: messages[0] for name, messages in found.items()})

    # What a user sees

    def log_texts(self, level=WARN):
        return [entry.msg for entry in self.heard["log"] if entry.level >= level and "irvf_fusion_node" in entry.name]

    def diagnostics(self, condition=bool, what="diagnostics"):
        """Wait for diagnostics newer than this call of which the condition is true; return them part by part."""
        known = len(self.heard["diagnostics"])

        def newest():
            for message in self.heard["diagnostics"][known:]:
                parts = {
                    status.name.rpartition(": ")[2]: SimpleNamespace(
                        level=status.level,
                        message=status.message,
                        name=status.name,
                        values={value.key: value.value for value in status.values},
                    )
                    for status in message.status
                }
                if condition(parts):
                    return parts
            return None

        return self.wait_for(newest, what)

    def settled(self):
        """Wait until no frame waits any more; return the account of each stream and the pair counts."""
        parts = self.diagnostics(
            lambda parts: all(account(parts, topic)["waiting"] == 0 for topic in (THERMAL, RGB)), "no frame waits"
        )
        pairs = {name: int(n) for name, n in parts["fusion"].values.items() if name.startswith("pairs.")}
        return SimpleNamespace(thermal=account(parts, THERMAL), rgb=account(parts, RGB), pairs=pairs, parts=parts)


def account(parts, topic):
    values = parts["input streams"].values
    counts = {k[len(topic) + 1 :]: v for k, v in values.items() if k.startswith(f"{topic}.")}
    return defaultdict(int, {name: int(count) for name, count in counts.items() if name != "lost_s"})


def lost(stream_account):
    """What an account names as dropped or refused, by reason."""
    return {name: n for name, n in stream_account.items() if name.startswith(("dropped.", "refused."))}


class Spinning:
    """An executor with one node in a thread of its own; what a callback raises ends the test."""

    def __init__(self, node, context):
        self.node = node
        self.error = None
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=f"spin {node.get_name()}", daemon=True)
        self._thread.start()

    def _spin(self):
        try:
            while not self._ended.is_set():
                self._executor.spin_once(timeout_sec=0.1)
        except Exception as error:  # noqa: BLE001 - raised again by close
            self.error = error

    def close(self):
        self._ended.set()
        self._thread.join(TIMEOUT)
        self._executor.shutdown()
        self.node.destroy_node()
        if self.error:
            raise self.error


class Bench(Observer):
    """An observer and a fusion node in this process, each with its own executor."""

    def __init__(self, parameters):
        self.context = Context()
        rclpy.init(context=self.context, args=[])
        super().__init__(self.context)
        overrides = [Parameter(name, value=value) for name, value in {**LOSSLESS, **PLAIN, **parameters}.items()]
        self.fusion = FusionNode(context=self.context, namespace=NAMESPACE, parameter_overrides=overrides)
        self._spinning = [Spinning(self.fusion, self.context), Spinning(self.node, self.context)]

    def close(self):
        """Shut the node down by its service; what one of its callbacks raised comes out here."""
        if not self._spinning:
            return
        try:
            if self._spinning[0].error is None:
                request = ChangeState.Request(transition=Transition(label="shutdown"))
                self.call(ChangeState, "irvf_fusion_node/change_state", request)
        finally:
            try:
                for spinning in self._spinning:
                    spinning.close()
            finally:
                rclpy.shutdown(context=self.context)
                # What rclpy's nodes hold in reference cycles would stay on the network, into the next test.
                del self.fusion, self.node
                self._spinning.clear()
                self._clients.clear()
                gc.collect()
