"""Export: what onnxruntime runs is what was trained, at any size, as a model folder that loads."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from irvf.engines.factory import create_engine
from irvf.instruction.prompt import Prompter
from irvf.models import load_model
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.box_detector import DeployedBoxDetector
from irvf.networks.salient_object import DeployedSaliencyNetwork
from irvf.networks.task_regulation import RegulatedFusionNetwork, TaskOrientedRegulation
from irvf.perception.detection import BoxDetector
from irvf.training import export
from irvf.training.checkpoint import load_weights
from irvf.training.export import ExportError, export_fixed, export_network

FOLDERS = {"base": "fusion", "regulated": "fusion", "detector": "detector", "segmentation": "segmentation",
           "saliency": "saliency"}  # fmt: skip


def planes(height, width, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 1, height, width, generator=generator) for _ in range(2)]


def engine_of(exported, name):
    return create_engine("onnxruntime", load_model(str(exported.root / name), FOLDERS[name]).onnx, 1)


def assert_same_but_for_half_precision(found, expected):
    """Weights are stored in half precision; the graph itself was compared more closely before that."""
    assert found.shape == expected.shape
    error = np.abs(found - expected) / np.maximum(np.abs(expected), 1)
    assert error.max() < 2e-2
    assert error.mean() < 2e-3


def torch_of(network, *inputs):
    with torch.no_grad():
        return network(*inputs).numpy()


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (17, 31), (16, 16), (131, 77)])
def test_the_fusion_equals_torch_at_any_size(exported, size):
    thermal, luma = planes(*size)
    found = engine_of(exported, "base").infer({"thermal": thermal.numpy(), "luma": luma.numpy()})["fused"]
    np.testing.assert_allclose(found, torch_of(exported.base, thermal, luma), atol=1e-4)


@pytest.fixture(scope="module")
def stored_regulated(exported):
    """The regulated network with the weights that lie in its folder, which are those of half precision."""
    stored = load_file(exported.root / "regulated" / "fusion.safetensors")
    network = RegulatedFusionNetwork(BaseFusionNetwork(4, 2), TaskOrientedRegulation(24, 4, 2)).eval()
    network.load_state_dict({name: value for name, value in stored.items() if not name.startswith("centroids.")})
    return network


@pytest.mark.parametrize("size", [(48, 64), (131, 77), (16, 17)])
def test_the_regulated_fusion_equals_the_unfolded_network_under_every_prompt(exported, stored_regulated, size):
    engine, (thermal, luma) = engine_of(exported, "regulated"), planes(*size)
    results = []
    for embedding in exported.centroids.values():
        text = torch.from_numpy(embedding)[None]
        with torch.no_grad():
            prompt = stored_regulated.regulation.prompts(text)[0].numpy()
        found = engine.infer({"thermal": thermal.numpy(), "luma": luma.numpy(), "prompt": prompt})["fused"]
        np.testing.assert_allclose(found, torch_of(stored_regulated, thermal, luma, text), atol=1e-4)
        results.append(found)
    assert np.abs(results[0] - results[1]).max() > 1e-3  # far above what rounding explains
    assert np.abs(results[0] - torch_of(exported.base, thermal, luma)).max() > 1e-2


def test_the_prompt_is_the_one_that_is_made_without_torch(exported, stored_regulated):
    folder = exported.root / "regulated"
    for task, embedding in exported.centroids.items():
        with torch.no_grad():
            expected = stored_regulated.regulation.prompts(torch.from_numpy(embedding)[None])[0].numpy()
        prompt = Prompter(lambda _, own=embedding: own, folder / "fusion.safetensors")("as it is", task)
        assert prompt.source == "text"
        assert prompt.values.shape == expected.shape == (2, 144)
        # The mean wording, which has a share in it, is stored in half precision.
        np.testing.assert_allclose(prompt.values, expected, rtol=1e-2, atol=1e-3)


def test_the_regulated_folder_says_what_it_needs(exported):
    model = load_model(str(exported.root / "regulated"), "fusion")
    assert model.weights == exported.root / "regulated" / "fusion.safetensors"
    assert model.text_encoder == "sentence-encoder"
    session = onnxruntime.InferenceSession(str(model.onnx))
    assert [entry.name for entry in session.get_inputs()] == ["thermal", "luma", "prompt"]
    assert session.get_inputs()[2].shape == [2, 144]
    stored = load_file(model.weights)
    for task, centroid in exported.centroids.items():
        np.testing.assert_allclose(stored[f"centroids.{task}"].numpy(), centroid, atol=1e-3)


def test_the_regulated_weights_are_the_network(exported, stored_regulated):
    for name, value in exported.regulated.state_dict().items():
        torch.testing.assert_close(stored_regulated.state_dict()[name], value, rtol=2**-11, atol=1e-7)
    inputs = (*planes(24, 32), torch.from_numpy(exported.centroids["viewing"])[None])
    difference = np.abs(torch_of(stored_regulated, *inputs) - torch_of(exported.regulated, *inputs))
    assert difference.mean() < 1e-2  # half precision


def test_a_fixed_instruction_is_a_fusion_of_two_planes(exported, tmp_path):
    torch.manual_seed(3)
    base = BaseFusionNetwork(4, 2, feature_fusion=False)
    network = RegulatedFusionNetwork(base, TaskOrientedRegulation(24, 4, 2, "concatenated"))
    thermal, luma = planes(41, 53)
    text = torch.from_numpy(exported.centroids["detection"])[None]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of the one batch
    network.train()(thermal, luma, text)
    for module in (*network.regulation.thermal, *network.regulation.luma):
        torch.nn.init.normal_(module.refinement[-1].weight)
    export_fixed(network, tmp_path, text[0].numpy())
    engine = create_engine("onnxruntime", load_model(str(tmp_path), "fusion").onnx, 1)
    found = engine.infer({"thermal": thermal.numpy(), "luma": luma.numpy()})["fused"]
    np.testing.assert_allclose(found, torch_of(network, thermal, luma, text), atol=1e-4)
    assert np.abs(found - torch_of(base, thermal, luma)).max() > 1e-2


def test_the_weights_lie_beside_it(exported):
    restored = BaseFusionNetwork(4, 2)
    load_weights(restored, exported.root / "base" / "fusion.safetensors")
    for name, value in exported.base.state_dict().items():
        torch.testing.assert_close(restored.state_dict()[name], value, rtol=2**-11, atol=1e-7)  # half precision


def test_the_detector_equals_torch_and_loads_as_one(exported):
    model = load_model(str(exported.root / "detector"), "detector")
    assert (model.labels, model.input_size) == (exported.labels, exported.input_size)
    engine = engine_of(exported, "detector")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    found = engine.infer({"image": image.numpy()})["predictions"]
    assert_same_but_for_half_precision(found, torch_of(DeployedBoxDetector(exported.detector), image))
    everything = BoxDetector(engine, model.labels, model.input_size, score_threshold=1e-6)
    assert everything.detect(np.full((120, 160, 3), 90, np.uint8))


def test_the_segmentation_equals_torch_and_loads_as_one(exported):
    model = load_model(str(exported.root / "segmentation"), "segmentation")
    assert model.labels == ("background", *exported.labels)
    assert model.input_size == exported.input_size
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    found = engine_of(exported, "segmentation").infer({"image": image.numpy()})["logits"]
    assert found.shape == (1, 4, 32, 48)
    assert_same_but_for_half_precision(found, torch_of(exported.segmentation, image))


def test_the_saliency_equals_torch_and_loads_as_one(exported):
    model = load_model(str(exported.root / "saliency"), "saliency")
    assert model.input_size == exported.input_size
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    found = engine_of(exported, "saliency").infer({"image": image.numpy()})["saliency"]
    assert found.shape == (1, 1, 32, 48)
    assert found.min() >= 0
    assert found.max() <= 1
    assert_same_but_for_half_precision(found, torch_of(DeployedSaliencyNetwork(exported.saliency), image))


def test_a_graph_that_differs_from_torch_is_noticed(exported):
    torch.manual_seed(5)
    other, graph = BaseFusionNetwork(4, 2).eval(), exported.root / "base" / "fusion.onnx"
    case = dict(zip(("thermal", "luma"), planes(32, 32), strict=True))
    export._compare(exported.base, graph, [case], export.TOLERANCE)
    with pytest.raises(ExportError, match="differs from torch"):
        export._compare(other, graph, [case], export.TOLERANCE)


def test_a_graph_that_differs_is_not_written(tmp_path):
    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, image):
            Counting.calls += 1
            return image * Counting.calls  # every call another result, as with a branch that the tracer froze

    image = {"image": torch.ones(1, 1, 8, 8)}
    with pytest.raises(ExportError, match="differs from torch"):
        export_network(Counting(), image, image, "result", tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FOLDERS)
def test_the_folder_is_self_contained(exported, name):
    kind = FOLDERS[name]
    assert {path.name for path in (exported.root / name).iterdir()} == {
        "config.yaml", f"{kind}.onnx", f"{kind}.safetensors",
    }  # fmt: skip
    graph = (exported.root / name / f"{kind}.onnx").read_bytes()
    inputs = onnxruntime.InferenceSession(graph).get_inputs()
    if kind == "fusion":
        assert [entry.name for entry in inputs][:2] == ["thermal", "luma"]
        assert all(not isinstance(side, int) for entry in inputs[:2] for side in entry.shape[2:])
    else:
        size = ["32*rows", "32*columns"] if kind == "detector" else [64, 96]
        assert [(entry.name, entry.shape) for entry in inputs] == [("image", [1, 3, *size])]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_graph_names_no_file_of_the_machine_that_made_it(exported, name):
    path = exported.root / name / f"{FOLDERS[name]}.onnx"
    content = path.read_bytes()
    for trace in (b".py", b"stack_trace", b"/tmp", str(exported.root).encode(), b"irvf/"):
        assert trace not in content
    model = onnx.load(path)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
