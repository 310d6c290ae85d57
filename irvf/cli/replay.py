"""``irvf replay``: play a bag through the real node and leave its answers, a contact sheet and a summary."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from irvf.bags import choose_image_topics, open_bag
from irvf.cli.report import write_report

NAMESPACE = "/fusion"
_NODE_ENDS_WITHIN = 30.0


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf replay``."""
    parser = commands.add_parser("replay", help="play a rosbag2 through the fusion node", description=__doc__)
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file")
    parser.add_argument("--out", type=Path, default=Path("out/replay"), help="folder for the results")
    parser.add_argument("--thermal-topic", help="default: chosen by name")
    parser.add_argument("--rgb-topic", help="default: chosen by name")
    parser.add_argument("--instruction", default="detect people, bicycles and cars", help="given half way through")
    parser.add_argument("--initial", default="viewing", help="instruction in force until then")
    parser.add_argument("--params-file", type=Path, help="ROS parameters of the node")
    parser.add_argument("--model", help="overrides the parameter model")
    parser.add_argument("--rate", type=float, default=1.0, help="speed against real time (default: 1)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the node (default: 60)")
    parser.set_defaults(run=run)


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    # The replay keeps to this machine and to a domain of its own, unless the user has chosen otherwise.
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if environment.get("ROS_DISTRO") == "humble":  # which knows no discovery range
        environment.setdefault("ROS_LOCALHOST_ONLY", "1")
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    return environment


def _node_command(arguments: argparse.Namespace, thermal: str, rgb: str) -> list[str]:
    command = [sys.executable, "-m", "irvf_fusion_node", "--ros-args"]
    if arguments.params_file:
        command += ["--params-file", str(arguments.params_file)]
    command += ["--params-file", str(_write_parameters(arguments, thermal, rgb))]
    remaps = {"__ns": NAMESPACE, "thermal/image_raw": thermal, "rgb/image_raw": rgb}
    remaps["rgb/camera_info"] = camera_info_topic(rgb)
    for name, value in remaps.items():
        command += ["-r", f"{name}:={value}"]
    return command


def _write_parameters(arguments: argparse.Namespace, thermal: str, rgb: str) -> Path:
    """Write what the replay asks of the node, on top of the user's own parameters."""
    parameters: dict[str, object] = {
        "use_sim_time": True,
        "autostart": True,
        "instruction.initial": arguments.initial,
    }
    if arguments.model:
        parameters["model"] = arguments.model
    for topic in (thermal, rgb):
        # Nothing of a recording shall get lost on the way.
        parameters[f"qos_overrides.{topic}.subscription.reliability"] = "reliable"
    path: Path = arguments.out / "replay.params.yaml"
    # Under the node's full name, which wins over /** in the user's file.
    path.write_text(yaml.safe_dump({f"{NAMESPACE}/irvf_fusion_node": {"ros__parameters": parameters}}), "utf-8")
    return path


def camera_info_topic(image_topic: str) -> str:
    """Return the topic of the ``camera_info`` beside an image topic, as image_transport names it."""
    return "/".join([*image_topic.split("/")[:-1], "camera_info"])


def _player_command(arguments: argparse.Namespace, thermal: str, rgb: str, recorded: Path, report: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "irvf_fusion_node.bag_player", str(arguments.bag)),
        *("--thermal-topic", thermal, "--rgb-topic", rgb, "--extra-topic", camera_info_topic(rgb)),
        *("--namespace", NAMESPACE, f"--instruction={arguments.instruction}", "--rate", str(arguments.rate)),
        *("--timeout", str(arguments.timeout)),
        *("--record", str(recorded), "--report", str(report)),
    ]


def run(arguments: argparse.Namespace) -> int:
    """Play, record and report."""
    if importlib.util.find_spec("rclpy") is None:
        raise RuntimeError("replay needs ROS 2: source its setup file, or run make demo, which brings its own")
    if arguments.rate <= 0:
        raise ValueError(f"--rate must be above 0, not {arguments.rate}")
    with open_bag(arguments.bag) as reader:
        thermal, rgb = choose_image_topics(reader, arguments.thermal_topic, arguments.rgb_topic)
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorded, sent, log = (arguments.out / name for name in ("fused.mcap", "sent.json", "node.log"))
    environment = _environment()
    print(f"thermal {thermal}, RGB {rgb}; the node's log is {log}")
    print(f"ROS_DOMAIN_ID={environment['ROS_DOMAIN_ID']} lets another terminal look on", flush=True)
    with log.open("w", encoding="utf-8") as log_file:
        node = subprocess.Popen(  # noqa: S603  (this interpreter, arguments as a list)
            _node_command(arguments, thermal, rgb), env=environment, stdout=log_file, stderr=subprocess.STDOUT
        )
        try:
            code = _play(node, _player_command(arguments, thermal, rgb, recorded, sent), environment)
        finally:
            node_code = _end(node)
    if code:
        tail = "\n".join(log.read_text("utf-8").splitlines()[-8:])
        raise RuntimeError(f"the replay did not finish; the end of {log}:\n{tail}")
    if node_code:
        raise RuntimeError(f"the node ended with exit code {node_code}; see {log}")
    print(write_report(arguments.bag, recorded, sent, (thermal, rgb), arguments.out))
    return 0


def _play(node: subprocess.Popen[bytes], command: list[str], environment: dict[str, str]) -> int:
    """Run the player beside the node; stop it when the node dies."""
    player = subprocess.Popen(command, env=environment)  # noqa: S603  (as above)
    try:
        while player.poll() is None:
            if node.poll() is not None:
                return 1
            time.sleep(0.1)
        return player.returncode
    finally:
        if player.poll() is None:
            player.terminate()
            player.wait()


def _end(node: subprocess.Popen[bytes]) -> int:
    """End the node as a user would, with SIGINT, and return its exit code."""
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
        try:
            node.wait(_NODE_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
    return node.returncode
