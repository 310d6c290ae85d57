"""Stage 2 of the IRVF paper: train task-oriented regulation through frozen task networks (section 3.3, Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from irvf.imaging.classical_fusion import FUSION_METHODS
from irvf.networks.base_fusion import BaseFusionNetwork
from irvf.networks.prompt_injection import INJECTIONS
from irvf.networks.task_regulation import RegulatedFusionNetwork, TaskOrientedRegulation
from irvf.training.checkpoint import load_weights
from irvf.training.instructed import (
    center_texts,
    freeze,
    load_training_scenes,
    make_loop,
    parameter_groups,
    run_steps,
)
from irvf.training.instruction_embeddings import Instructions
from irvf.training.loop import StepLoss
from irvf.training.pair_windows import PairBatch, WindowPhase, check_windows, cut_windows, fused_reference
from irvf.training.processes import step_generator
from irvf.training.scenes import Annotation
from irvf.training.task_losses import TermWeights, check_weights, task_loss
from irvf.training.task_networks import TaskNetworks

_CALIBRATION_STEPS = 24


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
    order: tuple[str, ...] = ("detection", "saliency", "detection", "segmentation", "detection", "viewing")
    reference: str = "laplacian"  # the fusion that the task networks were trained on
    weights: dict[str, TermWeights] = field(
        default_factory=lambda: {
            # The detector knows the images it was trained on by heart, so that its loss says little there. What stands
            # out is found more easily, also in images that nobody has seen.
            "detection": TermWeights(0.5, (6.0, 0.0), {"saliency": 1.0, "segmentation": 0.3}),
            "segmentation": TermWeights(1.0, (6.0, 0.5)),
            "saliency": TermWeights(1.0, (6.0, 0.0)),
            "viewing": TermWeights(0.3, (0.0, 0.0)),
        }
    )
    brightness_weight: float = 0.5  # lambda of Eq. 5
    windows: tuple[WindowPhase, ...] = (WindowPhase(0.75, (224, 224), 2), WindowPhase(1.0, (320, 416), 1))
    scales: tuple[float, float] = (0.8, 1.4)
    thermal_gamma: tuple[float, float] = (0.85, 1.2)  # range controls differ between cameras
    steps: int = 4400
    # At 1e-2, the paper's, the output saturated within 100 steps; at 1e-3 the images hardly moved in 900.
    learning_rate: float = 2e-3
    momentum: float = 0.95  # of Adam: the tasks take turns, and their gradients are noisy
    linear_factor: float = 0.1  # of the learning rate, for the wide linear layers of adapter and predictors
    warm_up_steps: int = 60
    average_decay: float = 0.995  # of the exponential moving average of the weights
    max_gradient_norm: float = 1.0
    skip_unusable: bool = False  # pairs or labels that cannot be read, and images alone; else they are refused
    seed: int = 0
    save_every: int = 200

    def __post_init__(self) -> None:
        """Refuse unknown tasks, injections and references.

        Raises:
            ValueError: see :func:`irvf.training.task_losses.check_weights`; windows that cannot be used; an
                unknown injection or reference.
        """
        if self.injection not in INJECTIONS:
            raise ValueError(f"no injection {self.injection!r}; allowed: {', '.join(INJECTIONS)}")
        if self.reference not in FUSION_METHODS:
            raise ValueError(f"reference is {self.reference!r}; allowed: {', '.join(FUSION_METHODS)}")
        check_windows(self.windows)
        check_weights(self.order, self.weights)


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
    training, labelled, everything = load_training_scenes(data, config)
    scenes = {True: labelled, False: everything}
    where = torch.device(device)
    average, regulation = (
        TaskOrientedRegulation(instructions.width, config.channels, config.blocks, config.injection).to(where)
        for _ in range(2)
    )
    network = RegulatedFusionNetwork(base.to(where), regulation).eval()
    frozen = (base, networks.detection, networks.segmentation, networks.saliency)
    freeze(frozen, where)
    regulation.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def sample(step: int, *, shared: bool = False) -> tuple[str, PairBatch, Tensor]:
        task = config.order[step % len(config.order)]
        batch = cut_windows(
            scenes[task != "viewing"],
            next((phase for phase in config.windows if step < phase.until * config.steps), config.windows[-1]),
            scales=config.scales,
            thermal_gamma=config.thermal_gamma,
            reference=fused_reference(FUSION_METHODS[config.reference]),
            rng=step_generator(config.seed, step, shared=shared),
            device=where,
        )
        rng = step_generator(config.seed + 1, step, shared=shared)
        return task, batch, torch.from_numpy(instructions.draw(task, len(batch.thermal), rng)).to(where)

    if initial is None:
        center_texts(regulation.adapter, instructions.centroids())
        _calibrate(network, [sample(step, shared=True)[1:] for step in range(_CALIBRATION_STEPS)])
    else:
        load_weights(regulation, initial, prefix="regulation.")
    average.load_state_dict(regulation.state_dict())
    optimizer = torch.optim.Adam(parameter_groups(regulation, config.linear_factor), betas=(config.momentum, 0.999))

    def loss_of(step: int) -> StepLoss:
        task, batch, embeddings = sample(step)
        fused = network(batch.thermal, batch.luma, embeddings)
        loss = task_loss(
            task,
            fused,
            batch,
            networks,
            config.weights[task],
            brightness_weight=config.brightness_weight,
            progress=step / config.steps,
        )
        return StepLoss(loss, batch.names, task)

    loop = make_loop(
        "regulation",
        output,
        config,
        pairs=training,
        initial=initial,
        frozen=frozen,
        texts=instructions.digest(),
    )
    run_steps(loop, config, {"regulation": regulation, "average": average}, optimizer, loss_of)
    return RegulatedFusionNetwork(base, average).eval()
