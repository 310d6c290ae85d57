"""``irvf soak``: the real node under load for long: memory, files, threads and latency must stay as they are."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from irvf.cli.arguments import image_size
from irvf.cli.bench_node import TRANSPORTS, assignment, frequency, positive_number
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
from irvf.evaluation.soak import Check, Disturbances, Pairs, Sample, Span, judge, read_sample
from irvf.evaluation.soak_report import soak_report, verdict

_PERIOD = 1.0
_SAMPLES = 240
"""Wanted of a run; a short one is read more often than once a second."""
_CYCLE = 60.0
_NO_PAIRS = Pairs(np.empty(0), np.empty(0), ())


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf soak``."""
    parser = commands.add_parser("soak", help="run the real node for long and judge its course", description=__doc__)
    parser.add_argument(
        "--minutes", type=positive_number, default=30.0, help="for which pairs are played (default: 30)"
    )
    parser.add_argument("--rate", type=frequency, default=30.0, metavar="HZ", help="pairs a second (default: 30)")
    parser.add_argument("--size", type=image_size, default=(640, 480), metavar="WxH", help="of both images")
    parser.add_argument("--thermal-size", type=image_size, metavar="WxH", help="where it differs, e.g. 640x512")
    parser.add_argument(
        "--parameter", action="append", default=[], type=assignment, metavar="NAME:=VALUE", help="of the node"
    )
    parser.add_argument("--transport", choices=TRANSPORTS, default=TRANSPORTS[0], help="of images, as for bench node")
    parser.add_argument(
        "--timeout", type=positive_number, default=60.0, help="seconds to wait for the node (default: 60)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs") / "soak", help="folder for report and figures")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Start the node, load it, judge its course, and write report, figures and plot; 1 where it is not flat."""
    if importlib.util.find_spec("rclpy") is None:
        raise RuntimeError("soak needs ROS 2: source its setup file, or run make env-demo, which brings its own")
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = {
        "machine": describe_machine(),
        "minutes": arguments.minutes,
        "rate": arguments.rate,
        "thermal_size": list(arguments.thermal_size or arguments.size),
        "rgb_size": list(arguments.size),
        "transport": arguments.transport,
    }
    samples, told, ended = _soak(arguments)
    if len(samples) < 2:
        raise RuntimeError("this system does not tell what the node's process holds; /proc of Linux is needed")
    pairs = _pairs_of(told)
    begin, end = told.get("begin_s", samples[0].time), told.get("end_s", samples[-1].time)
    samples = [sample for sample in samples if begin <= sample.time < end] or samples
    span = Span.of(begin, end)
    checks = [ended] if not told else [*judge(samples, pairs, _disturbances(told), span), ended]
    report = soak_report(checks, samples, pairs, span, told=told, settings=settings)
    files = [arguments.output / name for name in ("soak.md", "soak.json")]
    files[0].write_text(report + "\n", "utf-8")
    files[1].write_text(json.dumps(_content(checks, samples, told, settings), indent=1) + "\n", "utf-8")
    print(report)
    title = f"{verdict(checks)}\n{settings['machine']['date']}, commit {settings['machine']['commit'] or 'unknown'}"
    files += _plot(samples, pairs, span, title, arguments.output / "soak.png")
    print(f"\nwritten: {', '.join(map(str, files))}")
    return 0 if all(check.holds for check in checks) else 1


def _soak(arguments: argparse.Namespace) -> tuple[list[Sample], dict[str, Any], Check]:
    """Return the readings of the node's process, what the load generator tells, and how the node ended."""
    file = write_node_parameters(
        {"autostart": True, **dict(arguments.parameter)}, arguments.output / "node.params.yaml"
    )
    log = arguments.output / "node.log"
    environment = node_environment(shared_memory=arguments.transport == TRANSPORTS[0])
    print(f"the node's log is {log}; ROS_DOMAIN_ID={environment['ROS_DOMAIN_ID']} lets another terminal look on")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with node_process(node_command("--params-file", str(file)), environment, log) as node:
            with _sampling(node.pid, min(_PERIOD, arguments.minutes * 60 / _SAMPLES)) as samples:
                code = run_beside(node, _generator_command(arguments, node.pid, report), environment)
            lost = node.poll()
        told: dict[str, Any] = json.loads(report.read_text("utf-8")) if report.exists() else {}
    if "error" in told:
        said = f": {last_words(log)}" if "[ERROR]" in log.read_text("utf-8", "replace") else ""
        raise RuntimeError(f"{told['error']}{said}; see {log}")
    if lost is None and code:
        raise RuntimeError(f"the load generator ended with exit code {code}; see {log}")
    if lost is not None:
        why = f"exit code {lost} before the end: {last_words(log)}; see {log}"
    else:
        why = f"exit code {node.returncode}"
    return (
        samples,
        told,
        Check("the node ends", why, "when it is told to, with 0", lost is None and not node.returncode),
    )


