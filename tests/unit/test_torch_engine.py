"""The torch engine: what it makes of a model folder is the folder's ONNX, and what a GPU does is kept in order."""

import math
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from irvf.engines import torch_engine
from irvf.engines.engine import EngineError
from irvf.engines.graph_cache import GraphCache
from irvf.engines.torch_engine import HostQueue, NetworkRunner, TorchEngine
from irvf.models import available_models
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.box_detector import BoxDetectorNetwork, DeployedBoxDetector
from irvf.networks.deployed import architecture_of, load_network
from irvf.networks.realtime_fusion import RealtimeFusionNetwork
from irvf.networks.salient_object import DeployedSaliencyNetwork, SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.networks.task_regulation import RegulatedFusionNetwork, TaskOrientedRegulation, mean_of_convolution
from irvf.training.export import export_realtime

BASE = {"name": "base_fusion", "channels": 4, "blocks": 2, "feature_fusion": True}
REALTIME = {"name": "realtime_fusion", "text_width": 24, "channels": 4, "blocks": 3}


def architecture(folder):
    return yaml.safe_load((folder / "config.yaml").read_text("utf-8")).get("network")


SHIPPED = {name: folder for name, folder in available_models().items() if architecture(folder)}


def test_the_shipped_models_can_be_made_in_torch():
    assert set(SHIPPED) >= {"irvf", "irvf-base", "detector", "segmentation", "saliency"}


def weights_in(folder):
    (file,) = folder.glob("*.safetensors")
    return file


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inputs_of(network, height=64, width=96, seed=0):
    """Return random inputs of a network, as an engine takes them; prompts of the size that trained ones have."""
    rng = np.random.default_rng(seed)
    shapes = {name: (*form.shape[:2], height, width)[: len(form.shape)] for name, form in network.inputs.items()}
    scales = {name: 0.2 if name == "prompt" else 1.0 for name in shapes}
    return {name: (rng.random(shape) * scales[name]).astype(np.float32) for name, shape in shapes.items()}


def run(network, inputs):
    with torch.inference_mode():
        return network(*map(torch.from_numpy, inputs.values())).numpy()


def relative_error(found, expected):
    """Relative to one pixel or one unit, whichever is larger: detectors return pixels."""
    assert found.shape == expected.shape
    return np.abs(found - expected) / np.maximum(np.abs(expected), 1)


