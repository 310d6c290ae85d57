"""Stores the large weights of an ONNX graph in 8 or 16 bit; what is computed with them stays in 32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_WEIGHT_INPUTS = {"MatMul": 1, "Gather": 0}
_LARGEST = 127
_SMALLEST_ARRAY = 1024
"""Below this many numbers there is nothing to gain."""


def quantize_weights(source: Path, target: Path) -> None:
    """Write a graph whose matrices and look-up tables are int8, symmetric, with a scale for each channel.

    A channel is a column of a matrix and a row of a table. Only weights are rounded. Where activations are rounded too
    (``onnxruntime.quantization.quantize_dynamic``), the result is worse and depends on the CPU: those without VNNI
    saturate the sums of products.

    Args:
        source: a graph in fp32, whose weights are inside the file.
        target: file to write.
    """
    model = onnx.load(source)
    weights = {entry.name: entry for entry in model.graph.initializer}
    uses = [name for node in model.graph.node for name in node.input]
    nodes: list[Any] = []
    for node in model.graph.node:
        position = _WEIGHT_INPUTS.get(node.op_type)
        stored = None if position is None else weights.get(node.input[position])
        # The only attribute that either has is the axis of Gather.
        along_rows = not any(helper.get_attribute_value(entry) for entry in node.attribute)
        if stored is None or uses.count(stored.name) > 1 or not _large(stored) or not along_rows:
            nodes.append(node)
        else:
            model.graph.initializer.remove(stored)
            replace = _matrix if node.op_type == "MatMul" else _table
            nodes += replace(model.graph, node, numpy_helper.to_array(stored))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def halve_weights(source: Path, target: Path) -> None:
    """Write a graph whose large weights are stored in half precision and restored when it is loaded.

    Engines compute the conversion of a constant once. The file is half as large, and holds what the
    ``*.safetensors`` beside it hold.

    Args:
        source: a graph in fp32, whose weights are inside the file.
        target: file to write.
    """
    model = onnx.load(source)
    large = [
        entry
        for entry in model.graph.initializer
        if entry.data_type == onnx.TensorProto.FLOAT and np.prod(entry.dims) >= _SMALLEST_ARRAY
    ]
    restored = []
    for weight in large:
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}_half")
        model.graph.initializer.remove(weight)
        model.graph.initializer.append(half)
        restored.append(helper.make_node("Cast", [half.name], [weight.name], to=onnx.TensorProto.FLOAT))
    nodes = [*restored, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _large(weight: Any) -> bool:
    return (
        weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 2 and np.prod(weight.dims) >= _SMALLEST_ARRAY
    )


def _round(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the whole numbers and the scales, which are kept along ``axis`` only."""
    largest = np.abs(weight).max(axis=1 - axis, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.round(weight / scales).astype(np.int8), scales


def _matrix(graph: Any, node: Any, weight: NDArray[np.float32]) -> list[Any]:
    """Put a DequantizeLinear between the stored matrix and its product."""
    name = node.input[1]
    whole, scales = _round(weight, axis=1)
    graph.initializer.extend(
        [numpy_helper.from_array(whole, f"{name}_int8"), numpy_helper.from_array(scales[0], f"{name}_scale")]
    )
    node.input[1] = f"{name}_restored"
    restored = helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [f"{name}_restored"], axis=1)
    return [restored, node]


def _table(graph: Any, node: Any, weight: NDArray[np.float32]) -> list[Any]:
    """Look up whole numbers and scales, so that only the rows in use are restored."""
    name, result = node.input[0], node.output[0]
    whole, scales = _round(weight, axis=0)
    graph.initializer.extend(
        [numpy_helper.from_array(whole, f"{name}_int8"), numpy_helper.from_array(scales, f"{name}_scale")]
    )
    rows, factors, numbers = (f"{result}_{part}" for part in ("rows", "factors", "numbers"))
    return [
        helper.make_node("Gather", [f"{name}_int8", node.input[1]], [rows]),
        helper.make_node("Gather", [f"{name}_scale", node.input[1]], [factors]),
        helper.make_node("Cast", [rows], [numbers], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [numbers, factors], [result]),
    ]
