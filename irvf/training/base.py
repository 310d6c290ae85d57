"""Stage 1 of the IRVF paper: train the base fusion network on unlabelled pairs (sections 3.2 and 4.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvf.frames import Image8
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.training.checkpoint import load_weights
from irvf.training.data import PairFiles, cut_crop, load_pairs, split_pairs
from irvf.training.loop import Loop, StepLoss, training_settings
from irvf.training.losses import fusion_loss
from irvf.training.processes import step_generator


@dataclass(frozen=True)
class CropPhase:
    """A stretch of the training with one crop size."""

    until: float  # share of all steps at which the phase ends, 0..1
    side: int  # side of the square crop in pixels
    batch: int  # crops a step


@dataclass(frozen=True)
class BaseTrainingConfig:
    """All that decides the result of a stage-1 training; the paper's values where it gives one."""

    channels: int = 8  # C
    blocks: int = 4  # M
    feature_fusion: bool = True  # without: ablation I
    steps: int = 4200  # the paper's 100 epochs of 308 pairs in batches of 6 would be 5100
    skip_unusable: bool = False  # pairs that cannot be read, and images alone; else they are refused
    seed: int = 0
    learning_rate: float = 1e-4  # at both ends
    peak_learning_rate: float = 1e-3
    warm_up: float = 0.2  # share of the steps that climb to the peak: 20 of 100 epochs
    brightness_weight: float = 0.5  # lambda of Eq. 5; the paper's 0.2 belongs to unsigned gradients of another scale
    max_gradient_norm: float = 1.0
    # Share of the steps after which batch normalisation uses its running statistics, as it will when it runs.
    # Trained on the statistics of each batch to the end, the network crushed the shadows of dark scenes to black.
    frozen_statistics: float = 0.7
    # Small crops first because a step costs their area; large ones last because the global pooling of the
    # feature fusion must see statistics like those of whole images.
    crops: tuple[CropPhase, ...] = (CropPhase(0.85, 96, 6), CropPhase(1.0, 224, 2))
    scales: tuple[float, float] = (0.5, 1.1)  # of the image before the crop
    thermal_gamma: tuple[float, float] = (0.7, 1.4)  # range controls differ between cameras
    datasets: tuple[str, ...] = ()  # sub-folders of the data folder; empty takes all
    first_held: dict[str, str] = field(default_factory=dict)  # data set -> first held-back name
    save_every: int = 250


def learning_rate(config: BaseTrainingConfig, step: int) -> float:
    """Linear climb to the peak over the first ``warm_up`` share, linear fall back over the rest."""
    share = step / config.steps
    rise = share / config.warm_up if share < config.warm_up else (1 - share) / (1 - config.warm_up)
    return config.learning_rate + (config.peak_learning_rate - config.learning_rate) * rise


def sample_batch(
    pairs: list[tuple[Image8, Image8]], config: BaseTrainingConfig, step: int
) -> tuple[Tensor, Tensor, list[int]]:
    """Cut the batch of one step; the same seed and step give the same batch, so a resumed run repeats it.

    Args:
        pairs: thermal and luma planes, ``[H x W]`` uint8.
        config: sizes and ranges.
        step: number of the step.

    Returns:
        Thermal and luma, each ``[B x 1 x side x side]`` float32 in 0..1, and which pairs they were cut from.
    """
    phase = next((phase for phase in config.crops if step < phase.until * config.steps), config.crops[-1])
    rng = step_generator(config.seed, step)
    batch = np.empty((2, phase.batch, 1, phase.side, phase.side), np.float32)
    choices = rng.integers(len(pairs), size=phase.batch).tolist()
    for index, choice in enumerate(choices):
        thermal, luma = cut_crop(pairs[choice], phase.side, rng, config.scales)
        batch[0, index, 0] = (thermal / np.float32(255)) ** rng.uniform(*config.thermal_gamma)
        batch[1, index, 0] = luma / np.float32(255)
    return torch.from_numpy(batch[0]), torch.from_numpy(batch[1]), choices


def load_planes(pairs: list[PairFiles]) -> list[tuple[Image8, Image8]]:
    """Read pairs as thermal and luma planes ``[H x W]`` uint8; raises as :func:`irvf.training.data.load_pairs`."""
    return [
        (thermal, np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)) for thermal, rgb in load_pairs(pairs)
    ]


@torch.no_grad()
def validate(network: BaseFusionNetwork, pairs: list[tuple[Image8, Image8]], config: BaseTrainingConfig) -> float:
    """Return the mean fusion loss over whole held-back images (NaN without any)."""
    device = next(network.parameters()).device
    network.eval()
    losses = []
    for thermal, luma in pairs:
        first, second = (torch.from_numpy(plane / np.float32(255))[None, None].to(device) for plane in (thermal, luma))
        losses.append(float(fusion_loss(network(first, second), first, second, config.brightness_weight).total))
    return sum(losses) / len(losses) if losses else math.nan


def train_base(
    data: Path, output: Path, config: BaseTrainingConfig, *, device: str = "cpu", initial: Path | None = None
) -> BaseFusionNetwork:
    """Train, resuming from ``output/checkpoint.safetensors`` when it is there.

    Args:
        data: folder of pairs as :func:`irvf.training.data.find_pairs` takes it.
        output: folder for the checkpoint and the log; made if missing.
        config: what to train.
        device: torch device, e.g. ``cpu`` or ``cuda``.
        initial: weights of a model folder to start from; None starts from nothing.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        ValueError: unusable data, or a checkpoint of another configuration.
        FloatingPointError: the loss became not finite; the last checkpoint is kept.
    """
    torch.manual_seed(config.seed)
    training, held = split_pairs(data, config.datasets, config.first_held, skip_unusable=config.skip_unusable)
    pairs, held_pairs = load_planes(training), load_planes(held)
    network = BaseFusionNetwork(config.channels, config.blocks, feature_fusion=config.feature_fusion).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
    if initial is not None:
        load_weights(network, initial)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)

    def loss_of(step: int) -> StepLoss:
        network.train(step < config.frozen_statistics * config.steps)
        thermal, luma, choices = sample_batch(pairs, config, step)
        thermal, luma = thermal.to(device), luma.to(device)
        loss = fusion_loss(network(thermal, luma), thermal, luma, config.brightness_weight).total
        return StepLoss(loss, tuple(training[choice].name for choice in choices))

    settings = training_settings(config, training, initial)
    loop = Loop("base", output, settings, config.steps, config.save_every, config.max_gradient_norm)
    loop.run({"network": network}, optimizer, partial(learning_rate, config), loss_of)
    tqdm.write(f"held-back fusion loss {validate(network, held_pairs, config):.4f} over {len(held_pairs)} pairs")
    network.eval()
    return network