def refusal(call, *arguments):
    with pytest.raises(EngineError) as raised:
        call(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture(scope="module")
def base_weights(tmp_path_factory):
    """Weights of a small base network whose features are of unit size, as trained ones are."""
    torch.manual_seed(0)
    network = BaseFusionNetwork(4, 2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of the one batch
    with torch.no_grad():
        network.train()(*torch.rand(2, 2, 1, 64, 96))
    file = tmp_path_factory.mktemp("base") / "fusion.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}, file)
    return file


# What torch makes of a folder


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_in_torch_what_it_is_in_onnx(name):
    folder = SHIPPED[name]
    network = load_network(weights_in(folder), architecture(folder))
    session = onnxruntime.InferenceSession(str(weights_in(folder).with_suffix(".onnx")))
    size = yaml.safe_load((folder / "config.yaml").read_text("utf-8")).get("input_size", (76, 124))
    inputs = inputs_of(network, *size)
    assert [entry.name for entry in session.get_inputs()] == list(network.inputs)
    assert [entry.name for entry in session.get_outputs()] == [network.output]
    (expected,) = session.run(None, inputs)
    error = relative_error(run(network, inputs), expected)
    if "thermal" in inputs:
        assert error.max() < 1e-4
    else:  # graph and tensors are rounded to half precision each in its own way, the graph after folding
        assert error.max() < 2e-2
        assert error.mean() < 2e-3


def unfolded(name, stored):
    """Return the network as it was trained, with the weights as they are stored."""
    make = {
        "irvf-base": BaseFusionNetwork,
        "detector": lambda: BoxDetectorNetwork(3),
        "segmentation": lambda: SegmentationNetwork(4),
        "saliency": SaliencyNetwork,
    }
    network = make[name]()
    network.load_state_dict(stored)
    deploy = {"detector": DeployedBoxDetector, "saliency": DeployedSaliencyNetwork}
    return deploy.get(name, lambda same: same)(network).eval()


@pytest.mark.parametrize("name", ["irvf-base", "detector", "segmentation", "saliency"])
def test_folding_changes_nothing(name):
    stored = load_file(weights_in(SHIPPED[name]))
    network = load_network(weights_in(SHIPPED[name]), architecture(SHIPPED[name]))
    inputs = inputs_of(network)
    assert relative_error(run(network, inputs), run(unfolded(name, stored), inputs)).max() < 1e-4


def test_the_regulated_network_equals_the_unfolded_one_under_an_instruction():
    folder = SHIPPED["irvf"]
    stored = load_file(weights_in(folder))
    text = stored["centroids.detection"].float()[None]
    whole = RegulatedFusionNetwork(BaseFusionNetwork(), TaskOrientedRegulation(384)).eval()
    whole.load_state_dict({name: value for name, value in stored.items() if not name.startswith("centroids.")})
    network = load_network(weights_in(folder), architecture(folder))
    inputs = inputs_of(network)
    with torch.inference_mode():
        inputs["prompt"] = whole.regulation.prompts(text)[0].numpy()
        expected = whole(*(torch.from_numpy(inputs[name]) for name in ("thermal", "luma")), text).numpy()
    np.testing.assert_allclose(run(network, inputs), expected, atol=1e-5)


@pytest.fixture(scope="module")
def realtime(tmp_path_factory):
    torch.manual_seed(3)
    network = RealtimeFusionNetwork(24, 4, 3)
    with torch.no_grad():  # the training starts at zero
        for module in (network.tail, *(injection.predictor[1] for injection in network.regulation.trunk)):
            torch.nn.init.normal_(module.weight, 0, 0.2)
    folder = tmp_path_factory.mktemp("realtime")
    centroids = {"viewing": np.full(24, 1 / math.sqrt(24), np.float32)}
    export_realtime(network, folder, centroids, "sentence-encoder")
    return folder


def test_the_exporters_write_what_torch_needs(exported, realtime):
    assert architecture(exported.root / "base") == BASE
    assert architecture(realtime) == REALTIME
    kinds = {
        "regulated": {"name": "regulated_fusion", "text_width": 24, "channels": 4, "blocks": 2},
        "detector": {"name": "box_detector", "classes": 3, "head_width": 64},
        "segmentation": {"name": "segmentation_unet", "classes": 4},
        "saliency": {"name": "salient_object", "path": 24},
    }
    for name, expected in kinds.items():
        assert architecture(exported.root / name) == expected
        assert load_network(weights_in(exported.root / name), expected)


@pytest.mark.parametrize("size", [(64, 96), (76, 60)])
def test_the_realtime_network_equals_its_onnx(realtime, size):
    network = load_network(realtime / "fusion.safetensors", REALTIME)
    inputs = inputs_of(network, *size)
    (expected,) = onnxruntime.InferenceSession(str(realtime / "fusion.onnx")).run(None, inputs)
    np.testing.assert_allclose(run(network, inputs), expected, atol=1e-4)
    without = {**inputs, "prompt": np.zeros_like(inputs["prompt"])}
    assert np.abs(run(network, without) - expected).max() > 1e-3


@pytest.mark.parametrize("injection", ["text_only", "none", "added", "concatenated"])
def test_an_ablation_has_no_architecture(injection):
    network = RegulatedFusionNetwork(BaseFusionNetwork(4, 2), TaskOrientedRegulation(24, 4, 2, injection))
    assert architecture_of(network) is None
    assert architecture_of(torch.nn.Identity()) is None


def test_a_base_network_without_feature_fusion_says_so():
    assert architecture_of(BaseFusionNetwork(4, 2, feature_fusion=False)) == {**BASE, "feature_fusion": False}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": "yolo"}, "'yolo'; allowed: base_fusion, regulated_fusion, realtime_fusion"),
        ({"name": None}, "None; allowed"),
        ({"name": ["base_fusion"]}, "allowed"),
        ({"depth": 3}, "takes channels, blocks, feature_fusion, not channels, blocks, feature_fusion, depth"),
        ({"channels": "8"}, "channels of the network base_fusion must be in 2..4096, not '8'"),
        ({"channels": True}, "not True"),
        ({"blocks": 0}, "blocks of the network base_fusion must be in 1..4096, not 0"),
        ({"blocks": 10**9}, "not 1000000000"),
        ({"feature_fusion": 1}, "feature_fusion of the network base_fusion must be true or false, not 1"),
        ({"channels": 8}, "holds the weights of another network"),
        ({"blocks": 3}, "decoder.2.first.0.weight is missing in the file"),
        ({"blocks": 1}, "missing in the network"),
    ],
)
def test_an_architecture_that_does_not_fit_is_told(base_weights, changed, told):
    with pytest.raises(ValueError, match="network") as raised:
        load_network(base_weights, {**BASE, **changed})
    assert told in str(raised.value)
    with pytest.raises(ValueError, match="takes channels, blocks, feature_fusion, not nothing"):
        load_network(base_weights, {"name": "base_fusion"})


