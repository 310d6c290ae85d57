"""Stage 2 of the IRVF paper: train task-oriented regulation through frozen task networks (section 3.3, Eq. 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from irvf.imaging.classical_fusion import FUSION_METHODS
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.prompt_injection import INJECTIONS
from irvf.networks.task_regulation import RegulatedFusionNetwork, TaskOrientedRegulation
from irvf.training.averaging import follow_average
from irvf.training.checkpoint import load_weights
from irvf.training.data import find_pairs, hold_back
from irvf.training.detection_loss import detection_loss
from irvf.training.instruction_embeddings import Instructions
from irvf.training.loop import Loop, StepLoss, training_settings, weights_digest
from irvf.training.losses import signed_gradients
from irvf.training.mask_losses import saliency_loss, segmentation_loss
from irvf.training.pair_windows import PairBatch, WindowPhase, cut_windows, merge_chroma
from irvf.training.processes import step_generator
from irvf.training.scenes import Annotation, load_scenes
from irvf.training.task_networks import TaskNetworks
from irvf.training.viewing_loss import viewing_loss

TASKS = ("detection", "segmentation", "saliency", "viewing")
_CALIBRATION_STEPS = 24
_EDGE_SHARE = 0.5
"""Of the edges in the distance to the reference."""


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms of one task's loss."""

    task: float
    # Of the distance to the reference, at the start and at the end. A task loss alone is too noisy a teacher for
    # batches of two windows.
    reference: tuple[float, float]


@dataclass(frozen=True)
class RegulationTrainingConfig:
    """All that decides the result of a stage-2 training."""

    annotation: Annotation = field(default_factory=Annotation)
    labelled: str = "msrs"  # data set of the task losses
    datasets: tuple[str, ...] = ()  # of the viewing loss, which needs no labels; empty takes all
    first_held: dict[str, str] = field(default_factory=dict)  # data set -> first held-back name
    channels: int = 8  # C of the base network
    blocks: int = 4  # M of the base network
    base: str = "irvf-base"  # model folder of stage 1
    detector: str = "detector"  # model folders of the task networks
    segmentation: str = "segmentation"
    saliency: str = "saliency"
    text_encoder: str = "sentence-encoder"  # model folder, or path of a folder that transformers loads
    feature_fusion: bool = True  # as in stage 1; without: ablation I
    injection: str = "dynamic"  # how text changes features; the others are ablations II, IV, V and VI
    # One task a step, in this order: in blocks, the last task would win. Detection gains most slowly.
    order: tuple[str, ...] = ("detection", "segmentation", "detection", "saliency", "viewing")
    reference: str = "laplacian"  # the fusion that the task networks were trained on
    weights: dict[str, TermWeights] = field(
        default_factory=lambda: {
            "detection": TermWeights(0.5, (6.0, 3.0)),
            "segmentation": TermWeights(1.0, (6.0, 2.0)),
            "saliency": TermWeights(1.0, (2.0, 0.0)),
            "viewing": TermWeights(0.3, (0.0, 0.0)),
        }
    )
    brightness_weight: float = 0.5  # lambda of Eq. 5
    windows: tuple[WindowPhase, ...] = (WindowPhase(0.75, (224, 224), 2), WindowPhase(1.0, (320, 416), 1))
    scales: tuple[float, float] = (0.8, 1.4)
    thermal_gamma: tuple[float, float] = (0.85, 1.2)  # range controls differ between cameras
    steps: int = 2600
    # At 1e-2, the paper's, the output saturated within 100 steps; at 1e-3 the images hardly moved in 900.
    learning_rate: float = 2e-3
    momentum: float = 0.95  # of Adam: the tasks take turns, and their gradients are noisy
    linear_factor: float = 0.1  # of the learning rate, for the wide linear layers of adapter and predictors
    warm_up_steps: int = 60
    average_decay: float = 0.995  # of the exponential moving average of the weights
    max_gradient_norm: float = 1.0
    seed: int = 0
    save_every: int = 200

    def __post_init__(self) -> None:
        """Refuse unknown tasks, injections and references.

        Raises:
            ValueError: a task that is none of :data:`TASKS` or has no weights, an empty order or no windows, an
                unknown injection or reference.
        """
        if self.injection not in INJECTIONS:
            raise ValueError(f"no injection {self.injection!r}; allowed: {', '.join(INJECTIONS)}")
        if self.reference not in FUSION_METHODS:
            raise ValueError(f"reference is {self.reference!r}; allowed: {', '.join(FUSION_METHODS)}")
        if not self.windows:
            raise ValueError("windows must have at least one phase")
        unknown = [task for task in (*self.order, *self.weights) if task not in TASKS]
        if unknown or not self.order:
            raise ValueError(f"order and weights name {', '.join(unknown) or 'nothing'}; known: {', '.join(TASKS)}")
        lacking = sorted(set(self.order) - set(self.weights))
        if lacking:
            raise ValueError(f"weights lack {', '.join(lacking)}: every task of the order needs its own")


