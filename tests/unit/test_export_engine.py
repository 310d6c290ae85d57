"""`irvf export engine`: a TensorRT engine ahead of time, on the fake that has the real names."""

import sys

import numpy as np
import pytest
from fake_tensorrt import VERSIONS, FakeGpu, World

from irvf.cli.__main__ import main
from irvf.engines import tensorrt_engine
from irvf.engines.cuda_runtime import CudaRuntime
from irvf.engines.factory import create_engine
from irvf.models import load_model


@pytest.fixture(params=VERSIONS)
def world(request, monkeypatch):
    world = World(request.param, FakeGpu())
    monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
    monkeypatch.setattr(tensorrt_engine, "CudaRuntime", lambda: CudaRuntime(world.gpu))
    yield world
    assert world.gpu.violations == []


def test_what_is_exported_is_what_runs_later(world, exported, tmp_path, monkeypatch, capsys):
    model = str(exported.root / "base")
    monkeypatch.setenv("IRVF_ENGINE_CACHE", str(tmp_path / "kept"))
    assert main(["export", "engine", model]) == 0
    assert f"tensorrt {world.version}" in capsys.readouterr().out
    onnx = load_model(model).onnx
    engine = create_engine("tensorrt", onnx)
    assert "from the cache" in engine.description
    inputs = {name: np.random.default_rng(0).random((1, 1, 64, 96), np.float32) for name in ("thermal", "luma")}
    expected = create_engine("onnxruntime", onnx, 1).infer(inputs)["fused"]
    np.testing.assert_allclose(engine.infer(inputs)["fused"], expected, atol=1e-5)


def test_limits_are_part_of_the_engine(world, exported, tmp_path, capsys):
    model, folder = str(exported.root / "base"), tmp_path / "kept"
    sizes = ["--min", "64x48", "--opt", "96x64", "--max", "128x80"]
    assert main(["export", "engine", model, *sizes, "--cache-folder", str(folder)]) == 0
    assert len(list(folder.glob("base-*"))) == 1
    assert main(["export", "engine", model, "--min", "64x64", "--max", "32x32", "--cache-folder", str(folder)]) == 2
    assert "must rise from minimum" in capsys.readouterr().err


def test_an_engine_that_cannot_be_kept_is_no_success(world, exported, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert main(["export", "engine", str(exported.root / "base"), "--cache-folder", str(blocked / "in")]) == 1
    assert "could not be kept" in capsys.readouterr().err


def test_without_tensorrt_the_command_says_so(exported, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert main(["export", "engine", str(exported.root / "base")]) == 2
    assert "tensorrt cannot be imported" in capsys.readouterr().err
