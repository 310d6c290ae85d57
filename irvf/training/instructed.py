"""What trainings of networks that take instructions have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from irvf.training.averaging import follow_average
from irvf.training.data import PairFiles, split_pairs
from irvf.training.loop import Loop, StepLoss, training_settings, weights_digest
from irvf.training.scenes import Annotation, Scene, load_scenes, read_pair

LossOf = Callable[[int], StepLoss]


class Selection(Protocol):
    """What a configuration says of the pairs."""

    @property
    def datasets(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def first_held(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def labelled(self) -> str: ...  # noqa: D102
    @property
    def annotation(self) -> Annotation: ...  # noqa: D102
    @property
    def skip_unusable(self) -> bool: ...  # noqa: D102


def load_training_scenes(data: Path, config: Selection) -> tuple[list[PairFiles], list[Scene], list[Scene]]:
    """Read the pairs to train on.

    Args:
        data: folder of pairs as :func:`irvf.training.data.find_pairs` takes it.
        config: which of them.

    Returns:
        The pairs, the scenes of the labelled set, and all scenes.

    Raises:
        ValueError: unusable data, or no labelled pair.
    """
    labelled = {config.labelled}
    training, _ = split_pairs(
        data,
        config.datasets,
        config.first_held,
        skip_unusable=config.skip_unusable,
        use=partial(read_pair, annotation=config.annotation, labelled=labelled),
    )
    first = [pair for pair in training if pair.dataset in labelled]
    if not first:
        raise ValueError(f"no pairs of {config.labelled} (labelled) are left for training under {data}")
    others = [pair for pair in training if pair.dataset not in labelled]
    scenes = load_scenes([*first, *others], config.annotation, labelled)
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


class Schedule(Protocol):
    """What a configuration says of the course of a training."""

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def save_every(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def warm_up_steps(self) -> int: ...  # noqa: D102
    @property
    def average_decay(self) -> float: ...  # noqa: D102
    @property
    def max_gradient_norm(self) -> float: ...  # noqa: D102


def freeze(networks: Sequence[nn.Module], device: torch.device) -> None:
    """Put networks that only judge on the device, in the form that runs fastest there."""
    for network in networks:
        network.to(device).eval().requires_grad_(requires_grad=False)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it


def run_steps(
    loop: Loop, schedule: Schedule, modules: Mapping[str, nn.Module], optimizer: Optimizer, loss_of: LossOf
) -> None:
    """Take the steps of a training whose second module is the moving average of the first.

    Args:
        loop: how long, and where what is left.
        schedule: learning rate and average.
        modules: ``{name: trained, "average": average}``.
        optimizer: of the first.
        loss_of: see :meth:`irvf.training.loop.Loop.run`, as are the errors.
    """
    trained, average = modules.values()
    rate = partial(cosine_rate, schedule.learning_rate, schedule.warm_up_steps, schedule.steps)
    loop.run(modules, optimizer, rate, loss_of, partial(follow_average, average, trained, schedule.average_decay))


def make_loop(
    name: str,
    output: Path,
    config: Schedule,
    *,
    pairs: Sequence[PairFiles],
    initial: Path | None,
    frozen: Sequence[nn.Module],
    texts: str,
) -> Loop:
    """Return a loop that is resumed only under the same configuration, pairs, frozen networks and texts.

    Args:
        name: shown beside the progress bar.
        output: see :class:`irvf.training.loop.Loop`.
        config: a dataclass.
        pairs: that are trained on.
        initial: weights that the training starts from.
        frozen: networks that judge.
        texts: digest of the embeddings.
    """
    settings = {**training_settings(config, pairs, initial), "frozen": weights_digest(frozen), "texts": texts}
    return Loop(name, output, settings, config.steps, config.save_every, config.max_gradient_norm)
