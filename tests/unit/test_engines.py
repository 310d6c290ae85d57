"""Engines: what runs a network, and that what cannot run is said in one line."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest

from irvf.engines.engine import EngineError
from irvf.engines.factory import ENGINE_NAMES, PRECISIONS, EngineOptions, create_engine, missing_engine
from irvf.engines.onnx_engine import OnnxEngine
from irvf.models import load_model

RUNNING = [name for name in ENGINE_NAMES if name == "auto" or not missing_engine(name)]


def test_the_engines_of_the_environment_run():
    assert set(RUNNING) >= {"auto", "openvino", "onnxruntime"}


@pytest.fixture(scope="module")
def network():
    return load_model("irvf-base", "fusion").network


def planes(height=48, width=64):
    return {name: np.full((1, 1, height, width), 0.5, np.float32) for name in ("thermal", "luma")}


def refusal(call, *arguments):
    with pytest.raises(EngineError) as raised:
        call(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("name", RUNNING)
def test_runs_a_network(network, name):
    engine = create_engine(name, network, threads=1)
    assert set(engine.input_names) == {"thermal", "luma"}
    outputs = engine.infer(planes())
    assert tuple(outputs) == engine.output_names
    assert outputs[engine.output_names[0]].shape == (1, 1, 48, 64)
    assert ("openvino" if name == "auto" else name) in engine.description
    assert "1 thread" in engine.description


def test_all_engines_agree(network):
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((1, 1, 50, 61), np.float32) for name in ("thermal", "luma")}
    outputs = [create_engine(name, network, threads=1).infer(inputs)["fused"] for name in RUNNING]
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], atol=1e-5)


@pytest.mark.parametrize("name", RUNNING)
def test_a_result_stays_as_it_is_when_the_engine_runs_again(network, name):
    engine = create_engine(name, network, threads=1)
    first = engine.infer(planes())["fused"]
    kept = first.copy()
    engine.infer({name: plane * 0 for name, plane in planes().items()})
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", RUNNING)
def test_an_engine_bears_several_threads(network, name):
    engine = create_engine(name, network, threads=1)
    inputs = [{key: plane * level for key, plane in planes().items()} for level in (0.2, 0.6, 1.0, 1.4)]
    alone = [engine.infer(entry)["fused"] for entry in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda entry: engine.infer(entry)["fused"], inputs * 3))
    for found, expected in zip(together, alone * 3, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_auto_takes_the_next_engine_where_one_is_not_installed(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "irvf.engines.openvino_engine", raising=False)
    assert "onnxruntime" in create_engine("auto", network, threads=1).description
    said = refusal(create_engine, "openvino", network)
    assert "pip install openvino" in said
    assert missing_engine("openvino") == said
    assert missing_engine("onnxruntime") == ""


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
    file.write_bytes(network.onnx.read_bytes()[:20_000])
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
@pytest.mark.parametrize("name", RUNNING[1:])
def test_inputs_that_do_not_fit_are_refused_and_the_next_run_is_fine(network, inputs, name):
    engine = create_engine(name, network, threads=1)
    assert name in refusal(engine.infer, inputs)
    assert engine.infer(planes())


HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
BASE = load_model("irvf-base", "fusion").onnx


def test_onnxruntime_stays_on_the_cpu_when_told_so():
    engine = OnnxEngine(BASE, 1, device="cpu")
    assert engine._session.get_providers() == ["CPUExecutionProvider"]
    assert engine.description == f"onnxruntime {onnxruntime.__version__} cpu, 1 threads"
    assert "'tpu'; allowed: auto, cpu, cuda" in refusal(OnnxEngine, BASE, 1, "tpu")


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime is built with CUDA")
def test_an_onnxruntime_without_cuda_says_what_to_install():
    said = refusal(OnnxEngine, BASE, 1, "cuda")
    assert "cannot use a GPU" in said
    assert "pip install onnxruntime-gpu" in said


@pytest.mark.skipif(HAS_CUDA, reason="this onnxruntime may really use CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_onnxruntime_that_goes_to_the_cpu_in_silence_is_not_taken_for_a_gpu(monkeypatch, caplog):
    """As where CUDA's libraries are missing: the provider is listed, and the session is one of the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    engine = OnnxEngine(BASE, 1)
    assert engine.description.endswith(" cpu, 1 threads")
    assert engine._session.get_providers() == ["CPUExecutionProvider"]
    assert engine.infer(planes())["fused"].shape == (1, 1, 48, 64)
    assert "onnxruntime cannot use the GPU" in caplog.text
    assert "cuDNN or the driver" in refusal(OnnxEngine, BASE, 1, "cuda")


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_file_that_is_no_network_is_named_on_a_gpu_too(tmp_path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    (tmp_path / "net.onnx").write_bytes(b"no network")
    assert str(tmp_path / "net.onnx") in refusal(OnnxEngine, tmp_path / "net.onnx")


@pytest.mark.skipif(not HAS_CUDA, reason="needs onnxruntime-gpu and a GPU")
def test_onnxruntime_answers_on_a_gpu_as_on_the_cpu():
    engine = OnnxEngine(BASE, device="cuda")
    assert engine.description == f"onnxruntime {onnxruntime.__version__} cuda"
    expected = OnnxEngine(BASE, 1, device="cpu").infer(planes())["fused"]
    np.testing.assert_allclose(engine.infer(planes())["fused"], expected, atol=5e-3)


def test_a_fusion_is_computed_in_16_bits_where_the_cpu_does_that(tmp_path):
    from irvf.engines.openvino_engine import computes_in_bfloat16  # noqa: PLC0415

    network = load_model("realtime", "fusion").network
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((1, 1, 48, 64), np.float32) for name in ("thermal", "luma")}
    inputs["prompt"] = np.zeros((7, 32), np.float32)
    found, described = {}, {}
    for precision in PRECISIONS:
        engine = create_engine("openvino", network, 1, EngineOptions(precision))
        found[precision], described[precision] = engine.infer(inputs)["fused"], engine.description
    natively = computes_in_bfloat16()
    assert described["fp32"].endswith("fp32")
    assert described["int8"].endswith("int8")
    assert described["bf16"].endswith("bf16" if natively else "fp32")
    assert described["auto"].endswith("bf16" if natively else "int8")
    np.testing.assert_array_equal(found["auto"], found["bf16" if natively else "int8"])
    assert (0 < np.abs(found["bf16"] - found["fp32"]).max() < 2 / 255) == natively


def test_a_precision_that_there_is_not_is_refused():
    assert "fp32" in refusal(EngineOptions, "fp64")
