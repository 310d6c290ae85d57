"""Plays the two cameras of a bag over real topics with ``/clock``, and records what the fusion node answers.

Started by ``irvf replay``. Where ``ros2 bag`` is at hand, ``ros2 bag play --clock`` feeds the node as well.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray

from irvf.bags import AnyReader, create_bag, message_types, open_bag, read_messages
from irvf_fusion_node.conversions import ns_to_stamp
from irvf_msgs.msg import ActiveInstruction, FusionStatus

RECORDED = {
    "image": Image,
    "camera_info": CameraInfo,
    "detections": Detection2DArray,
    "overlay": Image,
    "status": FusionStatus,
    "active_instruction": ActiveInstruction,
    "/diagnostics": DiagnosticArray,
}
QUIET_AFTER = 5.0
"""Seconds without an answer after which the node is taken to be done, or twice its longest pause while it worked."""
_DEEP = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class PlayerError(RuntimeError):
    """The node did not come up, or did not listen."""


def _interface_folders() -> list[Path]:
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    return [prefix / "share" for prefix in prefixes if (prefix / "share").is_dir()]


class BagPlayer(Node):
    """Publishes messages of a bag as they are, and keeps what the fusion node publishes.

    Args:
        namespace: of the fusion node.
        writer: open bag that takes the answers.
        start_time: of the bag that is played, in ns: answers are recorded in its time.
    """

    def __init__(self, namespace: str, writer: Any, start_time: int) -> None:
        super().__init__("irvf_bag_player")
        self.answers: Counter[str] = Counter()
        self.last_answer = time.monotonic()
        self.longest_pause = 0.0
        self.bag_time = start_time
        self._writer = writer
        self._lock = threading.Lock()
        self._image_publishers: dict[str, Any] = {}
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10)
        self._instruction = self.create_publisher(String, f"{namespace}/instruction", _DEEP)
        # Only what is recorded: every package of the installation would take a while to read.
        packages = {"irvf_msgs", "vision_msgs"}
        store = message_types(_interface_folders(), packages)
        for name, kind in RECORDED.items():
            topic = name if name.startswith("/") else f"{namespace}/{name}"
            type_name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
            connection = writer.add_connection(topic, type_name, typestore=store)
            qos = _LATCHED if name == "active_instruction" else _DEEP
            self.create_subscription(kind, topic, partial(self._record, name, connection), qos, raw=True)

    def _record(self, name: str, connection: Any, data: bytes) -> None:
        with self._lock:
            self._writer.write(connection, self.bag_time, data)
        self.answers[name] += 1
        if name in ("image", "status"):
            now = time.monotonic()
            if self.answers[name] > 1:
                self.longest_pause = max(self.longest_pause, now - self.last_answer)
            self.last_answer = now

    def offer(self, topic: str, type_name: str) -> None:
        """Make the publisher of a topic of the bag."""
        package, _, name = type_name.split("/")
        profile = _LATCHED if topic == "/tf_static" else _DEEP  # which its subscribers want, or hear nothing
        self._image_publishers[topic] = self.create_publisher(
            getattr(import_module(f"{package}.msg"), name), topic, profile
        )

    def wait_until_heard(self, topics: Sequence[str], timeout: float) -> None:
        """Wait until the node subscribes to the cameras and to instructions.

        Raises:
            PlayerError: it does not within ``timeout`` seconds.
        """
        publishers = [self._image_publishers[topic] for topic in topics] + [self._instruction]
        limit = time.monotonic() + timeout
        while not all(publisher.get_subscription_count() for publisher in publishers):
            if time.monotonic() > limit:
                raise PlayerError(f"nobody subscribed to {', '.join(topics)} within {timeout:.0f} s")
            time.sleep(0.05)

    def play(self, topic: str, stamp: int, data: bytes) -> None:
        """Publish one message and the time it was recorded at."""
        self.bag_time = stamp
        self._clock_publisher.publish(Clock(clock=ns_to_stamp(stamp)))
        self._image_publishers[topic].publish(data)

    def instruct(self, text: str) -> None:
        """Publish an instruction."""
        self._instruction.publish(String(data=text))

    def wait_until_answered(self, pairs: int, limit: float) -> None:
        """Wait until the node has said what became of so many pairs, or falls silent; at most ``limit`` seconds."""
        started = self.last_answer = time.monotonic()
        quiet = max(QUIET_AFTER, 2 * self.longest_pause)
        while self.answers["status"] < pairs and time.monotonic() < min(started + limit, self.last_answer + quiet):
            time.sleep(0.05)
        time.sleep(1.2)  # the diagnostics that count the last pair come once a second


def _play_all(player: BagPlayer, reader: AnyReader, arguments: argparse.Namespace) -> Counter[str]:
    wanted = {arguments.thermal_topic, arguments.rgb_topic, *arguments.extra_topic}
    connections = [connection for connection in reader.connections if connection.topic in wanted]
    for topic, kind in {connection.topic: connection.msgtype for connection in connections}.items():
        player.offer(topic, kind)
    player.wait_until_heard((arguments.thermal_topic, arguments.rgb_topic), arguments.timeout)
    sent: Counter[str] = Counter()
    total = sum(connection.msgcount for connection in connections)
    change = reader.start_time + round(reader.duration * arguments.change_at)
    instructed = not arguments.instruction
    started = time.monotonic()
    with tqdm(total=total, desc="replay", unit="msg", file=sys.stdout, mininterval=0.5) as progress:
        for connection, stamp, data in read_messages(reader, connections):
            if not instructed and stamp >= change:
                player.instruct(arguments.instruction)
                instructed = True
            due = started + (stamp - reader.start_time) / 1e9 / arguments.rate
            time.sleep(max(0.0, due - time.monotonic()))
            player.play(connection.topic, stamp, bytes(data))
            sent[connection.topic] += 1
            progress.update()
            progress.set_postfix(fused=player.answers["image"], refresh=False)
    player.wait_until_answered(min(sent[arguments.thermal_topic], sent[arguments.rgb_topic]), limit=30.0)
    played = sum(sent.values())
    if played < total:
        print(f"{arguments.bag} is damaged: {played} of its {total} messages could be read", file=sys.stderr)
    return sent


def main() -> int:
    """Play, record, and write a JSON report of what was sent; 1 and a message when the node does not listen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--thermal-topic", required=True)
    parser.add_argument("--rgb-topic", required=True)
    parser.add_argument("--extra-topic", action="append", default=[], help="further topics to play, e.g. camera_info")
    parser.add_argument("--namespace", default="/fusion", help="of the fusion node")
    parser.add_argument("--instruction", default="", help="text to publish while the bag plays")
    parser.add_argument("--change-at", type=float, default=0.5, help="when to publish it, as a share of the bag")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the bag's time against real time")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the node")
    parser.add_argument("--record", type=Path, required=True, help="bag to write")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        with open_bag(arguments.bag) as reader, create_bag(arguments.record) as writer:
            player = BagPlayer(arguments.namespace, writer, reader.start_time)
            executor = SingleThreadedExecutor()
            executor.add_node(player)
            spinning = threading.Thread(target=executor.spin, name="recorder", daemon=True)
            spinning.start()
            try:
                sent = _play_all(player, reader, arguments)
            finally:
                executor.shutdown()
                spinning.join(5.0)
                player.destroy_node()
        arguments.report.write_text(json.dumps({"sent": dict(sent), "recorded": dict(player.answers)}), "utf-8")
    except (PlayerError, ValueError) as error:
        print(f"irvf replay: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
