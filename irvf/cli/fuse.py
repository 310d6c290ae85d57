"""``irvf fuse``: two image files in, one fused image out, and beside it what the instruction asks to be found."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from irvf.frames import Frame, FramePair, Image8
from irvf.instruction.instruction import Instruction
from irvf.pipeline import FusionPipeline, LiveConfig, PipelineConfig, read_instruction

_ENCODINGS = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16", np.dtype(np.float32): "32FC1"}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``irvf fuse``."""
    parser = commands.add_parser("fuse", help="fuse a thermal and an RGB image file", description=__doc__)
    parser.add_argument("thermal", type=Path, help="8-bit, 16-bit or float image, one channel")
    parser.add_argument("rgb", type=Path, help="colour image, aligned with the thermal one")
    parser.add_argument("-o", "--output", type=Path, default=Path("fused.png"))
    parser.add_argument(
        "--instruction",
        default="",
        help="what the image is for and how it should look, e.g. 'detect pedestrians, darken the background'",
    )
    parser.add_argument("--overlay", type=Path, help="also write the image with what was found drawn")
    parser.add_argument("--model", default=PipelineConfig.model, help="model folder, or max, average, laplacian")
    parser.add_argument("--scale", type=float, default=1.0, help="processing scale of the network, above 0, at most 1")
    parser.set_defaults(run=run)


def read_image(path: Path, *, color: bool) -> Frame:
    """Read an image file as a frame.

    Args:
        path: any format of OpenCV.
        color: RGB is wanted (``bgr8``); otherwise one channel, of the file's own depth.

    Raises:
        OSError: the file is missing or cannot be opened.
        ValueError: no readable image, or of a depth that is not supported.
    """
    content = np.frombuffer(path.read_bytes(), np.uint8)
    flags = cv2.IMREAD_COLOR if color else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise ValueError(f"{path} is not a readable image")
    encoding = "bgr8" if color else _ENCODINGS.get(image.dtype)
    if encoding is None:
        raise ValueError(f"{path} has pixels of type {image.dtype}; allowed: {', '.join(map(str, _ENCODINGS))}")
    return Frame(image, encoding)


def run(arguments: argparse.Namespace) -> int:
    """Fuse and write."""
    instruction = read_instruction(arguments.instruction or "viewing")
    pipeline = FusionPipeline(_needed(arguments.model, instruction), LiveConfig(processing_scale=arguments.scale))
    pair = FramePair(read_image(arguments.thermal, color=False), read_image(arguments.rgb, color=True))
    unseen = pipeline.unseen_region(instruction.effects)
    if unseen:
        raise ValueError(unseen)
    result = pipeline.fuse(pair, instruction)
    _write(arguments.output, result.fused)
    if arguments.overlay:
        _write(arguments.overlay, pipeline.draw_overlay(result, instruction))
    for detection in result.detections:
        box = detection.box
        print(
            f"{detection.label} {detection.score:.2f} "
            f"({box.x_min:.1f}, {box.y_min:.1f}) to ({box.x_max:.1f}, {box.y_max:.1f})"
        )
    if result.segmentation is not None:
        numbers = (f"{number} {label}" for number, label in enumerate(pipeline.segmentation_labels))
        print(f"{_beside(arguments.output, 'segmentation', result.segmentation)} ({', '.join(numbers)})")
    if result.saliency is not None:
        print(f"{_beside(arguments.output, 'saliency', result.saliency)} (0 to 255)")
    prompt = pipeline.prompt(instruction)
    under = f", prompt of the {prompt.source}" if prompt else ""
    effects = "".join(f", {effect}" for effect in instruction.effects)
    print(f"{arguments.output} ({instruction.task.name}{effects}{under}, {sum(result.stage_ms.values()):.0f} ms)")
    return 0


def _needed(model: str, instruction: Instruction) -> PipelineConfig:
    """Return the configuration with those heads only that the task runs: the others need not be there."""
    wanted, every = instruction.task.heads, PipelineConfig(model=model)
    return replace(
        every,
        detector=every.detector if "detection" in wanted or instruction.names_objects else "",
        segmentation=every.segmentation if "segmentation" in wanted else "",
        saliency=every.saliency if "saliency" in wanted else "",
    )


def _beside(output: Path, what: str, plane: Image8) -> Path:
    """Write a plane as PNG, which keeps its numbers, beside the fused image."""
    path = output.with_name(f"{output.stem}_{what}.png")
    _, encoded = cv2.imencode(".png", plane)
    path.write_bytes(encoded.tobytes())
    return path


def _write(path: Path, rgb: Image8) -> None:
    try:
        _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ValueError(f"cannot write {path}: give a name that ends in .png or .jpg") from error
    path.write_bytes(encoded.tobytes())
