"""Export: what onnxruntime runs is what was trained, at any size, as a model folder that loads."""

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from irvf.engines.factory import create_engine
from irvf.models import load_model
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.box_detector import BoxDetectorNetwork, DeployedBoxDetector
from irvf.perception.detection import BoxDetector
from irvf.training import export
from irvf.training.export import ExportError, export_base, export_detector


def randomized(network):
    """Give the batch normalisations statistics, as a training would."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.rand(module.num_features, generator=generator) * 0.2)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def fusion(tmp_path_factory):
    torch.manual_seed(0)
    network, folder = randomized(BaseFusionNetwork(4, 1)), tmp_path_factory.mktemp("models") / "tiny"
    export_base(network, folder)
    return network, folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    torch.manual_seed(0)
    network = randomized(BoxDetectorNetwork(2, widths=(8, 8, 8, 8, 8), head_width=8))
    folder = tmp_path_factory.mktemp("models") / "finder"
    export_detector(network, folder, ("person", "car"), (64, 96))
    return network, folder


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (17, 31), (16, 16), (131, 77)])
def test_the_fusion_equals_torch_at_any_size(fusion, size):
    network, folder = fusion
    engine = create_engine("onnxruntime", load_model(str(folder), "fusion").onnx)
    generator = torch.Generator().manual_seed(2)
    thermal, luma = (torch.rand(1, 1, *size, generator=generator) for _ in range(2))
    found = engine.infer({"thermal": thermal.numpy(), "luma": luma.numpy()})["fused"]
    with torch.no_grad():
        np.testing.assert_allclose(found, network(thermal, luma).numpy(), atol=1e-5)


def test_the_weights_lie_beside_it(fusion):
    network, folder = fusion
    restored = BaseFusionNetwork(4, 1)
    restored.load_state_dict(load_file(folder / "fusion.safetensors"))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(restored.state_dict()[name], value, rtol=2**-11, atol=1e-7)  # half precision


def test_the_detector_equals_torch_and_loads_as_one(detector):
    network, folder = detector
    model = load_model(str(folder), "detector")
    assert (model.labels, model.input_size) == (("person", "car"), (64, 96))
    engine = create_engine("auto", model.onnx)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    found = engine.infer({"image": image.numpy()})["predictions"]
    with torch.no_grad():
        np.testing.assert_allclose(found, DeployedBoxDetector(network)(image).numpy(), rtol=1e-4, atol=1e-4)
    everything = BoxDetector(engine, model.labels, model.input_size, score_threshold=1e-6)
    assert everything.detect(np.full((120, 160, 3), 90, np.uint8))


def test_a_graph_that_differs_from_torch_is_noticed(fusion):
    torch.manual_seed(5)
    other = randomized(BaseFusionNetwork(4, 1))
    case = {"thermal": torch.rand(1, 1, 32, 32), "luma": torch.rand(1, 1, 32, 32)}
    export._compare(fusion[0], fusion[1] / "fusion.onnx", [case])
    with pytest.raises(ExportError, match="differs from torch"):
        export._compare(other, fusion[1] / "fusion.onnx", [case])


def test_the_graph_is_self_contained(fusion):
    assert {path.name for path in fusion[1].iterdir()} == {"config.yaml", "fusion.onnx", "fusion.safetensors"}
    session = onnxruntime.InferenceSession((fusion[1] / "fusion.onnx").read_bytes())
    assert [entry.name for entry in session.get_inputs()] == ["thermal", "luma"]
    assert all(not isinstance(side, int) for entry in session.get_inputs() for side in entry.shape[2:])


def test_the_graph_names_no_file_of_the_machine_that_made_it(fusion):
    content = (fusion[1] / "fusion.onnx").read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content
