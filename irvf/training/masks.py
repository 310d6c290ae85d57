"""Train the task networks that answer with masks, segmentation and saliency, on one independent fusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from irvf.frames import Image8
from irvf.image_fusion import ImageFusion
from irvf.networks.salient_object import SaliencyNetwork
from irvf.networks.segmentation_unet import SegmentationNetwork
from irvf.training.averaging import follow_average
from irvf.training.checkpoint import load_encoder
from irvf.training.data import split_pairs
from irvf.training.detection_data import adjust_tones
from irvf.training.loop import Loop, StepLoss, training_settings
from irvf.training.mask_losses import saliency_loss, segmentation_loss
from irvf.training.processes import step_generator
from irvf.training.pseudo_labels import IGNORED
from irvf.training.scenes import Annotation, Scene, load_scenes, read_pair
from irvf.training.windows import place_window

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class MaskTrainingConfig:
    """All that decides the result of a segmentation or saliency training."""

    annotation: Annotation = field(default_factory=Annotation)
    dataset: str = "msrs"
    fusion: str = "laplacian"  # what the images are fused by: independent of the network that is regulated later
    first_held: dict[str, str] = field(default_factory=dict)  # data set -> first held-back name
    network: str = "unet"  # of segmentation: unet, or segformer (of transformers)
    steps: int = 2000
    batch: int = 6
    input_size: tuple[int, int] = (480, 640)  # height and width that the exported network runs at
    side: int = 256  # of the square training windows in pixels
    scales: tuple[float, float] = (0.7, 1.6)
    tone_changes: float = 0.15  # strength of the random gain, offset, saturation and noise, 0..1
    learning_rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.02
    average_decay: float = 0.995  # of the exponential moving average of the weights
    max_gradient_norm: float = 5.0
    skip_unusable: bool = False  # pairs or labels that cannot be read, and images alone; else they are refused
    seed: int = 0
    save_every: int = 250


@dataclass(frozen=True, eq=False)
class FusedScene:
    """A fused image with the pseudo-label that is learned on it."""

    image: Image8
    mask: Image8
    scene: Scene


def sample_batch(
    scenes: Sequence[FusedScene], config: MaskTrainingConfig, step: int, device: torch.device
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Cut the batch of one step; the same seed and step give the same batch.

    Returns:
        Images ``[B x 3 x side x side]`` in 0..1, labels ``[B x side x side]`` int64, and the names of the pairs.
    """
    rng = step_generator(config.seed, step)
    images, masks, names = [], [], []
    for choice in rng.integers(len(scenes), size=config.batch):
        fused = scenes[choice]
        objects = fused.scene.objects
        size = (fused.image.shape[0], fused.image.shape[1])
        placement = place_window(
            size, objects.boxes, objects.labels, window_size=(config.side, config.side), scales=config.scales, rng=rng
        )
        images.append(adjust_tones(placement.cut(fused.image), rng, config.tone_changes))
        masks.append(placement.cut(fused.mask, border=IGNORED, mask=True))
        names.append(fused.scene.name)
    planes = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2) / 255
    truth = torch.from_numpy(np.stack(masks)).to(device).long()
    return planes.contiguous(memory_format=torch.channels_last), truth, tuple(names)


def learning_rate(config: MaskTrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth."""
    if step < config.warm_up_steps:
        return config.learning_rate * (step + 1) / config.warm_up_steps
    share = (step - config.warm_up_steps) / max(1, config.steps - config.warm_up_steps)
    return config.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)


def build_segmentation(config: MaskTrainingConfig) -> nn.Module:
    """Make the untrained segmentation network that the configuration names.

    Raises:
        ValueError: an unknown network.
    """
    classes = len(config.annotation.labels) + 1
    if config.network == "unet":
        return SegmentationNetwork(classes)
    if config.network == "segformer":
        from irvf.networks.segformer import segformer  # noqa: PLC0415  (transformers takes seconds to import)

        return segformer(classes)
    raise ValueError(f"no segmentation network {config.network!r}; allowed: unet, segformer")


def train_segmentation(
    data: Path, output: Path, config: MaskTrainingConfig, fuse: ImageFusion, **options: Any
) -> nn.Module:
    """Train semantic segmentation on pseudo-labels; arguments, results and errors as :func:`train_saliency`."""
    return _train(
        "segmentation",
        partial(build_segmentation, config),
        segmentation_loss,
        lambda scene: scene.semantic,
        (data, output, config, fuse),
        **options,
    )


def train_saliency(
    data: Path, output: Path, config: MaskTrainingConfig, fuse: ImageFusion, **options: Any
) -> SaliencyNetwork:
    """Train saliency on pseudo-labels, resuming from ``output/checkpoint.safetensors`` when it is there.

    Args:
        data: folder that holds the data set's folder.
        output: folder for the checkpoint and the log; made if missing.
        config: what to train.
        fuse: the fusion ``config.fusion``.
        options: ``device`` (torch device, default cpu), ``initial`` (weights of another task network: its encoder, and
            of the same network all of it, is what the training starts from).

    Returns:
        The averaged network, in evaluation mode.

    Raises:
        ValueError: unusable data, or a checkpoint of another configuration.
        FloatingPointError: the loss became not finite; the last checkpoint is kept.
    """
    return _train(
        "saliency",
        SaliencyNetwork,
        saliency_loss,
        lambda scene: scene.saliency,
        (data, output, config, fuse),
        **options,
    )


def _train(
    name: str,
    build: Callable[[], Network],
    loss: Callable[[Any, Tensor], Tensor],
    mask_of: Callable[[Scene], Image8],
    what: tuple[Path, Path, MaskTrainingConfig, ImageFusion],
    *,
    device: str = "cpu",
    initial: Path | None = None,
) -> Network:
    data, output, config, fuse = what
    torch.manual_seed(config.seed)
    training, _ = split_pairs(
        data,
        (config.dataset,),
        config.first_held,
        skip_unusable=config.skip_unusable,
        use=partial(read_pair, annotation=config.annotation),
    )
    network, average = (build().to(device) for _ in range(2))
    for module in (network, average):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
    if initial is not None:
        load_encoder(network, initial)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    labelled = load_scenes(training, config.annotation)
    scenes = [
        FusedScene(fuse(scene.thermal, scene.rgb), mask_of(scene), scene)
        for scene in tqdm(labelled, desc="fusing", unit="pair")
    ]

    def loss_of(step: int) -> StepLoss:
        images, masks, names = sample_batch(scenes, config, step, torch.device(device))
        return StepLoss(loss(network(images), masks), names)

    settings = training_settings(config, training, initial)
    loop = Loop(name, output, settings, config.steps, config.save_every, config.max_gradient_norm)
    follow = partial(follow_average, average, network, config.average_decay)
    loop.run({"network": network, "average": average}, optimizer, partial(learning_rate, config), loss_of, follow)
    average.eval()
    return average
