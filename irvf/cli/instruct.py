"""``irvf instruct``: give a running node an instruction and show what it understood."""

from __future__ import annotations

import argparse
import importlib.util


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf instruct``."""
    parser = commands.add_parser("instruct", help="give a running fusion node an instruction", description=__doc__)
    parser.add_argument("text", help="e.g. 'find the people and make the background darker'")
    parser.add_argument("--namespace", default="/fusion", help="of the node (default: /fusion)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the node (default: 10)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Publish the instruction; 1 where the node refuses it."""
    if importlib.util.find_spec("rclpy") is None:
        raise RuntimeError("instruct needs ROS 2: source its setup file, or run make env-demo, which brings its own")
    from irvf_fusion_node.instruct import give_instruction  # noqa: PLC0415  (needs ROS)

    answer = give_instruction(arguments.text, arguments.namespace, arguments.timeout)
    print(answer.message)
    lines = {
        "in force": f"{answer.task} (number {answer.sequence})",
        "classes": ", ".join(answer.classes) or "all",
        "effects": ", ".join(answer.effects) or "none",
        "published": ", ".join(answer.outputs),
    }
    for name, value in lines.items():
        print(f"{name:12s} {value}")
    return 0 if answer.accepted else 1
