"""The TensorRT engine against a fake of each version: results, sizes, graphs, the cache, and what goes wrong."""

import gc
import logging
import sys
import threading
import types

import numpy as np
import pytest
from fake_tensorrt import VERSIONS, FakeGpu, World
from onnx import TensorProto, helper

from irvf.engines import cuda_runtime, tensorrt_builder, tensorrt_engine
from irvf.engines.cuda_runtime import CudaRuntime
from irvf.engines.engine import EngineError
from irvf.engines.fusion_network import FusionNetwork
from irvf.engines.onnx_engine import OnnxEngine
from irvf.engines.tensorrt_builder import SizeLimits
from irvf.engines.tensorrt_engine import TensorRtEngine
from irvf.models import load_model

LIMITS = SizeLimits((16, 24), (48, 64), (96, 128))


@pytest.fixture(params=VERSIONS)
def world(request, monkeypatch):
    world = World(request.param, FakeGpu())
    monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
    yield world
    assert world.gpu.violations == []


@pytest.fixture
def make(world, tmp_path):
    """Return a function that makes an engine on the fake, its cache in a folder of the test."""

    def engine(onnx, limits=LIMITS, cache_folder=tmp_path / "cache", **options):
        return TensorRtEngine(onnx, limits, cache_folder, cuda=CudaRuntime(world.gpu), **options)

    return engine


@pytest.fixture(scope="module")
def network():
    return load_model("irvf-base", "fusion").onnx


@pytest.fixture(scope="module")
def mean(known_models):
    """The mean of both planes."""
    return load_model(known_models.base).onnx


def planes(height=48, width=64, seed=0):
    values = np.random.default_rng(seed)
    return {name: values.random((1, 1, height, width), np.float32) for name in ("thermal", "luma")}


def mean_of(inputs):
    return (inputs["thermal"] + inputs["luma"]) / 2