@pytest.mark.parametrize("content", [b"", b"no tensors at all", "truncated", None])
def test_a_file_without_tensors_is_told(tmp_path, base_weights, content):
    file = tmp_path / "fusion.safetensors"
    if content == "truncated":
        content = base_weights.read_bytes()[:5000]
    if content is not None:
        file.write_bytes(content)
    said = refusal(TorchEngine, file, BASE)
    assert str(file) in said
    assert "torch" in said


# The engine


@pytest.fixture
def engine(base_weights):
    return TorchEngine(base_weights, BASE, 1, "cpu")


def planes(height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random((1, 1, height, width), np.float32) for name in ("thermal", "luma")}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_engine_answers_as_the_network_does(name):
    folder = SHIPPED[name]
    network = load_network(weights_in(folder), architecture(folder))
    found = TorchEngine(weights_in(folder), architecture(folder), 1, "cpu")
    assert (found.input_names, found.output_names) == (tuple(network.inputs), (network.output,))
    inputs = inputs_of(network)
    outputs = found.infer(dict(reversed(inputs.items())))  # names count, not their order
    assert tuple(outputs) == found.output_names
    (output,) = outputs.values()
    assert output.dtype == np.float32
    assert relative_error(output, run(network, inputs)).max() < 1e-4


def test_the_description_names_version_device_and_threads(engine, base_weights):
    assert engine.description == f"torch {torch.__version__.split('+')[0]} cpu, 1 threads"
    assert TorchEngine(base_weights, BASE, device="cpu").description.endswith("cpu, all threads")


def test_a_device_that_is_not_there_is_told(base_weights):
    assert "allowed: auto, cpu, cuda" in refusal(TorchEngine, base_weights, BASE, 1, "tpu")
    assert " cpu, 1 threads" in TorchEngine(base_weights, BASE, 1, "cpu").description
    if not torch.cuda.is_available():
        assert "torch cannot use a GPU" in refusal(TorchEngine, base_weights, BASE, 1, "cuda")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"luma": None}, "takes thermal, luma, not thermal"),
        ({"extra": np.zeros(1, np.float32)}, "not thermal, luma, extra"),
        ({"luma": np.zeros((1, 1, 48, 64))}, "luma must be float32, not float64"),
        ({"luma": np.zeros((1, 48, 64), np.float32)}, "luma must be [1, 1, ?, ?]"),
        ({"luma": np.zeros((2, 1, 48, 64), np.float32)}, "not [2, 1, 48, 64]"),
        ({"luma": np.zeros((1, 1, 48, 1), np.float32)}, "height and width at least 8, not [1, 1, 48, 1]"),
        ({"luma": np.zeros((1, 1, 48, 65), np.float32)}, "one size, not thermal [1, 1, 48, 64], luma [1, 1, 48, 65]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(engine, changed, told):
    expected = engine.infer(planes())["fused"]
    said = refusal(engine.infer, {k: v for k, v in {**planes(), **changed}.items() if v is not None})
    assert said.startswith("torch failed: ")
    assert told in said
    np.testing.assert_array_equal(engine.infer(planes())["fused"], expected)


def test_sides_and_prompts_of_other_networks_are_refused(realtime):
    realtime_engine = TorchEngine(realtime / "fusion.safetensors", REALTIME, 1)
    prompt = np.zeros((5, 8), np.float32)  # blocks + 2 times 2 C
    assert realtime_engine.infer({**planes(), "prompt": prompt})["fused"].shape == (1, 1, 48, 64)
    assert "multiples of 4" in refusal(realtime_engine.infer, {**planes(50, 64), "prompt": prompt})
    assert "prompt must be [5, 8], not [4, 8]" in refusal(realtime_engine.infer, {**planes(), "prompt": prompt[1:]})
    folder = SHIPPED["detector"]
    detector = TorchEngine(weights_in(folder), architecture(folder), 1)
    image = np.zeros((1, 3, 64, 100), np.float32)
    assert "image must be [1, 3, ?, ?], height and width at least 32 and multiples of 32" in refusal(
        detector.infer, {"image": image}
    )


def test_any_array_of_the_right_shape_is_taken_without_a_word(engine):
    straight = planes()
    turned = {name: np.ascontiguousarray(plane[..., ::-1])[..., ::-1] for name, plane in straight.items()}
    for plane in turned.values():
        plane.flags.writeable = False
    expected = engine.infer(straight)["fused"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(engine.infer(turned)["fused"], expected)


def test_a_result_stays_as_it_is_and_inputs_too(engine):
    inputs = planes()
    first = engine.infer(inputs)["fused"]
    kept = first.copy()
    engine.infer(planes(seed=1))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(engine.infer(inputs)["fused"], kept)
    np.testing.assert_array_equal(inputs["luma"], planes()["luma"])


def test_it_bears_several_threads(engine):
    cases = [planes(48, 64, seed) for seed in range(3)] + [planes(40, 56, seed) for seed in range(3)]
    alone = [engine.infer(case)["fused"] for case in cases]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda case: engine.infer(case)["fused"], cases * 2))
    for found, expected in zip(together, alone * 2, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("threads", "used"), [(2, 2), (0, 1)])
