"""The fusion node as a process of its own, all that it says, and whether that is correct."""

import math
import os
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from cameras import NAMESPACE, RELIABLE, RGB_SIZE, Cameras
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import String

from irvf_fusion_node.conversions import stamp_to_ns
from irvf_msgs.msg import FusionStatus
from irvf_msgs.srv import SetInstruction

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_GAP = 20_000_000
START_TIMEOUT = 120.0
NODE = "irvf_fusion_node"
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
}
NEXT = {"unconfigured": "configure", "inactive": "activate"}


class NodeDiedError(RuntimeError):
    """The process has ended."""


class NoAnswerError(RuntimeError):
    """A service did not answer in time."""


@dataclass
class Diagnostics:
    """One message on /diagnostics."""

    arrival: float
    levels: dict
    messages: dict
    values: dict = field(repr=False)

    def counts(self, topic):
        """Return the account of an input topic."""
        start = f"{topic}."
        found = {k[len(start) :]: v for k, v in self.values.get("input streams", {}).items() if k.startswith(start)}
        return Counter({k: int(v) for k, v in found.items() if v.lstrip("-").isdigit()})

    def events(self):
        """Return all counters besides those of the streams: pairs, instructions, parameters, engine."""
        entries = (self.values.get(part, {}) for part in ("engine", "fusion"))
        return Counter({k: int(v) for entry in entries for k, v in entry.items() if v.isdigit()})


def parse_diagnostics(message):
    parts = {status.name.rpartition(": ")[2]: status for status in message.status}
    return Diagnostics(
        time.monotonic(),
        {name: int.from_bytes(part.level, "little") for name, part in parts.items()},
        {name: part.message for name, part in parts.items()},
        {name: {value.key: value.value for value in part.values} for name, part in parts.items()},
    )


def conservation(diagnostics):
    """Return what does not add up in a message: each stream's messages each have one fate."""
    problems = []
    for topic in (f"{NAMESPACE}/{stream}/image_raw" for stream in ("thermal", "rgb")):
        counts = diagnostics.counts(topic)
        fates = sum(n for name, n in counts.items() if name.split(".")[0] in FATES)
        if counts["received"] != fates:
            problems.append(f"{topic}: received {counts['received']}, but its fates are {dict(counts)}")
    return problems


FATES = ("paired", "waiting", "dropped", "refused", "alone")


