"""Adds the 8-bit form of a network to its model folder, if that costs next to nothing of what it is for."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from irvf.engines.factory import EngineOptions, create_engine
from irvf.evaluation.average_precision import Truth, average_precision
from irvf.evaluation.fusion_quality import measure_fusion
from irvf.evaluation.rows import INSTRUCTIONS, LEAST_SCORE
from irvf.frames import Image8
from irvf.instruction.prompt import Prompter
from irvf.instruction.text_encoders import load_text_encoder
from irvf.models import Model, ModelError, file_digest, load_model
from irvf.perception.detection import BoxDetector
from irvf.perception.letterbox import Letterbox
from irvf.pipeline import ImageFusion, image_fusions
from irvf.training.activation_quantization import quantize_activations
from irvf.training.data import PairFiles
from irvf.training.scenes import Annotation, read_objects

LARGEST_LOSS = 0.01
"""Share of each figure that 8 bits may cost."""
GATED = ("Q_AB/F", "SSIM", "mAP50-95")
SHOWN = ("Q_AB/F", "SSIM", "VIF", "SCD")
"""Metrics of a fusion that are reported."""
SAMPLES = 64
"""Most pairs that the ranges are taken from."""


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
        """Share of the figure that 8 bits cost; negative where they gain."""
        return (self.fp32 - self.int8) / abs(self.fp32) if self.fp32 else 0.0


def add_int8(
    model: Model, seen: Sequence[PairFiles], held: Sequence[PairFiles], fusion: str, annotation: Annotation
) -> list[Figure]:
    """Quantise a network, measure it beside the other, and put it into the folder if no figure loses too much.

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
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / model.path.name
        shutil.copytree(model.path, folder)
        if model.kind == "fusion":
            quantize_activations(model.onnx, folder / name, _planes(model, seen))
            _name_int8(folder, name)
            figures = _fusion_figures(str(folder), held)
        else:
            (fuse,) = image_fusions(fusion, ["detection"], precision="fp32").values()
            quantize_activations(model.onnx, folder / name, [_blob(fuse, pair, model.input_size) for pair in seen])
            _name_int8(folder, name)
            figures = _detector_figures(load_model(str(folder)), held, fuse, annotation)
        if not too_much(figures):
            shutil.copyfile(folder / name, model.path / name)
            _name_int8(model.path, name)
    return figures


def too_much(figures: Sequence[Figure]) -> list[Figure]:
    """Return those of :data:`GATED` that lose more than :data:`LARGEST_LOSS`."""
    gated = [figure for figure in figures if figure.name.split(",")[0] in GATED]
    return [figure for figure in gated if not figure.loss <= LARGEST_LOSS]


def _name_int8(folder: Path, name: str) -> None:
    path = folder / "config.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    digests = {**content.pop("digests", {}), name: file_digest(folder / name)}
    path.write_text(yaml.safe_dump({**content, "int8": name, "digests": digests}, sort_keys=False), "utf-8")


def _planes(model: Model, pairs: Sequence[PairFiles]) -> list[dict[str, NDArray[Any]]]:
    """Return inputs of a fusion, under the instruction of each task in turn."""
    prompts = [{}] if model.weights is None else [{"prompt": values} for values in _prompts(model, model.weights)]
    inputs: list[dict[str, NDArray[Any]]] = []
    for number, pair in enumerate(pairs):
        thermal, rgb = pair.load()
        height, width = (side // model.size_multiple * model.size_multiple for side in thermal.shape)
        planes = {"thermal": thermal, "luma": cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)}
        scaled = {name: plane[None, None, :height, :width] / np.float32(255) for name, plane in planes.items()}
        inputs.append({**scaled, **prompts[number % len(prompts)]})
    return inputs


def _prompts(model: Model, weights: Path) -> list[NDArray[np.float32]]:
    prompter = Prompter(load_text_encoder(model.text_encoder), weights)
    return [prompter(task, task).values for task in INSTRUCTIONS]


def _fusion_figures(folder: str, pairs: Sequence[PairFiles]) -> list[Figure]:
    fusions = {name: image_fusions(folder, INSTRUCTIONS, precision=name) for name in ("fp32", "int8")}
    means: dict[tuple[str, str], dict[str, float]] = {}
    loaded = [pair.load() for pair in pairs]
    for precision, by_task in fusions.items():
        for task, fuse in by_task.items():
            found = [measure_fusion(_luma(fuse(*images)), images[0], _luma(images[1])) for images in loaded]
            means[precision, task] = {metric: float(np.mean([entry[metric] for entry in found])) for metric in SHOWN}
    return [
        Figure(f"{metric}, {task}", means["fp32", task][metric], means["int8", task][metric])
        for task in INSTRUCTIONS
        for metric in SHOWN
    ]


def _detector_figures(
    model: Model, pairs: Sequence[PairFiles], fuse: ImageFusion, annotation: Annotation
) -> list[Figure]:
    images, truths = [], []
    for pair in pairs:
        thermal, rgb = pair.load()
        images.append(fuse(thermal, rgb))
        objects = read_objects(pair, (thermal.shape[0], thermal.shape[1]), annotation)
        truths.append(Truth(objects.boxes, objects.labels))
    precisions: dict[str, tuple[float, float]] = {}
    for precision in ("fp32", "int8"):
        engine = create_engine("auto", model.network, options=EngineOptions(precision))
        detector = BoxDetector(engine, model.labels, model.input_size, score_threshold=LEAST_SCORE)
        found = average_precision([detector.detect(image) for image in images], truths, model.labels)
        precisions[precision] = found.at_50, found.at_50_95
    both = zip(("mAP50", "mAP50-95"), precisions["fp32"], precisions["int8"], strict=True)
    return [Figure(*entry) for entry in both]


def _blob(fuse: ImageFusion, pair: PairFiles, input_size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    image = fuse(*pair.load())
    letterbox = Letterbox.fit((image.shape[0], image.shape[1]), input_size)
    return {"image": cv2.dnn.blobFromImage(letterbox.apply(image), 1 / 255)}


def _luma(rgb: Image8) -> Image8:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
