"""``irvf instruct``: give a running node an instruction and show what it understood."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys


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
    command = [sys.executable, "-m", "irvf_fusion_node.instruct", f"--namespace={arguments.namespace}"]
    command += [f"--timeout={arguments.timeout}", "--", arguments.text]
    return subprocess.run(command, check=False).returncode  # noqa: S603  (this interpreter, arguments as a list)
