"""Task-oriented regulation: the paper's size, a start from the bare network, and a fold that is exact."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.prompt_injection import INJECTIONS, PromptInjection, StaticInjection, convolve_each, make_injection
from irvf.networks.task_regulation import (
    FixedInstruction,
    FoldedFusionNetwork,
    FoldedPromptInjection,
    RegulatedFusionNetwork,
    TaskOrientedRegulation,
    mean_of_convolution,
)

TEXT_WIDTH = 24


def trained(module, seed=0):
    """Move everything that a training moves away from where it starts: zeros, ones and empty statistics."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.running_var):
                nn.init.uniform_(values, 0.5, 1.5, generator=generator)
            for values in (layer.bias, layer.running_mean):
                nn.init.normal_(values, 0, 0.3, generator=generator)
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.bias is not None:
            nn.init.normal_(layer.weight, 0, 0.5, generator=generator)
            nn.init.normal_(layer.bias, 0, 0.5, generator=generator)
    return module.eval()


@pytest.fixture
def network():
    torch.manual_seed(3)
    return trained(RegulatedFusionNetwork(BaseFusionNetwork(), TaskOrientedRegulation(TEXT_WIDTH)))


def planes(height, width, batch=1, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 1, height, width, generator=generator, dtype=dtype) for _ in range(2)]


def texts(batch, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(batch, TEXT_WIDTH, generator=generator, dtype=dtype))


def parameter_count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_has_the_papers_number_of_parameters_with_texts_of_4096_numbers():
    adapter = (4096 * 512 + 512) + (512 * 512 + 512)
    statistics = 2 * (8 * 8 * 9 + 8)
    predictor = ((512 + 2 * 8) * 512 + 512) + (512 * 576 + 576)
    convolutions = (8 * 16 * 9 + 16) + (16 * 16 * 9 + 16) + (16 * 8 * 9 + 8) + (8 * 8 + 8)
    normalisations = 2 * (8 + 16 + 16 + 8)
    module = statistics + predictor + convolutions + normalisations
    assert adapter + 6 * module == 5_794_240  # the 5.79 M of the paper
    regulation = TaskOrientedRegulation(4096)
    assert all(parameter.requires_grad for parameter in regulation.parameters())
    assert parameter_count(regulation) == 5_794_240


def test_the_width_follows_the_text_encoder():
    wide, narrow = TaskOrientedRegulation(384), TaskOrientedRegulation(100)
    assert parameter_count(wide) - parameter_count(narrow) == (384 - 100) * 512
    assert narrow.prompts(torch.zeros(2, 100)).shape == (2, 6, 576)
    with pytest.raises(RuntimeError):
        narrow.prompts(torch.zeros(2, 384))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_starts_as_the_bare_base_network(injection):
    torch.manual_seed(1)
    base = trained(BaseFusionNetwork())
    network = RegulatedFusionNetwork(base, TaskOrientedRegulation(TEXT_WIDTH, injection=injection)).eval()
    inputs = planes(24, 31, batch=2)
    with torch.no_grad():
        assert torch.equal(network(*inputs, texts(2)), base(*inputs))


def test_an_unknown_injection_is_refused_with_what_is_allowed():
    with pytest.raises(ValueError, match=r"'depthwise'; allowed: dynamic, text_only, none, added, concatenated"):
        TaskOrientedRegulation(TEXT_WIDTH, injection="depthwise")


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (17, 31), (8, 9), (2, 3)])
def test_a_module_folds_exactly(size):
    torch.manual_seed(2)
    module = trained(PromptInjection(8)).double()
    features = torch.randn(1, 8, *size, dtype=torch.float64)
    text = torch.randn(1, 512, dtype=torch.float64)
    first, second = module.predictor
    prompt = second(functional.linear(text, first.weight[:, 16:], first.bias))[0]
    with torch.no_grad():
        of_image = second.weight @ first.weight[:, :16]
        kernel = of_image @ module.statistics(features)[0] + prompt
        torch.testing.assert_close(
            kernel, module.predictor(torch.cat((module.statistics(features), text), 1))[0], rtol=0, atol=1e-12
        )
        adjusted, folded = module(features, text), FoldedPromptInjection(module)(features, prompt)
    assert (adjusted - features).abs().mean() > 0.01  # there is something to compare
    torch.testing.assert_close(folded, adjusted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (17, 31), (9, 9)])
def test_the_folded_network_is_the_network(network, size):
    network = network.double()
    folded = FoldedFusionNetwork(network).eval()
    inputs, embeddings = planes(*size, dtype=torch.float64), texts(2, dtype=torch.float64)
    with torch.no_grad():
        prompts = network.regulation.prompts(embeddings)
        results = [network(*inputs, embedding[None]) for embedding in embeddings]
        for result, prompt in zip(results, prompts, strict=True):
            torch.testing.assert_close(folded(*inputs, prompt), result, rtol=0, atol=1e-12)
        assert (results[0] - results[1]).abs().max() > 1e-6  # the instruction matters
        assert (results[0] - network.base(*inputs)).abs().max() > 1e-3  # and so does the regulation


