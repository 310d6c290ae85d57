"""Gives a running fusion node an instruction, and tells what became of it."""

from __future__ import annotations

import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from irvf.instruction.interpreter import clean_text
from irvf_msgs.msg import ActiveInstruction

_LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class NoAnswerError(RuntimeError):
    """No node is there, or it does not answer."""


def give_instruction(text: str, namespace: str, timeout: float) -> ActiveInstruction:
    """Publish an instruction and wait for what the node says of it.

    Args:
        text: of the instruction.
        namespace: of the node, e.g. ``/fusion``.
        timeout: seconds to wait for the node, and again for its answer.

    Raises:
        NoAnswerError: no node listens there, or none answers in time.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("irvf_instruct", start_parameter_services=False, enable_rosout=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    answers: list[ActiveInstruction] = []
    topics = [f"{namespace.rstrip('/')}/{name}" for name in ("instruction", "active_instruction")]
    try:
        publisher = node.create_publisher(String, topics[0], 10)
        node.create_subscription(ActiveInstruction, topics[1], answers.append, _LATCHED)

        def wait_for(what: str, limit: float) -> bool:
            while time.monotonic() < limit:
                if (what == "node" and publisher.get_subscription_count() and answers) or (
                    what == "answer" and any(_answers(answer, text) for answer in answers)
                ):
                    return True
                executor.spin_once(timeout_sec=0.05)
            return False

        if not wait_for("node", time.monotonic() + timeout):
            raise NoAnswerError(
                f"no active fusion node listens on {topics[0]} within {timeout:g} s: is it started, and is "
                "ROS_DOMAIN_ID the same?"
            )
        answers.clear()
        publisher.publish(String(data=text))
        if not wait_for("answer", time.monotonic() + timeout):
            raise NoAnswerError(f"the fusion node has not answered on {topics[1]} within {timeout:g} s")
        return next(answer for answer in answers if _answers(answer, text))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def _answers(answer: ActiveInstruction, text: str) -> bool:
    return answer.text in (clean_text(text), "")