class NodeUnderTest:
    """Starts the node, drives it and listens to it.

    Args:
        folder: for its log, its models and its faults.
        parameters: of the node.
        rate: of the cameras in Hz.
        environment: of the process, besides this one's.
    """

    def __init__(self, folder, parameters, rate, environment):
        self.folder = folder
        self.control = folder / "engine_fault"
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self.node = rclpy.create_node("fault_injection", context=self._context)
        self.cameras = Cameras(self.node, rate)
        self.cameras.pause()
        self.changed = threading.Condition()
        self.images = deque(maxlen=4000)  # arrival, stamp, what is wrong with it
        self.statuses = {}  # stamp -> status, the newest life
        self.outcomes = Counter()
        self.diagnostics = deque(maxlen=4000)
        self.problems = []
        self._clients = {}
        self.instruction = self.node.create_publisher(String, f"{NAMESPACE}/instruction", RELIABLE)
        listen = self.node.create_subscription
        listen(Image, f"{NAMESPACE}/image", self._on_image, RELIABLE)
        listen(FusionStatus, f"{NAMESPACE}/status", self._on_status, RELIABLE)
        listen(DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._ended = threading.Event()
        self._spinning = threading.Thread(target=self._spin, name="spin", daemon=True)
        self._spinning.start()
        self.log = folder / "node.log"
        arguments = ["--ros-args", "-r", f"__ns:={NAMESPACE}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        variables = {**os.environ, **environment, "FAULT_CONTROL": str(self.control)}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own node
                [sys.executable, str(Path(__file__).with_name("faulty_node.py")), *arguments],
                cwd=REPOSITORY,
                env=variables,
                stdout=output,
                stderr=output,
            )

    def _spin(self):
        while not self._ended.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    # What is heard

    def _on_image(self, message):
        stamp = stamp_to_ns(message.header.stamp)
        problem = self._wrong(message, stamp)
        with self.changed:
            self.images.append((time.monotonic(), stamp, problem))
            self.changed.notify_all()

    def _wrong(self, message, stamp):
        if ("rgb", stamp) in self.cameras.faulty_stamps:
            return ""  # what comes of it is not looked at
        if stamp not in self.cameras.good["rgb"]:
            return "its stamp is no RGB frame's"
        if message.encoding != "rgb8" or message.header.frame_id != "rgb_optical":
            return f"encoding {message.encoding}, frame {message.header.frame_id}"
        if (message.width, message.height, message.step) != (*RGB_SIZE, 3 * RGB_SIZE[0]):
            return f"{message.width} x {message.height}, step {message.step}"
        if len(message.data) != 3 * RGB_SIZE[0] * RGB_SIZE[1]:
            return f"{len(message.data)} bytes"
        pixels = np.frombuffer(message.data, np.uint8)[::97]
        return "" if pixels.std() > 5 else f"it shows nothing: standard deviation {pixels.std():.1f}"

    def _on_status(self, message):
        with self.changed:
            self.outcomes[message.outcome] += 1
            self.statuses[stamp_to_ns(message.header.stamp)] = message
            self.changed.notify_all()

    def _on_diagnostics(self, message):
        read = parse_diagnostics(message)
        if "input streams" not in read.values:
            return
        with self.changed:
            self.problems += conservation(read)
            self.diagnostics.append(read)
            self.changed.notify_all()

    def wait_for(self, condition, timeout):
        """Return the condition's value once it is true, or its last one after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self.changed:
            while not (value := condition()) and time.monotonic() < end:
                self.check_alive()
                self.changed.wait(0.02)
            return value

    def check_alive(self):
        if self.process.poll() is not None:
            raise NodeDiedError(f"the node ended with {self.process.returncode}; its log: {self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-3000:]

    def is_correct(self, stamp):
        """Say whether a good pair came out fused, with all that belongs to it."""
        status = self.statuses.get(stamp)
        if status is None or status.outcome != FusionStatus.FUSED or stamp not in self.cameras.good["rgb"]:
            return False
        thermal = stamp_to_ns(status.thermal_stamp)
        return thermal in self.cameras.good["thermal"] and abs(thermal - stamp) <= MAX_GAP

    def correct_since(self, moment):
        """Return when the first correct output of a pair sent after a moment came, or None."""
        for arrival, stamp, problem in list(self.images)[-200:]:
            sent = self.cameras.good["rgb"].get(stamp, -math.inf)
            if arrival >= moment and sent >= moment and not problem and self.is_correct(stamp):
                return arrival
        return None

    # What a user does

    def call(self, kind, name, request, timeout=10.0):
        """Call a service and return its answer and how long it took."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"{NAMESPACE}/{name}")
        client = self._clients[name]
        begin = time.monotonic()
        if not client.wait_for_service(timeout):
            self.check_alive()
            raise NoAnswerError(f"no service {name} within {timeout:g} s")
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _future: answered.set())
        while not answered.wait(0.05):
            self.check_alive()
            if time.monotonic() - begin > timeout:
                client.remove_pending_request(future)
                raise NoAnswerError(f"{name} did not answer within {timeout:g} s")
        return future.result(), time.monotonic() - begin

    def begin_call(self, kind, name, request):
        """Call a service without waiting for it; return the future."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"{NAMESPACE}/{name}")
        return self._clients[name].call_async(request)

    def state(self):
        return self.call(GetState, f"{NODE}/get_state", GetState.Request())[0].current_state.label

    def change_state(self, transition, timeout=60.0):
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return self.call(ChangeState, f"{NODE}/change_state", request, timeout)[0].success

    def try_change_state(self, transition, timeout):
        """Ask for a transition that may be impossible: rclpy gives no answer then."""
        try:
            return self.change_state(transition, timeout)
        except NoAnswerError:
            return None

    def bring_up(self):
        """Bring the node to active from whatever state it is in; return whether that went well."""
        for _ in range(4):
            state = self.state()
            if state == "active":
                return True
            if state not in NEXT or not self.change_state(NEXT[state]):
                return False
        return self.state() == "active"

    def parameters(self):
        return set(self.call(ListParameters, f"{NODE}/list_parameters", ListParameters.Request())[0].result.names)

    def set_parameters(self, **values):
        entries = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        answer, _ = self.call(SetParameters, f"{NODE}/set_parameters", SetParameters.Request(parameters=entries))
        return answer.results

    def get_parameter(self, timeout=10.0):
        return self.call(GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=["model"]), timeout)

    def set_instruction(self, text, timeout=10.0):
        return self.call(SetInstruction, "set_instruction", SetInstruction.Request(text=text), timeout)

    def usage(self):
        """Return resident memory in MB, open files and threads of the process."""
        process = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        resident = int(status["VmRSS"].split()[0]) / 1024
        return resident, len(list((process / "fd").iterdir())), int(status["Threads"])

    def close(self):
        """End the node as a user would; return its exit code, None where it had to be killed."""
        self.cameras.close()
        code = None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._ended.set()
        self._spinning.join(5)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
        return code
