"""Train the person / bicycle / car detector on fused images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from irvf.image_fusion import ImageFusion
from irvf.networks.box_detector import BoxDetectorNetwork
from irvf.training.averaging import follow_average
from irvf.training.checkpoint import load_weights
from irvf.training.data import PairFiles, split_pairs
from irvf.training.detection_data import (
    LabelledImage,
    Window,
    adjust_tones,
    compose_mosaic,
    cut_window,
)
from irvf.training.detection_loss import Targets, detection_loss
from irvf.training.loop import Loop, StepLoss, training_settings
from irvf.training.processes import step_generator
from irvf.training.scenes import Annotation, read_labelled, read_pair


@dataclass(frozen=True)
class DetectorTrainingConfig:
    """All that decides the result of a detector training."""

    annotation: Annotation = field(default_factory=Annotation)
    dataset: str = "msrs"
    fusions: tuple[str, ...] = ("max", "average", "laplacian")  # blended at random, independent of the networks
    first_held: dict[str, str] = field(default_factory=dict)  # data set -> first held-back name
    steps: int = 5000
    batch: int = 8
    input_size: tuple[int, int] = (480, 640)  # height and width that the exported network runs at
    side: int = 320  # of the square training windows in pixels
    scales: tuple[float, float] = (0.6, 1.6)
    mosaic_share: float = 0.4  # of the windows, until the last fifth of the steps, which sees none
    learning_rate: float = 2e-3
    warm_up_steps: int = 300
    weight_decay: float = 0.05
    average_decay: float = 0.998  # of the exponential moving average of the weights
    max_gradient_norm: float = 10.0
    tone_changes: float = 1.0  # strength of the random gain, offset, saturation and noise, 0..1
    skip_unusable: bool = False  # pairs or labels that cannot be read, and images alone; else they are refused
    seed: int = 0
    save_every: int = 250


def load_scenes(
    pairs: Sequence[PairFiles], config: DetectorTrainingConfig, fusers: Sequence[ImageFusion]
) -> list[LabelledImage]:
    """Read pairs with their boxes and fuse each with every fuser.

    Raises:
        ValueError: as :func:`irvf.training.scenes.read_labelled`.
    """
    scenes = []
    labelled = read_labelled(pairs, config.annotation)
    for pair, (thermal, rgb, objects) in zip(tqdm(pairs, desc="fusing", unit="pair"), labelled, strict=True):
        variants = [fuse(thermal, rgb) for fuse in fusers]
        scenes.append(LabelledImage(variants, objects.boxes, objects.labels, objects.doubtful, pair.name))
    return scenes


def sample_windows(scenes: Sequence[LabelledImage], config: DetectorTrainingConfig, step: int) -> list[Window]:
    """Cut the batch of one step; the same seed and step give the same batch."""
    rng = step_generator(config.seed, step)
    mosaics = config.mosaic_share if step < 0.8 * config.steps else 0.0
    windows = []
    for _ in range(config.batch):
        if rng.uniform() < mosaics:
            window = compose_mosaic(scenes, config.side, config.scales, rng)
        else:
            scene = scenes[int(rng.integers(len(scenes)))]
            window = cut_window(scene, config.side, config.side, config.scales, rng)
        windows.append(dataclasses.replace(window, image=adjust_tones(window.image, rng, config.tone_changes)))
    return windows


def to_batch(windows: Sequence[Window], device: torch.device) -> tuple[Tensor, list[Targets]]:
    """Return images ``[B x 3 x side x side]`` in 0..1 and the objects of each."""
    images = torch.from_numpy(np.stack([window.image for window in windows])).to(device).permute(0, 3, 1, 2) / 255
    targets = [
        Targets(*(torch.from_numpy(array).to(device) for array in (window.boxes, window.labels, window.ignored)))
        for window in windows
    ]
    return images.contiguous(memory_format=torch.channels_last), targets


def learning_rate(config: DetectorTrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < config.warm_up_steps:
        return config.learning_rate * (step + 1) / config.warm_up_steps
    share = (step - config.warm_up_steps) / (config.steps - config.warm_up_steps)
    return config.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)


def train_detector(
    data: Path,
    output: Path,
    config: DetectorTrainingConfig,
    fusers: Sequence[ImageFusion],
    *,
    device: str = "cpu",
    initial: Path | None = None,
) -> BoxDetectorNetwork:
    """Train, resuming from ``output/checkpoint.safetensors`` when it is there.

    Args:
        data: folder that holds the data set's folder.
        output: folder for the checkpoint and the log; made if missing.
        config: what to train.
        fusers: the fusions of ``config.fusions``.
        device: torch device.
        initial: weights of a model folder to start from; None starts from nothing.

    Returns:
        The averaged network, in evaluation mode.

    Raises:
        ValueError: unusable data, or a checkpoint of another configuration.
        FloatingPointError: the loss became not finite; the last checkpoint is kept.
    """
    torch.manual_seed(config.seed)
    training, _ = split_pairs(
        data,
        (config.dataset,),
        config.first_held,
        skip_unusable=config.skip_unusable,
        use=partial(read_pair, annotation=config.annotation),
    )
    network, average = (BoxDetectorNetwork(len(config.annotation.labels)).to(device) for _ in range(2))
    for module in (network, average):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
    if initial is not None:
        load_weights(network, initial)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    scenes = load_scenes(training, config, fusers)

    def loss_of(step: int) -> StepLoss:
        windows = sample_windows(scenes, config, step)
        images, targets = to_batch(windows, torch.device(device))
        names = tuple(name for window in windows for name in window.names)
        return StepLoss(detection_loss(network(images), targets), names)

    settings = training_settings(config, training, initial)
    loop = Loop("detector", output, settings, config.steps, config.save_every, config.max_gradient_norm)
    follow = partial(follow_average, average, network, config.average_decay)
    loop.run({"network": network, "average": average}, optimizer, partial(learning_rate, config), loss_of, follow)
    average.eval()
    return average