@contextmanager
def _sampling(pid: int, period: float) -> Iterator[list[Sample]]:
    """Read a process again and again while the block lasts; the list grows meanwhile."""
    samples: list[Sample] = []
    ended = threading.Event()

    def read() -> None:
        told = 0
        while not ended.wait(period):
            sample = read_sample(pid)
            if sample is None:
                continue
            samples.append(sample)
            minute = int((sample.time - samples[0].time) / 60)
            if minute > told and not sys.stdout.isatty():  # a terminal shows a bar
                told = minute
                print(
                    f"{minute} min: {sample.private * 1e-6:.0f} MB private, {sample.shared * 1e-6:.0f} MB shared, "
                    f"{sample.files} files, {sample.threads} threads",
                    flush=True,
                )

    thread = threading.Thread(target=read, name="sampler", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join(5.0)


def _generator_command(arguments: argparse.Namespace, pid: int, report: Path) -> list[str]:
    seconds = arguments.minutes * 60
    thermal = arguments.thermal_size or arguments.size
    # Each quarter of what is judged sees every instruction and every change.
    cycle = min(_CYCLE, Span.of(0.0, seconds).seconds / 4)
    return [
        *(sys.executable, "-m", "irvf_fusion_node.soak", "--namespace", NAMESPACE, "--pid", str(pid)),
        *("--thermal-size", *map(str, thermal), "--rgb-size", *map(str, arguments.size)),
        *("--rate", str(arguments.rate), "--seconds", str(seconds), "--cycle", str(cycle)),
        *("--timeout", str(arguments.timeout), "--report", str(report)),
    ]


def _pairs_of(told: dict[str, Any]) -> Pairs:
    if not told:
        return _NO_PAIRS
    rows = told["pairs"]
    return Pairs(np.array(rows["sent_s"]), np.array(rows["latency_ms"], float), tuple(rows["outcome"]))


def _disturbances(told: dict[str, Any]) -> Disturbances:
    asked = told["disturbances"]
    return Disturbances(asked["given"], asked["answered"], tuple(asked["wrong"]))


def _content(
    checks: Sequence[Check], samples: Sequence[Sample], told: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return what the file of figures holds; times in seconds after the first reading."""
    begin = samples[0].time
    rows = told.get("pairs")
    pairs = None
    if rows:
        latency = [None if np.isnan(value) else round(value, 3) for value in rows["latency_ms"]]
        pairs = {**rows, "sent_s": [round(sent - begin, 4) for sent in rows["sent_s"]], "latency_ms": latency}
    return {
        "verdict": verdict(checks),
        "checks": [vars(check) for check in checks],
        **settings,
        "samples": [
            {
                "s": round(sample.time - begin, 2),
                "resident": sample.load.resident,
                "private": sample.private,
                "shared": sample.shared,
                "files": sample.files,
                "threads": sample.threads,
                "processor_s": round(sample.load.process_s, 2),
            }
            for sample in samples
        ],
        **{name: told[name] for name in ("parameters", "engine", "rmw", "disturbances", "drops") if name in told},
        "pairs": pairs,
    }


def _plot(samples: Sequence[Sample], pairs: Pairs, span: Span, title: str, path: Path) -> list[Path]:
    try:
        from irvf.evaluation.soak_plot import plot_soak  # noqa: PLC0415  (matplotlib is needed for nothing else)
    except ImportError as error:
        print(f"\nno {path.name}: {error}; pip install matplotlib")
        return []
    return [plot_soak(samples, pairs, span, title, path)]
