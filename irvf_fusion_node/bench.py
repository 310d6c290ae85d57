"""Measures a running fusion node at rising rates: ``irvf bench node`` starts it beside the node.

It is a process of its own, so that it does not share the node's interpreter.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import get_rmw_implementation_identifier

from irvf.evaluation.node_timing import MAX_DROPPED, memory_mb, summarize
from irvf_fusion_node.camera_messages import street_messages
from irvf_fusion_node.load_generator import OUTPUTS, RELIABILITIES, BenchError, LoadGenerator


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Let a node hear, in a thread of its own, while the block lasts.

    Raises:
        BenchError: a callback raised.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    faults: list[Exception] = []

    def spin() -> None:
        try:
            executor.spin()
        except Exception as error:  # noqa: BLE001  (whatever a callback raised: without it, all that is left is silence)
            faults.append(error)

    thread = threading.Thread(target=spin, name="receiver", daemon=True)
    thread.start()
    try:
        yield
        if faults:
            raise BenchError(f"the load generator broke: {faults[0]}")
    finally:
        executor.shutdown()
        thread.join(5.0)
        node.destroy_node()


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = street_messages(tuple(arguments.thermal_size), tuple(arguments.rgb_size))
    generator = LoadGenerator(
        arguments.namespace,
        pairs,
        arguments.topics,
        arguments.pid,
        arguments.instruction,
        reliability=arguments.reliability,
        instructions=arguments.instructions,
    )
    with spinning(generator):
        generator.wait_until_active(arguments.timeout)
        parameters = generator.parameters(arguments.timeout)
        unknown = [name for name in arguments.given if name not in parameters]
        if unknown:
            raise BenchError(f"the node has no parameter {', '.join(map(repr, unknown))}")
        generator.instruct(arguments.instruction, arguments.timeout)
        idle = generator.measure_idle()
        generator.warm_up(arguments.timeout)
        rates: list[dict[str, Any]] = []
        readings = []
        for rate in arguments.rates:
            record = generator.play(rate, arguments.seconds)
            readings += record.readings
            rates.append(summarize(record))
            if rates[-1]["custom"]["dropped_share"] > MAX_DROPPED:
                break
        return {
            "rates": rates,
            "parameters": parameters,
            "idle_percent": idle,
            "memory_mb": memory_mb(readings),
            "engine": generator.engine,
            "rmw": get_rmw_implementation_identifier(),
        }


def main() -> int:
    """Measure, and write a JSON report: the figures, or under ``error`` why there are none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="/fusion", help="of the fusion node")
    parser.add_argument("--pid", type=int, required=True, help="process of the fusion node")
    parser.add_argument("--thermal-size", type=int, nargs=2, required=True, help="width and height")
    parser.add_argument("--rgb-size", type=int, nargs=2, required=True, help="width and height")
    parser.add_argument("--rates", type=float, nargs="+", required=True, help="pairs a second, one after the other")
    parser.add_argument("--seconds", type=float, required=True, help="for each rate")
    parser.add_argument("--instruction", required=True, help="in force")
    parser.add_argument("--topics", nargs="+", choices=OUTPUTS, required=True, help="to subscribe to")
    parser.add_argument("--reliability", choices=RELIABILITIES, default="reliable", help="of the cameras")
    parser.add_argument("--instructions", type=float, default=0.0, help="new ones a second")
    parser.add_argument("--given", nargs="*", default=[], help="parameters that the node must have")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the node")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        report = _measure(arguments)
    except BenchError as error:
        report = {"error": str(error)}
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    arguments.report.write_text(json.dumps(report), "utf-8")
    return 1 if "error" in report else 0


if __name__ == "__main__":
    sys.exit(main())
