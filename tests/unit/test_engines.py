"""Engines: what runs a network, and that what cannot run is said in one line."""

import numpy as np
import pytest

from irvf.engines.engine import EngineError
from irvf.engines.factory import ENGINE_NAMES, create_engine
from irvf.models import load_model


@pytest.fixture(scope="module")
def network():
    return load_model("irvf-base", "fusion").onnx


def planes(height=48, width=64):
    return {name: np.full((1, 1, height, width), 0.5, np.float32) for name in ("thermal", "luma")}


def refusal(call, *arguments):
    with pytest.raises(EngineError) as raised:
        call(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_runs_a_network(network, name):
    engine = create_engine(name, network, threads=1)
    assert set(engine.input_names) == {"thermal", "luma"}
    outputs = engine.infer(planes())
    assert tuple(outputs) == engine.output_names
    assert outputs[engine.output_names[0]].shape == (1, 1, 48, 64)
    assert "onnxruntime" in engine.description
    assert "1 thread" in engine.description


def test_threads_do_not_spin(network):
    options = create_engine("onnxruntime", network, threads=1)._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 1


def test_an_unknown_engine_names_those_that_there_are(network):
    said = refusal(create_engine, "openvino7", network)
    assert "openvino7" in said
    for name in ENGINE_NAMES:
        assert name in said


@pytest.mark.parametrize("content", [b"", b"no network", None], ids=["empty", "garbage", "missing"])
def test_a_file_that_is_no_network_is_named(tmp_path, content):
    file = tmp_path / "net.onnx"
    if content is not None:
        file.write_bytes(content)
    assert str(file) in refusal(create_engine, "auto", file)


def test_a_truncated_network_is_refused(tmp_path, network):
    file = tmp_path / "net.onnx"
    file.write_bytes(network.read_bytes()[:20_000])
    assert str(file) in refusal(create_engine, "auto", file)


@pytest.mark.parametrize(
    "inputs",
    [
        {"thermal": np.zeros((1, 1, 48, 64), np.float32)},
        {**planes(), "extra": np.zeros(1, np.float32)},
        {name: plane.astype(np.float64) for name, plane in planes().items()},
        {name: plane[0] for name, plane in planes().items()},
    ],
    ids=["one missing", "one too many", "another type", "another rank"],
)
def test_inputs_that_do_not_fit_are_refused_and_the_next_run_is_fine(network, inputs):
    engine = create_engine("auto", network, threads=1)
    assert "onnxruntime" in refusal(engine.infer, inputs)
    assert engine.infer(planes())