def task_loss(
    task: str,
    fused: Tensor,
    batch: PairBatch,
    networks: TaskNetworks,
    config: RegulationTrainingConfig,
    *,
    progress: float,
) -> Tensor:
    """Return what a step of a task is trained on, a scalar: Eq. 9, and for viewing a loss of the image.

    Args:
        task: one of :data:`TASKS`.
        fused: luma ``[B x 1 x H x W]`` in 0..1.
        batch: that ``fused`` was made from.
        networks: frozen.
        config: weights.
        progress: share of the training that is done, 0..1.
    """
    weights = config.weights[task]
    rgb = merge_chroma(fused, batch.chroma)
    if task == "viewing":
        loss = viewing_loss(fused, batch.thermal, batch.luma, config.brightness_weight)
    elif task == "detection":
        loss = detection_loss(networks.detection(rgb), batch.targets)
    elif task == "segmentation":
        loss = segmentation_loss(networks.segmentation(rgb), batch.semantic)
    else:
        loss = saliency_loss(networks.saliency(rgb), batch.saliency)
    edges = signed_gradients(fused) - signed_gradients(batch.reference)
    distance = (fused - batch.reference).abs().mean() + _EDGE_SHARE * edges.abs().sum(1).mean()
    first, last = weights.reference
    return weights.task * loss + (first + (last - first) * progress) * distance


def _center_texts(regulation: TaskOrientedRegulation, centroids: Mapping[str, NDArray[np.float32]]) -> None:
    """Start the adapter from what the tasks differ in: without, most of every embedding is common to all tasks.

    Embeddings have unit length, where hidden states of a language model have entries around one.
    """
    first = regulation.adapter[0]
    with torch.no_grad():
        first.weight.mul_(math.sqrt(first.in_features))  # type: ignore[arg-type, operator]
        mean = torch.from_numpy(np.mean(list(centroids.values()), axis=0)).to(first.weight)  # type: ignore[arg-type]
        first.bias.copy_(-first.weight @ mean)  # type: ignore[operator]


