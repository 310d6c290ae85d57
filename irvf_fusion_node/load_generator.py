"""Two cameras played to a running fusion node, and an account of what comes back."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import String
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray

from irvf.evaluation.machine import read_load
from irvf.evaluation.node_timing import OUTCOMES, RateRecord, busy_percent, due_ns
from irvf_fusion_node.camera_messages import read_stamp, with_stamp
from irvf_msgs.msg import ActiveInstruction, FusionStatus
from irvf_msgs.srv import SetInstruction

NODE = "irvf_fusion_node"
OUTPUTS = {
    "image": Image,
    "detections": Detection2DArray,
    "segmentation": Image,
    "saliency": Image,
    "overlay": Image,
}
_WARM_UP_HZ = 5.0
_WARM_UP_PAIRS = 5
_SETTLE_WITHIN = 10.0
_QUIET = 1.0
_BASELINE = 1.0
_RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
_EVERY = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
RELIABILITIES = {"reliable": _RELIABLE, "best_effort": qos_profile_sensor_data}
"""How cameras publish: as most drivers and the player of bags do, or as the others."""


class BenchError(RuntimeError):
    """The node did not come up, or does not do what was asked for."""


def sentences() -> list[str]:
    """Return instructions that ask for detection, 500 of them, each of other words, in a mixed order."""
    verbs = ("find", "detect", "locate", "spot", "look for", "search for", "show me", "box", "point out", "where are")
    objects = ("people", "pedestrians", "cyclists", "cars", "vehicles", "bikes", "hikers", "workers", "kids", "humans")
    places = ("", "please", "on the road", "tonight", "in this scene")
    every = [" ".join(filter(None, words)) for words in itertools.product(verbs, objects, places)]
    return [every[number * 211 % len(every)] for number in range(len(every))]  # 211 shares no factor with 500


class LoadGenerator(Node):
    """Plays the cameras, hears what is published, calls a service once a second and reads the node's load.

    Args:
        namespace: of the fusion node.
        pairs: serialised thermal and RGB images, played over and over.
        topics: outputs to subscribe to.
        pid: process of the fusion node.
        instruction: in force, and given again and again by service.
        reliability: of the cameras, one of :data:`RELIABILITIES`.
        instructions: how many new ones are given a second; 0 for none.

    Attributes:
        engine: what runs the networks, as the node says; empty before the first pair.
    """

    def __init__(
        self,
        namespace: str,
        pairs: Sequence[tuple[bytes, bytes]],
        topics: Sequence[str],
        pid: int,
        instruction: str,
        *,
        reliability: str,
        instructions: float = 0.0,
    ) -> None:
        super().__init__("irvf_bench", start_parameter_services=False, enable_rosout=False)
        self.namespace = namespace
        self._pairs = itertools.cycle(pairs)
        self._topics = tuple(topics)
        self._pid = pid
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._record: RateRecord | None = None
        self._is_playing = False
        self._statuses: list[bytes] = []
        self.engine = ""
        self._thermal, self._rgb = (
            self.create_publisher(Image, f"{namespace}/{camera}/image_raw", RELIABILITIES[reliability])
            for camera in ("thermal", "rgb")
        )
        for topic in topics:
            self.create_subscription(
                OUTPUTS[topic], f"{namespace}/{topic}", partial(self._on_output, topic), _RELIABLE, raw=True
            )
        self.create_subscription(FusionStatus, f"{namespace}/status", self._on_status, _EVERY, raw=True)
        services = {
            "get_parameters": (GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=["model"])),
            "set_instruction": (SetInstruction, "set_instruction", SetInstruction.Request(text=instruction)),
        }
        self._probes = {
            name: (self.create_client(kind, f"{namespace}/{path}"), request)
            for name, (kind, path, request) in services.items()
        }
        self._next_probe = itertools.cycle(self._probes)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._on_second, clock=steady)
        self._sentences: Iterator[str] = itertools.cycle(sentences())
        self._asked: dict[str, int] = {}
        if instructions:
            self._instruct = self.create_publisher(String, f"{namespace}/instruction", _RELIABLE)
            self.create_subscription(ActiveInstruction, f"{namespace}/active_instruction", self._on_answer, _RELIABLE)
            self.create_timer(1 / instructions, self._on_instruction, clock=steady)

    # Callbacks of the executor: they only store

    def _on_output(self, topic: str, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._record is not None:
            self._record.arrivals[topic].setdefault(read_stamp(data), now)

    def _on_status(self, data: bytes) -> None:
        self._statuses.append(data)  # read when the rate is over

    def _on_second(self) -> None:
        record = self._record
        if record is None or not self._is_playing:
            return
        self._read_load(record)
        name = next(self._next_probe)
        client, request = self._probes[name]
        record.calls[name] += 1
        started = time.monotonic_ns()

        def answered(_future: Any) -> None:
            record.services[name].append((time.monotonic_ns() - started) / 1e6)

        client.call_async(request).add_done_callback(answered)

    def _on_instruction(self) -> None:
        record = self._record
        if record is None or not self._is_playing:
            return
        text = next(self._sentences)
        self._asked[text] = time.monotonic_ns()
        record.instructed.append(self._asked[text])
        self._instruct.publish(String(data=text))

    def _on_answer(self, answer: ActiveInstruction) -> None:
        asked = self._asked.pop(answer.text, None)
        if asked is not None and self._record is not None:
            self._record.answered_instructions.append((time.monotonic_ns() - asked) / 1e6)

    def _read_load(self, record: RateRecord) -> None:
        reading = read_load(self._pid)
        if reading is not None:
            record.readings.append(reading)

    # What the load test does, in the main thread

    def call(self, kind: type, path: str, request: Any, timeout: float) -> Any:
        """Call a service of the fusion node.

        Raises:
            BenchError: no answer within ``timeout`` seconds.
        """
        client = self.create_client(kind, f"{self.namespace}/{path}")
        limit = time.monotonic() + timeout
        answered = threading.Event()
        try:
            if client.wait_for_service(timeout):
                future = client.call_async(request)
                future.add_done_callback(lambda _future: answered.set())
                if answered.wait(max(0.0, limit - time.monotonic())):
                    return future.result()
        finally:
            self.destroy_client(client)
        raise BenchError(f"the node's service {path} did not answer within {timeout:g} s")

    def wait_until_active(self, timeout: float) -> None:
        """Wait until the node is active and both sides have found each other.

        Raises:
            BenchError: it is not within ``timeout`` seconds, or another one is there as well.
        """
        limit = time.monotonic() + timeout
        state = self.call(GetState, f"{NODE}/get_state", GetState.Request(), timeout).current_state.label
        if state != "active":
            raise BenchError(f"the node is {state}, not active")
        while not (
            self._thermal.get_subscription_count()
            and self._rgb.get_subscription_count()
            and all(self.count_publishers(f"{self.namespace}/{topic}") for topic in (*self._topics, "status"))
            and all(client.service_is_ready() for client, _ in self._probes.values())
        ):
            if time.monotonic() > limit:
                raise BenchError(f"the node does not listen within {timeout:g} s")
            time.sleep(0.05)
        others = [publisher.topic_name for publisher in (self._thermal, self._rgb)]
        if (
            any(self.count_publishers(topic) > 1 for topic in others)
            or self.count_publishers(f"{self.namespace}/status") > 1
        ):
            raise BenchError("another node or camera is in this ROS_DOMAIN_ID; choose one of your own")

    def parameters(self, timeout: float) -> dict[str, Any]:
        """Return all parameters of the node with the values in force."""
        listed = self.call(ListParameters, f"{NODE}/list_parameters", ListParameters.Request(), timeout)
        names = sorted(listed.result.names)
        answer = self.call(GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=names), timeout)
        values = [parameter_value_to_python(value) for value in answer.values]
        return {
            name: value if isinstance(value, bool | int | float | str | None) else list(value)
            for name, value in zip(names, values, strict=True)
        }

    def instruct(self, text: str, timeout: float) -> None:
        """Give the instruction.

        Raises:
            BenchError: the node does not understand it.
        """
        answer = self.call(SetInstruction, "set_instruction", SetInstruction.Request(text=text), timeout)
        if not answer.accepted:
            raise BenchError(f"instruction refused: {answer.message}")

    def measure_idle(self) -> float | None:
        """Return how busy the machine is while the node waits for images, 0..100; None where it does not say."""
        before = read_load(self._pid)
        time.sleep(_BASELINE)
        after = read_load(self._pid)
        return busy_percent([before, after])[0] if before and after else None

    def warm_up(self, timeout: float) -> None:
        """Play slowly until some pairs are fused, which do not count.

        Raises:
            BenchError: none is within ``timeout`` seconds.
        """
        limit = time.monotonic() + timeout
        fused = 0
        while fused < _WARM_UP_PAIRS:
            if time.monotonic() > limit:
                raise BenchError(f"the node fuses nothing within {timeout:g} s")
            record = self.play(_WARM_UP_HZ, 1.0)
            fused += sum(outcome == "fused" for outcome in record.outcomes.values())

    def play(self, rate: float, seconds: float) -> RateRecord:
        """Play pairs at one rate, wait for what is still under way, and return what was sent and heard."""
        # The executor's thread fills what stands here, while this one looks at it: no key is added later.
        record = RateRecord(
            rate,
            arrivals={topic: {} for topic in self._topics},
            services={name: [] for name in self._probes},
            calls=Counter(dict.fromkeys(self._probes, 0)),
        )
        self._statuses = []
        self._record, self._is_playing = record, True
        self._read_load(record)
        begin = time.monotonic_ns()
        count = max(2, round(rate * seconds))
        with tqdm(total=count, desc=f"{rate:g} Hz", unit="pair", file=sys.stdout, leave=False, disable=None) as bar:
            for number in range(count):
                due = begin + due_ns(number, rate)
                self._send(record, due)
                bar.update()
                bar.set_postfix(heard=len(record.arrivals[self._topics[0]]), refresh=False)
        self._read_load(record)
        self._is_playing = False
        self._settle(record)
        self._record = None
        self.engine = _read_statuses(record, self._statuses) or self.engine
        return record

    def _send(self, record: RateRecord, due: int) -> None:
        thermal, rgb = next(self._pairs)
        stamp = self._epoch + due
        thermal, rgb = with_stamp(thermal, stamp), with_stamp(rgb, stamp)
        time.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
        record.late_ms.append((time.monotonic_ns() - due) / 1e6)
        self._thermal.publish(thermal)
        record.sent[stamp] = time.monotonic_ns()
        self._rgb.publish(rgb)

    def _settle(self, record: RateRecord) -> None:
        """Wait until every pair is answered, or nothing comes any more."""
        limit = time.monotonic() + _SETTLE_WITHIN
        heard, last = -1, time.monotonic()
        while time.monotonic() < min(limit, last + _QUIET):
            now = len(self._statuses) + sum(map(len, record.arrivals.values()))
            open_calls = sum(record.calls.values()) > sum(map(len, record.services.values()))
            if record.answered() == len(record.sent) <= len(self._statuses) and not open_calls:
                return
            if now != heard or open_calls:
                heard, last = now, time.monotonic()
            time.sleep(0.05)


def _read_statuses(record: RateRecord, statuses: Sequence[bytes]) -> str:
    """Enter what the node says of the pairs of a record; return what it says of its engine."""
    engine = ""
    for data in statuses:
        stamp = read_stamp(data)
        if stamp not in record.sent:
            continue
        status = deserialize_message(data, FusionStatus)
        engine = status.engine
        record.outcomes[stamp] = OUTCOMES[status.outcome]
        if status.outcome == FusionStatus.FUSED:
            record.detections.append(int(status.detections))
            stages = dict(zip(status.stages, status.stage_ms, strict=True))
            for name, milliseconds in (*stages.items(), ("total", status.latency_ms)):
                record.stages.setdefault(name, []).append(float(milliseconds))
    return engine