def refusal(call, *arguments, **options):
    with pytest.raises(EngineError) as raised:
        call(*arguments, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def one_output(kind, inputs, output=("y", TensorProto.FLOAT, [1, 1, "h", "w"])):
    """A network of one node, in bytes."""
    node = helper.make_node(kind, [name for name, _, _ in inputs], [output[0]])
    values = [helper.make_tensor_value_info(*each) for each in (*inputs, output)]
    graph = helper.make_graph([node], "one", values[:-1], values[-1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


# What the fake is.


def test_the_fake_lacks_what_its_version_lacks():
    old, middle, new = (World(version, FakeGpu()).trt for version in VERSIONS)
    for trt in (old, middle):
        assert trt.BuilderFlag.FP16
        assert trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    assert not hasattr(new.BuilderFlag, "FP16")
    assert not hasattr(new.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    with pytest.raises(AttributeError):
        _ = new.IInt8EntropyCalibrator2
    with pytest.raises(AttributeError):
        old.IBuilderConfig().l2_limit_for_tiling = 1  # of 10.16
    with pytest.raises(NotImplementedError):  # the real one has it: silence would hide that the fake does not
        _ = middle.IBuilderConfig().l2_limit_for_tiling


# Results.


def test_gives_what_onnxruntime_gives_at_every_size(make, network):
    engine, reference = make(network), OnnxEngine(network, 1)
    assert engine.input_names == reference.input_names
    assert engine.output_names == reference.output_names
    for seed, size in enumerate([(48, 64), (48, 64), (48, 64), (17, 40), (96, 128), (48, 64), (48, 64)]):
        inputs = planes(*size, seed)
        outputs = engine.infer(inputs)
        for name, expected in reference.infer(inputs).items():
            np.testing.assert_allclose(outputs[name], expected, atol=1e-5)


def test_takes_a_prompt_beside_planes_of_any_size(make, known_models):
    onnx = load_model(known_models.fusion).onnx
    engine, prompt = make(onnx), np.linspace(0, 0.5, 18, dtype=np.float32).reshape(2, 9)
    for size in ((48, 64), (32, 64)):
        inputs = planes(*size) | {"prompt": prompt}
        expected = OnnxEngine(onnx, 1).infer(inputs)["fused"]
        np.testing.assert_allclose(engine.infer(inputs)["fused"], expected, atol=1e-6)


def test_runs_under_a_fusion_network_whose_planes_are_views(make, mean):
    fuse = FusionNetwork(make(mean)).under(None)
    wide = planes(48, 128)
    thermal, luma = (plane[0, 0, :, ::2] for plane in wide.values())
    np.testing.assert_allclose(fuse(thermal, luma), (thermal + luma) / 2, atol=1e-6)


def test_a_network_of_fixed_size_keeps_it_whatever_the_limits(make, known_models):
    onnx = load_model(known_models.saliency).onnx
    engine, image = make(onnx), np.random.default_rng(0).random((1, 3, 480, 640), np.float32)
    np.testing.assert_allclose(
        engine.infer({"image": image})["saliency"], OnnxEngine(onnx, 1).infer({"image": image})["saliency"], atol=1e-5
    )
    assert "1 x 3 x 480 x 640" in refusal(engine.infer, {"image": image[:, :, :96, :128]})


def test_results_are_the_callers_to_keep(make, mean):
    engine, first, second = make(mean), planes(seed=1), planes(seed=2)
    kept = engine.infer(first)["fused"]
    engine.infer(second)
    np.testing.assert_allclose(kept, mean_of(first), atol=1e-6)


def test_threads_get_their_own_results(make, mean):
    engine, wrong = make(mean), []

    def run(seed):
        inputs = planes(16 + 8 * seed, 64, seed)
        for _ in range(20):
            wrong.extend([seed] * (not np.allclose(engine.infer(inputs)["fused"], mean_of(inputs))))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_description_says_what_runs_where(make, world, mean):
    said = make(mean).description
    assert f"tensorrt {world.version}" in said
    assert "Fake Orin" in said
    assert "8.7" in said
    assert "built in" in said
    assert "from the cache" in make(mean).description


# What is built.


def test_the_network_is_strongly_typed(make, world, mean):
    make(mean)
    assert world.builds[0]["flags"] == 1 << int(world.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_a_version_without_the_flag_gets_none(make, world, mean, monkeypatch):
    monkeypatch.setattr(world.trt, "NetworkDefinitionCreationFlag", types.SimpleNamespace())
    make(mean)
    assert world.builds[0]["flags"] == 0


def test_tf32_can_be_forbidden_and_has_an_engine_of_its_own(make, world, mean):
    make(mean)
    make(mean, tf32=False)
    assert [build["tf32"] for build in world.builds] == [True, False]


@pytest.mark.parametrize("content", [b"no network", None, 20_000], ids=["garbage", "missing", "truncated"])
def test_a_file_that_is_no_network_is_named(make, network, tmp_path, content):
    file = tmp_path / "net.onnx"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else network.read_bytes()[:content])
    assert str(file) in refusal(make, file)


def test_a_network_with_other_open_sides_is_sent_to_onnxruntime(make, known_models):
    said = refusal(make, load_model(known_models.text_encoder).onnx)
    assert "input_ids" in said
    assert "onnxruntime" in said


def test_an_open_batch_is_one(make, tmp_path):
    sides = ["n", 3, "h", 64]
    (tmp_path / "net.onnx").write_bytes(
        one_output("Relu", [("x", TensorProto.FLOAT, sides)], ("y", TensorProto.FLOAT, sides))
    )
    engine = make(tmp_path / "net.onnx")
    x = np.random.default_rng(0).normal(size=(1, 3, 20, 64)).astype(np.float32)
    np.testing.assert_array_equal(engine.infer({"x": x})["y"], np.maximum(x, 0))
    assert "1 x 3 x 16 x 64 to 1 x 3 x 96 x 64" in refusal(engine.infer, {"x": x.repeat(2, axis=0)})


def test_half_precision_stays_half(make, tmp_path):
    sides = [1, 1, "h", "w"]
    (tmp_path / "net.onnx").write_bytes(
        one_output("Relu", [("x", TensorProto.FLOAT16, sides)], ("y", TensorProto.FLOAT16, sides))
    )
    x = np.random.default_rng(0).normal(size=(1, 1, 20, 64)).astype(np.float16)
    y = make(tmp_path / "net.onnx").infer({"x": x})["y"]
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_what_tensorrt_says_of_a_failed_build_is_passed_on(make, world, mean, tmp_path):
    world.fails.add("build")
    assert "no implementation for node Conv_3" in refusal(make, mean)
    assert not list((tmp_path / "cache").glob("*base*"))


@pytest.mark.parametrize("what", ["runtime", "builder", "context", "load"])
def test_what_cannot_be_made_is_said_in_one_line(make, world, mean, what):
    world.fails.add(what)
    assert "TensorRT" in refusal(make, mean)


@pytest.mark.parametrize("sizes", [((0, 64), (48, 64), (96, 128)), ((16, 24), (48, 200), (96, 128))])
def test_limits_that_do_not_rise_are_refused(sizes):
    assert " x ".join(map(str, sizes[1])) in refusal(SizeLimits, *sizes)


# Sizes.


@pytest.mark.parametrize("size", [(15, 64), (48, 129), (97, 64), (480, 640)])
def test_a_size_outside_the_limits_is_refused_with_them_and_the_next_run_is_fine(make, mean, size):
    engine = make(mean)
    said = refusal(engine.infer, planes(*size))
    assert f"1 x 1 x {size[0]} x {size[1]}" in said
    assert "1 x 1 x 16 x 24 to 1 x 1 x 96 x 128" in said
    inputs = planes()
    np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)


@pytest.mark.parametrize("size", [LIMITS.minimum, LIMITS.maximum])
def test_the_limits_themselves_are_taken(make, mean, size):
    inputs = planes(*size)
    np.testing.assert_allclose(make(mean).infer(inputs)["fused"], mean_of(inputs), atol=1e-6)


def test_default_limits_hold_vga_and_a_megapixel(make, mean):
    engine = make(mean, limits=None)
    for size in ((64, 64), (480, 640), (1024, 1280)):
        assert engine.infer(planes(*size))["fused"].shape == (1, 1, *size)
    refusal(engine.infer, planes(1025, 1280))


@pytest.mark.parametrize(
    "inputs",
    [
        {"thermal": np.zeros((1, 1, 48, 64), np.float32)},
        {**planes(), "extra": np.zeros(1, np.float32)},
        {name: plane.astype(np.float64) for name, plane in planes().items()},
        {name: plane[0] for name, plane in planes().items()},
        {"thermal": planes()["thermal"], "luma": planes(32, 32)["luma"]},
    ],
    ids=["one missing", "one too many", "another type", "another rank", "two sizes"],
)
def test_inputs_that_do_not_fit_are_refused_and_the_next_run_is_fine(make, mean, inputs):
    engine = make(mean)
    engine.infer(planes())
    refusal(engine.infer, inputs)
    fitting = planes(seed=5)
    np.testing.assert_allclose(engine.infer(fitting)["fused"], mean_of(fitting), atol=1e-6)


def test_an_output_whose_shape_depends_on_values_is_refused(make, world, mean):
    world.fails.add("shape of values")
    assert "fused" in refusal(make(mean).infer, planes())


# CUDA.


def test_a_size_that_comes_again_runs_as_a_graph(make, world, mean):
    engine = make(mean)
    for runs, launches in enumerate([0, 1, 2, 3]):
        inputs = planes(seed=runs)
        np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
        assert world.gpu.launches == launches
    engine.infer(planes(32, 32))
    assert world.gpu.launches == 3
    assert world.gpu.live.get("executable", 0) == 0  # that of the former size is gone
    engine.infer(planes(32, 32))
    assert world.gpu.launches == 4


def test_graphs_can_be_switched_off(make, world, mean):
    engine = make(mean, graphs=False)
    for seed in range(3):
        inputs = planes(seed=seed)
        np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert world.gpu.launches == 0


@pytest.mark.parametrize(
    "failing", ["capture", "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiateWithFlags"]
)
def test_what_cannot_be_captured_runs_without(make, world, mean, caplog, failing):
    if failing == "capture":
        world.fails.add(failing)
    else:
        world.gpu.failing[failing] = 900
    engine = make(mean)
    for seed in range(3):
        inputs = planes(seed=seed)
        np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert world.gpu.launches == 0
    assert len([text for text in warnings(caplog) if "CUDA graph" in text]) == 1
    assert "graph" not in world.gpu.live


def test_buffers_are_used_again(make, world, mean):
    engine = make(mean)
    engine.infer(planes(96, 128))
    live = world.gpu.live
    assert (live["device"], live["pinned"], live["stream"]) == (3, 3, 1)
    addresses = set(world.gpu._live)
    for size in ((48, 64), (16, 24), (96, 128)):
        engine.infer(planes(*size))
    assert {handle for handle in world.gpu._live if world.gpu._live[handle][0] in ("device", "pinned")} <= addresses


def test_everything_is_given_back(make, world, mean):
    engine = make(mean)
    for size in ((48, 64), (48, 64), (96, 128), (96, 128)):
        engine.infer(planes(*size))
    assert world.gpu.live["executable"] == 1
    del engine
    gc.collect()
    assert world.gpu.live == {}


@pytest.mark.parametrize(
    "failing", ["cudaMalloc", "cudaMallocHost", "cudaMemcpyAsync", "cudaStreamSynchronize", "execute"]
)
def test_a_failure_on_the_gpu_is_named_and_the_next_run_is_fine(make, world, mean, failing):
    engine = make(mean)
    engine.infer(planes(32, 32))
    if failing == "execute":
        world.fails.add(failing)
    else:
        world.gpu.failing[failing] = 2
    said = refusal(engine.infer, planes())
    assert "enqueue failed" in said if failing == "execute" else f"{failing} failed: it is made to fail" in said
    world.fails.clear()
    world.gpu.failing.clear()
    inputs = planes(seed=7)
    np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)


@pytest.mark.parametrize("graphs", [False, True], ids=["in a run", "in a capture"])
def test_an_interrupted_run_leaves_nothing_under_way(make, mean, monkeypatch, graphs):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    engine = make(mean, graphs=graphs)
    engine.infer(planes())
    with monkeypatch.context() as patch:
        patch.setattr(cuda_runtime.Stream, "download", interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.infer(planes())
    inputs = planes(32, 32)
    np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)


def test_a_gpu_that_cannot_be_reached_is_named():
    gpu = FakeGpu()
    gpu.failing["cudaGetDevice"] = 35
    assert "CUDA error 35" in refusal(CudaRuntime, gpu)


def test_a_library_that_lacks_a_function_is_too_old():
    gpu = FakeGpu()
    del gpu.cudaGraphInstantiateWithFlags
    assert "too old" in refusal(CudaRuntime, gpu)


def test_no_cuda_library_is_said(monkeypatch):
    monkeypatch.setattr(cuda_runtime, "_library_names", lambda: iter(["libcudart-of-no-machine.so"]))
    assert "libcudart is not found" in refusal(CudaRuntime)


def test_of_several_cuda_libraries_the_one_that_fits_the_driver_is_taken(monkeypatch):
    newer, older = FakeGpu("by the newer"), FakeGpu("by the older")
    newer.failing["cudaFree"] = 35
    libraries = {"libcudart.so.13": newer, "libcudart.so.12": older}

    def load(name):
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    monkeypatch.setattr(cuda_runtime.ctypes, "CDLL", load)
    assert CudaRuntime().device == "by the older"
    older.failing["cudaFree"] = 100
    said = refusal(CudaRuntime)
    assert "CUDA error 35" in said
    assert "CUDA error 100" in said


def test_the_runtime_tells_what_gpu_it_is():
    runtime = CudaRuntime(FakeGpu("NVIDIA Thor", (11, 0)))
    assert (runtime.device, runtime.capability, runtime.version) == ("NVIDIA Thor", "11.0", "12.6")


# Without TensorRT.


def test_a_missing_tensorrt_is_said_with_what_to_do(monkeypatch, mean):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "JetPack" in refusal(TensorRtEngine, mean)


def test_an_old_tensorrt_is_refused(world, monkeypatch, mean):
    monkeypatch.setattr(world.trt, "__version__", "8.6.1")
    assert "8.6.1" in refusal(TensorRtEngine, mean)


# Progress.


def test_progress_is_told_in_phases(make, mean):
    told = []
    make(mean, progress=lambda phase, fraction: told.append((phase, fraction)))
    for phase, steps in (("Building Engine", 2), ("Timing", 4)):
        fractions = [fraction for name, fraction in told if name == phase]
        assert fractions == sorted(fractions)
        assert {step / steps for step in range(steps + 1)} == set(fractions)
    told.clear()
    make(mean, progress=lambda phase, fraction: told.append((phase, fraction)))
    assert told == []  # nothing is built


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_progress_raises_ends_the_build(make, world, mean, tmp_path, error):
    def stop(phase, fraction):
        if fraction >= 0.5:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        make(mean, progress=stop)
    assert world.builds == []
    make(mean)
    assert len(world.builds) == 1


def test_without_a_callback_progress_goes_to_the_log(make, mean, caplog, monkeypatch):
    monkeypatch.setattr(tensorrt_builder, "_LOG_EVERY", 0)
    with caplog.at_level(logging.INFO, "irvf.engines.tensorrt_builder"):
        make(mean)
    assert "Timing, 50 %" in caplog.text


def test_bindings_without_a_progress_monitor_build_all_the_same(make, world, mean, monkeypatch):
    monkeypatch.delattr(world.trt, "IProgressMonitor")
    monkeypatch.setattr(world.trt, "_module_names", world.trt._module_names - {"IProgressMonitor"})
    make(mean)
    assert len(world.builds) == 1


# The cache.


def test_an_engine_is_built_once(make, world, mean):
    first = make(mean)
    inputs = planes()
    np.testing.assert_allclose(make(mean).infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert len(world.builds) == 1
    assert first.file.is_file()
    assert make(mean).file == first.file


def test_other_limits_another_network_and_another_gpu_have_their_own(make, world, mean, network):
    make(mean)
    make(mean, limits=SizeLimits((16, 24), (48, 64), (96, 129)))
    make(network)
    world.gpu.capability = (9, 0)
    make(mean)
    world.gpu.name = "Fake Thor"
    make(mean)
    assert len(world.builds) == 5


def test_other_weights_beside_the_network_are_another_network(make, world, mean, tmp_path):
    onnx = tmp_path / "net.onnx"
    onnx.write_bytes(mean.read_bytes())
    for weights in (b"old", b"old", b"new"):
        onnx.with_name("net.onnx.data").write_bytes(weights)
        make(onnx)
    assert len(world.builds) == 2


def test_versions_share_a_folder_without_taking_each_others_engines(tmp_path, mean, monkeypatch):
    inputs = planes()
    for _ in range(2):
        for version in VERSIONS:
            world = World(version, FakeGpu())
            monkeypatch.setitem(sys.modules, "tensorrt", world.trt)
            engine = TensorRtEngine(mean, LIMITS, tmp_path, cuda=CudaRuntime(world.gpu))
            np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert len(list(tmp_path.glob("*base*.engine"))) == len(VERSIONS)
    assert "from the cache" in engine.description


@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "bit", "header"])
def test_a_damaged_engine_is_built_anew(make, world, mean, caplog, damage):
    file = make(mean).file
    good = file.read_bytes()
    bit = bytearray(good)
    bit[-5] ^= 1
    file.write_bytes(
        {"empty": b"", "garbage": b"\x80" * 999, "truncated": good[:-1], "bit": bytes(bit), "header": good[7:]}[damage]
    )
    inputs = planes()
    np.testing.assert_allclose(make(mean).infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert len(world.builds) == 2
    assert str(file) in "".join(warnings(caplog))
    make(mean)
    assert len(world.builds) == 2  # it was mended


def test_a_whole_engine_that_tensorrt_refuses_is_built_anew(make, world, mean, caplog, monkeypatch):
    make(mean)
    load = world.trt.Runtime.deserialize_cuda_engine

    def refuse_the_old_one(self, serialized_engine):
        if len(world.builds) == 1:
            return world.complain(self._logger, "Error Code 6: another driver")
        return load(self, serialized_engine)

    monkeypatch.setattr(world.trt.Runtime, "deserialize_cuda_engine", refuse_the_old_one)
    inputs = planes()
    np.testing.assert_allclose(make(mean).infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert len(world.builds) == 2
    assert "another driver" in "".join(warnings(caplog))


def test_a_folder_that_cannot_be_made_is_a_warning(make, world, mean, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    engine = make(mean, cache_folder=tmp_path / "file" / "cache")
    inputs = planes()
    np.testing.assert_allclose(engine.infer(inputs)["fused"], mean_of(inputs), atol=1e-6)
    assert engine.file is None
    assert "IRVF_ENGINE_CACHE" in "".join(warnings(caplog))


def test_what_was_measured_serves_the_next_build(make, world, mean):
    make(mean).file.unlink()
    make(mean)
    assert [build["timed"] for build in world.builds] == [False, True]


@pytest.mark.parametrize(
    "content", [b"nonsense", b'FAKE TIMINGS{"version": "1.0", "measured": []}'], ids=["garbage", "foreign"]
)
def test_measurements_that_tensorrt_refuses_are_made_anew(make, world, mean, tmp_path, caplog, monkeypatch, content):
    make(mean).file.unlink()
    load = tensorrt_engine.EngineCache.load
    monkeypatch.setattr(
        tensorrt_engine.EngineCache,
        "load",
        lambda self, name, identity: content if name == "timings" else load(self, name, identity),
    )
    make(mean)
    assert [build["timed"] for build in world.builds] == [False, False]
    assert "timing cache" in "".join(warnings(caplog))
