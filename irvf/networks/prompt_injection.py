"""Task-related dynamic prompt injection (T-DPI) of the IRVF paper, section 3.3, Fig. 4, Eqs. 6 to 8.

What the paper compares it with (Table 4) stands beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.blocks import LEAKY_SLOPE, STATISTICS_MOMENTUM

TEXT_CHANNELS = 512
"""Width of the adapted text features and of the hidden layer that predicts kernels."""
KERNEL_SIDE = 3
"""Height and width of the predicted kernels."""


def _reflect_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, KERNEL_SIDE, padding=1, padding_mode="reflect")


def _activation(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels, momentum=STATISTICS_MOMENTUM), nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


def _refinement(channels: int) -> nn.Sequential:
    """Return ``Convs`` of Eq. 7: three convolutions, four normalisations, and a 1x1 that starts at zero."""
    wide = 2 * channels
    last = nn.Conv2d(channels, channels, 1)
    nn.init.zeros_(last.weight)  # the training starts from the base network
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]  # it has one
    return nn.Sequential(
        *_activation(channels),
        _reflect_convolution(channels, wide),
        *_activation(wide),
        _reflect_convolution(wide, wide),
        *_activation(wide),
        _reflect_convolution(wide, channels),
        *_activation(channels),
        last,
    )


def convolve_each(features: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every sample with kernels of its own, reflect padding.

    Args:
        features: ``[B x C x H x W]``.
        kernels: ``[B x C * C * 9]``, reshaped to C output times C input channels of 3 x 3.

    Returns:
        ``[B x C x H x W]``.
    """
    batch, channels, height, width = features.shape
    padded = functional.pad(features, (1, 1, 1, 1), mode="reflect")
    if batch == 1:  # the form that exports
        return functional.conv2d(padded, kernels.reshape(channels, channels, KERNEL_SIDE, KERNEL_SIDE))
    grouped = padded.reshape(1, batch * channels, height + 2, width + 2)
    weight = kernels.reshape(batch * channels, channels, KERNEL_SIDE, KERNEL_SIDE)
    return functional.conv2d(grouped, weight, groups=batch).reshape(batch, channels, height, width)


class PromptInjection(nn.Module):
    """T-DPI: adds to features what a kernel predicted from text and image finds in them.

    Args:
        channels: C of the features.
        image_statistics: whether the features' statistics take part in the prediction (without: model VI).
    """

    def __init__(self, channels: int, *, image_statistics: bool = True) -> None:
        super().__init__()
        self.image_statistics = image_statistics
        self.average_convolution = _reflect_convolution(channels, channels)
        self.maximum_convolution = _reflect_convolution(channels, channels)
        self.predictor = nn.Sequential(
            nn.Linear(2 * channels + TEXT_CHANNELS, TEXT_CHANNELS),
            nn.Linear(TEXT_CHANNELS, channels * channels * KERNEL_SIDE**2),
        )
        self.refinement = _refinement(channels)

    def statistics(self, features: Tensor) -> Tensor:
        """Return ``[B x 2C]``: the mean of one convolution of the features, the maximum of another."""
        average = self.average_convolution(features).mean(dim=(2, 3))
        maximum = self.maximum_convolution(features).amax(dim=(2, 3))
        joined = torch.cat((average, maximum), dim=1)
        return joined if self.image_statistics else torch.zeros_like(joined)

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """Adjust.

        Args:
            features: ``[B x C x H x W]``.
            text: adapted text features, ``[B x 512]``.

        Returns:
            ``[B x C x H x W]`` (Eq. 8).
        """
        kernels = self.predictor(torch.cat((self.statistics(features), text), dim=1))
        adjusted: Tensor = features + self.refinement(convolve_each(features, kernels))
        return adjusted


class StaticInjection(nn.Module):
    """What the paper compares T-DPI with (Table 4): a trained 3x3 convolution instead of a predicted one.

    Args:
        channels: C of the features.
        text: ``none`` (model II), ``added`` to the features (IV) or ``concatenated`` with them (V).
    """

    def __init__(self, channels: int, text: str) -> None:
        super().__init__()
        self.text = text
        self.projection = nn.Linear(TEXT_CHANNELS, channels)
        self.convolution = _reflect_convolution(2 * channels if text == "concatenated" else channels, channels)
        self.refinement = _refinement(channels)

    def forward(self, features: Tensor, text: Tensor) -> Tensor:
        """Adjust features ``[B x C x H x W]`` by text ``[B x 512]``."""
        told = features
        if self.text != "none":
            planes = self.projection(text)[:, :, None, None].expand_as(features)
            told = features + planes if self.text == "added" else torch.cat((features, planes), dim=1)
        adjusted: Tensor = features + self.refinement(self.convolution(told))
        return adjusted


INJECTIONS = ("dynamic", "text_only", "none", "added", "concatenated")
"""``dynamic`` is the paper's T-DPI; the others are its ablations VI, II, IV and V, in this order."""


def make_injection(name: str, channels: int) -> nn.Module:
    """Make one of :data:`INJECTIONS` for features of ``channels``: features and adapted text in, features out."""
    if name in {"dynamic", "text_only"}:
        return PromptInjection(channels, image_statistics=name == "dynamic")
    return StaticInjection(channels, name)
