"""The real-time network: what it starts from, what an instruction changes, what it costs, that its folding is exact."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from irvf.engines.engine import EngineError
from irvf.engines.factory import create_engine
from irvf.engines.fusion_network import FusionNetwork
from irvf.instruction.prompt import Prompter
from irvf.models import load_model
from irvf.networks.realtime_fusion import FoldedRealtimeNetwork, RealtimeFusionNetwork
from irvf.training.export import export_realtime

TEXT_WIDTH = 24
VGA = (480, 640)


@pytest.fixture(scope="module")
def network():
    """Random weights everywhere, those that start at zero too."""
    torch.manual_seed(3)
    made = RealtimeFusionNetwork(TEXT_WIDTH, channels=8, blocks=3).eval()
    for parameter in made.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.1)
    nn.init.normal_(made.tail.weight, 0, 0.05)
    return made


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("realtime") / "small"
    texts = np.random.default_rng(0).normal(size=(2, TEXT_WIDTH)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    export_realtime(network, path, dict(zip(("detection", "viewing"), texts, strict=True)), "sentence-encoder")
    return path


def planes(height=32, width=48, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 1, height, width, generator=generator, dtype=dtype) for _ in range(2)]


def text(seed=0, count=1, dtype=torch.float32):
    drawn = torch.randn(count, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return nn.functional.normalize(drawn)


def test_starts_as_the_average_whatever_the_text():
    fresh = RealtimeFusionNetwork(TEXT_WIDTH)
    thermal, luma = planes()
    torch.testing.assert_close(fresh(thermal, luma, text()), (thermal + luma) / 2)


def test_every_parameter_learns(network):
    thermal, luma = planes(64, 64)
    network(thermal, luma, text()).square().mean().backward()
    idle = [name for name, parameter in network.named_parameters() if not parameter.grad.any()]
    network.zero_grad()
    assert idle == []


def test_folding_is_exact_in_double_precision(network):
    exact = network.double()
    folded = FoldedRealtimeNetwork(exact)
    for seed in range(3):
        thermal, luma = planes(seed=seed, dtype=torch.float64)
        embedding = text(seed, dtype=torch.float64)
        with torch.no_grad():
            expected = exact(thermal, luma, embedding)
            found = folded(thermal, luma, exact.regulation.prompts(embedding)[0])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    network.float()


def test_each_sample_follows_its_own_text(network):
    thermal, luma = (plane.repeat(2, 1, 1, 1) for plane in planes())
    texts = text(count=2)
    with torch.no_grad():
        both = network(thermal, luma, texts)
        alone = [network(thermal[:1], luma[:1], texts[index : index + 1]) for index in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))
    assert (both[0] - both[1]).abs().mean() > 1e-3


def test_a_pair_of_vga_planes_costs_at_most_600_million_multiplications():
    network, total = RealtimeFusionNetwork(384), 0

    def count(module, inputs, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(*planes(*VGA), torch.zeros(1, 384))
    assert 0.2e9 < total <= 0.6e9


@pytest.mark.parametrize("size", [(96, 128), (16, 16), (33, 50), (47, 61)])
def test_the_exported_network_is_torchs_at_every_size(network, folder, size):
    model = load_model(str(folder), "fusion")
    prompter = Prompter(lambda given: text(len(given)).numpy()[0], model.weights)
    prompt = prompter("detection", "detection")
    fusion = FusionNetwork(create_engine("auto", model.onnx, 1), model.size_multiple).under(prompt.values)
    thermal, luma = (plane.numpy()[0, 0] for plane in planes(*size))
    found = fusion(thermal, luma)
    assert found.shape == size
    padded = [np.pad(plane, [(0, -side % 4) for side in size], mode="edge") for plane in (thermal, luma)]
    with torch.no_grad():
        folded = FoldedRealtimeNetwork(network)
        given = [torch.from_numpy(plane)[None, None] for plane in padded]
        expected = folded(*given, torch.from_numpy(prompt.values))[0, 0].numpy()
    np.testing.assert_allclose(found, expected[: size[0], : size[1]], atol=2e-3)  # weights in half precision


def test_without_the_multiple_the_engine_refuses_other_sizes(folder):
    onnx = folder / "fusion.onnx"
    prompt = np.zeros(onnxruntime.InferenceSession(str(onnx)).get_inputs()[2].shape, np.float32)
    fusion = FusionNetwork(create_engine("auto", onnx, 1)).under(prompt)
    with pytest.raises(EngineError):
        fusion(*(np.zeros((33, 50), np.float32) for _ in range(2)))


def test_the_prompt_is_that_of_the_trained_network(network, folder):
    embedding = text(5)
    prompter = Prompter(lambda _: embedding.numpy()[0], folder / "fusion.safetensors")
    found = prompter("anything", "segmentation")  # a task without a mean wording: the text alone
    with torch.no_grad():
        expected = network.regulation.prompts(embedding)[0].numpy()
    np.testing.assert_allclose(found.values, expected, atol=5e-3)
