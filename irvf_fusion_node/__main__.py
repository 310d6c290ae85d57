"""Starts the fusion node as a process of its own: ``ros2 run irvf irvf_fusion_node``."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
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
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    node = FusionNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.autostart:
            node.trigger_configure()
            node.trigger_activate()
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.2)
        node.trigger_shutdown()
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
