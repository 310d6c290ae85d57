"""Builds a model's TensorRT engine on this machine, compares it with onnxruntime, times it, and prints one block.

For owners of a Jetson, or of any NVIDIA GPU with TensorRT 10 or 11:

    python tools/jetson_check.py                     the model irvf, 480 x 640
    python tools/jetson_check.py --model realtime --size 512x640

The block at the end is made to be pasted into an issue as it is. The exit code is 0 if both engines agree.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY))  # at the end: only where irvf is not installed

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from irvf.engines.engine import EngineError  # noqa: E402
from irvf.engines.onnx_engine import OnnxEngine  # noqa: E402
from irvf.engines.tensorrt_builder import import_tensorrt  # noqa: E402
from irvf.engines.tensorrt_engine import TensorRtEngine  # noqa: E402
from irvf.instruction.prompt import Prompter  # noqa: E402
from irvf.instruction.text_encoders import load_text_encoder  # noqa: E402
from irvf.models import Model, ModelError, load_model  # noqa: E402

AGREE_WITHIN = 0.02
"""Largest difference between the engines, as a share of the largest value; TF32 and float16 keep far below it."""
WARM_UP = 20
INSTRUCTION, TASK = "detect people and cars", "detection"
RELEASE = Path("/etc/nv_tegra_release")
BOARD = Path("/proc/device-tree/model")
TELL_EVERY = 5.0

Arrays = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the check; 0 if TensorRT gives what onnxruntime gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="irvf", help="name of a model folder, or a path to one (default: irvf)")
    parser.add_argument("--size", type=_size, default=(480, 640), help="HEIGHTxWIDTH of a fusion (default: 480x640)")
    parser.add_argument("--runs", type=_runs, default=200, help="that are timed (default: 200)")
    parser.add_argument("--cache-folder", type=Path, help="where built engines are kept (default: as irvf has it)")
    given = parser.parse_args(arguments)
    try:
        import_tensorrt()  # before anything that takes time
        model = load_model(given.model)
        inputs = make_inputs(model, given.size)
        lines, agree = check(model, inputs, given.runs, given.cache_folder)
    except (EngineError, ModelError, ValueError, OSError) as error:
        print(f"jetson_check: {error}", file=sys.stderr)
        return 1
    print("----- irvf jetson check: paste from here -----", *lines, "----- to here -----", sep="\n")
    return 0 if agree else 1


def make_inputs(model: Model, size: tuple[int, int]) -> Arrays:
    """Return inputs of the shapes that the network takes: smooth random images with hard edges, and a real prompt.

    Raises:
        ValueError: the network takes something else.
    """
    session = onnxruntime.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    random, inputs = np.random.default_rng(0), {}
    height, width = (side + -side % model.size_multiple for side in size)
    for entry in session.get_inputs():
        if entry.name == "prompt" and model.weights is not None:
            prompter = Prompter(load_text_encoder(model.text_encoder, "onnxruntime"), model.weights)
            inputs[entry.name] = prompter(INSTRUCTION, TASK).values
        elif len(entry.shape) == 4 and entry.type in ("tensor(float)", "tensor(float16)"):
            sides = zip(entry.shape, (1, 1, height, width), strict=True)
            shape = [side if isinstance(side, int) else ours for side, ours in sides]
            kind = np.float16 if entry.type == "tensor(float16)" else np.float32
            inputs[entry.name] = _image(random, shape[1:]).astype(kind)[None]
        else:
            raise ValueError(
                f"{model.name} takes {entry.name} {entry.shape}; this check is for fusions, detectors, segmentations "
                "and saliency networks. Text encoders run in onnxruntime"
            )
    return inputs


def check(model: Model, inputs: Arrays, runs: int, cache_folder: Path | None) -> tuple[list[str], bool]:
    """Build, compare and time; return the lines of the report and whether both engines agree."""
    reference = OnnxEngine(model.onnx)
    expected = reference.infer(inputs)
    print(f"building the TensorRT engine of {model.name}: minutes the first time", file=sys.stderr, flush=True)
    engine = TensorRtEngine(model.onnx, cache_folder=cache_folder, progress=_progress())
    compared = [engine.infer(inputs) for _ in range(3)]  # plain, captured, and the captured graph again
    difference, agree = _compare(compared, expected)
    with_graph = _time(lambda: engine.infer(inputs), runs)
    captured = engine.runs_as_graph
    started = time.perf_counter()
    plain = TensorRtEngine(model.onnx, cache_folder=cache_folder, graphs=False)
    loaded = f"{plain.description.rpartition(', ')[2]}, {time.perf_counter() - started:.1f} s"
    without_graph = _time(lambda: plain.infer(inputs), runs)
    on_cpu = _time(lambda: reference.infer(inputs), max(runs // 20, 5), warm_up=2)
    shapes = ", ".join(f"{name} {' x '.join(map(str, array.shape))}" for name, array in inputs.items())
    lines = [
        f"date         {dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"model        {model.name} ({model.kind}), {model.onnx.name} {_digest(model.onnx)}, commit {_commit()}",
        f"inputs       {shapes}",
        f"engine       {engine.description}",
        f"again        {loaded}; kept in {plain.file or 'no file: see the warning above'}",
        f"reference    {reference.description}",
        f"machine      {_read(BOARD) or platform.machine()}, Python {platform.python_version()}",
        f"JetPack      {_read(RELEASE) or 'none, this is no Jetson'}",
        f"power mode   {_power_mode()}",
        *difference,
        f"agreement    {'yes' if agree else 'NO'} (bar: {AGREE_WITHIN:.0%} of the largest value)",
        f"CUDA graph   {with_graph if captured else 'could not be captured: see the warning above'}",
        f"no graph     {without_graph}",
        f"onnxruntime  {on_cpu}",
        "times are of one infer() with its copies to and from the GPU",
    ]
    return lines, agree


def _compare(compared: list[Arrays], expected: Arrays) -> tuple[list[str], bool]:
    lines, agree = [], True
    for name, reference in expected.items():
        wanted = np.asarray(reference, np.float64)
        found = np.stack([outputs[name] for outputs in compared]).astype(np.float64)
        difference, largest = np.abs(found - wanted), float(np.abs(wanted).max())
        share = difference.max() / max(largest, 1e-9)
        agree = agree and bool(share <= AGREE_WITHIN)  # not so where anything is not a number
        most, mean = difference.max(), difference.mean()
        lines.append(f"difference   {name}: max {most:.2e}, mean {mean:.2e} (largest value {largest:.3g})")
    return lines, agree


def _time(run: Callable[[], object], runs: int, warm_up: int = WARM_UP) -> str:
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - started))
    median, late = np.percentile(times, [50, 95])
    return f"median {median:.3f} ms, p95 {late:.3f} ms, least {min(times):.3f} ms, {runs} runs"


def _image(random: np.random.Generator, shape: list[int]) -> Any:
    channels, height, width = shape
    image = np.empty(shape, np.float32)
    for channel in range(channels):
        coarse = random.random((height // 32 + 2, width // 32 + 2), np.float32)
        image[channel] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image[:, height // 3 : height // 2, width // 4 : width // 2] += 0.4
    return np.clip(image + 0.02 * random.standard_normal(shape, np.float32), 0, 1)


def _progress() -> Callable[[str, float], None]:
    last = time.monotonic()

    def tell(phase: str, fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= TELL_EVERY:
            last = time.monotonic()
            print(f"  {phase}: {fraction:.0%}", file=sys.stderr, flush=True)

    return tell


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _commit() -> str:
    return _answer("git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD") or "unknown"


def _power_mode() -> str:
    return " ".join(_answer("nvpmodel", "-q").split()) or "unknown"


def _answer(*command: str) -> str:
    """Return what a command prints; empty where there is none or it fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(path: Path) -> str:
    try:
        content = path.read_text("utf-8", "replace")
    except OSError:
        return ""
    return (content.strip(" \t\n\0").splitlines() or [""])[0]


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, as 480x640")
    return int(height), int(width)


def _runs(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
