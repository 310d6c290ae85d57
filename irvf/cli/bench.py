"""``irvf bench``: how long fusion and detection take here, network by network, engine by engine, size by size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from irvf.cli.arguments import image_size
from irvf.cli.bench_node import add_node_command
from irvf.engines.factory import ENGINE_NAMES, PRECISIONS, EngineOptions, missing_engine
from irvf.evaluation.machine import describe_machine
from irvf.evaluation.timing import Times, growth, resident_bytes, street_pair, time_pipelines
from irvf.imaging.classical_fusion import FUSION_METHODS
from irvf.models import Network, load_model
from irvf.pipeline import FusionPipeline, PipelineConfig, read_instruction

SIZES = ("320x256", "640x480", "1024x768", "1280x1024")
_REFERENCE = "laplacian"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf bench`` and, below it, ``irvf bench node``."""
    parser = commands.add_parser("bench", help="measure how long it takes here", description=__doc__)
    parser.add_argument(
        "--models", nargs="+", default=["realtime", "irvf", _REFERENCE, "max", "average"], help="what fuses"
    )
    parser.add_argument("--engines", nargs="+", choices=ENGINE_NAMES, help="default: all that are installed")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=["fp32", "bf16", "int8"],
        help="of the networks; int8 where a model has it, bf16 where OpenVINO and the CPU compute so (default: all)",
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of the engines and of OpenCV")
    parser.add_argument(
        "--sizes", nargs="+", type=image_size, default=[image_size(text) for text in SIZES], metavar="WxH"
    )
    parser.add_argument("--instruction", default="detection", help="in force (default: detection)")
    parser.add_argument(
        "--detector", default="detector", help="model folder or one of your own (docs/detectors.md); empty for none"
    )
    parser.add_argument("--rounds", type=int, default=20, help="that count, after three that do not")
    parser.add_argument("--output", type=Path, default=Path("runs") / "bench", help="folder for report and figures")
    parser.set_defaults(run=run)
    # Optional: without it, the networks are measured and not the node.
    add_node_command(parser.add_subparsers(metavar="node", required=False, title="instead of the networks alone"))


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the report, and write it with all figures."""
    instruction = read_instruction(arguments.instruction)
    engines = arguments.engines or [name for name in ENGINE_NAMES if name != "auto" and not missing_engine(name)]
    lines: list[dict[str, Any]] = []
    total = len(arguments.threads) * len(arguments.sizes) * (arguments.rounds + 3)
    with tqdm(total=total, unit="round", leave=False) as progress:
        for threads in arguments.threads:
            cv2.setNumThreads(threads)
            pipelines, memory = _load(arguments, engines, threads)
            if not pipelines:
                raise ValueError(
                    f"nothing to measure: no model of {', '.join(arguments.models)} can be run by "
                    f"{', '.join(engines)} in {', '.join(arguments.precisions)}"
                )
            for width, height in arguments.sizes:
                progress.set_description(f"{threads} threads, {width}x{height}")
                pair = street_pair(width, height)
                times = time_pipelines(pipelines, pair, instruction, rounds=arguments.rounds, done=progress.update)
                lines += _lines(times, threads, (width, height), memory)
            pipelines.clear()  # before those of the next number of threads take their memory
    machine = describe_machine()
    report = _report(lines, arguments.rounds, machine)
    arguments.output.mkdir(parents=True, exist_ok=True)
    files = [arguments.output / "bench.md", arguments.output / "bench.json"]
    files[0].write_text(report + "\n", "utf-8")
    files[1].write_text(json.dumps({"machine": machine, "measurements": lines}, indent=1) + "\n", "utf-8")
    print(report)
    files += _plot(lines, machine, arguments.output / "bench.png")
    print(f"\nwritten: {', '.join(map(str, files))}")
    return 0


def _load(
    arguments: argparse.Namespace, engines: Sequence[str], threads: int
) -> tuple[dict[str, FusionPipeline], dict[str, float]]:
    """Load every model with every engine; plain methods once. Return the pipelines and the megabytes that each took."""
    pipelines, memory = {}, {}
    for model in arguments.models:
        for name, engine, precision in _contenders(model, engines, arguments.precisions):
            before = resident_bytes()
            options = EngineOptions(precision)
            config = PipelineConfig(model, arguments.detector, "", "", engine, threads, options)
            pipelines[name] = FusionPipeline(config)
            pipelines[name].warm_up()
            memory[name] = (resident_bytes() - before) / 1e6
    return pipelines, memory


def _contenders(model: str, engines: Sequence[str], precisions: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Name, engine and precision of each way to run a model; a plain method has one, in the first engine's company."""
    if model in FUSION_METHODS:
        yield model, engines[0], precisions[-1]  # of the detector beside it
        return
    network = load_model(model, "fusion").network  # so that a model that is missing is said before anything is measured
    for engine in engines:
        if engine == "torch" and network.architecture is None:
            continue
        for precision in precisions:
            if _is_of_its_own(network, engine, precision):
                yield f"{model}, {engine}, {precision}", engine, precision