def test_without_image_statistics_the_folded_kernel_is_the_prompt():
    module = trained(PromptInjection(4, image_statistics=False)).double()
    features, text = torch.randn(1, 4, 9, 12, dtype=torch.float64), torch.randn(1, 512, dtype=torch.float64)
    first, second = module.predictor
    prompt = second(functional.linear(text, first.weight[:, 8:], first.bias))[0]
    with torch.no_grad():
        torch.testing.assert_close(
            FoldedPromptInjection(module)(features, prompt), module(features, text), rtol=0, atol=1e-12
        )
        expected = features + module.refinement(convolve_each(features, prompt[None]))
        torch.testing.assert_close(module(features, text), expected, rtol=0, atol=1e-12)


def test_thermal_prompts_come_first(network):
    embedding = texts(1)
    with torch.no_grad():
        text = network.regulation.adapter(embedding)
        none = torch.zeros(1, 16)
        for index, module in enumerate((*network.regulation.thermal, *network.regulation.luma)):
            of_text = module.predictor(torch.cat((none, text), 1))[0]
            torch.testing.assert_close(network.regulation.prompts(embedding)[0, index], of_text)


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (7, 11), (2, 2)])
def test_the_mean_of_a_convolution_needs_no_convolution(size):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect").double()
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = convolution(features).mean(dim=(2, 3))
        torch.testing.assert_close(mean_of_convolution(convolution, features), expected, rtol=0, atol=1e-13)


def test_every_sample_of_a_batch_has_its_own_kernel():
    torch.manual_seed(0)
    features, kernels = torch.randn(3, 4, 7, 9), torch.randn(3, 4 * 4 * 9)
    together = convolve_each(features, kernels)
    for index in range(3):
        alone = convolve_each(features[index : index + 1], kernels[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-5, atol=1e-5)


def test_a_kernel_with_one_tap_moves_the_features():
    # Output channel 1 takes input channel 0 one column to the right; the reflection shows at the left border.
    features = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    kernel = torch.zeros(2, 2, 3, 3)
    kernel[1, 0, 1, 0] = 1
    found = convolve_each(features, kernel.reshape(1, -1))
    assert not found[0, 0].any()
    torch.testing.assert_close(found[0, 1], features[0, 0][:, [1, 0, 1, 2]])


def test_a_sample_is_regulated_alike_alone_and_in_a_batch(network):
    inputs, embeddings = planes(20, 26, batch=3), texts(3)
    with torch.no_grad():
        together = network(*inputs, embeddings)
        for index in range(3):
            one = slice(index, index + 1)
            alone = network(inputs[0][one], inputs[1][one], embeddings[one])
            torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns_and_the_base_stays(network):
    network.base.requires_grad_(requires_grad=False)
    network(*planes(24, 32, batch=2), texts(2)).square().mean().backward()
    idle = [
        name
        for name, parameter in network.regulation.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert not idle
    assert all(parameter.grad is None for parameter in network.base.parameters())


@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_injection_learns_a_step(injection):
    torch.manual_seed(0)
    regulation = TaskOrientedRegulation(TEXT_WIDTH, channels=4, blocks=2, injection=injection)
    base = trained(BaseFusionNetwork(4, 2))
    network = RegulatedFusionNetwork(base, regulation).eval()
    optimizer = torch.optim.SGD(regulation.parameters(), lr=0.1)
    inputs, embeddings = planes(16, 20, batch=2), texts(2)
    losses = []
    for _ in range(4):
        loss = (network(*inputs, embeddings) - inputs[0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("injection", "hears"), [("text_only", True), ("none", False), ("added", True),
                                                  ("concatenated", True), ("dynamic", True)])  # fmt: skip
def test_which_injections_hear_the_text(injection, hears):
    torch.manual_seed(0)
    module = trained(make_injection(injection, 4))
    features, (first, second) = torch.randn(1, 4, 12, 12), torch.randn(2, 1, 512)
    with torch.no_grad():
        assert torch.allclose(module(features, first), module(features, second), atol=1e-4) != hears


def test_only_the_text_makes_the_kernels_of_model_six():
    module = make_injection("text_only", 4)
    assert not module.statistics(torch.randn(2, 4, 8, 8)).any()
    assert make_injection("dynamic", 4).statistics(torch.randn(2, 4, 8, 8)).any()


def test_text_that_is_added_shifts_the_features_before_the_convolution():
    torch.manual_seed(0)
    module = trained(StaticInjection(4, "added"))
    features, text = torch.randn(2, 4, 8, 9), torch.randn(2, 512)
    with torch.no_grad():
        shifted = features + module.projection(text).reshape(2, 4, 1, 1)
        expected = features + module.refinement(module.convolution(shifted))
        torch.testing.assert_close(module(features, text), expected)


def test_a_fixed_instruction_is_the_network_under_it(network):
    inputs, embedding = planes(16, 18), texts(1)
    with torch.no_grad():
        assert torch.equal(FixedInstruction(network, embedding)(*inputs), network(*inputs, embedding))


def test_a_network_without_feature_fusion_can_be_regulated():
    torch.manual_seed(0)
    base = BaseFusionNetwork(4, 3, feature_fusion=False)
    network = trained(RegulatedFusionNetwork(base, TaskOrientedRegulation(TEXT_WIDTH, 4, 3)))
    with torch.no_grad():
        assert network(*planes(12, 14), texts(1)).shape == (1, 1, 12, 14)
    assert network.regulation.prompts(texts(1)).shape == (1, 4, 144)
