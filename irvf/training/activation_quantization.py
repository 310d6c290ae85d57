"""Puts the convolutions of a trained network into 8 bits: QDQ, which OpenVINO, ONNX Runtime and TensorRT all read."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Inputs = Mapping[str, NDArray[Any]]


def quantize_activations(source: Path, target: Path, samples: Sequence[Inputs], kept_share: float = 99.999) -> None:
    """Write a network whose convolutions take and multiply int8, symmetric, weights with a scale for each channel.

    All else stays as it is, and so do the first and the last convolutions: the first sees the image itself, the last
    ones make the results, and both cost little. Kernels that are computed stay, too.

    Args:
        source: a network in fp32.
        target: file to write.
        samples: inputs as they will be, all of one shape; the ranges of the activations are taken from them.
        kept_share: percent of the activations that are inside the range of 8 bits; a few outliers would cost all others
            their steps.

    Raises:
        ValueError: no samples, or no convolution between the first and the last.
    """
    if not samples:
        raise ValueError("quantisation needs samples of the network's inputs")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, unchecked = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        stored = {entry.name for entry in graph.initializer}
        convolutions = {node.name: node for node in graph.node if node.op_type == "Conv"}
        computed = {name for name, node in convolutions.items() if node.input[1] not in stored}
        kept = _outer_convolutions(graph) | computed
        if kept >= set(convolutions):
            raise ValueError(f"{source} has no convolution between its first and its last")
        quantize_static(
            str(prepared),
            str(unchecked),
            _Samples(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=sorted(kept),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "CalibPercentile": kept_share},
        )
        model = onnx.load(unchecked)
        del model.metadata_props[:]
        onnx.checker.check_model(model)
        onnx.save(model, target)


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # untyped
    def __init__(self, samples: Iterable[Inputs]) -> None:
        self._left = iter(samples)

    def get_next(self) -> Inputs | None:
        return next(self._left, None)


def _outer_convolutions(graph: onnx.GraphProto) -> set[str]:
    """Name the convolutions that lie next to an image that is put in, or an output, with no other between."""
    takers: dict[str, list[onnx.NodeProto]] = {}
    makers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
        for name in node.output:
            makers[name] = [node]
    images = (entry.name for entry in graph.input if len(entry.type.tensor_type.shape.dim) == 4)  # not the prompt
    first = _reached(images, takers, lambda node: node.output)
    last = _reached((entry.name for entry in graph.output), makers, lambda node: node.input)
    return first | last


def _reached(
    names: Iterable[str],
    neighbours: Mapping[str, Sequence[onnx.NodeProto]],
    beyond: Callable[[onnx.NodeProto], Iterable[str]],
) -> set[str]:
    waiting, seen, found = list(names), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in neighbours.get(name, ()):
            if node.op_type == "Conv":
                found.add(node.name)
            elif node.op_type != "Shape":  # which takes no values
                waiting += beyond(node)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice that onnxruntime's quantisation logs and prints, of which none applies here."""
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        root.setLevel(level)
