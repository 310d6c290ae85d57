"""The check for owners of a Jetson: what it prints, when it says no, and what it says without TensorRT."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import VERSIONS, FakeGpu, World

from irvf.engines import tensorrt_engine
from irvf.engines.cuda_runtime import CudaRuntime

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def jetson_check(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import jetson_check  # noqa: PLC0415  (its folder is on the path only now)

    return jetson_check


@pytest.fixture(params=VERSIONS)
def world(request, monkeypatch):
    world = World(request.param, FakeGpu())
    monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
    monkeypatch.setattr(tensorrt_engine, "CudaRuntime", lambda: CudaRuntime(world.gpu))
    yield world
    assert world.gpu.violations == []


@pytest.fixture
def run(jetson_check, tmp_path, capsys):
    """Return a function that runs the check and gives its exit code, the block by line, and what else it said."""

    def call(*arguments):
        code = jetson_check.main([*arguments, "--cache-folder", str(tmp_path / "cache")])
        said = capsys.readouterr()
        return code, {line[:13].strip(): line[13:] for line in said.out.splitlines()}, said

    return call


def test_prints_one_block_with_all_that_matters(run, world, known_models, jetson_check, tmp_path, monkeypatch):
    (tmp_path / "release").write_text("# R36 (release), REVISION: 4.3\nmore\n")
    (tmp_path / "board").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    monkeypatch.setattr(jetson_check, "RELEASE", tmp_path / "release")
    monkeypatch.setattr(jetson_check, "BOARD", tmp_path / "board")
    code, block, said = run("--model", known_models.fusion, "--size", "64x96", "--runs", "20")
    assert code == 0
    lines = said.out.splitlines()
    assert (lines[0], lines[-1]) == ("----- irvf jetson check: paste from here -----", "----- to here -----")
    assert block["JetPack"] == "# R36 (release), REVISION: 4.3"
    assert block["machine"].startswith("NVIDIA Jetson Orin Nano, Python")
    assert f"tensorrt {world.version} on Fake Orin" in block["engine"]
    assert "built in" in block["engine"]
    assert "from the cache" in block["again"]
    assert "thermal 1 x 1 x 64 x 96" in block["inputs"]
    assert "prompt 2 x 9" in block["inputs"]
    assert block["agreement"].startswith("yes")
    for row in ("CUDA graph", "no graph"):
        median, late, least = map(float, re.findall(r"([\d.]+) ms", block[row]))
        assert 0 < least <= median <= late
        assert "20 runs" in block[row]
    assert float(re.search(r"max ([\d.e+-]+)", block["difference"])[1]) < 1e-5
    assert world.gpu.launches > 20


@pytest.mark.parametrize("model", ["base", "saliency"])
def test_takes_networks_of_each_kind(run, world, known_models, model):
    code, block, _ = run("--model", getattr(known_models, model), "--size", "64x64", "--runs", "2")
    assert code == 0
    assert block["agreement"].startswith("yes")


@pytest.mark.parametrize("wrong", [0.05, np.nan])
def test_says_no_where_the_engines_differ(run, world, known_models, monkeypatch, wrong):
    infer = tensorrt_engine.TensorRtEngine.infer
    monkeypatch.setattr(
        tensorrt_engine.TensorRtEngine,
        "infer",
        lambda self, inputs: {name: array + np.float32(wrong) for name, array in infer(self, inputs).items()},
    )
    code, block, _ = run("--model", known_models.base, "--size", "64x64", "--runs", "2")
    assert code == 1
    assert block["agreement"].startswith("NO")


def test_says_so_where_no_graph_can_be_captured(run, world, known_models):
    world.fails.add("capture")
    code, block, _ = run("--model", known_models.base, "--size", "64x64", "--runs", "2")
    assert code == 0
    assert "could not be captured" in block["CUDA graph"]


@pytest.mark.parametrize("model", ["text_encoder", "no-such-model"])
def test_what_cannot_be_checked_is_said_in_one_line(run, world, known_models, model):
    code, _, said = run("--model", getattr(known_models, model, model))
    assert code == 1
    assert said.out == ""
    assert said.err.startswith("jetson_check: ")
    assert said.err.count("\n") == 1


def test_a_size_outside_the_limits_is_said_with_them(run, world, known_models):
    code, _, said = run("--model", known_models.base, "--size", "32x64")
    assert code == 1
    assert "1 x 1 x 64 x 64 to 1 x 1 x 1024 x 1280" in said.err


@pytest.mark.parametrize("arguments", [["--size", "640"], ["--size", "0x10"], ["--runs", "0"]])
def test_malformed_arguments_are_refused(run, arguments):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2


def test_without_tensorrt_it_says_so_in_one_line(tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    done = subprocess.run(  # noqa: S603  (this interpreter, a file of the repository)
        [sys.executable, str(TOOLS / "jetson_check.py")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "libnvinfer.so.10" in done.stderr
    assert "JetPack" in done.stderr