def test_threads_and_algorithm_search_are_the_engines_own(base_weights, threads, used):
    found = TorchEngine(base_weights, BASE, threads, "cpu")
    seen = []

    class Watched(NetworkRunner):
        def run(self, inputs):
            seen.append((torch.get_num_threads(), torch.backends.cudnn.benchmark))
            return super().run(inputs)

    found._runner.__class__ = Watched
    found.infer(planes())
    assert seen == [(used, True)]
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == (1, False)


def test_what_torch_raises_is_one_line_and_the_next_run_is_fine(engine, monkeypatch):
    expected = engine.infer(planes())["fused"]
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor.reshape(7, 7))
    assert "torch failed: shape '[7, 7]' is invalid" in refusal(engine.infer, planes())
    monkeypatch.undo()
    np.testing.assert_array_equal(engine.infer(planes())["fused"], expected)


# What a GPU does, with the CPU in its place


class Recorder(HostQueue):
    """A CPU that captures as CUDA does: a replay reads the inputs and writes the result that the capture saw."""

    def __init__(self, precision=torch.float32, failure=None):
        self.precision, self.failure = precision, failure
        self.events = Counter()

    def capture(self, work):
        self.events["captures"] += 1
        if self.failure:
            raise RuntimeError(self.failure)
        work()
        inputs, result, network = list(work._inputs.values()), work._result, work._network

        def replay():
            self.events["replays"] += 1
            result.copy_(network(*(tensor.to(self.precision) for tensor in inputs)))

        return replay


@pytest.fixture
def runner(base_weights):
    def make(queue, limit=2):
        made = NetworkRunner(load_network(base_weights, BASE), queue, limit)

        def run_once(inputs):
            with torch.inference_mode():
                return made.run(inputs)

        return made, run_once

    return make


def test_a_size_is_captured_at_its_second_run_and_replayed_from_then_on(runner, engine):
    queue = Recorder()
    made, once = runner(queue)
    for number in range(4):
        for size in ((48, 64), (40, 56)):
            inputs = planes(*size, seed=number)
            np.testing.assert_allclose(once(inputs), engine.infer(inputs)["fused"], atol=1e-6)
        assert queue.events == +Counter(captures=2 * (number > 0), replays=2 * number)
    assert made.graphs.failure == ""


def test_the_size_that_was_not_run_for_the_longest_time_is_dropped(runner):
    queue = Recorder()
    _, once = runner(queue, limit=2)
    for size in (40, 48, 40, 56, 40):  # 56 takes the place of 48
        once(planes(size, 64))
    assert queue.events["captures"] == 1
    once(planes(48, 64))  # is new again, and takes the place of 56
    assert queue.events["captures"] == 1
    once(planes(48, 64))
    once(planes(56, 64))
    assert queue.events["captures"] == 2


