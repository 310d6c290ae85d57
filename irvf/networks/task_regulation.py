"""Task-oriented adaptive regulation (T-OAR) of the IRVF paper, section 3.3, Fig. 4, Eqs. 6 to 8.

A text embedding and the statistics of an image predict convolution kernels; what these find in the features is added
to them, in both encoders of the base fusion network, after each block but the last. There is no activation between
the linear layers that predict a kernel, so they fold exactly into ``kernel = A [gap; gmp] + B(text)``: A is a matrix,
and B, the *prompt*, is computed once when the instruction changes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.prompt_injection import (
    INJECTIONS,
    KERNEL_SIDE,
    TEXT_CHANNELS,
    PromptInjection,
    convolve_each,
    make_injection,
)


class TaskOrientedRegulation(nn.Module):
    """T-OAR: the adapter that all modules share, and M - 1 modules for each encoder.

    Args:
        text_width: of the text embeddings.
        channels: C of the base network.
        blocks: M of the base network.
        injection: how text changes features, one of :data:`INJECTIONS`.

    Raises:
        ValueError: an unknown injection.
    """

    def __init__(self, text_width: int, channels: int = 8, blocks: int = 4, injection: str = "dynamic") -> None:
        super().__init__()
        if injection not in INJECTIONS:
            raise ValueError(f"no injection {injection!r}; allowed: {', '.join(INJECTIONS)}")
        self.adapter = nn.Sequential(nn.Linear(text_width, TEXT_CHANNELS), nn.Linear(TEXT_CHANNELS, TEXT_CHANNELS))
        self.thermal, self.luma = (
            nn.ModuleList(make_injection(injection, channels) for _ in range(blocks - 1)) for _ in range(2)
        )

    def prompts(self, embeddings: Tensor) -> Tensor:
        """Return B(text): ``[B x 2(M-1) x C * C * 9]`` for embeddings ``[B x text width]``, thermal modules first."""
        text = self.adapter(embeddings)
        modules = (*self.thermal, *self.luma)
        return torch.stack([_prompt_of(module, text) for module in modules], dim=1)


def _prompt_of(module: nn.Module, text: Tensor) -> Tensor:
    first, second = module.predictor  # type: ignore[misc]
    columns = first.weight[:, -TEXT_CHANNELS:]
    return functional.linear(functional.linear(text, columns, first.bias), second.weight, second.bias)


class RegulatedFusionNetwork(nn.Module):
    """The base fusion network under task-oriented regulation.

    Args:
        base: frozen in stage 2.
        regulation: trained in stage 2.
    """

    def __init__(self, base: BaseFusionNetwork, regulation: TaskOrientedRegulation) -> None:
        super().__init__()
        self.base, self.regulation = base, regulation

    def forward(self, thermal: Tensor, luma: Tensor, embeddings: Tensor) -> Tensor:
        """Fuse.

        Args:
            thermal: ``[B x 1 x H x W]`` in 0..1.
            luma: ``[B x 1 x H x W]`` in 0..1.
            embeddings: of each sample's instruction, ``[B x text width]``.

        Returns:
            Fused luma ``[B x 1 x H x W]`` in 0..1.
        """
        text = self.regulation.adapter(embeddings)

        def adjustments(modules: nn.ModuleList) -> list[_Regulated]:
            return [_Regulated(module, text) for module in modules]

        fused: Tensor = self.base(
            thermal, luma, adjustments(self.regulation.thermal), adjustments(self.regulation.luma)
        )
        return fused


class _Regulated:
    """A module with the second of its inputs fixed."""

    def __init__(self, module: nn.Module, second: Tensor) -> None:
        self._module, self._second = module, second

    def __call__(self, features: Tensor) -> Tensor:
        adjusted: Tensor = self._module(features, self._second)
        return adjusted


def mean_of_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """Return the mean over the pixels of a 3x3 convolution with reflect padding, without convolving.

    A convolution is linear: its mean is the kernel applied to the nine means of the shifted features, and these
    follow from means over rows and columns.

    Args:
        convolution: C to D channels.
        features: ``[B x C x H x W]``.

    Returns:
        ``[B x D]``.
    """
    height, width = features.shape[2:]
    padded = functional.pad(features, (1, 1, 1, 1), mode="reflect")
    # Means of means: in half precision, the sum over an image would overflow.
    rows = torch.stack([padded[..., shift : shift + width].mean(dim=3) for shift in range(KERNEL_SIDE)], dim=-1)
    means = torch.stack([rows[:, :, shift : shift + height].mean(dim=2) for shift in range(KERNEL_SIDE)], dim=2)
    return functional.linear(means.flatten(1), convolution.weight.flatten(1), convolution.bias)


class FoldedPromptInjection(nn.Module):
    """T-DPI with its linear layers folded: ``kernel = A [gap; gmp] + prompt``; exact, see the module's docstring.

    Args:
        module: trained.
    """

    def __init__(self, module: PromptInjection) -> None:
        super().__init__()
        self.average_convolution, self.maximum_convolution = module.average_convolution, module.maximum_convolution
        self.refinement = module.refinement
        first, second = module.predictor
        of_image = second.weight @ first.weight[:, :-TEXT_CHANNELS]  # type: ignore[index, operator]
        self.register_buffer("of_image", of_image.detach() * float(module.image_statistics))

    def forward(self, features: Tensor, prompt: Tensor) -> Tensor:
        """Adjust features ``[1 x C x H x W]`` under a prompt ``[C * C * 9]``."""
        average = mean_of_convolution(self.average_convolution, features)
        maximum = self.maximum_convolution(features).amax(dim=(2, 3))
        kernel = functional.linear(torch.cat((average, maximum), dim=1), self.of_image, prompt)  # type: ignore[arg-type]
        adjusted: Tensor = features + self.refinement(convolve_each(features, kernel))
        return adjusted


class FoldedFusionNetwork(nn.Module):
    """The regulated network as it is exported: takes the prompt instead of a text.

    Args:
        network: trained; it shares its weights.
    """

    def __init__(self, network: RegulatedFusionNetwork) -> None:
        super().__init__()
        self.base = network.base
        self.thermal, self.luma = (
            nn.ModuleList(FoldedPromptInjection(module) for module in modules)  # type: ignore[arg-type]
            for modules in (network.regulation.thermal, network.regulation.luma)
        )

    def forward(self, thermal: Tensor, luma: Tensor, prompt: Tensor) -> Tensor:
        """Fuse one pair.

        Args:
            thermal: ``[1 x 1 x H x W]`` in 0..1.
            luma: ``[1 x 1 x H x W]`` in 0..1.
            prompt: ``[2(M-1) x C * C * 9]``, thermal modules first.

        Returns:
            Fused luma ``[1 x 1 x H x W]`` in 0..1.
        """
        count = len(self.thermal)
        of_thermal = [_Regulated(module, prompt[index]) for index, module in enumerate(self.thermal)]
        of_luma = [_Regulated(module, prompt[count + index]) for index, module in enumerate(self.luma)]
        fused: Tensor = self.base(thermal, luma, of_thermal, of_luma)
        return fused


class FixedInstruction(nn.Module):
    """The regulated network under one instruction, as a network of two planes.

    Args:
        network: trained; it shares its weights.
        embedding: of the instruction, ``[1 x text width]``.
    """

    def __init__(self, network: RegulatedFusionNetwork, embedding: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("embedding", embedding)

    def forward(self, thermal: Tensor, luma: Tensor) -> Tensor:
        """Fuse planes ``[1 x 1 x H x W]`` in 0..1."""
        fused: Tensor = self.network(thermal, luma, self.embedding)
        return fused
