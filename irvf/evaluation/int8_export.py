"""Adds the 8-bit form of a network to its model folder, if that costs next to nothing of what it is for."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from irvf.engines.engine import Engine
from irvf.engines.factory import EngineOptions, create_engine, missing_engine
from irvf.engines.fusion_network import FusionNetwork
from irvf.evaluation.average_precision import Truth, average_precision
from irvf.evaluation.fusion_quality import measure_fusion
from irvf.evaluation.rows import INSTRUCTIONS, LEAST_SCORE
from irvf.frames import Image8
from irvf.image_fusion import ImageFusion, image_fusions
from irvf.instruction.prompt import Prompter
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import Model, ModelError, Network, file_digest
from irvf.perception.detection import BoxDetector
from irvf.perception.letterbox import Letterbox
from irvf.training.activation_quantization import quantize_activations
from irvf.training.data import PairFiles
from irvf.training.scenes import Annotation, read_objects

LARGEST_LOSS = 0.01
"""Share of each figure that 8 bits may cost."""
GATED = ("Q_AB/F", "SSIM", "mAP50-95")
SHOWN = ("Q_AB/F", "SSIM", "VIF", "SCD")
"""Metrics of a fusion that are reported."""
SAMPLES = 64
"""Most pairs that the ranges are taken from, and that a fusion is measured on."""
KEPT_SHARES = (99.999, 99.99, 99.9, 99.7)
"""What is tried for the share of the activations inside the range; the one that costs least is taken."""


@dataclass(frozen=True)
class Figure:
    """A figure of a network in both precisions.

    Attributes:
        name: of the metric, and of the instruction it holds under.
        fp32: in 32 bits.
        int8: in 8 bits.
    """

    name: str
    fp32: float
    int8: float

    @property
    def loss(self) -> float:
        """Share of the figure that 8 bits cost; negative where they gain, NaN where there is nothing to lose."""
        return (self.fp32 - self.int8) / self.fp32 if self.fp32 > 0 else math.nan


def add_int8(
    model: Model, seen: Sequence[PairFiles], held: Sequence[PairFiles], fusion: str, annotation: Annotation
) -> list[Figure]:
    """Quantise a network, measure it beside the other, and put it into the folder if no judged figure loses too much.

    Measured is on the CPU, whatever else is here: that is where the 8-bit form is for.

    Args:
        model: a fusion with or without prompt, or a detector.
        seen: pairs that the ranges of the activations are taken from.
        held: pairs to measure on.
        fusion: name of the fusion whose images a detector looks at; of no account for a fusion.
        annotation: boxes of the held pairs, for a detector.

    Returns:
        The figures; the folder holds the 8-bit form, and its config.yaml names it, if :func:`too_much` finds none.

    Raises:
        ModelError: a model of another kind.
        ValueError: no pairs, or unusable ones.
    """
    if model.kind not in ("fusion", "detector"):
        raise ModelError(f"model {model.path} is of kind {model.kind!r}; 8 bits are for fusions and detectors")
    if not seen or not held:
        raise ValueError(f"{len(seen)} pairs to take ranges from and {len(held)} to measure on; both are needed")
    name = f"{model.onnx.stem}.int8.onnx"
    seen = [seen[index] for index in np.unique(np.linspace(0, len(seen) - 1, SAMPLES).astype(int))]
    measure, samples = _prepare(model, seen, held, fusion, annotation)
    tried: list[tuple[float, list[Figure], bytes]] = []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / name
        exact = measure(model.network)
        for share in KEPT_SHARES:
            quantize_activations(model.onnx, file, samples, share)
            rounded = measure(replace(model.network, int8=file))
            figures = [Figure(key, exact[key], rounded[key]) for key in exact]
            losses = [figure.loss for figure in _judged(figures)]
            tried.append((math.inf if any(map(math.isnan, losses)) else max(losses), figures, file.read_bytes()))
    _, figures, content = min(tried, key=lambda entry: entry[0])
    if not too_much(figures):
        (model.path / name).write_bytes(content)
        _name_int8(model.path, name)
    return figures


def too_much(figures: Sequence[Figure]) -> list[Figure]:
    """Return those of :data:`GATED` that lose more than :data:`LARGEST_LOSS`."""
    return [figure for figure in _judged(figures) if not figure.loss <= LARGEST_LOSS]


def _judged(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.name.split(",")[0] in GATED]


def _name_int8(folder: Path, name: str) -> None:
    path = folder / "config.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    digests = {**content.pop("digests", {}), name: file_digest(folder / name)}
    path.write_text(yaml.safe_dump({**content, "int8": name, "digests": digests}, sort_keys=False), "utf-8")


def _planes(
    model: Model, pairs: Sequence[PairFiles], values: Sequence[NDArray[np.float32]]
) -> list[dict[str, NDArray[Any]]]:
    """Return inputs of a fusion, under the prompt of each task in turn."""
    prompts = [{"prompt": prompt} for prompt in values] or [{}]
    loaded = [pair.load() for pair in pairs]
    # The ranges are taken from arrays of one shape: of each image, as much as the smallest has.
    least = (min(thermal.shape[axis] for thermal, _ in loaded) for axis in (0, 1))
    height, width = (side // model.size_multiple * model.size_multiple for side in least)
    inputs: list[dict[str, NDArray[Any]]] = []
    for number, (thermal, rgb) in enumerate(loaded):
        top, left = (thermal.shape[0] - height) // 2, (thermal.shape[1] - width) // 2
        planes = {"thermal": thermal, "luma": cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)}
        cut = {name: plane[None, None, top : top + height, left : left + width] for name, plane in planes.items()}
        scaled = {name: plane / np.float32(255) for name, plane in cut.items()}
        inputs.append({**scaled, **prompts[number % len(prompts)]})
    return inputs


def _prompts(model: Model, weights: Path) -> dict[str, NDArray[np.float32]]:
    prompter = Prompter(load_text_encoder(model.text_encoder), weights)
    return {task: prompter(task, task).values for task in INSTRUCTIONS}


def _prepare(
    model: Model, seen: Sequence[PairFiles], held: Sequence[PairFiles], fusion: str, annotation: Annotation
) -> tuple[Callable[[Network], dict[str, float]], list[dict[str, NDArray[Any]]]]:
    """Return what measures a form of the network, and inputs to take ranges from."""
    if model.kind == "detector":
        (fuse,) = image_fusions(fusion, ["detection"]).values()
        images, truths = _detector_truth(held, fuse, annotation)
        samples = [_blob(fuse, pair, model.input_size) for pair in seen]
        return partial(_detector_figures, model, images, truths), samples
    chosen = [held[index] for index in np.unique(np.linspace(0, len(held) - 1, SAMPLES).astype(int))]
    prompts = {} if model.weights is None else _prompts(model, model.weights)
    loaded = [pair.load() for pair in chosen]
    return partial(_fusion_figures, model.size_multiple, loaded, prompts), _planes(model, seen, list(prompts.values()))


def _engine(network: Network) -> Engine:
    engine = "onnxruntime" if missing_engine("openvino") else "openvino"
    return create_engine(engine, network, options=EngineOptions("int8" if network.int8 else "fp32"))


def _fusion_figures(
    size_multiple: int,
    pairs: Sequence[tuple[Image8, Image8]],
    prompts: Mapping[str, NDArray[np.float32]],
    network: Network,
) -> dict[str, float]:
    fusion = FusionNetwork(_engine(network), size_multiple)
    figures: dict[str, float] = {}
    given: Mapping[str, NDArray[np.float32] | None] = prompts or {"any instruction": None}
    for task, prompt in given.items():
        found = []
        for thermal, rgb in pairs:
            luma = _luma(rgb)
            fused = fusion.under(prompt)(*(plane / np.float32(255) for plane in (thermal, luma)))
            found.append(measure_fusion(np.clip(fused * 255 + 0.5, 0, 255).astype(np.uint8), thermal, luma))
        figures |= {f"{metric}, {task}": float(np.mean([entry[metric] for entry in found])) for metric in SHOWN}
    return figures


def _detector_truth(
    pairs: Sequence[PairFiles], fuse: ImageFusion, annotation: Annotation
) -> tuple[list[Image8], list[Truth]]:
    images, truths = [], []
    for pair in pairs:
        thermal, rgb = pair.load()
        images.append(fuse(thermal, rgb))
        objects = read_objects(pair, (thermal.shape[0], thermal.shape[1]), annotation)
        truths.append(Truth(objects.boxes, objects.labels))
    return images, truths


def _detector_figures(
    model: Model, images: Sequence[Image8], truths: Sequence[Truth], network: Network
) -> dict[str, float]:
    detector = BoxDetector(_engine(network), model.labels, model.input_size, score_threshold=LEAST_SCORE)
    found = average_precision([detector.detect(image) for image in images], truths, model.labels)
    return {"mAP50": found.at_50, "mAP50-95": found.at_50_95}


def _blob(fuse: ImageFusion, pair: PairFiles, input_size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    image = fuse(*pair.load())
    letterbox = Letterbox.fit((image.shape[0], image.shape[1]), input_size)
    return {"image": cv2.dnn.blobFromImage(letterbox.apply(image), 1 / 255)}


def _luma(rgb: Image8) -> Image8:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
