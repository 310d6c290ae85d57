"""Weights in 8 bit: what the graph computes is what the rounded weights give, and nothing else is touched."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from irvf.training.weight_quantization import quantize_weights

RNG = np.random.default_rng(0)
MATRIX = (RNG.normal(size=(64, 32)) * np.linspace(0.01, 5, 32)).astype(np.float32)
TABLE = (RNG.normal(size=(100, 64)) * np.linspace(0.01, 5, 100)[:, None]).astype(np.float32)


def graph(tmp_path, nodes, weights, *, outputs=("y",)):
    """Write a graph of ``ids [L]`` or ``x [L x 64]`` to its outputs."""
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["L"]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["L", 64]),
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["A", "B"]) for name in outputs]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "graph", inputs, results, stored)
    path = tmp_path / "exact.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def run(path, ids=(0,), x=None):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = {"ids": np.array(ids), "x": np.zeros((1, 64), np.float32) if x is None else x}
    return session.run(None, {entry.name: inputs[entry.name] for entry in session.get_inputs()})


def quantized(path):
    target = path.with_name("int8.onnx")
    quantize_weights(path, target)
    return target


def stored_types(path):
    return {entry.name: entry.data_type for entry in onnx.load(path).graph.initializer}


def test_a_column_of_a_matrix_is_rounded_in_its_own_steps(tmp_path):
    exact = graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": MATRIX})
    path = quantized(exact)
    (restored,) = run(path, x=np.eye(64, dtype=np.float32))
    steps = np.abs(MATRIX).max(axis=0) / 127
    assert (np.abs(restored - MATRIX) <= 0.501 * steps).all()
    np.testing.assert_allclose(restored / steps, np.round(restored / steps), atol=1e-3)
    assert path.stat().st_size < 0.5 * exact.stat().st_size


def test_a_row_of_a_table_is_rounded_in_its_own_steps(tmp_path):
    path = quantized(graph(tmp_path, [helper.make_node("Gather", ["t", "ids"], ["y"])], {"t": TABLE}))
    (rows,) = run(path, ids=(7, 99, 0, 7))
    wanted = TABLE[[7, 99, 0, 7]]
    assert (np.abs(rows - wanted) <= 0.501 * np.abs(wanted).max(axis=1, keepdims=True) / 127).all()


def test_a_channel_of_zeros_stays_zero(tmp_path):
    matrix = MATRIX.copy()
    matrix[:, 3] = 0
    path = quantized(graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": matrix}))
    (result,) = run(path, x=np.ones((2, 64), np.float32))
    assert np.isfinite(result).all()
    assert (result[:, 3] == 0).all()


@pytest.mark.parametrize(
    ("nodes", "weights", "outputs"),
    [
        ([helper.make_node("Gather", ["t", "ids"], ["y"], axis=1)], {"t": TABLE}, ("y",)),
        ([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": MATRIX[:, :2]}, ("y",)),
        ([helper.make_node("Add", ["x", "w"], ["y"])], {"w": TABLE[:64].mean(0)}, ("y",)),
        (
            [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["w"], ["z"])],
            {"w": MATRIX},
            ("y", "z"),
        ),
    ],
    ids=["a table by columns", "a small matrix", "a bias", "a weight with two uses"],
)
def test_the_rest_is_left_as_it_is(tmp_path, nodes, weights, outputs):
    exact = graph(tmp_path, nodes, weights, outputs=outputs)
    path = quantized(exact)
    assert set(stored_types(path).values()) == {TensorProto.FLOAT}
    x = RNG.normal(size=(3, 64)).astype(np.float32)
    for found, wanted in zip(run(path, (1, 2), x), run(exact, (1, 2), x), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_only_whole_numbers_and_scales_are_stored(tmp_path):
    path = quantized(graph(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": MATRIX}))
    assert stored_types(path) == {"w_int8": TensorProto.INT8, "w_scale": TensorProto.FLOAT}