@torch.no_grad()
def _calibrate(network: RegulatedFusionNetwork, batches: Sequence[tuple[PairBatch, Tensor]]) -> None:
    """Set the statistics of the regulation's normalisations to those of real features; they stay frozen after."""
    layers = [module for module in network.regulation.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over all batches
    network.regulation.train()
    for batch, embeddings in batches:
        network(batch.thermal, batch.luma, embeddings)
    network.regulation.eval()


def _parameter_groups(regulation: TaskOrientedRegulation, config: RegulationTrainingConfig) -> list[dict[str, Any]]:
    """Split the parameters into those of the wide linear layers and those of the convolutions."""
    linear: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in regulation.named_parameters():
        (linear if name.startswith("adapter.") or ".predictor." in name else others).append(parameter)
    return [{"params": linear, "factor": config.linear_factor}, {"params": others, "factor": 1.0}]


def learning_rate(config: RegulationTrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < config.warm_up_steps:
        return config.learning_rate * (step + 1) / config.warm_up_steps
    share = (step - config.warm_up_steps) / max(1, config.steps - config.warm_up_steps)
    return config.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)


def train_regulation(
    data: Path,
    output: Path,
    config: RegulationTrainingConfig,
    *,
    base: BaseFusionNetwork,
    networks: TaskNetworks,
    instructions: Instructions,
    device: str = "cpu",
    initial: Path | None = None,
) -> RegulatedFusionNetwork:
    """Train, resuming from ``output/checkpoint.safetensors`` when it is there.

    Args:
        data: folder of pairs as :func:`irvf.training.data.find_pairs` takes it.
        output: folder for the checkpoint and the log; made if missing.
        config: what to train.
        base: of stage 1; frozen here.
        networks: of the tasks; frozen here.
        instructions: embeddings of the wordings that are trained on.
        device: torch device.
        initial: weights of a regulated model folder to start from; None starts from the base network.

    Returns:
        The network with the averaged regulation, in evaluation mode.

    Raises:
        ValueError: unusable data, or a checkpoint of another configuration.
        FloatingPointError: the loss became not finite; the last checkpoint is kept.
    """
    torch.manual_seed(config.seed)
    training, _ = hold_back(find_pairs(data, config.datasets), config.first_held)
    labelled = [pair for pair in training if pair.dataset == config.labelled]
    if not labelled:
        raise ValueError(f"no pairs of {config.labelled} (labelled) are left for training under {data}")
    others = [pair for pair in training if pair.dataset != config.labelled]
    all_scenes = load_scenes([*labelled, *others], config.annotation, {config.labelled})
    scenes = {True: all_scenes[: len(labelled)], False: all_scenes}
    where = torch.device(device)
    average, regulation = (
        TaskOrientedRegulation(instructions.width, config.channels, config.blocks, config.injection).to(where)
        for _ in range(2)
    )
    network = RegulatedFusionNetwork(base.to(where), regulation).eval()
    frozen = (base, networks.detection, networks.segmentation, networks.saliency)
    for module in frozen:
        module.to(where).eval().requires_grad_(requires_grad=False)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
    regulation.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def sample(step: int, *, shared: bool = False) -> tuple[str, PairBatch, Tensor]:
        task = config.order[step % len(config.order)]
        batch = cut_windows(
            scenes[task != "viewing"],
            next((phase for phase in config.windows if step < phase.until * config.steps), config.windows[-1]),
            scales=config.scales,
            thermal_gamma=config.thermal_gamma,
            reference=FUSION_METHODS[config.reference],
            rng=step_generator(config.seed, step, shared=shared),
            device=where,
        )
        rng = step_generator(config.seed + 1, step, shared=shared)
        return task, batch, torch.from_numpy(instructions.draw(task, len(batch.thermal), rng)).to(where)

    if initial is None:
        _center_texts(regulation, instructions.centroids())
        _calibrate(network, [sample(step, shared=True)[1:] for step in range(_CALIBRATION_STEPS)])
    else:
        load_weights(regulation, initial, prefix="regulation.")
    average.load_state_dict(regulation.state_dict())
    optimizer = torch.optim.Adam(_parameter_groups(regulation, config), betas=(config.momentum, 0.999))

    def loss_of(step: int) -> StepLoss:
        task, batch, embeddings = sample(step)
        fused = network(batch.thermal, batch.luma, embeddings)
        return StepLoss(
            task_loss(task, fused, batch, networks, config, progress=step / config.steps), batch.names, task
        )

    settings = {
        **training_settings(config, training, initial),
        "frozen": weights_digest(frozen),
        "texts": instructions.digest(),
    }
    loop = Loop("regulation", output, settings, config.steps, config.save_every, config.max_gradient_norm)
    follow = partial(follow_average, average, regulation, config.average_decay)
    modules = {"regulation": regulation, "average": average}
    loop.run(modules, optimizer, partial(learning_rate, config), loss_of, follow)
    return RegulatedFusionNetwork(base, average).eval()