def test_after_a_failed_capture_each_step_runs_by_itself(runner, engine, caplog):
    queue = Recorder(failure="operation not permitted\nwhen stream is capturing")
    made, once = runner(queue)
    for number in range(3):
        for size in (40, 48):
            inputs = planes(size, 64, number)
            np.testing.assert_allclose(once(inputs), engine.infer(inputs)["fused"], atol=1e-6)
    assert queue.events == Counter(captures=1)
    assert made.graphs.failure == "operation not permitted"
    assert [record.message for record in caplog.records if "no CUDA graph" in record.message] == [
        "no CUDA graph, each step is launched by itself: operation not permitted"
    ]


def test_the_description_tells_of_a_gpu_and_of_a_failed_capture(engine, runner):
    queue = Recorder(failure="not permitted")
    queue.device, queue.name = torch.device("cuda", 0), "GPU of a test"
    engine._runner, _ = runner(Recorder())
    engine._runner.queue = queue
    version = torch.__version__.split("+")[0]
    assert engine.description == f"torch {version} cuda, GPU of a test, fp16, CUDA graphs"
    engine._runner.graphs.failure = "not permitted"
    assert engine.description == f"torch {version} cuda, GPU of a test, fp16, no CUDA graphs: not permitted"


def test_a_run_that_fails_leaves_nothing_behind(runner):
    queue = Recorder()
    _, once = runner(queue)
    once(planes())
    with pytest.raises(TypeError, match="Cannot cast"):
        once({name: np.full(plane.shape, "?", object) for name, plane in planes().items()})
    before = queue.events["captures"]
    expected = once(planes())  # begins anew
    assert queue.events["captures"] == before
    np.testing.assert_array_equal(once(planes()), expected)
    assert queue.events["captures"] == before + 1


def test_the_cache_keeps_what_it_made_and_never_more_than_its_limit():
    alive = Counter()

    class Squares:
        def __init__(self, key):
            self.key, self.value = key, None
            alive[key] += 1

        def __call__(self):
            self.value = self.key**2

        def __del__(self):
            alive[self.key] -= 1

    cache = GraphCache(Squares, capture=None, limit=3)
    for key in (1, 2, 3, 1, 4, 5, 1):
        held, work = cache.prepare(key)
        work()
        assert held.value == key**2
        assert sum(alive.values()) <= 3
    assert cache.prepare(1)[0] is held
    del held, work
    cache.forget(1)
    assert +alive == Counter({4: 1, 5: 1})


# Half precision, which a GPU computes in


def test_half_precision_stays_near_float32(runner, engine):
    _, once = runner(Recorder(torch.float16))
    found = once(planes(24, 32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, engine.infer(planes(24, 32))["fused"], atol=5e-3)


def test_a_mean_over_an_image_does_not_overflow_in_half_precision():
    generator = torch.Generator().manual_seed(0)
    convolution = torch.nn.Conv2d(2, 2, 3)
    features = 1 + torch.rand(1, 2, 480, 640, generator=generator)  # their sum is far above 65504
    with torch.inference_mode():
        expected = mean_of_convolution(convolution, features)
        found = mean_of_convolution(convolution.half(), features.half())
    torch.testing.assert_close(found.float(), expected, rtol=5e-3, atol=5e-3)


def test_boxes_far_from_the_corner_are_as_exact_in_half_precision():
    folder = SHIPPED["detector"]
    network = load_network(weights_in(folder), architecture(folder))
    inputs = inputs_of(network, 32, 1280)  # half precision knows only every whole number above 1024
    expected = run(network, inputs)
    found = run(network.half(), {"image": inputs["image"].astype(np.float16)})
    small = expected[0, 2] < 100  # widths are exact to 1/1024 of themselves
    assert small.any()
    assert np.abs(found - expected)[0, :4, small].max() < 0.25


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", SHIPPED)
def test_a_gpu_answers_as_the_cpu_does(name):
    folder = SHIPPED[name]
    network = load_network(weights_in(folder), architecture(folder))
    found = TorchEngine(weights_in(folder), architecture(folder), device="cuda")
    for seed in range(4):
        inputs = inputs_of(network, 480, 640, seed)
        (output,) = found.infer(inputs).values()
        assert relative_error(output, run(network, inputs)).max() < 5e-2
    assert "cuda" in found.description
    assert found.description.endswith("CUDA graphs")
    assert torch_engine.MAX_SHAPES > 1
