"""One training in several processes, as ``accelerate launch`` starts them, one for each GPU, or ``torchrun`` on CPUs.

Each process cuts batches of its own, and the gradients are averaged; the first process alone writes files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import nn


def process_count() -> int:
    """Return how many processes train together, as their launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the number of this process, from 0."""
    return _state().process_index if process_count() > 1 else 0


def process_device(wanted: str) -> str:
    """Return the torch device of this process: what is wanted, or its own GPU where several processes train."""
    return str(_state().device) if process_count() > 1 else wanted


def _state() -> PartialState:
    """Join the other processes at the first call: through NCCL with GPUs, through gloo without.

    Not asked for the CPU, accelerate finds no GPU and lets every process take itself for the only one.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def step_generator(seed: int, step: int, *, shared: bool = False) -> np.random.Generator:
    """Return the source of all randomness of a step: the same in a resumed run, another in every process.

    Args:
        seed: of the training.
        step: number of the step.
        shared: for what must be the same in every process.
    """
    rank = 0 if shared else process_rank()
    return np.random.default_rng((seed, step, rank) if rank else (seed, step))


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients by their mean over the processes; does nothing in a single one."""
    if process_count() > 1:
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = reduce(gradient, reduction="mean")


def average_statistics(modules: Iterable[nn.Module]) -> None:
    """Replace what batch normalisations gathered in a step by its mean over the processes.

    Without, every process would train another network, and only the first one's would be written.
    """
    if process_count() > 1:
        for layer in (layer for module in modules for layer in module.modules()):
            if isinstance(layer, nn.BatchNorm2d) and layer.training:
                for statistic in (layer.running_mean, layer.running_var):
                    statistic.copy_(reduce(statistic, reduction="mean"))  # type: ignore[union-attr]
