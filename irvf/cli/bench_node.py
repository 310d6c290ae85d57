"""``irvf bench node``: the real node under load: pairs over real topics at rising rates, until too many are dropped."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from irvf.cli.arguments import image_size
from irvf.cli.node_process import (
    NAMESPACE,
    last_words,
    node_command,
    node_environment,
    node_process,
    run_beside,
    write_node_parameters,
)
from irvf.evaluation.machine import describe_machine
from irvf.evaluation.node_report import node_report, results_file

RATES = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0)
TRANSPORTS = ("shared-memory", "environment")
TOPICS = ("image", "detections", "segmentation", "saliency", "overlay")


def add_node_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf bench node``."""
    parser = commands.add_parser("node", help="measure the real node under load", description=__doc__)
    parser.add_argument("--size", type=image_size, default=(640, 480), metavar="WxH", help="of both images")
    parser.add_argument("--thermal-size", type=image_size, metavar="WxH", help="where it differs, e.g. 640x512")
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument(
        "--rates", nargs="+", type=frequency, default=list(RATES), metavar="HZ", help="tried in rising order"
    )
    rates.add_argument("--rate", type=frequency, metavar="HZ", help="a single one, for long: --rate 30 --seconds 300")
    parser.add_argument("--seconds", type=positive_number, default=10.0, help="for each rate (default: 10)")
    parser.add_argument(
        "--parameter", action="append", default=[], type=assignment, metavar="NAME:=VALUE", help="of the node"
    )
    parser.add_argument("--instruction", default="detection", help="in force (default: detection)")
    parser.add_argument(
        "--instructions", type=positive_number, metavar="HZ", help="also give new instructions, so many a second"
    )
    parser.add_argument("--subscribe", nargs="+", choices=TOPICS, default=["image", "detections"], help="to what")
    parser.add_argument(
        "--reliability",
        choices=("reliable", "best_effort"),
        default="reliable",
        help="with which the cameras publish: as most drivers and ros2 bag play (default), or as the others",
    )
    parser.add_argument(
        "--transport",
        choices=TRANSPORTS,
        default=TRANSPORTS[0],
        help="of images: shared memory that they fit into (config/fast_dds.xml, default), or as the environment says",
    )
    parser.add_argument(
        "--timeout", type=positive_number, default=60.0, help="seconds to wait for the node (default: 60)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs") / "bench", help="folder for report and figures")
    parser.set_defaults(run=run)


def positive_number(text: str) -> float:
    """Return a number above 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def frequency(text: str) -> float:
    """Return pairs a second, above 0 and at most 1000.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = positive_number(text)
    if value > 1000:
        raise argparse.ArgumentTypeError(f"{text!r} must be at most 1000 pairs a second")
    return value


def assignment(text: str) -> tuple[str, object]:
    """Return name and value of ``NAME:=VALUE``; the value is read as in a parameter file.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    name, assigned, value = text.partition(":=")
    if not (assigned and name.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME:=VALUE, e.g. engine:=openvino")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r} has a value that cannot be read") from None
    return name.strip(), "" if read is None else read


def run(arguments: argparse.Namespace) -> int:
    """Start the node, measure it, end it; print the report, and write it with all figures and a plot."""
    if importlib.util.find_spec("rclpy") is None:
        raise RuntimeError("bench node needs ROS 2: source its setup file, or run make env-demo, which brings its own")
    arguments.output.mkdir(parents=True, exist_ok=True)
    measured = _measure(arguments)
    machine = describe_machine()
    settings = {
        "thermal_size": list(arguments.thermal_size or arguments.size),
        "rgb_size": list(arguments.size),
        "seconds": arguments.seconds,
        "instruction": arguments.instruction,
        "instructions_hz": arguments.instructions or 0.0,
        "subscribed": list(dict.fromkeys(arguments.subscribe)),
        "reliability": arguments.reliability,
        "transport": arguments.transport,
    }
    report = node_report(measured, machine, settings)
    files = [arguments.output / name for name in ("node.md", "node.json")]
    files[0].write_text(report + "\n", "utf-8")
    files[1].write_text(json.dumps(results_file(measured, machine, settings), indent=1) + "\n", "utf-8")
    print(report)
    left = _rates(arguments)[len(measured["rates"]) :]
    if left:
        print(f"\nNot tried, because too many pairs were dropped before: {', '.join(f'{rate:g}' for rate in left)} Hz.")
    files += _plot(measured["rates"], arguments.output / "node.png")
    print(f"\nwritten: {', '.join(map(str, files))}")
    return 0


def _plot(rates: list[dict[str, Any]], path: Path) -> list[Path]:
    try:
        from irvf.evaluation.bench_plots import plot_node  # noqa: PLC0415  (matplotlib is needed for nothing else)
    except ImportError as error:
        print(f"\nno {path.name}: {error}; pip install matplotlib")
        return []
    return [plot_node(rates, path)]


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    parameters = {"autostart": True, "instruction.initial": arguments.instruction, **dict(arguments.parameter)}
    file = write_node_parameters(parameters, arguments.output / "node.params.yaml")
    log = arguments.output / "node.log"
    environment = node_environment(shared_memory=arguments.transport == TRANSPORTS[0])
    print(f"the node's log is {log}; ROS_DOMAIN_ID={environment['ROS_DOMAIN_ID']} lets another terminal look on")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with node_process(node_command("--params-file", str(file)), environment, log) as node:
            code = run_beside(node, _generator_command(arguments, node.pid, report), environment)
            lost = node.poll()
        if lost is not None:
            raise RuntimeError(f"the node ended with exit code {lost}: {last_words(log)}; see {log}")
        measured: dict[str, Any] = json.loads(report.read_text("utf-8")) if report.exists() else {}
    if "error" in measured:
        said = f": {last_words(log)}" if "[ERROR]" in log.read_text("utf-8", "replace") else ""
        raise RuntimeError(f"{measured['error']}{said}; see {log}")
    if code:
        raise RuntimeError(f"the load generator ended with exit code {code}; see {log}")
    _check_end(node, log)
    return measured


def _check_end(node: subprocess.Popen[bytes], log: Path) -> None:
    if node.returncode:
        print(f"irvf: the node ended with exit code {node.returncode}: {last_words(log)}; see {log}", file=sys.stderr)


def _rates(arguments: argparse.Namespace) -> list[float]:
    return [arguments.rate] if arguments.rate else sorted(set(arguments.rates))


def _generator_command(arguments: argparse.Namespace, pid: int, report: Path) -> list[str]:
    rates = _rates(arguments)
    thermal = arguments.thermal_size or arguments.size
    return [
        *(sys.executable, "-m", "irvf_fusion_node.bench", "--namespace", NAMESPACE, "--pid", str(pid)),
        *("--thermal-size", *map(str, thermal), "--rgb-size", *map(str, arguments.size)),
        *("--rates", *map(str, rates), "--seconds", str(arguments.seconds)),
        *(f"--instruction={arguments.instruction}", "--topics", *dict.fromkeys(arguments.subscribe)),
        *("--reliability", arguments.reliability, "--instructions", str(arguments.instructions or 0.0)),
        *("--given", *dict.fromkeys(name for name, _ in arguments.parameter)),
        *("--timeout", str(arguments.timeout), "--report", str(report)),
    ]