def _is_of_its_own(network: Network, engine: str, precision: str) -> bool:
    """Say whether a precision differs from the others in an engine."""
    if precision == "int8":
        return network.int8 is not None and engine != "torch"
    if precision == "bf16":
        from irvf.engines.openvino_engine import computes_in_bfloat16  # noqa: PLC0415  (only with that engine)

        return engine == "openvino" and computes_in_bfloat16()
    return True


def _lines(
    times: dict[str, Times], threads: int, size: tuple[int, int], memory: dict[str, float]
) -> Iterator[dict[str, Any]]:
    for name, measured in times.items():
        stages = {
            stage: {
                "least_ms": round(measured.least(stage), 3),
                **{f"p{share}_ms": round(measured.percentile(stage, share), 3) for share in (50, 95, 99)},
            }
            for stage in measured.stages
        }
        yield {
            "fusion": name,
            "threads": threads,
            "width": size[0],
            "height": size[1],
            "load_mb": round(memory[name], 1),
            "stages": stages,
        }


def _plot(lines: Sequence[dict[str, Any]], machine: dict[str, Any], path: Path) -> list[Path]:
    try:
        from irvf.evaluation.bench_plots import plot_bench  # noqa: PLC0415  (matplotlib is needed for nothing else)
    except ImportError as error:
        print(f"\nno {path.name}: {error}; pip install matplotlib")
        return []
    title = f"{machine['date']}, commit {machine['commit'] or 'unknown'}, {machine['cpu']}, {machine['cores']} cores"
    return [plot_bench(lines, title, path)]


def _report(lines: Sequence[dict[str, Any]], rounds: int, machine: dict[str, Any]) -> str:
    introduction = (
        f"{machine['date']}, commit {machine['commit'] or 'unknown'}, {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load']}. {rounds} rounds after "
        "three that do not count; all rows of a table took turns. The least time is what the work costs when nothing "
        f"disturbs it; its ratio to {_REFERENCE} carries over to other machines better than the time."
    )
    text = ["# Benchmark", "", introduction]
    settings = dict.fromkeys((line["threads"], line["width"], line["height"]) for line in lines)
    for threads, width, height in settings:
        rows = [line for line in lines if (line["threads"], line["width"], line["height"]) == (threads, width, height)]
        text += ["", f"## {width} x {height}, {threads} {'thread' if threads == 1 else 'threads'}", ""]
        text += _table(rows)
    return "\n".join([*text, *_growth_table(lines)])


def _growth_table(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    sizes = len({line["width"] * line["height"] for line in lines})
    if sizes < 2:
        return
    yield from ("", "## How the least time of fusion grows: it goes with pixels to the power of", "")
    threads = list(dict.fromkeys(line["threads"] for line in lines))
    yield f"| fusion | {' | '.join(f'{count} threads' if count > 1 else '1 thread' for count in threads)} |"
    yield "|---" * (1 + len(threads)) + "|"
    for name in dict.fromkeys(line["fusion"] for line in lines):
        powers = []
        for count in threads:
            chosen = [line for line in lines if (line["fusion"], line["threads"]) == (name, count)]
            pixels = [line["width"] * line["height"] for line in chosen]
            powers.append(f"{growth(pixels, [line['stages']['fuse']['least_ms'] for line in chosen]):.2f}")
        yield f"| {name} | {' | '.join(powers)} |"


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    reference = next((row["stages"]["fuse"]["least_ms"] for row in rows if row["fusion"] == _REFERENCE), None)
    yield f"| fusion | least ms | median | p95 | times {_REFERENCE} | pair: median ms | p95 | p99 | load MB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        fuse, total = row["stages"]["fuse"], row["stages"]["total"]
        ratio = f"{fuse['least_ms'] / reference:.2f}" if reference else ""
        cells = [f"{fuse[key]:.2f}" for key in ("least_ms", "p50_ms", "p95_ms")]
        cells += [ratio, *(f"{total[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")), f"{row['load_mb']:.0f}"]
        yield f"| {row['fusion']} | {' | '.join(cells)} |"
