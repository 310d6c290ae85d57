"""The real-time fusion network: a small trunk at a quarter of the resolution decides for every pixel.

Both planes are cut into blocks of 4 x 4 pixels, which become channels. A few 3x3 convolutions on those return for
every pixel the share of the thermal plane and what is added: ``fused = luma + share (thermal - luma) + addition``.
Nothing but the cutting and the joining touches the full resolution; the head and the tail, which are wide, look at one
block at a time.

Instructions act as in T-DPI of the IRVF paper (section 3.3), on scale and shift of every channel instead of 3x3
kernels: ``[scale; shift] = A gap + B(text)``, again exact, because nothing between the linear layers bends.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.prompt_injection import TEXT_CHANNELS

BLOCK_SIDE = 4
"""Height and width of a block in pixels: sides of the planes must be multiples of it."""
_HIDDEN = 64
_SLOPE = 0.1


class ChannelInjection(nn.Module):
    """Predicts scale and shift of every channel from the text and the channels' means.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.predictor = nn.Sequential(nn.Linear(channels + TEXT_CHANNELS, _HIDDEN), nn.Linear(_HIDDEN, 2 * channels))
        nn.init.zeros_(self.predictor[1].weight)  # type: ignore[arg-type]  # the training starts without injection
        nn.init.zeros_(self.predictor[1].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """Return the features ``[B x C x H x W]`` under adapted text ``[B x 512]``."""
        return _modulate(features, self.predictor(torch.cat((features.mean(dim=(2, 3)), text), dim=1)))


class ChannelRegulation(nn.Module):
    """The adapter that all injections share, and the injections.

    Args:
        text_width: of the text embeddings.
        channels: C.
        injections: how many.
    """

    def __init__(self, text_width: int, channels: int, injections: int) -> None:
        super().__init__()
        self.adapter = nn.Sequential(nn.Linear(text_width, TEXT_CHANNELS), nn.Linear(TEXT_CHANNELS, TEXT_CHANNELS))
        self.trunk = nn.ModuleList(ChannelInjection(channels) for _ in range(injections))

    def prompts(self, embeddings: Tensor) -> Tensor:
        """Return B(text): ``[B x injections x 2C]`` for embeddings ``[B x text width]``."""
        text = self.adapter(embeddings)
        return torch.stack([_prompt_of(module, text) for module in self.trunk], dim=1)


def _prompt_of(module: nn.Module, text: Tensor) -> Tensor:
    first, second = module.predictor  # type: ignore[misc]
    columns = first.weight[:, -TEXT_CHANNELS:]
    return functional.linear(functional.linear(text, columns, first.bias), second.weight, second.bias)


def _modulate(features: Tensor, scale_and_shift: Tensor) -> Tensor:
    # Slices: OpenVINO merges what follows into one pass over the features, which it does not do after a split.
    channels = features.shape[1]
    return features * (1 + scale_and_shift[:, :channels, None, None]) + scale_and_shift[:, channels:, None, None]


class RealtimeFusionNetwork(nn.Module):
    """The network as it is trained.

    Args:
        text_width: of the text embeddings.
        channels: C.
        blocks: convolutions of the trunk.
    """

    def __init__(self, text_width: int, channels: int = 16, blocks: int = 5) -> None:
        super().__init__()
        planes = 2 * BLOCK_SIDE**2
        self.head = nn.Conv2d(planes, channels, 1)
        self.body = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.tail = nn.Conv2d(channels, planes, 1)
        # After the head, after each convolution of the trunk, and before the tail.
        self.regulation = ChannelRegulation(text_width, channels, blocks + 2)
        # The training starts from the average of both planes.
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.tail.bias.data[: planes // 2] = 0.5  # type: ignore[union-attr]

    def forward(self, thermal: Tensor, luma: Tensor, embeddings: Tensor) -> Tensor:
        """Fuse.

        Args:
            thermal: ``[B x 1 x H x W]`` in 0..1; H and W are multiples of :data:`BLOCK_SIDE`.
            luma: ``[B x 1 x H x W]`` in 0..1.
            embeddings: of each sample's instruction, ``[B x text width]``.

        Returns:
            Fused luma ``[B x 1 x H x W]`` in 0..1.
        """
        text = self.regulation.adapter(embeddings)
        return self.run(thermal, luma, lambda number, features: self.regulation.trunk[number](features, text))

    def run(self, thermal: Tensor, luma: Tensor, inject: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Fuse, with what an injection makes of features: of its number and ``[B x C x H/4 x W/4]``."""
        planes = [functional.pixel_unshuffle(plane, BLOCK_SIDE) for plane in (thermal, luma)]
        features = _bend(inject(0, self.head(torch.cat(planes, dim=1))))
        for number, convolution in enumerate(self.body, start=1):
            features = features + _bend(inject(number, convolution(features)))
        features = inject(len(self.body) + 1, features)
        # Two convolutions are faster than one whose result is split.
        weight, bias, half = self.tail.weight, self.tail.bias, BLOCK_SIDE**2
        share = functional.conv2d(features, weight[:half], bias[:half])  # type: ignore[index]
        addition = functional.conv2d(features, weight[half:], bias[half:])  # type: ignore[index]
        fused = planes[1] + share.clamp(0, 1) * (planes[0] - planes[1]) + addition
        return functional.pixel_shuffle(fused.clamp(0, 1), BLOCK_SIDE)


def _bend(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, _SLOPE)


class FoldedRealtimeNetwork(nn.Module):
    """The network as it is exported: takes the prompt instead of a text.

    Args:
        network: trained; it shares its weights.
    """

    def __init__(self, network: RealtimeFusionNetwork) -> None:
        super().__init__()
        self.network = network
        for index, injection in enumerate(network.regulation.trunk):
            first, second = injection.predictor  # type: ignore[misc]
            of_image = second.weight @ first.weight[:, :-TEXT_CHANNELS]
            self.register_buffer(f"of_image_{index}", of_image.detach())

    def forward(self, thermal: Tensor, luma: Tensor, prompt: Tensor) -> Tensor:
        """Fuse one pair.

        Args:
            thermal: ``[1 x 1 x H x W]`` in 0..1; H and W are multiples of :data:`BLOCK_SIDE`.
            luma: ``[1 x 1 x H x W]`` in 0..1.
            prompt: ``[injections x 2C]``.

        Returns:
            Fused luma ``[1 x 1 x H x W]`` in 0..1.
        """

        def inject(number: int, features: Tensor) -> Tensor:
            of_image = functional.linear(features.mean(dim=(2, 3)), self.get_buffer(f"of_image_{number}"))
            return _modulate(features, of_image + prompt[number])

        return self.network.run(thermal, luma, inject)
