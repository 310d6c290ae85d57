"""Base fusion network: its size worked out by hand from the architecture, and what any fusion must do."""

import pytest
import torch

from irvf.networks.base_fusion import MIN_SIDE, BaseFusionNetwork, FeatureFusion, sobel_magnitude


def planes(height, width, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 1, height, width, generator=generator) for _ in range(2)]


def test_has_the_parameters_of_the_architecture():
    # Of a convolution without bias and its batch normalisation: in x out x k x k + 2 out.
    head = (1 * 4 * 9 + 8) + (4 * 8 * 9 + 16)
    encoder_block = (8 * 8 * 9 + 16) + (16 * 8 * 9 + 16) + (24 * 8 + 16)
    encoder = head + 4 * encoder_block
    linear_branch = (16 * 32 + 32) + (32 * 16 + 16)
    convolutional_branch = (16 * 32 * 9 + 32) + (32 * 16 * 9 + 16)
    decoder_block = (16 * 16 * 9 + 32) + (32 * 16 * 9 + 32) + (48 * 16 + 32)
    reconstruction = (16 * 8 * 9 + 16) + (8 * 4 * 9 + 8) + (4 * 9 + 1)
    total = 2 * encoder + 2 * linear_branch + 2 * convolutional_branch + 4 * decoder_block + reconstruction
    assert total == 69_717
    assert sum(parameter.numel() for parameter in BaseFusionNetwork(8, 4).parameters()) == total


@pytest.mark.parametrize("size", [(48, 64), (37, 53), (MIN_SIDE, MIN_SIDE), (9, 40)])
def test_keeps_any_size_and_stays_in_range(size):
    network = BaseFusionNetwork().eval()
    with torch.no_grad():
        fused = network(*planes(*size, batch=2))
    assert fused.shape == (2, 1, *size)
    assert fused.min() >= 0
    assert fused.max() <= 1


def test_says_the_same_twice_and_for_an_image_alone_or_in_a_batch():
    network = BaseFusionNetwork().eval()
    thermal, luma = planes(24, 32, batch=3)
    with torch.no_grad():
        first, again = network(thermal, luma), network(thermal, luma)
        alone = network(thermal[1:2], luma[1:2])
    assert torch.equal(first, again)
    torch.testing.assert_close(alone, first[1:2], rtol=1e-4, atol=1e-5)


def test_without_feature_fusion_the_features_go_straight_on():
    torch.manual_seed(0)
    network = BaseFusionNetwork(4, 2, feature_fusion=False).eval()
    thermal, luma = planes(16, 20)
    with torch.no_grad():
        features = torch.cat((network.thermal_encoder(thermal), network.luma_encoder(luma)), 1)
        expected = (torch.tanh(network.reconstruction(network.decoder(features))) + 1) / 2
        torch.testing.assert_close(network(thermal, luma), expected)
    full, bare = (
        sum(parameter.numel() for parameter in BaseFusionNetwork(8, 4, feature_fusion=kept).parameters())
        for kept in (True, False)
    )
    assert full - bare == 2 * ((16 * 32 + 32) + (32 * 16 + 16)) + 2 * ((16 * 32 * 9 + 32) + (32 * 16 * 9 + 16))


def test_adjustments_change_what_the_next_block_sees():
    torch.manual_seed(0)
    encoder = BaseFusionNetwork(4, 3).eval().thermal_encoder
    plane, seen = planes(12, 14)[0], []

    def doubled(features):
        seen.append(features)
        return 2 * features

    with torch.no_grad():
        features = encoder.blocks[0](encoder.head(plane))
        expected = encoder.blocks[2](encoder.blocks[1](2 * features))
        torch.testing.assert_close(encoder(plane, [doubled]), expected)
        torch.testing.assert_close(seen[0], features)
        assert torch.equal(encoder(plane, [lambda same: same] * 3), encoder(plane))


def test_each_encoder_has_its_own_adjustments():
    torch.manual_seed(0)
    network = BaseFusionNetwork(4, 2).eval()
    thermal, luma = planes(12, 14)
    calls = []

    def noted(name):
        return lambda features: calls.append(name) or features

    with torch.no_grad():
        network(thermal, luma, [noted("thermal")], [noted("luma")])
    assert calls == ["thermal", "luma"]


def test_every_parameter_learns():
    torch.manual_seed(0)
    network = BaseFusionNetwork().train()
    network(*planes(24, 32, batch=2)).square().mean().backward()
    idle = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not idle


def test_both_sources_matter():
    torch.manual_seed(0)
    network = BaseFusionNetwork().eval()
    thermal, luma = planes(24, 32)
    with torch.no_grad():
        fused = network(thermal, luma)
        assert not torch.allclose(fused, network(1 - thermal, luma), atol=1e-4)
        assert not torch.allclose(fused, network(thermal, 1 - luma), atol=1e-4)


@pytest.mark.parametrize("across", [True, False])
def test_sobel_of_a_ramp_is_eight_times_its_slope(across):
    ramp = 0.25 * torch.arange(6.0).expand(5, 6)
    ramp = ramp if across else ramp.T
    expected = torch.full((5, 6), 2.0)
    expected[:, [0, -1]] = 0  # the reflection is symmetric about the first and the last column
    expected = expected if across else expected.T
    torch.testing.assert_close(sobel_magnitude(ramp[None, None])[0, 0], expected)


def test_sobel_sums_both_directions_and_keeps_channels_apart():
    point = torch.zeros(1, 2, 5, 5)
    point[0, 1, 2, 2] = 1
    # |Gx| + |Gy| of a single point: kernels (1, 2, 1) x (-1, 0, 1).
    expected = torch.tensor([[2.0, 2, 2], [2, 0, 2], [2, 2, 2]])
    magnitude = sobel_magnitude(point)
    assert not magnitude[0, 0].any()
    torch.testing.assert_close(magnitude[0, 1, 1:4, 1:4], expected)
    assert magnitude[0, 1].sum() == expected.sum()


def test_feature_fusion_only_weakens():
    torch.manual_seed(0)
    features = torch.randn(2, 4, 12, 12)
    with torch.no_grad():
        weighed = FeatureFusion(4)(features)
    assert (weighed.abs() <= features.abs()).all()
    assert (weighed.sign() * features.sign() >= 0).all()


def test_flat_features_are_weighed_by_the_biases_alone():
    # Without gradients each branch returns what its biases make of nothing, the same at every pixel.
    torch.manual_seed(0)
    fusion = FeatureFusion(4)
    with torch.no_grad():
        share = fusion(torch.ones(1, 4, 8, 8))
        nothing = torch.zeros(1, 4)
        of_image = fusion.global_max(nothing) + fusion.global_mean(nothing)
        flat = torch.zeros(1, 4, 8, 8)
        of_pixel = fusion.local_max(flat) + fusion.local_mean(flat)
    torch.testing.assert_close(share, torch.sigmoid(of_image[:, :, None, None] * of_pixel))
