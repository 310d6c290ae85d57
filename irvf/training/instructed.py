"""What trainings of networks that take instructions have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from irvf.training.data import PairFiles, find_pairs, hold_back
from irvf.training.scenes import Annotation, Scene, load_scenes


def load_training_scenes(
    data: Path, datasets: tuple[str, ...], first_held: Mapping[str, str], labelled: str, annotation: Annotation
) -> tuple[list[PairFiles], list[Scene], list[Scene]]:
    """Read the pairs to train on.

    Args:
        data: folder of pairs as :func:`irvf.training.data.find_pairs` takes it.
        datasets: names of sets; empty takes all.
        first_held: data set -> first pair that is held back.
        labelled: the set whose boxes are read.
        annotation: where they are.

    Returns:
        The pairs, the scenes of the labelled set, and all scenes.

    Raises:
        ValueError: unusable data, or no labelled pair.
    """
    training, _ = hold_back(find_pairs(data, datasets), dict(first_held))
    first = [pair for pair in training if pair.dataset == labelled]
    if not first:
        raise ValueError(f"no pairs of {labelled} (labelled) are left for training under {data}")
    others = [pair for pair in training if pair.dataset != labelled]
    scenes = load_scenes([*first, *others], annotation, {labelled})
    return training, scenes[: len(first)], scenes


def center_texts(adapter: nn.Sequential, centroids: Mapping[str, NDArray[np.float32]]) -> None:
    """Start the adapter from what the tasks differ in: without, most of every embedding is common to all tasks.

    Embeddings have unit length, where hidden states of a language model have entries around one.
    """
    first = adapter[0]
    with torch.no_grad():
        first.weight.mul_(math.sqrt(first.in_features))  # type: ignore[arg-type, operator]
        mean = torch.from_numpy(np.mean(list(centroids.values()), axis=0)).to(first.weight)  # type: ignore[arg-type]
        first.bias.copy_(-first.weight @ mean)  # type: ignore[operator]


def parameter_groups(network: nn.Module, linear_factor: float) -> list[dict[str, Any]]:
    """Split the parameters: the wide linear layers of adapter and predictors learn at a share of the rate."""
    linear: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (linear if "adapter." in name or ".predictor." in name else others).append(parameter)
    return [{"params": linear, "factor": linear_factor}, {"params": others, "factor": 1.0}]


def cosine_rate(rate: float, warm_up: int, steps: int, step: int) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine down to a twentieth of ``rate``."""
    if step < warm_up:
        return rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, steps - warm_up)
    return rate * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)
