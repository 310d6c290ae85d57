"""The node as a process of its own: how it answers while it works, and how it ends."""

import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from bench import LOSSLESS, NAMESPACE, PERIOD, PLAIN, START, Observer, Spinning, rgb_image, thermal_image
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from std_msgs.msg import String

from irvf_msgs.msg import FusionStatus
from irvf_msgs.srv import SetInstruction

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT = 60
"""Seconds in which a process loads its networks beside others that keep the machine busy."""
BUSY = {"model": "irvf", "processing_scale": 1.0, "autostart": True}


class Process(Observer):
    """A fusion node that runs as a user would run it, and an observer in this process."""

    def __init__(self, parameters, log):
        self.context = Context()
        rclpy.init(context=self.context, args=[])
        super().__init__(self.context)
        self._log = log
        arguments = ["--ros-args", "-r", f"__ns:={NAMESPACE}"]
        for name, value in {**LOSSLESS, **PLAIN, **parameters}.items():
            arguments += [
                "-p",
                f"{name}:={str(value).lower() if isinstance(value, bool) else repr('') if value == '' else value}",
            ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own node
                [sys.executable, "-m", "irvf_fusion_node", *arguments], cwd=REPOSITORY, stdout=output, stderr=output
            )
        self._spinning = Spinning(self.node, self.context)

    @property
    def output(self):
        return self._log.read_text(errors="replace")

    def end(self, number=signal.SIGINT):
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._spinning.close()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def process(tmp_path):
    made = []

    def make(**parameters):
        made.append(Process(parameters, tmp_path / "node.log"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def flood():
    """Feed an observer's node with VGA pairs at 30 Hz until the test ends."""
    ended = threading.Event()
    threads = []

    def play(observer):
        thermal, rgb = thermal_image(START, 480, 640), rgb_image(START, 480, 640)
        begin, number = time.monotonic(), 0
        while not ended.is_set():
            for message in (thermal, rgb):
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(START + number * PERIOD, 10**9)
            observer.send(thermal, rgb)
            number += 1
            ended.wait(max(0.0, begin + number * PERIOD / 1e9 - time.monotonic()))

    def start(observer):
        threads.append(threading.Thread(target=play, args=(observer,), daemon=True))
        threads[-1].start()

    yield start
    ended.set()
    for thread in threads:
        thread.join(5)


def test_parameters_and_services_answer_while_inference_is_busy(process, flood):
    node = process(**BUSY)
    node.wait_for(node.is_connected, "the node is active", timeout=START_TIMEOUT)
    node.get_parameter("model")  # the clients find their services before the clock runs
    node.set_instruction("viewing")
    flood(node)
    node.wait_for(lambda: len(node.heard["status"]) > 10, "inference is busy")

    def outcomes(outcome):
        return [status for status in node.heard["status"] if status.outcome == outcome]

    durations = []
    end = time.monotonic() + 30
    while len(durations) < 40 or len(outcomes(FusionStatus.FUSED)) < 3:
        begin = time.monotonic()
        assert begin < end, "three pairs are not fused within 30 s"
        if len(durations) % 2:
            assert node.set_instruction("viewing").accepted
        else:
            assert node.get_parameter("processing_scale").double_value == 1.0
        durations.append(time.monotonic() - begin)
        time.sleep(0.02)
    fused, superseded = outcomes(FusionStatus.FUSED), outcomes(FusionStatus.SUPERSEDED)
    inference = [dict(zip(status.stages, status.stage_ms, strict=True))["fuse"] for status in fused]
    # It was busy: inference takes longer than an answer may, and pairs were left out for it.
    assert statistics.median(inference) > 100
    assert len(superseded) > len(fused)
    assert statistics.median(durations) < 0.05
    assert np.percentile(durations, 95) < 0.1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_inference_ends_cleanly(process, flood, number):
    node = process(**BUSY)
    node.wait_for(node.is_connected, "the node is active", timeout=START_TIMEOUT)
    flood(node)
    node.wait_for(
        lambda: any(status.outcome == FusionStatus.SUPERSEDED for status in node.heard["status"]), "inference is busy"
    )
    assert node.end(number) == 0
    assert "Traceback" not in node.output
    assert "rror" not in node.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_flood_of_instructions_ends_cleanly(process, number):
    node = process(autostart=True)
    node.wait_for(node.is_connected, "the node is active", timeout=START_TIMEOUT)
    assert node.set_instruction("viewing").accepted
    client = node.client(SetInstruction, "set_instruction")
    ended = threading.Event()

    def flood():
        while not ended.wait(0.002):
            node.instruction.publish(String(data="make it brighter"))
            client.call_async(SetInstruction.Request(text="find the people"))

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        node.wait_for(lambda: len(node.heard["active_instruction"]) > 10, "texts are read")
        assert node.end(number) == 0
    finally:
        ended.set()
        thread.join(5)
    assert "Traceback" not in node.output
    assert "rror" not in node.output


def test_sigint_ends_an_unconfigured_node(process):
    node = process(autostart=False)
    assert node.state() == "unconfigured"
    assert node.end() == 0
    assert "Traceback" not in node.output


def test_sigint_ends_a_node_that_was_shut_down(process):
    node = process(autostart=False)
    request = ChangeState.Request(transition=Transition(label="shutdown"))
    assert node.call(ChangeState, "irvf_fusion_node/change_state", request).success
    assert node.state() == "finalized"
    assert node.end() == 0
    assert "Traceback" not in node.output


def test_a_start_that_fails_leaves_a_node_that_can_be_mended(process):
    node = process(autostart=True, model="no_such_model")
    assert node.state() == "unconfigured"
    assert node.output.count("no_such_model") == 1
    assert node.set_parameter("model", "max").successful
    node.activate()
    # Another process: it has been discovered before it has been matched.
    stamps = iter(range(START, START + 1000 * PERIOD, PERIOD))
    node.wait_for(lambda: node.send_pair(next(stamps)) or node.heard["image"], "a fused image")
    assert node.end() == 0


def test_a_transition_that_is_not_possible_does_not_end_the_node(process):
    node = process(autostart=False)
    assert node.state() == "unconfigured"
    client = node.node.create_client(ChangeState, f"{NAMESPACE}/irvf_fusion_node/change_state")
    assert client.wait_for_service(10)
    # rclpy gives no answer to this one.
    client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE)))
    node.wait_for(lambda: "a callback failed" in node.output, "the node says so")
    assert node.state() == "unconfigured"
    node.activate()
    assert node.end() == 0


def test_a_parameter_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "params.yaml").write_text("{{{")
    result = subprocess.run(  # noqa: S603 - our own node
        [sys.executable, "-m", "irvf_fusion_node", "--ros-args", "--params-file", str(tmp_path / "params.yaml")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "params.yaml" in result.stderr
    assert "Traceback" not in result.stderr
