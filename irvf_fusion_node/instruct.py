"""Gives a running fusion node an instruction, and tells what became of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import rclpy
from rclpy.context import Context
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from irvf.instruction.interpreter import clean_text
from irvf_msgs.msg import ActiveInstruction
from irvf_msgs.srv import SetInstruction

SILENCE = 2.0
"""Seconds after the answer within which an active node has published it, too."""
_LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class NoAnswerError(RuntimeError):
    """No node is there, or it does not answer."""


def give_instruction(text: str, namespace: str, timeout: float) -> ActiveInstruction:
    """Call the node's service and return the answer to this very text, whatever others tell the node meanwhile.

    An inactive node takes the instruction, too; its answer says that nothing is published until it is active.

    Args:
        text: of the instruction.
        namespace: of the node, e.g. ``/fusion``.
        timeout: seconds to wait for the node, and again for its answer.

    Raises:
        NoAnswerError: no node is there, or none answers in time.
        ValueError: the namespace is none.
    """
    context = Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(
            "irvf_instruct", context=context, use_global_arguments=False, start_parameter_services=False
        )
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        try:
            return _Conversation(node, executor, namespace).give(text, timeout)
        except NameValidationException as error:
            raise ValueError(f"namespace {namespace!r} is none: {' '.join(str(error).split())}") from error
        finally:
            executor.shutdown()
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


class _Conversation:
    """A client of a fusion node that listens to what the node publishes about instructions as well."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor, namespace: str) -> None:
        place = namespace.rstrip("/")
        self._executor = executor
        self._client = node.create_client(SetInstruction, f"{place}/set_instruction")
        self._heard: list[ActiveInstruction] = []
        node.create_subscription(ActiveInstruction, f"{place}/active_instruction", self._heard.append, _LATCHED)

    def give(self, text: str, timeout: float) -> ActiveInstruction:
        service = self._client.srv_name
        if not self._wait_for(self._client.service_is_ready, timeout):
            raise NoAnswerError(
                f"no configured fusion node offers {service} within {timeout:g} s: is it started and configured, and "
                "are ROS_DOMAIN_ID and the namespace the same?"
            )
        known = len(self._heard)
        text = text.encode(errors="replace").decode()  # bytes of a terminal that are no UTF-8 come as surrogates
        future = self._client.call_async(SetInstruction.Request(text=text))

        def told() -> list[ActiveInstruction]:
            return [message for message in self._heard[known:] if message.text == clean_text(text)]

        # The node may take a call before it has discovered whom to answer; then what it publishes is all there is.
        if not self._wait_for(lambda: future.done() or bool(told()), timeout):
            raise NoAnswerError(
                f"the fusion node has not answered on {service} within {timeout:g} s; it may still take the instruction"
            )
        self._wait_for(future.done, SILENCE)
        response = future.result() if future.done() else None
        if response is None:
            return told()[-1]
        self._wait_for(lambda: bool(self._published(response, known)), SILENCE)
        return _combined(text, response, self._published(response, known))

    def _published(self, response: SetInstruction.Response, known: int) -> list[ActiveInstruction]:
        """Return what the node has published since it took the text, of the same instruction or a later one."""
        return [message for message in self._heard[known:] if message.sequence >= response.sequence]

    def _wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not condition():
            if not time.monotonic() < end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True


def _combined(text: str, response: SetInstruction.Response, published: list[ActiveInstruction]) -> ActiveInstruction:
    """Return the answer of the service, with the outputs as the node has published them."""
    outputs = [message.outputs for message in published if message.sequence == response.sequence]
    message = response.message
    if not published:
        message += "; the node is not active: it publishes nothing until it is"
    return ActiveInstruction(
        text=clean_text(text),
        message=message,
        outputs=outputs[-1] if outputs else [],
        **{
            name: getattr(response, name)
            for name in ("accepted", "sequence", "task", "classes", "effects", "confidence", "suggestions")
        },
    )


def main() -> int:
    """Give the instruction and print the answer; 0 accepted, 1 refused, 2 no answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="the instruction")
    parser.add_argument("--namespace", default="/fusion", help="of the node")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the node")
    arguments = parser.parse_args()
    try:
        answer = give_instruction(arguments.text, arguments.namespace, arguments.timeout)
    except (NoAnswerError, ValueError) as error:
        sys.stderr.write(f"irvf: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    lines = {
        "in force": f"{answer.task} (number {answer.sequence})",
        "classes": ", ".join(answer.classes) or "all",
        "effects": ", ".join(answer.effects) or "none",
        "published": ", ".join(answer.outputs) or "nothing",
    }
    described = "".join(f"{name:12s} {value}\n" for name, value in lines.items())
    sys.stdout.write(f"{answer.message}\n{described}")
    return 0 if answer.accepted else 1


if __name__ == "__main__":
    sys.exit(main())
