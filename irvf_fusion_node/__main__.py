"""Starts the fusion node as a process of its own: ``ros2 run irvf irvf_fusion_node``."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from irvf_fusion_node.node import FusionNode


def main() -> None:
    """Run until SIGINT or SIGTERM, then give everything back and end with exit code 0."""
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    # rclpy's own handlers would take the context away under the inference thread.
    try:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # ROS arguments, or a parameter file, that cannot be read
        sys.exit(f"irvf_fusion_node cannot start: {error}")
    node = FusionNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.autostart and node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()
        while not ended.is_set():
            _spin(executor, node)
        if not node.finalized:
            node.trigger_shutdown()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


def _spin(executor: Executor, node: FusionNode) -> None:
    """Run what is ready. What one callback raises does not end the node."""
    try:
        executor.spin_once(timeout_sec=0.2)
    except Exception as error:  # noqa: BLE001 - rclpy raises e.g. when a service asks for an impossible transition
        node.get_logger().error(f"a callback failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
