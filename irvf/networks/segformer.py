"""A small SegFormer (Xie et al., NeurIPS 2021) of transformers, to compare the U-Net with."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation


class _Logits(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(pixel_values=image).logits
        return logits


def segformer(classes: int) -> nn.Module:
    """Return an untrained SegFormer of the size of B0: image ``[B x 3 x H x W]`` to logits ``[B x K x H/4 x W/4]``."""
    return _Logits(SegformerForSemanticSegmentation(SegformerConfig.from_dict({"num_labels": classes})))
