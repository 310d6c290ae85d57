"""``irvf replay``: play a bag through the real node and leave its answers, a contact sheet and a summary."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from irvf.bags import choose_image_topics, open_bag
from irvf.cli.node_process import (
    NAMESPACE,
    node_command,
    node_environment,
    node_process,
    run_beside,
    write_node_parameters,
)
from irvf.cli.report import write_report


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


def _node_command(arguments: argparse.Namespace, thermal: str, rgb: str) -> list[str]:
    given: list[str] = []
    if arguments.params_file:
        given += ["--params-file", str(arguments.params_file)]
    given += ["--params-file", str(_write_parameters(arguments, thermal, rgb))]
    remaps = {"thermal/image_raw": thermal, "rgb/image_raw": rgb}
    remaps.update({f"{name.split('/')[0]}/camera_info": camera_info_topic(topic) for name, topic in remaps.items()})
    for name, value in remaps.items():
        given += ["-r", f"{name}:={value}"]
    return node_command(*given)


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
    return write_node_parameters(parameters, arguments.out / "replay.params.yaml")


def camera_info_topic(image_topic: str) -> str:
    """Return the topic of the ``camera_info`` beside an image topic, as image_transport names it."""
    return "/".join([*image_topic.split("/")[:-1], "camera_info"])


def _player_command(arguments: argparse.Namespace, thermal: str, rgb: str, recorded: Path, report: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "irvf_fusion_node.bag_player", str(arguments.bag)),
        *("--thermal-topic", thermal, "--rgb-topic", rgb),
        *(f"--extra-topic={topic}" for topic in (*map(camera_info_topic, (thermal, rgb)), "/tf", "/tf_static")),
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
    environment = node_environment()
    print(f"thermal {thermal}, RGB {rgb}; the node's log is {log}")
    print(f"ROS_DOMAIN_ID={environment['ROS_DOMAIN_ID']} lets another terminal look on", flush=True)
    with node_process(_node_command(arguments, thermal, rgb), environment, log) as node:
        code = run_beside(node, _player_command(arguments, thermal, rgb, recorded, sent), environment)
    if code:
        tail = "\n".join(log.read_text("utf-8").splitlines()[-8:])
        raise RuntimeError(f"the replay did not finish; the end of {log}:\n{tail}")
    if node.returncode:
        raise RuntimeError(f"the node ended with exit code {node.returncode}; see {log}")
    print(write_report(arguments.bag, recorded, sent, (thermal, rgb), arguments.out))
    return 0
