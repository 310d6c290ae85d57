"""A small anchor-free detector for fused images, light enough to train and to run on two CPU cores.

One point a cell predicts the distances to the four sides of its object, on three levels joined top-down: the form
of FCOS (Tian et al., ICCV 2019) on a feature pyramid (Lin et al., CVPR 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from irvf.networks.residual_encoder import ResidualEncoder, convolution

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


class BoxDetectorNetwork(nn.Module):
    """Detector: RGB image in, class scores and boxes of every point out.

    Args:
        classes: number of classes.
        head_width: channels of the pyramid and of the heads.
    """

    def __init__(self, classes: int, head_width: int = 64) -> None:
        super().__init__()
        self.encoder = ResidualEncoder()
        widths = self.encoder.widths[2:]
        self.lateral = nn.ModuleList(convolution(width, head_width, kernel_size=1) for width in widths)
        self.smooth = nn.ModuleList(convolution(head_width, head_width) for _ in STRIDES)
        self.class_head = nn.ModuleList(self._head(head_width, classes) for _ in STRIDES)
        self.box_head = nn.ModuleList(self._head(head_width, 4) for _ in STRIDES)
        for head in self.class_head:
            last = head[-1]  # type: ignore[index]
            nn.init.constant_(last.bias, -math.log(1 / INITIAL_SCORE - 1))

    @staticmethod
    def _head(width: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(convolution(width, width), nn.Conv2d(width, outputs, 1))

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        features = self.encoder(image)[2:]
        levels = [lateral(level) for lateral, level in zip(self.lateral, features, strict=True)]
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
            # From the size of the image: in the exported graph, that of the features would keep layers from merging.
            height, width = (side // STRIDES[level] for side in image.shape[2:])
            rows = torch.arange(height, device=image.device, dtype=torch.float32)
            columns = torch.arange(width, device=image.device, dtype=torch.float32)
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
