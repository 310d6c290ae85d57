"""An exponential moving average of a network's weights, which is less noisy than the network itself."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def follow_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the network after a step.

    Args:
        average: of the same architecture as ``network``.
        network: just trained.
        decay: share of the average that stays, 0..1; the first steps keep less, or the start would weigh on.
        step: number of the step, from 0.
    """
    kept = min(decay, (1 + step) / (10 + step))
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.dtype.is_floating_point:
            slow.lerp_(fast, 1 - kept)
        else:
            slow.copy_(fast)
