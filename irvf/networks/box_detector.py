"""A small anchor-free detector for fused images, light enough to train and to run on two CPU cores.

One point a cell predicts the distances to the four sides of its object, on three levels joined top-down: the form
of FCOS (Tian et al., ICCV 2019) on a feature pyramid (Lin et al., CVPR 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
INITIAL_SCORE = 0.01


@dataclass(frozen=True)
class Predictions:
    """What the detector says of every point.

    Attributes:
        logits: class scores before the sigmoid, ``[B x N x classes]``.
        boxes: ``x_min, y_min, x_max, y_max`` in pixels of the input, ``[B x N x 4]``.
        points: where each prediction was made from, in pixels, ``[N x 2]``.
        strides: cell size of the level of each point in pixels, ``[N]``.
    """

    logits: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor


def _convolution(in_channels: int, out_channels: int, stride: int = 1, kernel_size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.SiLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a residual, ``[B x C x H x W]`` in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the refined features."""
        refined: Tensor = self.body(features)
        return features + refined


def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(in_channels, out_channels, stride=2), *(ResidualBlock(out_channels) for _ in range(blocks))
    )


class BoxDetectorNetwork(nn.Module):
    """Detector: RGB image in, class scores and boxes of every point out.

    Args:
        classes: number of classes.
        widths: channels after the stem and after each of the four stages.
        head_width: channels of the pyramid and of the heads.
    """

    def __init__(
        self, classes: int, widths: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128), head_width: int = 64
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, widths[0], stride=2), _stage(widths[0], widths[1], blocks=1))
        self.stages = nn.ModuleList(_stage(*pair, blocks=2) for pair in pairwise(widths[1:]))
        self.lateral = nn.ModuleList(_convolution(width, head_width, kernel_size=1) for width in widths[2:])
        self.smooth = nn.ModuleList(_convolution(head_width, head_width) for _ in STRIDES)
        self.class_head = nn.ModuleList(self._head(head_width, classes) for _ in STRIDES)
        self.box_head = nn.ModuleList(self._head(head_width, 4) for _ in STRIDES)
        for head in self.class_head:
            last = head[-1]  # type: ignore[index]
            nn.init.constant_(last.bias, -math.log(1 / INITIAL_SCORE - 1))

    @staticmethod
    def _head(width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(_convolution(width, width), nn.Conv2d(width, outputs, 1))

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        features = self.stem(image)
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            features = stage(features)
            levels.append(lateral(features))
        for finer in (1, 0):
            coarser = functional.interpolate(levels[finer + 1], scale_factor=2.0, mode="nearest")
            levels[finer] = levels[finer] + coarser
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]

    def forward(self, image: Tensor) -> Predictions:
        """Detect.

        Args:
            image: ``[B x 3 x H x W]`` RGB in 0..1; H and W multiples of 32.
        """
        logits, boxes, points, strides = [], [], [], []
        for level, features in enumerate(self._pyramid(image)):
            stride = float(STRIDES[level])
            rows = torch.arange(features.shape[2], device=image.device, dtype=image.dtype)
            columns = torch.arange(features.shape[3], device=image.device, dtype=image.dtype)
            y, x = torch.meshgrid((rows + 0.5) * stride, (columns + 0.5) * stride, indexing="ij")
            centers = torch.stack((x, y), dim=-1).reshape(-1, 2)
            distances = functional.softplus(self.box_head[level](features)) * stride * 2
            distances = distances.flatten(2).transpose(1, 2)
            boxes.append(torch.cat((centers - distances[..., :2], centers + distances[..., 2:]), dim=-1))
            logits.append(self.class_head[level](features).flatten(2).transpose(1, 2))
            points.append(centers)
            strides.append(torch.full_like(centers[:, 0], stride))
        return Predictions(torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(points), torch.cat(strides))


class DeployedBoxDetector(nn.Module):
    """The detector in the form in which it is exported: one output that any YOLOv8-style reader takes.

    Maps ``[B x 3 x H x W]`` to ``[B x (4 + classes) x N]``: centre x, centre y, width and height in pixels of
    the input, then the class scores in 0..1.
    """

    def __init__(self, network: BoxDetectorNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the predictions of every point."""
        found: Predictions = self.network(image)
        low, high = found.boxes[..., :2], found.boxes[..., 2:]
        return torch.cat(((low + high) / 2, high - low, found.logits.sigmoid()), dim=-1).transpose(1, 2)
